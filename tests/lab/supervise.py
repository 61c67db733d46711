"""Keep one host powered: `python -m tests.lab.supervise DIRECTORY`.

A network namespace outlives the processes in it, rules and addresses included, so a host that
reboots (even by itself) gets a new one here, as a machine's memory is empty after a reset.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from tests.lab import cgroup
from tests.lab.layout import HostLayout
from tests.lab.network import host_namespace
from tests.lab.process import Process

# What nspawn ends with when the container asked for a reboot and --keep-unit is given.
_REBOOT = 133
# Joins the host's control groups first; "$1" counts them.
_JOIN = 'n=$1; shift; while [ "$n" -gt 0 ]; do echo $$ >"$1"; shift; n=$((n-1)); done; exec "$@"'


def main(directory: Path) -> int:
    """Boot until the host powers off; returns what nspawn ended with."""
    layout = HostLayout.load(directory)
    machine: subprocess.Popen[bytes] | None = None

    def power_off(_number: int, _frame: FrameType | None) -> None:
        if machine is None:
            raise SystemExit(0)
        machine.send_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, power_off)
    while True:
        machine = _boot(layout)
        status = machine.wait()
        print(f"systemd-nspawn ended with {status}", flush=True)
        if status != _REBOOT:
            return status


def _boot(layout: HostLayout) -> subprocess.Popen[bytes]:
    cgroup.remove(layout.name)
    groups = [str(path) for path in cgroup.create(layout.name)]
    host_namespace(layout.name, layout.number).create()
    # Not "yes": a sysctl written in the host would change the outer machine's kernel.
    environment = {**os.environ, "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network"}
    join = ["sh", "-c", _JOIN, "join", str(len(groups)), *groups]
    machine = subprocess.Popen([*join, *_nspawn(layout)], env=environment)
    process = Process.of(machine.pid)
    if process is not None:
        process.save(layout.nspawn_pid_file)
    return machine


def _nspawn(layout: HostLayout) -> list[str]:
    binds = [f"--bind={outer}:{inner}" for inner, outer in layout.volumes().items()]
    return [
        "systemd-nspawn",
        "--quiet",
        f"--directory={layout.root}",
        f"--machine={layout.machine}",
        f"--hostname={layout.name}",
        "--register=no",
        "--keep-unit",
        f"--network-namespace-path=/run/netns/{layout.machine}",
        "--capability=all",
        "--system-call-filter=add_key keyctl bpf",
        "--resolv-conf=off",
        "--timezone=off",
        "--bind=/dev/net/tun",
        "--link-journal=no",
        *binds,
        "--boot",
        *(["SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"] if cgroup.is_version_1() else []),
    ]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
