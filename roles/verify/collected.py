"""A collection as tests read it: parsed once, no host needed."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from roles.core import transport
from roles.core.engine_socket import holds_engine_socket
from roles.verify.collector import KILL_DAYS

SERVICE = "com.docker.compose.service"
PROJECT = "com.docker.compose.project"
# linux/capability.h: the bit of each capability is its place in this list.
CAPABILITIES = (
    *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID"),
    *("SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW"),
    *("IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE"),
    *("SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME"),
    *("SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP"),
    *("MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ"),
    *("PERFMON", "BPF", "CHECKPOINT_RESTORE"),
)
UNLIMITED_V1 = 2**60


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that takes connections (TCP) or packets (UDP); the address is "*" for any."""

    protocol: str
    address: str
    port: int
    process: str

    @property
    def is_local(self) -> bool:
        """Whether only the host itself reaches it."""
        return self.address != "*" and ip_address(self.address).is_loopback

    def __str__(self) -> str:
        return f"{self.protocol} {self.address} port {self.port} ({self.process or 'kernel'})"


@dataclass(frozen=True, slots=True)
class Mounted:
    """One line of proc_pid_mountinfo(5): where, which file system, and its options."""

    target: str
    kind: str
    source: str
    options: frozenset[str]


@dataclass(frozen=True)
class Container:
    """What the engine and the kernel say of one container."""

    inspect: Mapping[str, Any]
    processes: tuple[Mapping[str, Any], ...]
    mounts: tuple[Mounted, ...]
    limits: Mapping[str, str]

    @property
    def name(self) -> str:
        return str(self.inspect["Name"]).lstrip("/")

    @property
    def labels(self) -> Mapping[str, str]:
        return self.inspect["Config"]["Labels"] or {}

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the engine was asked to give it."""
        return dict(self.inspect["HostConfig"])

    @property
    def program(self) -> str:
        """The last part of its image's name, without tag and digest: "jellyfin"."""
        name = str(self.inspect["Config"]["Image"]).partition("@")[0].rpartition("/")[2]
        return name.partition(":")[0]

    @property
    def runs(self) -> bool:
        """Whether it runs or is meant to: one in a restart loop counts."""
        state = self.inspect["State"]
        return bool(state["Running"] or state.get("Restarting"))

    @property
    def health(self) -> str:
        """Docker's word for it, "" without a health check."""
        return str((self.inspect["State"].get("Health") or {}).get("Status", ""))

    @property
    def environment(self) -> Mapping[str, str]:
        """What `docker inspect` shows of its environment."""
        return dict(word.partition("=")[::2] for word in self.inspect["Config"]["Env"] or ())

    @property
    def keeps(self) -> list[Mapping[str, Any]]:
        """The mounts that it writes to and that outlive it; a volume without a name does not."""
        written = [m for m in self.inspect["Mounts"] if m["RW"]]
        return [m for m in written if m["Type"] == "bind" or _has_a_name(m)]

    @property
    def networks(self) -> Mapping[str, Any]:
        """The Docker networks that it is in."""
        return dict(self.inspect["NetworkSettings"]["Networks"] or {})

    @property
    def engine_sockets(self) -> list[str]:
        """The mounts through which it reaches an engine's socket."""
        sources = [str(mount.get("Source", "")) for mount in self.inspect["Mounts"]]
        return sorted(source for source in sources if holds_engine_socket(source))

    @property
    def published(self) -> set[tuple[str, int]]:
        """Protocol and host port of everything that it publishes."""
        wanted = self.inspect["HostConfig"]["PortBindings"] or {}
        taken = self.inspect["NetworkSettings"]["Ports"] or {}
        return {
            (inside.partition("/")[2], port)
            for ports in (wanted, taken)
            for inside, bindings in ports.items()
            for binding in bindings or ()
            for port in _ports(binding["HostPort"])
        }

    def status(self, key: str) -> set[str]:
        """The values that its processes have of one line of proc_pid_status(5)."""
        return {" ".join(process["status"][key].split()) for process in self.processes}

    def capabilities(self, key: str) -> set[str]:
        """The names of the capabilities that any of its processes has in a set, e.g. CapBnd."""
        return {name for mask in self.status(key) for name in capability_names(int(mask, 16))}

    @property
    def memory(self) -> int | None:
        """Bytes, None without a limit."""
        return _number(self.limits, "memory.max", "memory.limit_in_bytes")

    @property
    def swap(self) -> int | None:
        """Bytes of swap on top of the memory, None without a limit; 0 where none is counted."""
        if "memory.swap.max" in self.limits:
            return _number(self.limits, "memory.swap.max")
        if "memory.memsw.limit_in_bytes" not in self.limits:
            return 0
        both = _number(self.limits, "memory.memsw.limit_in_bytes")
        return None if both is None or self.memory is None else both - self.memory

    @property
    def pids(self) -> int | None:
        """Processes and threads, None without a limit."""
        return _number(self.limits, "pids.max")

    @property
    def cpus(self) -> float | None:
        """Processors, None without a limit."""
        if "cpu.max" in self.limits:
            quota, period = self.limits["cpu.max"].split()
        else:
            quota = self.limits.get("cpu.cfs_quota_us", "-1")
            period = self.limits.get("cpu.cfs_period_us", "100000")
        return None if quota in {"max", "-1"} else int(quota) / int(period)


class Collected:
    """One collection of a host."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw = raw
        self.containers = tuple(self._containers())

    @property
    def running(self) -> tuple[Container, ...]:
        """The containers that run, whoever deployed them."""
        return tuple(container for container in self.containers if container.runs)

    def playing(self, *programs: str) -> list[Container]:
        """The running containers of these programs."""
        return [container for container in self.running if container.program in programs]

    def reached_from(self, container: Container) -> list[tuple[str, int]]:
        """The program and port of each other container that it could connect to."""
        names = {other.inspect["Id"]: other.program for other in self.containers}
        places = self.raw["reached"].get(container.inspect["Id"], [])
        return sorted({(names[number], port) for number, port, *_ in places})

    def lacked_memory(self, container: Container) -> bool:
        """Whether something in it was killed for memory in the last days (collector.KILL_DAYS).

        The engine's flag has no time, stays while the container runs on, and goes when it starts
        anew. So it counts for a container that started within these days; the kernel's journal
        knows the kills of those that run longer, and those that a restart has wiped out.
        """
        state = container.inspect["State"]
        if state.get("OOMKilled"):
            started = datetime.fromisoformat(state["StartedAt"]).timestamp()
            if self.raw["time"] - started < KILL_DAYS * 86400:
                return True
        return container.inspect["Id"] in self.raw["memory_kills"]

    def of(self, project: str, service: str) -> Container | None:
        """The container of a Compose service, None where there is none."""
        wanted = {PROJECT: project, SERVICE: service}
        return next((c for c in self.containers if wanted.items() <= c.labels.items()), None)

    def listeners(self) -> list[Listener]:
        """Every listening socket of the host's own network namespace."""
        return [listener(line) for line in self.raw["listeners"]]

    def sshd(self) -> dict[str, str]:
        """sshd's effective settings, as it prints them: lower-case keywords."""
        return dict(line.partition(" ")[::2] for line in reversed(self.raw["sshd"]))

    def apt(self) -> dict[str, list[str]]:
        """apt's effective settings; a list is several values under one name."""
        found: dict[str, list[str]] = {}
        for line in self.raw["apt"]:
            name, _, value = line.rstrip(";").partition(" ")
            found.setdefault(name.rstrip(":"), []).append(value.strip('"'))
        return found

    def rules(self, family: str, chain: str) -> list[str]:
        """The rules of a chain of the filter table, in order, after `-A CHAIN`."""
        table = self.raw["filters"][family].partition("*filter\n")[2].partition("COMMIT")[0]
        head = f"-A {chain} "
        return [line.removeprefix(head) for line in table.splitlines() if line.startswith(head)]

    def policy(self, family: str, chain: str) -> str:
        """What happens to packets that no rule of a built-in chain decides about."""
        table = self.raw["filters"][family].partition("*filter\n")[2].partition("COMMIT")[0]
        head = f":{chain} "
        lines = (line for line in table.splitlines() if line.startswith(head))
        return next(lines, f"{head}none").split()[1]

    def addresses(self) -> list[str]:
        """The host's global addresses but for those of its bridges and containers."""
        return [
            address["local"]
            for interface in self.raw["addresses"]
            if not interface["ifname"].startswith(("lo", "docker", "br-", "nx-", "veth"))
            for address in interface["addr_info"]
            if address["scope"] == "global"
        ]

    def exposed_texts(self) -> Iterator[tuple[str, str]]:
        """Each place that more than its owner can read, and the text that stands there."""
        for container in self.containers:
            yield f"docker inspect {container.name}", json.dumps(container.inspect)
        for process in self.raw["processes"]:
            name = f"{process['name']} (pid {process['pid']})"
            yield f"arguments of {name}", process["argv"]
            yield f"environment of {name}", process["environment"]
        for name, text in self.raw["logs"].items():
            yield f"log of {name}", text

    def _containers(self) -> Iterator[Container]:
        for inspect in self.raw["containers"]:
            number = inspect["Id"]
            yield Container(
                inspect,
                tuple(p for p in self.raw["processes"] if p["container"] == number),
                tuple(mounted(line) for line in self.raw["mounts"].get(number, [])),
                self.raw["limits"].get(number, {}),
            )


def stdin() -> transport.Lines:
    """What transport.COMMAND reads so that it collects."""
    return transport.Lines([transport.program(Path(__file__).with_name("collector.py"))])


def unpack(line: str) -> Collected:
    """The collector's line, read."""
    return Collected(json.loads(zlib.decompress(base64.b64decode(line))))


def capability_names(mask: int) -> list[str]:
    """The names in a capability mask; a bit that is newer than the list is named by number."""
    bits = [bit for bit in range(mask.bit_length()) if mask >> bit & 1]
    return [CAPABILITIES[bit] if bit < len(CAPABILITIES) else f"CAP_{bit}" for bit in bits]


def listener(line: str) -> Listener:
    """One line of `ss -H -ltnup`."""
    words = line.split()
    address, _, port = words[4].rpartition(":")
    bare = address.partition("%")[0].strip("[]")
    process = words[6].partition('"')[2].partition('"')[0] if len(words) > 6 else ""
    address = "*" if bare in {"0.0.0.0", "::", "*"} else bare  # noqa: S104 - read, not bound
    return Listener(words[0], address, int(port), process)


def mounted(line: str) -> Mounted:
    """One line of proc_pid_mountinfo(5); options of the mount and of its file system."""
    words = line.split()
    kind, source, options = words[words.index("-") + 1 :][:3]
    of_mount = words[5].split(",")
    # A file system may be writable where this mount of it is not.
    extra = [option for option in options.split(",") if option not in {"ro", "rw"}]
    return Mounted(words[4], kind, source, frozenset([*of_mount, *extra]))


def _ports(text: str) -> range:
    """The ports of "", "8080" or "8080-8090", as `docker run -p` takes them."""
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1) if first else range(0)


def _has_a_name(mount: Mapping[str, Any]) -> bool:
    """Whether somebody named a volume; Docker's own names are 64 hexadecimal digits."""
    return mount["Type"] == "volume" and not re.fullmatch(r"[0-9a-f]{64}", mount.get("Name", ""))


def _number(limits: Mapping[str, str], *names: str) -> int | None:
    text = next((limits[name] for name in names if name in limits), "max")
    number = None if text in {"max", "-1"} else int(text)
    return None if number is None or number > UNLIMITED_V1 else number
