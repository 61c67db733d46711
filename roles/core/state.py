"""The pure difference between what is desired and what was observed, as ordered steps.

`diff` decides everything; the agent on the host only carries out. Order inside a role: accounts,
packages, validation of staged files, the guard, files, the rest, then what makes changes effective.
"""

from __future__ import annotations

import hashlib
import hmac
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from roles.core.model import (
    Absent,
    Chain,
    Check,
    Container,
    Desired,
    Directory,
    File,
    Group,
    Handler,
    Link,
    Network,
    Observed,
    Package,
    Resource,
    Stack,
    Sysctl,
    Unit,
    User,
)

Step = dict[str, Any]
SYSTEMD_FOLDERS = ("/etc/systemd/system/",)


@dataclass
class Changes:
    """What a role would do: steps for the agent, lines for people, and the files that travel."""

    role: str
    lines: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    members: dict[str, bytes] = field(default_factory=dict, repr=False)
    files: list[File] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.steps)


def diff(desired: Desired, observed: Observed) -> Changes:
    """Everything that must be done so that the host is as `desired` says; nothing when it is."""
    return _Diff(desired, observed).changes()


class _Diff:
    def __init__(self, desired: Desired, observed: Observed) -> None:
        self.desired = desired
        self.observed = observed
        self.result = Changes(desired.role)
        self.touched: set[str] = set()
        self.owed: set[str] = {
            name.removeprefix(f"{desired.role}.")
            for name in observed.pending
            if name.startswith(f"{desired.role}.")
        }

    def changes(self) -> Changes:
        # Accounts come first: a package would add its own with a number that nobody chose.
        self.accounts()
        self.packages()
        files = list(self.file_steps())
        removals = list(self.removal_steps())
        chains = list(self.chain_steps())
        handlers = self.due_handlers()
        units = list(self.unit_steps())
        if files or removals:
            self.checks()
        self.guard(bool(files or removals or chains or handlers))
        marks = [self.mark(h.name) for h in handlers] + [self.mark(name) for name, _ in units]
        marks += [
            f"{notice.role}.{notice.handler}"
            for notice in self.desired.notices
            if self.touched.intersection(notice.on)
        ]
        if marks:
            self.result.steps.append({"do": "mark", "names": marks})
        self.result.steps += files + removals
        self.sysctls()
        self.result.steps += chains
        if self.needs_daemon_reload():
            self.run("systemctl", "daemon-reload", say="systemd reads its units again")
        self.handle(handler for handler in handlers if not handler.last)
        for name, steps in units:
            self.result.steps += steps
            self.result.steps.append({"do": "clear", "name": self.mark(name)})
        self.networks()
        self.stacks()
        self.handle(handler for handler in handlers if handler.last)
        return self.result

    def handle(self, handlers: Iterable[Handler]) -> None:
        for handler in handlers:
            self.line("run", handler.name)
            self.run(*handler.argv, say=handler.name)
            self.result.steps.append({"do": "clear", "name": self.mark(handler.name)})

    # --- one function a kind -------------------------------------------------------------------

    def packages(self) -> None:
        wanted = [package.name for package in self.desired.of(Package)]
        missing = [name for name in wanted if name not in self.observed.packages]
        if missing:
            self.line("install", *missing)
            say = f"installing {' '.join(missing)}"
            self.result.steps.append({"do": "packages", "names": missing, "say": say})

    def accounts(self) -> None:
        for group in self.desired.of(Group):
            self.group(group)
        for user in self.desired.of(User):
            self.user(user)

    def group(self, group: Group) -> None:
        gid = self.observed.groups.get(group.name)
        number = [] if group.gid is None else ["-g", str(group.gid)]
        if gid is None:
            self.line("add group", group.name)
            self.run("groupadd", "-r", *number, group.name)
        elif group.gid not in (None, gid):
            self.line("change group", group.name, f"gid {gid} -> {group.gid}")
            self.run("groupmod", *number, group.name)

    def user(self, user: User) -> None:
        seen = self.observed.users.get(user.name)
        if seen is None:
            self.line("add user", user.name)
            self.run("useradd", "-r", "-M", *_account(user), user.name)
            return
        wanted = {
            "uid": user.uid,
            "group": user.group,
            "home": user.home,
            "shell": user.shell,
            "groups": sorted(user.groups),
        }
        wrong = [key for key, value in wanted.items() if seen[key] != value]
        if wrong:
            self.line("change user", user.name, ", ".join(wrong))
            self.run("usermod", *_account(user), user.name)
        if not seen["locked"]:
            self.line("lock the password of", user.name)
            self.run("usermod", "-L", user.name)

    def file_steps(self) -> Iterator[Step]:
        for resource in self.desired.resources:
            if isinstance(resource, Directory):
                yield from self.directory(resource)
            elif isinstance(resource, File):
                yield from self.file(resource)
            elif isinstance(resource, Link):
                yield from self.link(resource)

    def directory(self, wanted: Directory) -> Iterator[Step]:
        seen = self.observed.paths.get(wanted.path, {"type": "absent"})
        wrong = _wrong_attributes(wanted, seen) if seen["type"] == "directory" else [seen["type"]]
        if wrong:
            self.line("directory", wanted.path, ", ".join(wrong))
            self.touched.add(wanted.path)
            yield {"do": "directory", **_attributes(wanted)}

    def file(self, wanted: File) -> Iterator[Step]:
        seen = self.observed.paths.get(wanted.path, {"type": "absent"})
        if seen["type"] != "file":
            reason = [seen["type"]]
        elif seen["digest"] != digest(wanted.content, self.observed.nonce):
            reason = ["content"]
        else:
            wrong = _wrong_attributes(wanted, seen)
            if wrong:
                self.line("file", wanted.path, ", ".join(wrong))
                self.touched.add(wanted.path)
                yield {"do": "attributes", **_attributes(wanted)}
            return
        self.line("file", wanted.path, ", ".join(reason))
        self.touched.add(wanted.path)
        member = str(len(self.result.files))
        self.result.files.append(wanted)
        self.result.members[member] = wanted.content
        yield {"do": "file", "member": member, **_attributes(wanted)}

    def link(self, wanted: Link) -> Iterator[Step]:
        seen = self.observed.paths.get(wanted.path, {"type": "absent"})
        if seen["type"] != "link" or seen["target"] != wanted.target:
            self.line("link", wanted.path, f"-> {wanted.target}")
            self.touched.add(wanted.path)
            yield {"do": "link", "path": wanted.path, "target": wanted.target}

    def removal_steps(self) -> Iterator[Step]:
        for absent in self.desired.of(Absent):
            if self.observed.paths.get(absent.path, {"type": "absent"})["type"] != "absent":
                yield self.removal(absent.path)
        declared = {
            r.path for r in self.desired.resources if isinstance(r, File | Link | Directory)
        }
        for directory in self.desired.of(Directory):
            for name in self.observed.entries.get(directory.path, ()) if directory.purge else ():
                path = f"{directory.path}/{name}"
                if path not in declared:
                    yield self.removal(path)

    def removal(self, path: str) -> Step:
        self.line("remove", path)
        self.touched.add(path)
        # What stood in a folder counts as an input of whatever depends on the folder.
        self.touched.add(path.rsplit("/", 1)[0])
        return {"do": "remove", "path": path}

    def sysctls(self) -> None:
        for setting in self.desired.of(Sysctl):
            seen = self.observed.sysctls.get(setting.key, "")
            if seen.split() != setting.value.split():
                self.line("kernel setting", setting.key, f"{seen} -> {setting.value}")
                self.run("sysctl", "-q", "-w", f"{setting.key}={setting.value}")

    def chain_steps(self) -> Iterator[Step]:
        for chain in self.desired.of(Chain):
            seen = self.observed.chains.get(f"{chain.family}:{chain.name}", ())
            if seen == chain.rules:
                continue
            program = "iptables" if chain.family == "4" else "ip6tables"
            kept = list(seen)
            for rule in seen:
                if rule not in chain.rules and rule.startswith("-A"):
                    self.line("remove rule", f"IPv{chain.family}", rule)
                    kept.remove(rule)
                    yield {"do": "run", "argv": [program, "-w", "-D", *shlex.split(rule)[1:]]}
            if tuple(kept) != chain.rules:
                self.line("repair chain", f"IPv{chain.family}", chain.name)
                self.owed.add(chain.repair)

    def due_handlers(self) -> list[Handler]:
        return [
            handler
            for handler in self.desired.handlers
            if handler.name in self.owed or self.touched.intersection(handler.on)
        ]

    def unit_steps(self) -> Iterator[tuple[str, list[Step]]]:
        for unit in self.desired.of(Unit):
            before = len(self.result.steps)
            self.unit(unit)
            steps = self.result.steps[before:]
            del self.result.steps[before:]
            if steps:
                yield unit.name, steps

    def unit(self, unit: Unit) -> None:
        seen = self.observed.units.get(unit.name, {})
        state = seen.get("UnitFileState", "")
        if seen.get("LoadState") == "masked" or state.startswith("masked"):
            self.line("unmask", unit.name)
            self.run("systemctl", "unmask", unit.name)
        if unit.enabled is not None and (state == "enabled") != unit.enabled:
            verb = "enable" if unit.enabled else "disable"
            self.line(verb, unit.name)
            self.run("systemctl", verb, unit.name)
        active = seen.get("ActiveState") in {"active", "reloading", "activating"}
        if unit.active is None or _not_applicable(seen):
            return
        if not unit.active:
            if active:
                self.line("stop", unit.name)
                self.touched.add(unit.name)
                self.run("systemctl", "stop", unit.name)
        elif not active:
            self.line("start", unit.name)
            self.result.steps.append(
                {"do": "try", "argv": ["systemctl", "reset-failed", unit.name]}
            )
            self.run("systemctl", "start", unit.name, say=f"starting {unit.name}")
        elif self.touched.intersection(unit.restart_on) or unit.name in self.owed:
            self.line("restart", unit.name)
            # A unit restarted often in a short time is refused until its counter is reset.
            self.result.steps.append(
                {"do": "try", "argv": ["systemctl", "reset-failed", unit.name]}
            )
            self.run("systemctl", "restart", unit.name, say=f"restarting {unit.name}")
        elif self.touched.intersection(unit.reload_on):
            self.line("reload", unit.name)
            self.run("systemctl", "reload", unit.name, say=f"reloading {unit.name}")

    def needs_daemon_reload(self) -> bool:
        stale = any(
            self.observed.units.get(unit.name, {}).get("NeedDaemonReload") == "yes"
            for unit in self.desired.of(Unit)
        )
        return stale or any(path.startswith(SYSTEMD_FOLDERS) for path in self.touched)

    def checks(self) -> None:
        members = {file.path: str(number) for number, file in enumerate(self.result.files)}
        for check in self.desired.checks:
            if self.touched.intersection(check.on):
                self.result.steps.append(_check_step(check, members))

    def guard(self, needed: bool) -> None:
        guard = self.desired.guard
        if guard is None or not needed:
            return
        self.result.steps.append(
            {
                "do": "arm",
                "paths": sorted(self.touched),
                "seconds": guard.seconds,
                "before": guard.before,
                "after": guard.after,
                "say": f"guard armed: the old state returns after {guard.seconds} s "
                "unless a second connection succeeds",
            }
        )

    def networks(self) -> None:
        for network in self.desired.of(Network):
            seen = self.observed.networks.get(network.name)
            if seen is None:
                self.line("add network", network.name)
            else:
                wrong = _wrong_network(network, seen)
                if not wrong:
                    continue
                self.line("replace network", network.name, ", ".join(wrong))
                for container in _texts(seen["attached"]):
                    self.run("docker", "network", "disconnect", "-f", network.name, container)
                self.run("docker", "network", "rm", network.name)
            self.run(*_create_network(network))

    def stacks(self) -> None:
        for stack in self.desired.of(Stack):
            seen = self.observed.stacks.get(stack.project, {})
            for stray in _texts(seen.get("strays", [])):
                self.line("remove container", stray)
                self.run("docker", "rm", "-f", stray)
            stale, altered = self.judge_containers(stack, seen)
            compose = ("docker", "compose", "-p", stack.project, "-f", stack.file)
            up = (*compose, "up", "-d", "--quiet-pull", "--wait", "--wait-timeout", "300")
            if altered:
                self.run(*up, "--no-deps", "--force-recreate", *altered, say=_recreating(altered))
            extra = self.extra_services(stack, seen)
            if not stack.containers:
                if extra:
                    self.run(*compose, "down", "--remove-orphans", say="docker compose down")
            elif stale or extra or stack.file in self.touched:
                self.run(*up, "--remove-orphans", say="docker compose up: " + " ".join(stale))

    def judge_containers(
        self, stack: Stack, seen: Mapping[str, Any]
    ) -> tuple[list[str], list[str]]:
        """Services that `up` brings right by itself, and those it would not notice."""
        stale, altered = [], []
        hashes, containers = seen.get("hashes", {}), seen.get("containers", {})
        for wanted in stack.containers:
            container = containers.get(wanted.service)
            if container is None:
                stale.append(wanted.service)
                self.line("start container", wanted.service)
            elif wrong := _wrong_container(wanted, container):
                altered.append(wanted.service)
                self.line("recreate container", wanted.service, ", ".join(wrong))
            elif container["hash"] != hashes.get(wanted.service) or container["state"] != "running":
                stale.append(wanted.service)
                reason = "configuration" if container["state"] == "running" else container["state"]
                self.line("recreate container", wanted.service, reason)
        return stale, altered

    def extra_services(self, stack: Stack, seen: Mapping[str, Any]) -> bool:
        extra = set(seen.get("containers", {})) - {c.service for c in stack.containers}
        for service in sorted(extra):
            self.line("remove container", service, "no longer declared")
        return bool(extra)

    # --- small helpers ---------------------------------------------------------------------------

    def mark(self, name: str) -> str:
        return f"{self.desired.role}.{name}"

    def line(self, *words: str) -> None:
        self.result.lines.append(" ".join(word for word in words if word))

    def run(self, *argv: str, say: str = "") -> None:
        step: Step = {"do": "run", "argv": list(argv)}
        if say:
            step["say"] = say
        self.result.steps.append(step)


def digest(content: bytes, nonce: str) -> str:
    """The keyed digest that the agent computes too: it says nothing outside of one request."""
    return hmac.new(bytes.fromhex(nonce), content, hashlib.sha256).hexdigest()


def _not_applicable(unit: Mapping[str, str]) -> bool:
    """systemd tried to start it and its own conditions said no (a container sets no clock)."""
    return (
        unit.get("ActiveState") == "inactive"
        and unit.get("ConditionResult") == "no"
        and unit.get("ConditionTimestampMonotonic", "0") != "0"
    )


def _check_step(check: Check, members: Mapping[str, str]) -> Step:
    staged = {path: members.get(path, "") for path in check.on}
    return {
        "do": "check",
        "argv": list(check.argv),
        "staged": staged,
        "say": f"validating with {check.argv[0]}",
    }


def _attributes(wanted: File | Directory) -> Step:
    return {
        "path": wanted.path,
        "mode": wanted.mode,
        "owner": wanted.owner,
        "group": wanted.group,
    }


def _wrong_attributes(wanted: File | Directory, seen: Mapping[str, str]) -> list[str]:
    wrong = []
    if seen["mode"] != wanted.mode:
        wrong.append(f"mode {seen['mode']} -> {wanted.mode}")
    if wanted.owner not in (seen["owner"], seen["uid"]):
        wrong.append(f"owner {seen['owner']} -> {wanted.owner}")
    if wanted.group not in (seen["group"], seen["gid"]):
        wrong.append(f"group {seen['group']} -> {wanted.group}")
    return wrong


def _account(user: User) -> list[str]:
    options = ["-u", str(user.uid), "-g", user.group, "-d", user.home, "-s", user.shell]
    return [*options, "-G", ",".join(user.groups)]


def _wrong_network(network: Network, seen: Mapping[str, object]) -> list[str]:
    wanted = {
        "subnets": sorted(network.subnets),
        "internal": network.internal,
        "driver": "bridge",
        "bridge": network.bridge,
    }
    return [key for key, value in wanted.items() if seen[key] != value]


def _create_network(network: Network) -> list[str]:
    options = ["-o", f"com.docker.network.bridge.name={network.bridge}"]
    if network.internal:
        options.append("--internal")
    if any(":" in subnet for subnet in network.subnets):
        options.append("--ipv6")
    for subnet in network.subnets:
        options += ["--subnet", subnet]
    return ["docker", "network", "create", "--driver", "bridge", *options, network.name]


def _wrong_container(wanted: Container, seen: Mapping[str, Any]) -> list[str]:
    expected = {
        "memory": wanted.memory,
        "cpus": wanted.cpus,
        "pids": wanted.pids,
        "restart": wanted.restart,
        "networks": sorted(wanted.networks),
    }
    wrong = [key for key, value in expected.items() if seen[key] != value]
    if seen["health"] == "unhealthy":
        wrong.append("unhealthy")
    return wrong


def _recreating(services: Sequence[str]) -> str:
    return f"recreating {' '.join(services)}"


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list | tuple) else []


def resources_of(desired: Sequence[Desired]) -> list[Resource]:
    """Every resource of several roles."""
    return [resource for role in desired for resource in role.resources]
