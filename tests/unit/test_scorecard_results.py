"""What a test saw is kept for its report, and for no other."""

from __future__ import annotations

import pytest

from roles.scorecard.results import NotApplicable, evidence, not_applicable, recording
from roles.verify.report import Unproven, expect, expect_that


def test_what_was_seen_is_kept_for_passes_and_failures() -> None:
    with recording() as seen:
        expect("port", 22, 22)
        expect_that(True, "days", 30, "at least 14")
        with pytest.raises(Unproven):
            expect("sshd", {"a": "yes"}, {"a": "no"})
        evidence("by hand")
        evidence("by hand")
    assert seen == ["port: 22", "days: 30", "sshd a: yes", "by hand"]


def test_recordings_are_apart_and_nothing_is_kept_outside() -> None:
    evidence("before")
    with recording() as first:
        evidence("one")
    with recording() as second:
        evidence("two")
    assert (first, second) == (["one"], ["two"])


def test_what_does_not_apply_is_a_skip_of_its_own() -> None:
    with pytest.raises(NotApplicable, match="no VPN"):
        not_applicable("no VPN")
    assert issubclass(NotApplicable, pytest.skip.Exception)
