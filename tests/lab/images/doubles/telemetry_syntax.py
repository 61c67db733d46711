"""As much of Alloy's configuration syntax as is needed to read a file
(https://grafana.com/docs/alloy/latest/get-started/configuration-syntax/)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_TOKEN = re.compile(
    r"(?P<space>[ \t\r]+|//[^\n]*|/\*.*?\*/)|(?P<line>\n)"
    r'|(?P<text>"(?:[^"\\\n]|\\.)*")|(?P<raw>`[^`]*`)|(?P<number>-?\d+(?:\.\d+)?)'
    r"|(?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)|(?P<sign>[{}\[\]=,])",
    re.S,
)


@dataclass
class Block:
    """A block: its name, its label, its attributes, and the blocks in it, in their order."""

    name: str
    label: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)


@dataclass(frozen=True)
class Reference:
    """What another component exports."""

    name: str


Token = tuple[str, str]


def parse(text: str) -> Block:
    """A whole file as one block. Raises ValueError naming the place."""
    tokens = list(_tokens(text))
    body = _Parser(tokens).body("end")
    return Block("", "", body.attributes, body.blocks)


def _tokens(text: str) -> Iterator[Token]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if not match:
            raise ValueError(f"line {text.count(chr(10), 0, at) + 1}: unexpected {text[at]!r}")
        at = match.end()
        if match.lastgroup not in {"space", None}:
            yield str(match.lastgroup), match[0]
    yield "end", ""


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0

    def body(self, end: str) -> Block:
        found = Block("")
        while not self._take_line() and self._peek()[1] != end and self._peek()[0] != end:
            name = self._expect("name")
            if self._accept("="):
                found.attributes[name] = self._value()
                continue
            label = json.loads(self._expect("text")) if self._peek()[0] == "text" else ""
            self._sign("{")
            inner = self.body("}")
            self._sign("}")
            found.blocks.append(Block(name, label, inner.attributes, inner.blocks))
        return found

    def _value(self) -> Any:
        kind, text = self._next()
        if text == "[":
            return [value for _, value in self._items("]", keyed=False)]
        if text == "{":
            return dict(self._items("}", keyed=True))
        if kind == "raw":
            return text[1:-1]
        if kind in {"text", "number"} or text in {"true", "false"}:
            return json.loads(text)
        if kind == "name":
            return Reference(text)
        raise ValueError(f"unexpected {text!r}")

    def _items(self, end: str, keyed: bool) -> Iterator[tuple[str, Any]]:
        self._take_line()
        while not self._accept(end):
            key = ""
            if keyed:
                kind, text = self._next()
                key = json.loads(text) if kind == "text" else text
                self._sign("=")
            yield key, self._value()
            self._take_line()
            if not self._accept(",") and self._peek()[1] != end:
                raise ValueError(f"expected , or {end}, got {self._peek()[1]!r}")
            self._take_line()

    def _take_line(self) -> bool:
        while self._peek()[0] == "line":
            self._at += 1
        return False

    def _peek(self) -> Token:
        return self._tokens[self._at]

    def _next(self) -> Token:
        self._at += 1
        return self._tokens[self._at - 1]

    def _accept(self, sign: str) -> bool:
        if self._peek() == ("sign", sign):
            self._at += 1
            return True
        return False

    def _sign(self, sign: str) -> None:
        if not self._accept(sign):
            raise ValueError(f"expected {sign}, got {self._peek()[1]!r}")

    def _expect(self, kind: str) -> str:
        found, text = self._next()
        if found != kind:
            raise ValueError(f"expected a {kind}, got {text!r}")
        return text
