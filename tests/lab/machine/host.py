"""Boot, cut, reboot and remove a bare Debian host: systemd, sshd and python3, nothing else.

The root tree is made once by mmdebstrap and kept; each host runs on an overlay of it. Everything
made here is named nxlab, and what a killed run left behind is removed by the next.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(os.environ.get("NEXUS_LAB_DIR", "/var/lib/nexus-lab"))
PACKAGES = (
    "systemd,systemd-sysv,dbus,openssh-server,python3,sudo,iproute2,ca-certificates,procps,"
    "netbase,libpam-systemd"
)
SUITE = "trixie"
NETWORK = "10.77.0"
NAMESPACE = "nxlab-h1"
NEIGHBOUR = "nxlab-n1"
CGROUP_V1 = ("cpuset", "devices", "blkio", "cpuacct", "freezer", "pids", "cpu", "memory")
CGROUP_UNIT = """[Unit]
Description=Lab only: let Docker use the cgroup v1 hierarchies of the outer machine
DefaultDependencies=no
Before=docker.service containerd.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'mount -o remount,rw /sys/fs/cgroup; {mounts}'
[Install]
WantedBy=sysinit.target
"""


class Host:
    """The lab's host at 10.77.0.11; the operator's side is 10.77.0.1."""

    address = f"{NETWORK}.11"

    def __init__(self) -> None:
        self.folder = ROOT / "h1"
        self.root = self.folder / "root"
        self.key = self.folder / "key"
        self.known_hosts = self.folder / "known_hosts"
        self._process: subprocess.Popen[bytes] | None = None

    def create(self) -> None:
        """A fresh host, booted, with SSH open to the lab's key."""
        remove_remains()
        for name in ("upper", "work", "root", "docker"):
            (self.folder / name).mkdir(parents=True)
        layers = f"lowerdir={tree()},upperdir={self.folder}/upper,workdir={self.folder}/work"
        run("mount", "-t", "overlay", "nxlab", "-o", layers, str(self.root))
        self._prepare()
        _network()
        self.start()

    def _prepare(self) -> None:
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key))
        ssh = self.root / "root/.ssh"
        ssh.mkdir(mode=0o700, exist_ok=True)
        shutil.copy(self.key.with_suffix(".pub"), ssh / "authorized_keys")
        host_key = self.root / "etc/ssh/ssh_host_ed25519_key"
        host_key.unlink(missing_ok=True)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(host_key))
        public = host_key.with_suffix(".pub").read_text().split()[:2]
        self.known_hosts.write_text(f"{self.address} {' '.join(public)}\n")
        etc = self.root / "etc"
        (etc / "resolv.conf").unlink(missing_ok=True)
        shutil.copy("/etc/resolv.conf", etc / "resolv.conf")
        (etc / "hostname").write_text("h1\n")
        (etc / "hosts").write_text("127.0.0.1 localhost\n127.0.1.1 h1\n")
        (etc / "machine-id").unlink(missing_ok=True)
        # The namespace's addresses are set from outside; networkd would wait two minutes for them.
        for unit in ("systemd-networkd.service", "systemd-networkd-wait-online.service"):
            (etc / "systemd/system" / unit).symlink_to("/dev/null")
        if Path("/sys/fs/cgroup/memory").is_dir():
            folder = "/sys/fs/cgroup"
            mounts = "; ".join(f"mount -o remount,bind,rw {folder}/{c}" for c in CGROUP_V1)
            unit = etc / "systemd/system/lab-cgroup.service"
            unit.write_text(CGROUP_UNIT.format(mounts=mounts))
            wants = etc / "systemd/system/sysinit.target.wants"
            wants.mkdir(exist_ok=True)
            (wants / unit.name).symlink_to(f"../{unit.name}")

    def start(self) -> None:
        """Boot and wait until sshd answers."""
        capabilities = ("--capability=all", "--system-call-filter=add_key keyctl bpf")
        self._process = subprocess.Popen(
            [
                "systemd-nspawn",
                "-q",
                "-D",
                str(self.root),
                "--machine=nxlab-h1",
                "--register=no",
                "--keep-unit",
                "--timezone=off",
                "--resolv-conf=off",
                f"--network-namespace-path=/run/netns/{NAMESPACE}",
                f"--bind={self.folder}/docker:/var/lib/docker",
                *capabilities,
                "-b",
                "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1",
            ],
            env={**os.environ, "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network"},
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / "console").open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        (self.folder / "pid").write_text(str(self._process.pid))
        self.wait()

    def wait(self, seconds: float = 60) -> None:
        """Until sshd says its name.

        Raises:
            TimeoutError: it did not within `seconds`.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if answers(self.address, 22):
                return
            time.sleep(0.1)
        raise TimeoutError(f"no sshd on {self.address}; see {self.folder}/console")

    def run(self, *argv: str, check: bool = True) -> str:
        """A command inside, by namespace entry: it works when SSH does not."""
        leader = _children(int((self.folder / "pid").read_text()))[0]
        done = subprocess.run(
            ["nsenter", "-t", str(leader), "-a", *argv], capture_output=True, text=True, check=False
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"{argv}: {done.stdout}{done.stderr}")
        return done.stdout

    def power_cut(self) -> None:
        """Everything inside dies at once; what was written stays."""
        if self._process:
            leader = _children(self._process.pid)
            for pid in leader:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait(30)
            while answers(self.address, 22, 0.2):
                time.sleep(0.05)

    def reboot(self) -> None:
        """A clean shutdown, then a boot."""
        self.run("systemctl", "--no-block", "poweroff", check=False)
        if self._process:
            self._process.wait(60)
        self.start()

    def destroy(self) -> None:
        """No trace but the cached tree."""
        self.power_cut()
        remove_remains()


def tree() -> Path:
    """The cached root tree; made under another name first, so that a killed build leaves none."""
    recipe = hashlib.sha256(f"{SUITE} {PACKAGES}".encode()).hexdigest()[:12]
    place = ROOT / f"tree-{recipe}"
    if not place.is_dir():
        new = ROOT / f"tree-{recipe}.new"
        shutil.rmtree(new, ignore_errors=True)
        new.parent.mkdir(parents=True, exist_ok=True)
        run("mmdebstrap", "-q", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(new))
        new.rename(place)
    return place


def _network() -> None:
    run("ip", "link", "add", "nxlab0", "type", "bridge")
    run("ip", "addr", "add", f"{NETWORK}.1/24", "dev", "nxlab0")
    run("ip", "link", "set", "nxlab0", "up")
    for namespace, last in ((NAMESPACE, 11), (NEIGHBOUR, 200)):
        outer = f"nxlab{last}"
        run("ip", "netns", "add", namespace)
        peer = ("peer", "name", "eth0", "netns", namespace)
        run("ip", "link", "add", outer, "type", "veth", *peer)
        run("ip", "link", "set", outer, "master", "nxlab0", "up")
        inside = ("ip", "-n", namespace)
        run(*inside, "addr", "add", f"{NETWORK}.{last}/24", "dev", "eth0")
        run(*inside, "link", "set", "lo", "up")
        run(*inside, "link", "set", "eth0", "up")
        run(*inside, "route", "add", "default", "via", f"{NETWORK}.1")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    rules = (
        "table ip nxlab {\n chain post {\n  type nat hook postrouting priority 100\n"
        f"  ip saddr {NETWORK}.0/24 ip daddr != {NETWORK}.0/24 masquerade\n }}\n}}\n"
    )
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)


def remove_remains() -> None:
    """Take away whatever a run has left: processes, mounts, namespaces, the bridge, the rules."""
    folder = ROOT / "h1"
    pid_file = folder / "pid"
    if pid_file.is_file():
        pid = int(pid_file.read_text())
        command = Path(f"/proc/{pid}/cmdline")
        if command.is_file() and b"nxlab-h1" in command.read_bytes():
            for victim in (*_children(pid), pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
            time.sleep(0.5)
    if folder.is_dir():
        with contextlib.suppress(subprocess.CalledProcessError):
            run("umount", "-R", str(folder / "root"))
        shutil.rmtree(folder)
    for namespace in (NAMESPACE, NEIGHBOUR):
        if Path(f"/run/netns/{namespace}").exists():
            run("ip", "netns", "del", namespace)
    # A namespace goes away some time after its name; its end of a cable must not linger.
    for link in ("nxlab0", "nxlab11", "nxlab200"):
        subprocess.run(["ip", "link", "del", link], capture_output=True, check=False)
    subprocess.run(["nft", "delete", "table", "ip", "nxlab"], capture_output=True, check=False)


def answers(address: str, port: int, seconds: float = 1, namespace: str = "") -> bool:
    """Whether something accepts a TCP connection there, from here or from a namespace."""
    if namespace:
        code = f"import socket; socket.create_connection(({address!r}, {port}), {seconds})"
        argv = ["ip", "netns", "exec", namespace, "python3", "-c", code]
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0
    try:
        with socket.create_connection((address, port), seconds) as connection:
            return bool(connection.recv(1)) if port == 22 else True
    except OSError:
        return False


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.is_file() else []


def run(*argv: str) -> None:
    """A command that must succeed; its output appears only when it does not."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise subprocess.CalledProcessError(done.returncode, argv, done.stdout, done.stderr)


@contextlib.contextmanager
def disposable_host() -> Iterator[Host]:
    """A fresh host that is gone at the end, also after a failure."""
    host = Host()
    try:
        host.create()
        yield host
    finally:
        host.destroy()
