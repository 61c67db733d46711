"""From inside: every container reaches what is declared and nothing more, and dies alone."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest

from roles.stack.service import Service
from roles.stack.stack import Stack
from tests.lab.deployment import Deployment, transcript

pytestmark = pytest.mark.lab

Target = tuple[str, int]
# Runs in a container's network namespace with the host's own interpreter.
TRY = """import concurrent.futures, json, socket, sys
def opens(target):
    try:
        socket.create_connection(tuple(target), 1.5).close()
        return True
    except OSError:
        return False
targets = json.load(sys.stdin)
with concurrent.futures.ThreadPoolExecutor(256) as pool:
    print(json.dumps([t for t, found in zip(targets, pool.map(opens, targets)) if found]))
"""
# Sends the path as it is written.
ASK = """import http.client, sys
address, method, path = sys.argv[1:]
connection = http.client.HTTPConnection(address, 2375, timeout=10)
connection.request(method, path)
print(connection.getresponse().status)
"""
# What a host listens on, or would if somebody let it.
OF_THE_HOST = (22, 80, 443, 2375, 2376, 5000, 9100)


def test_every_pair_of_containers_is_joined_as_declared(deployed: Deployment) -> None:
    stack = deployed.stack()
    everywhere = targets(stack)
    outside = [
        (address, port) for address in host_addresses(deployed, stack) for port in OF_THE_HOST
    ]
    for client in (service for service in stack.services if not service.behind):
        found = reached(deployed, client, [*everywhere, *outside])
        declared = {
            target
            for way in stack.ways()
            if way.client == client
            for target in addresses(stack, way.server, way.network, way.port)
        }
        own = {target for target in everywhere if target[0] in own_addresses(stack, client)}
        assert found - own <= declared, client.name
        for way in (way for way in stack.ways() if way.client == client):
            # Not every program listens in both families.
            assert found.intersection(addresses(stack, way.server, way.network, way.port)), way


def targets(stack: Stack) -> list[Target]:
    """Every address of every container, with every port that any of them listens on."""
    ports = {port for service in stack.services for port in service.ports_inside}
    ports |= {port.container for service in stack.services for port in service.ports}
    ports |= {service.metrics.port for service in stack.scraped() if service.metrics}
    return [
        (address, port)
        for service in stack.services
        for address in own_addresses(stack, service)
        for port in sorted(ports)
    ]


def own_addresses(stack: Stack, service: Service) -> set[str]:
    segments = stack.networks_of(service)
    found = {segment.address(service) for segment in segments}
    return found | {segment.address6(service) for segment in segments if segment.subnet6}


def addresses(stack: Stack, server: Service, network: str, port: int) -> Iterable[Target]:
    segment = stack.segments[network]
    yield segment.address(server), port
    if segment.subnet6:
        yield segment.address6(server), port


def host_addresses(deployed: Deployment, stack: Stack) -> list[str]:
    """The host's own: on its network, and as the gateway of each of the stack's."""
    gateways = []
    for segment in stack.segments.values():
        form = "{{range .IPAM.Config}}{{.Gateway}} {{end}}"
        inspect = ["docker", "network", "inspect", segment.docker_name, "-f", form]
        gateways += deployed.host.run(inspect).stdout.replace("/64", "").split()
    return [deployed.host.address, deployed.host.address6, *gateways]


def reached(deployed: Deployment, client: Service, wanted: list[Target]) -> set[Target]:
    """Where a connection from this container's network opens."""
    argv = [*inside(deployed, client), "python3", "-c", TRY]
    said = deployed.host.run(argv, stdin=json.dumps(wanted)).stdout
    return {(address, port) for address, port in json.loads(said)}


def inside(deployed: Deployment, client: Service) -> list[str]:
    """The beginning of a command that runs in a container's network with the host's programs."""
    container = f"nexus-{client.name}-1"
    pid = deployed.host.run(["docker", "inspect", container, "-f", "{{.State.Pid}}"]).stdout
    return ["nsenter", "-t", pid.strip(), "-n"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/_ping", 200),
        ("GET", "/v1.45/containers/json", 200),
        ("GET", "/containers/nexus-jellyfin-1/json", 200),
        ("GET", "/containers/nexus-jellyfin-1/archive?path=/config", 403),
        ("GET", "/containers/nexus-jellyfin-1/export", 403),
        ("GET", "/containers/nexus-jellyfin-1/logs?stdout=1", 403),
        ("GET", "/containers/nexus-jellyfin-1/../nexus-postgres-1/export", 403),
        ("GET", "/containers/nexus-jellyfin-1%2fexport", 403),
        ("GET", "//containers/nexus-jellyfin-1/export", 403),
        ("POST", "/containers/nexus-jellyfin-1/exec", 403),
        ("POST", "/containers/create", 403),
        ("POST", "/containers/nexus-jellyfin-1/stop", 403),
        ("DELETE", "/containers/nexus-jellyfin-1", 403),
        ("GET", "/secrets", 403),
        ("GET", "/images/json", 403),
        ("GET", "/info", 403),
        ("PUT", "/containers/nexus-jellyfin-1/archive?path=/", 403),
        ("POST", "/build", 403),
    ],
)
def test_the_docker_api_as_its_allowlist_says(
    deployed: Deployment, method: str, path: str, status: int
) -> None:
    stack = deployed.stack()
    proxy = stack.address("socket-proxy", "link-homepage")
    argv = [*inside(deployed, stack.service("homepage")), "python3", "-c", ASK]
    said = deployed.host.run([*argv, proxy, method, path]).stdout
    assert said.strip() == str(status)


def test_a_memory_hog_dies_alone(deployed: Deployment) -> None:
    before = started(deployed)
    hog = "x = bytearray(); [x.extend(bytes(1 << 24)) for _ in range(1 << 12)]"
    done = deployed.host.run(
        ["docker", "exec", "nexus-homepage-1", "python3", "-c", hog], check=False
    )
    assert done.returncode == 137, done.stderr
    others = {name: when for name, when in before.items() if name != "nexus-homepage-1"}
    assert others.items() <= started(deployed).items()
    # The engine keeps that until the next start, and the scorecard of this host would tell of it.
    deployed.host.run(["docker", "restart", "nexus-homepage-1"])
    assert deployed.apply() == [] or deployed.apply() == []
    flags = "docker inspect -f '{{.State.OOMKilled}}' $(docker ps -q)"
    assert set(deployed.host.run(flags).stdout.split()) == {"false"}


def test_a_fork_bomb_stays_within_its_limit(deployed: Deployment) -> None:
    before = started(deployed)
    limit = deployed.stack().service("homepage").limits.pids
    bomb = (
        "import os, time\nn = 0\ntry:\n"
        "    for n in range(5000):\n        if os.fork() == 0: time.sleep(8); os._exit(0)\n"
        "except BlockingIOError: print(n)\n"
    )
    done = deployed.host.run(["docker", "exec", "nexus-homepage-1", "python3", "-c", bomb])
    assert 0 < int(done.stdout) < limit
    assert started(deployed) == before
    assert deployed.host.ssh("echo answers").stdout == "answers\n"


def started(deployed: Deployment) -> dict[str, str]:
    """When each container has started."""
    form = "{{.Name}} {{.State.StartedAt}}"
    listed = deployed.host.run(f"docker inspect -f '{form}' $(docker ps -q)").stdout
    return dict(line.lstrip("/").split(" ", 1) for line in listed.splitlines())


def test_transcoding_fills_its_own_memory_and_nothing_else(deployed: Deployment) -> None:
    before = started(deployed)
    free = "df --output=avail / | tail -1"
    left = int(deployed.host.run(free).stdout)
    fill = "dd if=/dev/zero of=/transcode/film bs=1M 2>&1; stat -c %s /transcode/film"
    said = deployed.host.run(["docker", "exec", "nexus-jellyfin-1", "sh", "-c", fill]).stdout
    assert "No space left on device" in said
    [(_, size)] = deployed.stack().service("jellyfin").scratch
    assert int(said.split()[-1]) == size
    assert abs(int(deployed.host.run(free).stdout) - left) < size // 1024 // 10
    deployed.host.run(["docker", "exec", "nexus-jellyfin-1", "rm", "/transcode/film"])
    assert started(deployed) == before


def test_the_render_device_reaches_the_player_alone(deployed: Deployment) -> None:
    """A node of the kernel's number for it; what is behind it no lab can have."""
    deployed.host.run(
        "groupadd -f -g 993 render; mkdir -p /dev/dri; mknod /dev/dri/renderD128 c 226 128; "
        "chgrp render /dev/dri/renderD128; chmod 0660 /dev/dri/renderD128"
    )
    try:
        done = deployed.run("-y")
        assert done.returncode == 0, transcript(done)
        assert "no Intel render device" not in done.stdout + done.stderr
        for name in deployed.healthy():
            found = deployed.host.run(["docker", "exec", name, "ls", "/dev/dri"], check=False)
            assert (found.returncode == 0) is (name == "nexus-jellyfin-1"), name
        groups = deployed.host.run(["docker", "exec", "nexus-jellyfin-1", "id", "-G"]).stdout
        assert "993" in groups.split()
        encoding = "/opt/nexus/data/jellyfin/library/config/encoding.xml"
        assert "<HardwareAccelerationType>qsv<" in deployed.host.run(["cat", encoding]).stdout
        assert deployed.apply() == []
    finally:
        deployed.host.run("rm -r /dev/dri")
    without = deployed.run("-y")
    assert without.returncode == 0
    assert "no Intel render device" in without.stdout + without.stderr
    assert deployed.apply() == []
