"""Guessing passwords from outside: who guesses is locked out at that port, and nobody else is."""

from __future__ import annotations

import ast
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from tests.lab.deployment import DOMAIN, Deployment, answers
from tests.lab.guesser import BANS, DOORS, HOME, JELLYFIN, PORTAL, Door, Guesser, stranger
from tests.lab.network import LAN, NEIGHBOUR_NAMESPACE, ROUTER

pytestmark = pytest.mark.lab

LIMIT = 5
SECONDS = 20.0
HOUR = 3600
FOUND = "journalctl -b --no-pager -q -u fail2ban"
# Of the attacker's network, and nobody's: whom a forger would like to see banned.
VICTIM, VICTIM6 = "198.51.100.77", "fd98::77"
EVERYBODY = {"ssh": {"allow_from": ["0.0.0.0/0", "::/0"]}}


@pytest.fixture(scope="module")
def guarded(deployed: Deployment) -> Iterator[Deployment]:
    """The host with SSH open to the internet, so that there is something to guess at."""
    deployed.apply(EVERYBODY)
    deployed.host.run("fail2ban-client unban --all")
    yield deployed
    deployed.host.run("fail2ban-client unban --all")
    deployed.apply()


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    """Each is handed out once: by chance the same one would come twice in every third run."""
    return iter(BANS)


@pytest.fixture(params=[4, 6], ids=["IPv4", "IPv6"])
def attacker(
    guarded: Deployment, numbers: Iterator[int], request: pytest.FixtureRequest
) -> Iterator[Guesser]:
    """An attacker of this family with an address that the host has never seen before."""
    with stranger(guarded.host, next(numbers), request.param) as attacker:
        yield attacker
    guarded.host.run("fail2ban-client unban --all")


def banned(deployed: Deployment) -> dict[str, set[str]]:
    """The banned addresses of each jail."""
    said = ast.literal_eval(deployed.host.run(["fail2ban-client", "banned"]).stdout)
    return {name: set(found) for jail in said for name, found in jail.items()}


def counted(deployed: Deployment, jail: str, address: str, times: int) -> bool:
    """Whether a jail has counted that many failures of an address."""
    lines = deployed.host.run(FOUND).stdout.splitlines()
    return sum(f"[{jail}] Found {address} " in line for line in lines) == times


def eventually(state: Callable[[], bool], deployed: Deployment) -> None:
    """Pass once `state` is true, within SECONDS."""
    deadline = time.monotonic() + SECONDS
    while not state():
        assert time.monotonic() < deadline, banned(deployed)
        time.sleep(0.3)


@pytest.mark.parametrize("door", DOORS, ids=[door.jail for door in DOORS])
def test_five_bad_logins_close_that_port_to_that_address(
    guarded: Deployment, attacker: Guesser, door: Door
) -> None:
    said = door.guess(attacker, LIMIT - 1)
    assert all(door.refusal in line for line in said), said
    time.sleep(2)
    assert attacker.source not in banned(guarded)[door.jail]
    assert attacker.reaches(door.port)

    door.guess(attacker, 1)
    eventually(lambda: attacker.source in banned(guarded)[door.jail], guarded)
    eventually(lambda: not attacker.reaches(door.port), guarded)
    assert attacker.reaches(door.other)
    for port in (22, 80, 443):
        assert answers(attacker.address, port, NEIGHBOUR_NAMESPACE.name)

    guarded.host.run(["fail2ban-client", "unban", attacker.source])
    assert attacker.reaches(door.port)


@pytest.mark.parametrize("door", DOORS[:2], ids=[door.jail for door in DOORS[:2]])
def test_forged_headers_neither_help_nor_harm(
    guarded: Deployment, attacker: Guesser, door: Door
) -> None:
    names = ("X-Forwarded-For", "X-Real-Ip", "Client-Ip", "X_Forwarded_For", "True-Client-Ip")
    forged = dict.fromkeys(names, f"{VICTIM}, {VICTIM6}") | {"Forwarded": f"for={VICTIM}"}
    door.guess(replace(attacker, headers=forged), LIMIT)
    eventually(lambda: not attacker.reaches(door.port), guarded)
    assert {address for found in banned(guarded).values() for address in found} == {attacker.source}


def test_a_user_name_cannot_accuse_somebody_else(guarded: Deployment, attacker: Guesser) -> None:
    jellyfin = (
        '"x" has been denied (IP: "{0}").\n[00:00:00] [INF] [1] '
        "Jellyfin.Server.Implementations.Users.UserManager: Authentication request for "
        '"x" has been denied (IP: "{0}").\n'
    )
    portal = (
        "x' method=POST path=/ remote_ip={0}\n"
        'time="2026-01-01T00:00:00Z" level=error msg="Unsuccessful 1FA authentication attempt by '
        "user 'x'\" method=POST path=/ remote_ip={0}"
    )
    # Fewer than five: what bans whoever it may be is the forgery.
    for victim in (VICTIM, VICTIM6):
        attacker.jellyfin(1, jellyfin.format(victim) * LIMIT)
        attacker.portal(1, portal.format(victim))
    for jail in ("jellyfin", "authelia"):
        eventually(partial(counted, guarded, jail, attacker.source, 2), guarded)
    found = guarded.host.run(FOUND).stdout
    assert VICTIM not in found and VICTIM6 not in found


def test_the_operator_s_network_is_never_banned(guarded: Deployment) -> None:
    for address in (guarded.host.address, guarded.host.address6):
        neighbour = Guesser(guarded.host, address, NEIGHBOUR_NAMESPACE.name)
        for door in DOORS:
            door.guess(neighbour, LIMIT + 1)
    time.sleep(3)
    assert not any(banned(guarded).values())
    for address in (guarded.host.address, guarded.host.address6):
        assert all(answers(address, port, NEIGHBOUR_NAMESPACE.name) for port in (22, 443))


def test_a_narrower_network_spares_itself_and_the_gateway(guarded: Deployment) -> None:
    narrow = {**EVERYBODY, "never_ban": [f"{LAN.address(5)}/32"]}
    guarded.apply(narrow)
    try:
        for address in (guarded.host.address, guarded.host.address6):
            Guesser(guarded.host, address, "").jellyfin(LIMIT + 1)
            Guesser(guarded.host, address, NEIGHBOUR_NAMESPACE.name).jellyfin(LIMIT)
        wanted = {NEIGHBOUR_NAMESPACE.address, NEIGHBOUR_NAMESPACE.address6}
        eventually(lambda: banned(guarded)["jellyfin"] == wanted, guarded)
        log = guarded.host.run(FOUND).stdout
        assert f"Ignore {LAN.address(ROUTER)} by command" in log
        assert f"Ignore {LAN.address6(ROUTER)} by command" in log
        assert not answers(guarded.host.address, 443, NEIGHBOUR_NAMESPACE.name)
    finally:
        guarded.host.run("fail2ban-client unban --all")
        guarded.apply(EVERYBODY)


def test_a_ban_outlives_what_rewrites_the_firewall(guarded: Deployment, attacker: Guesser) -> None:
    attacker.jellyfin(LIMIT)
    eventually(lambda: not attacker.reaches(443), guarded)
    for event in ("ufw reload", "systemctl restart docker", "systemctl restart fail2ban"):
        guarded.host.run(event)
        eventually(lambda: not attacker.reaches(443), guarded)
        assert attacker.source in banned(guarded)["jellyfin"], event
    assert guarded.apply(EVERYBODY) == []
    assert not attacker.reaches(443)
    assert answers(attacker.address, 443, NEIGHBOUR_NAMESPACE.name)


@pytest.fixture
def short_bans(guarded: Deployment) -> Iterator[int]:
    """The seconds of a first ban at the web's ports, few enough to wait for its end."""
    seconds = 6
    for length in (seconds, HOUR):
        for jail in ("traefik", "jellyfin"):
            guarded.host.run(["fail2ban-client", "set", jail, "bantime", str(length)])
        if length == seconds:
            yield seconds


def test_the_second_ban_comes_sooner_and_lasts_longer(
    guarded: Deployment, short_bans: int, attacker: Guesser
) -> None:
    attacker.jellyfin(LIMIT)
    eventually(lambda: ban_seconds(guarded, attacker.source) == short_bans, guarded)
    eventually(lambda: attacker.reaches(443), guarded)
    # The port opens a moment before fail2ban forgets the ban.
    eventually(lambda: ban_seconds(guarded, attacker.source) == 0, guarded)
    attacker.jellyfin(LIMIT - 2)
    eventually(lambda: ban_seconds(guarded, attacker.source) > short_bans, guarded)


def test_a_ban_lasts_an_hour(guarded: Deployment) -> None:
    for door in DOORS:
        said = guarded.host.run(["fail2ban-client", "get", door.jail, "bantime"]).stdout
        assert said.strip() == str(HOUR)


def ban_seconds(deployed: Deployment, address: str) -> int:
    """For how long Jellyfin's jail has banned an address, 0 where it has not."""
    argv = ["fail2ban-client", "get", "jellyfin", "banip", "--with-time"]
    lines = deployed.host.run(argv).stdout.splitlines()
    found = [line for line in lines if line.startswith(f"{address} ")]
    return int(found[0].split(" + ")[1].split()[0]) if found else 0


def test_the_access_log_holds_no_query(guarded: Deployment, attacker: Guesser) -> None:
    key = "0123-never-logged"
    path = f"/Items?api_key={key}"
    text = f"GET {path} HTTP/1.1\r\nHost: {JELLYFIN}\r\nUser-Agent: {key}\r\nConnection: close\r\n"
    attacker.send([f"{text}Cookie: a={key}\r\nAuthorization: Bearer {key}\r\n\r\n"], JELLYFIN)
    log = "journalctl -b --no-pager -q CONTAINER_NAME=nexus-traefik-1"
    eventually(lambda: '"RequestPath":"/Items"' in guarded.host.run(log).stdout, guarded)
    assert key not in guarded.host.run(log).stdout


def request(target: str, host: str | None, *headers: str, version: str = "1.1") -> str:
    """A raw request as a client with no scruples writes it."""
    named = [] if host is None else [f"Host: {host}"]
    lines = [f"GET {target} HTTP/{version}", *named, "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""])


FORGED = (
    "X-Forwarded-For: 127.0.0.1",
    f"X-Forwarded-Host: {PORTAL}",
    "X-Forwarded-Uri: /api/health",
    "X-Forwarded-Method: OPTIONS",
    "X-Forwarded-Proto: http",
    f"Forwarded: for=127.0.0.1;host={PORTAL};proto=https",
    "X-Original-Url: /api/health",
    "X-Rewrite-Url: /api/health",
    f"X-Original-Host: {PORTAL}",
    "Remote-User: alice",
    "Remote-Groups: admins",
)
TRICKS = {
    "nothing special": request("/", HOME),
    "forged headers": request("/", HOME, *FORGED),
    "aliased headers": request("/", HOME, *(line.replace("-", "_") for line in FORGED)),
    "dropped headers": request("/", HOME, "X-Forwarded-Host: x", "Keep-Alive: X-Forwarded-Host"),
    "encoded slashes": request("/api%2fhealthcheck%2f..%2f..%2f", HOME),
    "encoded backslashes": request("/..%5c..%5c", HOME),
    "dot segments": request("/api/healthcheck/../../", HOME),
    "encoded dot segments": request("/api/%2e%2e/%2e%2e/", HOME),
    "twice encoded": request("/%252e%252e/%252f", HOME),
    "many slashes": request("//api///healthcheck", HOME),
    "a path parameter": request("/..;/api/healthcheck", HOME),
    "a null character": request("/%00", HOME),
    "no host": request("/", None, version="1.0"),
    "an old version": request("/", HOME, version="1.0"),
    "another absolute target": request(f"https://{HOME}/", PORTAL),
    "an absolute target": request(f"https://{HOME}/api/healthcheck", HOME),
    "mixed case": request("/", HOME.title()),
    "a trailing dot": request("/", f"{HOME}."),
    "a port": request("/", f"{HOME}:8443"),
    "two hosts": request("/", HOME, f"Host: {PORTAL}"),
    "a container": request("/", "homepage:3000"),
    "an address": request("/", "172.30.0.8"),
    "a stranger": request("/", f"unknown.{DOMAIN}"),
    "a websocket": request("/", HOME, "Upgrade: websocket", "Connection: Upgrade, Remote-User"),
    "another method": request("/", HOME).replace("GET", "OPTIONS", 1),
    "a made-up method": request("/", HOME).replace("GET", "PROPFIND", 1),
    "a tunnel": "CONNECT homepage:3000 HTTP/1.1\r\nHost: homepage:3000\r\n\r\n",
    "two lengths": request("/", HOME, "Content-Length: 4", "Transfer-Encoding: chunked")
    + "0\r\n\r\n",
}


def test_no_trick_reaches_what_is_behind_the_portal(guarded: Deployment, attacker: Guesser) -> None:
    answered = dict(zip(TRICKS, attacker.send(list(TRICKS.values())), strict=True))
    for trick, answer in answered.items():
        status = int((answer.split() or ["", "0"])[1])
        assert status in {302, 400, 401, 404, 501}, (trick, answer)
        assert "Jellyfin" not in answer and "homepage" not in answer.lower(), (trick, answer)
    assert f"Location: https://{PORTAL}/" in attacker.send(
        [request("/", HOME, "Accept: text/html")]
    )[0].replace("location", "Location")


RECORDED: dict[str, tuple[str, str, str]] = {
    "the portal, IPv4": (
        "nexus-authelia",
        'authelia[812]: time="2026-11-25T04:24:30+01:00" level=error msg="Unsuccessful 1FA '
        "authentication attempt by user 'alice'\" method=POST path=/api/firstfactor "
        "remote_ip=198.51.100.66",
        "198.51.100.66",
    ),
    "the portal, a second factor, IPv6": (
        "nexus-authelia",
        'authelia[812]: time="2026-11-25T04:24:30+01:00" level=error msg="Unsuccessful TOTP '
        "authentication attempt by user 'alice' and they are banned until 4:39:30AM on November "
        '25 2026 (+01:00)" error="invalid" method=POST path=/api/secondfactor/totp '
        'remote_ip="fd98::66"',
        "fd98::66",
    ),
    "the portal, a user name as a line": (
        "nexus-authelia",
        'authelia[812]: time="2026-11-25T04:24:30+01:00" level=info msg="by user \'x\\" '
        'method=POST path=/ remote_ip=203.0.113.9" method=POST path=/ remote_ip=198.51.100.66',
        "",
    ),
    "Jellyfin": (
        "nexus-jellyfin",
        "jellyfin[812]: [03:24:34] [INF] [14] Jellyfin.Server.Implementations.Users.UserManager: "
        'Authentication request for "bob" has been denied (IP: "198.51.100.66").',
        "198.51.100.66",
    ),
    "Jellyfin, a user name as a line": (
        "nexus-jellyfin",
        "jellyfin[812]: [03:24:34] [INF] [14] Jellyfin.Server.Implementations.Users.UserManager: "
        'Authentication request for "b\\" has been denied (IP: \\"203.0.113.9\\").\\n" has been '
        'denied (IP: "fd98::66").',
        "fd98::66",
    ),
    "Jellyfin, values without quotes": (
        "nexus-jellyfin",
        "jellyfin[812]: [03:24:34] [INF] [14] Jellyfin.Server.Implementations.Users.UserManager: "
        "Authentication request for bob has been denied (IP: 203.0.113.9).",
        "",
    ),
    "the proxy": (
        "nexus-traefik",
        'traefik[812]: {"ClientHost":"fd98::66","ClientPort":"44778","DownstreamStatus":401,'
        '"RequestMethod":"POST","RequestPath":"/users/authenticatebyname",'
        '"RouterName":"jellyfin-login@file","level":"info"}',
        "fd98::66",
    ),
    "the proxy, a good login": (
        "nexus-traefik",
        'traefik[812]: {"ClientHost":"198.51.100.66","DownstreamStatus":200,"RequestPath":'
        '"/x\\"DownstreamStatus\\":401,","RouterName":"jellyfin-login@file"}',
        "",
    ),
    "the proxy, no credential path": (
        "nexus-traefik",
        'traefik[812]: {"ClientHost":"198.51.100.66","DownstreamStatus":401,"RequestPath":'
        '"/\\"RouterName\\":\\"jellyfin-login@file\\",","RouterName":"jellyfin@file"}',
        "",
    ),
    "SSH": (
        "sshd[mode=aggressive]",
        "sshd-session[7486]: Connection closed by authenticating user root 198.51.100.66 port "
        "34866 [preauth]",
        "198.51.100.66",
    ),
}


@pytest.mark.parametrize(("filter_", "line", "address"), RECORDED.values(), ids=RECORDED)
def test_filters_take_the_address_from_where_the_client_cannot_write(
    guarded: Deployment, filter_: str, line: str, address: str
) -> None:
    argv: list[Any] = ["fail2ban-regex", "-o", "ip", f"Nov 25 04:24:30 server {line}", filter_]
    assert guarded.host.run(argv).stdout.strip() == address
