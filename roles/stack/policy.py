"""What no declaration may do: checked for every site before anything is rendered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set

from roles.stack.networks import Segment, networks_of, ways
from roles.stack.service import Backup, Service

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
    joined = {(way.client.name, way.server.name) for way in ways(listed)}
    breaches = [*_unique(listed), *_apart(segments)]
    for service in listed:
        breaches += _breaches(service, listed, segments, images)
        breaches += _connections(service, {other.name: other for other in listed}, joined)
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


def _apart(segments: Mapping[str, Segment]) -> Iterator[str]:
    """A small prefix has fewer places than there are numbers."""
    for subnet, count in Counter(segment.subnet for segment in segments.values()).items():
        if count > 1:
            yield f"{count} networks would be {subnet}; write a larger site.network_prefix"


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
    if service.uid == 0 and service.user is None:
        yield f"{name}: runs as root; give it a user of its own"
    if sum(size for _, size in service.scratch) >= service.limits.memory:
        yield f"{name}: its memory limit leaves nothing beside its scratch space; raise the limit"
    if service.metrics and service.behind:
        yield f"{name}: tells figures from behind {service.behind}; declare an exporter for it"
    if service.openid and not any(other.name == "authelia" for other in services):
        yield f"{name}: logs people in by Authelia, which is switched off; switch off both"
    if service.docker_socket and service.networks:
        yield f"{name}: holds the Docker socket, so it may be on private links only"
    if "@sha256:" not in images.get(service.image, ""):
        yield f"{name}: image {service.image} has no digest; add it to images.lock.yml"
    for network in networks_of(service, services):
        if network not in segments:
            yield f"{name}: network {network} is not one of {', '.join(sorted(segments))}"
    yield from _backup(service)


def _backup(service: Service) -> Iterator[str]:
    """Every data folder is kept, or left out with a reason."""
    folders = {name for name, _ in service.data}
    backup = service.backup or Backup()
    left_out = {waiver.value for waiver in backup.left_out}
    for name in sorted(folders - {*backup.keep, *left_out}):
        yield (
            f"{service.name}: nothing says whether data folder {name} is backed up; name it in "
            "backup.keep, or in backup.left_out with a reason"
        )
    for name in sorted({*backup.keep, *left_out} - folders):
        yield f"{service.name}: backup names {name}, which is not one of its data folders"
    for waiver in backup.left_out:
        if len(waiver.reason) < SHORTEST_REASON:
            yield f"{service.name}: leaving out {waiver.value} needs a reason a reader can judge"
    for path in backup.exclude:
        if path.split("/")[0] not in backup.keep or ".." in path.split("/"):
            yield f"{service.name}: backup.exclude {path} is in no folder that is kept"


def _connections(
    service: Service, present: Mapping[str, Service], joined: Set[tuple[str, str]]
) -> Iterator[str]:
    """What it talks to, lives behind and waits for must be there and be reachable."""
    name = service.name
    if service.behind and service.networks:
        yield f"{name}: lives in the network of {service.behind}, so it has none of its own"
    for other in service.talks_to:
        if other not in present:
            continue
        client, server = (end.behind or end.name for end in (service, present[other]))
        if not present[other].ports_inside:
            yield f"{name}: talks to {other}, which listens on no port"
        elif client != server and (client, server) not in joined:
            yield f"{name}: talks to {other}, but no network joins them"
    for other in (*service.needs, *([service.behind] if service.behind else [])):
        if other not in present:
            yield f"{name}: needs {other}, which the site has switched off; switch {name} off too"
