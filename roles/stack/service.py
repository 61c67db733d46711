"""The type of a service. Hardened defaults live here; a departure is a value with a reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

# Host accounts and container users are 8800 + a service's number: a range that neither Debian's
# system accounts (100-999) nor people's accounts (1000-) use.
FIRST_UID = 8800
CONFIG = "/opt/nexus/config"
DATA = "/opt/nexus/data"
SECRETS = "/opt/nexus/secrets"


@dataclass(frozen=True, slots=True)
class Waiver:
    """A departure from a hardened default, and why this image needs it."""

    value: str
    reason: str


@dataclass(frozen=True, slots=True)
class Port:
    """A port published on the host's addresses. Only the reverse proxy has any."""

    host: int
    container: int
    protocol: Literal["tcp", "udp"] = "tcp"


@dataclass(frozen=True, slots=True)
class Route:
    """How the reverse proxy reaches a service, and who may pass.

    `host` is the label under the site's domain. Policies: "two_factor" and "one_factor" ask
    Authelia; "native" leaves it to the application's own login and "portal" is Authelia itself,
    both with a reason. `login_paths` are the credential paths that get a strict rate limit.
    """

    host: str
    port: int
    policy: Literal["two_factor", "one_factor", "native", "portal"]
    reason: str
    login_paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder of the host inside the container."""

    source: str
    target: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class Health:
    """A command inside the container; times in seconds."""

    test: tuple[str, ...]
    interval: int = 10
    timeout: int = 5
    retries: int = 6
    start_period: int = 30


@dataclass(frozen=True, slots=True)
class Limits:
    """Memory in bytes, processors, and processes plus threads."""

    memory: int
    cpus: float
    pids: int = 200


@dataclass(frozen=True, slots=True)
class Tile:
    """What the dashboard shows."""

    group: str
    title: str
    description: str
    icon: str


@dataclass(frozen=True, slots=True)
class Service:
    """One service, declared once; every file about it is derived from this.

    `number` (1-99) gives the service its account and its address in each network. `secrets` maps a
    vault name to nothing but itself: the file is /run/secrets/<name> inside. `config` is the folder
    inside the container where the rendered templates of the role of this name appear; `reloads`
    names what in there the program notices by itself, so that a change does not recreate it.
    `docker_api` lists (method, path pattern) that this service may ask of the Docker API.
    """

    name: str
    number: int
    image: str
    purpose: str
    limits: Limits
    health: Health
    networks: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    ports: tuple[Port, ...] = ()
    route: Route | None = None
    config: str = ""
    reloads: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    data: tuple[tuple[str, str], ...] = ()
    tmpfs: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    talks_to: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    docker_api: tuple[tuple[str, str], ...] = ()
    tile: Tile | None = None
    user: Waiver | None = None
    docker_socket: Waiver | None = None
    writable_root: Waiver | None = None
    capabilities: tuple[Waiver, ...] = ()
    groups: tuple[str, ...] = ()
    stop_signal: str = ""
    shm_size: str = ""
    extra_hosts: tuple[str, ...] = field(default=())

    @property
    def uid(self) -> int:
        """The numeric user and group of the process and of its files on the host."""
        return int(self.user.value) if self.user else FIRST_UID + self.number

    @property
    def account(self) -> str:
        """The host account that reserves the number."""
        return f"nexus-{self.name}"

    def waivers(self) -> tuple[tuple[str, Waiver], ...]:
        """Every departure from a hardened default, with its kind."""
        single = {
            "user": self.user,
            "docker socket": self.docker_socket,
            "writable root": self.writable_root,
        }
        found = [(kind, waiver) for kind, waiver in single.items() if waiver]
        return (*found, *(("capability", waiver) for waiver in self.capabilities))
