"""The variables of a Compose file.

https://github.com/compose-spec/compose-spec/blob/main/12-interpolation.md
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

START = re.compile(r"\$(?:\$|([A-Za-z_][A-Za-z0-9_]*)|\{)")
EXPRESSION = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:(:?[-?+])(.*))?", re.DOTALL)
BRACE = re.compile(r"\$\{|\}")
DEEPEST = 10
# A value of any use is shorter; a short text could otherwise name a long value without end.
LONGEST = 100_000
# What stands for a variable whose value is not in the file; no YAML text can hold it.
UNKNOWN = "\0"


def interpolate(text: str, values: Mapping[str, str]) -> str:
    """The text with its variables replaced; one that has no value stays as ${NAME}."""
    return _replaced(text, values, lambda name: f"${{{name}}}", 0)


def literal(text: str) -> str:
    """What the file itself says: its defaults replaced, each other variable as UNKNOWN."""
    return _replaced(text, {}, lambda name: UNKNOWN, 0)


def _replaced(text: str, values: Mapping[str, str], unset: Callable[[str], str], depth: int) -> str:
    if depth > DEEPEST:
        return text
    parts: list[str] = []
    place = length = 0
    while (found := START.search(text, place)) and length < LONGEST:
        parts.append(text[place : found.start()])
        place = found.end()
        if found[0] == "$$":
            parts.append("$")
        elif found[1]:
            parts.append(values.get(found[1]) or unset(found[1]))
        elif (end := _closing(text, place)) < 0:
            # Compose refuses it; and to look for the next one's end would take time without end.
            return "".join([*parts, text[found.start() :]])[:LONGEST]
        else:
            parts.append(_expression(text[place:end], values, unset, depth))
            place = end + 1
        length += sum(map(len, parts[-2:]))
    return "".join([*parts, text[place:]])[:LONGEST]


def _closing(text: str, place: int) -> int:
    depth = 1
    for found in BRACE.finditer(text, place):
        depth += 1 if found[0] == "${" else -1
        if not depth:
            return found.start()
    return -1


def _expression(
    text: str, values: Mapping[str, str], unset: Callable[[str], str], depth: int
) -> str:
    found = EXPRESSION.fullmatch(text)
    if not found:
        return f"${{{text}}}"
    name, operator, rest = found[1], found[2] or "", found[3] or ""
    has = bool(values.get(name)) if operator.startswith(":") else name in values
    if operator.endswith("-") and not has:
        return _replaced(rest, values, unset, depth + 1)
    if operator.endswith("+"):
        return _replaced(rest, values, unset, depth + 1) if has else ""
    return values[name] if name in values else unset(name)
