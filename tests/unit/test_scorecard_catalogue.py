"""Every item of the validation report has a check, every check a test, every test a known check."""

from __future__ import annotations

import html
import importlib
from collections import Counter
from collections.abc import Iterable, Iterator

import pytest
from pydantic import ValidationError

from roles.scorecard import catalogue, page
from roles.scorecard.catalogue import Check
from tests.lab.paths import REPOSITORY
from tests.scorecards import card

HOST_TESTS = sorted((REPOSITORY / "tests" / "host").rglob("test_*.py"))
# What the report ticked or left open, its critical path, its blockers, its fake features.
ITEMS = {"box": 84, "action": 15, "blocker": 5, "fake": 5}
# The report made as many checks; fewer would be a step back.
LEAST = 127


def names_in(marks: Iterable[pytest.Mark | pytest.MarkDecorator]) -> Iterator[object]:
    """The checks of a test, those of its rows too."""
    for mark in marks:
        if mark.name == "check":
            yield from mark.args
        if mark.name == "parametrize":
            for row in mark.args[1]:
                yield from names_in(getattr(row, "marks", ()))


def marked() -> set[object]:
    """Every check that a test of tests/host belongs to."""
    found: set[object] = set()
    for path in HOST_TESTS:
        name = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
        module = importlib.import_module(name)
        tests = (each for key, each in vars(module).items() if key.startswith("test_"))
        for marks in (vars(module), *map(vars, tests)):
            listed = marks.get("pytestmark", [])
            found |= set(names_in(listed if isinstance(listed, list) else [listed]))
    return found


def test_the_report_is_there_as_a_whole() -> None:
    items = catalogue.validation().items
    assert Counter(item.id.partition(" ")[0] for item in items) == ITEMS
    assert len({item.id for item in items}) == len(items)
    assert sum(item.held for item in items) == 24
    sections = {item.id.split()[1].partition(".")[0] for item in items if item.id[:3] == "box"}
    areas = catalogue.validation().areas
    assert sections == {str(area.section) for area in areas.values()}


def test_every_letter_that_differs_from_the_reports_has_its_reason() -> None:
    areas = catalogue.validation().areas.items()
    differ = {name for name, area in areas if area.grade[0] != area.rebuilt}
    reasons = {name: area.why for name, area in areas if area.why}
    assert reasons.keys() == differ
    assert len(set(reasons.values())) == len(reasons)
    for name, why in reasons.items():
        assert len(why) > 80 and why.endswith(".") and ". " not in why, name
    shown = html.unescape(" ".join(page.scorecard(card([])).split()))
    assert [name for name, why in reasons.items() if why not in shown] == []


def test_every_check_has_a_name_of_its_own() -> None:
    count = Counter(check.id for check in catalogue.checks())
    assert [name for name, number in count.items() if number > 1] == []
    assert len(count) >= LEAST


def test_every_item_of_the_report_has_a_check() -> None:
    answered = {item for check in catalogue.checks() for item in check.answers}
    items = {item.id for item in catalogue.validation().items}
    assert sorted(items - answered) == []
    assert sorted(answered - items) == []


def test_every_check_has_a_test() -> None:
    assert sorted(catalogue.ids() - {str(name) for name in marked()}) == []


def test_every_mark_names_a_known_check() -> None:
    assert sorted(map(str, marked() - catalogue.ids())) == []


def test_every_role_is_one() -> None:
    roles = {path.stem for path in (REPOSITORY / "roles").glob("*.py")}
    packages = {path.parent.name for path in (REPOSITORY / "roles").glob("*/__init__.py")}
    named = {check.role for check in catalogue.checks()} - {""}
    assert sorted(named - roles - packages) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [("id", "sec1"), ("area", "safety"), ("severity", "urgent"), ("evidence", "rumour"), ("x", 1)],
)
def test_a_broken_entry_is_refused(field: str, value: object) -> None:
    right = {
        "id": "SEC-01",
        "area": "security",
        "title": "it holds",
        "severity": "high",
        "evidence": "behaviour",
    }
    Check.model_validate(right)
    with pytest.raises(ValidationError, match=field):
        Check.model_validate({**right, field: value})
