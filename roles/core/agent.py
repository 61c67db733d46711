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
import grp
import hashlib
import hmac
import io
import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

STATE = Path("/var/lib/nexus")
LOCK_SECONDS = 900
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
        print(json.dumps(facts()), flush=True)
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
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(file, kind | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    sys.exit(f"another deploy has held {STATE}/lock for {LOCK_SECONDS} s")
                time.sleep(0.2)
        yield


def output(*argv: str) -> str:
    """The standard output of a command, empty when it fails or is not installed."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout if done.returncode == 0 else ""


def facts() -> dict[str, Any]:
    lines = Path("/etc/os-release").read_text().splitlines()
    release = dict(line.replace('"', "").split("=", 1) for line in lines if "=" in line)
    gids = [group.gr_gid for group in grp.getgrall() if group.gr_name == "docker"]
    return {
        "distribution": release.get("ID", "unknown"),
        "codename": release.get("VERSION_CODENAME", ""),
        "architecture": os.uname().machine,
        "docker_gid": gids[0] if gids else None,
    }


# --- observe --------------------------------------------------------------------------------------


def observe(request: dict[str, Any]) -> dict[str, Any]:
    nonce = bytes.fromhex(request["nonce"])
    pending = STATE / "pending"
    return {
        "paths": {path: observe_path(Path(path), nonce) for path in request["paths"]},
        "entries": {path: names_in(Path(path)) for path in request["purge"] if is_dir(path)},
        "packages": observe_packages(request["packages"]),
        "groups": {g.gr_name: g.gr_gid for g in grp.getgrall() if g.gr_name in request["groups"]},
        "users": observe_users(request["users"]),
        "sysctls": {key: observe_sysctl(key) for key in request["sysctls"]},
        "units": observe_units(request["units"]),
        "chains": observe_chains(request["chains"]),
        "networks": observe_networks(request["networks"]),
        "stacks": {s["project"]: observe_stack(**s) for s in request["stacks"]},
        "pending": names_in(pending) if pending.is_dir() else [],
        "nonce": request["nonce"],
    }


def names_in(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def is_dir(path: str) -> bool:
    return Path(path).is_dir() and not Path(path).is_symlink()


def observe_path(path: Path, nonce: bytes) -> dict[str, str]:
    """Type, mode, owner; of a file a digest keyed by the request, which says nothing else."""
    try:
        info = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return {"type": "absent"}
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


def name_of(database: Any, number: int) -> str:
    try:
        return str(database(number)[0])
    except KeyError:
        return str(number)


def observe_packages(names: list[str]) -> list[str]:
    if not names:
        return []
    # dpkg-query fails as a whole when one name is unknown, and still prints the others.
    done = subprocess.run(
        ["dpkg-query", "-W", "-f", "${binary:Package} ${db:Status-Abbrev}\n", *names],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
    )
    rows = (line.split() for line in done.stdout.splitlines())
    return [row[0].split(":")[0] for row in rows if len(row) == 2 and row[1] in {"ii", "hi"}]


def observe_users(names: list[str]) -> dict[str, Any]:
    if not names:
        return {}
    shadow = {}
    for line in Path("/etc/shadow").read_text().splitlines():
        name, password = line.split(":")[:2]
        shadow[name] = password
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


def observe_units(names: list[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    fields = (
        "LoadState,ActiveState,UnitFileState,NeedDaemonReload,"
        "ConditionResult,ConditionTimestampMonotonic"
    )
    blocks = output("systemctl", "show", f"--property={fields}", "--", *names).split("\n\n")
    parsed = (dict(line.split("=", 1) for line in b.splitlines() if "=" in line) for b in blocks)
    # Answers come in the order asked; an alias answers with its unit's own Id.
    return dict(zip(names, parsed, strict=False))


def observe_chains(chains: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {name: [] for name in chains}
    for family, program in (("4", "iptables"), ("6", "ip6tables")):
        if not any(name.startswith(f"{family}:") for name in chains):
            continue
        for line in output(program, "-w", "-S").splitlines():
            name = f"{family}:{line.split()[1]}"
            if name in found and line[:2] in {"-A", "-P"}:
                found[name].append(line)
    return found


def observe_networks(names: list[str]) -> dict[str, Any]:
    if not names:
        return {}
    known = set(output("docker", "network", "ls", "--format", "{{.Name}}").split())
    wanted = [name for name in names if name in known]
    if not wanted:
        return {}
    return {
        network["Name"]: {
            "subnets": sorted(c["Subnet"] for c in network["IPAM"]["Config"] or []),
            "internal": network["Internal"],
            "driver": network["Driver"],
            "bridge": network["Options"].get("com.docker.network.bridge.name", ""),
            "attached": sorted(c["Name"] for c in network["Containers"].values()),
        }
        for network in json.loads(output("docker", "network", "inspect", *wanted) or "[]")
    }


def observe_stack(project: str, file: str) -> dict[str, Any]:
    """The declared hash of each service, and what runs under the project's container names."""
    hashes = output("docker", "compose", "-p", project, "-f", file, "config", "--hash", "*")
    ids = output("docker", "ps", "-aq", "--filter", f"name=^/{project}-").split()
    listed = json.loads(output("docker", "inspect", *ids) or "[]") if ids else []
    containers = [observe_container(project, container) for container in listed]
    return {
        "hashes": dict(line.split() for line in hashes.splitlines()),
        "containers": {c["service"]: c for c in containers if c["service"]},
        "strays": [c["name"] for c in containers if not c["service"]],
    }


def observe_container(project: str, container: dict[str, Any]) -> dict[str, Any]:
    labels = container["Config"]["Labels"] or {}
    ours = labels.get("com.docker.compose.project") == project
    limits = container["HostConfig"]
    return {
        "name": container["Name"].lstrip("/"),
        "service": labels.get("com.docker.compose.service", "") if ours else "",
        "hash": labels.get("com.docker.compose.config-hash", ""),
        "state": container["State"]["Status"],
        "health": (container["State"].get("Health") or {}).get("Status", ""),
        "memory": limits["Memory"],
        "cpus": limits["NanoCpus"],
        "pids": limits["PidsLimit"] or 0,
        "restart": limits["RestartPolicy"]["Name"],
        "networks": sorted(container["NetworkSettings"]["Networks"]),
    }


def text_of(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
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
        """Install, after mending what an interrupted run of dpkg left behind."""
        execute("dpkg", "--force-confdef", "--force-confold", "--configure", "-a")
        apt = ("apt-get", "-y", "-q", "-o", "DPkg::Lock::Timeout=300")
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
        """Save what is about to change and let the host itself bring it back unless confirmed."""
        guard = STATE / "guard" / self.role
        saved: dict[str, Any] = {}
        new = guard.with_name(f".{self.role}.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700, parents=True)
        for number, path in enumerate(paths):
            source = Path(path)
            if source.is_file():
                shutil.copy2(source, new / str(number))
                info = source.stat()
                saved[path] = [str(number), info.st_uid, info.st_gid]
            else:
                saved[path] = None
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
        place.mkdir(mode=0o755, parents=True, exist_ok=True)
        os.chown(place, number(pwd.getpwnam, owner), number(grp.getgrnam, group))
        place.chmod(int(mode, 8))

    def do_file(self, path: str, member: str, mode: str, owner: str, group: str) -> None:
        """Write beside the destination, make it durable, then rename: never half a file."""
        place = Path(path)
        place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        new = place.with_name(f".{place.name}.nexus-new")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(self.members[member])
            file.flush()
            os.fchown(file.fileno(), number(pwd.getpwnam, owner), number(grp.getgrnam, group))
            os.fchmod(file.fileno(), int(mode, 8))
            os.fsync(file.fileno())
        new.rename(place)
        sync_directory(place.parent)

    def do_attributes(self, path: str, mode: str, owner: str, group: str) -> None:
        os.chown(path, number(pwd.getpwnam, owner), number(grp.getgrnam, group))
        Path(path).chmod(int(mode, 8))

    def do_link(self, path: str, target: str) -> None:
        place = Path(path)
        new = place.with_name(f".{place.name}.nexus-new")
        new.unlink(missing_ok=True)
        new.symlink_to(target)
        new.rename(place)
        sync_directory(place.parent)

    def do_remove(self, path: str) -> None:
        place = Path(path)
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)
        sync_directory(place.parent)

    def do_run(self, argv: list[str]) -> None:
        execute(*argv)

    def do_try(self, argv: list[str]) -> None:
        succeeds(*argv)


def lists_are_fresh() -> bool:
    lists = Path("/var/lib/apt/lists")
    files = [f for f in lists.glob("*Packages*") if f.is_file()] if lists.is_dir() else []
    return bool(files) and max(f.stat().st_mtime for f in files) > time.time() - 86400


def number(database: Any, owner: str) -> int:
    return int(owner) if owner.isdigit() else int(database(owner)[2])


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(descriptor)
    os.close(descriptor)


def succeeds(*argv: str) -> bool:
    done = subprocess.run(argv, capture_output=True, env=ENVIRONMENT, check=False)
    return done.returncode == 0


def execute(*argv: str) -> None:
    """Run a command; when it fails, show the end of what it said and stop the run."""
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=ENVIRONMENT,
        check=False,
    )
    if done.returncode != 0:
        tail = "\n".join(f"    {line}" for line in done.stdout.splitlines()[-25:])
        sys.exit(f"FAILED ({done.returncode}): {' '.join(argv)}\n{tail}")


def say(line: str) -> None:
    # A client that went away must not stop the step half way.
    with contextlib.suppress(BrokenPipeError):
        print(line, flush=True)


if __name__ == "__main__":
    main(sys.stdin.readline())
