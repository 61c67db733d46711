"""The segmented networks: five shared ones, and a private link for each user of the Docker API."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network

from roles.stack.service import Service

SOCKET_PROXY = "socket-proxy"


@dataclass(frozen=True, slots=True)
class Segment:
    """A network. Internal ones have no way out; `subnet6` is empty without IPv6."""

    name: str
    internal: bool
    subnet: str
    subnet6: str
    purpose: str

    @property
    def docker_name(self) -> str:
        return f"nexus-{self.name}"

    @property
    def bridge(self) -> str:
        """The interface on the host; Linux allows 15 characters."""
        return f"nx-{self.name}"[:15]

    def address(self, service: Service) -> str:
        """The fixed address of a service here: rules can name it before it runs."""
        return str(IPv4Network(self.subnet)[1 + service.number])


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
        subnet6 = f"fd{unique[:2]}:{unique[2:6]}:{unique[6:10]}:{position:x}::/64"
        subnet6 = subnet6 if name == "edge" else ""
        found[name] = Segment(name, internal, str(blocks[position]), subnet6, purpose)
    for service in services:
        if service.docker_api:
            name = link(service)
            block = blocks[_FIRST_LINK + service.number % (len(blocks) - _FIRST_LINK)]
            purpose = f"{service.name}'s private way to its part of the Docker API"
            found[name] = Segment(name, True, str(block), "", purpose)
    return found


def link(service: Service) -> str:
    """The name of the private network between a service and the socket proxy."""
    return f"link-{service.name}"


def networks_of(service: Service, services: Iterable[Service]) -> tuple[str, ...]:
    """Every network a service is in: its declared ones and its links to the Docker API."""
    if service.name == SOCKET_PROXY:
        return tuple(link(other) for other in services if other.docker_api)
    return (*service.networks, *([link(service)] if service.docker_api else []))


def may_talk(services: Iterable[Service]) -> dict[tuple[str, str], bool]:
    """For each ordered pair of services: whether any network joins them."""
    listed = list(services)
    joined = {service.name: set(networks_of(service, listed)) for service in listed}
    return {
        (a.name, b.name): bool(joined[a.name] & joined[b.name])
        for a in listed
        for b in listed
        if a.name != b.name
    }
