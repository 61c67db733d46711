"""A VPN provider on the lab's internet: the tunnel's other end, and what lies behind it.

Behind it are a web server and a resolver that note who asked. Both are also there without the
tunnel, at the provider's own address: so a packet that goes around it arrives, and is noticed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.lab.command import LabError, run
from tests.lab.network import INTERNET, PREFIX, Namespace
from tests.lab.paths import module_environment

PLACE = Namespace(f"{PREFIX}-provider", INTERNET, 53)
PORT = 51820
INSIDE = "10.64.0.1"
CLIENT = "10.64.0.2"
# The address that a health check pings and a resolver is asked at.
RESOLVER = "1.1.1.1"
# A second address of the same machine: the endpoint's own is let through, this one is not.
SITE = INTERNET.address(54)
SITE6 = INTERNET.address6(54)
SITE_PORT = 8000
INTERFACE = "vpn0"


def new_key() -> tuple[str, str]:
    """A private key and its public one."""
    private = run(["wg", "genkey"]).stdout.strip()
    return private, run(["wg", "pubkey"], stdin=private).stdout.strip()


class Provider:
    """The provider as a context manager; `folder` takes what its servers note.

    `place` is its own, with the next number of the network for `site` and `site6`; a second one
    beside the first needs another, and another name for its interface.
    """

    def __init__(
        self,
        folder: Path,
        client_public_key: str,
        place: Namespace = PLACE,
        interface: str = INTERFACE,
    ) -> None:
        self.place, self._interface = place, interface
        self.site = INTERNET.address(place.number + 1)
        self.site6 = INTERNET.address6(place.number + 1)
        self.private_key, self.public_key = new_key()
        self._client = client_public_key
        self._notes = folder / "asked.jsonl"
        self._servers: subprocess.Popen[bytes] | None = None
        self._tunnel: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"{self.place.address}:{PORT}"

    @property
    def vpn(self) -> dict[str, Any]:
        """What a site says of it (site.vpn)."""
        return {
            "provider": "custom",
            "endpoint": self.endpoint,
            "public_key": self.public_key,
            "addresses": [f"{CLIENT}/32"],
        }

    def __enter__(self) -> Self:
        self.place.create()
        for address in (f"{self.site}/32", f"{RESOLVER}/32"):
            self.place.run(["ip", "addr", "add", address, "dev", "eth0"])
        self.place.run(["ip", "addr", "add", f"{self.site6}/128", "dev", "eth0", "nodad"])
        self._notes.touch()
        servers = [sys.executable, "-m", "tests.lab.provider_servers", str(self._notes)]
        servers += [RESOLVER, self.site, self.site6]
        self._servers = subprocess.Popen(self.place.argv(servers), env=module_environment())
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if self._servers is not None:
            self._servers.terminate()
            self._servers.wait()
        self.place.remove()

    def start(self) -> None:
        """Bring the tunnel's end up. Raises LabError when it does not come."""
        socket = Path(f"/var/run/wireguard/{self._interface}.sock")
        # What a killed run left would be taken for the new one's.
        socket.unlink(missing_ok=True)
        tunnel = ["wireguard-go", "--foreground", self._interface]
        self._tunnel = subprocess.Popen(self.place.argv(tunnel))
        deadline = time.monotonic() + 10
        while not socket.exists():
            if self._tunnel.poll() is not None or time.monotonic() > deadline:
                raise LabError("wireguard-go did not start at the provider")
            time.sleep(0.05)
        configuration = (
            f"[Interface]\nPrivateKey = {self.private_key}\nListenPort = {PORT}\n"
            f"[Peer]\nPublicKey = {self._client}\nAllowedIPs = {CLIENT}/32\n"
        )
        self.place.run(["wg", "setconf", self._interface, "/dev/stdin"], stdin=configuration)
        self.place.run(["ip", "addr", "add", f"{INSIDE}/24", "dev", self._interface])
        self.place.run(["ip", "link", "set", self._interface, "up"])

    def stop(self) -> None:
        """Take the tunnel's end away; the servers go on."""
        if self._tunnel is not None:
            self._tunnel.terminate()
            self._tunnel.wait()
            self._tunnel = None

    def asked(self, what: str) -> list[dict[str, Any]]:
        """The requests (source, protocol, text) that contain a text."""
        lines = self._notes.read_text().splitlines()
        return [note for note in map(json.loads, lines) if what in note["text"]]
