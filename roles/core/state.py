"""The pure difference between what is desired and what was observed, as ordered steps.

`diff` decides everything; the agent on the host only carries out. Order inside a role: accounts,
packages, validation of staged files, the guard, files, the rest, then what makes changes effective.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from roles.core.model import (
    Absent,
    AbsentPackage,
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
    Retired,
    Settings,
    Stack,
    Sysctl,
    Unit,
    User,
    paths,
)

Step = dict[str, Any]
ABSENT: Mapping[str, str] = {"type": "absent"}
# Steps after which all that one snapshot says of other roles is still true.
FILE_STEPS = frozenset({"check", "file", "attributes", "directory", "link", "remove"})
# The states of a container that has processes, or will have them again without being asked.
LIVE = frozenset({"running", "paused", "restarting"})
SYSTEMD_FOLDERS = ("/etc/systemd/system/",)


@dataclass
class Changes:
    """What a role would do: steps for the agent, lines for people, and the files that travel.

    `guarded` asks for a second login at the end; `notices` is what later roles will owe.
    """

    role: str
    lines: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    members: dict[str, bytes] = field(default_factory=dict, repr=False)
    files: list[File] = field(default_factory=list)
    guarded: bool = False
    notices: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.steps) or self.guarded

    @property
    def only_files(self) -> bool:
        """Whether nothing happens but that this role's own paths are put right."""
        return not self.guarded and all(step["do"] in FILE_STEPS for step in self.steps)


def diff(desired: Desired, observed: Observed) -> Changes:
    """Everything that must be done so that the host is as `desired` says; nothing when it is."""
    return _Diff(desired, observed).changes()


class _Diff:
    def __init__(self, desired: Desired, observed: Observed) -> None:
        self.desired = desired
        self.observed = observed
        self.result = Changes(desired.role)
        self.touched: set[str] = set()
        self.replaced = tuple(
            f"{folder.path}/"
            for folder in desired.of(Directory)
            if not folder.keep and self.at(folder.path)["type"] not in {"directory", "absent"}
        )
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
        # Folders stay out: what brings files back cannot put a folder in its place.
        changed = {step["path"] for step in files + removals if step["do"] != "directory"}
        self.guard(changed, bool(files or removals or chains or handlers or units))
        marks = [self.mark(h.name) for h in handlers] + [self.mark(name) for name, _ in units]
        self.result.notices = frozenset(
            f"{notice.role}.{notice.handler}"
            for notice in self.desired.notices
            if self.touched.intersection(notice.on)
        )
        marks += sorted(self.result.notices)
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
        self.retirements()
        self.handle(handler for handler in handlers if handler.last)
        self.forget()
        return self.result

    def handle(self, handlers: Iterable[Handler]) -> None:
        for handler in handlers:
            self.line("run", handler.name)
            self.run(*handler.argv, say=handler.name)
            self.result.steps.append({"do": "clear", "name": self.mark(handler.name)})

    def forget(self) -> None:
        """Clear what is owed to something that this role does not have, or not any more."""
        cleared = {step["name"] for step in self.result.steps if step["do"] == "clear"}
        for name in sorted(self.owed):
            if self.mark(name) not in cleared:
                self.line("forget that there was something to do for", name)
                self.result.steps.append({"do": "clear", "name": self.mark(name)})

    # --- one function a kind -------------------------------------------------------------------

    def packages(self) -> None:
        wanted = [package.name for package in self.desired.of(Package)]
        missing = [name for name in wanted if name not in self.observed.packages]
        outgoing = [
            package.name
            for package in self.desired.of(AbsentPackage)
            if package.name in self.observed.packages
        ]
        self.touched.update(missing, outgoing)
        said = []
        for verb, names in (("install", missing), ("remove package", outgoing)):
            if names:
                self.line(verb, *names)
                said.append(f"{verb} {' '.join(names)}")
        if said:
            # One transaction, fetched before anything goes: apt reads "name-" as a removal.
            names = [*missing, *(f"{name}-" for name in outgoing)]
            self.result.steps.append({"do": "packages", "names": names, "say": ", ".join(said)})

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
        # Folders first: one that is a link now must not lead what belongs in it elsewhere.
        for directory in self.desired.of(Directory):
            yield from self.directory(directory)
        for file in self.desired.of(File):
            yield from self.file(file)
        for settings in self.desired.of(Settings):
            yield from self.settings(settings)
        for link in self.desired.of(Link):
            yield from self.link(link)

    def seen(self, path: str) -> Mapping[str, str]:
        """What stands at a path, or will once the folders above it are folders."""
        return ABSENT if path.startswith(self.replaced) else self.at(path)

    def at(self, path: str) -> Mapping[str, str]:
        return self.observed.paths.get(path, ABSENT)

    def directory(self, wanted: Directory) -> Iterator[Step]:
        seen = self.seen(wanted.path)
        if wanted.keep and seen["type"] != "absent":
            return
        wrong = _wrong_attributes(wanted, seen) if seen["type"] == "directory" else [seen["type"]]
        if wrong:
            self.line("directory", wanted.path, ", ".join(wrong))
            self.touched.add(wanted.path)
            yield {"do": "directory", **_attributes(wanted)}

    def file(self, wanted: File) -> Iterator[Step]:
        seen = self.seen(wanted.path)
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

    def settings(self, wanted: Settings) -> Iterator[Step]:
        """Entries of a program's own file, whose mode is the program's too."""
        seen = self.seen(wanted.path)
        found = self.observed.settings.get(wanted.path, {}) if seen["type"] == "file" else {}
        nonce = self.observed.nonce
        wrong = [
            key for key, value in wanted.entries if found.get(key) != digest(value.encode(), nonce)
        ]
        owners = _wrong_owners(wanted, seen) if seen["type"] == "file" else [seen["type"]]
        if not wrong and not owners:
            return
        self.line("settings", wanted.path, ", ".join(owners + wrong))
        self.touched.add(wanted.path)
        member = f"settings-{len(self.result.members)}"
        self.result.members[member] = json.dumps(dict(wanted.entries)).encode()
        yield {
            "do": "settings",
            "path": wanted.path,
            "member": member,
            "form": wanted.form,
            "container": wanted.container,
            "owner": wanted.owner,
            "group": wanted.group,
        }

    def link(self, wanted: Link) -> Iterator[Step]:
        seen = self.seen(wanted.path)
        if seen["type"] != "link" or seen["target"] != wanted.target:
            self.line("link", wanted.path, f"-> {wanted.target}")
            self.touched.add(wanted.path)
            yield {"do": "link", "path": wanted.path, "target": wanted.target}

    def removal_steps(self) -> Iterator[Step]:
        for absent in self.desired.of(Absent):
            if self.seen(absent.path)["type"] != "absent":
                yield self.removal(absent.path, tree=False)
        declared = [
            f"{r.path}/" for r in self.desired.resources if isinstance(r, File | Link | Directory)
        ]
        for directory in self.desired.of(Directory):
            for name in self.observed.entries.get(directory.path, ()) if directory.purge else ():
                path = f"{directory.path}/{name}"
                if not any(each.startswith(f"{path}/") for each in declared):
                    yield self.removal(path, tree=True)

    def removal(self, path: str, tree: bool) -> Step:
        self.line("remove", path)
        self.touched.add(path)
        # What stood in a folder counts as an input of whatever depends on the folder.
        self.touched.add(path.rsplit("/", 1)[0])
        return {"do": "remove", "path": path, "tree": tree}

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
            kept, expected = list(seen), list(chain.rules)
            for rule in seen:
                if rule in expected:
                    expected.remove(rule)
                elif rule.startswith("-A"):
                    self.line("remove rule", f"IPv{chain.family}", rule)
                    kept.remove(rule)
                    yield {"do": "run", "argv": [program, "-w", "-D", *shlex.split(rule)[1:]]}
            if tuple(kept) == chain.rules:
                continue
            self.line("repair chain", f"IPv{chain.family}", chain.name)
            if any(rule.startswith("-A") for rule in kept):
                lines = ("*filter", f"-F {chain.name}", *chain.rules, "COMMIT", "")
                yield {"do": "chain", "program": program, "text": "\n".join(lines)}
            else:
                # It was never filled, or was emptied with those that it leads to.
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
        # A mask on what is unwanted anyway is the operator's own, and does no harm.
        if state.startswith("masked") and (unit.enabled or unit.active):
            self.line("unmask", unit.name)
            # Each of the two lifts only masks of its own folder: systemctl(1), --runtime.
            runtime = ["--runtime"] if state == "masked-runtime" else []
            self.run("systemctl", "unmask", *runtime, unit.name)
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
        elif not active or self.touched.intersection(unit.restart_on) or unit.name in self.owed:
            word = "restart" if active else "start"
            self.line(word, unit.name)
            self.touched.add(unit.name)
            # A unit restarted often in a short time is refused until its counter is reset.
            self.result.steps.append(
                {"do": "try", "argv": ["systemctl", "reset-failed", unit.name]}
            )
            # Also where it was down: its package may have started it meanwhile, on other settings.
            self.run("systemctl", "restart", unit.name, say=f"{word}ing {unit.name}")
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

    def guard(self, changed: set[str], needed: bool) -> None:
        guard = self.desired.guard
        unconfirmed = self.desired.role in self.observed.unconfirmed
        self.result.guarded = unconfirmed or (guard is not None and needed)
        if guard is None or not needed:
            if unconfirmed:
                self.line("confirm what an interrupted run has changed")
            return
        self.result.steps.append(
            {
                "do": "arm",
                # All of them: the commands around a revert rewrite files that did not change.
                "paths": sorted({*changed, *paths(self.desired.resources)}),
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
            self.run(*create_network(network))

    def stacks(self) -> None:
        for stack in self.desired.of(Stack):
            seen = self.observed.stacks.get(stack.project, {})
            for stray in _texts(seen.get("strays", [])):
                self.line("remove container", stray)
                self.run("docker", "rm", "-f", stray)
            stale, altered = self.judge_containers(stack, seen)
            compose = ("docker", "compose", "-p", stack.project, "-f", stack.file)
            up = (*compose, "up", "-d", "--quiet-pull")
            if altered:
                # With what they need: without it (--no-deps) they get another configuration hash
                # in Compose 2.26, and would be made a second time at once.
                argv = (*up, "--force-recreate", *altered)
                self.run(*argv, say=_recreating(altered), do="compose")
            extra = self.extra_services(stack, seen)
            if not stack.containers:
                if extra:
                    self.run(*compose, "down", "--remove-orphans", say="docker compose down")
            elif altered or stale or extra or stack.file in self.touched:
                # One wait, at the end: an altered service may need one that is not there yet.
                wait = ("--wait", "--wait-timeout", "300", "--remove-orphans")
                said = " ".join(("docker compose up", *stale))
                self.run(*up, *wait, say=said, do="compose")
            for container in stack.containers:
                if container.service in self.owed:
                    name = self.mark(container.service)
                    self.result.steps.append({"do": "clear", "name": name})

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
            elif wrong := _wrong_container(wanted, container) + self.outdated(wanted):
                altered.append(wanted.service)
                self.line("recreate container", wanted.service, ", ".join(wrong))
            elif container["labels"].get(stack.label) != wanted.fingerprint or (
                # Compose's hash of one behind another covers that one's container, which is not
                # in the file.
                not wanted.behind and container["hash"] != hashes.get(wanted.service)
            ):
                stale.append(wanted.service)
                self.line("recreate container", wanted.service, "configuration")
        for wanted in stack.containers:
            # Its network ends with the other's container; Compose makes it anew with that one.
            if wanted.service in altered and wanted.behind in stale:
                stale.remove(wanted.behind)
                altered.append(wanted.behind)
            elif wanted.behind in stale + altered and wanted.service not in stale + altered:
                stale.append(wanted.service)
                self.line("recreate container", wanted.service, f"with {wanted.behind}")
        return stale, altered

    def outdated(self, wanted: Container) -> list[str]:
        # The file is right again; what the service read at its start was not.
        return ["changed files"] if wanted.service in self.owed else []

    def extra_services(self, stack: Stack, seen: Mapping[str, Any]) -> bool:
        extra = set(seen.get("containers", {})) - {c.service for c in stack.containers}
        for service in sorted(extra):
            self.line("remove container", service, "no longer declared")
        return bool(extra)

    def retirements(self) -> None:
        for retired in self.desired.of(Retired):
            seen = self.observed.retired.get(retired.name, {})
            if retired.removed:
                self.clear_away(retired.name, seen)
                continue
            running = [
                str(container["name"])
                for container in seen.get("containers", ())
                if container["restart"] != "no" or container["state"] in LIVE
            ]
            if running:
                self.line("stop", retired.name, *running)
                self.run("docker", "update", "--restart=no", *running)
                self.run("docker", "stop", "--time", "60", *running, say=f"stopping {retired.name}")

    def clear_away(self, project: str, seen: Mapping[str, Any]) -> None:
        # Only the containers say which files these are, so they go last.
        for path, file in sorted(seen.get("files", {}).items()):
            wrong = _wrong_attributes(File(path, b"", "0600"), file)
            if wrong:
                self.line("file", path, ", ".join(wrong))
                self.result.steps.append(
                    {"do": "attributes", **_attributes(File(path, b"", "0600"))}
                )
        # Whose they are stays: the programs that made them may go on with them.
        for archive in _texts(seen.get("archives", ())):
            self.line("file", archive, "an old backup that everybody may read")
            self.run("chmod", "o-rwx", "--", archive, say=f"closing the old backup {archive}")
        containers = [str(container["name"]) for container in seen.get("containers", ())]
        if containers:
            self.line("remove containers of", project, *containers)
            self.run("docker", "rm", "--force", *containers, say=f"removing {project}")
        for network in _texts(seen.get("networks", ())):
            self.line("remove network", network)
            self.run("docker", "network", "rm", network)

    # --- small helpers ---------------------------------------------------------------------------

    def mark(self, name: str) -> str:
        return f"{self.desired.role}.{name}"

    def line(self, *words: str) -> None:
        self.result.lines.append(printable(" ".join(word for word in words if word)))

    def run(self, *argv: str, say: str = "", do: str = "run") -> None:
        step: Step = {"do": do, "argv": list(argv)}
        if say:
            step["say"] = say
        self.result.steps.append(step)


def printable(text: str) -> str:
    """Text of a host for a terminal: what could control it, or is no character, is escaped."""
    return "".join(c if c.isprintable() or c == "\t" else ascii(c)[1:-1] for c in text)


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
    return wrong + _wrong_owners(wanted, seen)


def _wrong_owners(wanted: File | Directory | Settings, seen: Mapping[str, str]) -> list[str]:
    wrong = []
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


def create_network(network: Network) -> list[str]:
    """The command that makes a network as it is declared."""
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
        "behind": wanted.behind,
    }
    wrong = [key for key, value in expected.items() if seen[key] != value]
    # Compose starts what has stopped, which fails for a paused one and for one whose network has
    # been replaced meanwhile.
    if seen["state"] != "running":
        wrong.append(str(seen["state"]))
    if seen["health"] == "unhealthy":
        wrong.append("unhealthy")
    return wrong


def _recreating(services: Sequence[str]) -> str:
    return f"recreating {' '.join(services)}"


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list | tuple) else []
