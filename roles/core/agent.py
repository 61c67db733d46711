"""The program that runs on the host, sent over stdin with each request and never installed there.

It reads one tar from stdin: `request.json` and the files that the request names. `observe` prints
what is; `read` prints file contents for a diff; `apply` carries out an ordered list of steps.
Standard library only, one file, because it travels. Answers go to stdout as one JSON line; `apply`
prints one line of progress a step, without file contents.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import functools
import grp
import hashlib
import hmac
import io
import json
import os
import pwd
import re
import shutil
import socket
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NoReturn
from xml.etree import ElementTree

STATE = Path("/var/lib/nexus")
MOUNTS = Path("/proc/self/mountinfo")
SHADOW = Path("/etc/shadow")
PROJECT_LABEL = "com.docker.compose.project"
DOCKER = "/var/run/docker.sock"
APT_LOCKS = (Path("/var/lib/apt/lists/lock"), Path("/var/lib/dpkg/lock-frontend"))
PLUGINS = (
    "/root/.docker/cli-plugins",
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)
LOCK_SECONDS = 900
ANSWER_SECONDS = 60
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "HOME": "/root",
}


def main(stdin: str) -> None:
    members = unpack(stdin)
    request = json.loads(members.pop("request.json"))
    if request["do"] == "observe":
        with lock(fcntl.LOCK_SH):
            print(json.dumps(observe(request)), flush=True)
    elif request["do"] == "facts":
        print(json.dumps(facts(request.get("folders", ()))), flush=True)
    elif request["do"] == "read":
        print(json.dumps({path: text_of(Path(path)) for path in request["paths"]}), flush=True)
    else:
        with lock(fcntl.LOCK_EX):
            Run(request, members).carry_out()


def unpack(stdin: str) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(stdin))) as tar:
        files = ((member.name, tar.extractfile(member)) for member in tar.getmembers())
        return {name: file.read() for name, file in files if file is not None}


@contextlib.contextmanager
def lock(kind: int) -> Any:
    """One deploy at a time. A client that was killed leaves a run behind that finishes its step."""
    if kind == fcntl.LOCK_SH and not STATE.is_dir():
        yield  # a host that no deploy has touched stays untouched
        return
    STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (STATE / "lock").open("w") as file:
        wait_for(file, fcntl.flock, kind)
        yield


def wait_for(file: IO[str], take: Callable[[IO[str], int], None], kind: int) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            take(file, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                sys.exit(f"FAILED: another program has held {file.name} for {LOCK_SECONDS} s")
            time.sleep(0.2)


class Program:
    """A command that is at work from here on; its answer is waited for when it is wanted."""

    def __init__(self, *argv: str) -> None:
        self.argv = argv
        self._process: subprocess.Popen[str] | None = None
        with contextlib.suppress(FileNotFoundError):
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                errors="replace",
                env=ENVIRONMENT,
            )

    def output(self, *, of_failed: bool = False) -> str:
        """Its standard output, empty when it is not installed or, but for `of_failed`, failed."""
        if self._process is None:
            return ""
        try:
            text, _ = self._process.communicate(timeout=ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            hanging(" ".join(self.argv))
        return text if of_failed or self._process.returncode == 0 else ""


def hanging(what: str) -> NoReturn:
    sys.exit(f"FAILED: {what} gave no answer in {ANSWER_SECONDS} s; is it hanging?")


def facts(folders: Iterable[str]) -> dict[str, Any]:
    lines = Path("/etc/os-release").read_text().splitlines()
    release = dict(line.replace('"', "").split("=", 1) for line in lines if "=" in line)
    gids = {group.gr_name: group.gr_gid for group in grp.getgrall()}
    return {
        "distribution": release.get("ID", "unknown"),
        "codename": release.get("VERSION_CODENAME", ""),
        "architecture": os.uname().machine,
        "docker_gid": gids.get("docker"),
        "journal_gid": gids.get("systemd-journal"),
        "processors": len(os.sched_getaffinity(0)),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "render": render_device(),
        "containers": [brief(container) for container in docker_api("/containers/json?all=1")],
        "folders": {path: seen for path in folders if (seen := access(path))},
    }


def access(path: str) -> list[int]:
    """Mode and group of a folder; empty where there is none or other rules stand beside these."""
    if not Path(path).is_dir():
        return []
    # acl(5): the group's bits of the mode are then a mask, and no right by themselves.
    with contextlib.suppress(OSError):
        if os.getxattr(path, "system.posix_acl_access"):
            return []
    seen = Path(path).stat()
    return [stat.S_IMODE(seen.st_mode), seen.st_gid]


def docker_api(path: str) -> Any:
    """The Docker API's answer to a GET; an empty list where no engine answers.

    By HTTP/1.0, in which the end of the connection is the end of the answer (RFC 1945).
    """
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(ANSWER_SECONDS)
            link.connect(DOCKER)
            link.sendall(f"GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n".encode())
            received = b"".join(iter(lambda: link.recv(65536), b""))
    except TimeoutError:
        hanging(f"the Docker API ({path})")
    except OSError:
        return []
    head, _, body = received.partition(b"\r\n\r\n")
    try:
        return json.loads(body) if b" 200 " in head.partition(b"\r\n")[0] else []
    except ValueError:
        return []  # the engine ended in the middle of its answer


def brief(container: dict[str, Any]) -> dict[str, Any]:
    """What decides whether a container may stay: whose it is, and what it holds."""
    labels = container["Labels"] or {}
    ports = {
        (port["Type"], port["PublicPort"]) for port in container["Ports"] if "PublicPort" in port
    }
    return {
        "name": name_of_container(container),
        "project": labels.get(PROJECT_LABEL, ""),
        "file": labels.get(f"{PROJECT_LABEL}.config_files", ""),
        "state": container["State"],
        "ports": sorted(ports),
        "mounts": sorted({mount.get("Source") or "" for mount in container["Mounts"]}),
    }


def name_of_container(listed: dict[str, Any]) -> str:
    """Empty while it is being removed: its name is free before it is gone."""
    return str((listed["Names"] or [""])[0]).lstrip("/")


def render_device() -> dict[str, Any] | None:
    """The first render node of an Intel GPU and its group; other makers cannot do Quick Sync."""
    for node in sorted(Path("/dev/dri").glob("renderD*")):
        vendor = Path("/sys/class/drm", node.name, "device/vendor")
        if not vendor.exists() or vendor.read_text().strip() == "0x8086":
            return {"device": str(node), "gid": node.stat().st_gid}
    return None


# --- observe --------------------------------------------------------------------------------------


def observe(request: dict[str, Any]) -> dict[str, Any]:
    nonce = bytes.fromhex(request["nonce"])
    # Other programs are asked at once, and answer while this one reads: it is mostly waiting.
    stacks = {stack["project"]: observe_stack(**stack) for stack in request["stacks"]}
    units = observe_units(request["units"])
    packages = observe_packages(request["packages"])
    chains = observe_chains(request["chains"])
    return {
        "paths": {path: observe_path(Path(path), nonce) for path in request["paths"]},
        "entries": {path: names_in(Path(path)) for path in request["purge"]},
        "settings": {
            path: observe_settings(Path(path), nonce, **wanted)
            for path, wanted in request["settings"].items()
        },
        "groups": {g.gr_name: g.gr_gid for g in grp.getgrall() if g.gr_name in request["groups"]},
        "users": observe_users(request["users"]),
        "sysctls": {key: observe_sysctl(key) for key in request["sysctls"]},
        "networks": observe_networks(request["networks"]),
        "retired": {project: observe_retired(project) for project in request["retired"]},
        "pending": names_in(STATE / "pending"),
        # A save that was never completed starts with a dot; nothing was changed after it.
        "unconfirmed": [name for name in names_in(STATE / "guard") if name[0] != "."],
        "nonce": request["nonce"],
        "packages": packages(),
        "units": units(),
        "chains": chains(),
        "stacks": {project: stack() for project, stack in stacks.items()},
    }


def names_in(path: Path) -> list[str]:
    """What is in a folder; nothing is in a link to one."""
    if path.is_symlink() or not path.is_dir():
        return []
    return sorted(entry.name for entry in path.iterdir())


def observe_path(path: Path, nonce: bytes) -> dict[str, str]:
    """What is there; absent is also what a program takes away while it is looked at."""
    try:
        return observe_entry(path, nonce)
    except (FileNotFoundError, NotADirectoryError):
        return {"type": "absent"}


def observe_entry(path: Path, nonce: bytes) -> dict[str, str]:
    """Type, mode, owner; of a file a digest keyed by the request, which says nothing else."""
    info = path.lstat()
    seen = {
        "mode": f"{stat.S_IMODE(info.st_mode):04o}",
        "uid": str(info.st_uid),
        "gid": str(info.st_gid),
        "owner": name_of(pwd.getpwuid, info.st_uid),
        "group": name_of(grp.getgrgid, info.st_gid),
    }
    if stat.S_ISLNK(info.st_mode):
        return {"type": "link", "target": str(path.readlink()), **seen}
    if stat.S_ISDIR(info.st_mode):
        return {"type": "directory", **seen}
    if stat.S_ISREG(info.st_mode):
        digest = hmac.new(nonce, path.read_bytes(), hashlib.sha256).hexdigest()
        return {"type": "file", "digest": digest, **seen}
    return {"type": "special", **seen}


def observe_settings(path: Path, nonce: bytes, form: str, keys: list[str]) -> dict[str, str]:
    """A keyed digest of each entry that is there."""
    found = entries_of(form, text_of(path))
    return {
        key: hmac.new(nonce, found[key].encode(), hashlib.sha256).hexdigest()
        for key in keys
        if key in found
    }


@functools.cache
def name_of(database: Any, number: int) -> str:
    try:
        return str(database(number)[0])
    except KeyError:
        return str(number)


def observe_packages(names: list[str]) -> Callable[[], list[str]]:
    if not names:
        return list
    asked = Program("dpkg-query", "-W", "-f", "${binary:Package} ${db:Status-Abbrev}\n", *names)

    def installed() -> list[str]:
        # dpkg-query fails as a whole when one name is unknown, and still prints the others.
        rows = (line.split() for line in asked.output(of_failed=True).splitlines())
        return [row[0].split(":")[0] for row in rows if len(row) == 2 and row[1] in {"ii", "hi"}]

    return installed


def observe_users(names: list[str]) -> dict[str, Any]:
    if not names:
        return {}
    shadow = {}
    for line in SHADOW.read_text().splitlines():
        name, _, rest = line.partition(":")
        shadow[name] = rest.partition(":")[0]
    groups = grp.getgrall()
    return {
        user.pw_name: {
            "uid": user.pw_uid,
            "group": name_of(grp.getgrgid, user.pw_gid),
            "home": user.pw_dir,
            "shell": user.pw_shell,
            "groups": sorted(g.gr_name for g in groups if user.pw_name in g.gr_mem),
            "locked": shadow.get(user.pw_name, "")[:1] in {"!", "*"},
        }
        for user in pwd.getpwall()
        if user.pw_name in names
    }


def observe_sysctl(key: str) -> str:
    try:
        return Path("/proc/sys", *key.split(".")).read_text().strip()
    except OSError:
        return ""


def observe_units(names: list[str]) -> Callable[[], dict[str, dict[str, str]]]:
    if not names:
        return dict
    fields = (
        "LoadState,ActiveState,UnitFileState,NeedDaemonReload,"
        "ConditionResult,ConditionTimestampMonotonic"
    )
    asked = Program("systemctl", "show", f"--property={fields}", "--", *names)

    def states() -> dict[str, dict[str, str]]:
        blocks = asked.output().split("\n\n")
        parsed = (dict(row.split("=", 1) for row in b.splitlines() if "=" in row) for b in blocks)
        # Answers come in the order asked; an alias answers with its unit's own Id.
        return dict(zip(names, parsed, strict=False))

    return states


def observe_chains(chains: list[str]) -> Callable[[], dict[str, list[str]]]:
    programs = {"4": "iptables", "6": "ip6tables"}
    asked = {
        family: Program(program, "-w", "-S")
        for family, program in programs.items()
        if any(name.startswith(f"{family}:") for name in chains)
    }

    def rules() -> dict[str, list[str]]:
        found: dict[str, list[str]] = {name: [] for name in chains}
        for family, program in asked.items():
            for line in program.output().splitlines():
                name = f"{family}:{line.split()[1]}"
                if name in found and line[:2] in {"-A", "-P"}:
                    found[name].append(line)
        return found

    return rules


def observe_networks(names: list[str]) -> dict[str, Any]:
    if not names:
        return {}
    known = {network["Name"]: network["Id"] for network in docker_api("/networks")}
    found = (docker_api(f"/networks/{known[name]}") for name in names if name in known)
    return {
        network["Name"]: {
            "subnets": sorted(c["Subnet"] for c in network["IPAM"]["Config"] or []),
            "internal": network["Internal"],
            "driver": network["Driver"],
            "bridge": (network["Options"] or {}).get("com.docker.network.bridge.name", ""),
            "attached": sorted(c["Name"] for c in (network["Containers"] or {}).values()),
        }
        for network in found
        if network
    }


def observe_stack(project: str, file: str) -> Callable[[], dict[str, Any]]:
    """The declared hash of each service, and what runs in the project or under its names."""
    # It lives for a moment: to collect its garbage takes a fifth of its time and frees 5 MB.
    collector = ("env", "GOGC=off")
    hashes = Program(*collector, *compose(), "-p", project, "-f", file, "config", "--hash", "*")

    def stack() -> dict[str, Any]:
        containers = observe_containers(project)
        return {
            "hashes": dict(line.split() for line in hashes.output().splitlines()),
            "containers": {c["service"]: c for c in containers if c["service"]},
            "strays": [c["name"] for c in containers if not c["service"]],
        }

    return stack


def compose() -> tuple[str, ...]:
    """Compose itself: the docker command would start three programs in turn to find it.

    The folders are docker's own, in its order (docker/cli, cli-plugins/manager).
    """
    found = (Path(folder, "docker-compose") for folder in PLUGINS)
    return next(((str(path),) for path in found if path.is_file()), ("docker", "compose"))


def observe_containers(project: str) -> list[dict[str, Any]]:
    found = (
        docker_api(f"/containers/{container['Id']}/json")
        for container in docker_api("/containers/json?all=1")
        if belongs(container, project)
    )
    # One that has gone meanwhile is none.
    listed = [container for container in found if container]
    return [
        {**observe_container(project, container), "behind": lives_behind(container, listed)}
        for container in listed
    ]


def belongs(container: dict[str, Any], project: str) -> bool:
    """By its label or, without one, by its name."""
    label = (container["Labels"] or {}).get(PROJECT_LABEL, "")
    name = name_of_container(container)
    # A killed Compose leaves the old container under a name of its own.
    return label == project or (not label and name.startswith(f"{project}-"))


def observe_container(project: str, container: dict[str, Any]) -> dict[str, Any]:
    labels = container["Config"]["Labels"] or {}
    name = container["Name"].lstrip("/")
    service = labels.get("com.docker.compose.service", "")
    ours = labels.get(PROJECT_LABEL) == project and name == f"{project}-{service}-1"
    limits = container["HostConfig"]
    return {
        "name": name,
        "service": service if ours else "",
        "hash": labels.get("com.docker.compose.config-hash", ""),
        "labels": labels,
        "state": container["State"]["Status"],
        "health": (container["State"].get("Health") or {}).get("Status", ""),
        "memory": limits["Memory"],
        "cpus": limits["NanoCpus"],
        "pids": limits["PidsLimit"] or 0,
        "restart": limits["RestartPolicy"]["Name"],
        "networks": sorted(container["NetworkSettings"]["Networks"]),
    }


def observe_retired(project: str) -> dict[str, Any]:
    """Another project's containers, the files that they were made from, and its own networks."""
    listed = [
        container
        for container in docker_api("/containers/json?all=1")
        if (container["Labels"] or {}).get(PROJECT_LABEL) == project
    ]
    found = [docker_api(f"/containers/{container['Id']}/json") for container in listed]
    files = {path for container in listed for path in files_of(container["Labels"])}
    names = {container["Name"].lstrip("/") for container in found if container}
    return {
        "containers": [
            {
                "name": container["Name"].lstrip("/"),
                "state": container["State"]["Status"],
                "restart": container["HostConfig"]["RestartPolicy"]["Name"],
            }
            for container in found
            if container
        ],
        "files": {str(path): observe_path(path, b"") for path in sorted(files)},
        "archives": sorted({path for each in listed for path in archives_of(each["Labels"])}),
        "networks": [name for name in networks_of(project) if attached_to(name) <= names],
    }


def files_of(labels: dict[str, str]) -> set[Path]:
    """The Compose files of a container, and the files of variables beside them."""
    folder = Path(labels.get(f"{PROJECT_LABEL}.working_dir", "/nonexistent"))
    named = [
        labels.get(f"{PROJECT_LABEL}.{kind}", "") for kind in ("config_files", "environment_file")
    ]
    paths = [
        folder / ".env",
        *(folder / name for text in named for name in text.split(",") if name),
    ]
    return {path for path in paths if path.is_file() and not path.is_symlink()}


def archives_of(labels: dict[str, str]) -> set[str]:
    """Old backups beside the Compose file that every account of the host may read or change."""
    folder = Path(labels.get(f"{PROJECT_LABEL}.working_dir", "/nonexistent"))
    places = [place for place in folder.glob("*") if "backup" in place.name.lower()]
    found = [file for place in places if not place.is_symlink() for file in place.glob("*")]
    return {
        str(file)
        for file in found
        if file.is_file() and not file.is_symlink() and file.stat().st_mode & stat.S_IRWXO
    }


def networks_of(project: str) -> list[str]:
    return sorted(
        network["Name"]
        for network in docker_api("/networks")
        if (network["Labels"] or {}).get(PROJECT_LABEL) == project
    )


def attached_to(network: str) -> set[str]:
    found = docker_api(f"/networks/{network}") or {}
    return {container["Name"] for container in (found.get("Containers") or {}).values()}


def lives_behind(container: dict[str, Any], listed: list[dict[str, Any]]) -> str:
    """The service whose network a container shares; "nobody" where that one has another by now."""
    kind, _, identity = container["HostConfig"].get("NetworkMode", "").partition(":")
    if kind != "container":
        return ""
    for other in listed:
        if other["Id"] == identity and network_namespace(other) == network_namespace(container):
            return str((other["Config"]["Labels"] or {}).get("com.docker.compose.service", ""))
    return "nobody"


def network_namespace(container: dict[str, Any]) -> str:
    """The kernel's name of it; of a container that does not run, one that no other has."""
    try:
        return str(Path(f"/proc/{container['State']['Pid']}/ns/net").readlink())
    except OSError:
        return str(container["Id"])


def text_of(path: Path) -> str:
    """A file's text for a diff: of a link's target or a pipe, nothing."""
    with contextlib.suppress(FileNotFoundError):
        if path.is_file() and not path.is_symlink():
            return path.read_text(errors="replace")
    return ""


# --- apply ----------------------------------------------------------------------------------------


class Run:
    """One role's steps, in order. Stops at the first that fails."""

    def __init__(self, request: dict[str, Any], members: dict[str, bytes]) -> None:
        self.role: str = request["role"]
        self.steps: list[dict[str, Any]] = request["steps"]
        self.members = members
        self.staging = STATE / "staging" / self.role

    def carry_out(self) -> None:
        shutil.rmtree(self.staging.parent, ignore_errors=True)
        self.staging.mkdir(mode=0o700, parents=True)
        try:
            for step in self.steps:
                arguments = {key: value for key, value in step.items() if key not in {"do", "say"}}
                if step.get("say"):
                    say(f"{self.role}: {step['say']}")
                getattr(self, f"do_{step['do']}")(**arguments)
        finally:
            shutil.rmtree(self.staging.parent, ignore_errors=True)

    def do_packages(self, names: list[str]) -> None:
        """Install, "name-" remove, after mending what an interrupted run of dpkg left behind."""
        # A host's own daily update holds both; of these programs only `install` can wait for it.
        for path in APT_LOCKS:
            with path.open("w") as file:
                wait_for(file, fcntl.lockf, fcntl.LOCK_EX)
        execute("dpkg", "--force-confdef", "--force-confold", "--configure", "-a")
        apt = ("apt-get", "-y", "-q", "-o", f"DPkg::Lock::Timeout={LOCK_SECONDS}")
        install = (
            *apt,
            "-o",
            "Dpkg::Options::=--force-confold",
            "install",
            "--no-install-recommends",
            "--fix-broken",
            *names,
        )
        if not lists_are_fresh():
            execute(*apt, "update")
        if succeeds(*install):
            return
        execute(*apt, "update")
        execute(*install)

    def do_check(self, argv: list[str], staged: dict[str, str]) -> None:
        """Run a validator on staged copies: `{path}` in an argument stands for the staged file."""
        for path, member in staged.items():
            place = self.stage(path, member) if member else path
            argv = [word.replace("{" + path + "}", place) for word in argv]
        execute(*argv)

    def stage(self, path: str, member: str) -> str:
        # The name stays: some validators judge a file by its suffix.
        place = self.staging / member / Path(path).name
        place.parent.mkdir(mode=0o700, exist_ok=True)
        place.write_bytes(self.members[member])
        return str(place)

    def do_arm(
        self,
        paths: list[str],
        seconds: int,
        before: list[list[str]],
        after: list[list[str]],
    ) -> None:
        """Save what is about to change and let the host itself bring it back unless confirmed.

        What an earlier run saved and nobody confirmed stays saved: it is the last state that is
        known to let the operator in.
        """
        guard = STATE / "guard" / self.role
        new = guard.with_name(f".{self.role}.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700, parents=True)
        saved = unconfirmed(guard)
        for entry in filter(None, saved.values()):
            shutil.copy2(guard / entry[0], new / entry[0])
        for path in paths:
            source = Path(path)
            if path not in saved and source.is_file():
                info = source.stat()
                saved[path] = [str(len(saved)), info.st_uid, info.st_gid]
                shutil.copy2(source, new / saved[path][0])
            saved.setdefault(path, None)
        manifest = {"before": before, "after": after, "saved": saved}
        (new / "manifest.json").write_text(json.dumps(manifest))
        os.sync()
        shutil.rmtree(guard, ignore_errors=True)
        new.rename(guard)
        unit = f"nexus-guard-{self.role}"
        succeeds("systemctl", "stop", f"{unit}.timer")
        execute(
            "systemd-run",
            "--quiet",
            "--collect",
            f"--unit={unit}",
            f"--on-active={seconds}",
            "/usr/local/lib/nexus/guard",
            "revert",
            self.role,
        )

    def do_mark(self, names: list[str]) -> None:
        pending = STATE / "pending"
        pending.mkdir(mode=0o700, exist_ok=True)
        for name in names:
            (pending / name).touch()
        sync_directory(pending)

    def do_clear(self, name: str) -> None:
        (STATE / "pending" / name).unlink(missing_ok=True)

    def do_directory(self, path: str, mode: str, owner: str, group: str) -> None:
        place = Path(path)
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            place.unlink()
        place.mkdir(parents=True, exist_ok=True)
        self.do_attributes(path, mode, owner, group)

    def do_file(self, path: str, member: str, mode: str, owner: str, group: str) -> None:
        """Write beside the destination, make it durable, then rename: never half a file."""
        with beside(Path(path)) as new:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(self.members[member])
                file.flush()
                set_attributes(file.fileno(), mode, owner, group)
                os.fsync(file.fileno())

    def do_settings(self, member: str, form: str, container: str, **file: str) -> None:
        """Change entries of a file whose program is stopped: at its end it would write its own."""
        if container:
            succeeds("docker", "stop", "--time", "60", container)
        entries = json.loads(self.members[member])
        text = with_entries(form, text_of(Path(file["path"])), entries)
        self.members[member] = text.encode()
        self.do_file(member=member, mode="0600", **file)

    def do_attributes(self, path: str, mode: str, owner: str, group: str) -> None:
        # By descriptor: whoever owns the folder could put a link in the file's place meanwhile.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            set_attributes(descriptor, mode, owner, group)
        finally:
            os.close(descriptor)

    def do_link(self, path: str, target: str) -> None:
        with beside(Path(path)) as new:
            new.symlink_to(target)

    def do_remove(self, path: str, tree: bool) -> None:
        place = Path(path)
        if place.is_symlink() or not place.is_dir():
            place.unlink(missing_ok=True)
        elif tree:
            refuse_mounts(path)
            shutil.rmtree(place)
        else:
            remove_empty(place)
        sync_directory(place.parent)

    def do_chain(self, program: str, text: str) -> None:
        """Fill a chain anew in one transaction (iptables-restore(8)), with no moment without it."""
        execute(f"{program}-restore", "-w", "--noflush", stdin=text)

    def do_run(self, argv: list[str]) -> None:
        execute(*argv)

    def do_compose(self, argv: list[str]) -> None:
        """Run Compose; an engine that holds a port of no container is started anew first.

        One that was cut off may keep a port until then (github.com/moby/moby/issues/20486).
        """
        done = attempt(*argv)
        held = re.search(r":(\d+) failed: port is already allocated", done.stdout)
        if done.returncode != 0 and held and not publishers(held[1]):
            say(f"{self.role}: restarting the engine, which holds port {held[1]} of no container")
            execute("systemctl", "restart", "docker.service")
            done = attempt(*argv)
        demand(done)

    def do_try(self, argv: list[str]) -> None:
        succeeds(*argv)


def unconfirmed(guard: Path) -> dict[str, Any]:
    manifest = guard / "manifest.json"
    return dict(json.loads(manifest.read_text())["saved"]) if manifest.is_file() else {}


# --- files that a program writes itself -----------------------------------------------------------

# How a line begins a section and how it holds an entry, and how each is written.
LINES = {
    "ini": (
        re.compile(r"\[([^\[\]]+)\]\s*"),
        re.compile(r"([^\s#;=][^=]*?) ?= ?(.*)"),
        "[{}]",
        "{}={}",
    ),
    "yaml": (re.compile(r"([\w-]+):\s*"), re.compile(r"  ([\w-]+): (.*)"), "{}:", "  {}: {}"),
}


def entries_of(form: str, text: str) -> dict[str, str]:
    """The entries of a file by their place in it; none of a file that is not of this form."""
    if form in LINES:
        return {key: value for _, key, value in lines_of(form, text.splitlines())}
    try:
        if form == "xml":
            root = parsed(text)
            return {f"{root.tag}/{child.tag}": child.text or "" for child in root}
        return dict(members_of(json.loads(text)))
    except (ElementTree.ParseError, ValueError):
        return {}


def with_entries(form: str, text: str, entries: dict[str, str]) -> str:
    """The file with these entries; one that is not of this form is begun anew."""
    if form in LINES:
        return with_lines(form, text.splitlines(), entries)
    if form == "xml":
        return with_elements(text, entries)
    document = json.loads(text) if entries_of(form, text) else {}
    for key, value in entries.items():
        *above, last = key.split("/")
        place = document
        for name in above:
            place = place.setdefault(name, {})
        place[last] = json.loads(value)
    return json.dumps(document, indent=1) + "\n"


def members_of(document: Any, above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in document.items() if isinstance(document, dict) else ():
        yield f"{above}{name}", json.dumps(value)
        yield from members_of(value, f"{above}{name}/")


def lines_of(form: str, lines: list[str]) -> Iterator[tuple[int, str, str]]:
    begin, entry, _, _ = LINES[form]
    section = ""
    for number, line in enumerate(lines):
        if found := begin.fullmatch(line):
            section = found[1]
        elif found := entry.fullmatch(line):
            yield number, f"{section}/{found[1]}", found[2]


def with_lines(form: str, lines: list[str], entries: dict[str, str]) -> str:
    begin, _, heading, written = LINES[form]
    places = {key: number for number, key, _ in lines_of(form, lines)}
    for key, value in entries.items():
        section, _, name = key.partition("/")
        line = written.format(name, value)
        if key in places:
            lines[places[key]] = line
            continue
        starts = [
            n for n, text in enumerate(lines) if (m := begin.fullmatch(text)) and m[1] == section
        ]
        if not starts:
            lines += [heading.format(section)]
            starts = [len(lines) - 1]
        lines.insert(starts[0] + 1, line)
        places = {key: number for number, key, _ in lines_of(form, lines)}
    return "\n".join(lines) + "\n"


def parsed(text: str) -> ElementTree.Element:
    # Expat refuses entities that grow without bound since 2.4.1 (CVE-2013-0340).
    return ElementTree.fromstring(text)  # noqa: S314


def with_elements(text: str, entries: dict[str, str]) -> str:
    tag = next(iter(entries)).partition("/")[0]
    root = parsed(text) if entries_of("xml", text) else ElementTree.Element(tag)
    for key, value in entries.items():
        name = key.partition("/")[2]
        child = root.find(name)
        if child is None:
            child = ElementTree.SubElement(root, name)
        child.text = value
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def lists_are_fresh(root: Path = Path("/")) -> bool:
    lists = root / "var/lib/apt/lists"
    fetched = [f.stat().st_mtime for f in lists.glob("*Packages*") if f.is_file()]
    places = [root / "etc/apt/sources.list", *(root / "etc/apt/sources.list.d").glob("*")]
    changed = [f.stat().st_mtime for f in places if f.is_file()]
    # apt gives a list its publisher's time, so a list is never older than it looks.
    return bool(fetched) and max(fetched) > max(time.time() - 86400, *changed)


@contextlib.contextmanager
def beside(place: Path) -> Iterator[Path]:
    """A path in the same folder, renamed to its place once it is complete, or else removed."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_dir() and not place.is_symlink():
        # Docker makes an empty folder for a missing file; what is in a full one is not ours.
        remove_empty(place)
    new = place.with_name(f".{place.name}.nexus-new")
    new.unlink(missing_ok=True)
    try:
        yield new
        new.rename(place)
    finally:
        new.unlink(missing_ok=True)
    sync_directory(place.parent)


def remove_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        sys.exit(f"FAILED: {folder} is a folder in the way; move it elsewhere ({error.strerror})")


def refuse_mounts(folder: str) -> None:
    """Stop before somebody's disk is emptied because it is mounted below a purged folder."""
    escaped = folder.replace("\\", r"\134").replace(" ", r"\040")
    for line in MOUNTS.read_text().splitlines():
        mount = line.split()[4]
        if f"{mount}/".startswith(f"{escaped}/"):
            sys.exit(f"FAILED: {folder} is to be removed and {mount} is mounted; unmount it first")


def set_attributes(descriptor: int, mode: str, owner: str, group: str) -> None:
    os.fchown(descriptor, number(pwd.getpwnam, owner), number(grp.getgrnam, group))
    os.fchmod(descriptor, int(mode, 8))


def number(database: Any, name: str) -> int:
    try:
        return int(name) if name.isdigit() else int(database(name)[2])
    except KeyError:
        sys.exit(f"FAILED: this host has no account or group {name}; name another or add it first")


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(descriptor)
    os.close(descriptor)


def publishers(port: str) -> list[str]:
    """The running containers that publish a port."""
    return Program("docker", "ps", "--quiet", "--filter", f"publish={port}").output().split()


def succeeds(*argv: str) -> bool:
    return attempt(*argv).returncode == 0


def execute(*argv: str, stdin: str = "") -> None:
    demand(attempt(*argv, stdin=stdin))


def attempt(*argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=ENVIRONMENT,
        check=False,
    )


def demand(done: subprocess.CompletedProcess[str]) -> None:
    """When a command has failed, show the end of what it said and stop the run."""
    if done.returncode != 0:
        tail = "\n".join(f"    {line}" for line in done.stdout.splitlines()[-25:])
        sys.exit(f"FAILED ({done.returncode}): {' '.join(done.args)}\n{tail}")


def say(line: str) -> None:
    # A client that went away must not stop the step half way.
    with contextlib.suppress(BrokenPipeError):
        print(line, flush=True)


if __name__ == "__main__":
    # A hardened host's umask would keep packages and services from their own new folders.
    os.umask(0o022)
    try:
        main(sys.stdin.readline())
    except OSError as error:
        sys.exit(f"FAILED: {error}")
