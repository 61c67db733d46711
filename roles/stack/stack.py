"""A site's services with its overrides applied: what every projection starts from."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from roles.core.model import File
from roles.core.secret import Secret
from roles.site.schema import Site
from roles.stack import networks, policy
from roles.stack.catalogue import CATALOGUE
from roles.stack.networks import Segment
from roles.stack.service import CONFIG, DATA, SECRETS, Limits, Mount, Service

PROJECT = "nexus"
COMPOSE_FILE = "/opt/nexus/compose.yml"
IMAGE_LOCK = Path(__file__).parents[2] / "images.lock.yml"
_UNITS = {"k": 1024, "m": 1024**2, "g": 1024**3}


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

    def hostname(self, service: Service) -> str:
        """The full name under which the reverse proxy serves it."""
        return f"{service.route.host}.{self.site.domain}" if service.route else ""

    def routed(self) -> tuple[Service, ...]:
        """The services that have a route."""
        return tuple(service for service in self.services if service.route)

    def address(self, service: str, network: str) -> str:
        """The fixed address of a service in a network."""
        return self.segments[network].address(self.service(service))

    def fingerprint(self, files: Iterable[File]) -> str:
        """A digest of the inputs that a container reads once, at its start.

        Keyed with a secret of the vault: it stands in a label that every user of the Docker API
        can read, and must say nothing about passwords among the inputs.
        """
        key = self.secrets["inputs_key"].reveal().encode()
        digest = hmac.new(key, digestmod=hashlib.sha256)
        for file in sorted(files, key=lambda file: file.path):
            content = hashlib.sha256(file.content).hexdigest()
            digest.update(f"{file.path}\0{content}\n".encode())
        return digest.hexdigest()[:32]


def stack_of(site: Site, secrets: Mapping[str, Secret]) -> Stack:
    """Apply a site to the catalogue.

    Raises:
        policy.PolicyError: a service departs from a hardened default without a reason, or two
            declarations contradict each other.
    """
    services = tuple(
        _for_site(site, service) for service in CATALOGUE if _enabled(site, service.name)
    )
    segments = networks.segments(site.network_prefix, site.domain, services)
    images = {**_locked_images(), **site.images}
    policy.enforce(services, segments, images)
    return Stack(site, services, segments, images, secrets)


def _for_site(site: Site, service: Service) -> Service:
    override = site.services.get(service.name)
    if override is not None:
        memory = _bytes(override.memory) if override.memory else service.limits.memory
        cpus = override.cpus or service.limits.cpus
        service = replace(service, limits=Limits(memory, cpus, service.limits.pids))
    if service.name == "jellyfin":
        folders = sorted(site.media.items())
        media = tuple(Mount(path, f"/media/{name}") for name, path in folders)
        service = replace(service, mounts=(*service.mounts, *media))
    return service


def _enabled(site: Site, name: str) -> bool:
    override = site.services.get(name)
    return override is None or override.enabled


def _bytes(text: str) -> int:
    """A Compose memory size ("512m") in bytes; the site's validation has judged its form."""
    return int(text[:-1]) * _UNITS[text[-1].lower()]


def image_names() -> frozenset[str]:
    """The names under which a site may name its own mirror of an image."""
    return frozenset(_locked_images())


def _locked_images() -> dict[str, str]:
    locked: dict[str, str] = yaml.safe_load(IMAGE_LOCK.read_text())
    return locked


def config_folder(service: Service) -> str:
    """The host folder of a service's rendered configuration."""
    return f"{CONFIG}/{service.name}"


def data_folder(service: Service, name: str) -> str:
    """The host folder of one of a service's data mounts."""
    return f"{DATA}/{service.name}/{name}"


def secret_file(service: Service, name: str) -> str:
    """The host path of a secret as one service sees it: each reader has a file of its own."""
    return f"{SECRETS}/{service.name}/{name}"
