"""A scorecard on a terminal: the grade of each area, then what is to mend, the critical first."""

from __future__ import annotations

from collections.abc import Iterator

from roles.core.state import printable
from roles.scorecard.card import Result, Scorecard
from roles.scorecard.comparison import Comparison, Step
from roles.scorecard.grades import Grade

COLUMNS = ("passed", "waived", "failed", "not tried", "not applicable")
# Terminals print several screens of evidence badly; the page has all of it.
MOST_SHOWN = 3
GREEN, YELLOW, RED, BOLD, DIM = 32, 33, 31, 1, 2
BY_LETTER = {"A": GREEN, "B": GREEN, "C": YELLOW, "D": YELLOW, "F": RED}
BY_SEVERITY = {"critical": RED, "high": YELLOW}


class Paint:
    """Text in a colour (ECMA-48, SGR), or as it is where nothing shows colours."""

    def __init__(self, on: bool) -> None:
        self._on = on

    def __call__(self, text: str, code: int | None) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._on and code is not None else text


def lines(card: Scorecard, colour: bool) -> Iterator[str]:
    """The scorecard, line by line."""
    paint = Paint(colour)
    width = max(map(len, [*card.areas, "in all"]))
    yield ""
    yield f"{'area':{width}}  " + "  ".join(COLUMNS) + "     score"
    for area, each in card.areas.items():
        yield _row(area, each, width, paint)
    yield paint(_row("in all", card.overall, width, Paint(on=False)), BOLD)
    to_mend = card.to_mend()
    if to_mend:
        yield ""
    for result in to_mend:
        yield from _finding(result, paint)
    for result in card.unneeded():
        yield f"the waiver of {result.id} is not needed: it passes; remove it from the inventory"
    yield ""
    yield paint(summary(card), BOLD)
    yield f"{card.commands} remote commands, {card.seconds:.1f} s"


def summary(card: Scorecard) -> str:
    """The one line that counts."""
    overall = card.overall
    text = f"{printable(card.host)}: {overall.letter}, {overall.percent}"
    text += f", {overall.held} of {overall.number} checks pass"
    waived = overall.counts.get("waived", 0)
    text += f", {waived} waived" if waived else ""
    open_ones = sum(each.severity == "critical" for each in card.to_mend())
    return text + (f", {open_ones} critical open" if open_ones else "")


def compared(comparison: Comparison, colour: bool) -> Iterator[str]:
    """Two scorecards beside each other, line by line."""
    paint = Paint(colour)
    width = max(map(len, [*comparison.areas, "in all"]))
    yield ""
    yield f"{'area':{width}}     before            after"
    for area, (before, after) in comparison.areas.items():
        yield f"{area:{width}}  {_score(before, paint)}  ->  {_score(after, paint)}"
    overall = comparison.before.overall, comparison.after.overall
    yield f"{'in all':{width}}  {_score(overall[0], paint)}  ->  {_score(overall[1], paint)}"
    yield ""
    for kind, steps in comparison.groups.items():
        yield f"{kind}: {len(steps)}"
        if kind in {"worse", "still open"}:
            yield from (_step(step, paint) for step in steps)
    yield ""
    yield f"before  {summary(comparison.before)}"
    yield f"after   {summary(comparison.after)}"


def _row(name: str, each: Grade, width: int, paint: Paint) -> str:
    numbers = "  ".join(f"{each.counts.get(c, 0):{len(c)}}" for c in COLUMNS)
    return f"{name:{width}}  {numbers}  {_score(each, paint)}"


def _score(each: Grade, paint: Paint) -> str:
    text = f"{each.percent:>8} {each.letter}"
    return paint(text, BY_LETTER.get(each.letter))


def _finding(result: Result, paint: Paint) -> Iterator[str]:
    word = paint(result.severity.upper(), BY_SEVERITY.get(result.severity))
    yield f"{word} {result.id} {result.status}: {printable(result.title)}"
    for failure in result.failures[:MOST_SHOWN]:
        seen = f"{failure.field}: {failure.observed}"
        yield printable(f"    {seen}; expected {failure.expected}" if failure.expected else seen)
    if len(result.failures) > MOST_SHOWN:
        yield f"    and {len(result.failures) - MOST_SHOWN} more"
    if result.status == "not tried":
        yield from (printable(f"    not tried: {reason}") for reason in result.untried[:MOST_SHOWN])
    yield from (paint(printable(f"    {mend}"), DIM) for mend in result.mends)
    if result.waiver:
        yield printable(f"    its waiver ended on {result.waiver.until} ({result.waiver.reason})")


def _step(step: Step, paint: Paint) -> str:
    word = paint(step.after.severity, BY_SEVERITY.get(step.after.severity))
    mends = f"; {printable(step.after.mends[0])}" if step.after.mends else ""
    return f"    {step.after.id} {word}, {step.after.status}: {printable(step.after.title)}{mends}"
