"""What an operator finds written on the host when nothing else is left."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from roles.scorecard.results import evidence
from roles.verify.report import expect_that
from roles.verify.target import Target

HEADING = re.compile(r"^#{1,3} +(.+)$", re.MULTILINE)
# A heading alone says nothing.
LEAST_LETTERS = 150
# The check, and the words of which a heading has one.
SUBJECTS = (
    ("SEC-29", "firewall"),
    ("PERF-11", "edge caching|cdn"),
    ("SCA-01", "load balancing"),
    ("SCA-02", "cluster"),
    ("SCA-03", "queue"),
    ("SCA-04", "automatic scaling|auto-scaling"),
    ("SCA-05", "storage that grows|object storage"),
    ("REC-07", "recovery objectives|rpo"),
    ("REC-09", "failover"),
    ("REC-17", "restore|one service back"),
    ("EXP-11", "recommendations"),
    ("EXP-12", "languages"),
    ("EXP-14", "offline"),
    ("EXP-21", "apps for phones|mobile apps"),
    ("API-03", "api documentation"),
    ("INT-02", "one broken disk|raid"),
    ("INT-05", "replication"),
    ("COM-05", "personal data|gdpr"),
    ("COM-06", "copyright|dmca"),
    ("COM-07", "children|coppa"),
    ("COM-08", "accessibility|wcag"),
    ("COM-09", "security standards|iso 27001"),
    ("OPS-06", "incident"),
    ("OPS-07", "changes|change management"),
    ("OPS-08", "capacity"),
    ("OPS-10", "second operator"),
    ("OPS-11", "routine"),
)
RUNBOOKS = ("backups", "certificates", "incidents", "operations")


def sections(target: Target) -> Iterator[tuple[str, str, str]]:
    """Path, heading and text below it, of every section."""
    for path, text in target.collected.raw["documents"].items():
        parts = HEADING.split(text)
        yield from ((path, *pair) for pair in zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize(
    "words", [pytest.param(s[1], id=s[0], marks=pytest.mark.check(s[0])) for s in SUBJECTS]
)
def test_it_is_written_down(target: Target, words: str) -> None:
    wanted = re.compile(rf"\b({words})", re.IGNORECASE)
    found = [(path, text) for path, head, text in sections(target) if wanted.search(head)]
    long_enough = [path for path, text in found if len(text.strip()) >= LEAST_LETTERS]
    evidence(", ".join(sorted(set(long_enough))))
    expected = f"a section of {LEAST_LETTERS} letters or more"
    expect_that(bool(long_enough), f"what is written on {words}", [p for p, _ in found], expected)


@pytest.mark.check("OPS-05")
def test_there_are_runbooks(target: Target) -> None:
    names = {
        path.rpartition("/")[2].removesuffix(".md") for path in target.collected.raw["documents"]
    }
    missing = [name for name in RUNBOOKS if name not in names]
    expect_that(not missing, "runbooks", sorted(names), ", ".join(RUNBOOKS))


@pytest.mark.check("OPS-12")
def test_documents_lead_nowhere_dead(target: Target) -> None:
    documents = target.collected.raw["documents"]
    expect_that(bool(documents), "documents on the host", "", "at least one")
    dead = [
        f"{path}: {link}"
        for path, text in documents.items()
        for link in re.findall(r"\]\(([\w.-]+\.md)\)", text)
        if f"{path.rpartition('/')[0]}/{link}" not in documents
    ]
    expect_that(not dead, "links to what is not there", dead, "none")
