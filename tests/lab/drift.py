"""Alterations of a host, derived from the model: what is managed is what can drift."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from roles.core.model import (
    Chain,
    Desired,
    Directory,
    File,
    Group,
    Link,
    Network,
    Package,
    Resource,
    Settings,
    Stack,
    Sysctl,
    Unit,
    User,
    identity,
)

UNITS = "/etc/systemd/system"
# By the kind of alteration, or by its first word.
VERBS = {
    **{"unit_stopped": "start", "unit_disabled": "enable", "unit_masked": "unmask"},
    **{"stray_entry": "remove", "stray_rule": "remove rule", "rule": "repair chain"},
    **{"file": "file", "directory": "directory", "link": "link", "kernel": "kernel setting"},
    **{"package": "install", "settings": "settings"},
}
# Stopped, these are started again by systemd itself, for the next question that they are asked.
BY_SOCKET = ("systemd-journald.service", "docker.service")
# Altered, these cut the way by which they would be mended: nothing can restore them from afar.
WAY_IN = {
    Package("openssh-server").name: "no package, no login",
    "ssh.service": "stopped, it takes no login",
}


@dataclass(frozen=True)
class Alteration:
    """A command for bash on the host, and what one line of the next run must begin and hold."""

    kind: str
    command: str
    begins: str
    holds: str

    def is_said(self, lines: Iterable[str]) -> bool:
        return any(line.startswith(self.begins) and self.holds in line for line in lines)


def alterations(roles: Iterable[Desired]) -> Iterator[Alteration]:
    """Every way in which something of the model can be otherwise on the host."""
    listed = list(roles)
    files = {file.path for role in listed for file in role.of(File)}
    for role in listed:
        for resource in role.resources:
            for kind, make in _WAYS.get(type(resource), {}).items():
                command = make(resource)
                # systemctl masks no unit whose file stands where the mask would.
                held = kind == "unit_masked" and f"{UNITS}/{identity(resource)[-1]}" in files
                if command and not held:
                    begins, holds = _said(kind, resource)
                    name = kind.replace("_", " ")
                    yield Alteration(name, command, f"{role.role}: {begins}", holds)


def kinds() -> list[str]:
    """The names of all ways, each a test."""
    return sorted({kind.replace("_", " ") for ways in _WAYS.values() for kind in ways})


def _said(kind: str, resource: Resource) -> tuple[str, str]:
    """The verb and the thing, in the engine's words."""
    thing = "container" if isinstance(resource, Stack) else identity(resource)[-1]
    stray = "/stray" if kind == "stray_entry" else ""
    return VERBS.get(kind, VERBS.get(kind.split("_", maxsplit=1)[0], "")), f"{thing}{stray}"


def _quoted(template: str) -> Callable[[Any], str]:
    return lambda resource: template.replace("{}", shlex.quote(resource.path))


def _directory(template: str) -> Callable[[Any], str]:
    return lambda d: "" if d.keep else _quoted(template)(d)


def _purged(directory: Directory) -> str:
    stray = shlex.quote(f"{directory.path}/stray")
    return f"echo stray > {stray}" if directory.purge else ""


def _unit(verb: str) -> Callable[[Any], str]:
    def command(unit: Unit) -> str:
        if unit.name in WAY_IN or (unit.enabled is False):
            return ""
        if verb == "disable" and unit.enabled is None:
            return ""
        if verb == "stop" and (unit.active is not True or unit.name in BY_SOCKET):
            return ""
        return f"systemctl {verb} {unit.name}"

    return command


def _package(package: Package) -> str:
    return "" if package.name in WAY_IN else f"dpkg --remove --force-all {package.name}"


def _group(group: Group) -> str:
    # The engine's group may have any number: the model follows what the host says.
    if group.gid is None or group.name == "docker":
        return ""
    return f"groupmod -g {group.gid + 500} {group.name}"


def _chain(template: str) -> Callable[[Any], str]:
    def command(chain: Chain) -> str:
        program = "iptables" if chain.family == "4" else "ip6tables"
        return template.format(program=program, chain=chain.name)

    return command


def _last_rule(chain: Chain) -> str:
    # The first of UFW's rules let the operator in, as does the way to them.
    rules = [rule for rule in chain.rules if rule.startswith("-A ")]
    number = max(n for n, rule in enumerate(rules, 1) if not rule.endswith("-user-input"))
    return _chain(f"{{program}} -D {{chain}} {number}")(chain)


def _containers(template: str) -> Callable[[Any], str]:
    def command(stack: Stack) -> str:
        names = (f"{stack.project}-{container.service}-1" for container in stack.containers)
        return "; ".join(template.replace("{}", name) for name in names)

    return command


_WAYS: dict[type, dict[str, Callable[[Any], str]]] = {
    File: {
        "file_content": _quoted("echo '# stray' >> {}"),
        "file_mode": _quoted("chmod 0666 {}"),
        "file_owner": _quoted("chown 4242:4242 {}"),
        "file_deleted": _quoted("rm {}"),
        "file_a_link": _quoted("ln -sf /etc/hostname {}"),
        "file_truncated": _quoted("truncate -s 1 {}"),
    },
    Directory: {
        "directory_mode": _directory("chmod 0777 {}"),
        "directory_owner": _directory("chown 4242:4242 {}"),
        "stray_entry": _purged,
    },
    Settings: {
        "settings_emptied": _quoted("truncate -s 0 {}"),
        "settings_owner": _quoted("chown 4242:4242 {}"),
    },
    Link: {"link_target": _quoted("ln -sfn /nowhere {}"), "link_deleted": _quoted("rm {}")},
    Sysctl: {"kernel_setting": lambda s: f"sysctl -qw {s.key}={'0' if s.value != '0' else '1'}"},
    Unit: {
        "unit_stopped": _unit("stop"),
        "unit_disabled": _unit("disable"),
        "unit_masked": _unit("mask"),
    },
    Package: {"package_removed": _package},
    Group: {
        "group_number": _group,
    },
    User: {
        "user_deleted": lambda u: f"userdel {u.name}; groupadd -rf -g {u.uid} {u.group}",
        "user_shell": lambda u: f"usermod -s /bin/bash {u.name}",
        "user_unlocked": lambda u: f"usermod -p 'x' {u.name}",
    },
    Chain: {
        "stray_rule": _chain("{program} -I {chain} 1 -p tcp --dport 9999 -j ACCEPT"),
        "rule_deleted": _last_rule,
    },
    Network: {
        "network_removed": lambda n: (
            f"for c in $(docker network inspect {n.name} -f "
            "'{{range .Containers}}{{.Name}} {{end}}'); do "
            f"docker network disconnect -f {n.name} $c; done; docker network rm {n.name}"
        ),
    },
    Stack: {
        "container_removed": _containers("docker rm -f {}"),
        "container_stopped": _containers("docker stop -t 2 {}"),
        "container_limit": _containers("docker update --memory 90m --memory-swap 90m {}"),
        "container_network": _containers(
            "for n in $(docker inspect {} -f '{{range $k, $v := .NetworkSettings.Networks}}{{$k}} "
            "{{end}}'); do docker network disconnect -f $n {}; done"
        ),
        "container_replaced": _containers(
            "image=$(docker inspect {} -f '{{.Config.Image}}'); docker rm -f {}; "
            "docker run -d --name {} --entrypoint sleep $image 600"
        ),
    },
}
