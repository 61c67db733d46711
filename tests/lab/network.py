"""The lab's two networks: a LAN with the hosts, an internet with the attacker.

The outer machine is the router between them and the operator's place. It does not translate
addresses between the two, so a host sees who really calls.
"""

from __future__ import annotations

import ipaddress
import json
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from tests.lab.command import run
from tests.lab.paths import MADE

PREFIX = "nxlab"
APT_PROXY_PORT = 3142


@dataclass(frozen=True)
class Subnet:
    """A bridge of the outer machine; member N has the address .N and ::N (the digits, as text)."""

    bridge: str
    port_prefix: str
    network: ipaddress.IPv4Network
    network6: ipaddress.IPv6Network

    def address(self, number: int) -> str:
        return str(self.network[number])

    def address6(self, number: int) -> str:
        return f"{self.network6.network_address}{number}"

    def port(self, number: int) -> str:
        """The name of the outer end of a member's cable."""
        return f"{self.port_prefix}{number}"

    def mac(self, number: int) -> str:
        # Fixed, so that nobody's neighbour table goes stale when a host boots again.
        second = int(self.network.network_address) >> 8 & 0xFF
        return f"02:4e:58:{second:02x}:00:{number:02x}"


LAN = Subnet(
    f"{PREFIX}-lan",
    f"{PREFIX}-l",
    ipaddress.IPv4Network("10.77.0.0/24"),
    ipaddress.IPv6Network("fd77::/64"),
)
INTERNET = Subnet(
    f"{PREFIX}-net",
    f"{PREFIX}-n",
    ipaddress.IPv4Network("198.51.100.0/24"),
    ipaddress.IPv6Network("fd98::/64"),
)
ROUTER = 1
FIRST_HOST = 11
NEIGHBOUR = 200
ATTACKER = 66


@dataclass(frozen=True)
class Namespace:
    """A machine without a disk of its own: the outer programs, another place in the network."""

    name: str
    subnet: Subnet
    number: int

    @property
    def address(self) -> str:
        return self.subnet.address(self.number)

    @property
    def address6(self) -> str:
        return self.subnet.address6(self.number)

    def argv(self, command: Sequence[str] | str) -> list[str]:
        """What runs `command` (a list, or a line for sh) in this place of the network."""
        inner = ["sh", "-c", command] if isinstance(command, str) else list(command)
        return ["ip", "netns", "exec", self.name, *inner]

    def run(
        self,
        command: Sequence[str] | str,
        *,
        check: bool = True,
        stdin: str = "",
        timeout: float = 120,
    ) -> CompletedProcess[str]:
        """Run a program there. Raises CommandError like `tests.lab.command.run`."""
        return run(self.argv(command), check=check, stdin=stdin, timeout=timeout)

    def create(self) -> None:
        """Make the namespace anew and connect it: nothing of an earlier one is left in it."""
        self.remove()
        port, mac = self.subnet.port(self.number), self.subnet.mac(self.number)
        MADE.mkdir(exist_ok=True)
        (MADE / self.name).write_text(port)
        run(["ip", "netns", "add", self.name])
        # A new namespace copies the outer machine's IPv4 settings, and that one is a router.
        run(self.argv(["sysctl", "-qw", "net.ipv4.ip_forward=0"]))
        peer = f"type veth peer name eth0 address {mac} netns {self.name}"
        run(["ip", "link", "add", port, *peer.split()])
        # The port of a bridge needs no address, and a browser gives up its connections whenever one
        # comes or goes on its machine (Chromium's ERR_NETWORK_CHANGED).
        bridged = ["addrgenmode", "none", "master", self.subnet.bridge]
        run(["ip", "link", "set", port, *bridged, "up"])
        length, length6 = self.subnet.network.prefixlen, self.subnet.network6.prefixlen
        inside = [
            "link set lo up",
            "link set eth0 up",
            f"addr add {self.address}/{length} brd + dev eth0",
            f"addr add {self.address6}/{length6} dev eth0 nodad",
            f"route add default via {self.subnet.address(ROUTER)}",
            f"route add default via {self.subnet.address6(ROUTER)} dev eth0",
        ]
        run(["ip", "-n", self.name, "-batch", "-"], stdin="\n".join(inside))

    def remove(self) -> None:
        """Remove cable and namespace; nothing happens where there are none."""
        _remove_namespace(self.name, self.subnet.port(self.number))


def host_namespace(name: str, number: int) -> Namespace:
    return Namespace(f"{PREFIX}-{name}", LAN, number)


NEIGHBOUR_NAMESPACE = Namespace(f"{PREFIX}-neighbour", LAN, NEIGHBOUR)
ATTACKER_NAMESPACE = Namespace(f"{PREFIX}-attacker", INTERNET, ATTACKER)


def create() -> None:
    """Make bridges, rules, the neighbour and the attacker."""
    for subnet in (LAN, INTERNET):
        _create_bridge(subnet)
    run(["nft", "-f", "-"], stdin=_rules())
    NEIGHBOUR_NAMESPACE.create()
    ATTACKER_NAMESPACE.create()


def remove() -> None:
    """Remove every namespace that was made, with the programs in it, the bridges and the rules."""
    for note in MADE.glob("*"):
        for number in run(["ip", "netns", "pids", note.name], check=False).stdout.split():
            with suppress(ProcessLookupError):
                os.kill(int(number), signal.SIGKILL)
        _remove_namespace(note.name, note.read_text())
    for subnet in (LAN, INTERNET):
        run(["ip", "link", "del", subnet.bridge], check=False)
    run(["nft", "delete", "table", "inet", PREFIX], check=False)


def foreign() -> list[str]:
    """What uses the lab's names or addresses and was not made by it, as text for a person."""
    own = {note.name for note in MADE.glob("*")}
    paths = Path("/run/netns").glob(f"{PREFIX}*")
    found = [f"namespace {path.name}" for path in paths if path.name not in own]
    bridges = {LAN.bridge, INTERNET.bridge}
    for link in json.loads(run(["ip", "-json", "addr"]).stdout):
        if link["ifname"] not in bridges and _overlaps(link["addr_info"]):
            found.append(f"interface {link['ifname']}")
    return found


def _remove_namespace(name: str, port: str) -> None:
    # The kernel tears a namespace down later; the cable's name must be free at once.
    run(["ip", "link", "del", port], check=False)
    if (Path("/run/netns") / name).exists():
        run(["ip", "netns", "del", name])
    (MADE / name).unlink(missing_ok=True)


def _overlaps(addresses: Sequence[Mapping[str, Any]]) -> bool:
    for entry in addresses:
        address = ipaddress.ip_address(entry["local"])
        if any(address in net for s in (LAN, INTERNET) for net in (s.network, s.network6)):
            return True
    return False


def _create_bridge(subnet: Subnet) -> None:
    lines = [
        f"link add {subnet.bridge} address {subnet.mac(ROUTER)} type bridge"
        " forward_delay 0 stp_state 0 mcast_snooping 0",
        f"link set {subnet.bridge} up",
        f"addr add {subnet.address(ROUTER)}/{subnet.network.prefixlen} brd + dev {subnet.bridge}",
        f"addr add {subnet.address6(ROUTER)}/{subnet.network6.prefixlen} dev {subnet.bridge} nodad",
    ]
    run(["ip", "-batch", "-"], stdin="\n".join(lines))


def _rules() -> str:
    """One table: hosts may go out, nobody from outside comes in, plain HTTP takes the cache."""
    own = f"{LAN.network}, {INTERNET.network}"
    own6 = f"{LAN.network6}, {INTERNET.network6}"
    lan_in = f'iifname "{LAN.bridge}"'
    return f"""
table inet {PREFIX}
delete table inet {PREFIX}
table inet {PREFIX} {{
  chain prerouting {{
    type nat hook prerouting priority dstnat;
    {lan_in} ip daddr != {{ {own} }} tcp dport 80 redirect to :{APT_PROXY_PORT}
    {lan_in} ip6 daddr != {{ {own6} }} tcp dport 80 redirect to :{APT_PROXY_PORT}
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    oifname != "{PREFIX}-*" ip saddr {LAN.network} masquerade
    oifname != "{PREFIX}-*" ip6 saddr {LAN.network6} masquerade
  }}
  chain forward {{
    type filter hook forward priority filter;
    iifname != "{PREFIX}-*" oifname "{PREFIX}-*" ct state new drop
  }}
  chain input {{
    type filter hook input priority filter;
    iifname != {{ "lo", "{LAN.bridge}", "{INTERNET.bridge}" }} ip daddr {{ {own} }} drop
    iifname != {{ "lo", "{LAN.bridge}", "{INTERNET.bridge}" }} ip6 daddr {{ {own6} }} drop
  }}
}}
"""
