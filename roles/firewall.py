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
from roles.stack.stack import Stack

ROLE = "firewall"
ANY = {4: "0.0.0.0/0", 6: "::/0"}
GUARD_SECONDS = 45
_ANSWERS = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
_INVALID = "-m conntrack --ctstate INVALID -j DROP"
_NEIGHBOURS = "-s fe80::/10 -p ipv6-icmp -m icmp6 --icmpv6-type"
# What comes in whatever the site allows, as iptables prints it. ICMP: unreachable, time exceeded,
# bad header, echo; for IPv6 what a host needs by RFC 4890 4.4, neighbours from one hop away only.
BEFORE = {
    4: (
        "-i lo -j ACCEPT",
        _ANSWERS,
        _INVALID,
        *(f"-p icmp -m icmp --icmp-type {kind} -j ACCEPT" for kind in (3, 11, 12, 8)),
        "-p udp -m udp --sport 67 --dport 68 -j ACCEPT",
    ),
    6: (
        "-i lo -j ACCEPT",
        _ANSWERS,
        _INVALID,
        *(f"-p ipv6-icmp -m icmp6 --icmpv6-type {kind} -j ACCEPT" for kind in (1, 2, 3, 4, 128)),
        *(
            f"-p ipv6-icmp -m icmp6 --icmpv6-type {kind} -m hl --hl-eq 255 -j ACCEPT"
            for kind in (133, 134, 135, 136)
        ),
        *(f"{_NEIGHBOURS} {kind} -j ACCEPT" for kind in (130, 131, 132, 143)),
        "-s fe80::/10 -d fe80::/10 -p udp -m udp --sport 547 --dport 546 -j ACCEPT",
    ),
}
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
    yield from _between_containers(context.stack, family)
    yield from _tunnel_only(context, family)
    # To each other only as declared; out into the world as their network allows.
    for interface in CONTAINER_SIDES:
        yield f"-A DOCKER-USER -i {interface} -o nx-+ -j DROP"
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


def _between_containers(stack: Stack, family: int) -> Iterator[str]:
    """One rule a declared connection. Bridged packets come here too: see the networks role."""
    for way in stack.ways():
        segment = stack.segments[way.network]
        address = segment.address if family == 4 else segment.address6
        source, destination = address(way.client), address(way.server)
        if source and destination:
            length = 32 if family == 4 else 128
            yield (
                f"-A DOCKER-USER -s {source}/{length} -d {destination}/{length} "
                f"-i {segment.bridge} -o {segment.bridge} -p tcp -m tcp --dport {way.port} "
                "-j RETURN"
            )


def _tunnel_only(context: Context, family: int) -> Iterator[str]:
    """Whoever makes the tunnel sends nothing but its packets, also before its own rules stand."""
    vpn = context.site.vpn
    present = {service.name: service for service in context.stack.services}
    if vpn is None or "gluetun" not in present or family != 4:
        return
    segment = context.stack.segments[present["gluetun"].networks[0]]
    source = f"-A DOCKER-USER -s {segment.address(present['gluetun'])}/32"
    if vpn.endpoint:
        address, _, port = vpn.endpoint.rpartition(":")
        yield f"{source} -d {address}/32 -i {segment.bridge} -p udp -m udp --dport {port} -j RETURN"
    else:
        # The provider's servers are many; what none of them is asked for is names.
        yield f"{source} -i {segment.bridge} -p udp -m udp --dport 53 -j DROP"
        yield f"{source} -i {segment.bridge} -p udp -j RETURN"
    yield f"{source} -i {segment.bridge} -j DROP"


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
        "before": BEFORE,
    }
    files = tuple(
        context.file(ROLE, path, mode=mode, **values)
        for path, mode in (
            ("/etc/default/ufw", "0644"),
            ("/etc/ufw/ufw.conf", "0644"),
            ("/etc/ufw/before.rules", "0640"),
            ("/etc/ufw/before6.rules", "0640"),
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
                ("iptables-restore", "/etc/ufw/before.rules"),
                ("ip6tables-restore", "/etc/ufw/before6.rules"),
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
    before = f"{prefix}-before-input"
    always = tuple(f"-A {before} {rule}" for rule in (*BEFORE[family], f"-j {user}"))
    yield Chain(str(family), before, always, "ufw-reload")
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
