"""Whatever is altered on the host comes back in one run, and nothing else is touched."""

from __future__ import annotations

import re
import socket
import ssl

import pytest

from roles.core.model import File
from roles.core.vault import Vault
from roles.stack.stack import config_folder
from tests.lab.deployment import DOMAIN, PASSPHRASE, Deployment
from tests.lab.drift import alterations, kinds

pytestmark = pytest.mark.lab

# Contents and attributes of all that is managed, and the rules in force.
STATE = (
    "find /etc/ssh /etc/ufw /etc/docker /etc/default/ufw /etc/sysctl.d /etc/systemd /etc/apt "
    "/opt/nexus/config /opt/nexus/secrets /opt/nexus/compose.yml /usr/local/lib/nexus "
    r"-not -name '.nexus-*' -printf '%p %M %U %G %l\n' | sort; "
    "find /etc/ssh /etc/ufw /etc/docker /opt/nexus/config /opt/nexus/secrets -type f | sort "
    "| xargs sha256sum; getent passwd | sort; getent group | sort; for t in iptables ip6tables; do "
    "for c in INPUT DOCKER-USER; do $t -S $c; done; $t -S | grep -- '-user-input'; done"
)
SAID = re.compile(r"\] ([a-z0-9-]+: .+)")


@pytest.mark.parametrize("kind", kinds())
def test_drift_comes_back_in_one_run(deployed: Deployment, kind: str) -> None:
    chosen = [a for a in alterations(deployed.desired()) if a.kind == kind]
    if kind == "unit stopped":
        # A clock's own daemon never starts in a namespace host, so it cannot be stopped.
        active = deployed.host.run("systemctl list-units --state=active --plain --no-legend").stdout
        chosen = [a for a in chosen if a.holds in active]
    assert chosen
    before = deployed.host.run(STATE).stdout
    # In one call: there are some 150 of a file, and a call takes longer than what it does.
    script = "".join(f"({alteration.command}) < /dev/null\n" for alteration in chosen)
    deployed.host.run(["bash"], check=False, stdin=script, timeout=300)
    done = deployed.run("-y")
    shown = done.stdout + done.stderr
    assert done.returncode == 0, shown
    said = SAID.findall(shown)
    missing = [alteration for alteration in chosen if not alteration.is_said(said)]
    assert not missing, shown
    assert deployed.apply() == []
    assert deployed.host.run(STATE).stdout == before
    assert deployed.healthy() == {f"nexus-{s.name}-1" for s in deployed.stack().services}


def test_a_service_s_files_recreate_its_container_alone(deployed: Deployment) -> None:
    for service in deployed.stack().services:
        role = next((r for r in deployed.desired() if r.role == service.name), None)
        folder = config_folder(service)
        files = [f.path for f in role.of(File) if f.path.startswith(folder)] if role else []
        for path in files[:1]:
            before = containers(deployed)
            deployed.host.run(["sh", "-c", f"echo '# stray' >> {path}"])
            deployed.apply()
            after = containers(deployed)
            changed = {name for name in before if before[name] != after[name]}
            live = path.removeprefix(f"{folder}/").startswith(service.reloads or ("\0",))
            assert changed == (set() if live else {f"nexus-{service.name}-1"}), path


def test_a_certificate_that_is_gone_is_made_anew_and_served(deployed: Deployment) -> None:
    served = certificate(deployed)
    vault = Vault.open(deployed.vault, PASSPHRASE.encode())
    vault.remove("tls_server_certificate")
    vault.save()
    before = containers(deployed)
    # The vault's copy on the host is part of the backup.
    assert {name.split(" |")[0] for name in deployed.apply()} == {"Traefik", "Stack", "Backup"}
    after = containers(deployed)
    assert {name for name in before if before[name] != after[name]} <= {"nexus-traefik-1"}
    assert certificate(deployed) != served
    assert deployed.apply() == []


def certificate(deployed: Deployment) -> bytes:
    """What the host shows; it must be signed by the site's authority."""
    authority = deployed.secrets()["tls_ca_certificate"].reveal()
    context = ssl.create_default_context(cadata=authority)
    name = f"home.{DOMAIN}"
    with (
        socket.create_connection((deployed.host.address, 443), 10) as plain,
        context.wrap_socket(plain, server_hostname=name) as connection,
    ):
        return connection.getpeercert(binary_form=True) or b""


def containers(deployed: Deployment) -> dict[str, str]:
    """Each container's id and the moment of its start."""
    form = "{{.Name}} {{.Id}} {{.State.StartedAt}}"
    listed = deployed.host.run(f"docker inspect -f '{form}' $(docker ps -aq)").stdout
    rows = (line.lstrip("/").split(" ", 1) for line in listed.splitlines())
    return dict(rows)
