"""What the parts of a site must say together: one table, one small function a rule."""

from __future__ import annotations

import datetime
import difflib
import math
import re
import zoneinfo
from collections.abc import Callable, Collection, Iterator
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from cryptography import x509

from roles.scorecard.catalogue import ids as checks_of_scorecard
from roles.site import ssh_key
from roles.site.schema import LATENCIES, Retention, Site, Tls, nearest, shown

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
ZONE = re.compile(r"[A-Z][A-Za-z0-9_+-]*(/[A-Z][A-Za-z0-9_+-]*)*")
CLOCK = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
MEMORY = re.compile(r"([1-9]\d{0,5})([mg])")
LEAST_MEMORY_MIB = 64
# Few services ever come near their limits; ten times as much is no limit any more.
OVERCOMMIT = (1, 10)
# Below, readings would overlap; above, a failure would be told a day late.
PACES = (0.02, 10.0)
# Below, not even a total failure is 14.4 times what is allowed, so no alert would ever come; above,
# a household has too few requests in a month for one to fail.
PROMISES = (94.0, 99.99)
# Docker's own smallest and a bound that no home server reaches.
CPUS = (0.01, 256.0)
IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}@sha256:[0-9a-f]{64}")
ARTIFACT = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9.:-]{0,99}(/[a-z0-9][a-z0-9._-]{0,99})+:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
)
# CVE-2026-1234, GHSA-2m57-hf25-phgg, TEMP-0000000-ABCDEF: whoever numbers them.
VULNERABILITY = re.compile(r"[A-Z]{2,10}(-[A-Za-z0-9]{1,20}){1,4}")
# RFC 9580, 6.2: one block, base64 with its checksum, and nothing around it.
PUBLIC_KEY = re.compile(
    r"-----BEGIN PGP PUBLIC KEY BLOCK-----\n([A-Za-z]+: [ -~]*\n)*\n([A-Za-z0-9+/=]{1,76}\n)+"
    r"-----END PGP PUBLIC KEY BLOCK-----\n?"
)
ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
ENTRY = re.compile(r"[a-z][a-z0-9_]{0,63}")
EXCEPTION = re.compile(r"user \d{1,5}|capability [A-Z_]{3,30}|writable root")
SHORTEST_REASON = 12
# https://docs.docker.com/compose/how-tos/project-name/
COMPOSE_PROJECT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
OWN_PROJECT = "nexus"
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
# Read by Amazon's client, which knows no VARIABLE_FILE (https://go-acme.github.io/lego/dns/route53/).
FILELESS = frozenset(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"))
# What gluetun knows: all of them by OpenVPN, these and "custom" by WireGuard
# (https://github.com/qdm12/gluetun/blob/v3.41.1/internal/constants/providers/providers.go).
BY_WIREGUARD = frozenset(
    ("airvpn", "fastestvpn", "ivpn", "mullvad", "nordvpn", "protonvpn", "surfshark", "windscribe")
)
BY_OPENVPN = BY_WIREGUARD | {
    *("cyberghost", "expressvpn", "giganews", "hidemyass", "ipvanish", "perfect privacy"),
    *("privado", "private internet access", "privatevpn", "purevpn", "slickvpn", "torguard"),
    *("vpn unlimited", "vpnsecure", "vyprvpn"),
}
# Their clients all have the same inner address, which gluetun knows.
ONE_ADDRESS = frozenset(("nordvpn", "protonvpn"))
COUNTRY = re.compile(r"[A-Za-z][A-Za-z .()'-]{1,60}")
# RFC 7748: a public key has 32 bytes.
CURVE25519 = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")
DNS_FIELDS = frozenset(("provider", "credentials", "resolvers"))
# What restic takes for each kind of address, each value by way of a file (roles/backup.py).
OFFSITE_CREDENTIALS = {
    "rest": ("RESTIC_REST_USERNAME", "RESTIC_REST_PASSWORD"),
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    "sftp": ("SSH_PRIVATE_KEY",),
}
OFFSITE_FORMS = {
    "rest": "rest:https://backup.example.org:8000/home/",
    "s3": "s3:https://s3.example.org/bucket/home",
    "sftp": "sftp:nexus@backup.example.org:/srv/restic/home",
}
SPAN = re.compile(r"[1-9]\d{0,5}[mhd]")
# Logs go by whole days, in the journal's files and in the log store's index.
DAYS = re.compile(r"[1-9]\d{0,3}d")
# Letters that systemd and restic take as they are.
REPOSITORY = re.compile(r"/[A-Za-z0-9._/-]{1,200}")
SFTP = re.compile(r"sftp:[a-z_][a-z0-9_-]{0,31}@[A-Za-z0-9.-]{1,253}:[A-Za-z0-9._/-]{1,200}")
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
    people = (("people", name) for name in site.people)
    for field, value in (("name", site.name), ("admin", site.admin), *people):
        if not SLUG.fullmatch(value):
            yield (
                f"site.{field}: {shown(value)} is not a name; use 1-32 lower-case letters, "
                "digits and -, a letter first"
            )
    if site.admin in site.people:
        yield f"site.people: {site.admin} is site.admin already; leave that one out"


def domain(site: Site, *_: Collection[str]) -> Iterator[str]:
    text = site.domain
    last = _last(text)
    if not HOSTNAME.fullmatch(text) or last.isdigit():
        yield f"site.domain: {shown(text)} is not a domain; write e.g. {_lower(text)}"
    elif len(text) > LONGEST_DOMAIN:
        yield f"site.domain: {shown(text)} is longer than {LONGEST_DOMAIN}; choose a shorter one"
    elif text == "home.arpa":
        # It is on the Public Suffix List: browsers accept no wildcard right below such a name and
        # keep no cookie for it, and Authelia refuses to start.
        yield f"site.domain: {shown(text)} is everybody's; write e.g. nexus.home.arpa"
    elif last == "localhost":
        yield f"site.domain: {shown(text)} is every machine itself; write e.g. home.example.org"


def email(site: Site, *_: Collection[str]) -> Iterator[str]:
    people = ((f"people[{shown(name)}]", address) for name, address in site.people.items())
    for field, address in (("email", site.email), *people):
        if not EMAIL.fullmatch(address):
            yield f"site.{field}: {shown(address)} is not an address; write e.g. me@example.org"


def timezone(site: Site, *_: Collection[str]) -> Iterator[str]:
    # The whole list costs hundreds of opened files, and is needed only for a proposal.
    if ZONE.fullmatch(site.timezone) and any(
        Path(root, site.timezone).is_file() for root in zoneinfo.TZPATH
    ):
        return
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


def never_ban(site: Site, *_: Collection[str]) -> Iterator[str]:
    yield from _network_list("site.never_ban", site.never_ban)
    for number, network in enumerate(map(_network, site.never_ban)):
        if network and network.prefixlen < WIDEST[network.version]:
            yield (
                f"site.never_ban[{number}]: {shown(str(network))} would spare most of the "
                "internet; write your own network, e.g. 192.168.1.0/24"
            )


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
        if not _plain_line(value):
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
    for field in ("directory", "ca_certificate", "provider", "credentials", "resolvers"):
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
    if site.tls.ca_certificate is not None and not _certificates(site.tls.ca_certificate):
        yield (
            "site.tls.ca_certificate: is not the text of certificates alone (PEM); "
            'write e.g. Path("my-ca.pem").read_text()'
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
        if not VARIABLE.fullmatch(variable) or VARIABLE.fullmatch(name):
            yield (
                "site.tls.credentials: a key is not a variable such as CF_DNS_API_TOKEN, "
                "or key and value are swapped; write the variable first"
            )
        elif not ENTRY.fullmatch(name):
            yield (
                f"site.tls.credentials.{variable}: must be the name of a vault entry in "
                f"lower case, not the value itself; write e.g. {variable.lower()}"
            )
        elif variable.endswith("_FILE"):
            yield (
                f"site.tls.credentials.{variable}: its value always comes as a file; "
                f"write {variable.removesuffix('_FILE')}"
            )
        elif variable in FILELESS:
            yield (
                f"site.tls.credentials.{variable}: cannot come as a file; write "
                "AWS_SHARED_CREDENTIALS, and put the text of such a file into the vault"
            )


def vpn_provider(site: Site, *_: Collection[str]) -> Iterator[str]:
    vpn = site.vpn
    if vpn is None:
        return
    known = {*BY_OPENVPN, "custom"}
    if vpn.provider not in known:
        yield f"site.vpn.provider: is not one that gluetun knows; {nearest(vpn.provider, known)}"
    elif vpn.type == "wireguard" and vpn.provider in BY_OPENVPN - BY_WIREGUARD:
        yield (
            f"site.vpn.type: {vpn.provider} is known by openvpn alone; write openvpn, or use "
            "provider custom with the values of its WireGuard file"
        )
    elif vpn.type == "openvpn" and vpn.provider == "custom":
        yield "site.vpn.type: custom is for wireguard; write wireguard, or name the provider"
    for number, country in enumerate(vpn.countries):
        if not COUNTRY.fullmatch(country):
            yield f"site.vpn.countries[{number}]: is not a country; write e.g. Netherlands"


def vpn_fields(site: Site, *_: Collection[str]) -> Iterator[str]:
    """A field of another provider or type would silently do nothing."""
    vpn = site.vpn
    if vpn is None:
        return
    custom = vpn.provider == "custom"
    for field in ("endpoint", "public_key"):
        if custom and not getattr(vpn, field):
            yield f"site.vpn.{field}: provider custom needs it; copy it from the WireGuard file"
        elif getattr(vpn, field) and not custom:
            yield f"site.vpn.{field}: has no meaning with a provider of gluetun's; remove it"
    if custom and vpn.countries:
        yield "site.vpn.countries: has no meaning with provider custom; remove it"
    for field in ("addresses", "preshared_key"):
        if getattr(vpn, field) and vpn.type == "openvpn":
            yield f"site.vpn.{field}: has no meaning with type openvpn; remove it"
    if vpn.type == "wireguard" and vpn.provider == "airvpn" and not vpn.preshared_key:
        yield "site.vpn.preshared_key: airvpn gives everybody one; write True"
    if vpn.type == "wireguard" and not vpn.addresses and vpn.provider not in ONE_ADDRESS:
        yield (
            "site.vpn.addresses: is missing; copy Address from the provider's WireGuard file, "
            "e.g. 10.64.0.2/32"
        )


def vpn_values(site: Site, *_: Collection[str]) -> Iterator[str]:
    """No value is repeated here: a private key may stand in the wrong field."""
    vpn = site.vpn
    if vpn is None:
        return
    if vpn.endpoint and not _ipv4_endpoint(vpn.endpoint):
        yield "site.vpn.endpoint: is not an IPv4 address:port; write e.g. 203.0.113.7:51820"
    if vpn.public_key and not CURVE25519.fullmatch(vpn.public_key):
        yield "site.vpn.public_key: is not a WireGuard key; copy PublicKey of [Peer]"
    prefix = _network(site.network_prefix)
    for number, text in enumerate(vpn.addresses):
        field = f"site.vpn.addresses[{number}]"
        address = _interface(text)
        if address is None:
            yield f"{field}: is not an address; write e.g. 10.64.0.2/32"
        elif address.version == 6:
            yield f"{field}: the tunnel carries IPv4 alone; remove the IPv6 address"
        elif isinstance(prefix, IPv4Network) and _overlap(prefix, address.network):
            yield f"{field}: overlaps site.network_prefix; change that, e.g. to {PREFIXES[1]}"


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


def memory_overcommit(site: Site, *_: Collection[str]) -> Iterator[str]:
    least, most = OVERCOMMIT
    if not least <= site.memory_overcommit <= most:
        yield (
            f"site.memory_overcommit: {shown(site.memory_overcommit)} must be {least} to {most} "
            "times the host's memory; write e.g. 2"
        )


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


def own_names(site: Site, known: Collection[str], _: Collection[str]) -> Iterator[str]:
    taken: dict[int, str] = {}
    for name, service in site.own.items():
        field = f"site.own.{shown(name).strip(chr(39))}"
        if not SLUG.fullmatch(name):
            yield f"{field}: is not a name; use lower-case letters, digits and -, e.g. wiki"
        elif name in known:
            yield f"{field}: is a built-in service; choose another name"
        if service.number in taken:
            yield (
                f"{field}.number: {service.number} is also that of {taken[service.number]}; "
                "choose another from 60 to 99"
            )
        taken[service.number] = name
        if service.host is not None and not re.fullmatch(LABEL, service.host):
            yield f"{field}.host: {shown(service.host)} is not a host's name; write e.g. wiki"
        for other in service.talks_to:
            if other not in known and other not in site.own:
                yield f"{field}.talks_to: {shown(other)} is not a service; {nearest(other, known)}"


def own_values(site: Site, *_: Collection[str]) -> Iterator[str]:
    for name, service in site.own.items():
        field = f"site.own.{name}"
        if not IMAGE.fullmatch(service.image):
            yield (
                f"{field}.image: {shown(service.image)} is not a reference with a digest; "
                f"write e.g. docker.io/library/{name}:1.2@sha256:<64 hex digits>"
            )
        if not service.health or service.health[0] not in {"CMD", "CMD-SHELL"}:
            yield f'{field}.health: needs a check; write e.g. ["CMD", "wget", "-q", "-O-", "..."]'
        if not MEMORY.fullmatch(service.memory):
            yield f"{field}.memory: {shown(service.memory)} is not a size; write e.g. 512m or 4g"
        least, most = CPUS
        if not (math.isfinite(service.cpus) and least <= service.cpus <= most):
            yield f"{field}.cpus: {service.cpus!r} is not between {least:g} and {most:g}"
        for folder, place in service.data.items():
            if not SLUG.fullmatch(folder) or _unclean(place):
                yield f'{field}.data: {shown(folder)} is no folder; write e.g. {{"data": "/data"}}'
        for entry in service.secrets:
            if not ENTRY.fullmatch(entry):
                yield f"{field}.secrets: name vault entries in lower case, e.g. {name}_token"
        for variable in service.environment:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):
                yield f"{field}.environment: {shown(variable)} is no name of a variable"


def own_exceptions(site: Site, *_: Collection[str]) -> Iterator[str]:
    for name, service in site.own.items():
        for what, reason in service.exceptions.items():
            field = f"site.own.{name}.exceptions.{shown(what).strip(chr(39))}"
            if not EXCEPTION.fullmatch(what):
                yield f"{field}: is none; write user 1000, capability NET_RAW or writable root"
            elif len(reason.strip()) < SHORTEST_REASON:
                yield f"{field}: needs a reason that a reader can judge"


def reboot(site: Site, *_: Collection[str]) -> Iterator[str]:
    clock = site.updates.reboot
    if clock is not None and not CLOCK.fullmatch(clock):
        yield f"site.updates.reboot: {shown(clock)} is not a time; write HH:MM, 04:30, or None"


def backup_local(site: Site, *_: Collection[str]) -> Iterator[str]:
    backup = site.backup
    folder = backup.repository
    # Its unit sees no home folder.
    system = ["/home", *(path for path in SYSTEM if path != "/var/backups")]
    bad = _unclean(folder) or folder in (*ALONE, "/var/backups") or _inside(folder, system)
    if bad or not REPOSITORY.fullmatch(folder):
        yield (
            f"site.backup.repository: {shown(folder)} is not a folder for backups; "
            "write e.g. /mnt/backup/nexus"
        )
    if any(_inside(folder, (path,)) or _inside(path, (folder,)) for path in site.media.values()):
        yield (
            f"site.backup.repository: {shown(folder)} overlaps site.media; choose another, "
            "best on a disk of its own"
        )
    if not CLOCK.fullmatch(backup.time):
        yield f"site.backup.time: {shown(backup.time)} is not a time; write HH:MM, e.g. 03:00"
    if not MEMORY.fullmatch(backup.least_free):
        yield f"site.backup.least_free: {shown(backup.least_free)} is not a size; write e.g. 2g"
    for field, span in backup.objectives.model_dump().items():
        if not SPAN.fullmatch(span):
            yield (
                f"site.backup.objectives.{field}: {shown(span)} is not a time span; write e.g. "
                "90m, 24h or 7d"
            )
    for field, count in backup.keep.model_dump().items():
        if count < 1:
            yield f"site.backup.keep.{field}: {count} keeps nothing; write at least 1"


def backup_offsite(site: Site, *_: Collection[str]) -> Iterator[str]:
    """No value is repeated here: a password may stand in the wrong field."""
    offsite = site.backup.offsite
    if offsite is None:
        return
    kind = offsite.address.partition(":")[0]
    if not _offsite_address(kind, offsite.address):
        yield (
            "site.backup.offsite.address: is not an encrypted address without a password in it; "
            f"write e.g. {OFFSITE_FORMS.get(kind, OFFSITE_FORMS['rest'])}"
        )
        return
    needed = OFFSITE_CREDENTIALS[kind]
    given = offsite.credentials
    if set(given) != set(needed) or not all(map(ENTRY.fullmatch, given.values())):
        example = ", ".join(f'"{name}": "offsite_{name.split("_")[-1].lower()}"' for name in needed)
        yield (
            f"site.backup.offsite.credentials: {kind} needs the names of vault entries, not "
            f"values; write {{{example}}}"
        )
    if offsite.ca_certificate is not None and not _certificates(offsite.ca_certificate):
        yield (
            "site.backup.offsite.ca_certificate: is not the text of certificates alone (PEM); "
            'write e.g. Path("my-ca.pem").read_text()'
        )
    if (kind == "sftp") != (offsite.host_key is not None):
        yield (
            "site.backup.offsite.host_key: belongs to sftp and to nothing else; it is a line of: "
            "ssh-keyscan backup.example.org"
        )
    elif offsite.host_key and not _plain_line(offsite.host_key):
        yield "site.backup.offsite.host_key: is not one line of known_hosts; write it alone"
    for field in ("upload_limit", "download_limit"):
        limit = getattr(offsite, field)
        if limit is not None and limit < 1:
            yield (
                f"site.backup.offsite.{field}: {limit} is not a number of KiB a second; write "
                "e.g. 2048, or leave it out"
            )


def notify_mail(site: Site, *_: Collection[str]) -> Iterator[str]:
    mail = site.notify.mail
    if mail is None:
        return
    host, port = mail.server.rpartition(":")[::2]
    right = bool(HOSTNAME.fullmatch(host)) or _is_address(host)
    if not right or not port.isdecimal() or not 0 < int(port) <= 65535:
        yield "site.notify.mail.server: is not a host and a port; write e.g. smtp.example.org:465"
    for field in ("sender", "to"):
        if not EMAIL.fullmatch(getattr(mail, field)):
            yield f"site.notify.mail.{field}: is not an address; write e.g. me@example.org"
    if (mail.user is None) != (mail.password is None):
        yield "site.notify.mail: names a user or a password alone; write both, or neither"


def notify_channels(site: Site, *_: Collection[str]) -> Iterator[str]:
    """No value is repeated here: a password may stand where the name of its entry should."""
    notify = site.notify
    entries = {"webhook": notify.webhook}
    entries |= (
        {"mail.user": notify.mail.user, "mail.password": notify.mail.password}
        if notify.mail
        else {}
    )
    entries |= {"ntfy.token": notify.ntfy.token} if notify.ntfy else {}
    for field, name in entries.items():
        if name is not None and not ENTRY.fullmatch(name):
            yield (
                f"site.notify.{field}: is not the name of a vault entry; write e.g. "
                f"notify_{field.rpartition('.')[2]}"
            )
    if notify.ntfy and not _https(notify.ntfy.address):
        yield (
            "site.notify.ntfy.address: is not the address of a topic; write e.g. "
            "https://ntfy.sh/my-topic"
        )
    if notify.ca_certificate is not None and not _certificates(notify.ca_certificate):
        yield (
            "site.notify.ca_certificate: is not the text of certificates alone (PEM); "
            'write e.g. Path("my-ca.pem").read_text()'
        )


def monitoring_times(site: Site, *_: Collection[str]) -> Iterator[str]:
    least, most = PACES
    pace = site.monitoring.pace
    if not (math.isfinite(pace) and least <= pace <= most):
        yield f"site.monitoring.pace: {shown(pace)} must be {least:g} to {most:g}; write e.g. 1"
    yield from _retention("metrics", site.monitoring.metrics)
    for field, span in site.monitoring.logs:
        if not DAYS.fullmatch(span):
            yield f"site.monitoring.logs.{field}: {shown(span)} is not in days; write e.g. 30d"
    # Not repeated: an address may stand where the name of its entry should.
    if site.monitoring.heartbeat is not None and not ENTRY.fullmatch(site.monitoring.heartbeat):
        yield (
            "site.monitoring.heartbeat: is not the name of a vault entry; write e.g. "
            "monitoring_heartbeat"
        )


def service_levels(site: Site, services: Collection[str], _: Collection[str]) -> Iterator[str]:
    least, most = PROMISES
    names = {*services, *site.own, "*"}
    for name, level in site.monitoring.objectives.items():
        field = f"site.monitoring.objectives.{name}"
        if name not in names:
            yield f"{field}: is no service; {nearest(name, names)}"
        for part in ("availability", "fast"):
            percent = getattr(level, part)
            if not (math.isfinite(percent) and least <= percent <= most):
                yield (
                    f"{field}.{part}: {shown(percent)} must be {least:g} to {most:g} percent; "
                    "write e.g. 99.5"
                )
        if level.within not in LATENCIES:
            listed = ", ".join(f"{time:g}" for time in LATENCIES)
            yield f"{field}.within: {shown(level.within)} is not measured; write one of {listed}"


def _retention(field: str, kept: Retention) -> Iterator[str]:
    if not SPAN.fullmatch(kept.time):
        yield (
            f"site.monitoring.{field}.time: {shown(kept.time)} is not a time span; write e.g. 90d"
        )
    if not MEMORY.fullmatch(kept.size):
        yield f"site.monitoring.{field}.size: {shown(kept.size)} is not a size; write e.g. 4g"


def docker_mirror(site: Site, *_: Collection[str]) -> Iterator[str]:
    docker = site.docker
    for field in ("mirror", "mirror_key"):
        if getattr(docker, field) and docker.source != "docker":
            yield f"site.docker.{field}: has no meaning with source {docker.source}; remove it"
    if docker.mirror is not None and not _web(docker.mirror, "http", "https"):
        yield (
            "site.docker.mirror: is not the address of a mirror; "
            "write e.g. https://mirror.lan/docker/linux"
        )
    if docker.mirror_key is not None and not PUBLIC_KEY.fullmatch(docker.mirror_key):
        yield "site.docker.mirror_key: is not an armoured public key; paste: gpg --export --armor"
    if docker.mirror_key and not docker.mirror:
        yield "site.docker.mirror_key: signs a mirror; write site.docker.mirror, or remove it"


def scan(site: Site, *_: Collection[str]) -> Iterator[str]:
    for name, reason in site.scan.accepted.items():
        field = f"site.scan.accepted.{shown(name).strip(chr(39))}"
        if not VULNERABILITY.fullmatch(name):
            yield f"{field}: names no vulnerability; write e.g. CVE-2026-1234, as make scan does"
        elif len(reason.strip()) < SHORTEST_REASON:
            yield f"{field}: needs a reason that a reader can judge"
    for number, place in enumerate(site.scan.database):
        if not ARTIFACT.fullmatch(place):
            yield (
                f"site.scan.database[{number}]: {shown(place)} is no place in a registry; "
                "write e.g. mirror.lan:5000/trivy-db:2"
            )


def waivers(site: Site, *_: Collection[str]) -> Iterator[str]:
    seen: set[str] = set()
    for number, waiver in enumerate(site.waivers):
        field = f"site.waivers[{number}]"
        if waiver.check not in checks_of_scorecard():
            close = difflib.get_close_matches(waiver.check, checks_of_scorecard(), 1)
            hint = f"did you mean {close[0]}?" if close else "make report lists them"
            yield f"{field}.check: {shown(waiver.check)} is not a check; {hint}"
        elif waiver.check in seen:
            yield f"{field}.check: {shown(waiver.check)} stands there twice; remove one"
        seen.add(waiver.check)
        if len(waiver.reason.strip()) < SHORTEST_REASON:
            yield f"{field}.reason: needs a reason that a reader can judge"
        if not _day(waiver.until):
            yield f"{field}.until: {shown(waiver.until)} is not a day; write e.g. 2027-01-31"


def replaces(site: Site, *_: Collection[str]) -> Iterator[str]:
    for number, project in enumerate(site.replaces):
        field = f"site.replaces[{number}]"
        if not COMPOSE_PROJECT.fullmatch(project):
            yield (
                f"{field}: {shown(project)} names no Compose project; "
                "docker compose ls --all shows their names"
            )
        elif project == OWN_PROJECT:
            yield f"{field}: {shown(project)} is what this toolkit calls its own; remove it"
        elif project in site.replaces[:number]:
            yield f"{field}: {shown(project)} stands there twice; remove one"


CHECKS: tuple[Check, ...] = (
    names,
    domain,
    email,
    timezone,
    lan,
    allow_from,
    never_ban,
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
    vpn_provider,
    vpn_fields,
    vpn_values,
    services,
    memory,
    memory_overcommit,
    cpus,
    images,
    own_names,
    own_values,
    own_exceptions,
    backup_local,
    backup_offsite,
    notify_mail,
    notify_channels,
    monitoring_times,
    service_levels,
    docker_mirror,
    reboot,
    scan,
    waivers,
    replaces,
)


def _day(text: str) -> bool:
    """Whether a text is a day of the calendar in the one spelling YYYY-MM-DD."""
    try:
        return datetime.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


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


def _ipv4_endpoint(text: str) -> bool:
    try:
        IPv4Address(text.rpartition(":")[0])
    except ValueError:
        return False
    return _resolver(text)


def _interface(text: str) -> IPv4Interface | IPv6Interface | None:
    try:
        return ip_interface(text)
    except ValueError:
        return None


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


def _offsite_address(kind: str, address: str) -> bool:
    if kind == "sftp":
        return bool(SFTP.fullmatch(address))
    return kind in OFFSITE_FORMS and _https(address.removeprefix(f"{kind}:"))


def _plain_line(text: str) -> bool:
    return text.isascii() and text.isprintable() and bool(text.strip())


def _https(text: str) -> bool:
    return _web(text, "https")


def _web(text: str, *schemes: str) -> bool:
    try:
        url = urlsplit(text)
        port_is_one = url.port is None or url.port > 0
    except ValueError:
        return False
    plain = text.isascii() and text.isprintable() and not set(text) & set(" \"'`<>\\")
    named = bool(url.hostname) and url.username is None and port_is_one
    return plain and named and url.scheme in schemes


def _certificates(text: str) -> bool:
    try:
        found = x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        return False
    return bool(found) and "PRIVATE KEY" not in text


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _resolver(text: str) -> bool:
    address, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch(r"[1-9]\d{0,4}", port) or int(port) > 65535:
        return False
    try:
        version = ip_address(address.removeprefix("[").removesuffix("]")).version
    except ValueError:
        return bool(HOSTNAME.fullmatch(address))
    return (version == 6) == (address.startswith("[") and address.endswith("]"))
