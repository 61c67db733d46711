"""Log lines as Authelia writes them: logfmt or JSON, on the standard output, in a file, or both."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import IO

LEVELS = ("trace", "debug", "info", "warn", "error", "fatal")
_PLAIN = re.compile(r"[A-Za-z0-9\-._/@^+]+")


class Log:
    """Writes whole lines; `level` is the least that is written."""

    def __init__(
        self, level: str = "info", form: str = "text", file: Path | None = None, keep: bool = True
    ) -> None:
        self._least = LEVELS.index(level)
        self._form = form
        self._lock = threading.Lock()
        self._file = file
        self._sinks: list[IO[str]] = [sys.stdout] if keep or file is None else []
        if file is not None:
            self._sinks.append(file.open("a"))

    def reopen(self) -> None:
        """Go on in a fresh file of the same name, after the old one was moved away."""
        if self._file is None:
            return
        with self._lock:
            self._sinks.pop().close()
            self._sinks.append(self._file.open("a"))

    def write(self, level: str, message: str, fields: Mapping[str, object] | None = None) -> None:
        """Write one line with its fields in the order of their names."""
        if LEVELS.index(level) < self._least:
            return
        moment = datetime.now().astimezone().isoformat(timespec="seconds").replace("+00:00", "Z")
        name = "warning" if level == "warn" else level
        line = _as_json if self._form == "json" else _as_text
        text = line({"time": moment, "level": name, "msg": message}, fields or {})
        with self._lock:
            for sink in self._sinks:
                print(text, file=sink, flush=True)


def _as_json(first: Mapping[str, object], fields: Mapping[str, object]) -> str:
    return json.dumps({**fields, **first}, sort_keys=True, separators=(",", ":"))


def _as_text(first: Mapping[str, object], fields: Mapping[str, object]) -> str:
    pairs = [*first.items(), *sorted(fields.items())]
    return " ".join(f"{key}={_quoted(str(value))}" for key, value in pairs)


def _quoted(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    # What ends a line for some reader must not stand in it as it is.
    return "".join(map(_printable, json.dumps(text, ensure_ascii=False)))


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"
