"""From a test run to a table that an operator acts on: failures first, then every area."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from roles.scorecard.results import NotApplicable, evidence
from roles.verify.target import Target

APPLY = "make apply"
TARGETS = pytest.StashKey[Sequence[Target]]()
LONGEST = 300
# pytest's words for a test that has nothing to run on here.
NOT_APPLICABLE = "got empty parameter set"


@dataclass(frozen=True, slots=True)
class Row:
    """What one failure says."""

    field: str
    observed: str
    expected: str
    mend: str


class Unproven(AssertionError):  # noqa: N818 - an assertion, as pytest shows it
    """What is not as it must be."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = tuple(rows)
        lines = (f"{r.field}: {r.observed}; expected {r.expected}; {r.mend}" for r in rows)
        super().__init__("\n".join(lines))


def expect(field: str, observed: object, expected: object, mend: str = APPLY) -> None:
    """Hold what was observed against what must be.

    Two mappings are compared by the expected one's keys, each a row of its own.

    Raises:
        Unproven: they differ.
    """
    if isinstance(observed, Mapping) and isinstance(expected, Mapping):
        pairs = [(f"{field} {key}", observed.get(key), expected[key]) for key in expected]
    else:
        pairs = [(field, observed, expected)]
    for name, seen, _ in pairs:
        evidence(f"{name}: {shown(seen)}")
    rows = [Row(f, shown(seen), shown(wanted), mend) for f, seen, wanted in pairs if seen != wanted]
    if rows:
        raise Unproven(rows)


def expect_that(
    holds: bool, field: str, observed: object, expected: str, mend: str = APPLY
) -> None:
    """As `expect`, for what is no equality: `expected` says in words what must hold.

    Raises:
        Unproven: it does not hold.
    """
    evidence(f"{field}: {shown(observed)}")
    if not holds:
        raise Unproven([Row(field, shown(observed), expected, mend)])


def shown(value: object) -> str:
    """A value in a table: short, sorted where it has no order of its own."""
    if isinstance(value, set | frozenset):
        value = sorted(value)
    if isinstance(value, Collection) and not isinstance(value, str):
        items = value.items() if isinstance(value, Mapping) else value
        text = ", ".join(map(str, items)) or "nothing"
    else:
        text = "nothing" if value in ("", None) else str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


class Report:
    """The pytest plugin that hands the targets to the tests and prints the result."""

    def __init__(self, targets: Sequence[Target], started: float) -> None:
        self.targets = targets
        self.started = started
        self.counts: dict[str, Counter[str]] = {}
        self.failures: list[tuple[str, Sequence[Row]]] = []
        self.untried: list[tuple[str, str]] = []

    def pytest_configure(self, config: pytest.Config) -> None:
        config.stash[TARGETS] = self.targets

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out what does not apply here, such as the tests of a service that is not there."""
        items[:] = [item for item in items if not is_not_applicable(item)]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        name = item.name.removeprefix("test_").removesuffix("[]").replace("_", " ")
        counts = self.counts.setdefault(area(item.path), Counter())
        if call.excinfo and isinstance(call.excinfo.value, NotApplicable):
            return report
        if report.skipped:
            counts["untried"] += 1
            self.untried.append((f"{area(item.path)}: {name}", skip_reason(report)))
        elif report.failed:
            counts["failed"] += 1
            error = call.excinfo.value if call.excinfo else None
            rows = error.rows if isinstance(error, Unproven) else [Row(name, repr(error), "", "")]
            self.failures.append((f"{area(item.path)}: {name}", rows))
            # pytest's own text could show arguments, and a login has a password among them.
            report.longrepr = "\n".join(_failure(name, rows))
        elif report.when == "call":
            counts["passed"] += 1
        return report

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        for line in self.lines():
            terminalreporter.write_line(line)

    def lines(self) -> list[str]:
        """The report: failures, what could not be tried, and the table."""
        total: Counter[str] = sum(self.counts.values(), Counter())
        width = max(map(len, [*self.counts, "in all"]), default=0)
        commands = ", ".join(f"{t.name} {t.commands} remote commands" for t in self.targets)
        return [
            "",
            *(line for name, rows in sorted(self.failures) for line in _failure(name, rows)),
            *(f"not tried: {name}: {reason}" for name, reason in self.untried),
            f"{'area':{width}}  passed  failed  not tried",
            *(_line(name, counts, width) for name, counts in sorted(self.counts.items())),
            _line("in all", total, width),
            f"{commands}, {time.monotonic() - self.started:.1f} s",
        ]


def area(path: Path) -> str:
    """The area of a test file: test_ssh.py is about ssh."""
    return path.stem.removeprefix("test_").replace("_", " ")


def _line(name: str, counts: Counter[str], width: int) -> str:
    return f"{name:{width}}  {counts['passed']:6}  {counts['failed']:6}  {counts['untried']:9}"


def _failure(name: str, rows: Sequence[Row]) -> list[str]:
    lines = [f"FAILED {name}"]
    for row in rows:
        lines.append(f"  {row.field}")
        lines += [
            f"    {label:8}  {text}"
            for label, text in (
                ("observed", row.observed),
                ("expected", row.expected),
                ("mend", row.mend),
            )
            if text
        ]
    return lines


def skip_reason(report: pytest.TestReport) -> str:
    """Why a test was not tried, without pytest's own word before it."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return str(reason).removeprefix("Skipped: ")


def is_not_applicable(item: pytest.Item) -> bool:
    """Whether a test is about something that this site has none of."""
    reasons = (str(mark.kwargs.get("reason", "")) for mark in item.iter_markers("skip"))
    return any(reason.startswith(NOT_APPLICABLE) for reason in reasons)
