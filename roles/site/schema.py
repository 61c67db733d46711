"""The site dictionary of an inventory, validated once. Unknown keys are refused."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Port = Annotated[int, Field(ge=1, le=65535, strict=True)]
LONGEST_SHOWN = 60
# The times in seconds that Traefik sorts requests by, so the ones that a promise can name.
LATENCIES = (0.1, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0)
# What the letters of a time span stand for.
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# pydantic's error types (https://docs.pydantic.dev/latest/errors/validation_errors/).
TCP_PORT_ERRORS = frozenset({"int_type", "greater_than_equal", "less_than_equal"})
MENDS = {
    "bool_parsing": "must be True or False",
    "bool_type": "must be True or False",
    "dict_type": 'must be a dictionary, e.g. {{"name": "value"}}',
    "finite_number": "must be a finite number, e.g. 1.5",
    "float_parsing": "must be a number, e.g. 1.5",
    "float_type": "must be a number, e.g. 1.5",
    "literal_error": "must be {expected}",
    "model_type": 'must be a dictionary, e.g. {{"name": "value"}}',
    "string_type": "must be a text in quotes",
    "tuple_type": 'must be a list, e.g. ["value"]',
}


class SiteError(Exception):
    """The site is refused; one line a problem, naming field, value and mend."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class Part(BaseModel):
    """A part of a site: nothing unknown in it, and nothing changes it."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Ssh(Part):
    """The way in. `allow_from` (CIDR) defaults to the site's `lan`; `options` go to sshd_config."""

    ports: tuple[Port, ...] = (22,)
    allow_from: tuple[str, ...] = ()
    authorized_keys: dict[str, tuple[str, ...]] = {}
    options: dict[str, str] = {}


class Tls(Part):
    """Where certificates come from: an authority of one's own, or ACME (RFC 8555).

    `directory` is an ACME server's address (default: Let's Encrypt), and `ca_certificate` (PEM) is
    what it is trusted by, if it is no public one. Its certificates must last two days or more.
    `credentials` maps a variable of the DNS `provider` to the vault entry with its value
    (https://go-acme.github.io/lego/dns/); `resolvers` are the DNS servers to check with.
    """

    mode: Literal["own-ca", "acme-http", "acme-dns"] = "own-ca"
    directory: str | None = None
    ca_certificate: str | None = None
    provider: str | None = None
    credentials: dict[str, str] = {}
    resolvers: tuple[str, ...] = ()


class Vpn(Part):
    """The tunnel of the torrent client, in gluetun's words (its wiki lists the providers).

    Keys and passwords are in the vault; `preshared_key` says that there is one. `addresses` (CIDR)
    are what the provider's WireGuard file calls Address. `endpoint` (address:port) and `public_key`
    are for the provider "custom".
    """

    provider: str
    type: Literal["wireguard", "openvpn"] = "wireguard"
    countries: tuple[str, ...] = ()
    endpoint: str | None = None
    public_key: str | None = None
    addresses: tuple[str, ...] = ()
    preshared_key: bool = False


class Docker(Part):
    """Which Docker Engine: the distribution's, or Docker's own (newer, the only one on Debian 12).

    `mirror` stands for https://download.docker.com/linux; `mirror_key` is the armoured public key
    of one that signs by itself.
    """

    source: Literal["distribution", "docker"] = "distribution"
    mirror: str | None = None
    mirror_key: str | None = None


class Updates(Part):
    """Security updates install themselves; `reboot` (HH:MM, local time) when one needs it."""

    automatic: bool = True
    reboot: str | None = "04:30"


class Keep(Part):
    """How many daily, weekly and monthly snapshots of each service stay."""

    daily: int = 7
    weekly: int = 5
    monthly: int = 12


class Offsite(Part):
    """The second backup, on another machine, in restic's words
    (https://restic.readthedocs.io/en/stable/030_preparing_a_new_repo.html).

    `credentials` maps a variable of this kind of address to the vault entry with its value.
    `ca_certificate` (PEM) is what its server is trusted by, if it is no public one; `host_key` is
    the line of known_hosts for "sftp". `upload_limit` and `download_limit` are in KiB a second.
    With `append_only` the server lets nobody delete, so what is old is cleared over there.
    """

    address: str
    credentials: dict[str, str] = {}
    ca_certificate: str | None = None
    host_key: str | None = None
    append_only: bool = True
    upload_limit: int | None = None
    download_limit: int | None = None


class Objectives(Part):
    """What a drill is held against ("90m", "24h", "7d"): how old the newest backup may be, and how
    long it may take from nothing to services that answer (NIST SP 800-34: RPO, RTO)."""

    rpo: str = "24h"
    rto: str = "1h"

    def in_seconds(self) -> dict[str, int]:
        """Both as numbers, by name; the site's validation has judged their form."""
        given: dict[str, str] = self.model_dump()
        return {name: int(text[:-1]) * SECONDS[text[-1]] for name, text in given.items()}


class Backup(Part):
    """Encrypted copies of every service's data, each day at `time` (HH:MM, local) or a bit later.

    `repository` is a folder of the host, best on a disk of its own. Nothing is written while less
    than `least_free` of that disk ("2g") is free.
    """

    repository: str = "/var/backups/nexus/restic"
    offsite: Offsite | None = None
    time: str = "03:00"
    keep: Keep = Keep()
    least_free: str = "2g"
    objectives: Objectives = Objectives()


class Mail(Part):
    """A mail for each failure. `server` is host:port; `user` and `password` name vault entries.

    TLS is spoken from the start (RFC 8314), or after STARTTLS; there is no mail without it.
    """

    server: str
    sender: str
    to: str
    security: Literal["tls", "starttls"] = "tls"
    user: str | None = None
    password: str | None = None


class Ntfy(Part):
    """A topic of ntfy (https://docs.ntfy.sh/publish/); `token` names a vault entry."""

    address: str
    token: str | None = None


class Notify(Part):
    """Whom failures of the server's own work tell.

    `webhook` names the vault entry with its address, which is all that guards most of them; alerts
    go there in Alertmanager's own words, or in those of a chat that `webhook_speaks`.
    `ca_certificate` (PEM) is trusted beside the public authorities.
    """

    mail: Mail | None = None
    ntfy: Ntfy | None = None
    webhook: str | None = None
    webhook_speaks: Literal["json", "slack", "discord"] = "json"
    ca_certificate: str | None = None


class Retention(Part):
    """What is kept until it is older than `time` ("90d") or all is larger than `size` ("4g")."""

    time: str
    size: str


class ServiceLevel(Part):
    """What a route promises, in percent: of its requests, how many the server does not fail, and of
    its pages, how many come within `within` seconds.

    A month's budget of errors is the rest (The Site Reliability Workbook, chapter 2).
    """

    availability: float = 99.5
    fast: float = 95.0
    within: float = 1.0


class Logs(Part):
    """For how many days lines are kept ("30d"): in `full`, with the addresses of clients in them,
    which also bounds the journal; and those of the `security` log with addresses shortened."""

    full: str = "30d"
    security: str = "180d"


class Monitoring(Part):
    """What watches the server, on the server itself.

    `metrics` is how long figures are kept, and `logs` how long lines. `pace` stretches all its
    times, from one reading to how long a failure lasts before it is told: 1 suits a household, 2
    halves the work and doubles the times to notice. `heartbeat` names the vault entry with the
    address of a dead man's switch: a service elsewhere that is told every five minutes that all is
    well, and complains when it is not (https://healthchecks.io, or your own). `objectives` are what
    routes promise, by the name of the service; "*" speaks for those that are not named.
    """

    enabled: bool = True
    heartbeat: str | None = None
    objectives: dict[str, ServiceLevel] = {}
    metrics: Retention = Retention(time="90d", size="4g")
    logs: Logs = Logs()
    pace: float = 1.0


class Scan(Part):
    """Each week Trivy looks for known vulnerabilities in the images that run.

    `accepted` names those that are no danger here, each with its reason. `database` lists where the
    known ones come from ("mirror.lan/trivy-db:2", the first that answers), by default Trivy's own
    places.
    """

    enabled: bool = True
    accepted: dict[str, str] = {}
    database: tuple[str, ...] = ()


class Override(Part):
    """What a site may change of a service: memory as "512m" or "4g", processors.

    `native_api` lets apps that cannot log in at the portal reach the service's API with its key.
    """

    enabled: bool = True
    memory: str | None = None
    cpus: float | None = None
    native_api: bool = False


class Own(Part):
    """A service of the operator's own; it gets everything that a built-in one gets.

    `number` (60-99) stands behind its account and its addresses: keep it. `port` is where it
    listens, `health` a Compose health check, `data` maps a folder's name to its place inside,
    `secrets` are vault entries that appear below /run/secrets. `exceptions` are departures from the
    hardened defaults, each with its reason: "user 1000", "capability NET_RAW", "writable root".
    """

    number: Annotated[int, Field(ge=60, le=99, strict=True)]
    image: str
    port: Port
    health: tuple[str, ...]
    host: str | None = None
    network: Literal["edge", "media", "downloads"] = "edge"
    policy: Literal["two_factor", "one_factor"] = "two_factor"
    memory: str = "256m"
    cpus: float = 1.0
    command: tuple[str, ...] = ()
    data: dict[str, str] = {}
    tmpfs: tuple[str, ...] = ("/tmp",)  # noqa: S108 - inside the container
    environment: dict[str, str] = {}
    secrets: tuple[str, ...] = ()
    talks_to: tuple[str, ...] = ()
    media: Literal["none", "read", "write"] = "none"
    exceptions: dict[str, str] = {}


class Waiver(Part):
    """A check of the scorecard that may fail, why, and the last day (YYYY-MM-DD) of that."""

    check: str
    reason: str
    until: str


class Site(Part):
    """One household's server.

    `people` are names with e-mail addresses: they log in at the portal as `admin` does, and reach
    what is for everybody, not what is for administration.
    `replaces` names Compose projects on the host that make room for this one.
    `never_ban` (CIDR) is the operator's network, which no failed login locks out: by default the
    `lan` and, unless it is everybody, `ssh.allow_from`. A narrower one lets neighbours be banned.
    The services' memory limits may add up to `memory_overcommit` times the host's before a deploy
    warns.
    """

    name: str
    domain: str
    email: str
    timezone: str
    admin: str
    people: dict[str, str] = {}
    lan: tuple[str, ...]
    media: dict[str, str]
    downloads: str = "/srv/media/downloads"
    exposure: Literal["lan", "internet"] = "lan"
    ssh: Ssh = Ssh()
    never_ban: tuple[str, ...] = ()
    tls: Tls = Tls()
    vpn: Vpn | None = None
    docker: Docker = Docker()
    updates: Updates = Updates()
    backup: Backup = Backup()
    notify: Notify = Notify()
    monitoring: Monitoring = Monitoring()
    scan: Scan = Scan()
    network_prefix: str = "172.30.0.0/16"
    memory_overcommit: float = 1.0
    services: dict[str, Override] = {}
    own: dict[str, Own] = {}
    images: dict[str, str] = {}
    waivers: tuple[Waiver, ...] = ()
    replaces: tuple[str, ...] = ()


def load_site(
    raw: Mapping[str, Any], known_services: Collection[str], known_images: Collection[str]
) -> Site:
    """Validate a site's form and then what its parts say together.

    Raises:
        SiteError: every problem at once, one line each.
    """
    from roles.site.checks import problems_of  # noqa: PLC0415 - the checks need the types above

    try:
        site = Site.model_validate(dict(raw))
    except ValidationError as error:
        found = error.errors(include_url=False)
        raise SiteError(list(dict.fromkeys(_line(raw, problem) for problem in found))) from None
    if not site.ssh.allow_from:
        ssh = site.ssh.model_copy(update={"allow_from": site.lan})
        site = site.model_copy(update={"ssh": ssh})
    problems = list(problems_of(site, known_services, known_images))
    if problems:
        raise SiteError(problems)
    return site


def shown(value: object) -> str:
    """A value as a message may repeat it: short, on one line, and never a private key."""
    if not isinstance(value, str | int | float | None):
        return f"a {type(value).__name__}"
    text = repr(value)
    if "PRIVATE KEY" in text:
        return "a private key"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def nearest(name: str, known: Collection[str]) -> str:
    """The hint that goes with an unknown name."""
    close = difflib.get_close_matches(name, known, 1)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(known))}"


def _line(raw: Mapping[str, Any], error: Any) -> str:
    place = _sayable([part for part in error["loc"] if part != "[key]"])
    field = "site" + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in place)
    kind = error["type"]
    if kind == "missing":
        return f"{field}: is missing; add it to the inventory"
    if kind == "extra_forbidden":
        return f"{field}: is not known; {nearest(str(place[-1]), list(_fields_at(place[:-1])))}"
    limits = {name: limit for name, limit in error.get("ctx", {}).items() if name == "expected"}
    mend = MENDS.get(kind, "has the wrong form; compare it with a new inventory of: make init")
    mend = mend.format(**limits)
    if kind in TCP_PORT_ERRORS and "ports" in place:
        mend = "is not a TCP port (1-65535); write e.g. 22, without quotes"
    secret = bool(place) and place[0] in {"tls", "vpn", "notify"}
    secret &= not place or place[-1] not in {"mode", "type", "security"}
    secret |= "authorized_keys" in place or "offsite" in place
    return f"{field}: {mend}" if secret else f"{field}: {shown(_value(raw, place))} {mend}"


def _sayable(place: Sequence[Any]) -> list[Any]:
    """A place without what may be a secret: both sides of a credential can be mistaken."""
    listed = [shown(part).strip("'") if isinstance(part, str) else part for part in place]
    return listed[: listed.index("credentials") + 1] if "credentials" in listed else listed


def _value(raw: Any, place: Sequence[Any]) -> Any:
    for part in place:
        try:
            raw = raw[part]
        except (KeyError, IndexError, TypeError):
            return None
    return raw


def _fields_at(place: Sequence[Any]) -> Iterator[str]:
    """The field names of the part at a place; dictionary keys and indices pass through."""
    part: type[BaseModel] = Site
    for name in place:
        field = part.model_fields.get(str(name))
        if field is not None:
            part = _part_in(field.annotation) or part
    yield from part.model_fields


def _part_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (dict, tuple, typing.Union, types.UnionType):
        found = (_part_in(argument) for argument in get_args(annotation))
        return next((part for part in found if part), None)
    return None
