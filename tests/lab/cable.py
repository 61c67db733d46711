"""What leaves a host: every frame on the outer end of its cable, and what its bridges hand on."""

from __future__ import annotations

import ipaddress
import json
import socket
import threading
from collections.abc import Collection
from types import TracebackType
from typing import Self

from tests.lab.host import Host
from tests.lab.network import LAN, host_namespace

# linux/if_ether.h, linux/if_packet.h: all protocols; a frame that goes into the host.
ALL_PROTOCOLS = 0x0003
OUTGOING = 4
LARGEST_FRAME = 65536


class Tap:
    """Hears what passes the outer end of a host's cable, in a thread, while its context lasts."""

    def __init__(self, number: int) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS))
        self._socket.bind((LAN.port(number), 0))
        self._socket.settimeout(0.2)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen)

    def _listen(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()


class Cable(Tap):
    """Catches what a host sends to some addresses, or with one of some texts in it, anywhere.

    What goes to `but` (address, UDP port) is left out.
    """

    def __init__(
        self, host: Host, addresses: Collection[str], texts: Collection[str], but: tuple[str, int]
    ) -> None:
        super().__init__(host.layout.number)
        self._addresses = {ipaddress.ip_address(address).packed for address in addresses}
        self._texts = [text.encode() for text in texts]
        self._but = (ipaddress.ip_address(but[0]).packed, but[1])
        self.caught: list[str] = []

    def _listen(self) -> None:
        while not self._ended.is_set():
            try:
                frame, place = self._socket.recvfrom(LARGEST_FRAME)
            except TimeoutError:
                continue
            if place[2] != OUTGOING and self._concerns(frame):
                self.caught.append(described(frame))

    def _concerns(self, frame: bytes) -> bool:
        protocol, destination, port = parsed(frame)
        if protocol == "udp" and (destination, port) == self._but:
            return False
        return destination in self._addresses or any(text in frame for text in self._texts)


def parsed(frame: bytes) -> tuple[str, bytes, int]:
    """Protocol, destination address and port of a frame; empty for what is not IP."""
    names = {6: "tcp", 17: "udp"}
    kind, body = frame[12:14], frame[14:]
    if kind == b"\x08\x00":
        start = (body[0] & 0x0F) * 4
        number, destination = body[9], body[16:20]
    elif kind == b"\x86\xdd":
        start, number, destination = 40, body[6], body[24:40]
    else:
        return "", b"", 0
    port = int.from_bytes(body[start + 2 : start + 4]) if number in names else 0
    return names.get(number, str(number)), destination, port


def described(frame: bytes) -> str:
    """A frame as text for a person."""
    protocol, destination, port = parsed(frame)
    return f"{protocol} to {ipaddress.ip_address(destination)} port {port}"


class Counter:
    """Counts what one container sends beyond its network, before and after the host's own filter.

    What goes to `but` (address, UDP port) is left out.
    """

    TABLE = "lab_counter"

    def __init__(self, host: Host, bridge: str, source: str, but: tuple[str, int]) -> None:
        self._place = host_namespace(host.name, host.layout.number)
        own = f'iifname "{bridge}" ip saddr {source} ip daddr != {source}/24'
        address, port = but
        rules = "\n".join(
            f"""chain {name} {{
              type filter hook {hook} priority {priority};
              {own} ip daddr {address} udp dport {port} accept
              {own} counter name {name}
              iifname "{bridge}" meta nfproto ipv6 counter name {name}
            }}"""
            for name, hook, priority in (("sent", "prerouting", -310), ("passed", "forward", 300))
        )
        table = f"table inet {self.TABLE}"
        text = f"{table} {{\ncounter sent {{}}\ncounter passed {{}}\n{rules}\n}}"
        self._place.run(["nft", "-f", "-"], stdin=f"{table}\ndelete {table}\n{text}\n")

    def reset(self) -> None:
        self._place.run(["nft", "reset", "counters", "table", "inet", self.TABLE])

    def packets(self) -> dict[str, int]:
        """How many packets the container sent, and how many the host passed on."""
        listed = self._place.run(["nft", "-j", "list", "counters", "table", "inet", self.TABLE])
        entries = json.loads(listed.stdout)["nftables"]
        counters = [entry["counter"] for entry in entries if "counter" in entry]
        return {counter["name"]: counter["packets"] for counter in counters}
