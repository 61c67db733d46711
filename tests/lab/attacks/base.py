"""What an attack is: where it begins, what it proves, and whether it came through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.lab.attacks.place import Place
from tests.lab.command import LabError


class ControlError(LabError):
    """The attacker's own tool does not work there, so that its failure would prove nothing."""


@dataclass(frozen=True)
class Outcome:
    """Whether the attacker got what he wanted, and the line that shows it."""

    succeeded: bool
    evidence: str


@dataclass(frozen=True)
class Attack:
    """One attack. `items` are the numbers of the validation report that it answers.

    `attempt` raises LabError when it could not be tried: that is neither success nor failure.
    """

    name: str
    proves: str
    stands: str
    items: tuple[str, ...]
    attempt: Callable[[Place], Outcome]


def attack(stands: str, *items: str) -> Callable[[Callable[[Place], Outcome]], Attack]:
    """Make an attack of a function: its name and the first line of its docstring are the attack's.

    `stands` is where the attacker begins.
    """

    def made(attempt: Callable[[Place], Outcome]) -> Attack:
        proves = (attempt.__doc__ or "").strip().splitlines()[0]
        return Attack(attempt.__name__.replace("_", " "), proves, stands, items, attempt)

    return made


def control(works: bool, what: str) -> None:
    """Go on only when the tool of the attack has just been seen to work.

    Raises:
        ControlError: it does not.
    """
    if not works:
        raise ControlError(f"the attack was not tried: {what}")


def hidden(secret: str) -> str:
    """The beginning of a secret, enough to believe that it was read."""
    return f"{secret[:3]}..."
