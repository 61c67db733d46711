"""From the LAN and from the internet: what answers beside the one door."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

from tests.lab.attacks.base import Outcome, attack, control
from tests.lab.attacks.place import Answer, Place
from tests.lab.network import ATTACKER_NAMESPACE, NEIGHBOUR_NAMESPACE, Namespace

LAN, INTERNET = "machine of the LAN", "attacker on the internet"
PAGES = {
    "Sonarr": 8989,
    "Radarr": 7878,
    "qBittorrent": 8080,
    "Portainer": 9000,
    "Grafana": 3000,
    "Prometheus": 9090,
}
# Traefik's own interface, by a port of its own or by the proxied one.
ROUTES = ("/api/http/middlewares", "/api/rawdata", "/dashboard/", "//api/rawdata", "/api/overview")
STARTUP = """
import socket, struct, sys
body = struct.pack("!I", 196608) + b"user\\0nexus\\0database\\0nexus\\0\\0"
try:
    with socket.create_connection((sys.argv[1], 5432), 3) as link:
        link.sendall(struct.pack("!I", len(body) + 4) + body)
        print(link.recv(1).decode())
except OSError as error:
    print(error)
"""


def pages(place: Place, where: Namespace, family: int) -> Outcome:
    """Ask for the administration pages at their own ports."""
    address = place.address(family)
    name = f"[{address}]" if family == 6 else address
    with ThreadPoolExecutor(len(PAGES)) as pool:
        said = pool.map(lambda port: place.ask(where, f"http://{name}:{port}/"), PAGES.values())
        answers = dict(zip(PAGES, said, strict=True))
    opened = [f"{page} ({PAGES[page]})" for page, answer in answers.items() if answer.status == 200]
    if opened:
        return Outcome(True, f"{', '.join(opened)}: HTTP 200, no login")
    door = door_of(place, where, name)
    control(door.status > 0, f"not even the proxy answers: {door}")
    closed = sorted({str(answer) for answer in answers.values()})
    return Outcome(False, f"{len(answers)} ports: {', '.join(closed)}; the proxy: {door}")


def door_of(place: Place, where: Namespace, name: str) -> Answer:
    """What the proxy says at that address."""
    return place.ask(where, f"http://{name}/")


@attack(LAN, "box 1.11", "blocker 2")
def administration_pages_past_the_firewall(place: Place) -> Outcome:
    """UFW lets three ports in, and Docker publishes all the others past it."""
    return pages(place, NEIGHBOUR_NAMESPACE, 4)


@attack(LAN, "box 1.11", "blocker 2")
def administration_pages_past_the_firewall_by_ipv6(place: Place) -> Outcome:
    """The same by the other protocol, which is often forgotten."""
    return pages(place, NEIGHBOUR_NAMESPACE, 6)


@attack(INTERNET, "box 1.11", "blocker 2")
def administration_pages_from_the_internet(place: Place) -> Outcome:
    """A host with a public address, or a router that forwards too much, shows them to everybody."""
    return pages(place, ATTACKER_NAMESPACE, 4)


@attack(LAN, "box 1.11", "box 1.7")
def the_database_past_the_firewall(place: Place) -> Outcome:
    """A published database is one password away from every machine of the LAN."""
    argv = ["python3", "-c", STARTUP, place.address()]
    said = NEIGHBOUR_NAMESPACE.run(argv).stdout.strip()
    if said == "R":
        return Outcome(True, "port 5432 asks to log in")
    door = door_of(place, NEIGHBOUR_NAMESPACE, place.address())
    control(door.status > 0, f"not even the proxy answers: {door}")
    return Outcome(False, f"port 5432: {said}; the proxy: {door}")


@attack(LAN, "box 7.2", "blocker 2")
def the_proxy_s_own_interface(place: Place) -> Outcome:
    """Traefik's insecure API lists every route and the hashes of its passwords."""
    direct = [f"http://{place.address()}:{port}" for port in (8080, 8082)]
    proxied = [place.url(name, 80, "") for name in ("home", "traefik", "jellyfin")]
    seen = set()
    for base in (*direct, *proxied):
        for path in ROUTES:
            said = place.ask(NEIGHBOUR_NAMESPACE, base + path)
            seen.add(str(said))
            if said.status == 0:
                break
            user = re.search(r'"users":\["([^"]+)', said.text)
            if said.status == 200 and user:
                return Outcome(True, f"{path}: {user[1][:12]}... (a password's hash)")
    control(any(said.startswith("HTTP") for said in seen), "the proxy answers nothing")
    return Outcome(False, ", ".join(sorted(seen)))


ATTACKS = (
    administration_pages_past_the_firewall,
    administration_pages_past_the_firewall_by_ipv6,
    administration_pages_from_the_internet,
    the_database_past_the_firewall,
    the_proxy_s_own_interface,
)
