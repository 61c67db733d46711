"""What the operator's machine sees of a host: ports, TLS, HTTP, SSH. No name is resolved.

Everything connects to an address; the name travels in SNI and Host, so that a domain that only the
household's own resolver knows can be proven from anywhere.
"""

from __future__ import annotations

import http.client
import resource
import secrets
import shutil
import socket
import ssl
import struct
import subprocess
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import paramiko

SECONDS = 5.0
# One lost first packet is sent again after a second (RFC 6298).
SCAN_SECONDS = 1.5
MOST_AT_ONCE = 1500
REFUSED = "refused by the server"
# How OpenSSL names an alert of the other side (RFC 8446 6).
ALERTS = ("SSLV3_ALERT_", "TLSV1_", "TLSV13_")
# RFC 4253 7.1: the lists of a KEXINIT in their order.
KEXINIT = 20
KEX_LISTS = ("kex", "host keys", "ciphers in", "ciphers out", "MACs in", "MACs out")


@dataclass(frozen=True)
class Door:
    """Where a host's reverse proxy answers; `authority` is the PEM of the CA that must have signed.

    Without an authority the system's own ones count.
    """

    address: str
    http: int = 80
    https: int = 443
    authority: str = field(default="", repr=False)

    def trust(self) -> ssl.SSLContext:
        """A client that believes nobody else."""
        context = ssl.create_default_context(cadata=self.authority or None)
        if self.authority:
            context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    def tls(self, name: str, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
        """A TLS connection with the certificate checked for `name`.

        Raises:
            OSError: no connection, or a refused handshake (ssl.SSLError).
        """
        raw = socket.create_connection((self.address, self.https), SECONDS)
        try:
            return (context or self.trust()).wrap_socket(raw, server_hostname=name)
        except BaseException:
            raw.close()
            raise

    def ask(
        self,
        name: str,
        path: str = "/",
        *,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        body: str | None = None,
        sni: str = "",
    ) -> Answer:
        """One HTTPS request; `sni` where the TLS name shall differ from the Host header."""
        # An HTTPSConnection would load the system's authorities, and not use them.
        connection = http.client.HTTPConnection(name, self.https, timeout=SECONDS)
        connection.sock = self.tls(sni or name)
        return _answer(connection, method, path, {"Host": name, **(headers or {})}, body)

    def ask_plain(
        self,
        name: str,
        path: str = "/",
        *,
        headers: Mapping[str, str] | None = None,
        body: str | None = None,
    ) -> Answer:
        """One HTTP request without TLS; with a body it is a POST."""
        connection = http.client.HTTPConnection(name, self.http, timeout=SECONDS)
        connection.sock = socket.create_connection((self.address, self.http), SECONDS)
        method = "GET" if body is None else "POST"
        return _answer(connection, method, path, {"Host": name, **(headers or {})}, body)


@dataclass(frozen=True)
class Answer:
    """An HTTP response; header names in lower case, several values of one joined by a comma."""

    status: int
    headers: Mapping[str, str]
    body: str = field(repr=False)

    @property
    def location(self) -> str:
        """Where a redirect leads."""
        return self.headers.get("location", "")


def _answer(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: str | None = None,
) -> Answer:
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        found: dict[str, str] = {}
        for key, value in response.getheaders():
            lower = key.lower()
            found[lower] = f"{found[lower]}, {value}" if lower in found else value
        return Answer(response.status, found, response.read().decode(errors="replace"))
    finally:
        connection.close()


def open_ports(addresses: Iterable[str], ports: Iterable[int]) -> dict[str, list[int]]:
    """The TCP ports of each address that accept a connection from here."""
    listed = list(ports)
    found: dict[str, list[int]] = {address: [] for address in addresses}
    pairs = [(address, port) for address in found for port in listed]
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Most attempts wait for an answer that a firewall never sends.
    with ThreadPoolExecutor(min(MOST_AT_ONCE, files // 2)) as pool:
        for (address, port), accepts in zip(pairs, pool.map(_accepts, pairs), strict=True):
            if accepts:
                found[address].append(port)
    return found


def _accepts(place: tuple[str, int]) -> bool:
    try:
        socket.create_connection(place, SCAN_SECONDS).close()
    except OSError:
        return False
    return True


def has_route(address: str) -> bool:
    """Whether packets to an address would leave this machine; none is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
        except OSError:
            return False
    return True


def pings(address: str) -> bool:
    """Whether an address answers an ICMP echo request, asked by the system's own program."""
    program = "ping6" if ":" in address and shutil.which("ping6") else "ping"
    try:
        done = subprocess.run(
            [program, "-n", "-c", "1", address],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=SECONDS,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def handshake(door: Door, name: str, version: ssl.TLSVersion, ciphers: str) -> str:
    """How the server takes a handshake limited to one version and to these ciphers.

    "accepted", "refused by the server", or why this side could not try. The certificate is not
    judged.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = version
    context.maximum_version = version
    # Security level 0 lets this side offer what it would not use itself.
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    try:
        door.tls(name, context).close()
    except ssl.SSLError as error:
        reason = error.reason or "the handshake broke off"
        return REFUSED if reason.startswith(ALERTS) else f"not tried: {reason}"
    return "accepted"


def ssh_algorithms(address: str, port: int) -> dict[str, list[str]]:
    """What an SSH server offers, read from its first packet (RFC 4253 7.1), without a login."""
    with socket.create_connection((address, port), SECONDS) as connection:
        stream = connection.makefile("rb")
        while not (line := stream.readline(512)).startswith(b"SSH-"):
            if not line:
                raise ConnectionError(f"{address} port {port} sends no SSH banner")
        connection.sendall(b"SSH-2.0-verify\r\n")
        length, padding = struct.unpack(">IB", stream.read(5))
        payload = stream.read(length - 1)[: length - 1 - padding]
    if payload[0] != KEXINIT:
        raise ConnectionError(f"{address} port {port} sends no KEXINIT")
    return _lists(payload[17:])


def _lists(rest: bytes) -> dict[str, list[str]]:
    found = {}
    for name in KEX_LISTS:
        (length,) = struct.unpack(">I", rest[:4])
        found[name] = rest[4 : 4 + length].decode().split(",")
        rest = rest[4 + length :]
    return found


def ssh_methods(address: str, port: int, user: str) -> list[str]:
    """The ways to log in that an SSH server offers when none and a password were tried."""
    with socket.create_connection((address, port), SECONDS) as connection:
        transport = paramiko.Transport(connection)
        try:
            transport.start_client(timeout=SECONDS)
            offered = _offered(transport, user, None)
            return (
                offered
                if "accepted" in offered
                else _offered(transport, user, secrets.token_hex(16))
            )
        finally:
            transport.close()


def _offered(transport: paramiko.Transport, user: str, password: str | None) -> list[str]:
    try:
        if password is None:
            transport.auth_none(user)
        else:
            transport.auth_password(user, password, fallback=False)
    except paramiko.BadAuthenticationType as error:
        return sorted(error.allowed_types)
    except paramiko.AuthenticationException:
        return ["password"]
    return ["accepted"]


def plain_status(address: str, port: int, path: str) -> int:
    """The status of a plain HTTP answer, 0 where none comes within `SECONDS`."""
    try:
        return Door(address, port).ask_plain(address, path).status
    except (OSError, http.client.HTTPException):
        return 0


def agreed(address: str, port: int, name: str) -> tuple[str, str]:
    """TLS version and ALPN protocol that a server agrees to; the certificate is not judged.

    Raises:
        OSError: no connection, or no TLS.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection((address, port), SECONDS) as raw,
        context.wrap_socket(raw, server_hostname=name) as connection,
    ):
        return connection.version() or "", connection.selected_alpn_protocol() or ""
