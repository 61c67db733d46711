"""The tunnel of gluetun's double: its packet filter, its routes, and wireguard-go.

The rules are upstream's (internal/firewall/enable.go, internal/routing, internal/wireguard of
v3.41.1): everything is dropped but the loopback, the local network, the tunnel's endpoint and the
tunnel; and nothing of that ends when the tunnel does.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .gluetun_settings import Settings

MARK = 51820
MTU = 1320
INBOUND_TABLE = 200
SOCKET = Path("/var/run/wireguard")


@dataclass(frozen=True, slots=True)
class Way:
    """The container's own way out, which only the endpoint's packets may take."""

    interface: str
    address: str
    subnet: str
    gateway: str


def default_way() -> Way:
    """The default route that Docker has made, and its interface's address."""
    route = _ip("-4", "route", "show", "default")[0]
    interface, gateway = str(route["dev"]), str(route["gateway"])
    entries = _ip("-4", "addr", "show", "dev", interface)[0]["addr_info"]
    address, length = entries[0]["local"], entries[0]["prefixlen"]
    subnet = ipaddress.ip_interface(f"{address}/{length}").network
    return Way(interface, str(address), str(subnet), gateway)


def filter_packets(settings: Settings, way: Way) -> None:
    """The kill switch. It comes first and is never taken away."""
    address, port = settings.endpoint
    outer = f'"{way.interface}"'
    ports = ", ".join(map(str, settings.input_ports))
    opened = f"iifname {outer} tcp dport {{ {ports} }} accept" if ports else ""
    rules = f"""
table inet gluetun
delete table inet gluetun
table inet gluetun {{
  chain input {{
    type filter hook input priority filter; policy drop;
    iifname "lo" accept
    ct state established,related accept
    iifname {outer} ip daddr {way.subnet} accept
    {opened}
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
  }}
  chain output {{
    type filter hook output priority filter; policy drop;
    oifname "lo" accept
    ct state established,related accept
    oifname {outer} ip daddr {address} udp dport {port} accept
    oifname {outer} ip saddr {way.address} ip daddr {way.subnet} accept
    oifname "{settings.interface}" accept
  }}
}}
"""
    _run("nft", "-f", "-", stdin=rules)


def route_inbound(way: Way) -> None:
    """What came in through the container's network is answered through it."""
    table = str(INBOUND_TABLE)
    _run("ip", "route", "replace", "default", "via", way.gateway, "dev", way.interface,
         "table", table)  # fmt: skip
    _rule("from", way.address, "lookup", table, "priority", "100")
    _rule("to", way.subnet, "lookup", "main", "priority", "98")


class Tunnel:
    """wireguard-go with its interface, its addresses and the rule that leads all else into it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    def up(self) -> None:
        """Raises subprocess.CalledProcessError when a step fails."""
        name = self._settings.interface
        SOCKET.mkdir(mode=0o700, parents=True, exist_ok=True)
        # After a kill the container's file system still has it, and it would be taken for the new.
        (SOCKET / f"{name}.sock").unlink(missing_ok=True)
        self._process = subprocess.Popen(["wireguard-go", "--foreground", name])
        deadline = time.monotonic() + 10
        while not (SOCKET / f"{name}.sock").exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise subprocess.CalledProcessError(1, "wireguard-go")
            time.sleep(0.05)
        _run("wg", "setconf", name, "/dev/stdin", stdin=self._configuration())
        for address in self._settings.addresses:
            _run("ip", "addr", "add", address, "dev", name)
        _run("ip", "link", "set", name, "up", "mtu", str(MTU))
        _run("ip", "route", "replace", "default", "dev", name, "table", str(MARK))
        _rule("not", "fwmark", str(MARK), "lookup", str(MARK), "priority", "101")

    def down(self) -> None:
        """Take interface and rule away, as upstream does before it connects again."""
        with contextlib.suppress(subprocess.CalledProcessError):
            _run("ip", "rule", "del", "priority", "101")
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def _configuration(self) -> str:
        settings = self._settings
        address, port = settings.endpoint
        preshared = f"PresharedKey = {settings.preshared_key}\n" if settings.preshared_key else ""
        return (
            f"[Interface]\nPrivateKey = {settings.private_key}\nFwMark = {MARK}\n"
            f"[Peer]\nPublicKey = {settings.public_key}\n{preshared}"
            f"Endpoint = {address}:{port}\nAllowedIPs = 0.0.0.0/0, ::/0\n"
        )


def answers_ping(address: str, seconds: float) -> bool:
    """Whether an echo comes back, by the socket that needs no capability (icmp(7))."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as link:
            link.settimeout(seconds)
            # Type 8, code 0; the kernel fills in the checksum and the identifier.
            link.sendto(b"\x08\x00\x00\x00\x00\x00\x00\x01" + os.urandom(8), (address, 0))
            return link.recv(64)[:1] == b"\x00"
    except OSError:
        return False


def _rule(*words: str) -> None:
    with contextlib.suppress(subprocess.CalledProcessError):
        _run("ip", "rule", "del", *words)
    _run("ip", "rule", "add", *words)


def _ip(*words: str) -> Any:
    done = subprocess.run(["ip", "-json", *words], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def _run(*argv: str, stdin: str = "") -> None:
    subprocess.run(argv, check=True, input=stdin, text=True, capture_output=True)
