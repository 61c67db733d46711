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
# Whoever writes media shares this group, and what it writes stays readable for the players.
MEDIA_GROUP = "nexus-media"
MEDIA_GID = 8899


MEGABYTE, GIGABYTE = 1024**2, 1024**3
_UNITS = {"k": 1024, "m": MEGABYTE, "g": GIGABYTE}


def memory_bytes(text: str) -> int:
    """A Compose memory size ("512m") in bytes; the site's validation has judged its form."""
    return int(text[:-1]) * _UNITS[text[-1].lower()]


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


# What no application needs, and an attacker would (https://www.w3.org/TR/CSP3/).
CONTENT_POLICY = "base-uri 'self'; object-src 'none'; frame-ancestors 'self'"


@dataclass(frozen=True, slots=True)
class Route:
    """How the reverse proxy reaches a service, and who may pass.

    `host` is the label under the site's domain. Policies: "two_factor" and "one_factor" ask
    Authelia; "native" leaves it to the application's own login and "portal" is Authelia itself,
    both with a reason. `login_paths` are the credential paths that get strict limits. `api` is the
    path below which the application takes nothing without its own key: a site may let native
    clients past the portal there. `content_policy` is the Content-Security-Policy; empty leaves the
    application's own.
    """

    host: str
    port: int
    policy: Literal["two_factor", "one_factor", "native", "portal"]
    reason: str
    login_paths: tuple[str, ...] = ()
    api: str = ""
    content_policy: str = CONTENT_POLICY


@dataclass(frozen=True, slots=True)
class OpenId:
    """A login at Authelia by OpenID Connect (https://openid.net/specs/openid-connect-core-1_0.html).

    `callback` is the path of the service to which a browser comes back. The service proves who it
    is by the secret NAME_openid_secret, of which Authelia has the hash alone.
    """

    callback: str


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder of the host inside the container."""

    source: str
    target: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class Health:
    """A command inside the container; times in seconds.

    Each check starts a runtime and a process: sixteen every ten seconds are felt on a small
    processor. Until the first success it is asked each second.
    """

    test: tuple[str, ...]
    interval: int = 30
    timeout: int = 5
    retries: int = 3
    start_period: int = 30


def answers(url: str, start_period: int) -> Health:
    """Healthy once an address inside the container answers well; for images that have curl."""
    return Health(("CMD", "curl", "-fsS", "-o", "/dev/null", url), start_period=start_period)


def asks(url: str, start_period: int = 30) -> Health:
    """The same, for images that have wget."""
    return Health(("CMD", "wget", "-q", "-O", "/dev/null", url), start_period=start_period)


@dataclass(frozen=True, slots=True)
class Limits:
    """Memory in bytes, processors, and processes plus threads."""

    memory: int
    cpus: float
    pids: int = 200


@dataclass(frozen=True, slots=True)
class Proof:
    """What a restored service must answer: `said` is in what a GET of `path` brings.

    `key` names the role and the vault entry of the key to its API, which is sent as X-Api-Key.
    """

    path: str
    said: str
    key: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Backup:
    """What of a service's data is kept, how it is read in one piece, and what is left out.

    `keep` names folders of its `data`. By the method "files" they are read while it runs; by "stop"
    its container stands still meanwhile, as a SQLite database needs it
    (https://www.sqlite.org/howtocorrupt.html, 1.2); by "postgres" the server dumps its database
    instead (PostgreSQL manual, 25.1). `exclude` are paths below these folders, "library/log";
    `left_out` are whole data folders, each with its reason. `proof` is what a drill asks.
    """

    method: Literal["files", "stop", "postgres"] = "files"
    keep: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    left_out: tuple[Waiver, ...] = ()
    proof: Proof | None = None


@dataclass(frozen=True, slots=True)
class Metrics:
    """Where a service tells its figures in Prometheus's text format, and how often it is asked.

    `interval` is in seconds, before the site's pace. `params` go with each request
    (https://prometheus.io/docs/prometheus/latest/configuration/configuration/#scrape_config).
    """

    port: int
    path: str = "/metrics"
    interval: int = 30
    params: tuple[tuple[str, str], ...] = ()


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
    `talks_to` are the services whose ports it opens connections to; no other pair is let through.
    `media` says what it may do with the site's media and downloads. `behind` is the service whose
    network it lives in: it has no address of its own, and no network when that one is gone.
    `scratch` are places in memory with a size in bytes, within the memory limit; `transcodes` gives
    it the host's GPU. `only_with` names the part of the site without which it is left out.
    `metrics` is where Prometheus reads its figures: both the way there and the reading follow.
    `login_log`: its log tells of failed logins; a jail of fail2ban with its name reads it.
    `reads_journal`: it sees the host's journal, and is in the group that may read it.
    `backup` speaks for every folder of `data`.
    """

    name: str
    number: int
    image: str
    purpose: str
    limits: Limits
    health: Health
    networks: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    ports: tuple[Port, ...] = ()
    route: Route | None = None
    openid: OpenId | None = None
    config: str = ""
    reloads: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    data: tuple[tuple[str, str], ...] = ()
    backup: Backup | None = None
    tmpfs: tuple[str, ...] = ()
    scratch: tuple[tuple[str, int], ...] = ()
    transcodes: bool = False
    secrets: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    talks_to: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    docker_api: tuple[tuple[str, str], ...] = ()
    media: Literal["none", "read", "write"] = "none"
    behind: str = ""
    only_with: Literal["", "vpn", "monitoring"] = ""
    metrics: Metrics | None = None
    listens: tuple[int, ...] = ()
    login_log: bool = False
    reads_journal: bool = False
    tile: Tile | None = None
    user: Waiver | None = None
    docker_socket: Waiver | None = None
    writable_root: Waiver | None = None
    capabilities: tuple[Waiver, ...] = ()
    devices: tuple[Waiver, ...] = ()
    groups: tuple[str, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    dns: tuple[str, ...] = ()
    init: bool = False
    stop_signal: str = ""
    shm_size: str = ""
    extra_hosts: tuple[str, ...] = field(default=())

    @property
    def uid(self) -> int:
        """The numeric user and group of the process and of its files on the host."""
        return int(self.user.value) if self.user else FIRST_UID + self.number

    @property
    def ports_inside(self) -> tuple[int, ...]:
        """The TCP ports on which other services reach it."""
        routed = (self.route.port,) if self.route else ()
        return tuple(dict.fromkeys((*routed, *self.listens)))

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
        return (
            *found,
            *(("capability", waiver) for waiver in self.capabilities),
            *(("device", waiver) for waiver in self.devices),
        )
