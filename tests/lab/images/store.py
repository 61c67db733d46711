"""The cache: blobs by digest, and what a recipe came to by the hash of the recipe."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

Result = TypeVar("Result")


class Store:
    """A folder of whole things only: a file gets its name when it is complete."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._blobs = folder / "blobs"
        self._results = folder / "results"
        self._parts = folder / "parts"
        for made in (self._blobs, self._results, self._parts):
            made.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One builder at a time; what a killed one left half done is removed."""
        with (self.folder / "lock").open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            for part in self._parts.iterdir():
                part.unlink()
            yield

    def scratch(self, suffix: str = "") -> Path:
        """The name of a new empty file that the next holder of the lock removes."""
        handle, name = tempfile.mkstemp(dir=self._parts, suffix=suffix)
        os.close(handle)
        return Path(name)

    def write(self, fill: Callable[[IO[bytes]], Result], digest: Callable[[Result], str]) -> Result:
        """Let `fill` write a file and keep it under the digest that it came to."""
        part = self.scratch()
        with part.open("wb") as sink:
            result = fill(sink)
            sink.flush()
            os.fsync(sink.fileno())
        part.replace(self.blob(digest(result)))
        return result

    def put(self, content: bytes) -> str:
        """Keep `content`; its digest."""
        name = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if not self.blob(name).exists():
            self.write(lambda sink: sink.write(content), lambda _: name)
        return name

    def blob(self, digest: str) -> Path:
        """Where the content of this digest is, or will be."""
        return self._blobs / digest.replace(":", "-")

    def result(self, recipe: str) -> dict[str, Any] | None:
        """What building this recipe came to, if it was built and its blobs are still here."""
        try:
            found: dict[str, Any] = json.loads((self._results / recipe).read_text())
        except FileNotFoundError:
            return None
        return found if all(self.blob(name).exists() for name in found["blobs"]) else None

    def remember(self, recipe: str, result: dict[str, Any]) -> None:
        """Note what building `recipe` came to; `result["blobs"]` lists the digests it needs."""
        part = self.scratch()
        part.write_text(json.dumps(result, indent=1, sort_keys=True))
        part.replace(self._results / recipe)


def recipe_hash(*parts: object) -> str:
    """A name for everything that decides about a build's result."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
