"""Two scorecards beside each other: what a deploy, or a year, has changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from roles.scorecard.card import AREAS, SEVERITIES, Result, Scorecard
from roles.scorecard.catalogue import Area
from roles.scorecard.grades import Grade, grade

KINDS = ("worse", "still open", "better", "unchanged")


@dataclass(frozen=True)
class Step:
    """One check, before and after; `before` is None for a check that is new."""

    before: Result | None
    after: Result

    @property
    def kind(self) -> str:
        """One of KINDS."""
        held = self.before is not None and self.before.holds
        if self.after.holds:
            return "unchanged" if held else "better"
        return "worse" if held else "still open"


@dataclass(frozen=True)
class Comparison:
    """A scorecard, and a later one."""

    before: Scorecard
    after: Scorecard

    @cached_property
    def steps(self) -> list[Step]:
        """Every check of the later one, the critical first."""
        known = {each.id: each for each in self.before.checks}
        steps = [Step(known.get(each.id), each) for each in self.after.checks]
        return sorted(steps, key=lambda step: SEVERITIES.index(step.after.severity))

    @property
    def groups(self) -> Mapping[str, list[Step]]:
        """The steps of each kind."""
        return {kind: [step for step in self.steps if step.kind == kind] for kind in KINDS}

    @property
    def gone(self) -> list[Result]:
        """Checks that the later one does not have any more."""
        present = {each.id for each in self.after.checks}
        return [each for each in self.before.checks if each.id not in present]

    @property
    def areas(self) -> Mapping[Area, tuple[Grade, Grade]]:
        """Each area's grade, before and after."""
        pairs = {area: (self.before.of(area), self.after.of(area)) for area in AREAS}
        return {a: (grade(b), grade(c)) for a, (b, c) in pairs.items() if b or c}
