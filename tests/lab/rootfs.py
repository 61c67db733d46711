"""The bare Debian that every host starts from: built once, kept, never written to again."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import tempfile
from pathlib import Path

from tests.lab.command import run

SUITE = "trixie"
OPERATOR = "operator"

# Bare: what a minimal installation with an SSH server has, plus Python. The deploy brings the rest.
_PACKAGES = (
    "systemd",
    "systemd-sysv",
    "libpam-systemd",
    "dbus",
    "openssh-server",
    "python3",
    "sudo",
    "iproute2",
    "iputils-ping",
    "procps",
    "kmod",
    "netbase",
    "tzdata",
    "cron",
    "logrotate",
    "ca-certificates",
)
_NEVER = ("docker.io", "docker-ce", "ufw", "fail2ban")

# On an outer machine with version 1 control groups nspawn mounts them read-only, and a container
# engine needs to write them (cgroups(7)). Elsewhere the condition leaves the unit out.
_CGROUP_UNIT = """[Unit]
Description=Lab: let this host manage its control groups
ConditionPathExists=!/sys/fs/cgroup/cgroup.controllers
DefaultDependencies=no
After=local-fs.target
Before=sysinit.target docker.service containerd.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/lab-cgroup

[Install]
WantedBy=sysinit.target
"""
_CGROUP_SCRIPT = """#!/bin/sh
set -eu
mount -o remount,rw /sys/fs/cgroup
for controller in cpuset devices blkio cpuacct freezer pids cpu memory; do
    if mountpoint -q "/sys/fs/cgroup/$controller"; then
        mount -o remount,bind,rw "/sys/fs/cgroup/$controller"
    fi
done
"""
# A timer that takes apt's lock at its own hour makes a run differ from the last one.
_MASKED = ("apt-daily.timer", "apt-daily-upgrade.timer", "console-getty.service")


def ensure(cache: Path) -> Path:
    """The tree for today's recipe; made (about a minute) when it is not in `cache`.

    Raises CommandError when a package cannot be had.
    """
    tree = cache / "trees" / _key()
    tree.parent.mkdir(mode=0o755, exist_ok=True)
    with (cache / "trees.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _remove_left(tree.parent)
        if not tree.exists():
            _build(tree)
    return tree


def _key() -> str:
    """A name for the recipe: this file is the recipe."""
    return f"{SUITE}-{hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]}"


def _remove_left(trees: Path) -> None:
    for left in trees.glob("new-*"):
        shutil.rmtree(left)


def _build(tree: Path) -> None:
    new = Path(tempfile.mkdtemp(dir=tree.parent, prefix="new-"))
    new.chmod(0o755)
    bootstrap = ["mmdebstrap", "--quiet", "--variant=minbase", "--mode=root"]
    run([*bootstrap, f"--include={','.join(_PACKAGES)}", SUITE, str(new)], timeout=1200)
    _configure(new)
    new.rename(tree)


def _configure(tree: Path) -> None:
    for name in ("rsa", "ecdsa", "ed25519"):
        for key in (tree / "etc/ssh").glob(f"ssh_host_{name}_key*"):
            key.unlink()
    (tree / "etc/machine-id").write_text("uninitialized\n")
    _write(tree / "usr/local/sbin/lab-cgroup", _CGROUP_SCRIPT, 0o755)
    _write(tree / "etc/systemd/system/lab-cgroup.service", _CGROUP_UNIT)
    _write(tree / "etc/sudoers.d/operator", f"{OPERATOR} ALL=(ALL:ALL) NOPASSWD: ALL\n", 0o440)
    inside = ["chroot", str(tree)]
    # Debian has a system group of this name already.
    run([*inside, "useradd", "--create-home", "--gid=operator", "--shell=/bin/bash", OPERATOR])
    run([*inside, "systemctl", "enable", "lab-cgroup.service"])
    run([*inside, "systemctl", "mask", *_MASKED])
    present = run([*inside, "dpkg-query", "-f", "${Package}\n", "-W"]).stdout.split()
    assert not set(present) & set(_NEVER), "the tree is no longer bare"


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
