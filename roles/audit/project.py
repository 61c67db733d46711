"""The services of a Compose file: extends, include, and each setting in its two forms."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from roles.audit.document import (
    MOST,
    PAIRS,
    RESET,
    Document,
    Node,
    UnreadableError,
    merged,
    read,
    read_text,
)
from roles.audit.interpolation import interpolate
from roles.command.dotenv import DotenvError
from roles.command.dotenv import parse as parse_dotenv

DEEPEST = 8
# Rules compare services with each other; the largest real files have some sixty.
MOST_SERVICES = 500
LARGEST_ENV = 64 * 1024
TRUE = {"true", "yes", "on"}
# The first Compose format has the services at the top: these keys are not among them.
TOP = {"version", "name", "services", "networks", "volumes", "secrets", "configs", "include"}


@dataclass(frozen=True, slots=True)
class Pair:
    """NAME=VALUE with its line; without a value it comes from the shell that runs Compose."""

    name: str
    node: Node


@dataclass(frozen=True, slots=True)
class Port:
    """A published port; an empty address is every address of the host, IPv4 and IPv6."""

    address: str
    published: str
    target: str
    protocol: str
    node: Node

    @property
    def passes_ufw(self) -> bool | None:
        """Docker forwards it before UFW's rules for the host are asked; None: not known.

        https://docs.docker.com/engine/network/packet-filtering-firewalls/
        """
        bare = self.address.strip("[]")
        if "$" in bare:
            return None
        return not (bare.startswith("127.") or bare in {"::1", "localhost"})

    def __str__(self) -> str:
        address = self.address or "*"
        return f"{address}:{self.published or 'any'} -> {self.target}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class Mount:
    """A path of the host inside a container."""

    source: str
    target: str
    read_only: bool
    node: Node


@dataclass(slots=True)
class Project:
    """All that one Compose file declares, or several that are merged in this order."""

    files: tuple[Path, ...]
    values: Mapping[str, str]
    services: dict[str, Service] = field(default_factory=dict)
    networks: dict[str, Node] = field(default_factory=dict)
    volumes: dict[str, Node] = field(default_factory=dict)
    version: Node | None = None
    oldest_format: bool = False
    twice: list[tuple[str, Node]] = field(default_factory=list)
    unread: list[tuple[str, Node]] = field(default_factory=list)
    size: int = 0

    @property
    def file(self) -> Path:
        """The first file; its folder is the project's."""
        return self.files[0]

    @property
    def title(self) -> str:
        return " + ".join(map(str, self.files))

    def folder_of(self, node: Node) -> Path:
        """What a relative path there starts from: only a file that is pulled in has its own."""
        return (self.file if node.file in self.files else node.file).parent

    def members(self) -> dict[str, list[str]]:
        """The services of each network."""
        found: dict[str, list[str]] = {}
        for service in self.services.values():
            for network in self.networks_of(service):
                found.setdefault(network, []).append(service.name)
        return found

    def networks_of(self, service: Service) -> tuple[str, ...]:
        """The networks it is in, through the one whose network it shares if there is one."""
        for _ in range(DEEPEST):
            host = service.behind
            if host not in self.services:
                break
            service = self.services[host]
        if service.mode:
            return ("host",) if service.mode == "host" else ()
        return service.own_networks or ("default",)

    def reach(self) -> dict[str, list[str]]:
        """For each service the others that it can open connections to."""
        members = self.members()
        return {
            name: sorted(
                {other for net in self.networks_of(service) for other in members[net]} - {name}
            )
            for name, service in self.services.items()
        }


@dataclass(frozen=True)
class Service:
    """One service with the settings that judge it."""

    name: str
    node: Node
    project: Project

    def get(self, *path: str) -> Node | None:
        """The setting at a path; None where it is missing or empty."""
        node: Node | None = self.node
        for key in path:
            node = node.mapping.get(key) if node else None
        return None if node is None or node.value is None else node

    def at(self, *path: str) -> Node:
        """Where a setting stands, or else the service."""
        return self.get(*path) or self.node

    def resolved(self, node: Node | None) -> str:
        return interpolate(node.raw, self.project.values) if node else ""

    def text(self, *path: str) -> str:
        return self.resolved(self.get(*path)).strip()

    def flag(self, *path: str) -> bool:
        return self.text(*path).lower() in TRUE

    def items(self, *path: str) -> list[Node]:
        """A list's items; one text is a list of one."""
        node = self.get(*path)
        if node is None or isinstance(node.value, dict):
            return []
        return node.sequence if isinstance(node.value, list) else [node]

    def texts(self, *path: str) -> list[str]:
        return [self.resolved(item) for item in self.items(*path)]

    def pairs(self, *path: str) -> list[Pair]:
        node = self.get(*path)
        return list(_pairs(node)) if node else []

    @property
    def environment(self) -> dict[str, str]:
        return {pair.name: self.resolved(pair.node) for pair in self.pairs("environment")}

    @cached_property
    def image(self) -> str:
        return self.text("image")

    @cached_property
    def product(self) -> str:
        """The last part of the image's name, "redis" of docker.io/library/redis:7."""
        path = self.image.split("@")[0].rsplit("/", 1)[-1]
        return path.split(":")[0].lower()

    @property
    def mode(self) -> str:
        return self.text("network_mode") or self.text("net")

    @property
    def behind(self) -> str:
        """The service whose network it lives in."""
        kind, _, name = self.mode.partition(":")
        if kind == "container":
            for other in self.project.services.values():
                if other.text("container_name") == name:
                    return other.name
        return name if kind in {"service", "container"} else ""

    @property
    def own_networks(self) -> tuple[str, ...]:
        node = self.get("networks")
        return tuple(node.mapping) if node else ()

    def ports(self) -> Iterator[Port]:
        """What it publishes, each once: a later entry stands for an equal one before."""
        found = (self._port(item) for item in self.items("ports") if item.value)
        yield from {str(port): port for port in found if port}.values()

    def _port(self, item: Node) -> Port | None:
        if item.mapping:
            read = {key: self.resolved(node) for key, node in item.mapping.items()}
            target, protocol = read.get("target", ""), read.get("protocol", "tcp")
            return Port(read.get("host_ip", ""), read.get("published", ""), target, protocol, item)
        text, _, protocol = self.resolved(item).strip().partition("/")
        parts = text.rsplit(":", 2)
        address, published, target = [""] * (3 - len(parts)) + parts
        return Port(address, published, target, protocol or "tcp", item) if target else None

    def mounts(self) -> Iterator[Mount]:
        """What of the host it sees; named volumes only where they stand for a folder.

        A later entry at the same place stands for the one before.
        """
        items = self.items("volumes")
        last = {self._mount(item).target or self.resolved(item): item for item in items}
        for item in last.values():
            mount = self._mount(item)
            source = self._folder(mount.source)
            if source:
                yield Mount(source, mount.target, mount.read_only, item)

    def _mount(self, item: Node) -> Mount:
        if item.mapping:
            read = {key: self.resolved(node) for key, node in item.mapping.items()}
            source, target = read.get("source", read.get("src", "")), read.get("target", "")
            return Mount(source, target, read.get("read_only", "").lower() in TRUE, item)
        source, _, rest = self.resolved(item).strip().partition(":")
        target, _, mode = rest.partition(":")
        return Mount(source if target else "", target, "ro" in mode.split(","), item)

    def _folder(self, source: str) -> str:
        if source in self.project.volumes:
            options = self.project.volumes[source].mapping.get("driver_opts")
            device = options.mapping.get("device") if options else None
            source = self.resolved(device)
        home = re.match(r"(~|\$\{(HOME|USERPROFILE)\})(?=/|$)", source)
        source = f"~{source[home.end() :]}" if home else source
        if not source.startswith(("/", "~", ".", "$")):
            return ""
        # Two slashes at the front are one to Linux, and kept by normpath.
        return re.sub("^//+", "/", posixpath.normpath(source))


def load(file: Path, *over: Path) -> Project:
    """Read a Compose file with what it extends and includes, and the .env file beside it.

    What is `over` it is merged into it in this order, as by `docker compose -f FILE -f OVER`
    (https://docs.docker.com/reference/compose-file/merge/).

    Raises:
        UnreadableError: a file, or the .env file, cannot be read; they declare no service; or a
            service is no mapping.
    """
    project = Project((file, *over), _dotenv(file.parent / ".env"))
    for each in project.files:
        _add(project, read(each), each, ())
    if not project.services and project.unread:
        place = f"{project.unread[0][1].file}:{project.unread[0][1].line}"
        raise UnreadableError(f"{place}: include: cannot be read; set its variables in .env")
    if not project.services:
        raise UnreadableError(f"{file}: services: names none; is it a Compose file?")
    return project


def _dotenv(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        return parse_dotenv(read_text(path, LARGEST_ENV))
    except DotenvError as error:
        raise UnreadableError(f"{path}: {error}") from error


def _add(project: Project, document: Document, file: Path, opened: tuple[Path, ...]) -> None:
    """Add a file's declarations and, before them, those of the files it includes."""
    root = _root(document, file)
    project.twice += [(name, Node(None, line, file)) for name, line in document.twice]
    for path, node in _included(root, file):
        _include(project, path, node, (*opened, file))
    for kind, target in (("networks", project.networks), ("volumes", project.volumes)):
        declared = root.mapping[kind].mapping if kind in root.mapping else {}
        target |= {n: merged(target[n], v) if n in target else v for n, v in declared.items()}
    project.version = root.mapping.get("version") or project.version
    services, oldest = _declared(root)
    project.oldest_format |= oldest
    for name, node in services.items():
        if name.startswith("x-"):
            continue
        if node.tag == RESET:
            project.services.pop(name, None)
            continue
        if not isinstance(node.value, dict):
            raise UnreadableError(f"{node.file}:{node.line}: services.{name}: is no mapping")
        whole = _extended(project, services, node, ())
        if name in project.services:
            whole = _over(project.services[name].node, whole)
        project.services[name] = Service(name, whole, project)
        project.size += whole.size
        if project.size > MOST or len(project.services) > MOST_SERVICES:
            place = f"{node.file}:{node.line}"
            raise UnreadableError(f"{place}: services.{name}: is one too many; split the file")


def _root(document: Document, file: Path) -> Node:
    root = Node({}, 1, file)
    for each in document.roots:
        if each.value is not None and not isinstance(each.value, dict):
            raise UnreadableError(f"{file}:{each.line}: is no mapping; is it a Compose file?")
        root = merged(root, each) if each.value else root
    return root


def _declared(root: Node) -> tuple[dict[str, Node], bool]:
    if "services" in root.mapping:
        services = root.mapping["services"]
        if services.value is not None and not isinstance(services.value, dict):
            raise UnreadableError(f"{services.file}:{services.line}: services: is no mapping")
        return services.mapping, False
    found = {
        name: node
        for name, node in root.mapping.items()
        if name not in TOP and {"image", "build", "extends"} & set(node.mapping)
    }
    return found, bool(found)


def _included(root: Node, file: Path) -> Iterator[tuple[str, Node]]:
    include = root.mapping.get("include")
    for item in include.sequence if include else []:
        path = item.mapping.get("path", item)
        yield from ((each.raw, each) for each in path.sequence or [path])


def _include(project: Project, path: str, node: Node, opened: tuple[Path, ...]) -> None:
    target = project.folder_of(node) / interpolate(path, project.values)
    if not path or target in opened or len(opened) > DEEPEST:
        project.unread.append(("the file that include names", node))
        return
    try:
        document = read(target)
    except UnreadableError:
        project.unread.append(("the file that include names", node))
        return
    _add(project, document, target, opened)


def _extended(
    project: Project, services: Mapping[str, Node], node: Node, opened: tuple[int, ...]
) -> Node:
    """A service with what it extends under it; what cannot be found is noted."""
    node = _in_one_form(node, project.values)
    extends = node.mapping.get("extends")
    if extends is None or extends.value is None:
        return node
    name = extends.mapping.get("service", extends).raw
    other = extends.mapping.get("file")
    if other and other.raw:
        services = _services_of(project.folder_of(node) / interpolate(other.raw, project.values))
    base = services.get(name)
    if base is None or id(base) in opened or len(opened) > DEEPEST:
        project.unread.append(("the service that extends names", extends))
        return node
    whole = merged(_extended(project, services, base, (*opened, id(base))), node)
    # The service stands where it is declared, not where its base does.
    return Node(whole.value, node.line, node.file, whole.size)


def _over(first: Node, later: Node) -> Node:
    """A service with what a later file says of it; it stands where it was declared first."""
    whole = merged(first, later)
    return Node(whole.value, first.line, first.file, whole.size)


def _services_of(file: Path) -> Mapping[str, Node]:
    try:
        return _declared(_root(read(file), file))[0]
    except UnreadableError:
        return {}


def _in_one_form(node: Node, values: Mapping[str, str]) -> Node:
    """A service whose settings with two forms have the one that merges: a mapping."""
    changed = {}
    for key, value in node.mapping.items():
        pairs = {}
        if key in PAIRS and value.sequence:
            pairs = {pair.name: pair.node for pair in _pairs(value)}
        elif key == "networks" and value.sequence:
            names = ((interpolate(item.raw, values), item) for item in value.sequence)
            pairs = {name: Node(None, item.line, item.file) for name, item in names}
        elif key == "build" and value.raw:
            pairs = {"context": value}
        if pairs:
            changed[key] = Node(pairs, value.line, value.file, value.size, value.tag)
    return Node({**node.mapping, **changed}, node.line, node.file, node.size, node.tag)


def _pairs(node: Node) -> Iterator[Pair]:
    yield from (Pair(name, value) for name, value in node.mapping.items())
    for item in node.sequence:
        if item.mapping:
            yield from _pairs(item)
        elif item.raw:
            name, sign, value = item.raw.partition("=")
            yield Pair(name, Node(value if sign else None, item.line, item.file))


def names(services: Iterable[Service]) -> str:
    """Names in a sentence, the first few."""
    listed = [service.name for service in services]
    more = f" and {len(listed) - 4} more" if len(listed) > 4 else ""
    return ", ".join(listed[:4]) + more
