"""What the parts of a site must say together: one table, one small function a rule."""

from __future__ import annotations

import math
import re
import zoneinfo
from collections.abc import Callable, Collection, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from roles.site import ssh_key
from roles.site.schema import Site, Tls, nearest, shown

Network = IPv4Network | IPv6Network
Check = Callable[[Site, Collection[str], Collection[str]], Iterator[str]]

SLUG = re.compile(r"[a-z][a-z0-9-]{0,31}")
LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
HOSTNAME = re.compile(rf"({LABEL}\.)+{LABEL}")
# A certificate and a route need room for the longest service's label: 253 - 63 - 1 (RFC 1035).
LONGEST_DOMAIN = 189
EMAIL = re.compile(
    rf"[A-Za-z0-9][A-Za-z0-9._%+-]{{0,63}}@({LABEL}\.)+{LABEL}", re.IGNORECASE | re.ASCII
)
# RFC 1918 and RFC 6598: what no machine on the internet has.
PRIVATE = tuple(
    map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"))
)
# For the stack's own networks: seldom used by routers, VPNs and Docker itself.
PREFIXES = tuple(
    map(IPv4Network, ("172.30.0.0/16", "10.213.0.0/16", "192.168.240.0/20", "172.21.0.0/16"))
)
# Wider ones are no home: IPv4's largest private block, IPv6's unique local addresses (RFC 4193).
WIDEST = {4: 8, 6: 7}
CLOCK = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
MEMORY = re.compile(r"([1-9]\d{0,5})([mg])")
LEAST_MEMORY_MIB = 64
# Docker's own smallest and a bound that no home server reaches.
CPUS = (0.01, 256.0)
IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}@sha256:[0-9a-f]{64}")
ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
ENTRY = re.compile(r"[a-z][a-z0-9_]{0,63}")
PROVIDER = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
# Refused alone, and with everything in them.
ALONE = ("/", "/home", "/srv", "/var", "/opt", "/mnt", "/media")
SYSTEM = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/lost+found"),
    *("/opt/nexus", "/proc", "/root", "/run", "/sbin", "/sys", "/tmp", "/usr"),  # noqa: S108
    *("/var/backups", "/var/cache", "/var/lib", "/var/local", "/var/lock", "/var/log"),
    *("/var/mail", "/var/opt", "/var/run", "/var/spool", "/var/tmp"),  # noqa: S108
)
# Special-use names (RFC 6761, RFC 6762, RFC 8375) and common home ones: no public authority
# certifies them (CA/Browser Forum Baseline Requirements 4.2.2).
UNCERTIFIED = frozenset(
    ("corp", "example", "home", "internal", "invalid", "lan", "local", "localdomain", "test")
)
DNS_FIELDS = frozenset(("provider", "credentials", "resolvers"))
# Lines of sshd_config that a site may set: those that neither weaken nor replace what is managed.
OPTIONS = (
    *("AllowAgentForwarding", "AllowGroups", "AllowStreamLocalForwarding", "AllowTcpForwarding"),
    *("AllowUsers", "Banner", "ClientAliveCountMax", "ClientAliveInterval", "DenyGroups"),
    *("DenyUsers", "LoginGraceTime", "MaxAuthTries", "MaxSessions", "MaxStartups", "PermitTTY"),
    *("PrintLastLog", "TCPKeepAlive", "UseDNS"),
)


def problems_of(site: Site, services: Collection[str], images: Collection[str]) -> Iterator[str]:
    """Every broken rule as one line: field, value, mend."""
    for check in CHECKS:
        yield from check(site, services, images)


def names(site: Site, *_: Collection[str]) -> Iterator[str]:
    for field, value in (("name", site.name), ("admin", site.admin)):
        if not SLUG.fullmatch(value):
            yield (
                f"site.{field}: {shown(value)} is not a name; use 1-32 lower-case letters, "
                "digits and -, a letter first"
            )


def domain(site: Site, *_: Collection[str]) -> Iterator[str]:
    text = site.domain
    last = _last(text)
    if not HOSTNAME.fullmatch(text) or last.isdigit():
        yield f"site.domain: {shown(text)} is not a domain; write e.g. {_lower(text)}"
    elif len(text) > LONGEST_DOMAIN:
        yield f"site.domain: {shown(text)} is longer than {LONGEST_DOMAIN}; choose a shorter one"
    elif last == "localhost":
        yield f"site.domain: {shown(text)} is every machine itself; write e.g. home.example.org"


def email(site: Site, *_: Collection[str]) -> Iterator[str]:
    if not EMAIL.fullmatch(site.email):
        yield f"site.email: {shown(site.email)} is not an address; write e.g. me@example.org"


def timezone(site: Site, *_: Collection[str]) -> Iterator[str]:
    known = zoneinfo.available_timezones()
    if not known:
        yield "site.timezone: this machine has no list of time zones; run: apt install tzdata"
    elif site.timezone not in known:
        close = {name.lower(): name for name in known}.get(site.timezone.lower(), "Europe/Berlin")
        yield f"site.timezone: {shown(site.timezone)} is not known; write e.g. {close}"


def lan(site: Site, *_: Collection[str]) -> Iterator[str]:
    if not site.lan:
        yield "site.lan: is empty; write your home network, e.g. 192.168.1.0/24"
    yield from _network_list("site.lan", site.lan)
    for number, network in enumerate(map(_network, site.lan)):
        if network is None:
            continue
        field = f"site.lan[{number}]: {shown(str(network))}"
        if network.prefixlen == 0:
            yield f"{field} is the whole internet; write your own network, e.g. 192.168.1.0/24"
        elif network.prefixlen < WIDEST[network.version]:
            yield f"{field} is wider than any home network; write your own, e.g. 192.168.1.0/24"
        elif network.is_loopback or network.is_multicast:
            yield f"{field} is no network of machines; write your own, e.g. 192.168.1.0/24"


def allow_from(site: Site, *_: Collection[str]) -> Iterator[str]:
    yield from _network_list("site.ssh.allow_from", site.ssh.allow_from)


def network_prefix(site: Site, *_: Collection[str]) -> Iterator[str]:
    prefix = _network(site.network_prefix)
    if (
        not isinstance(prefix, IPv4Network)
        or not any(prefix.subnet_of(private) for private in PRIVATE)
        or not 16 <= prefix.prefixlen <= 20
    ):
        yield (
            f"site.network_prefix: {shown(site.network_prefix)} is not a private IPv4 network of "
            "/16 to /20; write e.g. 172.30.0.0/16"
        )
        return
    near = [n for n in map(_network, (*site.lan, *site.ssh.allow_from)) if n and n.prefixlen]
    if any(_overlap(prefix, network) for network in near):
        free = next((p for p in PREFIXES if not any(_overlap(p, n) for n in near)), PREFIXES[0])
        yield (
            f"site.network_prefix: {shown(site.network_prefix)} overlaps site.lan or "
            f"site.ssh.allow_from; choose another, e.g. {free}"
        )


def ssh_ports(site: Site, *_: Collection[str]) -> Iterator[str]:
    ports = site.ssh.ports
    if not ports:
        yield "site.ssh.ports: is empty; write e.g. [22]"
    for number, port in enumerate(ports):
        if port in {80, 443}:
            yield f"site.ssh.ports[{number}]: {port} belongs to the web; choose another, e.g. 22"
        if port in ports[:number]:
            yield f"site.ssh.ports[{number}]: {port} stands there twice; remove one"


def ssh_options(site: Site, *_: Collection[str]) -> Iterator[str]:
    for keyword, value in site.ssh.options.items():
        field = f"site.ssh.options.{shown(keyword).strip(chr(39))}"
        if keyword not in OPTIONS:
            known = {option.lower(): option for option in OPTIONS}
            close = known.get(keyword.lower())
            hint = f"did you mean {close}?" if close else nearest(keyword, OPTIONS)
            yield f"{field}: is not an option that a site may set; {hint}"
        # OpenSSH reads one line; a control character would end it or hide in it.
        if not value.strip() or not value.isascii() or not value.isprintable():
            yield f"{field}: {shown(value)} is not one line of plain text; write the value alone"


def authorized_keys(site: Site, *_: Collection[str]) -> Iterator[str]:
    for user, keys in site.ssh.authorized_keys.items():
        if not ACCOUNT.fullmatch(user):
            yield (
                f"site.ssh.authorized_keys: {shown(user)} is not an account name; "
                "write e.g. root, or leave it out"
            )
            continue
        field = f"site.ssh.authorized_keys.{user}"
        if not keys:
            yield f"{field}: is empty and would lock {user} out; add a key or remove {user}"
        for number, key in enumerate(keys):
            if reason := ssh_key.problem(key):
                yield f"{field}[{number}]: {reason}"
            elif key in keys[:number]:
                yield f"{field}[{number}]: stands there twice; remove one"


def media(site: Site, *_: Collection[str]) -> Iterator[str]:
    for name, folder in site.media.items():
        field = f"site.media.{shown(name).strip(chr(39))}"
        if not SLUG.fullmatch(name):
            yield f"{field}: is not a name; use lower-case letters, digits and -, e.g. movies"
        elif reason := _bad_folder(folder):
            yield f"{field}: {shown(folder)} {reason}; write e.g. /srv/media/{name}"


def media_apart(site: Site, *_: Collection[str]) -> Iterator[str]:
    """A folder in another would be scanned twice and be mounted over."""
    listed = list(site.media.items())
    for number, (name, folder) in enumerate(listed):
        for other, taken in listed[:number]:
            if _inside(folder, (taken,)) or _inside(taken, (folder,)):
                yield (
                    f"site.media.{name}: {shown(folder)} and site.media.{other} overlap; "
                    "separate them or remove one"
                )


def tls_fields(site: Site, *_: Collection[str]) -> Iterator[str]:
    """A field of another mode would silently do nothing."""
    for field in ("directory", "ca_file", "provider", "credentials", "resolvers"):
        modes = ("acme-dns",) if field in DNS_FIELDS else ("acme-http", "acme-dns")
        if getattr(site.tls, field) and site.tls.mode not in modes:
            yield f"site.tls.{field}: has no meaning with mode {site.tls.mode}; remove it"


def tls_reachable(site: Site, *_: Collection[str]) -> Iterator[str]:
    """A public authority must know the name, and reach port 80 in mode acme-http."""
    if site.tls.mode == "own-ca" or site.tls.directory:
        return
    if _uncertified(site.domain):
        yield (
            f"site.tls.mode: no public authority certifies {shown(site.domain)}; use own-ca, "
            "or name your own site.tls.directory"
        )
    if site.tls.mode == "acme-http" and site.exposure == "lan":
        yield (
            "site.tls.mode: acme-http needs port 80 open to the internet; use acme-dns, own-ca, "
            "or exposure internet"
        )


def tls_values(site: Site, *_: Collection[str]) -> Iterator[str]:
    """No value is repeated here: a token may stand in the wrong field."""
    if site.tls.directory is not None and not _https(site.tls.directory):
        yield (
            "site.tls.directory: is not the address of an ACME directory; "
            "write e.g. https://ca.home.example.org/acme/acme/directory"
        )
    if site.tls.ca_file is not None and _unclean(site.tls.ca_file):
        yield (
            "site.tls.ca_file: is not a clean absolute path on the host; "
            "write e.g. /etc/ssl/certs/my-ca.pem"
        )
    for number, resolver in enumerate(site.tls.resolvers):
        if not _resolver(resolver):
            yield f"site.tls.resolvers[{number}]: is not address:port; write e.g. 1.1.1.1:53"


def tls_dns(site: Site, *_: Collection[str]) -> Iterator[str]:
    if site.tls.mode != "acme-dns":
        return
    if not PROVIDER.fullmatch(site.tls.provider or ""):
        yield "site.tls.provider: acme-dns needs a DNS provider's code; write e.g. cloudflare"
    if not site.tls.credentials:
        yield (
            "site.tls.credentials: acme-dns needs the names of vault entries; "
            'write e.g. {"CF_DNS_API_TOKEN": "cf_dns_api_token"}'
        )
    yield from _credentials(site.tls)


def _credentials(tls: Tls) -> Iterator[str]:
    for variable, name in tls.credentials.items():
        if ENTRY.fullmatch(name) and VARIABLE.fullmatch(variable):
            continue
        if not VARIABLE.fullmatch(variable) or VARIABLE.fullmatch(name):
            yield (
                "site.tls.credentials: a key is not a variable such as CF_DNS_API_TOKEN, "
                "or key and value are swapped; write the variable first"
            )
        else:
            yield (
                f"site.tls.credentials.{variable}: must be the name of a vault entry in "
                f"lower case, not the value itself; write e.g. {variable.lower()}"
            )


def services(site: Site, known: Collection[str], _: Collection[str]) -> Iterator[str]:
    for name in site.services:
        if name not in known:
            field = f"site.services.{shown(name).strip(chr(39))}"
            yield f"{field}: is not a service; {nearest(name, known)}"


def memory(site: Site, *_: Collection[str]) -> Iterator[str]:
    for name, override in site.services.items():
        if override.memory is None:
            continue
        field = f"site.services.{name}.memory: {shown(override.memory)}"
        found = MEMORY.fullmatch(override.memory)
        if not found:
            yield f"{field} is not a size; write e.g. 512m or 4g"
        elif found[2] == "m" and int(found[1]) < LEAST_MEMORY_MIB:
            yield f"{field} is too little; give at least {LEAST_MEMORY_MIB}m"


def cpus(site: Site, *_: Collection[str]) -> Iterator[str]:
    least, most = CPUS
    for name, override in site.services.items():
        count = override.cpus
        if count is not None and not (math.isfinite(count) and least <= count <= most):
            yield (
                f"site.services.{name}.cpus: {count!r} is not between {least:g} and {most:g}; "
                "write e.g. 1.5"
            )


def images(site: Site, _: Collection[str], known: Collection[str]) -> Iterator[str]:
    for name, image in site.images.items():
        field = f"site.images.{shown(name).strip(chr(39))}"
        if name not in known:
            yield f"{field}: is not an image; {nearest(name, known)}"
        elif not IMAGE.fullmatch(image):
            yield (
                f"{field}: {shown(image)} is not a reference with a digest; "
                f"write e.g. registry.lan:5000/{name}@sha256:<64 hex digits>"
            )


def reboot(site: Site, *_: Collection[str]) -> Iterator[str]:
    clock = site.updates.reboot
    if clock is not None and not CLOCK.fullmatch(clock):
        yield f"site.updates.reboot: {shown(clock)} is not a time; write HH:MM, 04:30, or None"


CHECKS: tuple[Check, ...] = (
    names,
    domain,
    email,
    timezone,
    lan,
    allow_from,
    network_prefix,
    ssh_ports,
    ssh_options,
    authorized_keys,
    media,
    media_apart,
    tls_fields,
    tls_reachable,
    tls_values,
    tls_dns,
    services,
    memory,
    cpus,
    images,
    reboot,
)


def _network(text: str) -> Network | None:
    """A network in the one spelling that iptables prints back, or None."""
    try:
        network = ip_network(text)
    except ValueError:
        return None
    scoped = "%" in text
    return network if str(network) == text and not scoped else None


def _network_list(field: str, values: Collection[str]) -> Iterator[str]:
    seen: set[str] = set()
    for number, value in enumerate(values):
        if _network(value) is None:
            yield f"{field}[{number}]: {shown(value)} is no network; write e.g. {_mend(value)}"
        elif value in seen:
            yield f"{field}[{number}]: {shown(value)} stands there twice; remove one"
        seen.add(value)


def _mend(text: str) -> str:
    text = re.sub(r"%[^/]*", "", text)
    try:
        return str(ip_network(text, strict=False)) if "/" in text else str(ip_network(text))
    except ValueError:
        return "192.168.1.0/24"


def _overlap(prefix: IPv4Network, network: Network) -> bool:
    return isinstance(network, IPv4Network) and network.overlaps(prefix)


def _lower(text: str) -> str:
    return text.lower() if HOSTNAME.fullmatch(text.lower()) else "home.example.org"


def _last(text: str) -> str:
    return text.rsplit(".", 1)[-1]


def _uncertified(text: str) -> bool:
    return text == "home.arpa" or text.endswith(".home.arpa") or _last(text) in UNCERTIFIED


def _inside(path: str, folders: Collection[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _unclean(path: str) -> bool:
    parts = PurePosixPath(path).parts
    clean = path == "/" + "/".join(parts[1:]) and ".." not in parts
    return not (clean and path.isprintable())


def _bad_folder(folder: str) -> str:
    if _unclean(folder):
        return "is not a clean absolute path"
    # Compose reads $ as the start of a variable.
    if "$" in folder:
        return "has a $ in it"
    if folder in ALONE or _inside(folder, SYSTEM):
        return "belongs to the system"
    return ""


def _https(text: str) -> bool:
    try:
        url = urlsplit(text)
        port_is_one = url.port is None or url.port > 0
    except ValueError:
        return False
    plain = text.isascii() and text.isprintable() and not set(text) & set(" \"'`<>\\")
    named = bool(url.hostname) and url.username is None and port_is_one
    return plain and named and url.scheme == "https"


def _resolver(text: str) -> bool:
    address, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch(r"[1-9]\d{0,4}", port) or int(port) > 65535:
        return False
    try:
        version = ip_address(address.removeprefix("[").removesuffix("]")).version
    except ValueError:
        return bool(HOSTNAME.fullmatch(address))
    return (version == 6) == (address.startswith("[") and address.endswith("]"))
