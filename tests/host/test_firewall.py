"""What comes in, tried from here, IPv4 and IPv6 alike. CIS Debian Linux Benchmark 4.2."""

from __future__ import annotations

import pytest

from roles.verify.collected import Listener
from roles.verify.report import expect
from roles.verify.target import Target

STOP = "stop and disable the program, or let it listen on 127.0.0.1 only"
RESTART = "systemctl restart docker on the host"
# DHCP clients (RFC 2131, RFC 8415) must hear their server.
DHCP = {("udp", 68), ("udp", 546)}


def test_only_declared_ports_answer(target: Target, address: str) -> None:
    if not target.is_reached(address):
        pytest.skip(f"this machine does not reach {address}; run make verify on one that does")
    expect(
        f"open TCP ports of {address}",
        set(target.open_ports[address]) - target.allowed_ports,
        set(),
        STOP,
    )


def test_declared_ports_answer_here(target: Target) -> None:
    expect(
        f"TCP ports of {target.address} that do not answer this machine",
        target.allowed_ports - set(target.open_ports[target.address]),
        set(),
        "make apply; is this machine in site.lan and site.ssh.allow_from?",
    )


def test_nothing_undeclared_listens(target: Target) -> None:
    declared = {*DHCP, *(("tcp", port) for port in target.allowed_ports)}
    strays = [each for each in target.collected.listeners() if not _is_declared(each, declared)]
    expect("listening sockets", strays, [], STOP)


def _is_declared(each: Listener, declared: set[tuple[str, int]]) -> bool:
    return each.is_local or (each.protocol, each.port) in declared


@pytest.mark.check("SEC-27")
def test_what_no_rule_allows_is_dropped(target: Target, family: str) -> None:
    collected = target.collected
    for chain in ("INPUT", "FORWARD"):
        expect(f"IPv{family} {chain} policy", collected.policy(family, chain), "DROP")


def test_docker_asks_our_chain_first(target: Target, family: str) -> None:
    rules = target.collected.rules(family, "FORWARD")
    # After a boot the engine asks this one before; it drops between networks, and accepts nothing.
    aside = ("-j ufw", "-j DOCKER-ISOLATION-STAGE-1")
    first = [rule for rule in rules if not rule.startswith(aside)][:1]
    expect(f"first IPv{family} rule of FORWARD", first, ["-j DOCKER-USER"], RESTART)
