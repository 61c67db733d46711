"""A Compose file as nodes that know their line, read within bounds of size, depth and time."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from roles.core import libyaml

# The largest Compose files in public repositories have some 100 kB.
LARGEST = 1024 * 1024
DEEPEST = 40
MOST = 100_000
LONGEST = 64 * 1024
# What an overriding file takes away, and what it puts in the place of all that stood there:
# https://docs.docker.com/reference/compose-file/merge/
RESET, OVERRIDE = "!reset", "!override"
NULLS = {"", "~", "null", "Null", "NULL"}
MERGE = "<<"


class UnreadableError(Exception):
    """A file is no Compose file that can be judged; the text names file, line, trouble and mend."""


@dataclass(slots=True)
class Node:
    """A value with where it stands; a value of a mapping stands where its key does."""

    value: str | list[Node] | dict[str, Node] | None
    line: int
    file: Path
    size: int = 1
    tag: str = ""

    @property
    def mapping(self) -> dict[str, Node]:
        return self.value if isinstance(self.value, dict) else {}

    @property
    def sequence(self) -> list[Node]:
        return self.value if isinstance(self.value, list) else []

    @property
    def raw(self) -> str:
        return self.value if isinstance(self.value, str) else ""

    def scalars(self) -> Iterator[Node]:
        """Every text below, its own included."""
        if isinstance(self.value, str):
            yield self
        for child in self.sequence or self.mapping.values():
            yield from child.scalars()


@dataclass(frozen=True, slots=True)
class Document:
    """The roots of a file's documents, and the keys that stand twice in one mapping."""

    roots: tuple[Node, ...]
    twice: tuple[tuple[str, int], ...]


def read_text(path: Path, largest: int = LARGEST) -> str:
    """The text of a regular file.

    Raises:
        UnreadableError: missing, no regular file, longer than `largest` bytes, or no UTF-8 text.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableError(f"{path}: is no regular file; give the path of a Compose file")
        with path.open("rb") as stream:
            content = stream.read(largest + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "is no path"
        raise UnreadableError(f"{path}: cannot be read: {reason}; mend the path") from error
    if len(content) > largest:
        raise UnreadableError(f"{path}: is larger than {largest // 1024} KiB; split it")
    if b"\0" in content:
        raise UnreadableError(f"{path}: holds NUL bytes; save it as UTF-8 text")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UnreadableError(f"{path}:{line}: is not UTF-8; save it as UTF-8 text") from error


def read(path: Path) -> Document:
    """Read a YAML file.

    Raises:
        UnreadableError: as `read_text`, or it is no YAML, too deep or too large once its anchors
            are expanded.
    """
    return parse(read_text(path), path)


def parse(text: str, path: Path) -> Document:
    """As `read`, for text that `path` stands for.

    Raises:
        UnreadableError: as `read`.
    """
    composer = _Composer(text, path)
    try:
        roots = tuple(composer.documents())
    except yaml.YAMLError as error:
        # Its own text would quote the line, which may hold a password.
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "is no YAML"
        line = text.splitlines()[mark.line : mark.line + 1] if mark else []
        tabs = any("\t" in each[: len(each) - len(each.lstrip())] for each in line)
        hint = "; indent with spaces, not tabs" if tabs else "; mend it"
        raise UnreadableError(f"{place}: {problem}{hint}") from error
    return Document(roots, tuple(composer.twice))


class _Composer:
    """Nodes from PyYAML's events: its own composer has no bounds, and forgets duplicate keys."""

    def __init__(self, text: str, file: Path) -> None:
        self.events: Iterator[Any] = yaml.parse(text, Loader=libyaml.LOADER)
        self.file = file
        self.anchors: dict[str, Node | None] = {}
        self.twice: list[tuple[str, int]] = []

    def documents(self) -> Iterator[Node]:
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                self.anchors.clear()
                yield self._node(next(self.events), 0)

    def _node(self, event: Any, depth: int) -> Node:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            return self._alias(str(event.anchor), line)
        if depth > DEEPEST:
            raise self._error(line, f"is nested deeper than {DEEPEST} levels; flatten it")
        if event.anchor:
            self.anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            if len(event.value) > LONGEST:
                raise self._error(line, f"is longer than {LONGEST // 1024} KiB; keep it in a file")
            null = event.implicit[0] and event.value in NULLS
            node = Node(None if null else event.value, line, self.file)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(line, depth)
        else:
            node = self._mapping(line, depth)
        if event.tag in {RESET, OVERRIDE}:
            node.tag = event.tag
            node.value = None if node.tag == RESET else node.value
        if event.anchor:
            self.anchors[event.anchor] = node
        return node

    def _alias(self, anchor: str, line: int) -> Node:
        if anchor not in self.anchors:
            raise self._error(line, f"names the anchor {anchor}, which is not defined before it")
        node = self.anchors[anchor]
        if node is None:
            raise self._error(line, f"puts the anchor {anchor} into itself; name another")
        return Node(node.value, node.line, node.file, node.size, node.tag)

    def _sequence(self, line: int, depth: int) -> Node:
        items = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
        return Node(items, line, self.file, self._size(items, line))

    def _mapping(self, line: int, depth: int) -> Node:
        own: dict[str, Node] = {}
        merged: list[Node] = []
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            value = self._node(next(self.events), depth + 1)
            if isinstance(key.value, list | dict):
                raise self._error(key.line, "has a list or mapping as key; write a name")
            name = key.value or ""
            if name == MERGE:
                merged += value.sequence or [value]
                continue
            if name in own:
                self.twice.append((name, key.line))
            # Two mappings of one name are judged together: nothing hides behind the second.
            both = {**own[name].mapping, **value.mapping} if name in own else {}
            own[name] = Node(both or value.value, key.line, self.file, value.size, value.tag)
        found: dict[str, Node] = {}
        for source in reversed(merged):
            found |= source.mapping
        return Node(found | own, line, self.file, self._size([*own.values(), *merged], line))

    def _size(self, children: list[Node], line: int) -> int:
        size = 1 + sum(child.size for child in children)
        if size > MOST:
            raise self._error(line, f"expands to more than {MOST} values; use fewer anchors")
        return size

    def _error(self, line: int, text: str) -> UnreadableError:
        return UnreadableError(f"{self.file}:{line}: {text}")


# A command is one value, although it is written as a list (Compose specification, 13 Merge).
REPLACED = {"command", "entrypoint", "test"}
# Settings that are lists of NAME=VALUE or mappings; one form is easier to merge.
PAIRS = {"environment", "labels", "extra_hosts", "sysctls", "args"}


def merged(base: Node, override: Node) -> Node:
    """One value over another as Compose merges files: mappings by key, sequences appended.

    An empty value changes nothing; the tags !reset and !override say that nothing is merged.
    """
    if override.tag:
        return override
    if override.value is None:
        return base
    size = base.size + override.size
    if isinstance(base.value, dict) and isinstance(override.value, dict):
        both = dict(base.value)
        for key, value in override.value.items():
            both[key] = _both(key, both[key], value) if key in both else value
        return Node(both, override.line, override.file, size)
    if isinstance(base.value, list) and isinstance(override.value, list):
        return Node([*base.value, *override.value], override.line, override.file, size)
    return override


def _both(key: str, base: Node, override: Node) -> Node:
    if key in REPLACED or (key == "logging" and _other_driver(base, override)):
        return override
    if key in PAIRS and base.mapping and override.mapping and not override.tag:
        # A name without a value is one as well: it comes from elsewhere.
        pairs = base.mapping | override.mapping
        return Node(pairs, override.line, override.file, base.size + override.size)
    return merged(base, override)


def _other_driver(base: Node, override: Node) -> bool:
    """Whether two settings of logs are for different drivers: options of one say nothing there."""
    drivers = {node.mapping["driver"].raw for node in (base, override) if "driver" in node.mapping}
    return len(drivers) == 2
