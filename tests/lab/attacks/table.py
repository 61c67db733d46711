"""The attacks on both hosts as a table for a person."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.lab.attacks.base import Attack, Outcome
from tests.lab.attacks.place import Place
from tests.lab.command import LabError

WORDS = {True: "succeeds", False: "fails"}


@dataclass(frozen=True)
class Row:
    """One attack before and after; an error's text where it could not be tried."""

    attack: Attack
    before: Outcome | str
    after: Outcome | str

    @property
    def flips(self) -> bool:
        """Whether it worked before and does not any more, both having been tried."""
        return (word(self.before), word(self.after)) == (WORDS[True], WORDS[False])

    def __str__(self) -> str:
        mark = " " if self.flips else "!"
        return (
            f"{mark} {self.attack.name}\n"
            f"    from {self.attack.stands} ({', '.join(self.attack.items)})\n"
            f"    before  {word(self.before):<9} {said(self.before)}\n"
            f"    after   {word(self.after):<9} {said(self.after)}"
        )


def rows(
    attacks: tuple[Attack, ...], before: Place, after: Place, show: Callable[[str], None]
) -> list[Row]:
    """Try each on both hosts, one after the other, showing each row as it is known."""
    made = []
    for attack in attacks:
        made.append(Row(attack, tried(attack, before), tried(attack, after)))
        show(str(made[-1]))
    return made


def tried(attack: Attack, place: Place) -> Outcome | str:
    """What came of it, or why it could not be tried."""
    try:
        return attack.attempt(place)
    except LabError as error:
        return str(error)


def word(outcome: Outcome | str) -> str:
    return WORDS[outcome.succeeded] if isinstance(outcome, Outcome) else "ERROR"


def said(outcome: Outcome | str) -> str:
    text = outcome.evidence if isinstance(outcome, Outcome) else outcome
    return " ".join(text.split())
