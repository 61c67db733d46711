"""Secrets that a Compose file spells out: where they stand, never what they are."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from roles.audit.document import Node
from roles.audit.interpolation import UNKNOWN, literal
from roles.audit.project import Service

NAME = re.compile(
    r"(PASSWORD|PASSWD|PASSPHRASE|(?<!BY)(?<!COM)PASS|PWD|SECRET|TOKEN|CREDENTIALS?"
    r"|(API|APP|JWT|PRIVATE|ACCESS|SECRET|SIGNING|SESSION|ENCRYPTION|AUTH|MASTER)_?KEY)"
    r"(_?(BASE64|ENC|HASH|\d+))?$"
)
# NAME ends in these where it speaks about a secret and is none.
PUBLIC = re.compile(r"(PUBLIC_KEY|_FILE|__FILE|_PATH|ACCESS_KEY_ID)$")
NO_SECRET = re.compile(
    r"(true|false|yes|no|on|off|none|null|\*+|required|optional|file|env|vault|disabled|enabled)",
    re.IGNORECASE,
)
PATH = re.compile(r"(/|\./|file:|https?://)\S*")
URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]{0,30}://[^\s:/@'\"]{0,200}:([^\s/@'\"]{1,200})@")
HASH = re.compile(r"\$(apr1|2[aby]|5|6|argon2(id|i|d)|y)\$[^\s]{8,}|:\{SHA\}[A-Za-z0-9+/=]{20,}")
KNOWN = re.compile(
    r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}"
    r"|\bglpat-[A-Za-z0-9_-]{20}|\bxox[abp]-[A-Za-z0-9-]{20}|\btskey-[a-z]+-[A-Za-z0-9-]{15}"
)
# A shell inside the container puts something else in its place: $NAME, ${NAME}, $(cat ...).
SHELL = re.compile(r"['\"]?(\$([A-Za-z_]|\{\w+\}|\()|`)")
CLI = re.compile(r"(?:--?|/)?([A-Za-z][\w.-]*)(?:=(.*))?", re.DOTALL)
ENVIRONMENTS = (("environment",), ("build", "args"))
WORDS = (("command",), ("entrypoint",), ("healthcheck", "test"))


def spelled_out(service: Service) -> Iterator[tuple[Node, str, str]]:
    """Each secret: where it is, what it is called, and its kind ("value", "default", "hash")."""
    seen: set[int] = set()
    for path in ENVIRONMENTS:
        for pair in service.pairs(*path):
            if is_secret_name(pair.name) and (kind := _judged(pair.node.raw)):
                seen.add(id(pair.node.value))
                yield pair.node, f"{path[-1]} {pair.name}", kind
    for pair in service.pairs("labels"):
        if is_secret_name(pair.name.rsplit(".", 1)[-1]) and (kind := _judged(pair.node.raw)):
            seen.add(id(pair.node.value))
            yield pair.node, f"label {pair.name}", kind
    for path in WORDS:
        for node, name, kind in _words(service.items(*path)):
            seen.add(id(node.value))
            yield node, f"{path[0]}: {name}", kind
    for key, part in service.node.mapping.items():
        for node in part.scalars():
            if id(node.value) not in seen and (found := _inside(node)):
                yield node, f"{key}: {found[0]}", found[1]


def is_secret_name(name: str) -> bool:
    """Whether a variable of this name holds a secret: DB_PASSWORD, not DB_PASSWORD_FILE."""
    plain = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper().replace("-", "_").replace(".", "_")
    return bool(NAME.search(plain)) and not PUBLIC.search(plain)


def _judged(raw: str) -> str:
    """How the file itself says a secret, or nothing where it does not."""
    said = literal(raw).strip().strip("'\"")
    if HASH.search(said):
        return "hash"
    if not said or UNKNOWN in said or NO_SECRET.fullmatch(said) or PATH.fullmatch(said):
        return ""
    if said.startswith("<") and said.endswith(">"):
        return ""
    return "default" if "${" in raw else "value"


def _words(items: list[Node]) -> Iterator[tuple[Node, str, str]]:
    """Secrets among the words of a command: --password=..., --requirepass ..., -a of redis-cli."""
    words = [(word, item) for item in items for word in _split(item.raw, alone=len(items) == 1)]
    program = ""
    for place, (word, item) in enumerate(words):
        program = "redis-cli" if word.endswith("redis-cli") else program
        option = word.startswith("-")
        found = CLI.fullmatch(word) if option or "=" in word else None
        if not found:
            continue
        follower = words[place + 1][0] if place + 1 < len(words) else ""
        if found[2] is None and option and not follower.startswith("-"):
            value = follower
        else:
            value = found[2] or ""
        name = found[1].rsplit(".", 1)[-1]
        named = is_secret_name(name) or (program and word == "-a")
        if named and not SHELL.match(literal(value)) and (kind := _judged(value)):
            yield item, word.partition("=")[0], kind


def _split(text: str, *, alone: bool) -> list[str]:
    """The words of a shell line; an item of a list is one word unless it is a script."""
    if not alone and " " not in text:
        return [text]
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    return [part for word in words for part in (word.split() if " " in word else [word])]


def _inside(node: Node) -> tuple[str, str] | None:
    """A secret that its own form gives away, whatever it is called."""
    said = literal(node.raw)
    for found in URL.finditer(said):
        if UNKNOWN not in found[1] and not re.fullmatch(r"\{.*\}|<.*>|\*+", found[1]):
            return "a password in a URL", "default" if "${" in node.raw else "value"
    if KNOWN.search(said):
        return "a key of a known form", "value"
    return ("the hash of a password", "hash") if HASH.search(said) else None
