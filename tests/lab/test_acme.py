"""Certificates from a real ACME server, proven by HTTP and by DNS, and what happens without one.

One deployed host goes from its own authority to each proof and back. The tests build on each other.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.lab.authority import Authority, eventually, shown_certificate
from tests.lab.deployment import DOMAIN, Deployment
from tests.lab.lab import Lab

pytestmark = pytest.mark.lab

CONTAINER = "nexus-traefik-1"
STORE = "/opt/nexus/data/traefik/acme"
# The proxy asks for one name after the other, and each is proven anew.
ISSUE_SECONDS = 300.0
WRONG_SECRET = "d3JvbmctYnV0LXdlbGwtZm9ybWVk"


@pytest.fixture(scope="module")
def authority(
    lab: Lab, deployed: Deployment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Authority]:
    """The LAN's ACME and DNS server; the deployed host asks it for every name."""
    machine = lab.start_host(lab.free_name("authority"))
    try:
        made = Authority(machine, Path(tmp_path_factory.mktemp("authority")))
        made.install()
        made.publish(DOMAIN, deployed.host.address, deployed.host.address6)
        resolver = deployed.host.run(["cat", "/etc/resolv.conf"]).stdout
        point(deployed, f"nameserver {machine.address}\n")
        yield made
        point(deployed, resolver)
        deployed.apply()
    finally:
        machine.destroy()


@pytest.fixture(scope="module")
def by_http(authority: Authority) -> Mapping[str, Any]:
    """What a site says to prove its names by HTTP."""
    tls = {
        "mode": "acme-http",
        "directory": authority.directory,
        "ca_certificate": authority.ca_certificate,
    }
    return {"tls": tls}


@pytest.fixture(scope="module")
def by_dns(authority: Authority, by_http: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a site says to prove its domain by DNS."""
    variables = {variable: variable.lower() for variable in authority.credentials}
    changed = {
        "mode": "acme-dns",
        "provider": "rfc2136",
        "credentials": variables,
        "resolvers": [authority.resolver],
    }
    return {"tls": {**by_http["tls"], **changed}}


@pytest.fixture(scope="module")
def names(deployed: Deployment) -> list[str]:
    """Every name that the host serves."""
    stack = deployed.stack()
    return [stack.hostname(service) for service in stack.routed()]


def test_an_http_proof_gives_each_name_a_certificate(
    deployed: Deployment, authority: Authority, by_http: Mapping[str, Any], names: list[str]
) -> None:
    deployed.apply(by_http)
    root = authority.root_certificate()
    for name in names:
        for address in (deployed.host.address, deployed.host.address6):
            eventually(partial(shown_certificate, address, name, root), ISSUE_SECONDS)
    assert deployed.apply(by_http) == []


def test_plain_http_is_still_redirected(deployed: Deployment, names: list[str]) -> None:
    for path in ("/", "/.well-known/other"):
        status, headers = plain_http(deployed.host.address, names[0], path)
        assert status == 301
        assert f"location: https://{names[0]}{path}" in headers.lower()
    status, _ = plain_http(deployed.host.address, names[0], "/.well-known/acme-challenge/guess")
    assert status == 404


def test_the_store_is_the_proxys_alone(deployed: Deployment) -> None:
    uid = deployed.stack().service("traefik").uid
    files = deployed.host.run(["stat", "-c", "%a %u", f"{STORE}/{only_store(deployed)}"]).stdout
    assert files.split() == ["600", str(uid)]


def test_a_certificate_is_renewed_before_its_end(
    deployed: Deployment, authority: Authority, names: list[str]
) -> None:
    root = authority.root_certificate()
    old = shown_certificate(deployed.host.address, names[0], root).serial_number
    deployed.host.run(["docker", "restart", CONTAINER])

    def renewed() -> None:
        new = shown_certificate(deployed.host.address, names[0], root).serial_number
        if new == old:
            raise OSError("still the old certificate")

    eventually(renewed, ISSUE_SECONDS)


def test_a_name_that_could_not_be_proven_is_asked_for_again(
    deployed: Deployment,
    authority: Authority,
    by_http: Mapping[str, Any],
    names: list[str],
) -> None:
    root = authority.root_certificate()
    authority.publish(DOMAIN)
    deployed.host.run(["docker", "stop", CONTAINER])
    deployed.host.run(["rm", f"{STORE}/{only_store(deployed)}"])
    deployed.host.run(["docker", "start", CONTAINER])
    eventually(lambda: logged(deployed, names[0], "could not resolve"), 60)
    refuses_every_handshake(deployed, names)

    authority.publish(DOMAIN, deployed.host.address, deployed.host.address6)
    deployed.host.run(["systemctl", "start", "nexus-certificates.service"])
    for name in names:
        eventually(partial(shown_certificate, deployed.host.address, name, root), ISSUE_SECONDS)
    running = deployed.host.run(["docker", "inspect", "-f", "{{.State.StartedAt}}", CONTAINER])
    deployed.host.run(["systemctl", "start", "nexus-certificates.service"])
    again = deployed.host.run(["docker", "inspect", "-f", "{{.State.StartedAt}}", CONTAINER])
    assert again.stdout == running.stdout
    assert deployed.apply(by_http) == []


def test_a_wrong_credential_is_named_in_the_log_and_nothing_unsafe_is_served(
    deployed: Deployment, authority: Authority, by_dns: Mapping[str, Any], names: list[str]
) -> None:
    give(deployed, {**authority.credentials, "RFC2136_TSIG_SECRET": WRONG_SECRET})
    deployed.apply(by_dns)
    eventually(lambda: logged(deployed, f"[*.{DOMAIN}]", "bad authentication"), 60)
    refuses_every_handshake(deployed, names)
    assert plain_http(deployed.host.address, names[0], "/")[0] == 301
    assert_hidden(deployed, WRONG_SECRET)


def test_a_dns_proof_gives_one_certificate_for_all_names(
    deployed: Deployment, authority: Authority, by_dns: Mapping[str, Any], names: list[str]
) -> None:
    give(deployed, authority.credentials)
    deployed.apply(by_dns)
    root = authority.root_certificate()
    eventually(lambda: shown_certificate(deployed.host.address, names[0], root), ISSUE_SECONDS)
    shown = [shown_certificate(deployed.host.address, name, root) for name in names]
    assert len({certificate.serial_number for certificate in shown}) == 1
    assert deployed.apply(by_dns) == []
    assert_hidden(deployed, authority.key)


def test_a_credential_that_goes_bad_leaves_the_certificate_in_service(
    deployed: Deployment, authority: Authority, by_dns: Mapping[str, Any], names: list[str]
) -> None:
    give(deployed, {**authority.credentials, "RFC2136_TSIG_SECRET": WRONG_SECRET})
    deployed.apply(by_dns)
    eventually(lambda: logged(deployed, "renewing", "bad authentication"), 60)
    shown_certificate(deployed.host.address, names[0], authority.root_certificate())
    give(deployed, authority.credentials)
    deployed.apply(by_dns)


def test_the_own_authority_takes_over_again(
    deployed: Deployment, authority: Authority, names: list[str]
) -> None:
    deployed.apply()
    own = deployed.secrets()["tls_ca_certificate"].reveal()
    for name in names:
        eventually(partial(shown_certificate, deployed.host.address, name, own), 30)
    assert deployed.apply() == []
    secrets = deployed.host.run(["ls", "/opt/nexus/secrets/traefik"]).stdout.split()
    assert secrets == ["tls_server_key"]
    assert deployed.host.run(["grep", "-rl", authority.key, "/opt/nexus"], check=False).stdout == ""


def point(deployed: Deployment, resolver: str) -> None:
    """Let the host, and the containers that start from now on, resolve names there."""
    deployed.host.run("cat > /etc/resolv.conf", stdin=resolver)


def give(deployed: Deployment, credentials: Mapping[str, str]) -> None:
    """Put the credentials of the DNS provider into the vault."""
    deployed.keep({variable.lower(): value for variable, value in credentials.items()})


def only_store(deployed: Deployment) -> str:
    """The name of the file with the certificates, of which there is one so far."""
    (name,) = deployed.host.run(["ls", STORE]).stdout.split()
    return name


def log(deployed: Deployment) -> str:
    """What the proxy has said since it last started."""
    started = deployed.host.run(["docker", "inspect", "-f", "{{.State.StartedAt}}", CONTAINER])
    shown = ["docker", "logs", "--since", started.stdout.strip(), CONTAINER]
    done = deployed.host.run(shown)
    return done.stdout + done.stderr


def logged(deployed: Deployment, *words: str) -> None:
    """Pass if one line of the proxy's log has all the words.

    Raises:
        OSError: none has.
    """
    lines = log(deployed).splitlines()
    if not any(all(word.lower() in line.lower() for word in words) for line in lines):
        raise OSError(f"no line has {words}: {lines[-5:]}")


def refuses_every_handshake(deployed: Deployment, names: list[str]) -> None:
    """Pass if nothing is shown for any name, even to a client that checks nothing."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for name in names:
        with (
            socket.create_connection((deployed.host.address, 443), 10) as plain,
            pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"),
        ):
            context.wrap_socket(plain, server_hostname=name)


def plain_http(address: str, name: str, path: str) -> tuple[int, str]:
    """Status and head of an answer on port 80."""
    with socket.create_connection((address, 80), 10) as link:
        link.sendall(f"GET {path} HTTP/1.0\r\nHost: {name}\r\n\r\n".encode())
        head = b"".join(iter(lambda: link.recv(4096), b"")).decode().partition("\r\n\r\n")[0]
    return int(head.split()[1]), head


def assert_hidden(deployed: Deployment, secret: str) -> None:
    """Prove that a credential is in its own file, and nowhere that more can look at."""
    looks = {
        "docker inspect": f"docker inspect {CONTAINER}",
        "log": f"docker logs {CONTAINER} 2>&1",
        "journal": "journalctl --no-pager -q",
        "compose": "cat /opt/nexus/compose.yml",
        "configuration": "cat /opt/nexus/config/traefik/*.yml /opt/nexus/config/traefik/*/*.yml",
        "processes": "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'",
    }
    for where, command in looks.items():
        shown = deployed.host.run(command, check=False).stdout
        assert shown, f"nothing to look at: {where}"
        assert secret not in shown, where
    file = "/opt/nexus/secrets/traefik/rfc2136_tsig_secret"
    mode = deployed.host.run(["stat", "-c", "%a %u", file]).stdout.split()
    assert mode == ["400", str(deployed.stack().service("traefik").uid)]
    assert deployed.host.run(["cat", file]).stdout == secret
