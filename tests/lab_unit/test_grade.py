"""How `make grade` reads the graders' words: nothing unknown counts as good."""

from __future__ import annotations

import pytest

from tests.lab.command import LabError
from tests.lab.grade import Verdict, _of_ssh

CLEAN = {kind: [{"algorithm": f"a-{kind}", "notes": {"info": ["old"]}}] for kind in ("key", "mac")}
REPORT = {
    **CLEAN,
    "kex": [{"algorithm": "weak", "notes": {"fail": ["broken"], "warn": ["slow"]}}],
    "enc": [{"algorithm": "fine", "notes": {}}],
    "cves": [{"name": "CVE-0000-1"}],
    "additional_notes": ["beware"],
}


def test_failures_warnings_holes_and_notes_are_findings() -> None:
    found = list(_of_ssh(REPORT))
    assert found == ["kex weak: broken", "kex weak: slow", "{'name': 'CVE-0000-1'}", "beware"]


def test_a_report_about_nothing_is_no_good_report() -> None:
    with pytest.raises(LabError, match="no kex"):
        list(_of_ssh({**REPORT, "kex": []}))


def test_a_finding_is_never_good() -> None:
    assert Verdict("ssh-audit", "h", "").good
    assert not Verdict("ssh-audit", "h", "", ("kex other: x",)).good
