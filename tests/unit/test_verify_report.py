"""A failure says what, what is there, what must be, and the mend; the table adds up."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest

from roles.verify import report
from roles.verify.report import Report, Row, Unproven, expect, expect_that


def test_what_is_as_expected_passes() -> None:
    expect("a", {"x": 1, "more": 2}, {"x": 1})
    expect("a", {1}, {1})
    expect_that(True, "a", 1, "one")


def test_mappings_are_compared_key_by_key() -> None:
    with pytest.raises(Unproven) as caught:
        expect("sshd", {"a": "yes", "b": "no"}, {"a": "no", "b": "no", "c": "1"})
    assert caught.value.rows == (
        Row("sshd a", "yes", "no", "make apply"),
        Row("sshd c", "nothing", "1", "make apply"),
    )


def test_a_condition_in_words() -> None:
    with pytest.raises(Unproven, match="days: 3; expected at least 14; renew"):
        expect_that(False, "days", 3, "at least 14", "renew")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([], "nothing"),
        (None, "nothing"),
        ("", "nothing"),
        (0, "0"),
        (False, "False"),
        ({"b", "a"}, "a, b"),
        (["b", "a"], "b, a"),
    ],
)
def test_values_are_shown_short(value: object, text: str) -> None:
    assert report.shown(value) == text


def test_a_long_value_is_cut() -> None:
    assert len(report.shown(["x" * 50] * 50)) == report.LONGEST + 3


def test_the_table_adds_up_and_failures_come_first() -> None:
    plugin = Report([SimpleNamespace(name="h", commands=3)], started=0.0)  # type: ignore[list-item]
    plugin.counts = {"ssh": Counter(passed=2, failed=1), "base": Counter(passed=3, untried=1)}
    plugin.failures = [("ssh: refuses passwords", [Row("logins", "password", "publickey", "mend")])]
    plugin.untried = [("base: x", "no route")]
    lines = plugin.lines()
    assert lines[1:7] == [
        "FAILED ssh: refuses passwords",
        "  logins",
        "    observed  password",
        "    expected  publickey",
        "    mend      mend",
        "not tried: base: x: no route",
    ]
    assert [line.split() for line in lines[8:11]] == [
        ["base", "3", "0", "1"],
        ["ssh", "2", "1", "0"],
        ["in", "all", "5", "1", "1"],
    ]
    assert lines[-1].startswith("h 3 remote commands, ")
