"""The validation report's findings as attacks: on the old NEXUS they work, afterwards they do not.

Each is made where its attacker would stand: on the LAN, on the internet, in a container that
somebody broke into, at an ordinary account of the host.
"""

from tests.lab.attacks import (
    accounts,
    containers,
    docker_api,
    lateral,
    logins,
    network,
    resources,
    supply,
    torrents,
    transport,
)
from tests.lab.attacks.base import Attack, Outcome
from tests.lab.attacks.place import Place

ALL: tuple[Attack, ...] = (
    *docker_api.ATTACKS,
    *lateral.ATTACKS,
    *accounts.ATTACKS,
    *network.ATTACKS,
    *logins.ATTACKS,
    *transport.ATTACKS,
    *containers.ATTACKS,
    *resources.ATTACKS,
    *torrents.ATTACKS,
    *supply.ATTACKS,
)

__all__ = ["ALL", "Attack", "Outcome", "Place"]
