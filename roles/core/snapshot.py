"""The one fact: everything managed on a host, read in one remote command."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Sequence
from typing import Any

from pyinfra.api.command import StringCommand
from pyinfra.api.exceptions import FactProcessError
from pyinfra.api.facts import FactBase

from roles.core import transport
from roles.core.model import (
    Absent,
    AbsentPackage,
    Chain,
    Desired,
    Directory,
    File,
    Group,
    Link,
    Network,
    Observed,
    Package,
    Resource,
    Retired,
    Settings,
    Stack,
    Sysctl,
    Unit,
    User,
)


class Answer(FactBase[dict[str, Any]]):
    """What the agent answers to the request that travels on stdin."""

    def command(self) -> StringCommand:
        return StringCommand(transport.COMMAND)

    def process(self, output: list[str]) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = json.loads(output[-1])
        except ValueError:
            # pyinfra would print the cause instead of this.
            raise FactProcessError("the host printed something after the answer") from None
        return answer


def question(desired: Sequence[Desired]) -> dict[str, Any]:
    """The request that reads all that these roles manage. Its nonce keys the digests."""
    resources = [resource for role in desired for resource in role.resources]
    return {
        "do": "observe",
        "nonce": secrets.token_hex(32),
        "paths": [r.path for r in _of(resources, File, Settings, Directory, Link, Absent)],
        "settings": {
            r.path: {"form": r.form, "keys": [key for key, _ in r.entries]}
            for r in _of(resources, Settings)
        },
        "purge": [r.path for r in _of(resources, Directory) if r.purge],
        "packages": [r.name for r in _of(resources, Package, AbsentPackage)],
        "groups": [r.name for r in _of(resources, Group)],
        "users": [r.name for r in _of(resources, User)],
        "sysctls": [r.key for r in _of(resources, Sysctl)],
        "units": [r.name for r in _of(resources, Unit)],
        "chains": [f"{r.family}:{r.name}" for r in _of(resources, Chain)],
        "networks": [r.name for r in _of(resources, Network)],
        "stacks": [{"project": r.project, "file": r.file} for r in _of(resources, Stack)],
        "retired": sorted({r.name for r in _of(resources, Retired)}),
    }


def observed(answer: dict[str, Any]) -> Observed:
    """The agent's answer as the pure side reads it."""
    return Observed(
        paths=answer["paths"],
        entries={path: tuple(names) for path, names in answer["entries"].items()},
        settings=answer["settings"],
        packages=frozenset(answer["packages"]),
        groups=answer["groups"],
        users=answer["users"],
        sysctls=answer["sysctls"],
        units=answer["units"],
        chains={name: tuple(rules) for name, rules in answer["chains"].items()},
        networks=answer["networks"],
        stacks=answer["stacks"],
        retired=answer["retired"],
        pending=frozenset(answer["pending"]),
        unconfirmed=frozenset(answer["unconfirmed"]),
        nonce=answer["nonce"],
    )


def _of(resources: Iterable[Resource], *kinds: type) -> list[Any]:
    return [resource for resource in resources if isinstance(resource, kinds)]
