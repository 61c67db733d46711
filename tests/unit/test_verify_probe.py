"""The probes tell what a server really does, tried on small servers of this machine."""

from __future__ import annotations

import datetime
import http.server
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from roles.core.certificates import ensure_certificates
from roles.core.vault import Vault
from roles.verify import probe
from roles.verify.probe import Door
from tests.serving import serve

DOMAIN = "home.example.org"


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(302 if self.path == "/moved" else 200)
        self.send_header("Location", f"https://{self.headers['Host']}/")
        self.send_header("X-Twice", "a")
        self.send_header("X-Twice", "b")
        self.end_headers()
        self.wfile.write(self.headers["Host"].encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Vault:
    vault = Vault.create(tmp_path_factory.mktemp("vault") / "v.json", b"key")
    ensure_certificates(vault, DOMAIN, datetime.datetime.now(datetime.UTC))
    return vault


@pytest.fixture(scope="module")
def door(vault: Vault, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder: Path = tmp_path_factory.mktemp("tls")
    for name in ("key", "certificate"):
        (folder / name).write_text(vault.get(f"tls_server_{name}").reveal())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM")
    context.load_cert_chain(folder / "certificate", folder / "key")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    serve(server)
    authority = vault.get("tls_ca_certificate").reveal()
    yield Door("127.0.0.1", https=server.server_port, authority=authority)
    server.shutdown()


def test_the_name_travels_without_being_resolved(door: Door) -> None:
    answer = door.ask(f"jellyfin.{DOMAIN}", "/moved")
    assert (answer.status, answer.body) == (302, f"jellyfin.{DOMAIN}")
    assert answer.location == f"https://jellyfin.{DOMAIN}/"
    assert answer.headers["x-twice"] == "a, b"


def test_a_foreign_name_and_a_foreign_authority_are_refused(door: Door) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        door.ask("example.com")
    with pytest.raises(ssl.SSLCertVerificationError):
        Door(door.address, https=door.https).ask(DOMAIN)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_a_handshake_is_accepted_or_refused_by_the_server(door: Door) -> None:
    modern, old = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_1
    assert probe.handshake(door, DOMAIN, modern, "ECDHE+AESGCM") == "accepted"
    assert probe.handshake(door, DOMAIN, modern, "ECDHE+SHA256:!AESGCM") == probe.REFUSED
    assert probe.handshake(door, DOMAIN, old, "ALL") == probe.REFUSED


def test_open_ports_are_found_and_closed_ones_are_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        ports = [server.getsockname()[1], closed.getsockname()[1]]
        assert probe.open_ports(["127.0.0.1"], ports) == {"127.0.0.1": ports[:1]}


def test_the_first_packet_of_ssh_is_read() -> None:
    lists = [
        b"curve25519-sha256,kex-strict-s-v00@openssh.com",
        b"ssh-ed25519",
        *[b"aes256-ctr"] * 8,
    ]
    body = b"".join(struct.pack(">I", len(each)) + each for each in lists)
    payload = bytes([20]) + bytes(16) + body + bytes(5)
    padding = 8
    packet = struct.pack(">IB", len(payload) + padding + 1, padding) + payload + bytes(padding)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"a banner line\r\nSSH-2.0-x\r\n" + packet)
                connection.recv(100)

        thread = threading.Thread(target=serve)
        thread.start()
        found = probe.ssh_algorithms("127.0.0.1", server.getsockname()[1])
        thread.join()
    assert found["kex"] == ["curve25519-sha256", "kex-strict-s-v00@openssh.com"]
    assert found["host keys"] == ["ssh-ed25519"]
    assert found["ciphers in"] == ["aes256-ctr"]


def test_a_server_that_is_no_ssh_is_said_to_be_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            server.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(ConnectionError, match="no SSH banner"):
            probe.ssh_algorithms("127.0.0.1", server.getsockname()[1])
        thread.join()


def test_loopback_has_a_route() -> None:
    assert probe.has_route("127.0.0.1")


@pytest.mark.parametrize(("status", "reached"), [("exit 0", True), ("exit 1", False)])
def test_a_ping_is_asked_of_the_systems_own_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str, reached: bool
) -> None:
    program = tmp_path / "ping"
    program.write_text(f'#!/bin/sh\n[ "$*" = "-n -c 1 192.0.2.1" ] && {status}\nexit 3\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert probe.pings("192.0.2.1") is reached


def test_without_the_program_nothing_was_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not probe.pings("192.0.2.1")
