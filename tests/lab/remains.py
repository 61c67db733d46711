"""Remove a lab by what is there, not by what its run remembers: that one may be dead."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.lab import cgroup, forwarding, network
from tests.lab.base import Bases
from tests.lab.command import run
from tests.lab.host import Host
from tests.lab.layout import HostLayout
from tests.lab.process import Process
from tests.lab.record import Record


def is_up() -> bool:
    """Whether the lab's network is there (a reboot of the machine removes it)."""
    return (Path("/sys/class/net") / network.LAN.bridge).exists()


def is_up_to_stay() -> bool:
    """Whether a lab is up that was started to outlive the program that started it."""
    record = Record.load()
    if record is None or not record.persist or not is_up():
        return False
    # One whose package cache or registry has died is no lab any more, and the next run removes it.
    services = list(record.state.glob("*.pid"))
    return bool(services) and all(Process.load(pid_file) for pid_file in services)


def remove(state: Path) -> None:
    """Remove every process, mount, namespace and file of a lab, here and where a record says."""
    record = Record.load()
    states = _states(state)
    for directory in states:
        _remove_hosts(directory / "hosts")
        for pid_file in directory.glob("*.pid"):
            service = Process.load(pid_file)
            if service is not None:
                service.kill()
    cgroup.remove_all()
    network.remove()
    for directory in states:
        _empty(directory)
    if record is not None:
        forwarding.restore(record.forwarding)
        record.remove()


def _states(state: Path) -> set[Path]:
    record = Record.load()
    return {state} if record is None else {state, record.state}


def _remove_hosts(hosts: Path) -> None:
    for directory in hosts.glob("*"):
        if (directory / "host.json").exists():
            layout = HostLayout.load(directory)
            Host(layout, Bases(directory, directory), directory).destroy()


def _empty(directory: Path) -> None:
    for mount in _mounts_below(directory):
        run(["umount", mount])
    for path in directory.glob("*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _mounts_below(directory: Path) -> list[str]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    # Blanks in a path are written as octal (proc_mounts(5)); the lab's own folders have none.
    points = [line.split()[1] for line in lines]
    return sorted((p for p in points if p.startswith(f"{directory}/")), reverse=True)
