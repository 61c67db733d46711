"""What a host should look like: frozen values, one type for each kind of thing that is managed.

Nothing here reads a host, knows pyinfra or knows what the host is for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class File:
    """A regular file. `mode` is octal text; `secret` keeps the content out of every diff."""

    path: str
    content: bytes = field(repr=False)
    mode: str = "0644"
    owner: str = "root"
    group: str = "root"
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory; with `purge`, an entry in it that no resource declares is removed."""

    path: str
    mode: str = "0755"
    owner: str = "root"
    group: str = "root"
    purge: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    path: str
    target: str


@dataclass(frozen=True, slots=True)
class Absent:
    """A path at which there must be nothing (a file or a link; never a directory)."""

    path: str


@dataclass(frozen=True, slots=True)
class Package:
    """An installed Debian package."""

    name: str


@dataclass(frozen=True, slots=True)
class Group:
    """A system group. `gid` None: any number will do."""

    name: str
    gid: int | None = None


@dataclass(frozen=True, slots=True)
class User:
    """A system account that nobody logs in to: its password stays locked."""

    name: str
    uid: int
    group: str
    home: str = "/nonexistent"
    shell: str = "/usr/sbin/nologin"
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sysctl:
    """The running value of a kernel setting; a File makes it last over a boot."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Unit:
    """A systemd unit. None is not judged: `enabled` of static units, `active` of one-shot ones."""

    name: str
    enabled: bool | None = True
    active: bool | None = True
    restart_on: tuple[str, ...] = ()
    reload_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chain:
    """The live rules of one packet filter chain, as `iptables -S CHAIN` prints them.

    `family` is "4" or "6". A rule that stands there and should not is deleted; where one is missing
    or the order is wrong, the handler named by `repair` runs.
    """

    family: str
    name: str
    rules: tuple[str, ...]
    repair: str


@dataclass(frozen=True, slots=True)
class Network:
    """A Docker bridge network. `subnets` are CIDR texts; `bridge` names the host's interface."""

    name: str
    subnets: tuple[str, ...]
    internal: bool
    bridge: str


@dataclass(frozen=True, slots=True)
class Container:
    """What `docker inspect` must say of a Compose service beyond its configuration hash.

    Memory in bytes, `cpus` in billionths of a processor (the units of the Docker API).
    """

    service: str
    networks: tuple[str, ...]
    memory: int
    cpus: int
    pids: int
    restart: str


@dataclass(frozen=True, slots=True)
class Stack:
    """A Compose project that must run as its file says."""

    project: str
    file: str
    containers: tuple[Container, ...]


Resource = (
    File
    | Directory
    | Link
    | Absent
    | Package
    | Group
    | User
    | Sysctl
    | Unit
    | Chain
    | Network
    | Stack
)


@dataclass(frozen=True, slots=True)
class Check:
    """A command that must accept changed files before one of them is moved into place.

    `{path}` in an argument stands for the staged copy of the managed file of that path, which is
    the installed file where nothing about it changes.
    """

    argv: tuple[str, ...]
    on: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Handler:
    """A command that makes changed inputs take effect. An interrupted run still owes it.

    `last`: after units and containers, not before.
    """

    name: str
    argv: tuple[str, ...]
    on: tuple[str, ...] = ()
    last: bool = False


@dataclass(frozen=True, slots=True)
class Notice:
    """A changed path of this role makes a handler of a later role due."""

    role: str
    handler: str
    on: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Guard:
    """What brings the old state back when the operator can no longer connect.

    `before` runs first, then the saved files return, then `after` runs. `seconds` is how long the
    host waits for the second connection before it does so by itself.
    """

    seconds: int
    before: tuple[tuple[str, ...], ...] = ()
    after: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Desired:
    """Everything that one role wants of a host."""

    role: str
    resources: tuple[Resource, ...]
    checks: tuple[Check, ...] = ()
    handlers: tuple[Handler, ...] = ()
    notices: tuple[Notice, ...] = ()
    guard: Guard | None = None

    def __post_init__(self) -> None:
        """Refuse two declarations of one thing, and handlers that nothing declares.

        Raises:
            ValueError: naming the role and the thing.
        """
        seen: set[tuple[str, ...]] = set()
        for resource in self.resources:
            key = identity(resource)
            if key in seen:
                raise ValueError(f"{self.role}: {' '.join(key)} is declared twice")
            seen.add(key)
        names = {handler.name for handler in self.handlers}
        for resource in self.resources:
            if isinstance(resource, Chain) and resource.repair not in names:
                raise ValueError(f"{self.role}: no handler is named {resource.repair!r}")

    def of(self, kind: type[T]) -> tuple[T, ...]:
        """The role's resources of one kind, in the order of declaration."""
        return tuple(resource for resource in self.resources if isinstance(resource, kind))


def identity(resource: Resource) -> tuple[str, ...]:
    """The name under which a resource can be declared once: (kind, name)."""
    match resource:
        case File(path=path) | Directory(path=path) | Link(path=path) | Absent(path=path):
            return ("path", path)
        case Sysctl(key=key):
            return ("kernel setting", key)
        case Chain(family=family, name=name):
            return ("chain", family, name)
        case Stack(project=project):
            return ("stack", project)
        case _:
            return (type(resource).__name__.lower(), resource.name)


def paths(resources: Iterable[Resource]) -> tuple[str, ...]:
    """The paths of the files among the resources: what a Unit or Handler usually depends on."""
    return tuple(resource.path for resource in resources if isinstance(resource, File))


@dataclass(frozen=True)
class Observed:
    """What one snapshot found: the agent's answer, by kind and name."""

    paths: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    entries: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    packages: frozenset[str] = frozenset()
    groups: Mapping[str, int] = field(default_factory=dict)
    users: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    sysctls: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    chains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    networks: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    stacks: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    pending: frozenset[str] = frozenset()
    nonce: str = ""
