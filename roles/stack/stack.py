"""A site's services with its overrides applied: what every projection starts from."""

from __future__ import annotations

import functools
import hashlib
import hmac
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from roles.core import libyaml
from roles.core.model import File, Settings
from roles.core.secret import Secret
from roles.site.schema import Site, SiteError, Tls
from roles.stack import networks, policy
from roles.stack.catalogue import CATALOGUE
from roles.stack.database import with_settings
from roles.stack.logs_and_traces import GO_PROGRAMS, with_soft_limit, with_tracing
from roles.stack.monitoring import for_site
from roles.stack.networks import Segment, Way
from roles.stack.openid import with_openid
from roles.stack.own import own_services
from roles.stack.service import (
    CONFIG,
    DATA,
    MEDIA_GID,
    SECRETS,
    Limits,
    Mount,
    Service,
    Waiver,
    memory_bytes,
)
from roles.stack.tunnel import with_tunnel

PROJECT = "nexus"
# "/srv/media" may be handed out as a whole, "/srv" may not.
LEAST_DEPTH = 2
MEBIBYTE = 1024**2
STEP = 128 * MEBIBYTE
COMPOSE_FILE = "/opt/nexus/compose.yml"
IMAGE_LOCK = Path(__file__).parents[2] / "images.lock.yml"


@dataclass(frozen=True)
class Stack:
    """The services of one site, its networks, its images and the values of its secrets."""

    site: Site
    services: tuple[Service, ...]
    segments: Mapping[str, Segment]
    images: Mapping[str, str]
    secrets: Mapping[str, Secret] = field(repr=False)

    def service(self, name: str) -> Service:
        """The service of this name.

        Raises:
            KeyError: there is none, or the site has switched it off.
        """
        return next(s for s in self.services if s.name == name)

    def networks_of(self, service: Service) -> tuple[Segment, ...]:
        """The networks of a service, in the order of declaration."""
        return tuple(self.segments[n] for n in networks.networks_of(service, self.services))

    def ways(self) -> tuple[Way, ...]:
        """Every connection between services that is allowed."""
        return networks.ways(self.services)

    def upstream(self, service: Service) -> str:
        """The name under which other services reach it."""
        return service.behind or service.name

    def hostname(self, service: Service) -> str:
        """The full name under which the reverse proxy serves it."""
        return f"{service.route.host}.{self.site.domain}" if service.route else ""

    def routed(self) -> tuple[Service, ...]:
        """The services that have a route."""
        return tuple(service for service in self.services if service.route)

    def openid_clients(self) -> tuple[Service, ...]:
        """The services that log people in at Authelia by OpenID Connect."""
        return tuple(service for service in self.services if service.openid)

    def scraped(self) -> tuple[Service, ...]:
        """The services whose figures are read; none without a Prometheus."""
        return tuple(service for service in self.services if service.metrics)

    def has(self, *services: str) -> bool:
        """Whether all of these run at this site."""
        return {service.name for service in self.services}.issuperset(services)

    def address(self, service: str, network: str) -> str:
        """The fixed address of a service in a network."""
        return self.segments[network].address(self.service(service))

    def fingerprint(self, definition: str, files: Iterable[File | Settings]) -> str:
        """A digest of a service's definition and of the files that it reads once, at its start.

        Keyed with a secret of the vault: it stands in a label that every user of the Docker API
        can read, and must say nothing about passwords among the files.
        """
        key = self.secrets["inputs_key"].reveal().encode()
        digest = hmac.new(key, definition.encode(), hashlib.sha256)
        for file in sorted(files, key=lambda file: file.path):
            content = file.content if isinstance(file, File) else repr(file.entries).encode()
            digest.update(f"\n{file.path}\0{hashlib.sha256(content).hexdigest()}".encode())
        return digest.hexdigest()[:32]


def stack_of(site: Site, secrets: Mapping[str, Secret]) -> Stack:
    """Apply a site to the catalogue.

    Raises:
        policy.PolicyError: a service departs from a hardened default without a reason, or two
            declarations contradict each other.
        SiteError: the site opens an API that is not known to ask for a key.
    """
    _refuse_unknown_apis(site)
    own = dict(own_services(site))
    chosen = [_for_site(site, s) for s in (*CATALOGUE, *own) if _enabled(site, s)]
    if not any(service.docker_api for service in chosen):
        # Nobody asks the Docker API, so nobody holds its socket.
        chosen = [service for service in chosen if not service.docker_socket]
    if not any(service.name == networks.SCRAPER for service in chosen):
        # Nobody reads figures, so nobody tells any, and there is nothing to look at.
        chosen = [replace(s, metrics=None) for s in chosen if s.only_with != "monitoring"]
    routed = tuple(service.name for service in chosen if service.route)
    services = tuple(_among(site, service, chosen, routed) for service in chosen)
    segments = networks.segments(site.network_prefix, site.domain, services)
    images = {**_locked_images(), **site.images, **{s.image: i for s, i in own.items()}}
    policy.enforce(services, segments, images)
    return Stack(site, services, segments, images, secrets)


@dataclass(frozen=True, slots=True)
class Render:
    """An Intel GPU's render node, and the number of the group that may use it."""

    device: str
    gid: int


def fitted(
    stack: Stack,
    processors: int,
    render: Render | None = None,
    memory: int = 0,
    journal_gid: int | None = None,
) -> Stack:
    """The stack on one host: no limit above its processors, which the engine would refuse.

    Nor one above its memory (bytes; 0 is unknown), which would protect nothing. Its GPU goes to
    whoever transcodes, the group of its journal to whoever reads that, and to nobody else.

    Raises:
        SiteError: the site itself asks for more than there are.
    """
    problems = [*_beyond(stack.site, processors), *(_above(stack.site, memory) if memory else [])]
    if problems:
        raise SiteError(problems)
    services = tuple(
        _on_host(_within(service, memory) if memory else service, processors, render, journal_gid)
        for service in stack.services
    )
    return replace(stack, services=services)


def _beyond(site: Site, processors: int) -> Iterator[str]:
    for name, override in site.services.items():
        if override.cpus and override.cpus > processors:
            yield (
                f"site.services.{name}.cpus: {override.cpus:g} is more than the host's "
                f"{processors}; write at most {processors}"
            )


def _above(site: Site, memory: int) -> Iterator[str]:
    asked = {f"services.{name}": each.memory for name, each in site.services.items()}
    asked |= {f"own.{name}": each.memory for name, each in site.own.items()}
    for part, text in asked.items():
        if text and memory_bytes(text) > memory:
            yield (
                f"site.{part}.memory: {text} is more than the host's {memory // MEBIBYTE}m, so it "
                f"would protect nothing; write at most {_most(memory) // MEBIBYTE}m"
            )


def _most(memory: int) -> int:
    """What one container may have of a host that is smaller than its limit.

    Rounded, so that a kernel that keeps a little more for itself changes nothing.
    """
    return max(memory * 3 // 4 // STEP, 1) * STEP


def _within(service: Service, memory: int) -> Service:
    if service.limits.memory <= memory:
        return service
    most = _most(memory)
    scratch = tuple((path, min(size, most // 2)) for path, size in service.scratch)
    limits = replace(service.limits, memory=most)
    return _by_its_limits(replace(service, limits=limits, scratch=scratch))


def _on_host(
    service: Service, processors: int, render: Render | None, journal_gid: int | None
) -> Service:
    limits = replace(service.limits, cpus=min(service.limits.cpus, processors))
    if service.reads_journal and journal_gid is not None:
        service = replace(service, groups=(*service.groups, str(journal_gid)))
    if render is None or not service.transcodes:
        return replace(service, limits=limits)
    device = Waiver(render.device, "it decodes and encodes video on the GPU (Intel Quick Sync)")
    return replace(
        service, limits=limits, devices=(device,), groups=(*service.groups, str(render.gid))
    )


def _among(
    site: Site, service: Service, chosen: Iterable[Service], routed: tuple[str, ...]
) -> Service:
    """A service with what depends on the others."""
    if service.name == "traefik":
        return with_tracing(replace(service, talks_to=routed), chosen)
    if service.name == "gluetun" and site.vpn:
        return with_tunnel(site.vpn, service, (s for s in chosen if s.behind == service.name))
    if service.name == "authelia" and (clients := [other for other in chosen if other.openid]):
        return with_openid(service, clients)
    return _by_its_limits(service)


_BY_LIMITS = {"postgres": with_settings, **dict.fromkeys(GO_PROGRAMS, with_soft_limit)}


def _by_its_limits(service: Service) -> Service:
    made = _BY_LIMITS.get(service.name)
    return made(service) if made else service


def _for_site(site: Site, service: Service) -> Service:
    override = site.services.get(service.name)
    if override is not None:
        memory = memory_bytes(override.memory) if override.memory else service.limits.memory
        cpus = override.cpus or service.limits.cpus
        service = replace(service, limits=Limits(memory, cpus, service.limits.pids))
    if service.route and not (override and override.native_api):
        service = replace(service, route=replace(service.route, api=""))
    if service.name == "traefik":
        service = _with_certificates(site.tls, service)
    service = for_site(site, service)
    mounts = _media_mounts(site, service)
    groups = (*service.groups, *([str(MEDIA_GID)] if service.media == "write" else []))
    return replace(service, mounts=(*service.mounts, *mounts), groups=groups)


def _refuse_unknown_apis(site: Site) -> None:
    able = {service.name for service in CATALOGUE if service.route and service.route.api}
    problems = [
        f"site.services.{name}.native_api: {name} is not known to ask for a key on every path of "
        f"an API; only {', '.join(sorted(able))} are"
        for name, override in site.services.items()
        if override.native_api and name not in able
    ]
    if problems:
        raise SiteError(problems)


def _media_mounts(site: Site, service: Service) -> list[Mount]:
    """What a service sees of the site's media: the players by name, the others as on the host.

    A file moves between two folders at once, and a link costs no space, only inside of one mount:
    so whoever files downloads sees the folder that holds both, where that is not half the host.
    """
    folders = sorted(site.media.items())
    if service.media == "read":
        return [Mount(path, f"/media/{name}") for name, path in folders]
    if service.media == "none":
        return []
    places = sorted({*site.media.values(), site.downloads})
    above = PurePosixPath(posixpath.commonpath(places))
    if len(above.parts) > LEAST_DEPTH:
        places = [str(above)]
    return [Mount(place, place, read_only=False) for place in places]


def _with_certificates(tls: Tls, proxy: Service) -> Service:
    """The proxy with its own key, or with what it proves a domain to an authority by.

    lego, the ACME library inside Traefik, reads VARIABLE from the file that VARIABLE_FILE names
    (https://go-acme.github.io/lego/dns/), so no credential is in the environment.
    """
    if tls.mode == "own-ca":
        return replace(proxy, secrets=("tls_server_key",))
    files = tuple(
        (f"{variable}_FILE", f"/run/secrets/{name}")
        for variable, name in sorted(tls.credentials.items())
    )
    secrets = tuple(sorted(set(tls.credentials.values())))
    return replace(proxy, secrets=secrets, environment=(*proxy.environment, *files))


def _enabled(site: Site, service: Service) -> bool:
    parts = {"vpn": site.vpn is not None, "monitoring": site.monitoring.enabled}
    if not parts.get(service.only_with, True):
        return False
    override = site.services.get(service.name)
    return override is None or override.enabled


def image_names() -> frozenset[str]:
    """The names under which a site may name its own mirror of an image."""
    return frozenset(_locked_images())


@functools.cache
def _locked_images() -> Mapping[str, str]:
    locked: dict[str, str] = libyaml.load(IMAGE_LOCK.read_text())
    return MappingProxyType(locked)


def config_folder(service: Service) -> str:
    """The host folder of a service's rendered configuration."""
    return f"{CONFIG}/{service.name}"


def data_folder(service: Service, name: str) -> str:
    """The host folder of one of a service's data mounts."""
    return f"{DATA}/{service.name}/{name}"


def secret_file(service: Service, name: str) -> str:
    """The host path of a secret as one service sees it: each reader has a file of its own."""
    return f"{SECRETS}/{service.name}/{name}"
