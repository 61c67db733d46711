"""What the host itself says, read in one go; sent over stdin like the agent, never installed.

The agent reads what the deploy manages. This reads what the kernel and the daemons enforce, managed
or not: processes, mounts, control groups, sockets, effective settings. Standard library only, one
file, because it travels. It changes nothing and prints one line: zlib-compressed JSON in base64.
"""

from __future__ import annotations

import base64
import contextlib
import grp
import http.client
import json
import os
import re
import stat
import subprocess
import time
import urllib.request
import zlib
from pathlib import Path
from typing import Any

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/root",
}
CONTAINER_ID = re.compile(r"[0-9a-f]{64}")
STATUS = {
    *("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"),
    *("NoNewPrivs", "Seccomp"),
}
# cgroup v2 and v1 (https://docs.kernel.org/admin-guide/cgroup-v2.html, .../cgroup-v1/).
LIMITS = (
    *("memory.max", "memory.swap.max", "cpu.max", "pids.max"),
    *("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
    *("cpu.cfs_quota_us", "cpu.cfs_period_us"),
)
# What the kernel writes when it kills for memory (mm/oom_kill.c), and how far back it is read.
KILLED_IN = re.compile(r"task_memcg=\S*?([0-9a-f]{64})")
KILL_DAYS = 7
# As systemctl(1) shows ExecStart.
PROGRAM = re.compile(r"path=(\S+)")
NEXUS = Path("/opt/nexus")
LOG_LINES = "2000"
# What a neighbour on the wire could change (CIS Debian Linux Benchmark 3.3).
KERNEL = (
    *("net.ipv4.conf.all.accept_redirects", "net.ipv4.conf.all.accept_source_route"),
    *("net.ipv6.conf.all.accept_redirects", "net.ipv6.conf.all.accept_source_route"),
    *("net.ipv4.conf.all.send_redirects", "net.ipv4.tcp_syncookies"),
)
DOCUMENTS = Path("/usr/local/share/doc/nexus")
MOST_DOCUMENTS, LONGEST_DOCUMENT = 200, 40000
# Where images keep what is theirs alone.
OWN_FOLDERS = {"/config", "/cache", "/data"}
MOST_FOLDERS = 30
COMPOSE = "com.docker.compose.project."
# The name of a setting that is a secret, where its value stands beside it.
CREDENTIAL = re.compile(
    r"""([A-Za-z0-9_.-]*(?:passw(?:or)?d|secret|token|api_?key|private_?key|access_?key))"""
    r"""["']?[ \t]*[:=][ \t]*["']?([^\s"'#]+)""",
    re.IGNORECASE,
)
# A reference to another place, or nothing at all.
REFERENCE = re.compile(r"\$|/|true$|false$|null$|\{")
# The names of the figures that somebody tells now: those that Prometheus merely remembers are not
# among them. In words: count by (__name__) ({__name__=~".+"}).
FIGURES = "/api/v1/query?query=count%20by%20%28__name__%29%20%28%7B__name__%3D~%22.%2B%22%7D%29"
# What each program of a monitoring stack answers about itself, by its own port.
QUESTIONS = {
    "prometheus": (
        9090,
        (
            *("/api/v1/targets?state=active", "/api/v1/rules", "/api/v1/alertmanagers"),
            FIGURES,
        ),
    ),
    "grafana": (3000, ("/api/health",)),
    "loki": (3100, ("/loki/api/v1/labels",)),
    "jaeger": (16686, ("/", "/api/services")),
    "all-in-one": (16686, ("/",)),
}
LONGEST_ANSWER = 2_000_000
# Runs in a container's network: who accepts a connection, and what a Docker API lets it read.
REACH = """
import errno, http.client, json, select, socket, sys, time
poll, waiting, found = select.poll(), {}, []
for place in json.load(sys.stdin):
    each = socket.socket()
    each.setblocking(False)
    try:
        begun = each.connect_ex((place[1], place[2])) in (0, errno.EINPROGRESS)
    except OSError:
        begun = False
    if begun:
        poll.register(each, select.POLLOUT)
        waiting[each.fileno()] = (each, place)
# Long enough for a first packet that was lost and is sent anew after a second (RFC 6298, 2.1).
end = time.monotonic() + 2
# Also once when the time is over: on a busy host it passes while others have the processors.
while waiting and (ready := poll.poll(1000 * max(0, end - time.monotonic()))):
    for number, _ in ready:
        each, (name, address, port) = waiting.pop(number)
        poll.unregister(number)
        if each.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
            found.append([name, port, address])
        each.close()
for place in found:
    if place[1] in (2375, 2376):
        try:
            api = http.client.HTTPConnection(place[2], place[1], timeout=1)
            api.request("GET", f"/containers/{sys.argv[1]}/archive?path=/etc/hostname")
            place.append(api.getresponse().status)
        except (OSError, http.client.HTTPException):
            place.append(0)
print(json.dumps(found))
"""


def main() -> None:
    containers = inspect("container", output("docker", "ps", "-aq", "--no-trunc").split())
    images = inspect("image", sorted({container["Image"] for container in containers}))
    timers = json.loads(output("systemctl", "list-timers", "--all", "--output=json") or "[]")
    collection = {
        "time": time.time(),
        "containers": containers,
        "digests": {image["Id"]: image["RepoDigests"] or [] for image in images},
        "processes": processes(),
        "mounts": {c["Id"]: mounts(c["State"]["Pid"]) for c in containers},
        "limits": limits(),
        "memory_kills": memory_kills(),
        "listeners": output("ss", "-H", "-ltnup").splitlines(),
        "addresses": json.loads(output("ip", "-j", "address") or "[]"),
        "filters": {"4": output("iptables-save"), "6": output("ip6tables-save")},
        "sshd": output("sshd", "-T").splitlines(),
        "apt": output("apt-config", "dump").splitlines(),
        "docker": json.loads(output("docker", "info", "--format", "json") or "{}"),
        "docker_members": [name for g in grp.getgrall() if g.gr_name == "docker" for name in g[3]],
        "failed_units": output(
            "systemctl", "list-units", "--failed", "--plain", "--no-legend"
        ).splitlines(),
        "timers": timers,
        # A timer that is not loaded activates nothing.
        "reports": reports([timer["activates"] for timer in timers if timer["activates"]]),
        "tree": tree(),
        "logs": logs(containers),
        "networks": inspect("network", output("docker", "network", "ls", "-q").split()),
        "jails": re.findall(r"'([^']+)': \[", output("fail2ban-client", "banned")),
        "journald": output("systemd-analyze", "cat-config", "systemd/journald.conf").splitlines(),
        "kernel": {name: setting(name) for name in KERNEL},
        "places": places(containers),
        "documents": documents(containers),
        "written": written(containers),
        "proxy": {c["Id"]: settings(c) for c in containers if "traefik" in image(c)},
        "backups": read_json(NEXUS / "config/backup/plan.json"),
        "backup_record": read_json(Path("/var/lib/nexus/backup/record.json")),
        "monitoring": {c["Id"]: monitoring(c) for c in containers},
        "reached": reached(containers),
    }
    packed = zlib.compress(json.dumps(collection).encode())
    print(base64.b64encode(packed).decode(), flush=True)


def output(*argv: str, both: bool = False) -> str:
    """What a command prints, empty when it is not installed."""
    stderr = subprocess.STDOUT if both else subprocess.DEVNULL
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=ENVIRONMENT,
            check=False,
        )
    except FileNotFoundError:
        return ""
    return done.stdout.decode(errors="replace")


def inspect(kind: str, names: list[str]) -> list[dict[str, Any]]:
    if not names:
        return []
    found: list[dict[str, Any]] = json.loads(output("docker", kind, "inspect", *names) or "[]")
    return found


def processes() -> list[dict[str, Any]]:
    """Every process of the host with its container, what it may do, and what others can read."""
    found = []
    for place in Path("/proc").iterdir():
        if not place.name.isdigit():
            continue
        try:
            found.append(process(place))
        except OSError:
            continue  # it ended while it was read
    return found


def process(place: Path) -> dict[str, Any]:
    status = dict(line.split(":\t", 1) for line in lines(place / "status") if ":\t" in line)
    within = CONTAINER_ID.search((place / "cgroup").read_text())
    return {
        "pid": int(place.name),
        "name": status["Name"],
        "container": within.group() if within else "",
        "status": {key: value for key, value in status.items() if key in STATUS},
        "argv": text(place / "cmdline"),
        "environment": text(place / "environ"),
    }


def lines(path: Path) -> list[str]:
    return path.read_text(errors="replace").splitlines()


def text(path: Path) -> str:
    return path.read_bytes().decode(errors="replace").replace("\0", "\n")


def mounts(pid: int) -> list[str]:
    """proc_pid_mountinfo(5) of a container's first process; none where it does not run."""
    try:
        return lines(Path(f"/proc/{pid}/mountinfo")) if pid else []
    except OSError:
        return []


def limits() -> dict[str, dict[str, str]]:
    """The limits in each container's control groups, by the container's id."""
    found: dict[str, dict[str, str]] = {}
    for folder, _, files in os.walk("/sys/fs/cgroup"):
        within = CONTAINER_ID.search(Path(folder).name)
        if within:
            values = found.setdefault(within.group(), {})
            for name in LIMITS:
                # A container that restarts for ever takes its groups away while they are read.
                with contextlib.suppress(OSError):
                    if name in files:
                        values[name] = (Path(folder) / name).read_text().strip()
    return found


def memory_kills() -> list[str]:
    """The containers in which the kernel killed something for memory in the last days."""
    journal = ("journalctl", "--quiet", "--no-pager", "--output=cat", "_TRANSPORT=kernel")
    found = output(*journal, f"--since=-{KILL_DAYS}d", "--grep=oom-kill:")
    return sorted(set(KILLED_IN.findall(found)))


def units(names: list[str]) -> list[dict[str, str]]:
    """What systemd says of units, in their order."""
    if not names:
        return []
    fields = "--property=Id,LoadState,OnFailure,ExecStart"
    blocks = output("systemctl", "show", fields, "--", *names).strip().split("\n\n")
    return [dict(line.split("=", 1) for line in b.splitlines() if "=" in line) for b in blocks]


def reports(names: list[str]) -> dict[str, list[str]]:
    """The units that a failure of these starts, but for those that could not run."""
    started = {unit["Id"]: unit["OnFailure"].split() for unit in units(names) if "Id" in unit}
    wanted = sorted({name for several in started.values() for name in several})
    able = {name for name, unit in zip(wanted, units(wanted), strict=False) if runs(unit)}
    return {name: [each for each in several if each in able] for name, several in started.items()}


def runs(unit: dict[str, str]) -> bool:
    program = PROGRAM.search(unit.get("ExecStart", ""))
    return unit["LoadState"] == "loaded" and bool(program and os.access(program[1], os.X_OK))


def tree() -> dict[str, list[int]]:
    """Mode, user and group of what the deploy keeps, but for the applications' own data."""
    found = {}
    for folder, folders, files in os.walk(NEXUS):
        if Path(folder).parent == NEXUS / "data":
            folders.clear()
        for name in (*folders, *files):
            path = Path(folder, name)
            with contextlib.suppress(FileNotFoundError):
                info = path.lstat()
                found[str(path)] = [stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid]
    return found


def logs(containers: list[dict[str, Any]]) -> dict[str, str]:
    """The newest lines of each container and of the journal."""
    found = {
        container["Name"].lstrip("/"): output(
            "docker", "logs", "--tail", LOG_LINES, container["Id"], both=True
        )
        for container in containers
    }
    journal = output("journalctl", "--quiet", "--no-pager", "--output=cat", f"--lines={LOG_LINES}")
    return {**found, "journal": journal}


def setting(name: str) -> str:
    """A kernel parameter, empty where this kernel has none."""
    try:
        return Path("/proc/sys", *name.split(".")).read_text().strip()
    except OSError:
        return ""


def image(container: dict[str, Any]) -> str:
    """The last part of the image's name, without tag and digest."""
    name: str = container["Config"]["Image"].partition("@")[0].rpartition("/")[2]
    return name.partition(":")[0]


def read_json(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else {}


def places(containers: list[dict[str, Any]]) -> dict[str, list[int]]:
    """Of what containers mount: mode, user, and the size and free bytes of its file system.

    Of what several may share, the folders in it as well: media of a kind have one each.
    """
    mounts = [m for c in containers for m in c["Mounts"] if m.get("Source")]
    shared = {m["Source"] for m in mounts if m["RW"] and m["Destination"] not in OWN_FOLDERS}
    within = {str(path) for source in shared for path in folders(source)}
    found = {}
    for path in (*sorted({m["Source"] for m in mounts} | within), "/"):
        with contextlib.suppress(OSError):
            info, disk = Path(path).stat(), os.statvfs(path)
            size, free = (blocks * disk.f_frsize for blocks in (disk.f_blocks, disk.f_bavail))
            found[path] = [stat.S_IMODE(info.st_mode), info.st_uid, size, free]
    return found


def folders(source: str) -> list[Path]:
    """The first folders in a folder."""
    try:
        return sorted(path for path in Path(source).iterdir() if path.is_dir())[:MOST_FOLDERS]
    except OSError:
        return []


def projects(containers: list[dict[str, Any]], label: str) -> set[Path]:
    """The paths in a label of Compose's own on every container."""
    words = (c["Config"]["Labels"] or {} for c in containers)
    return {Path(p) for labels in words for p in labels.get(COMPOSE + label, "").split(",") if p}


def documents(containers: list[dict[str, Any]]) -> dict[str, str]:
    """What is written for people, in the documentation's folder or beside a Compose file."""
    folders = {DOCUMENTS, *projects(containers, "working_dir")} - {Path("/"), NEXUS}
    patterns = ("*.md", "docs/**/*.md", "runbooks/**/*.md")
    own = DOCUMENTS.rglob("*.md")
    beside = (path for folder in folders for p in patterns for path in folder.glob(p))
    found = sorted({path for path in (*own, *beside) if path.is_file()})
    return {
        str(p): p.read_text(errors="replace")[:LONGEST_DOCUMENT] for p in found[:MOST_DOCUMENTS]
    }


def written(containers: list[dict[str, Any]]) -> dict[str, list[str]]:
    """The names of settings whose secret value stands in a Compose file or the .env beside it."""
    files = projects(containers, "config_files")
    files |= {folder / ".env" for folder in projects(containers, "working_dir")}
    found = {}
    for path in sorted(files):
        with contextlib.suppress(OSError):
            hits = CREDENTIAL.findall(path.read_text(errors="replace"))
            found[str(path)] = sorted({n for n, value in hits if not REFERENCE.match(value)})
    return found


def settings(container: dict[str, Any]) -> list[str]:
    """The settings that a reverse proxy reads: its arguments and the YAML below its mounts."""
    found = ["\n".join(container["Args"])]
    for mount in container["Mounts"]:
        source = Path(mount.get("Source") or "/nonexistent")
        paths = [source] if source.is_file() else sorted(source.rglob("*.y*ml"))[:20]
        for path in paths:
            with contextlib.suppress(OSError):
                if path.suffix in {".yml", ".yaml"}:
                    found.append(path.read_text(errors="replace"))
    return found


def addresses(container: dict[str, Any]) -> list[str]:
    networks = container["NetworkSettings"]["Networks"].values()
    return [network["IPAddress"] for network in networks if network.get("IPAddress")]


def monitoring(container: dict[str, Any]) -> dict[str, Any]:
    """What a program of a monitoring stack says of itself, without a login."""
    if image(container) not in QUESTIONS or not container["State"]["Running"]:
        return {}
    port, paths = QUESTIONS[image(container)]
    return {
        path: asked(f"http://{a}:{port}{path}") for a in addresses(container)[:1] for path in paths
    }


def asked(url: str) -> str | None:
    """The body of a good answer, else None."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - always http
            body: bytes = answer.read(LONGEST_ANSWER)
            return body.decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return None


def reached(containers: list[dict[str, Any]]) -> dict[str, list[list[Any]]]:
    """Which ports of which others accept a connection from each container, tried there.

    A container in which it could not be tried is left out.
    """
    running = [c for c in containers if c["State"]["Running"] and c["State"]["Pid"]]
    wanted = [
        [other["Id"], address, port]
        for other in running
        for address in addresses(other)
        for port in listening(other["State"]["Pid"])
    ]
    tries = {}
    for container in running:
        own = container["Id"]
        inside = ("nsenter", "-t", str(container["State"]["Pid"]), "-n")
        program = subprocess.Popen(
            [*inside, "/usr/bin/python3", "-ISc", REACH, own],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=ENVIRONMENT,
        )
        assert program.stdin is not None
        program.stdin.write(json.dumps([place for place in wanted if place[0] != own]).encode())
        program.stdin.close()
        tries[own] = program
    found = {}
    for own, program in tries.items():
        assert program.stdout is not None
        said = program.stdout.read()
        if program.wait() == 0:
            found[own] = json.loads(said)
    return found


def listening(pid: int) -> list[int]:
    """The TCP ports on which a container listens, but for those of its own loopback."""
    ports = set()
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in lines(Path(f"/proc/{pid}/net/{name}"))[1:]:
                words = line.split()
                address, _, port = words[1].partition(":")
                # 0A is LISTEN; 7F is the last octet of a loopback address in host order.
                if words[3] == "0A" and not (len(address) == 8 and address.endswith("7F")):
                    ports.add(int(port, 16))
    return sorted(ports)


if __name__ == "__main__":
    main()
