"""What no declaration may do: checked for every site before anything is rendered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from roles.stack.networks import Segment, may_talk, networks_of
from roles.stack.service import Service

SHORTEST_REASON = 12


class PolicyError(Exception):
    """A declaration breaks a rule; the text names the service, the rule and the mend."""


def enforce(
    services: Iterable[Service], segments: Mapping[str, Segment], images: Mapping[str, str]
) -> None:
    """Judge every declaration.

    Raises:
        PolicyError: one line for each breach.
    """
    listed = list(services)
    breaches = [
        *_unique(listed),
        *(text for service in listed for text in _breaches(service, listed, segments, images)),
    ]
    if breaches:
        raise PolicyError("\n".join(breaches))


def _unique(services: list[Service]) -> Iterator[str]:
    values_of: dict[str, list[int] | list[str]] = {
        "number": [service.number for service in services],
        "uid": [service.uid for service in services],
        "route": [service.route.host for service in services if service.route],
        "published port": [port.host for service in services for port in service.ports],
    }
    for what, values in values_of.items():
        for value, count in Counter(map(str, values)).items():
            if count > 1:
                yield f"{what} {value} is used by {count} services; give each its own"


def _breaches(
    service: Service,
    services: list[Service],
    segments: Mapping[str, Segment],
    images: Mapping[str, str],
) -> Iterator[str]:
    name = service.name
    for kind, waiver in service.waivers():
        if len(waiver.reason) < SHORTEST_REASON:
            yield f"{name}: {kind} {waiver.value} needs a reason that a reader can judge"
    if service.uid == 0:
        yield f"{name}: runs as root; give it a user of its own"
    if service.docker_socket and service.networks:
        yield f"{name}: holds the Docker socket, so it may be on private links only"
    if "@sha256:" not in images.get(service.image, ""):
        yield f"{name}: image {service.image} has no digest; add it to images.lock.yml"
    for network in networks_of(service, services):
        if network not in segments:
            yield f"{name}: network {network} is not one of {', '.join(sorted(segments))}"
    present = {other.name for other in services}
    pairs = may_talk(services)
    for other in service.talks_to:
        if other in present and not pairs[name, other]:
            yield f"{name}: talks to {other}, but no network joins them"
    for other in service.needs:
        if other not in present:
            yield f"{name}: needs {other}, which the site has switched off; switch {name} off too"
