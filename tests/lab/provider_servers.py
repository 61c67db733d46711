"""What lies behind the lab's VPN provider: `python -m tests.lab.provider_servers FILE ADDRESS...`.

A web server (TCP), an echo (UDP) and a resolver; each notes who asked for what as a line of FILE.
"""

from __future__ import annotations

import json
import socket
import socketserver
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

SITE_PORT = 8000
DNS_PORT = 53
# Datagrams are answered from the address that was asked, so each has a socket of its own.
# A header of 12 bytes precedes the name (RFC 1035, 4.1).
HEADER = 12
ANSWER = "198.51.100.54"


class Notes:
    """One file that several servers append to."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()

    def add(self, source: str, protocol: str, text: str) -> None:
        line = {"source": source.removeprefix("::ffff:"), "protocol": protocol, "text": text}
        with self._lock, self._file.open("a") as file:
            file.write(json.dumps(line) + "\n")


def name_in(question: bytes) -> str:
    """The name that a DNS question asks for."""
    labels, place = [], HEADER
    while place < len(question) and question[place]:
        length = question[place]
        labels.append(question[place + 1 : place + 1 + length].decode(errors="replace"))
        place += 1 + length
    return ".".join(labels)


def answer_to(question: bytes) -> bytes:
    """One address for any name: a response with one record of type A."""
    address = bytes(int(part) for part in ANSWER.split("."))
    end = question.index(b"\0", HEADER) + 5
    record = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04" + address
    return (
        question[:2] + b"\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00" + question[HEADER:end] + record
    )


def serve(notes: Notes, addresses: Sequence[str]) -> None:
    """Answer at these addresses until killed."""

    class Web(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            line = self.rfile.readline().decode(errors="replace").strip()
            notes.add(self.client_address[0], "tcp", line)
            self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nok\n")

    class Echo(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            data, link = self.request
            notes.add(self.client_address[0], "udp", data.decode(errors="replace"))
            link.sendto(data, self.client_address)

    class Names(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            question, link = self.request
            notes.add(self.client_address[0], "dns", name_in(question))
            link.sendto(answer_to(question), self.client_address)

    class Tcp(socketserver.ThreadingTCPServer):
        address_family, allow_reuse_address, daemon_threads = socket.AF_INET6, True, True

    class Udp(socketserver.ThreadingUDPServer):
        daemon_threads = True

    class Udp6(Udp):
        address_family = socket.AF_INET6

    servers: list[socketserver.BaseServer] = [Tcp(("::", SITE_PORT), Web)]
    for address in addresses:
        kind = Udp6 if ":" in address else Udp
        servers += [kind((address, SITE_PORT), Echo), kind((address, DNS_PORT), Names)]
    threads = [threading.Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    serve(Notes(Path(sys.argv[1])), sys.argv[2:])
