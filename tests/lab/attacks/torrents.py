"""From the torrent client: what leaves beside the tunnel, with the household's own address."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.attacks.base import ControlError, Outcome, attack, control
from tests.lab.attacks.place import Place
from tests.lab.deployment import Deployment
from tests.lab.network import INTERNET, PREFIX, Namespace
from tests.lab.provider import CLIENT, SITE_PORT, Provider, new_key

KEY = "wireguard_private_key"
# Not the ones of tests/lab/test_gluetun.py, which may run at the same time.
PLACE = Namespace(f"{PREFIX}-swarm", INTERNET, 57)
INTERFACE = "vpn1"
# A service that is left out keeps its data and its user; this host shall be as before.
FORGET = "rm -r /opt/nexus/*/gluetun /opt/nexus/*/qbittorrent; userdel nexus-qbittorrent"
# To somebody in the swarm, who answers.
ANNOUNCE = f"""
import socket, sys
address, mark = sys.argv[1:]
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
    link.settimeout(2)
    try:
        link.sendto(mark.encode(), (address, {SITE_PORT}))
        print(len(link.recv(99)))
    except OSError as error:
        print("-", error)
"""


@contextmanager
def swarm(deployment: Deployment) -> Iterator[Provider]:
    """Others who share torrents; the deployed host gets a tunnel for as long as this lasts."""
    private, public = new_key()
    kept = deployment.vault.read_bytes()
    with (
        tempfile.TemporaryDirectory() as folder,
        Provider(Path(folder), public, PLACE, INTERFACE) as provider,
    ):
        deployment.keep({KEY: private})
        deployment.site["vpn"] = provider.vpn
        try:
            deployment.apply()
            yield provider
        finally:
            del deployment.site["vpn"]
            deployment.vault.write_bytes(kept)
            deployment.apply()
            deployment.host.run(FORGET)


def seen(place: Place, provider: Provider) -> str:
    """The address that the swarm sees when the client's container sends a packet, "" for none."""
    mark = f"announce{secrets.token_hex(6)}"
    # Its network may be gone together with the tunnel's container.
    place.python("qbittorrent", ANNOUNCE, provider.site, mark, check=False)
    notes = provider.asked(mark)
    return str(notes[0]["source"]) if notes else ""


@attack("torrent client's container", "box 1.7")
def a_torrent_packet_beside_the_tunnel(place: Place) -> Outcome:
    """With the tunnel down, the others in the swarm see the household's own address."""
    provider = place.swarm
    if provider is None:
        raise ControlError("there is no swarm")
    tunnelled = seen(place, provider)
    if place.is_hardened:
        control(tunnelled == CLIENT, f"with the tunnel up the swarm sees {tunnelled or 'nothing'}")
    place.host.run(["docker", "stop", place.container("gluetun")])
    try:
        address = seen(place, provider)
    finally:
        place.host.run(["docker", "start", place.container("gluetun")])
    if not address:
        return Outcome(False, f"the swarm sees {tunnelled}, and without the tunnel nobody")
    own = ", the household's own" if address == place.host.address else ""
    return Outcome(True, f"without the tunnel the swarm sees {address}{own}")


ATTACKS = (a_torrent_packet_beside_the_tunnel,)
