"""Layers as tar files whose bytes depend on their content alone."""

from __future__ import annotations

import gzip
import hashlib
import io
import posixpath
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

# Every time in a layer that a build would otherwise take from the clock: 2026-01-01.
EPOCH = 1_767_225_600
# Speed matters more than size: a layer travels over a bridge of the same machine.
GZIP_LEVEL = 1
MEDIA_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip"


@dataclass(frozen=True, slots=True)
class Entry:
    """One member of a thin layer: a file with content, a link (`target`), or a folder."""

    path: str
    content: bytes | None = None
    mode: int = 0o755
    owner: tuple[int, int] = (0, 0)
    target: str = ""


@dataclass(frozen=True, slots=True)
class Layer:
    """A stored layer: digest and size of the compressed file, digest of the tar inside."""

    digest: str
    size: int
    diff_id: str


class _Hashing(io.RawIOBase):
    """Passes bytes on and remembers their digest and number."""

    def __init__(self, sink: IO[bytes] | gzip.GzipFile) -> None:
        self._sink = sink
        self._sha256 = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._sink.write(data)
        self._sha256.update(data)
        self.size += len(data)
        return len(data)

    def tell(self) -> int:
        return self.size

    @property
    def digest(self) -> str:
        return f"sha256:{self._sha256.hexdigest()}"


def write_layer(sink: IO[bytes], fill: Callable[[tarfile.TarFile], None]) -> Layer:
    """Compress what `fill` adds to a tar file into `sink`."""
    outer = _Hashing(sink)
    with gzip.GzipFile(
        filename="", mode="wb", fileobj=outer, compresslevel=GZIP_LEVEL, mtime=0
    ) as packed:
        inner = _Hashing(packed)
        with tarfile.open(fileobj=inner, mode="w", format=tarfile.PAX_FORMAT) as archive:
            fill(archive)
    return Layer(outer.digest, outer.size, inner.digest)


def add_entries(archive: tarfile.TarFile, entries: Iterable[Entry]) -> None:
    """Add a thin layer's members, parents first, in the order of their names."""
    wanted = {entry.path: entry for entry in entries}
    for path in list(wanted):
        for parent in Path(path).parents:
            if str(parent) != ".":
                wanted.setdefault(str(parent), Entry(str(parent)))
    for path in sorted(wanted):
        member, content = _member(wanted[path])
        archive.addfile(member, content)


def _member(entry: Entry) -> tuple[tarfile.TarInfo, IO[bytes] | None]:
    member = tarfile.TarInfo(entry.path)
    member.mode, member.mtime = entry.mode, EPOCH
    member.uid, member.gid = entry.owner
    if entry.target:
        member.type, member.linkname = tarfile.SYMTYPE, entry.target
        return member, None
    if entry.content is None:
        member.type = tarfile.DIRTYPE
        return member, None
    member.size = len(entry.content)
    return member, io.BytesIO(entry.content)


def hidden(path: str) -> Entry:
    """The whiteout by which a layer takes a lower layer's file away."""
    folder, _, name = path.rpartition("/")
    return Entry(f"{folder}/.wh.{name}", content=b"", mode=0o644)


def copy_tree(
    source: tarfile.TarFile,
    archive: tarfile.TarFile,
    rewrite: Callable[[tarfile.TarInfo, IO[bytes] | None], bytes | None],
    dropped: Callable[[str], bool],
    newest: int,
) -> None:
    """Copy a root file system in the order of its names.

    Times of at least `newest` (the start of the build) come from the clock, not from a package,
    and become the epoch. Hard links follow their targets.
    """
    for member in _sorted(source, dropped):
        if member.mtime >= newest:
            member.mtime = EPOCH
        member.mtime = int(member.mtime)
        member.pax_headers = {}
        member.uname = member.gname = ""
        content = source.extractfile(member) if member.isreg() else None
        replaced = rewrite(member, content)
        if replaced is not None:
            member.size = len(replaced)
            archive.addfile(member, io.BytesIO(replaced))
        else:
            archive.addfile(member, content)


def _sorted(source: tarfile.TarFile, dropped: Callable[[str], bool]) -> Iterator[tarfile.TarInfo]:
    members = {}
    for member in source.getmembers():
        member.name = member.name.removeprefix("./").strip("/")
        member.linkname = member.linkname.removeprefix("./")
        # A link whose target goes would dangle.
        target = posixpath.join("/", posixpath.dirname(member.name), member.linkname)
        gone = dropped(member.name) or (member.issym() and dropped(target.lstrip("/")))
        if member.name not in ("", ".") and not gone:
            members[member.name] = member
    yield from (members[name] for name in sorted(members) if not members[name].islnk())
    yield from (members[name] for name in sorted(members) if members[name].islnk())
