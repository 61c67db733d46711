"""The formula: what a hand computes, its bounds, and that one more pass never lowers a score."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.scorecard.grades import CAP, LETTERS, WEIGHTS, Grade, Status, grade


@dataclass(frozen=True)
class Result:
    severity: str
    status: Status


RESULTS = st.lists(
    st.builds(Result, st.sampled_from(list(WEIGHTS)), st.sampled_from(get_args(Status))),
    max_size=30,
)
FROM_BEST = "".join(letter for _, letter in LETTERS)


def test_a_score_as_a_hand_computes_it() -> None:
    found = grade(
        [
            Result("critical", "passed"),
            Result("high", "waived"),
            Result("high", "failed"),
            Result("medium", "not tried"),
            Result("low", "not applicable"),
        ]
    )
    assert (found.earned, found.counted) == (8 + 4, 8 + 4 + 4 + 2)
    assert found.percent == "66.6 %" and found.letter == "D" and not found.capped
    assert (found.held, found.number) == (1, 4)


@pytest.mark.parametrize(
    ("earned", "letter"),
    [(100, "A"), (90, "A"), (89, "B"), (80, "B"), (79, "C"), (70, "C"), (69, "D"), (59, "F")],
)
def test_letters_begin_where_they_say(earned: int, letter: str) -> None:
    assert Grade(earned, 100, {}, capped=False).letter == letter


def test_a_score_is_never_rounded_up_over_a_limit() -> None:
    almost = Grade(8999, 10000, {}, capped=False)
    assert almost.letter == "B" and almost.percent == "89.9 %"


@pytest.mark.parametrize("status", ["failed", "not tried"])
def test_one_open_critical_holds_the_letter_down(status: Status) -> None:
    results = [Result("high", "passed")] * 100
    assert grade([*results, Result("critical", status)]).letter == CAP
    assert grade([*results, Result("critical", "waived")]).letter == "A"
    assert grade([Result("critical", status)]).letter == "F"


def test_nothing_counted_is_no_grade() -> None:
    for results in ([], [Result("critical", "not applicable")]):
        found = grade(results)
        assert (found.score, found.letter, found.percent) == (None, "-", "-")


@given(RESULTS)
def test_a_score_has_bounds(results: list[Result]) -> None:
    found = grade(results)
    assert 0 <= found.earned <= found.counted
    assert found.score is None or 0 <= found.score <= 100
    assert found.letter in f"-{FROM_BEST}"
    assert sum(found.counts.values()) == len(results)


@given(RESULTS.filter(bool), st.data())
def test_one_more_pass_never_lowers_a_score(results: list[Result], data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(results) - 1))
    better = [*results]
    better[number] = replace(better[number], status="passed")
    before, after = grade(results), grade(better)
    assert (after.score or 0) >= (before.score or 0)
    if before.letter != "-":
        assert FROM_BEST.index(after.letter) <= FROM_BEST.index(before.letter)
    assert after.held >= before.held
