"""One disposable Debian host."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import CompletedProcess

from tests.lab import cgroup
from tests.lab.base import Bases
from tests.lab.command import LabError, run
from tests.lab.layout import HostLayout
from tests.lab.network import LAN, host_namespace
from tests.lab.paths import module_environment
from tests.lab.process import Process, first_child_as_init, spawn
from tests.lab.rootfs import OPERATOR

BOOT_SECONDS = 90.0
STOP_SECONDS = 60.0
_ENVIRONMENT = (
    "HOME=/root",
    "USER=root",
    "LOGNAME=root",
    "LANG=C.UTF-8",
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
)


@dataclass
class Host:
    """A host that lab.start_host made; `key_file` logs in as root and as `user`."""

    layout: HostLayout
    bases: Bases
    key_file: Path
    user: str = OPERATOR

    @property
    def name(self) -> str:
        return self.layout.name

    @property
    def address(self) -> str:
        return LAN.address(self.layout.number)

    @property
    def address6(self) -> str:
        return LAN.address6(self.layout.number)

    @property
    def known_hosts(self) -> Path:
        """Its public host key under its addresses and its name."""
        return self.layout.known_hosts

    @property
    def running(self) -> bool:
        return Process.load(self.layout.pid_file) is not None

    def ssh_argv(self, user: str = "root") -> list[str]:
        """The beginning of a strict ssh command line; a command may follow."""
        options = {
            "IdentityFile": self.key_file,
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": self.known_hosts,
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "ConnectTimeout": "5",
            "LogLevel": "ERROR",
            "Port": self.layout.ssh_port or 22,
        }
        settings = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return ["ssh", "-F", "none", *settings, f"{user}@{self.address}"]

    def ssh(
        self,
        command: Sequence[str] | str,
        *,
        user: str = "root",
        check: bool = True,
        timeout: float = 120,
    ) -> CompletedProcess[str]:
        """Run a command through SSH. Raises CommandError like `run`."""
        line = command if isinstance(command, str) else shlex.join(command)
        return run([*self.ssh_argv(user), "--", line], check=check, timeout=timeout)

    def run(
        self,
        command: Sequence[str] | str,
        *,
        check: bool = True,
        stdin: str = "",
        timeout: float = 120,
    ) -> CompletedProcess[str]:
        """Run as root without SSH (a list, or a line for bash), so also when SSH is cut.

        Raises CommandError for a status other than 0 unless `check` is False, LabError when
        the host does not run or the time (seconds) is over.
        """
        inner = ["bash", "-c", command] if isinstance(command, str) else list(command)
        return run([*self._enter(), *inner], check=check, stdin=stdin, timeout=timeout)

    def shell(self) -> int:
        """An interactive root shell, also when SSH is cut; returns its exit status."""
        return subprocess.run([*self._enter(), "bash", "-l"], check=False).returncode

    def start(self, ssh_port: int | None = 22) -> None:
        """Power on and wait until SSH answers on `ssh_port` (None: until systemd is through).

        Raises LabError with the console's end when it does not within 90 s.
        """
        if self.running:
            return
        self.layout = replace(self.layout, ssh_port=ssh_port)
        self.layout.save()
        self._mount()
        spawn(
            [sys.executable, "-m", "tests.lab.supervise", str(self.layout.directory)],
            log=self.layout.console,
            pid_file=self.layout.pid_file,
            env=module_environment(),
        )
        self.wait_ready()

    def wait_ready(self, timeout: float = BOOT_SECONDS) -> None:
        """Wait until the host is up, as `start` does; for a host that reboots by itself."""
        ready = self._booted if self.layout.ssh_port is None else self._ssh_answers
        deadline = time.monotonic() + timeout
        while not ready():
            if not self.running or time.monotonic() > deadline:
                raise LabError(f"{self.name} did not come up: {self.console()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Shut down in order; a host that takes longer than 60 s is cut off."""
        supervisor = Process.load(self.layout.pid_file)
        if supervisor is not None:
            supervisor.signal(signal.SIGTERM)
            supervisor.wait(STOP_SECONDS)
        self.power_cut()

    def power_cut(self) -> None:
        """Kill everything at once. What was written stays, synced or not: the disk lives on."""
        init = self._init()
        for process in (Process.load(self.layout.pid_file), init):
            if process is not None:
                process.kill()
        cgroup.remove(self.name)
        host_namespace(self.name, self.layout.number).remove()
        for file in (self.layout.pid_file, self.layout.nspawn_pid_file):
            file.unlink(missing_ok=True)

    def reboot(self) -> None:
        """Shut down in order and start again, on the same SSH port."""
        self.stop()
        self.start(self.layout.ssh_port)

    def save(self, as_name: str) -> None:
        """Keep this stopped host's state as a base for others. Raises LabError when it runs."""
        if self.running:
            raise LabError(f"stop {self.name} before saving it")
        self.bases.save(self.layout, as_name)

    def destroy(self) -> None:
        """Remove the host and everything on it."""
        self.power_cut()
        while self.layout.root.is_mount():
            run(["umount", str(self.layout.root)])
        _remove_nspawn_remains(self.layout.machine)
        while self.layout.directory.exists():
            # Files go by themselves while the last processes end.
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(self.layout.directory)

    def console(self) -> str:
        """What the host has printed while booting."""
        file = self.layout.console
        return file.read_text(errors="replace") if file.exists() else ""

    def prepare(self, write_identity: Callable[[HostLayout], None]) -> None:
        """Mount the new host's disk and let `write_identity` make it this one."""
        for directory in (self.layout.upper, self.layout.work, self.layout.root):
            directory.mkdir(mode=0o755, exist_ok=True)
        for folder in self.layout.volumes().values():
            folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._mount()
        write_identity(self.layout)

    def _mount(self) -> None:
        layout = self.layout
        if layout.root.is_mount():
            return
        lowers = ":".join(str(lower) for lower in layout.lowers)
        # Without these an upper layer that was copied could not be a lower one (overlayfs.rst).
        features = "redirect_dir=off,metacopy=off,index=off"
        options = f"lowerdir={lowers},upperdir={layout.upper},workdir={layout.work},{features}"
        run(["mount", "-t", "overlay", layout.machine, "-o", options, str(layout.root)])

    def _init(self) -> Process | None:
        nspawn = Process.load(self.layout.nspawn_pid_file)
        return None if nspawn is None else first_child_as_init(nspawn.pid)

    def _enter(self) -> list[str]:
        init = self._init()
        if init is None:
            raise LabError(f"{self.name} does not run: {self.console()[-500:]}")
        return ["nsenter", "--all", f"--target={init.pid}", "env", "-i", *_ENVIRONMENT]

    def _ssh_answers(self) -> bool:
        try:
            with socket.create_connection((self.address, self.layout.ssh_port or 22), 1) as link:
                link.settimeout(5)
                return link.recv(4) == b"SSH-"
        except OSError:
            return False

    def _booted(self) -> bool:
        if self._init() is None:
            return False
        state = self.run(["systemctl", "is-system-running"], check=False).stdout.strip()
        return state in ("running", "degraded")


def _remove_nspawn_remains(machine: str) -> None:
    """nspawn that was killed leaves folders (newer ones a mount) for talking to its host."""
    for kind in ("propagate", "unix-export"):
        left = Path("/run/systemd/nspawn") / kind / machine
        if left.is_mount():
            run(["umount", str(left)])
        if left.is_dir():
            shutil.rmtree(left)
