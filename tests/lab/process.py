"""Detached processes that are known by a pid file, safe against reuse of a pid."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process of the outer machine: its pid and when it began (clock ticks after boot)."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has this pid now, None when there is none (or only a zombie)."""
        fields = _stat(pid)
        return None if fields is None or fields[0] == "Z" else cls(pid, int(fields[19]))

    @classmethod
    def load(cls, pid_file: Path) -> Process | None:
        """The process that a pid file names, None when it has ended."""
        try:
            data = json.loads(pid_file.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        process = cls(int(data["pid"]), int(data["started"]))
        return process if process.alive() else None

    def save(self, pid_file: Path) -> None:
        """Write the pid file at once (a reader never sees half of it)."""
        beside = pid_file.with_suffix(".new")
        beside.write_text(json.dumps({"pid": self.pid, "started": self.started}))
        beside.replace(pid_file)

    def alive(self) -> bool:
        return Process.of(self.pid) == self

    def signal(self, number: int) -> None:
        """Send a signal; nothing happens when the process has ended."""
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(self.pid)
            try:
                if self.alive():
                    signal.pidfd_send_signal(handle, number)
            finally:
                os.close(handle)

    def wait(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for the end; True when it has ended."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            if not self.alive():
                return True
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            return bool(poll.poll(timeout * 1000))
        finally:
            os.close(handle)
            self._reap()

    def kill(self) -> None:
        """SIGKILL and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.wait(10)

    def _reap(self) -> None:
        # Only a process that this one started can be reaped; init does it for all others.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)


def spawn(
    argv: Sequence[str], *, log: Path, pid_file: Path, env: Mapping[str, str] | None = None
) -> Process:
    """Start a detached process (its own session, output to `log`) that outlives this one."""
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawnp(
        argv[0],
        list(argv),
        dict(os.environ if env is None else env),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigdef=[signal.SIGPIPE, signal.SIGTERM, signal.SIGINT],
    )
    fields = _stat(pid)
    process = Process(pid, int(fields[19]) if fields else 0)
    process.save(pid_file)
    return process


def first_child_as_init(parent: int) -> Process | None:
    """The child of `parent` that is process 1 of a pid namespace of its own."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            status = (entry / "status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        ids = fields.get("NSpid", "").split()
        if int(fields.get("PPid", "0")) == parent and len(ids) > 1 and ids[-1] == "1":
            return Process.of(int(entry.name))
    return None


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third on (proc_pid_stat(5))."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()
