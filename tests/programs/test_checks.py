"""Every check on hosts that were never there: a hardened one, the report's, and one without Docker.

What only a host can answer is left to the lab, and named here.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from roles.scorecard import catalogue
from roles.scorecard.grades import Status
from roles.scorecard.plugin import Plugin
from roles.verify.suite import CHECKS, OPTIONS, TESTS
from roles.verify.target import Target
from tests.programs import estate

# They ask a host while they run.
ACTIVE = {
    *("SEC-32", "SEC-33", "SEC-38", "SEC-39", "SEC-40", "SEC-42", "SEC-43", "SEC-44", "SEC-45"),
    *("SEC-46", "SEC-47", "SEC-54", "SEC-55", "SEC-56", "PERF-12", "PERF-15", "SCA-07"),
    *("EXP-01", "EXP-03", "EXP-13", "EXP-15", "EXP-19", "EXP-22", "API-09", "COM-11"),
    *("SEC-41", "SEC-51"),
}
# Beside the data they want a whole host: sshd's settings, modes of every secret, digests.
WHOLE = {"SEC-31", "SEC-20", "OPS-17", "API-11"}
# What these hosts lack, a crafted collection does not tell: the agent reads it.
MODEL = {"REC-11"}
NOT_HERE = {"PERF-05", "COM-10", "OPS-20"}
# The operator's to choose, and to wait for.
OPERATORS = {"REC-05"}
# What was true of the old system as well, each as the report ticked it or said nothing of it.
HELD_THEN = {
    *("SEC-01", "SEC-02", "SEC-06", "SEC-09", "SEC-12", "SEC-48"),
    *("PERF-13", "SCA-09", "OPS-09", "REC-01", "REC-02", "REC-03"),
    *("MON-01", "MON-02", "MON-03", "MON-04", "MON-06", "MON-07", "MON-16", "MON-17"),
    *("EXP-04", "EXP-05", "EXP-09", "EXP-10", "EXP-18", "API-10"),
    *("OPS-01", "OPS-02", "OPS-04", "OPS-19"),
}


def statuses(target: Target, monkeypatch: pytest.MonkeyPatch) -> dict[str, Status]:
    """What each check comes to, with no host behind it to ask."""
    monkeypatch.setattr("roles.verify.probe.SECONDS", 0.01)
    monkeypatch.setattr("roles.verify.probe.socket.create_connection", _nobody)
    plugin = Plugin([target])
    pytest.main([*OPTIONS, "-m", "check", "-p", "no:xdist", str(TESTS)], plugins=[plugin])
    return {result.id: result.status for result in plugin.results(target.name)}


def _nobody(*_: object, **__: object) -> None:
    raise ConnectionRefusedError("no host is behind this test")


def passed(found: dict[str, Status]) -> set[str]:
    return {name for name, status in found.items() if status == "passed"}


def test_a_hardened_host_passes_what_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    found = statuses(estate.hardened(), monkeypatch)
    wanted = catalogue.ids() - ACTIVE - WHOLE - NOT_HERE - OPERATORS
    assert wanted - passed(found) == set()
    assert {found[name] for name in NOT_HERE} == {"not applicable"}
    assert {found[name] for name in OPERATORS} == {"failed"}


def test_the_old_host_passes_what_was_true_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = statuses(estate.legacy(), monkeypatch)
    assert passed(found) - ACTIVE - MODEL == HELD_THEN


def test_without_docker_nothing_of_containers_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = statuses(estate.bare(), monkeypatch)
    # What asks a host while it runs finds nobody here.
    assert {name for name in ACTIVE if found[name] != "failed"} == set()
    assert set(found.values()) <= {"passed", "failed", "not applicable"}
    assert passed(found) - MODEL == {"MON-16", "MON-17"}


def test_every_check_has_a_test_and_every_test_a_check() -> None:
    texts = "".join(path.read_text() for path in sorted(TESTS.rglob("*.py")))
    assert set(re.findall(r'"([A-Z]{3,4}-\d\d)"', texts)) == catalogue.ids()
    assert len(catalogue.ids()) == len(catalogue.checks()) >= 127


def test_every_item_of_the_report_has_a_check() -> None:
    answered = {item for check in catalogue.checks() for item in check.answers}
    assert answered == {item.id for item in catalogue.validation().items}


def test_every_role_named_is_a_role_of_the_deploy() -> None:
    deploy = Path("deploy.py").read_text()
    deployed = set(re.findall(r"^(\w+)\.deploy\(plan\)$", deploy, re.MULTILINE))
    named = {check.role for check in catalogue.checks() if check.role}
    # The operator's own applications are judged like every other.
    assert named == deployed - {"applications"}


def test_the_checks_of_any_host_are_apart() -> None:
    assert CHECKS.is_dir() and CHECKS.parent == TESTS
