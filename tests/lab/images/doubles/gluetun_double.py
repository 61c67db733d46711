"""A double of gluetun: the same variables, secrets, ports and health, a real tunnel and filter.

Differences that a test must know: names are asked of the first health address in plain text through
the tunnel where upstream uses TLS, and the tunnel is checked every two seconds, not every minute.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from .gluetun_settings import Settings, SettingsError, read
from .gluetun_tunnel import Tunnel, answers_ping, default_way, filter_packets, route_inbound
from .http import Handler, Request, Response, as_text, serve

CHECK_SECONDS = 2.0
DNS_SECONDS = 5.0
LARGEST_DATAGRAM = 4096


class Gluetun:
    """One tunnel that is kept up, and what it says about itself."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tunnel = Tunnel(settings)
        self._healthy = False

    def run(self) -> None:
        """Filter first, then the tunnel; serve until a signal comes."""
        way = default_way()
        filter_packets(self._settings, way)
        route_inbound(way)
        # In place: Docker has mounted this file, for whoever shares the network as well.
        Path("/etc/resolv.conf").write_text("nameserver 127.0.0.1\n")
        threading.Thread(target=self._forward_names, daemon=True).start()
        threading.Thread(target=self._keep_up, daemon=True).start()
        listeners: dict[tuple[str | None, int], Handler] = {
            self._settings.health: self._health,
            self._settings.control: _denied,
        }
        serve(listeners, lambda: print("gluetun double: ready", flush=True))
        self._tunnel.down()

    def _keep_up(self) -> None:
        try:
            self._connect_for_ever()
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"ERROR {error}", file=sys.stderr, flush=True)
            # Nothing is left to wait for: whoever started the container starts it again.
            os._exit(1)

    def _connect_for_ever(self) -> None:
        while True:
            self._tunnel.up()
            print("wireguard: connecting", flush=True)
            while self._check():
                time.sleep(CHECK_SECONDS)
            print("healthcheck: unhealthy, restarting the VPN", flush=True)
            self._tunnel.down()

    def _check(self) -> bool:
        deadline = time.monotonic() + 3 * CHECK_SECONDS
        self._healthy = self._healthy and self._answers()
        while not self._healthy and time.monotonic() < deadline:
            self._healthy = self._answers()
        return self._healthy

    def _answers(self) -> bool:
        return any(answers_ping(address, CHECK_SECONDS) for address in self._settings.ping[:1])

    def _health(self, _: Request) -> Response:
        return as_text("", 200) if self._healthy else as_text("no echo through the tunnel", 500)

    def _forward_names(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind(("127.0.0.1", 53))
            while True:
                question, asker = server.recvfrom(LARGEST_DATAGRAM)
                answer = _ask(self._settings.ping[0], question)
                if answer:
                    server.sendto(answer, asker)


def _ask(resolver: str, question: bytes) -> bytes:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
            link.settimeout(DNS_SECONDS)
            link.sendto(question, (resolver, 53))
            return link.recv(LARGEST_DATAGRAM)
    except OSError:
        return b""


def _denied(_: Request) -> Response:
    return as_text("Unauthorized", 401)


def healthcheck(address: tuple[str, int]) -> int:
    """What `gluetun healthcheck` does: ask the server that runs here."""
    try:
        with urllib.request.urlopen(f"http://{address[0]}:{address[1]}/", timeout=3):
            return 0
    except urllib.error.HTTPError as error:
        print(error.read().decode(), file=sys.stderr)
    except OSError as error:
        print(error, file=sys.stderr)
    return 1


def main() -> int:
    try:
        if sys.argv[1:] == ["healthcheck"]:
            host, _, port = os.environ["HEALTH_SERVER_ADDRESS"].rpartition(":")
            return healthcheck((host, int(port)))
        Gluetun(read(os.environ)).run()
    except (SettingsError, OSError) as error:
        print(f"ERROR {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"ERROR {error}: {error.stderr}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
