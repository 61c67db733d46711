"""What the proxy does besides routing: limits on credential paths, and nothing for strangers."""

from __future__ import annotations

import base64
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from roles.stack.stack import COMPOSE_FILE
from tests.lab.deployment import DOMAIN, Deployment
from tests.lab.guesser import HOME, JELLYFIN, PORTAL, Guesser
from tests.lab.network import NEIGHBOUR_NAMESPACE
from tests.lab.test_browser import USER, request

pytestmark = pytest.mark.lab

BURST = 10
OK = "HTTP/1.1 200 OK"
LIMITED = "HTTP/1.1 429 Too Many Requests"
SECOND_ADDRESS = 199
# What the circuit breaker looks back.
COUNTED_SECONDS = 10


@pytest.fixture
def neighbours(deployed: Deployment) -> Iterator[tuple[Guesser, Guesser]]:
    """One machine of the LAN, which is never banned, with two addresses of one IPv6 /64."""
    place, subnet = NEIGHBOUR_NAMESPACE, NEIGHBOUR_NAMESPACE.subnet
    second = subnet.address6(SECOND_ADDRESS)
    address = [f"{second}/{subnet.network6.prefixlen}", "dev", "eth0"]
    place.run(["ip", "addr", "add", *address, "nodad"])
    first = Guesser(deployed.host, deployed.host.address6, place.name, place.address6)
    yield first, replace(first, source=second)
    place.run(["ip", "addr", "del", *address])


def get(path: str, name: str) -> str:
    return f"GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"


def test_guesses_are_limited_and_the_portal_s_own_pages_are_not(
    neighbours: tuple[Guesser, Guesser],
) -> None:
    one, other = neighbours
    said = one.jellyfin(BURST + 4)
    assert LIMITED in said
    # A new address out of the same /64 is the same caller: another one would get all of these.
    assert LIMITED in other.jellyfin(BURST)
    asked = [get("/api/state", PORTAL), get("/", PORTAL)] * (2 * BURST)
    assert set(one.statuses(asked, PORTAL)) == {OK}


def test_the_right_password_in_a_header_opens_nothing(deployed: Deployment) -> None:
    password = deployed.secrets()["authelia_admin_password"].reveal()
    basic = base64.b64encode(f"{USER}:{password}".encode()).decode()
    # One of each policy: home asks for two factors, seerr for one.
    for url in (f"https://home.{DOMAIN}/", f"https://seerr.{DOMAIN}/"):
        for header in ("Authorization", "Proxy-Authorization"):
            given = {header: f"Basic {basic}"}
            page = request(deployed, url, headers={**given, "Accept": "text/html"})
            assert page[0] == 302, (url, header)
            answer = request(deployed, url, headers={**given, "Accept": "application/json"})
            assert answer[0] == 401, (url, header)


def test_each_page_names_what_it_may_load(neighbours: tuple[Guesser, Guesser]) -> None:
    for name in (PORTAL, JELLYFIN):
        (answer,) = neighbours[0].send([get("/", name)], name)
        lines = [line.lower() for line in answer.splitlines()]
        (policy,) = [line for line in lines if line.startswith("content-security-policy:")]
        assert "object-src 'none'" in policy and "base-uri 'self'" in policy
        assert "frame-ancestors" in policy


def test_a_name_that_nobody_has_gets_no_handshake(neighbours: tuple[Guesser, Guesser]) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        neighbours[0].send([get("/", HOME)], "stranger.example")
    assert "unrecognized name" in refused.value.stderr.lower()
    (answer,) = neighbours[0].send([get("/", f"stranger.{DOMAIN}")], f"stranger.{DOMAIN}")
    assert answer.startswith("HTTP/1.1 404")


def test_a_service_that_is_back_answers_every_request(
    deployed: Deployment, neighbours: tuple[Guesser, Guesser]
) -> None:
    """Also when the answers before its fall are too old to be counted, and the errors are not."""
    page = get("/", PORTAL)
    began = time.monotonic()
    neighbours[0].send([page] * 4, PORTAL)
    deployed.host.run("docker stop -t 1 nexus-authelia-1")
    try:
        time.sleep(max(0, began + COUNTED_SECONDS / 2 - time.monotonic()))
        (down,) = neighbours[0].send([page], PORTAL)
        assert down.startswith(("HTTP/1.1 502", "HTTP/1.1 503", "HTTP/1.1 504"))
    finally:
        deployed.host.run(f"docker compose -p nexus -f {COMPOSE_FILE} up -d --wait authelia")
    time.sleep(max(0, began + COUNTED_SECONDS + 1.5 - time.monotonic()))
    assert neighbours[0].statuses([page] * 5, PORTAL) == [OK] * 5
