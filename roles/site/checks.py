"""What the parts of a site must say together: one table, one function a rule."""

from __future__ import annotations

import base64
import binascii
import re
import zoneinfo
from collections.abc import Callable, Collection, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import PurePosixPath

from roles.site.schema import Site

SLUG = re.compile(r"[a-z][a-z0-9-]{0,31}")
LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
HOSTNAME = re.compile(rf"({LABEL}\.)+{LABEL}")
EMAIL = re.compile(r"[^@\s\"'<>]+@([^@\s.]+\.)+[^@\s.]+")
CLOCK = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
MEMORY = re.compile(r"([1-9]\d*)([mg])")
DIGEST = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")
ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
SYSTEM = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/opt/nexus", "/proc", "/root", "/run", "/sbin"),
    *("/sys", "/tmp", "/usr", "/var/lib"),  # noqa: S108 - refused, not used
)
PRIVATE_NAMES = (".local", ".lan", ".home.arpa", ".internal", ".test", ".invalid", ".localhost")
KEY_TYPES = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp", "sk-ssh-ed25519", "sk-ecdsa-sha2")
OPTIONS = (
    "AllowAgentForwarding",
    "AllowGroups",
    "AllowStreamLocalForwarding",
    "AllowTcpForwarding",
    "AllowUsers",
    "Banner",
    "ClientAliveCountMax",
    "ClientAliveInterval",
    "DenyGroups",
    "DenyUsers",
    "LoginGraceTime",
    "MaxAuthTries",
    "MaxSessions",
    "MaxStartups",
    "PermitTTY",
    "PrintLastLog",
    "TCPKeepAlive",
    "UseDNS",
)
SMALLEST_RSA = 3072

Check = Callable[[Site, Collection[str], Collection[str]], Iterator[str]]


def problems_of(site: Site, services: Collection[str], images: Collection[str]) -> Iterator[str]:
    """Every broken rule as one line: field, value, mend."""
    for check in CHECKS:
        yield from check(site, services, images)


def names(site: Site, *_: Collection[str]) -> Iterator[str]:
    for field, value in (("name", site.name), ("admin", site.admin)):
        if not SLUG.fullmatch(value):
            yield f"site.{field}: {value!r} is not a name; use lower-case letters, digits and -"
    if not HOSTNAME.fullmatch(site.domain) or site.domain.rsplit(".", 1)[-1].isdigit():
        yield f"site.domain: {site.domain!r} is not a domain; write e.g. home.example.org"
    if not EMAIL.fullmatch(site.email):
        yield f"site.email: {site.email!r} is not an address; write e.g. me@example.org"
    if site.timezone not in zoneinfo.available_timezones():
        yield f"site.timezone: {site.timezone!r} is not known; write e.g. Europe/Berlin"


def networks(site: Site, *_: Collection[str]) -> Iterator[str]:
    lan = list(_parsed(site.lan))
    if not site.lan:
        yield "site.lan: is empty; write your home network, e.g. 192.168.1.0/24"
    prefix = _network(site.network_prefix)
    if not isinstance(prefix, IPv4Network) or not prefix.is_private or prefix.prefixlen > 20:
        yield (
            f"site.network_prefix: {site.network_prefix!r} is not a private IPv4 network of /20 "
            "or larger; write e.g. 172.30.0.0/16"
        )
    for field, values in (("lan", site.lan), ("ssh.allow_from", site.ssh.allow_from)):
        for number, value in enumerate(values):
            network = _network(value)
            if network is None:
                yield f"site.{field}[{number}]: {value!r} is no network; write e.g. {_mend(value)}"
            elif network.prefixlen == 0 and field == "lan":
                yield f"site.lan[{number}]: {value!r} is the whole internet; write your own"
    for network in lan:
        if (
            isinstance(prefix, IPv4Network)
            and isinstance(network, IPv4Network)
            and network.overlaps(prefix)
        ):
            yield (
                f"site.network_prefix: {site.network_prefix!r} overlaps site.lan {network}; "
                "choose another, e.g. 10.213.0.0/16"
            )


def ssh(site: Site, *_: Collection[str]) -> Iterator[str]:
    ports = site.ssh.ports
    if not ports:
        yield "site.ssh.ports: is empty; write e.g. [22]"
    for number, port in enumerate(ports):
        if port in {80, 443}:
            yield f"site.ssh.ports[{number}]: {port} belongs to the web; choose another, e.g. 22"
        if port in ports[:number]:
            yield f"site.ssh.ports[{number}]: {port} stands there twice; remove one"
    for keyword, value in site.ssh.options.items():
        if keyword not in OPTIONS:
            yield (
                f"site.ssh.options.{keyword}: is not an option that a site may set; "
                f"known are {', '.join(OPTIONS)}"
            )
        if not value.strip() or "\n" in value or "\r" in value:
            yield f"site.ssh.options.{keyword}: {value!r} must be one line of text"
    for user, keys in site.ssh.authorized_keys.items():
        if not ACCOUNT.fullmatch(user):
            yield f"site.ssh.authorized_keys: {user!r} is not an account name"
        if not keys:
            yield f"site.ssh.authorized_keys.{user}: is empty and would lock {user} out; add a key"
        for number, key in enumerate(keys):
            if reason := _bad_key(key):
                yield f"site.ssh.authorized_keys.{user}[{number}]: {reason}"


def media(site: Site, *_: Collection[str]) -> Iterator[str]:
    seen: dict[str, str] = {}
    for name, folder in site.media.items():
        field = f"site.media.{name}"
        if not SLUG.fullmatch(name):
            yield f"{field}: {name!r} is not a name; use lower-case letters, digits and -"
        path = PurePosixPath(folder)
        normal = folder == str(path) and ".." not in path.parts and "\n" not in folder
        if not path.is_absolute() or not normal:
            yield f"{field}: {folder!r} is not a clean absolute path; write e.g. /srv/media/{name}"
        elif folder in {"/", "/home", "/srv", "/var", "/opt", "/mnt", "/media"} or _inside(
            folder, SYSTEM
        ):
            yield f"{field}: {folder!r} belongs to the system; use e.g. /srv/media/{name}"
        for other, taken in seen.items():
            if _inside(folder, (taken,)) or _inside(taken, (folder,)):
                yield f"{field}: {folder!r} and site.media.{other} overlap; separate them"
        seen[name] = folder


def tls(site: Site, *_: Collection[str]) -> Iterator[str]:
    settings = site.tls
    acme = settings.mode != "own-ca"
    for field in ("directory", "ca_file", "provider", "credentials", "resolvers"):
        dns_only = field in {"provider", "credentials", "resolvers"}
        allowed = settings.mode == "acme-dns" if dns_only else acme
        if getattr(settings, field) and not allowed:
            yield f"site.tls.{field}: has no meaning with mode {settings.mode}; remove it"
    if acme and not settings.directory and site.domain.endswith(PRIVATE_NAMES):
        yield (
            f"site.tls.mode: no public authority certifies {site.domain!r}; use own-ca, "
            "or name your own site.tls.directory"
        )
    if settings.mode == "acme-http" and site.exposure == "lan" and not settings.directory:
        yield (
            "site.tls.mode: acme-http needs port 80 open to the internet; use acme-dns, own-ca, "
            "or exposure internet"
        )
    if settings.directory and not settings.directory.startswith("https://"):
        yield f"site.tls.directory: {settings.directory!r} must start with https://"
    if settings.ca_file and not settings.ca_file.startswith("/"):
        yield f"site.tls.ca_file: {settings.ca_file!r} must be an absolute path on the host"
    if settings.mode == "acme-dns":
        if not SLUG.fullmatch(settings.provider or ""):
            yield "site.tls.provider: acme-dns needs a DNS provider, e.g. cloudflare"
        if not settings.credentials:
            yield "site.tls.credentials: acme-dns needs the names of vault entries"
        for variable, name in settings.credentials.items():
            if not re.fullmatch(r"[A-Z][A-Z0-9_]*", variable):
                yield "site.tls.credentials: a key is not a variable name such as CF_DNS_API_TOKEN"
            elif not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", name):
                yield (
                    f"site.tls.credentials.{variable}: must be the name of a vault entry in "
                    "lower case, not the value itself"
                )


def overrides(site: Site, services: Collection[str], images: Collection[str]) -> Iterator[str]:
    for name, override in site.services.items():
        field = f"site.services.{name}"
        if name not in services:
            yield f"{field}: is not a service; known are {', '.join(sorted(services))}"
        if override.memory is not None:
            found = MEMORY.fullmatch(override.memory)
            if not found:
                yield f"{field}.memory: {override.memory!r} is not a size; write e.g. 512m or 4g"
            elif found[2] == "m" and int(found[1]) < 64:
                yield f"{field}.memory: {override.memory!r} is too little; give at least 64m"
        if override.cpus is not None and not 0 < override.cpus <= 256:
            yield f"{field}.cpus: {override.cpus!r} is not between 0 and 256; write e.g. 1.5"
    for name, image in site.images.items():
        if name not in images:
            yield f"site.images.{name}: is not an image; known are {', '.join(sorted(images))}"
        if not DIGEST.fullmatch(image):
            yield f"site.images.{name}: {image!r} has no digest; end it with @sha256:<64 hex>"
    reboot = site.updates.reboot
    if reboot is not None and not CLOCK.fullmatch(reboot):
        yield f"site.updates.reboot: {reboot!r} is not a time; write HH:MM or None"


CHECKS: tuple[Check, ...] = (names, networks, ssh, media, tls, overrides)


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text) if "/" in text else None
    except ValueError:
        return None


def _parsed(values: Collection[str]) -> Iterator[IPv4Network | IPv6Network]:
    yield from (network for network in map(_network, values) if network is not None)


def _mend(text: str) -> str:
    try:
        return str(ip_network(text, strict=False)) if "/" in text else f"{ip_address(text)}/32"
    except ValueError:
        return "192.168.1.0/24"


def _inside(path: str, folders: Collection[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _bad_key(key: str) -> str:
    """What is wrong with a public key line; the line itself is never repeated."""
    if "PRIVATE KEY" in key:
        return "is a private key; give the line from the .pub file, and make a new pair"
    words = key.split()
    if "\n" in key or len(words) < 2 or not words[0].startswith(KEY_TYPES):
        return "is not a public key line such as ssh-ed25519 AAAA... me"
    try:
        blob = base64.b64decode(words[1], validate=True)
    except binascii.Error:
        return "is cut off or damaged; copy the whole line from the .pub file"
    length = int.from_bytes(blob[:4], "big")
    if blob[4 : 4 + length].decode(errors="replace") != words[0]:
        return "is cut off or damaged; copy the whole line from the .pub file"
    if words[0] == "ssh-rsa" and (len(blob) - 20) * 8 < SMALLEST_RSA - 64:
        return f"is an RSA key under {SMALLEST_RSA} bits; make one with ssh-keygen -t ed25519"
    return ""
