"""The pytest plugin that turns a run of tests/host into results, one list for each host."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import pytest

from roles.scorecard import catalogue
from roles.scorecard.card import Failure, Result
from roles.scorecard.catalogue import Check
from roles.scorecard.grades import Status
from roles.scorecard.results import NotApplicable, recording
from roles.verify.report import TARGETS, Unproven, is_not_applicable, skip_reason
from roles.verify.target import Target

MARK = "check"
SEEN = pytest.StashKey[list[str]]()
NOTHING_HERE = "nothing of this kind here"


@dataclass(frozen=True)
class Outcome:
    """What one phase of one test came to."""

    kind: Literal["passed", "failed", "skipped", "not applicable"]
    seen: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    reason: str = ""


class Plugin:
    """Hands the targets to the tests and keeps what comes of each check."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self.targets = targets
        self._outcomes: dict[tuple[str, str], list[Outcome]] = defaultdict(list)

    def results(self, host: str) -> list[Result]:
        """Every check of the catalogue as it came out on one host."""
        return [result_of(check, self._outcomes[host, check.id]) for check in catalogue.checks()]

    def pytest_configure(self, config: pytest.Config) -> None:
        config.stash[TARGETS] = self.targets

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Only tests of a check run. One that has nothing to run on here does not apply."""
        for item in items:
            if unknown := ids_of(item) - catalogue.ids():
                raise pytest.UsageError(f"{item.name}: unknown check {', '.join(sorted(unknown))}")
            if is_not_applicable(item):
                self._keep(item, Outcome("not applicable", reason=NOTHING_HERE))
        items[:] = [item for item in items if ids_of(item) and not is_not_applicable(item)]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        with recording() as seen:
            item.stash[SEEN] = seen
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.failed or report.skipped or report.when == "call":
            self._keep(item, outcome_of(item, report, call))
        if report.failed:
            # pytest's own text could show arguments, and a login has a password among them.
            report.longrepr = f"{item.name} failed"
        return report

    def _keep(self, item: pytest.Item, outcome: Outcome) -> None:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        target = parameters.get("target")
        hosts = [target.name] if isinstance(target, Target) else [t.name for t in self.targets]
        for host in hosts:
            for check in ids_of(item):
                self._outcomes[host, check].append(outcome)


def ids_of(item: pytest.Item) -> set[str]:
    """The checks that a test belongs to."""
    return {str(name) for mark in item.iter_markers(MARK) for name in mark.args}


def outcome_of(
    item: pytest.Item, report: pytest.TestReport, call: pytest.CallInfo[None]
) -> Outcome:
    """What one phase of a test says, with what was seen by then."""
    error = call.excinfo.value if call.excinfo else None
    seen = tuple(_placed(item, text) for text in item.stash.get(SEEN, []))
    if isinstance(error, NotApplicable):
        return Outcome("not applicable", reason=str(error))
    if report.skipped:
        return Outcome("skipped", reason=skip_reason(report))
    if report.failed:
        return Outcome("failed", seen, tuple(_failures(item, error)))
    return Outcome("passed", seen)


def result_of(check: Check, outcomes: Sequence[Outcome]) -> Result:
    """A check's result from what its tests came to.

    One failure is a failure; a pass needs a test that ran; a skip never is one.
    """
    kinds = {outcome.kind for outcome in outcomes}
    status: Status = "not tried"
    if "failed" in kinds:
        status = "failed"
    elif "passed" in kinds:
        status = "passed"
    elif kinds == {"not applicable"}:
        status = "not applicable"
    reasons = [o.reason for o in outcomes if o.reason] or ([] if outcomes else ["no test ran"])
    return Result(
        **check.model_dump(),
        status=status,
        seen=tuple(dict.fromkeys(text for outcome in outcomes for text in outcome.seen)),
        failures=tuple(failure for outcome in outcomes for failure in outcome.failures),
        untried=tuple(dict.fromkeys(reasons)),
    )


def _failures(item: pytest.Item, error: BaseException | None) -> Iterator[Failure]:
    if not isinstance(error, Unproven):
        wanted = "an answer" if isinstance(error, OSError) else "no error"
        name = item.name.partition("[")[0].removeprefix("test_").replace("_", " ")
        yield Failure(field=_placed(item, name), observed=repr(error), expected=wanted, mend="")
        return
    for row in error.rows:
        field = _placed(item, row.field)
        yield Failure(field=field, observed=row.observed, expected=row.expected, mend=row.mend)


def _placed(item: pytest.Item, text: str) -> str:
    """What was seen, with the service or address that its test ran for."""
    place = _place(item)
    return text if not place or place in text else f"{place}: {text}"


def _place(item: pytest.Item) -> str:
    """The parameters in a test's name but for its check, which says nothing more."""
    words = item.name.partition("[")[2].removesuffix("]")
    for check in ids_of(item):
        words = words.replace(check, "")
    return words.strip("-")
