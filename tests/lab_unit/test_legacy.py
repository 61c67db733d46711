"""The old NEXUS of the lab, as far as no host is needed."""

from __future__ import annotations

from typing import Any

import pytest

from roles.core import libyaml
from tests.lab.images.doubles import legacy_collector
from tests.lab.legacy import state
from tests.lab.legacy.recipes import recipes

COMPOSE = libyaml.load((state.FILES / "docker-compose.yml").read_text())
COLLECTOR = state.FILES / "config/otel/config.yaml"


def test_every_image_has_a_recipe_and_no_other_has() -> None:
    assert {service["image"] for service in COMPOSE["services"].values()} == set(recipes())


def test_the_collector_refuses_the_exporters_that_upstream_has_removed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert legacy_collector.main([f"--config={COLLECTOR}"]) == 1
    said = capsys.readouterr()
    assert 'unknown type: "logging"' in said.err and 'unknown type: "jaeger"' in said.err


def test_the_collector_takes_a_mended_configuration() -> None:
    found: dict[str, Any] = libyaml.load(COLLECTOR.read_text())
    found["exporters"] = {"debug": None, "prometheus": found["exporters"]["prometheus"]}
    found["service"]["pipelines"]["traces"]["exporters"] = ["debug"]
    assert list(legacy_collector.problems(found)) == []
    found["service"]["pipelines"]["traces"]["exporters"] = ["otlp"]
    assert 'exporter "otlp" which is not configured' in next(legacy_collector.problems(found))


@pytest.mark.parametrize(
    ("value", "expected"),
    [(7, b"i7e"), ("ab", b"2:ab"), ({"b": 1, "a": b"x"}, b"d1:a1:x1:bi1ee")],
)
def test_bencoding(value: object, expected: bytes) -> None:
    assert state.bencoded(value) == expected
