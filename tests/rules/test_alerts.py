"""Every alert fires on its own failure and on no other, by the word of Prometheus's own tool."""

from __future__ import annotations

from pathlib import Path

import pytest

from roles import prometheus
from roles.core import libyaml
from roles.core.model import File
from tests.rules.judges import judged
from tests.rules.scenarios import promtool_tests
from tests.unit.conftest import context_from

CONFIGURATION = "/opt/nexus/config/prometheus/"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prometheus's configuration as the deploy writes it, but for where its rules lie."""
    made = tmp_path_factory.mktemp("prometheus")
    for file in prometheus.desired(context_from()).of(File):
        if file.path.startswith(CONFIGURATION):
            place = made / file.path.removeprefix(CONFIGURATION)
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(file.content.replace(b"/etc/prometheus/", f"{made}/".encode()))
    return made


def test_each_failure_is_told_by_its_own_alert_and_health_by_none(folder: Path) -> None:
    (folder / "test.yml").write_text(libyaml.dump(promtool_tests("rules/*.yml")))
    judged(folder, "test", "rules", "test.yml")


def test_its_own_tool_takes_the_configuration(folder: Path) -> None:
    said = judged(folder, "check", "config", "prometheus.yml")
    assert "SUCCESS" in said and "FAILED" not in said
