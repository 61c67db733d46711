"""Another machine of the LAN: Debian's DNS server (bind9) and Let's Encrypt's test server (pebble).

Pebble speaks ACME (RFC 8555) and proves names for real, with what the DNS server says. That one
takes TXT records from whoever signs with its key (RFC 2136, RFC 8945), as a provider would.
"""

from __future__ import annotations

import base64
import datetime
import json
import secrets
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cryptography import x509

from roles.core.certificates import ensure_certificates
from roles.core.vault import Vault
from tests.lab.host import Host

T = TypeVar("T")

ZONE = "example.org"
NAME = f"acme.{ZONE}"
PORT, ROOTS_PORT = 14000, 15000
ZONE_FILE = f"/var/lib/bind/{ZONE}"
KEY_NAME, ALGORITHM = "lab.", "hmac-sha256"
# Traefik takes every certificate of less than 30 days for one to renew.
LASTS = datetime.timedelta(days=5)
OPTIONS = """options {{
  directory "/var/cache/bind";
  listen-on {{ any; }};
  listen-on-v6 {{ any; }};
  allow-query {{ any; }};
  recursion yes;
  allow-recursion {{ any; }};
  forwarders {{ {forwarders} }};
  forward only;
  dnssec-validation no;
}};
key {key} {{ algorithm {algorithm}; secret "{secret}"; }};
zone "{zone}" {{
  type primary;
  file "{file}";
  update-policy {{ grant {key} zonesub TXT; }};
}};
"""


@dataclass
class Authority:
    """The machine that certifies names under example.org; `folder` keeps its own certificate."""

    host: Host
    folder: Path
    serial: int = 0

    def __post_init__(self) -> None:
        self.key = base64.b64encode(secrets.token_bytes(32)).decode()
        vault = Vault.create(self.folder / "authority.vault.json", secrets.token_bytes(32))
        ensure_certificates(vault, ZONE, datetime.datetime.now(datetime.UTC))
        self.ca_certificate = vault.get("tls_ca_certificate").reveal()
        self._certificate = vault.get("tls_server_certificate").reveal()
        self._certificate_key = vault.get("tls_server_key").reveal()

    @property
    def directory(self) -> str:
        return f"https://{NAME}:{PORT}/dir"

    @property
    def resolver(self) -> str:
        return f"{self.host.address}:53"

    @property
    def credentials(self) -> dict[str, str]:
        """What lego's provider rfc2136 wants to know, by variable."""
        return {
            "RFC2136_NAMESERVER": self.resolver,
            "RFC2136_TSIG_KEY": KEY_NAME,
            "RFC2136_TSIG_SECRET": self.key,
            "RFC2136_TSIG_ALGORITHM": f"{ALGORITHM}.",
        }

    def install(self) -> None:
        """Install and start both servers. Raises CommandError like `Host.run`."""
        apt = "apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qqy install"
        self.host.run(f"{apt} --no-install-recommends bind9 pebble", timeout=300)
        self._start_dns()
        self._start_pebble()
        eventually(self.root_certificate, 30)

    def publish(self, domain: str, *addresses: str) -> None:
        """Give every name right under a domain these addresses, IPv4 or IPv6; without any: none."""
        self.serial += 1
        lines = [
            "$TTL 1",
            f"@ SOA ns hostmaster {self.serial} 60 60 600 1",
            "@ NS ns",
            f"ns A {self.host.address}",
            f"acme A {self.host.address}",
            *(f"*.{domain}. {'AAAA' if ':' in each else 'A'} {each}" for each in addresses),
        ]
        # A journal of dynamic updates would be played onto the new file.
        self.host.run(["systemctl", "stop", "named"])
        self._write(ZONE_FILE, "\n".join([*lines, ""]), "bind")
        self.host.run(["rm", "-f", f"{ZONE_FILE}.jnl"])
        self.host.run(["systemctl", "start", "named"])

    def root_certificate(self) -> str:
        """The authority's own certificate (PEM), which clients of its sites would trust."""
        trusted = ssl.create_default_context(cadata=self.ca_certificate)
        place = (self.host.address, ROOTS_PORT)
        request = f"GET /roots/0 HTTP/1.0\r\nHost: {NAME}\r\n\r\n"
        with (
            socket.create_connection(place, 10) as plain,
            trusted.wrap_socket(plain, server_hostname=NAME) as link,
        ):
            link.sendall(request.encode())
            answer = b"".join(iter(lambda: link.recv(4096), b"")).decode()
        return answer.partition("\r\n\r\n")[2]

    def _start_dns(self) -> None:
        lines = Path("/etc/resolv.conf").read_text().splitlines()
        found = [line.split()[1] for line in lines if line.startswith("nameserver")]
        text = OPTIONS.format(
            forwarders=" ".join(f"{address};" for address in found),
            key=KEY_NAME,
            algorithm=ALGORITHM,
            secret=self.key,
            zone=ZONE,
            file=ZONE_FILE,
        )
        self._write("/etc/bind/named.conf", text, "bind")
        self.publish(ZONE)

    def _start_pebble(self) -> None:
        folder = "/etc/pebble"
        settings = {
            "listenAddress": f"[::]:{PORT}",
            "managementListenAddress": f"[::]:{ROOTS_PORT}",
            "certificate": f"{folder}/certificate.pem",
            "privateKey": f"{folder}/key.pem",
            "httpPort": 80,
            "tlsPort": 443,
            "certificateValidityPeriod": int(LASTS.total_seconds()),
        }
        self.host.run(["mkdir", "-p", folder])
        self._write(f"{folder}/certificate.pem", self._certificate)
        self._write(f"{folder}/key.pem", self._certificate_key)
        self._write(f"{folder}/config.json", json.dumps({"pebble": settings}))
        # Prove at once, and anew for each order: by default half of them rest on earlier proofs.
        behaviour = ["--setenv=PEBBLE_VA_NOSLEEP=1", "--setenv=PEBBLE_AUTHZREUSE=0"]
        unit = ["systemd-run", "--quiet", "--unit=pebble", *behaviour]
        server = ["pebble", "-config", f"{folder}/config.json", "-dnsserver", "127.0.0.1:53"]
        self.host.run([*unit, "--property=Restart=on-failure", *server])

    def _write(self, path: str, text: str, group: str = "root") -> None:
        self.host.run(["install", "-m", "0640", "-g", group, "/dev/stdin", path], stdin=text)


def shown_certificate(address: str, name: str, trusted: str) -> x509.Certificate:
    """The certificate that a site shows for a name, proven against a trusted one (PEM).

    Raises:
        ssl.SSLError: no handshake, or nothing that a client with that trust accepts.
        OSError: no connection.
    """
    context = ssl.create_default_context(cadata=trusted)
    with (
        socket.create_connection((address, 443), 10) as plain,
        context.wrap_socket(plain, server_hostname=name) as link,
    ):
        return x509.load_der_x509_certificate(link.getpeercert(binary_form=True) or b"")


def eventually(look: Callable[[], T], seconds: float) -> T:
    """What `look` returns once it raises no OSError (an ssl.SSLError is one).

    Raises:
        OSError: the last one, when the time is over.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return look()
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.5)
