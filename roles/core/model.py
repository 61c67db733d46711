"""What a host should look like: frozen values, one type for each kind of thing that is managed.

Nothing here reads a host, knows pyinfra or knows what the host is for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

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
    """A directory; with `purge`, an entry in it that no resource declares is removed.

    With `keep` it belongs to somebody else: it is made where nothing is, and never touched again.
    """

    path: str
    mode: str = "0755"
    owner: str = "root"
    group: str = "root"
    purge: bool = False
    keep: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """Some entries of a file that a program writes itself: these are kept, the rest is its own.

    Keys name a place in a file of this form: "xml" and "json" by their elements or members
    ("Config/ApiKey"), "ini" and "yaml" by section and key ("Preferences/Port"). A value of "json"
    is JSON. `container` writes the file anew when it ends, so it is stopped before a change.
    """

    path: str
    form: Literal["xml", "json", "ini", "yaml"]
    entries: tuple[tuple[str, str], ...] = field(repr=False)
    owner: str = "root"
    group: str = "root"
    container: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    path: str
    target: str


@dataclass(frozen=True, slots=True)
class Absent:
    """A path at which there must be nothing. A directory there is removed only when it is empty."""

    path: str


@dataclass(frozen=True, slots=True)
class Package:
    """An installed Debian package."""

    name: str


@dataclass(frozen=True, slots=True)
class AbsentPackage:
    """A Debian package that must not be installed; its data and settings stay (no purge)."""

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
    or the order is wrong, the chain is filled anew. Where all are missing, the chains that they
    lead to may be as well: the handler named by `repair` runs.
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

    Memory in bytes, `cpus` in billionths of a processor (the units of the Docker API). The label
    named by its Stack carries `fingerprint`, which covers the declaration and its input files.
    `behind` is the service whose network it shares: it is made anew after that one.
    """

    service: str
    fingerprint: str
    networks: tuple[str, ...]
    memory: int
    cpus: int
    pids: int
    restart: str
    behind: str = ""


@dataclass(frozen=True, slots=True)
class Stack:
    """A Compose project that must run as its file says."""

    project: str
    file: str
    label: str
    containers: tuple[Container, ...]


@dataclass(frozen=True, slots=True)
class Retired:
    """A Compose project of somebody else that must not run: stopped, and never started again.

    With `removed` its containers and networks are gone as well, and the files that they were made
    from are root's alone. Volumes, images and whatever they have mounted are never touched.
    """

    name: str
    removed: bool = False


Resource = (
    File
    | Settings
    | Directory
    | Link
    | Absent
    | Package
    | AbsentPackage
    | Group
    | User
    | Sysctl
    | Unit
    | Chain
    | Network
    | Stack
    | Retired
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
    """A changed path of this role makes a handler of a later role due.

    A service of a later role's Stack counts as a handler: its container is recreated.
    """

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
    """Everything that one role wants of a host.

    `handed_on` are handlers that a later role runs: they need what that role starts.
    """

    role: str
    resources: tuple[Resource, ...]
    checks: tuple[Check, ...] = ()
    handlers: tuple[Handler, ...] = ()
    notices: tuple[Notice, ...] = ()
    handed_on: tuple[Handler, ...] = ()
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
        case (
            File(path=path)
            | Settings(path=path)
            | Directory(path=path)
            | Link(path=path)
            | Absent(path=path)
        ):
            return ("path", path)
        case AbsentPackage(name=name):
            return ("package", name)
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
    return tuple(r.path for r in resources if isinstance(r, File | Settings))


@dataclass(frozen=True)
class Observed:
    """What one snapshot found: the agent's answer, by kind and name."""

    paths: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    entries: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    packages: frozenset[str] = frozenset()
    groups: Mapping[str, int] = field(default_factory=dict)
    users: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    sysctls: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    chains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    networks: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    stacks: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    retired: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pending: frozenset[str] = frozenset()
    unconfirmed: frozenset[str] = frozenset()
    nonce: str = ""
