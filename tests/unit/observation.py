"""What the agent would answer on a host that is exactly as the roles want it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from roles.core.model import (
    Absent,
    Chain,
    Container,
    Desired,
    Directory,
    File,
    Group,
    Link,
    Network,
    Observed,
    Package,
    Settings,
    Stack,
    Sysctl,
    Unit,
    User,
)
from roles.core.snapshot import observed, question
from roles.core.state import digest

NONCE = "5e" * 32


def answer(roles: Sequence[Desired], nonce: str = NONCE) -> dict[str, Any]:
    """The agent's answer in its own form, to be altered where a test wants something wrong."""
    kinds = (*("paths", "entries", "groups", "users", "sysctls"), *("units", "chains"))
    found: dict[str, Any] = {
        **{kind: {} for kind in (*kinds, "settings", "networks", "stacks", "retired")},
        "packages": [],
        "pending": [],
        "unconfirmed": [],
        "nonce": nonce,
    }
    for role in roles:
        for resource in role.resources:
            _add(found, resource, nonce)
            if isinstance(resource, Settings):
                _add_settings(found, resource, nonce)
    return found


def converged(*roles: Desired, **changes: Any) -> Observed:
    """The snapshot of a host that is as the roles want it, but for these parts of the answer."""
    found = answer(roles)
    for key, change in changes.items():
        found[key] = {**found[key], **change} if isinstance(change, Mapping) else change
    assert found.keys() >= question(roles).keys() - {"do", "purge"}
    return observed(found)


def _add(found: dict[str, Any], resource: object, nonce: str) -> None:
    match resource:
        case File():
            owner = {"mode": resource.mode, **_owner(resource)}
            seen = {"type": "file", "digest": digest(resource.content, nonce), **owner}
            found["paths"][resource.path] = seen
        case Directory():
            seen = {"type": "directory", "mode": resource.mode, **_owner(resource)}
            found["paths"][resource.path] = seen
        case Link():
            found["paths"][resource.path] = {"type": "link", "target": resource.target}
        case Absent():
            found["paths"][resource.path] = {"type": "absent"}
        case Package():
            found["packages"].append(resource.name)
        case Group():
            found["groups"][resource.name] = 999 if resource.gid is None else resource.gid
        case User():
            found["users"][resource.name] = user(resource)
        case Sysctl():
            found["sysctls"][resource.key] = resource.value
        case Unit():
            found["units"][resource.name] = unit(resource)
        case Chain():
            found["chains"][f"{resource.family}:{resource.name}"] = list(resource.rules)
        case Network():
            found["networks"][resource.name] = network(resource)
        case Stack():
            found["stacks"][resource.project] = stack(resource)


def _add_settings(found: dict[str, Any], resource: Settings, nonce: str) -> None:
    seen = {"type": "file", "digest": "", "mode": "0600", **_owner(resource)}
    found["paths"][resource.path] = seen
    entries = {key: digest(value.encode(), nonce) for key, value in resource.entries}
    found["settings"][resource.path] = entries


def _owner(resource: File | Directory | Settings) -> dict[str, str]:
    return {
        "uid": resource.owner if resource.owner.isdigit() else "0",
        "gid": resource.group if resource.group.isdigit() else "0",
        "owner": resource.owner,
        "group": resource.group,
    }


def user(wanted: User) -> dict[str, Any]:
    return {
        "uid": wanted.uid,
        "group": wanted.group,
        "home": wanted.home,
        "shell": wanted.shell,
        "groups": sorted(wanted.groups),
        "locked": True,
    }


def unit(wanted: Unit) -> dict[str, str]:
    return {
        "LoadState": "loaded",
        "ActiveState": "inactive" if wanted.active is False else "active",
        "UnitFileState": {True: "enabled", False: "disabled", None: "static"}[wanted.enabled],
        "NeedDaemonReload": "no",
        "ConditionResult": "yes",
        "ConditionTimestampMonotonic": "1",
    }


def network(wanted: Network) -> dict[str, Any]:
    return {
        "subnets": sorted(wanted.subnets),
        "internal": wanted.internal,
        "driver": "bridge",
        "bridge": wanted.bridge,
        "attached": [],
    }


def stack(wanted: Stack) -> dict[str, Any]:
    return {
        "hashes": {c.service: f"hash-of-{c.service}" for c in wanted.containers},
        "containers": {c.service: container(wanted, c) for c in wanted.containers},
        "strays": [],
    }


def container(of: Stack, wanted: Container) -> dict[str, Any]:
    return {
        "name": f"{of.project}-{wanted.service}-1",
        "service": wanted.service,
        "hash": f"hash-of-{wanted.service}",
        "labels": {of.label: wanted.fingerprint},
        "state": "running",
        "health": "healthy",
        "memory": wanted.memory,
        "cpus": wanted.cpus,
        "pids": wanted.pids,
        "restart": wanted.restart,
        "behind": wanted.behind,
        "networks": sorted(wanted.networks),
    }
