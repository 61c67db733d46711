"""Who guesses passwords is locked out for a while, at the very port, before Docker's own rules.

Bans live in a table of their own (docs/decisions/bans.md): what compares, reloads or rewrites the
firewall never meets them. Jails follow from the declarations: SSH, and each service that says its
log tells of failed logins. CIS Debian Linux Benchmark 5.1 (SSH); OWASP ASVS 2.2.1 (guessing).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context
from roles.core.model import Desired, File, Package, Unit, paths
from roles.core.operations import Plan, converge
from roles.site.schema import Site
from roles.stack.service import Service
from roles.stack.stack import PROJECT

ROLE = "fail2ban"
FOLDER = "/etc/fail2ban"
IS_GATEWAY = "/usr/local/lib/nexus/is-gateway"
# fail2ban only recommends what it reads the journal and makes its sets with.
PACKAGES = ("fail2ban", "python3-systemd", "nftables")


@dataclass(frozen=True, slots=True)
class Jail:
    """What reads which entries of the journal, and the TCP ports that a ban closes."""

    name: str
    filter: str
    journal: str
    ports: tuple[int, ...]


def desired(context: Context) -> Desired:
    """fail2ban with a jail a door, and one filter for each kind of log."""
    watched = [service for service in context.stack.services if service.login_log]
    files = (
        context.file(
            ROLE,
            f"{FOLDER}/jail.local",
            jails=list(jails(context)),
            never=list(never_banned(context)),
            is_gateway=IS_GATEWAY,
        ),
        context.file(ROLE, f"{FOLDER}/fail2ban.local"),
        *(_filter(context, service) for service in watched),
        context.file(ROLE, IS_GATEWAY, mode="0755"),
    )
    return Desired(
        ROLE,
        (
            *(Package(name) for name in PACKAGES),
            *files,
            Unit("fail2ban.service", restart_on=paths(files)),
        ),
    )


def jails(context: Context) -> Iterator[Jail]:
    """SSH, and each service whose log tells of failed logins: it is reached through the proxy."""
    services = context.stack.services
    web = tuple(port.host for s in services for port in s.ports if port.protocol == "tcp")
    unit = "_SYSTEMD_UNIT=ssh.service"
    yield Jail("sshd", "sshd[mode=aggressive]", unit, context.site.ssh.ports)
    for service in services:
        if service.login_log:
            journal = f"_SYSTEMD_UNIT=docker.service CONTAINER_NAME={PROJECT}-{service.name}-1"
            yield Jail(service.name, f"nexus-{service.name}", journal, web)


def never_banned(context: Context) -> Iterator[str]:
    """The host, its containers and the operator's network; the gateway is asked for when needed."""
    yield from ("127.0.0.0/8", "::1")
    yield context.site.network_prefix
    yield from (s.subnet6 for s in context.stack.segments.values() if s.subnet6)
    yield from operators(context.site)


def operators(site: Site) -> tuple[str, ...]:
    """Where the operator comes from: by default the LAN and whatever narrower may use SSH."""
    narrow = (source for source in site.ssh.allow_from if ip_network(source).prefixlen)
    return site.never_ban or tuple(dict.fromkeys((*site.lan, *narrow)))


def _filter(context: Context, service: Service) -> File:
    return context.file(ROLE, f"{FOLDER}/filter.d/nexus-{service.name}.conf")


@pyinfra_deploy("fail2ban")
def deploy(plan: Plan) -> None:
    """After the firewall: it needs nothing of it, and takes nothing from it."""
    converge(name="jails and filters", plan=plan, role=ROLE)
