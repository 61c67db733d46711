"""The proof of a host proven: it passes after a deploy, and each of its tests can fail."""

from __future__ import annotations

import ast
import datetime
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from roles.stack.stack import COMPOSE_FILE
from roles.verify.leaks import Searcher
from tests.lab.deployment import DOMAIN, Deployment
from tests.lab.paths import REPOSITORY

pytestmark = pytest.mark.lab

VERIFY = [sys.executable, "-m", "roles.command.verify"]
HOST_TESTS = REPOSITORY / "tests" / "host"
MOST_SECONDS = 60
# These judge the machine that runs them; the unit tests make them fail.
ELSEWHERE = {"clock is right", "proof is cheap"}
ROUTES = "/opt/nexus/config/traefik/dynamic/routes.yml"
CERTIFICATE = "/opt/nexus/config/traefik/certificate.pem"
SESSION_SECRET = "/opt/nexus/secrets/authelia/authelia_session_secret"
OVERRIDE = "/root/override.yml"
UP = f"docker compose -p nexus -f {COMPOSE_FILE} -f {OVERRIDE} up -d --no-deps homepage"
# Up again once it is healthy.
RESTART_TRAEFIK = (
    "docker restart nexus-traefik-1; for i in $(seq 300); do "
    "docker inspect -f '{{.State.Health.Status}}' nexus-traefik-1 | grep -qx healthy && break; "
    "sleep 0.1; done"
)


@dataclass(frozen=True)
class Damage:
    """Commands that damage a host, those that take back what no deploy does, and who notices."""

    commands: str
    noticed_by: tuple[str, ...]
    undo: str = ""


DAMAGES = (
    Damage(
        "systemd-run -q --unit=broken false",
        ("no unit has failed",),
        "systemctl reset-failed broken",
    ),
    Damage(
        """echo 'APT::Periodic::Unattended-Upgrade "0";' > /etc/apt/apt.conf.d/99stray""",
        ("security updates install themselves",),
        "rm -f /etc/apt/apt.conf.d/99stray",
    ),
    Damage("systemctl stop apt-daily.timer", ("updates have a time", "nothing has drifted")),
    Damage(
        "sed -i -e 's/^PasswordAuthentication.*/PasswordAuthentication yes/' "
        "-e 's/^Ciphers.*/Ciphers aes256-ctr,aes128-cbc/' /etc/ssh/sshd_config; "
        "systemctl restart ssh",
        ("effective settings", "refuses passwords", "offers modern algorithms only"),
    ),
    Damage(
        "ufw allow 9090/tcp; "
        "systemd-run -q --collect --unit=stray python3 -m http.server 9090 --bind ::",
        ("only declared ports answer", "nothing undeclared listens"),
        "systemctl stop stray",
    ),
    Damage(
        "systemd-run -q --collect --unit=api python3 -m http.server 2375",
        ("api is not on the network",),
        "systemctl stop api",
    ),
    Damage(
        "iptables -I DOCKER-USER -p tcp -m conntrack --ctorigdstport 80 -j DROP",
        ("declared ports answer here", "http leads to https"),
    ),
    Damage(
        "for each in iptables ip6tables; do $each -P FORWARD ACCEPT; "
        "$each -I FORWARD -p tcp --dport 7 -j ACCEPT; done",
        ("what no rule allows is dropped", "docker asks our chain first"),
        "for each in iptables ip6tables; do $each -P FORWARD DROP; "
        "$each -D FORWARD -p tcp --dport 7 -j ACCEPT; done",
    ),
    Damage(
        'sed -i \'s/"live-restore": true/"live-restore": false/\' /etc/docker/daemon.json; '
        "systemctl reload docker",
        ("engine settings",),
    ),
    Damage(
        "gpasswd -a operator docker",
        ("nobody is in the docker group",),
        "gpasswd -d operator docker",
    ),
    Damage(
        "image=$(docker inspect -f '{{.Image}}' nexus-homepage-1); "
        "docker create --name stray -v /var/run:/host/run --privileged -p 8088:80 $image",
        (
            "only the proxy holds the socket",
            "no container shares the host",
            "no container publishes an undeclared port",
        ),
        "docker rm -f stray",
    ),
    Damage(
        f"docker commit nexus-homepage-1 stray:1; {UP}; "
        "docker update --restart no nexus-homepage-1; "
        "nsenter -m -t $(docker inspect -f '{{.State.Pid}}' nexus-homepage-1) "
        "mount -o remount,exec /tmp",
        (
            "runs and is healthy",
            "image is the pinned one",
            "processes have no privileges",
            "groups are the declared ones",
            "root is read only",
            "mounts are the declared ones",
            "only declared places are writable",
            "temporary folders run nothing",
            "limits are in force",
            "addresses are the declared ones",
            "logs are limited",
        ),
        "docker rmi -f stray:1",
    ),
    Damage(
        f"chmod 444 {SESSION_SECRET}; echo changed > {SESSION_SECRET}",
        (
            "files hold the vaults values",
            "files are their readers alone",
            "nothing is open to every user",
        ),
    ),
)
# Needs values or edits that a line of shell would hide.
OTHERS = (
    "no value stands where others read",
    "certificate holds",
    "old tls is refused",
    "headers protect the browser",
    "guarded route asks for login",
    "forged headers open nothing",
    "unknown name shows nothing",
    "one factor does not open two",
)
# A second round: they cannot be told apart from the damage of the first.
SECOND = {
    "native route answers by itself",
    "wizard is closed",
    "nothing without a login",
    "wrong password is refused",
    "vaults password logs in",
    "portal answers",
}
EVIL = {
    "services": {
        "homepage": {
            "image": "stray:1",
            "user": "0:0",
            "group_add": ["4"],
            "cap_add": ["DAC_OVERRIDE", "NET_RAW"],
            "security_opt": ["seccomp:unconfined"],
            "read_only": False,
            "mem_limit": "900m",
            "memswap_limit": "900m",
            "volumes": ["/srv:/mnt"],
            "networks": {"edge": {"ipv4_address": "172.30.0.99"}},
            "logging": {"driver": "local"},
        }
    }
}


def verify(deployed: Deployment, *options: str) -> subprocess.CompletedProcess[str]:
    deployed.argv()
    return deployed.execute([*VERIFY, str(deployed.inventory), *options])


def failed(output: str) -> set[str]:
    """The names of the tests that failed, without what they were run for."""
    found = re.findall(r"^FAILED [^:]+: ([^\[\n]+)", output, re.MULTILINE)
    return set(found)


def every_test() -> set[str]:
    """The names of all tests of a host."""
    return {
        node.name.removeprefix("test_").replace("_", " ")
        for path in HOST_TESTS.glob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_a_deployed_host_is_proven(deployed: Deployment) -> None:
    deployed.apply()
    done = verify(deployed)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 3 remote commands, " in done.stdout
    assert float(done.stdout.split()[-2]) < MOST_SECONDS


def test_every_test_has_a_damage() -> None:
    noticed = {name for damage in DAMAGES for name in damage.noticed_by}
    assert noticed | {*OTHERS} | SECOND | ELSEWHERE == every_test()


@pytest.fixture
def damaged(deployed: Deployment) -> Iterator[Deployment]:
    """A host with every damage of the first round."""
    host = deployed.host
    host.run(["tee", OVERRIDE], stdin=yaml.safe_dump(EVIL))
    host.run(["tee", CERTIFICATE], stdin=short_certificate(deployed))
    host.run(["sed", "-i", *weakening(), ROUTES])
    try:
        for damage in DAMAGES:
            host.run(damage.commands)
        value = deployed.secrets()["valkey_password"].reveal()
        host.run(f"systemd-run -q --collect --unit=leak -E LEAK={value} sleep 600")
        host.run(RESTART_TRAEFIK)
        yield deployed
    finally:
        host.run(f"systemctl stop leak; rm -f {OVERRIDE}", check=False)
        for damage in DAMAGES:
            host.run(damage.undo or "true", check=False)
        deployed.apply()


def weakening() -> list[str]:
    """The edits that make Traefik's routes weak."""
    everything = '{rule: "HostRegexp(`.+`)", priority: 1, service: homepage}'
    return [
        *("-e", "s/minVersion: .*/minVersion: VersionTLS10/"),
        *("-e", "s/sniStrict: .*/sniStrict: false/"),
        *("-e", "s/TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256/TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA/"),
        *("-e", "/stsSeconds/d;/contentTypeNosniff/d;/customFrameOptionsValue/d"),
        *("-e", 's/"authelia", //'),
        *("-e", f"/^  routers:/a\\    stray: {everything}"),
    ]


def short_certificate(deployed: Deployment) -> str:
    """A certificate of the site's own authority and key that ends in five days."""
    secrets = {name: secret.reveal().encode() for name, secret in deployed.secrets().items()}
    authority = x509.load_pem_x509_certificate(secrets["tls_ca_certificate"])
    old = x509.load_pem_x509_certificate(secrets["tls_server_certificate"])
    key = serialization.load_pem_private_key(secrets["tls_ca_key"], None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(
        authority.subject,
        old.subject,
        old.public_key(),
        x509.random_serial_number(),
        now - datetime.timedelta(hours=1),
        now + datetime.timedelta(days=5),
        list(old.extensions),
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def test_every_damage_is_noticed(damaged: Deployment) -> None:
    done = verify(damaged)
    assert done.returncode == 1, done.stdout + done.stderr
    expected = {name for damage in DAMAGES for name in damage.noticed_by} | {*OTHERS}
    assert failed(done.stdout) == expected, done.stdout
    # Only the damaged container, not its neighbours.
    assert set(re.findall(r"^FAILED containers: .*\[(.*)\]$", done.stdout, re.MULTILINE)) == {
        "homepage"
    }
    assert Searcher(damaged.secrets()).found_in(done.stdout + done.stderr) == []


def test_foreign_and_stopped_applications_are_noticed(deployed: Deployment) -> None:
    guarded = '/Host(`jellyfin[.]/,/middlewares/s/middlewares: \\[/&"authelia", /'
    foreign = "s|http://jellyfin:8096|http://homepage:3000|"
    deployed.host.run(["sed", "-i", "-e", guarded, "-e", foreign, ROUTES])
    deployed.host.run("docker stop nexus-authelia-1; sleep 1")
    try:
        # Whatever pytest is asked to show, among it must be no password of a login that failed.
        options = ("--tb=long", "--showlocals", "--full-trace", "-rA")
        done = verify(deployed, "-k", "authelia or jellyfin or routes", *options)
        assert done.returncode == 1
        assert failed(done.stdout) >= SECOND, done.stdout
        leaks = Searcher(deployed.secrets()).found_in(done.stdout + done.stderr)
        assert leaks == []
    finally:
        deployed.apply()


def test_an_address_out_of_reach_is_not_taken_for_closed(deployed: Deployment) -> None:
    address = "2001:db8:77::9/128"  # documentation's (RFC 3849): nothing leads there
    deployed.host.run(["ip", "address", "add", address, "dev", "eth0"])
    try:
        done = verify(deployed, "-k", "only_declared_ports")
        assert done.returncode == 2, done.stdout + done.stderr
        assert re.findall("this machine does not reach (.*);", done.stdout) == [address[:-4]]
    finally:
        deployed.host.run(["ip", "address", "del", address, "dev", "eth0"])


def test_an_unknown_host_key_is_refused(deployed: Deployment) -> None:
    nobody = deployed.folder / "nobody"
    nobody.touch()
    deployed.argv(ssh_known_hosts_file=str(nobody))
    done = deployed.execute([*VERIFY, str(deployed.inventory)])
    assert done.returncode == 2
    assert "no login at" in done.stderr and DOMAIN not in done.stdout


def test_a_host_that_is_whole_again_is_proven(deployed: Deployment) -> None:
    done = verify(deployed)
    assert done.returncode == 0, done.stdout + done.stderr
