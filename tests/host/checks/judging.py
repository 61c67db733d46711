"""What the checks share: containers are judged by what they are, whoever deployed them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from roles.scorecard.results import evidence
from roles.stack.service import Service
from roles.stack.stack import PROJECT
from roles.verify.collected import Container
from roles.verify.report import APPLY, Row, Unproven, expect
from roles.verify.target import Target
from tests.host.checks.programs import APPLICATIONS

# Whether a container offends; the service is its declaration where it is one of ours.
Offends = Callable[[Container, Service | None], Any]


def running(target: Target) -> tuple[Container, ...]:
    """The containers that run.

    Raises:
        Unproven: there is none to judge.
    """
    found = target.collected.running
    if not found:
        raise Unproven([Row("running containers", "nothing", "at least one", APPLY)])
    return found


def applications(target: Target) -> list[Container]:
    """The media applications among them.

    Raises:
        Unproven: there is none to judge.
    """
    found = [container for container in running(target) if container.program in APPLICATIONS]
    if not found:
        raise Unproven([Row("media applications", "nothing", "at least one", APPLY)])
    return found


def program(target: Target, *names: str) -> Container:
    """The running container of a program.

    Raises:
        Unproven: none runs.
    """
    found = target.collected.playing(*names)
    if not found:
        raise Unproven([Row(f"container of {' or '.join(names)}", "not running", "running", APPLY)])
    return found[0]


def declared(target: Target, container: Container) -> Service | None:
    """The declaration of a container of ours: it knows what is waived and why."""
    name = container.name.removeprefix(f"{PROJECT}-").removesuffix("-1")
    return target.services.get(name) if container.name == f"{PROJECT}-{name}-1" else None


def none_of(
    target: Target,
    words: str,
    offends: Offends,
    among: Iterable[Container] | None = None,
    mend: str = APPLY,
) -> None:
    """No container offends, and there is at least one to judge.

    Raises:
        Unproven: one does, or none runs.
    """
    judged = list(running(target) if among is None else among)
    found = []
    for container in judged:
        offence = offends(container, declared(target, container))
        if offence:
            found.append(container.name if offence is True else f"{container.name} {offence}")
    evidence(f"{len(judged)} containers looked at")
    expect(words, sorted(found), [], mend)
