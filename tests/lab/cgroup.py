"""A control group of its own for each host: two hosts in one would share their slices."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from tests.lab.command import LabError
from tests.lab.network import PREFIX

_ROOT = Path("/sys/fs/cgroup")
# Eight times what a group has by itself, in the words of version 1 and 2.
_PREFERRED = {"cpu.shares": "8192", "cpu.weight": "800"}


def is_version_1() -> bool:
    """Whether the outer machine runs the old hierarchies, one a controller."""
    return not (_ROOT / "cgroup.controllers").exists()


def create(host: str) -> list[Path]:
    """Make the host's groups; returns the files to write its first process into."""
    groups = []
    for hierarchy in _hierarchies():
        group = hierarchy / PREFIX / host
        group.mkdir(parents=True, exist_ok=True)
        for parent in (group.parent, group):
            _open_for_children(parent)
        groups.append(group / "cgroup.procs")
    return groups


def prefer(host: str) -> None:
    """Give a host the processors before others have them.

    All hosts come before the outer machine's own programs: what these do is drive other hosts.
    """
    for hierarchy in _hierarchies():
        for group in (hierarchy / PREFIX, hierarchy / PREFIX / host):
            for name, weight in _PREFERRED.items():
                if (group / name).exists():
                    (group / name).write_text(weight)


def remove(host: str) -> None:
    """Kill what still runs in the host's groups and remove them."""
    for hierarchy in _hierarchies():
        _remove_tree(hierarchy / PREFIX / host)
        with contextlib.suppress(OSError):
            (hierarchy / PREFIX).rmdir()


def remove_all() -> None:
    """Remove the groups of every host."""
    for hierarchy in _hierarchies():
        _remove_tree(hierarchy / PREFIX)


def _hierarchies() -> list[Path]:
    if not is_version_1():
        return [_ROOT]
    return [path for path in sorted(_ROOT.iterdir()) if path.is_dir() and os.path.ismount(path)]


def _open_for_children(group: Path) -> None:
    parent = group.parent
    if not is_version_1():
        controllers = (parent / "cgroup.controllers").read_text().split()
        (parent / "cgroup.subtree_control").write_text(" ".join(f"+{c}" for c in controllers))
        return
    # An empty cpuset takes no process (cgroup-v1/cpusets).
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (group / name).exists() and not (group / name).read_text().strip():
            (group / name).write_text((parent / name).read_text())


def _remove_tree(group: Path) -> None:
    if not group.exists():
        return
    deadline = time.monotonic() + 10
    while not _try_remove(group):
        if time.monotonic() > deadline:
            raise LabError(f"the control group {group} cannot be emptied")
        time.sleep(0.05)


def _try_remove(group: Path) -> bool:
    for directory, _names, _files in os.walk(group, topdown=False):
        _kill_members(Path(directory))
        with contextlib.suppress(OSError):
            Path(directory).rmdir()
    return not group.exists()


def _kill_members(group: Path) -> None:
    with contextlib.suppress(OSError):
        for pid in (group / "cgroup.procs").read_text().split():
            if int(pid) > 1:
                os.kill(int(pid), signal.SIGKILL)
