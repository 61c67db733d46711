"""A Compose .env file, read by Compose's own rules but never interpolated.

https://docs.docker.com/compose/how-tos/environment-variables/variable-interpolation/ (syntax):
comments, `export`, `=` or `:`, single quotes literal, double quotes with escapes, both over several
lines; a comment behind a bare value needs a blank before it; the last of two equal names counts.
"""

from __future__ import annotations

import re

BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)+")
NAME = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*")
DELIMITER = re.compile(r"[=:][ \t]*")
SINGLE = re.compile(r"'((?:[^'\\]|\\.)*)'", re.DOTALL)
DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
BARE = re.compile(r"[^\n]*")
COMMENT = re.compile(r"(?:^|[ \t]+)#.*")
END = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|$)")
ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}
REFERENCE = re.compile(r"(?<!\\)\$(?:\{|[A-Za-z_])")


class DotenvError(Exception):
    """A line that cannot be read; the text names its number and never shows it."""


def parse(text: str) -> dict[str, str]:
    """The values of a .env file by name; a name without a value has an empty one.

    Raises:
        DotenvError: a line is no assignment, or a quote is not closed.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    values = {}
    place = _skip(text, 0)
    while place < len(text):
        name, value, place = _assignment(text, place)
        values[name] = value
        place = _skip(text, place)
    return values


def refers(value: str) -> bool:
    """Whether Compose would have replaced a part of this value by another variable."""
    return bool(REFERENCE.search(value))


def _skip(text: str, place: int) -> int:
    found = BLANK.match(text, place)
    return found.end() if found else place


def _assignment(text: str, place: int) -> tuple[str, str, int]:
    name = NAME.match(text, place)
    if not name:
        raise _error(text, place, "is not NAME=value; mend or remove it")
    delimiter = DELIMITER.match(text, name.end())
    if not delimiter:
        # A bare name takes its value from the shell that runs Compose.
        end = END.match(text, name.end())
        if not end:
            raise _error(text, place, "is not NAME=value; mend or remove it")
        return name[1], "", end.end()
    value, place = _value(text, delimiter.end())
    return name[1], value, place


def _value(text: str, place: int) -> tuple[str, int]:
    quote = text[place : place + 1]
    if quote not in {"'", '"'}:
        bare = BARE.match(text, place)
        line = bare[0] if bare else ""
        return COMMENT.sub("", line, count=1).rstrip(" \t"), place + len(line)
    found = (SINGLE if quote == "'" else DOUBLE).match(text, place)
    if not found:
        raise _error(text, place, f"opens a quote {quote} that nothing closes")
    end = END.match(text, found.end())
    if not end:
        raise _error(text, place, "goes on behind the closing quote; put a blank and # before it")
    return _unescaped(quote, found[1]), end.end()


def _unescaped(quote: str, text: str) -> str:
    if quote == "'":
        return text.replace("\\'", "'")
    return re.sub(r"\\(.)", lambda found: _escape(found[1]), text, flags=re.DOTALL)


def _escape(character: str) -> str:
    if character in ESCAPES:
        return ESCAPES[character]
    # An escaped dollar stays escaped: nothing is interpolated here.
    return character if character in {'"', "\\"} else f"\\{character}"


def _error(text: str, place: int, what: str) -> DotenvError:
    return DotenvError(f"line {text.count(chr(10), 0, place) + 1} {what}")
