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
    """Where certificates come from: an authority of one's own, or ACME (RFC 8555)."""

    mode: Literal["own-ca", "acme-http", "acme-dns"] = "own-ca"
    directory: str | None = None
    ca_file: str | None = None
    provider: str | None = None
    credentials: dict[str, str] = {}
    resolvers: tuple[str, ...] = ()


class Docker(Part):
    """Which Docker Engine: the distribution's own package."""

    source: Literal["debian"] = "debian"


class Updates(Part):
    """Security updates install themselves; `reboot` (HH:MM, local time) when one needs it."""

    automatic: bool = True
    reboot: str | None = "04:30"


class Override(Part):
    """What a site may change of a service: memory as "512m" or "4g", processors."""

    enabled: bool = True
    memory: str | None = None
    cpus: float | None = None


class Site(Part):
    """One household's server."""

    name: str
    domain: str
    email: str
    timezone: str
    admin: str
    lan: tuple[str, ...]
    media: dict[str, str]
    exposure: Literal["lan", "internet"] = "lan"
    ssh: Ssh = Ssh()
    tls: Tls = Tls()
    docker: Docker = Docker()
    updates: Updates = Updates()
    network_prefix: str = "172.30.0.0/16"
    services: dict[str, Override] = {}
    images: dict[str, str] = {}


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
    secret = bool(place) and place[0] == "tls" and "mode" not in place
    secret |= "authorized_keys" in place
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
