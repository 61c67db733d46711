"""A firewall that also filters what Docker publishes, IPv4 and IPv6 alike.

Docker sends published ports through FORWARD, past UFW's INPUT rules. Its DOCKER-USER chain is asked
first; UFW fills it from after.rules, so it survives `ufw reload`, a Docker restart and a reboot
(https://docs.docker.com/engine/network/packet-filtering-firewalls/). The rules match the original
destination port, never "all private ranges", and refuse everything that no rule allows.
CIS Debian Linux Benchmark 4.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context
from roles.core.model import Chain, Check, Desired, Guard, Handler, Package, Unit, paths
from roles.core.operations import Plan, converge

ROLE = "firewall"
ANY = {4: "0.0.0.0/0", 6: "::/0"}
GUARD_SECONDS = 45
# Interfaces whose traffic comes from this host's own containers.
CONTAINER_SIDES = ("nx-+", "docker0", "br-+")


@dataclass(frozen=True, slots=True)
class Rule:
    """One allowed way in: from a source network (CIDR) to a port of this host."""

    protocol: str
    port: int
    source: str

    @property
    def family(self) -> int:
        return ip_network(self.source).version


def rules(context: Context) -> tuple[Rule, ...]:
    """Every way in that the site allows: SSH, and the ports that the stack publishes."""
    site = context.site
    published = [(p.protocol, p.host) for service in context.stack.services for p in service.ports]
    outside = list(ANY.values()) if site.exposure == "internet" else [str(n) for n in site.lan]
    return (
        *(Rule("tcp", port, str(n)) for port in site.ssh.ports for n in site.ssh.allow_from),
        *(Rule(protocol, port, source) for protocol, port in published for source in outside),
    )


def docker_user(context: Context, family: int) -> Iterator[str]:
    """The DOCKER-USER rules, in the very form in which iptables prints them."""
    published = {p.host for service in context.stack.services for p in service.ports}
    yield "-A DOCKER-USER -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN"
    for interface in CONTAINER_SIDES:
        yield f"-A DOCKER-USER -i {interface} -j RETURN"
    for rule in rules(context):
        if rule.family == family and rule.port in published:
            source = "" if rule.source == ANY[family] else f"-s {rule.source} "
            yield (
                f"-A DOCKER-USER {source}-p {rule.protocol} -m conntrack "
                f"--ctorigdstport {rule.port} --ctdir ORIGINAL -j RETURN"
            )
    yield "-A DOCKER-USER -j DROP"
    # Never reached: Docker adds it at each start unless it stands there.
    yield "-A DOCKER-USER -j RETURN"


def desired(context: Context) -> Desired:
    """UFW's own files, and the live chains that must follow from them."""
    allowed = rules(context)
    values = {
        "rules": [rule for rule in allowed if rule.family == 4],
        "rules6": [rule for rule in allowed if rule.family == 6],
        "any": ANY[4],
        "any6": ANY[6],
        "docker_user": list(docker_user(context, 4)),
        "docker_user6": list(docker_user(context, 6)),
    }
    files = tuple(
        context.file(ROLE, path, mode=mode, **values)
        for path, mode in (
            ("/etc/default/ufw", "0644"),
            ("/etc/ufw/ufw.conf", "0644"),
            ("/etc/ufw/user.rules", "0640"),
            ("/etc/ufw/user6.rules", "0640"),
            ("/etc/ufw/after.rules", "0640"),
            ("/etc/ufw/after6.rules", "0640"),
        )
    )
    return Desired(
        ROLE,
        (
            Package("ufw"),
            *files,
            *_chains(context, allowed, 4),
            *_chains(context, allowed, 6),
            Unit("ufw.service"),
        ),
        checks=tuple(
            Check((program, "--test", "--noflush", f"{{{path}}}"), (path,))
            for program, path in (
                ("iptables-restore", "/etc/ufw/user.rules"),
                ("ip6tables-restore", "/etc/ufw/user6.rules"),
            )
        ),
        handlers=(Handler("ufw-reload", ("ufw", "reload"), paths(files)),),
        guard=Guard(
            GUARD_SECONDS,
            before=(("ufw", "--force", "disable"),),
            after=(("ufw", "reload"),),
        ),
    )


def _chains(context: Context, allowed: tuple[Rule, ...], family: int) -> Iterator[Chain]:
    prefix = "ufw" if family == 4 else "ufw6"
    user = f"{prefix}-user-input"
    jumps = (
        "before-logging-input",
        "before-input",
        "after-input",
        "after-logging-input",
        "reject-input",
        "track-input",
    )
    entry = ("-P INPUT DROP", *(f"-A INPUT -j {prefix}-{jump}" for jump in jumps))
    lines = tuple(_as_printed(user, rule) for rule in allowed if rule.family == family)
    yield Chain(str(family), "INPUT", entry, "ufw-reload")
    yield Chain(str(family), user, lines, "ufw-reload")
    yield Chain(str(family), "DOCKER-USER", tuple(docker_user(context, family)), "ufw-reload")


def _as_printed(chain: str, rule: Rule) -> str:
    source = "" if rule.source == ANY[rule.family] else f"-s {rule.source} "
    protocol = rule.protocol
    return f"-A {chain} {source}-p {protocol} -m {protocol} --dport {rule.port} -j ACCEPT"


@pyinfra_deploy("Firewall")
def deploy(plan: Plan) -> None:
    """Kept only after a second login has passed it."""
    converge(name="UFW and DOCKER-USER", plan=plan, role=ROLE)
