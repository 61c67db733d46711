"""The segmented networks: five shared ones, and a private link for each user of the Docker API."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from roles.stack.service import Service

SOCKET_PROXY = "socket-proxy"
# Whose figures are read, and by whom, meet there.
MONITORING = "monitoring"
SCRAPER = "prometheus"


@dataclass(frozen=True, slots=True)
class Segment:
    """A network. Internal ones have no way out; `subnet6` is empty without IPv6.

    `bridge` is its interface on the host, whose name Linux cuts off after 15 characters.
    """

    name: str
    bridge: str
    internal: bool
    subnet: str
    subnet6: str
    purpose: str

    @property
    def docker_name(self) -> str:
        return f"nexus-{self.name}"

    def address(self, service: Service) -> str:
        """The fixed address of a service here: rules can name it before it runs."""
        return str(IPv4Network(self.subnet)[1 + service.number])

    def address6(self, service: Service) -> str:
        """Its IPv6 address, empty in a network without."""
        return str(IPv6Network(self.subnet6)[1 + service.number]) if self.subnet6 else ""


# name, internal, position in the site's prefix, purpose
_SHARED = (
    ("edge", False, 0, "the reverse proxy and what it serves without data of its own"),
    ("media", False, 1, "media servers, which fetch metadata from the internet"),
    ("downloads", False, 2, "downloaders, which need the internet"),
    ("data", True, 3, "databases and caches"),
    ("monitoring", True, 4, "metrics, logs and alerts"),
)
_FIRST_LINK = 16


def segments(prefix: str, domain: str, services: Iterable[Service]) -> dict[str, Segment]:
    """The networks of a site, by name: the shared ones in use and the links to the Docker API.

    `prefix` is an IPv4 CIDR of at least /20; each network takes a /24 of it. IPv6 addresses come
    from a unique local prefix (RFC 4193) derived from the domain, so that they never change.
    """
    blocks = list(IPv4Network(prefix).subnets(new_prefix=24))
    unique = hashlib.sha256(domain.encode()).hexdigest()[:10]
    found = {}
    for name, internal, position, purpose in _SHARED:
        # In the normal form (RFC 5952), in which Docker since 28 answers whatever it was told.
        local = IPv6Network(f"fd{unique[:2]}:{unique[2:6]}:{unique[6:10]}:{position:x}::/64")
        subnet6 = str(local) if name == "edge" else ""
        block = str(blocks[position])
        found[name] = Segment(name, f"nx-{name}", internal, block, subnet6, purpose)
    first = _FIRST_LINK if len(blocks) > _FIRST_LINK else len(_SHARED)
    for service in services:
        if service.docker_api:
            name = link(service)
            block = str(blocks[first + service.number % (len(blocks) - first)])
            purpose = f"{service.name}'s private way to its part of the Docker API"
            # By number: the names of two services may begin alike.
            found[name] = Segment(name, f"nx-link-{service.number}", True, block, "", purpose)
    return found


def link(service: Service) -> str:
    """The name of the private network between a service and the socket proxy."""
    return f"link-{service.name}"


def networks_of(service: Service, services: Iterable[Service]) -> tuple[str, ...]:
    """Every network a service is in: its declared ones, and those of its figures and its link."""
    if service.behind:
        return ()
    if service.name == SOCKET_PROXY:
        return tuple(link(other) for other in services if other.docker_api)
    joined = [*service.networks]
    if service.metrics:
        joined.append(MONITORING)
    if service.docker_api:
        joined.append(link(service))
    return tuple(dict.fromkeys(joined))


@dataclass(frozen=True, slots=True)
class Way:
    """One connection that may be opened: by a client to a TCP port of a server, in a network."""

    client: Service
    server: Service
    port: int
    network: str


def ways(services: Iterable[Service]) -> tuple[Way, ...]:
    """Every connection between services that the declarations allow; no other one is.

    A service behind another one is reached, and reaches out, at the address of that one.
    """
    listed = {service.name: service for service in services}
    found = [
        Way(_place(client, listed), _place(server, listed), port, network)
        for client in listed.values()
        for server in (listed[name] for name in client.talks_to if name in listed)
        for port in server.ports_inside
        for network in _shared(_place(client, listed), _place(server, listed), listed)
    ]
    found += [
        Way(listed[SCRAPER], server, server.metrics.port, MONITORING)
        for server in listed.values()
        if server.metrics and server.name != SCRAPER
    ]
    return tuple(dict.fromkeys(found))


def _place(service: Service, listed: Mapping[str, Service]) -> Service:
    return listed.get(service.behind, service)


def _shared(client: Service, server: Service, listed: Mapping[str, Service]) -> list[str]:
    theirs = networks_of(server, listed.values())
    return [name for name in networks_of(client, listed.values()) if name in theirs]
