"""Who reaches whom: tried from inside every container, and from the operator's machine."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from roles.scorecard.results import evidence
from roles.verify import probe
from roles.verify.collected import Container
from roles.verify.report import expect, expect_that
from roles.verify.target import Target
from tests.host.checks.judging import program, running
from tests.host.checks.programs import (
    ADMINISTRATION,
    APPLICATIONS,
    DATABASES,
    DOWNLOADERS,
    ORGANISERS,
    PROXIES,
)

DOCKER_API = {2375, 2376}
# SSH and the web.
ORDINARY = {22, 80, 443}
WEB = (80, 443, 8080)
MOST_PAIRS = 33
# What Traefik's API answers where it is open: https://doc.traefik.io/traefik/operations/api/
OVERVIEW = "/api/rawdata"


def tried(target: Target) -> tuple[Container, ...]:
    """The containers that run, where connecting from each was tried and works at all.

    Raises:
        Unproven: nothing runs, one could not be tried, or nothing reached anything: no proof of
            being apart.
    """
    judged, reached = running(target), target.collected.raw["reached"]
    untried = [container.name for container in judged if container.inspect["Id"] not in reached]
    expect("containers from which nothing was tried", untried, [])
    made = sum(map(len, reached.values()))
    expect_that(made > 0, "connections between containers", made, "some, of those that need them")
    return judged


def strays(target: Target, sources: tuple[str, ...], forbidden: tuple[str, ...]) -> list[str]:
    """What any container of some programs could connect to of others."""
    return [
        f"{container.name} reaches {name} port {port}"
        for container in tried(target)
        if container.program in sources
        for name, port in target.collected.reached_from(container)
        if name in forbidden
    ]


@pytest.mark.check("SEC-23")
def test_download_clients_reach_no_administration(target: Target) -> None:
    program(target, *DOWNLOADERS)
    found = strays(target, (*DOWNLOADERS, "gluetun"), (*ADMINISTRATION, *DATABASES, *ORGANISERS))
    expect("what a download client reaches", found, [])


@pytest.mark.check("SEC-24")
def test_applications_reach_no_database(target: Target) -> None:
    running(target)
    program(target, *DATABASES)
    expect("applications at a database", strays(target, APPLICATIONS, DATABASES), [])


@pytest.mark.check("SEC-25")
def test_containers_reach_only_what_they_need(target: Target) -> None:
    # A proxy is there to reach what it shows, and to be reached.
    judged = [container for container in tried(target) if container.program not in PROXIES]
    numbers = {container.inspect["Id"] for container in judged}
    reached = target.collected.raw["reached"]
    pairs = sum(
        len({place[0] for place in reached.get(number, [])} & numbers) for number in numbers
    )
    most = len(judged) * (len(judged) - 1)
    share = 100 * pairs / most if most else 0
    evidence(f"{pairs} of {most} pairs of containers can connect")
    expect_that(share <= MOST_PAIRS, "pairs that can connect", f"{share:.0f} %", "a third at most")


@pytest.mark.check("SEC-05")
def test_the_docker_api_gives_no_files_away(target: Target) -> None:
    seen = [
        (container.name, answer[3])
        for container in running(target)
        for answer in target.collected.raw["reached"].get(container.inspect["Id"], [])
        if answer[1] in DOCKER_API
    ]
    wanted = "a proxy for whoever shows the containers' state"
    expect_that(bool(seen), "containers with a filtered Docker API", [n for n, _ in seen], wanted)
    expect("answers to a container's files", {f"{n} {s}" for n, s in seen if s != 403}, set())


@pytest.mark.check("SEC-26")
def test_only_the_web_and_ssh_answer(target: Target) -> None:
    running(target)
    allowed = ORDINARY | set(target.site.ssh.ports)
    found = {
        f"{address} port {port}"
        for address, ports in target.open_ports.items()
        for port in ports
        if port not in allowed
    }
    expect("ports that answer the operator's machine", found, set())


@pytest.mark.check("SEC-41")
def test_nothing_answers_beside_the_login(target: Target) -> None:
    allowed = ORDINARY | set(target.site.ssh.ports)
    ports = [port for port in target.open_ports.get(target.address, []) if port not in allowed]
    running(target)
    with ThreadPoolExecutor(16) as pool:
        answers = zip(ports, pool.map(lambda port: _plain(target, port, "/"), ports), strict=True)
        found = [f"port {port} {status}" for port, status in answers if status and status < 400]
    expect("pages without a login", found, [])


@pytest.mark.check("SEC-51")
def test_the_proxys_own_api_is_closed(target: Target) -> None:
    proxy = program(target, *PROXIES)
    tried = {*WEB, *(port for protocol, port in proxy.published if protocol == "tcp")}
    ports = sorted(tried & set(target.open_ports.get(target.address, [])))
    found = [port for port in ports if port != 443 and _plain(target, port, OVERVIEW) == 200]
    expect("ports with the proxy's API", found, [])


def _plain(target: Target, port: int, path: str) -> int:
    """The status of an HTTP answer, 0 for none."""
    return probe.plain_status(target.address, port, path)
