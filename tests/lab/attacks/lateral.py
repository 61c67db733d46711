"""From a download client that somebody broke into: onwards to the others and to the host."""

from __future__ import annotations

import re

from tests.lab.attacks.base import Outcome, attack, control
from tests.lab.attacks.place import Place

CLIENT = "sabnzbd"
STANDS = "download client's container"
# PostgreSQL's first message, version 3.0, and the kind of the first answer ("R": authentication).
DATABASE = """
import socket, struct, sys
body = struct.pack("!I", 196608) + b"user\\0nexus\\0database\\0nexus\\0\\0"
for address in sys.argv[1:]:
    try:
        with socket.create_connection((address, 5432), 2) as link:
            link.sendall(struct.pack("!I", len(body) + 4) + body)
            print(address, link.recv(1).decode())
    except OSError as error:
        print(address, "-", error)
"""
PAGE = """
import http.client, sys
for target in sys.argv[1:]:
    address, port = target.split(":")
    link = http.client.HTTPConnection(address, int(port), timeout=2)
    try:
        link.request("GET", "/initialize.json")
        answer = link.getresponse()
        print(target, answer.status, answer.read().decode()[:100])
    except OSError as error:
        print(target, "-", error)
"""
GATEWAY = """
import socket, struct
rows = [line.split() for line in open("/proc/net/route")][1:]
ways = [socket.inet_ntoa(struct.pack("<L", int(row[2], 16))) for row in rows if row[1] == "0" * 8]
for address in ways:
    try:
        with socket.create_connection((address, 22), 3) as link:
            print(address, link.recv(40).decode().strip())
    except OSError as error:
        print(address, "-", error)
"""
OWN_PAGE = "import socket; socket.create_connection(('127.0.0.1', 8080), 3)"


@attack(STANDS, "box 1.7", "blocker 4")
def a_database_from_a_download_client(place: Place) -> Outcome:
    """On one flat network every container may try its luck at the database."""
    targets = ["postgres", *place.addresses("postgres")]
    if place.is_hardened:
        portal = place.python("authelia", DATABASE, *targets).stdout
        control(" R" in portal, f"the database does not answer the portal: {portal}")
    said = place.python(CLIENT, DATABASE, *targets).stdout.splitlines()
    found = [line for line in said if line.endswith(" R")]
    return Outcome(bool(found), f"{found[0].split()[0]}:5432 asks to log in" if found else said[-1])


@attack(STANDS, "box 1.7", "blocker 2", "blocker 4")
def an_administration_page_from_a_download_client(place: Place) -> Outcome:
    """Past the proxy nobody asks for a login, and the page gives away its key."""
    targets = [f"{name}:8989" for name in ("sonarr", *place.addresses("sonarr"))]
    if place.is_hardened:
        relative = place.python("prowlarr", PAGE, *targets).stdout
        control(bool(re.search(r":8989 \d", relative)), f"Sonarr answers nobody: {relative}")
    said = place.python(CLIENT, PAGE, *targets).stdout.splitlines()
    found = [line for line in said if " 200 " in line and "apiKey" in line]
    return Outcome(bool(found), f"{found[0][:60]}..." if found else said[-1])


@attack(STANDS, "box 1.11", "blocker 4")
def the_host_from_a_container(place: Place) -> Outcome:
    """The gateway of a container's network is the host, with all that listens there."""
    place.python(CLIENT, OWN_PAGE)
    said = place.python(CLIENT, GATEWAY).stdout.splitlines()
    if not said:
        return Outcome(False, "it has no gateway")
    found = [line for line in said if "SSH-" in line]
    return Outcome(bool(found), (found or said)[0])


ATTACKS = (
    a_database_from_a_download_client,
    an_administration_page_from_a_download_client,
    the_host_from_a_container,
)
