"""One lab at a time: its addresses and interfaces exist once on a machine."""

from __future__ import annotations

import fcntl
import os
import time

from tests.lab.command import LabError
from tests.lab.paths import LOCK_FILE


class Lock:
    """A lock that ends with the process, however that ends."""

    def __init__(self, wait: float) -> None:
        self._wait = wait
        self._handle: int | None = None

    def take(self, run_id: str) -> None:
        """Raises LabError when another run still holds it after the wait."""
        handle = os.open(LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        deadline = time.monotonic() + self._wait
        while not _try(handle):
            if time.monotonic() >= deadline:
                holder = os.read(handle, 200).decode(errors="replace").strip()
                os.close(handle)
                raise LabError(f"another lab runs here ({holder})")
            time.sleep(0.2)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"run {run_id}, process {os.getpid()}\n".encode(), 0)
        self._handle = handle

    def release(self) -> None:
        """Let the next run in; nothing happens when it is not held."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _try(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
