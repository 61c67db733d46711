"""A scorecard: its waivers, its JSON, what must not stay open, and two beside each other."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.scorecard.card import CardError, Result, document, load, tool, waived
from roles.scorecard.comparison import KINDS, Comparison
from roles.scorecard.grades import Status
from roles.site.schema import Waiver
from tests.scorecards import STATUSES, TEXTS, card, full, result

TODAY = date(2026, 11, 25)
FAILED = result(9, status="failed")


def waiver(until: str = "2027-01-31", check: str = "SEC-09") -> Waiver:
    return Waiver(check=check, reason="the new disk comes in spring", until=until)


@pytest.mark.parametrize(
    ("status", "until", "state", "after"),
    [
        ("failed", "2027-01-31", "used", "waived"),
        ("not tried", "2027-01-31", "used", "waived"),
        ("failed", "2026-11-25", "used", "waived"),
        ("failed", "2026-11-24", "expired", "failed"),
        ("passed", "2027-01-31", "unneeded", "passed"),
        ("passed", "2026-11-24", "unneeded", "passed"),
    ],
)
def test_a_waiver(status: Status, until: str, state: str, after: Status) -> None:
    (found,) = waived([result(9, status=status)], [waiver(until)], TODAY)
    assert found.waiver is not None
    assert (found.waiver.state, found.status) == (state, after)


def test_a_waiver_is_for_its_check_alone_and_not_for_what_does_not_apply() -> None:
    results = [FAILED, result(10, status="failed"), result(11, status="not applicable")]
    found = waived(results, [waiver(), waiver(check="SEC-11")], TODAY)
    assert [each.status for each in found] == ["waived", "failed", "not applicable"]
    assert found[1:] == results[1:]


@given(st.sampled_from(STATUSES), st.sampled_from(["2026-11-24", "2027-01-31"]))
def test_a_waiver_never_makes_a_score_lower(status: Status, until: str) -> None:
    before = [result(9, status=status), result(10, status="failed")]
    after = card(waived(before, [waiver(until)], TODAY))
    assert (after.overall.score or 0) >= (card(before).overall.score or 0)


@pytest.mark.parametrize(
    ("changes", "blocks"),
    [
        ({}, True),
        ({"severity": "high", "status": "not tried"}, True),
        ({"severity": "medium"}, False),
        ({"role": ""}, False),
        ({"status": "waived"}, False),
        ({"status": "not applicable"}, False),
        ({"status": "passed"}, False),
    ],
)
def test_what_must_not_stay_open(changes: dict[str, str], blocks: bool) -> None:
    assert bool(card([result(9, **{"status": "failed", **changes})]).blocking()) is blocks


def test_an_expired_waiver_blocks_whatever_its_check_weighs() -> None:
    low = result(9, status="failed", severity="low", role="")
    assert not card([low]).blocking()
    assert card(waived([low], [waiver("2026-11-24")], TODAY)).blocking()


def test_what_is_to_mend_begins_with_the_critical() -> None:
    results = [
        result(n, severity=s, status="failed") for n, s in enumerate(("low", "critical"), 10)
    ]
    assert [each.severity for each in card(results).to_mend()] == ["critical", "low"]


@given(TEXTS)
def test_a_scorecard_comes_back_from_its_json(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.mktemp("card") / "scorecard.json"
    before = full(text)
    path.write_text(document(before), encoding="utf-8")
    assert load(path) == before


def test_the_json_says_its_form_and_grades_and_names_no_machine() -> None:
    content = json.loads(document(full()))
    assert content["schema"] == 1
    assert content["tool"] == {"name": tool().name, "version": "0.1.0"}
    assert content["grades"]["overall"]["letter"] == full().overall.letter
    assert set(content["grades"]["areas"]) == set(full().areas)
    assert str(Path.cwd()) not in document(full())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file or directory; make one with: make report"),
        ("", "is no JSON"),
        ("\xff", "is no scorecard"),
        ("[]", "is no scorecard of schema 1"),
        ('{"schema": 2}', "is no scorecard of schema 1"),
        ('{"schema": 1}', "tool has the wrong form"),
        (document(full()).replace('"passed"', '"fine"'), "checks.0.status has the wrong form"),
    ],
    ids=["absent", "empty", "other", "list", "newer", "cut", "changed"],
)
def test_a_file_that_is_no_scorecard_is_refused(
    tmp_path: Path, content: str | None, said: str
) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_text(json.dumps(content) if content == "\xff" else content)
    with pytest.raises(CardError) as refused:
        load(path)
    (line,) = str(refused.value).splitlines()
    assert said in line and line.startswith(str(path))


def steps(*pairs: tuple[Status | None, Status]) -> Comparison:
    before = [result(n, status=b) for n, (b, _) in enumerate(pairs, 10) if b]
    after = [result(n, status=a) for n, (_, a) in enumerate(pairs, 10)]
    return Comparison(card(before), card(after))


def test_each_step_has_one_kind() -> None:
    found = steps(
        ("passed", "failed"),
        ("failed", "not tried"),
        ("failed", "passed"),
        ("passed", "passed"),
        (None, "failed"),
        (None, "passed"),
        ("waived", "not applicable"),
    )
    assert [step.kind for step in found.steps] == [
        *("worse", "still open", "better", "unchanged", "still open", "better", "unchanged")
    ]
    assert tuple(found.groups) == KINDS
    assert sum(map(len, found.groups.values())) == len(found.steps)


def test_a_check_that_is_gone_is_said() -> None:
    gone: list[Result] = Comparison(card([FAILED]), card([])).gone
    assert [each.id for each in gone] == ["SEC-09"]
