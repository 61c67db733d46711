"""A site deployed to a lab host through pyinfra's own command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from roles.context import Context, Facts
from roles.core.model import Desired
from roles.core.secret import Secret
from roles.core.vault import Vault
from roles.plan import roles_of, secrets_of, site_of
from roles.stack import catalogue
from roles.stack.stack import stack_of
from tests.lab.machine.host import NETWORK, Host

ROOT = Path(__file__).parents[2]
PASSPHRASE = "lab-only-passphrase"
INVENTORY = """site = {site!r}
hosts = [({address!r}, {data!r} | {{"site": site}})]
"""


class Deployment:
    """One site, its vault and its host. Changed keys of the site go to `run` as `site`."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        self.folder = folder
        self.vault = folder / "lab.vault.json"
        Vault.create(self.vault, PASSPHRASE.encode())
        self.site: dict[str, Any] = {
            "name": "lab",
            "domain": "home.example.org",
            "email": "admin@example.org",
            "timezone": "Europe/Berlin",
            "admin": "alice",
            "lan": [f"{NETWORK}.0/24"],
            "media": {"movies": "/srv/media/movies"},
            # The host's own roles; the containers need images, which have tests of their own.
            "services": {name: {"enabled": False} for name in sorted(catalogue.names())},
        }

    def argv(self, *options: str, site: dict[str, Any] | None = None) -> list[str]:
        """pyinfra's command line for this host."""
        data = {
            "ssh_user": "root",
            "ssh_key": str(self.host.key),
            "ssh_known_hosts_file": str(self.host.known_hosts),
            "ssh_strict_host_key_checking": "yes",
            "_sudo": True,
            "vault": str(self.vault),
        }
        inventory = self.folder / "lab.py"
        merged = {**self.site, **(site or {})}
        inventory.write_text(INVENTORY.format(site=merged, address=self.host.address, data=data))
        pyinfra = Path(sys.executable).with_name("pyinfra")
        return [str(pyinfra), *options, str(inventory), "deploy.py"]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "NEXUS_VAULT_PASSPHRASE": PASSPHRASE}

    def run(
        self, *options: str, site: dict[str, Any] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """One pyinfra run to its end."""
        return subprocess.run(
            self.argv(*options, site=site),
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def changed(self) -> list[str]:
        """Deploy and name the operations that changed something."""
        done = self.run("-y", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        result = json.loads(done.stdout)["results"]
        operations = result["operations"]
        return [o["name"] for o in operations if o.get("success")]

    def values(self) -> dict[str, Secret]:
        """Every secret of the site."""
        os.environ["NEXUS_VAULT_PASSPHRASE"] = PASSPHRASE
        return secrets_of(site_of(self.site), str(self.vault))

    def desired(self) -> list[Desired]:
        """The model that the deploy works from."""
        secrets = self.values()
        site = site_of(self.site)
        gid = int(self.host.run("getent", "group", "docker").split(":")[2])
        facts = Facts("debian", "trixie", os.uname().machine, gid)
        return roles_of(Context(site, stack_of(site, secrets), facts, secrets))
