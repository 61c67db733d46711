"""The comparison: an Ansible playbook whose variables come from the very model that we deploy."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from roles.core.model import (
    Absent,
    AbsentPackage,
    Chain,
    Desired,
    Directory,
    File,
    Group,
    Handler,
    Link,
    Network,
    Package,
    Settings,
    Stack,
    Sysctl,
    Unit,
    User,
)
from roles.core.state import create_network
from tests.lab.command import LabError
from tests.lab.deployment import Deployment
from tests.lab.host import Host
from tests.lab.paths import REPOSITORY

PROGRAM = REPOSITORY / "build/ansible/bin/ansible-playbook"
T = TypeVar("T")
_HERE = Path(__file__).parent
_KINDS = {
    *(Absent, AbsentPackage, Chain, Directory, File, Group, Link, Network, Package),
    *(Settings, Stack, Sysctl, Unit, User),
}
# Appended to the agent's source: what ansible-core has no module for. It prints what it changed.
_SETTINGS = """
for path, form, container, entries in json.loads({wanted!r}):
    text = text_of(Path(path))
    found = entries_of(form, text)
    if any(found.get(key) != value for key, value in entries.items()):
        if container:
            succeeds("docker", "stop", "--time", "60", container)
        Path(path).write_text(with_entries(form, text, entries))
        print(path)
"""
_PROGRAMS = {"4": "iptables", "6": "ip6tables"}


class Playbook:
    """The playbook for one deployed host; its variables and files lie in `folder`, mode 0700."""

    def __init__(self, deployment: Deployment, folder: Path) -> None:
        if not PROGRAM.exists():
            raise LabError(f"{PROGRAM} is missing; run: make bench")
        host = deployment.host
        values = variables(deployment.desired(), folder, active_units(host))
        (folder / "variables.json").write_text(json.dumps(values))
        (folder / "hosts.json").write_text(json.dumps(_inventory(host)))
        self.argv = [str(PROGRAM), "-i", "hosts.json", "-e", "@variables.json"]
        self.argv.append(str(_HERE / "playbook.yml"))
        self.folder = folder

    def run(self) -> int:
        """Run it to its end; the number of tasks that changed something.

        Raises LabError when a task failed.
        """
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(_HERE / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.folder / "home"),
            "LC_ALL": "C.UTF-8",
        }
        done = subprocess.run(
            self.argv, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        recap = re.search(r"changed=(\d+)", done.stdout)
        if done.returncode != 0 or recap is None:
            raise LabError(f"the playbook failed:\n{done.stdout[-3000:]}{done.stderr[-2000:]}")
        return int(recap.group(1))


def active_units(host: Host) -> frozenset[str]:
    """Units that run there: a container's conditions forbid some, which Ansible does not ask."""
    listed = host.run(["systemctl", "list-units", "--plain", "--no-legend", "--state=active"])
    return frozenset(line.split()[0] for line in listed.stdout.splitlines())


def variables(roles: Sequence[Desired], folder: Path, active: frozenset[str]) -> dict[str, Any]:
    """The model as the playbook's variables; the files' contents are written into `folder`.

    Raises LabError for a kind of thing that the playbook does not manage.
    """
    if missing := {type(r) for role in roles for r in role.resources} - _KINDS:
        raise LabError(f"the playbook does not manage {missing}")
    (stack,) = _all(roles, Stack)
    directories, links = _all(roles, Directory), _all(roles, Link)
    chains = _all(roles, Chain)
    declared: list[File | Directory | Link] = [*_all(roles, File), *directories, *links]
    return {
        "accounts_groups": [asdict(group) for group in _all(roles, Group)],
        "accounts_users": [asdict(user) for user in _all(roles, User)],
        "packages": [package.name for package in _all(roles, Package)],
        "absent_packages": [package.name for package in _all(roles, AbsentPackage)],
        "absent": [absent.path for absent in _all(roles, Absent)],
        "directories": [asdict(directory) for directory in directories],
        "purged": [directory.path for directory in directories if directory.purge],
        "declared": [resource.path for resource in declared],
        "files": _files(roles, folder),
        "settings": str(_settings(_all(roles, Settings), folder)),
        "links": [asdict(link) for link in links],
        "sysctls": [f"{setting.key} = {setting.value}" for setting in _all(roles, Sysctl)],
        "units": [_unit(unit, active) for unit in _all(roles, Unit)],
        "rules": [f"{_PROGRAMS[c.family]} {rule}" for c in chains for rule in c.rules],
        "managed_chains": "|".join(f"{_PROGRAMS[c.family]} -A {c.name} " for c in chains),
        "networks": [
            {"name": network.name, "create": create_network(network)}
            for network in _all(roles, Network)
        ],
        "project": stack.project,
        "compose_file": stack.file,
        "commands": _commands(roles, stack),
    }


def _all(roles: Sequence[Desired], kind: type[T]) -> list[T]:
    return [resource for role in roles for resource in role.of(kind)]


def _files(roles: Sequence[Desired], folder: Path) -> list[dict[str, Any]]:
    validators = {
        check.on[0]: " ".join(word.replace("{" + check.on[0] + "}", "%s") for word in check.argv)
        for role in roles
        for check in role.checks
    }
    made = []
    for number, file in enumerate(_all(roles, File)):
        source = folder / f"file-{number}"
        source.write_bytes(file.content)
        made.append(
            {
                "source": str(source),
                "path": file.path,
                "owner": file.owner,
                "group": file.group,
                "mode": file.mode,
                "secret": file.secret,
                "validate": validators.get(file.path, ""),
            }
        )
    return made


def _settings(all_settings: Sequence[Settings], folder: Path) -> Path:
    """A program that sets the entries of files that programs write themselves."""
    wanted = json.dumps([(s.path, s.form, s.container, dict(s.entries)) for s in all_settings])
    agent = (REPOSITORY / "roles/core/agent.py").read_text().partition("\nif __name__")[0]
    made = folder / "settings.py"
    made.write_text(agent + _SETTINGS.format(wanted=wanted))
    return made


def _unit(unit: Unit, active: frozenset[str]) -> dict[str, Any]:
    judged = unit.active is False or (unit.active and unit.name in active)
    return {
        "name": unit.name,
        "enabled": unit.enabled,
        "state": {True: "started", False: "stopped"}[bool(unit.active)] if judged else "",
        "restart_on": unit.restart_on,
    }


def _commands(roles: Sequence[Desired], stack: Stack) -> list[dict[str, Any]]:
    """What changed files call for: handlers, and containers that read files at their start only."""
    compose = ("docker", "compose", "-p", stack.project, "-f", stack.file)
    recreate = (*compose, "up", "-d", "--force-recreate")
    handlers = [
        *(handler for role in roles for handler in role.handlers),
        *(Handler(c.service, (*recreate, c.service), last=True) for c in stack.containers),
    ]
    noticed = {notice.handler: notice.on for role in roles for notice in role.notices}
    return [
        {
            "argv": handler.argv,
            "paths": [*handler.on, *noticed.get(handler.name, ())],
            "last": handler.last,
        }
        for handler in handlers
    ]


def _inventory(host: Host) -> dict[str, Any]:
    login = {
        "ansible_host": host.address,
        "ansible_user": host.user,
        "ansible_ssh_private_key_file": str(host.key_file),
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={host.known_hosts} -F none",
    }
    return {"all": {"hosts": {host.name: login}}}
