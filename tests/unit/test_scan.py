"""What the host is given to look at its images; switched off, nothing of it works or speaks."""

from __future__ import annotations

from roles import scan
from roles.core.model import Absent, Unit
from tests.host_programs import text_of
from tests.unit.conftest import context_from

MIRROR = "registry.lan:5000/trivy@sha256:" + "0" * 64


def program(**site: object) -> str:
    return text_of(scan.desired(context_from(**site)), scan.PROGRAM)


def test_the_scanner_is_pinned_and_may_come_from_a_mirror() -> None:
    assert 'SCANNER, DATABASE = "docker.io/aquasec/trivy:' in program()
    assert "@sha256:" in program().partition("SCANNER")[2].partition("\n")[0]
    assert f'"{MIRROR}", []' in program(images={"trivy": MIRROR})
    assert '["mirror.lan/trivy-db:2"]' in program(scan={"database": ["mirror.lan/trivy-db:2"]})


def test_switched_off_it_rests_and_its_figures_go() -> None:
    on, off = (scan.desired(context_from(scan={"enabled": each})) for each in (True, False))
    assert [(unit.enabled, unit.active) for unit in on.of(Unit)] == [(True, True)]
    assert [(unit.enabled, unit.active) for unit in off.of(Unit)] == [(False, False)]
    assert on.of(Absent) == ()
    assert off.of(Absent) == (Absent(scan.METRICS),)
