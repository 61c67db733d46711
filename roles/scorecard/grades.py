"""From results to scores and letters, by a formula that is recomputed by hand.

docs/decisions/scorecard.md says why. A check weighs by its severity. A score is what is earned of
what is counted, in percent; a check that passed or is waived earns its weight, and one that does
not apply is not counted. One failed critical check holds the letter down.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

Status = Literal["passed", "waived", "failed", "not tried", "not applicable"]

WEIGHTS: Mapping[str, int] = {"critical": 8, "high": 4, "medium": 2, "low": 1}
LETTERS = ((90, "A"), (80, "B"), (70, "C"), (60, "D"), (0, "F"))
# The best letter beside a critical check that does not hold.
CAP = "D"
EARNING = frozenset({"passed", "waived"})


class Weighed(Protocol):
    """What is needed of a result here."""

    @property
    def severity(self) -> str: ...
    @property
    def status(self) -> Status: ...


@dataclass(frozen=True)
class Grade:
    """A score of 0 to 100, None where nothing counts; `earned` and `counted` are weights."""

    earned: int
    counted: int
    counts: Mapping[str, int]
    capped: bool

    @property
    def score(self) -> float | None:
        return 100 * self.earned / self.counted if self.counted else None

    @property
    def letter(self) -> str:
        """A to F, "-" where nothing counts."""
        if self.score is None:
            return "-"
        letter = next(letter for least, letter in LETTERS if self.score >= least)
        return max(letter, CAP) if self.capped else letter

    @property
    def percent(self) -> str:
        """The score as it is shown; cut, never rounded up over a limit."""
        return "-" if self.score is None else f"{self.earned * 1000 // self.counted / 10:.1f} %"

    @property
    def held(self) -> int:
        """How many checks passed."""
        return self.counts.get("passed", 0)

    @property
    def number(self) -> int:
        """How many checks count."""
        return sum(n for status, n in self.counts.items() if status != "not applicable")


def grade(results: Iterable[Weighed]) -> Grade:
    """The grade of some results."""
    results = list(results)
    counted = [each for each in results if each.status != "not applicable"]
    return Grade(
        earned=sum(WEIGHTS[each.severity] for each in counted if each.status in EARNING),
        counted=sum(WEIGHTS[each.severity] for each in counted),
        counts=Counter(each.status for each in results),
        capped=any(e.severity == "critical" and e.status not in EARNING for e in counted),
    )
