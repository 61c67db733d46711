"""A bit that flips by itself is found and named; what somebody changed is learned."""

from __future__ import annotations

import os
import sqlite3
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from roles import scrub
from roles.backup import SCRUB
from tests.host_programs import loaded, text_of
from tests.unit.conftest import context_from


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """A folder with three films."""
    folder = tmp_path / "media"
    (folder / "old").mkdir(parents=True)
    for name in ("a", "b", "old/c"):
        (folder / name).write_bytes(os.urandom(3 << 20))
    return folder


@pytest.fixture
def program(media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The host's program, with folders of the test's."""
    role = scrub.desired(context_from())
    module = loaded(text_of(role, SCRUB), SCRUB)
    monkeypatch.setattr(module, "FOLDERS", [str(media)])
    monkeypatch.setattr(module, "STATE", tmp_path)
    monkeypatch.setattr(module, "METRICS", tmp_path / "media.prom")
    # Each night is a month after the one before.
    monkeypatch.setattr(module, "MONTH", -1)
    monkeypatch.setattr(sys, "argv", ["scrub"])
    return module


@pytest.fixture
def night(program: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """One run: its status, its errors and what it said."""

    def run() -> str:
        status = program.main()
        said = capsys.readouterr()
        return f"{status} {said.err}{said.out}"

    return run


def flip(path: Path) -> None:
    """Change one bit below the file system, as it were: no time is any other."""
    seen, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def test_a_flipped_bit_is_named_until_it_is_mended(media: Path, night: Callable[[], str]) -> None:
    assert night().startswith("0 ")
    assert night().startswith("0 ")
    good, film = (media / "old/c").read_bytes(), media / "old/c"
    times = (film.stat().st_atime_ns, film.stat().st_mtime_ns)
    flip(film)
    for _ in range(2):
        said = night()
        assert said.startswith(f"1 <3>{film} has changed by itself"), said
        assert said.count("<3>") == 1 and f"DAMAGED: {film}" in said
    film.write_bytes(good)
    os.utime(film, ns=times)
    said = night()
    assert said.startswith("0 ") and said.endswith("none damaged\n")
    flip(film)
    assert night().startswith("1 ")
    film.touch()
    assert night().startswith("0 ")


def test_what_somebody_changed_is_learned(media: Path, night: Callable[[], str]) -> None:
    night()
    (media / "a").write_bytes(b"another cut")
    (media / "new").write_bytes(b"new")
    (media / "b").unlink()
    (media / "link").symlink_to("/etc/shadow")
    assert night() == night()
    assert night().startswith("0 3 files, 0 not read yet")
    flip(media / "a")
    assert f"<3>{media / 'a'} has changed" in night()


def test_a_name_cannot_forge_a_line(media: Path, night: Callable[[], str]) -> None:
    odd = media / "x\n<3>y\x1b[31m\udcff"
    odd.write_bytes(b"content")
    night()
    flip(odd)
    said = night()
    assert "x\\n<3>y\\x1b[31m\\udcff has changed by itself" in said
    assert len(said.splitlines()) == 2


def test_a_night_is_bounded_and_the_next_goes_on(
    program: types.ModuleType,
    night: Callable[[], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, read = program.read, []

    def slow(known: sqlite3.Connection, deadline: float, path: bytes, *rest: object) -> None:
        read.append(path)
        real(known, deadline, path, *rest)
        clock[0] += program.NIGHT * 0.6

    clock = [0.0]
    monkeypatch.setattr(program.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(program, "read", slow)
    monkeypatch.setattr(program, "MONTH", 86400)
    assert "1 not read yet" in night()
    assert "0 not read yet" in night()
    night()
    # Nobody reads twice within the month.
    assert len(read) == len(set(read)) == 3
    assert "nexus_media_files 3\n" in (tmp_path / "media.prom").read_text()
    # The night may be over in the middle of a file, which is left for the next.
    with sqlite3.connect(tmp_path / "checksums.db") as known:
        known.execute("UPDATE file SET digest = NULL, read = 0")
        known.commit()
        row = known.execute("SELECT path, size, modified, digest FROM file").fetchone()
        real(known, clock[0] - 1, *row)
        assert known.execute("SELECT count(*) FROM file WHERE digest NOT NULL").fetchone() == (0,)


def test_a_disk_that_is_not_mounted_is_no_loss(
    media: Path, night: Callable[[], str], tmp_path: Path
) -> None:
    night()
    media.rename(tmp_path / "elsewhere")
    media.mkdir()
    assert "is empty and had 3 files; is its disk mounted?" in night()
    media.rmdir()
    assert night().startswith(f"1 <3>{media} cannot be read: No such file or directory")
    (tmp_path / "elsewhere").rename(media)
    flip(media / "a")
    assert f"<3>{media / 'a'} has changed" in night()


def test_what_cannot_be_read_is_named(
    program: types.ModuleType,
    media: Path,
    night: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    night()

    def broken(path: bytes, *_: object) -> bytes:
        if path.endswith(b"/b"):
            raise OSError(5, "Input/output error")
        return real(path, *_)

    real = program.content
    monkeypatch.setattr(program, "content", broken)
    assert night().startswith(f"1 <3>{media / 'b'} cannot be read: Input/output error")
    monkeypatch.setattr(program, "content", real)
    assert night().startswith("0 ")
