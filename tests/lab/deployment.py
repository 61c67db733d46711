"""A site deployed to a lab host through pyinfra's own command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from roles.context import Context, Facts
from roles.core.model import Desired
from roles.core.secret import Secret
from roles.core.vault import Vault
from roles.plan import roles_of, secrets_of, site_of
from roles.stack import catalogue
from roles.stack.stack import Stack, fitted, stack_of
from tests.lab.host import Host
from tests.lab.network import ATTACKER_NAMESPACE, LAN
from tests.lab.paths import REPOSITORY

PASSPHRASE = "lab-only-passphrase"
INVENTORY = """site = {site!r}
hosts = {hosts!r}
"""
DOMAIN = "home.example.org"
# The roles that a host here does without, unless a test switches the monitoring on.
MONITORING = {
    *("alertmanager", "blackbox", "exporters", "grafana", "logs", "measure", "prometheus"),
    "tracing",
}


class Deployment:
    """One site, its vault and its host. Changed keys of the site go to `run` as `site`."""

    def __init__(self, host: Host, folder: Path, images: Mapping[str, str]) -> None:
        self.host = host
        self.folder = folder
        self.vault = folder / "lab.vault.json"
        Vault.create(self.vault, PASSPHRASE.encode())
        self.site: dict[str, Any] = {
            "name": "lab",
            "domain": DOMAIN,
            "email": "admin@example.org",
            "timezone": "Europe/Berlin",
            "admin": "alice",
            "lan": [str(LAN.network), str(LAN.network6)],
            "media": {name: f"/srv/media/{name}" for name in ("movies", "music", "series")},
            "exposure": "internet",
            "images": dict(images),
            # A test of its own switches it on; the others need neither its time nor its memory.
            "monitoring": {"enabled": False},
            # What the lab has no image of stays out.
            "services": {
                service.name: {"enabled": False}
                for service in catalogue.CATALOGUE
                if service.image not in images
            },
        }

    @property
    def inventory(self) -> Path:
        return self.folder / "lab.py"

    def login(
        self, host: Host, site: Mapping[str, Any] | None = None, **data: Any
    ) -> tuple[str, dict[str, Any]]:
        """A host of the inventory: its address and its connection data, which `data` changes."""
        return host.address, {
            "ssh_user": "operator",
            "ssh_key": str(host.key_file),
            "ssh_known_hosts_file": str(host.known_hosts),
            "ssh_strict_host_key_checking": "yes",
            "_sudo": True,
            "vault": str(self.vault),
            "site": {**self.site, **(site or {})},
            **data,
        }

    def argv(self, *options: str, site: Mapping[str, Any] | None = None, **data: Any) -> list[str]:
        """pyinfra's command line for this host; `data` changes its connection data."""
        return self.argv_for([self.login(self.host, site, **data)], *options)

    def argv_for(self, hosts: Sequence[tuple[str, dict[str, Any]]], *options: str) -> list[str]:
        """pyinfra's command line for these hosts, which all have one site."""
        self.inventory.write_text(INVENTORY.format(site=hosts[0][1]["site"], hosts=hosts))
        return [str(program("pyinfra")), *options, str(self.inventory), "deploy.py"]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "NEXUS_VAULT_PASSPHRASE": PASSPHRASE}

    def run(
        self, *options: str, site: Mapping[str, Any] | None = None, **data: Any
    ) -> subprocess.CompletedProcess[str]:
        """One pyinfra run to its end."""
        return self.execute(self.argv(*options, site=site, **data))

    def execute(self, argv: list[str]) -> subprocess.CompletedProcess[str]:
        """A program of the operator's, with the key to the vault."""
        return subprocess.run(
            argv,
            cwd=REPOSITORY,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def apply(self, site: Mapping[str, Any] | None = None) -> list[str]:
        """Deploy and name the operations that changed something."""
        done = self.run("-y", "--json", site=site)
        assert done.returncode == 0, transcript(done)
        return changed_operations(done.stdout)

    def healthy(self) -> set[str]:
        """The names of the containers whose health check succeeds."""
        listed = ["docker", "ps", "--filter", "health=healthy", "--format", "{{.Names}}"]
        return set(self.host.run(listed).stdout.split())

    def keep(self, entries: Mapping[str, str]) -> None:
        """Put these into the site's vault, as its operator would."""
        vault = Vault.open(self.vault, PASSPHRASE.encode())
        for name, value in entries.items():
            vault.set(name, value)
        vault.save()

    def secrets(self) -> dict[str, Secret]:
        """Every secret of the site."""
        return secrets_of(site_of(self.site), str(self.vault), self.environment)

    def stack(self) -> Stack:
        """The services as the deploy sees them."""
        return stack_of(site_of(self.site), self.secrets())

    def group(self, name: str) -> int | None:
        """The number of a group of the host, where there is one."""
        found = self.host.run(["getent", "group", name], check=False).stdout
        return int(found.split(":")[2]) if found else None

    def desired(self) -> list[Desired]:
        """The model that the deploy works from."""
        return roles_of(self.context())

    def context(self) -> Context:
        """What every role starts from on this host."""
        gid, journal_gid = self.group("docker"), self.group("systemd-journal")
        processors = len(os.sched_getaffinity(0))
        facts = Facts("debian", "trixie", os.uname().machine, gid, processors)
        secrets = self.secrets()
        site = site_of(self.site)
        stack = fitted(stack_of(site, secrets), processors, journal_gid=journal_gid)
        return Context(site, stack, facts, secrets, self.vault.read_bytes())


def program(name: str) -> Path:
    """A console program of the virtual environment that runs the tests."""
    return Path(sys.executable).with_name(name)


def transcript(done: subprocess.CompletedProcess[str]) -> str:
    """All that a run has printed, and last what it said of a host: a traceback may follow that."""
    output = done.stdout + done.stderr
    about = [line for line in output.splitlines() if line.lstrip().startswith("[")]
    return "\n".join([output, "--- the last lines about a host", *about[-20:]])


def changed_operations(output: str) -> list[str]:
    """The names of the operations that pyinfra's JSON reports as changed."""
    operations = json.loads(output)["results"]["operations"]
    return [operation["name"] for operation in operations if operation.get("success")]


def answers(address: str, port: int, namespace: str = ATTACKER_NAMESPACE.name) -> bool:
    """Whether something accepts a TCP connection there, tried from a place of the network."""
    code = f"import socket; socket.create_connection(({address!r}, {port}), 2)"
    argv = ["ip", "netns", "exec", namespace, sys.executable, "-c", code]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0
