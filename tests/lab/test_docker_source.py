"""The engine from Docker's repository and back: the host is never without one, containers live."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from roles import docker
from roles.stack import catalogue
from tests.lab.deployment import Deployment, transcript
from tests.lab.docker_repository import DOUBLES, SOURCES, Repository
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.network import NEIGHBOUR_NAMESPACE

pytestmark = pytest.mark.lab

PORT = 8099
VERSION = "5:99.0-1~double"
NEWER = "5:99.1-1~double"
MIRROR = f"http://{NEIGHBOUR_NAMESPACE.address}:{PORT}"
TINY = (
    "tar -ch /usr/bin/sleep $(ldd /usr/bin/sleep | grep -o '/[^ ]*') | docker import - tiny"
    " && docker run -d --name survivor --network none tiny /usr/bin/sleep 86400"
)


@pytest.fixture(scope="module")
def server(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A host with the distribution's engine, without the stack, and a container that runs."""
    host = lab.start_host(lab.free_name("engine"))
    deployment = Deployment(host, Path(tmp_path_factory.mktemp("site")), {})
    deployment.site["services"] = {name: {"enabled": False} for name in sorted(catalogue.names())}
    deployment.apply()
    host.run(TINY)
    yield deployment
    host.destroy()


@pytest.fixture(scope="module")
def repository(
    server: Deployment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Repository]:
    """The double of Docker's repository, served by a neighbour of the host."""
    host, folder = server.host, Path(tmp_path_factory.mktemp("repository"))
    host.run(f"mkdir /var/tmp/debs && cd /var/tmp/debs && apt-get download {' '.join(SOURCES)}")
    repository = Repository(folder, host.layout.root / "var/tmp/debs", "trixie")
    repository.publish(VERSION)
    web = [sys.executable, "-m", "http.server", str(PORT), "--directory", str(repository.served)]
    process = subprocess.Popen(NEIGHBOUR_NAMESPACE.argv(web), stderr=subprocess.DEVNULL)
    yield repository
    process.kill()
    process.wait()
    repository.close()


@pytest.fixture(scope="module")
def docker_site(repository: Repository) -> Mapping[str, Any]:
    """What makes the site take the engine from there."""
    source = {"source": "docker", "mirror": MIRROR, "mirror_key": repository.public_key}
    return {"docker": source}


def survivor(host: Host) -> str:
    """The container's process and its start, while it runs."""
    form = "{{.State.Running}} {{.State.Pid}} {{.State.StartedAt}}"
    state = host.run(["docker", "inspect", "-f", form, "survivor"]).stdout.strip()
    assert state.startswith("true "), state
    return state


def installed(host: Host) -> set[str]:
    listed = host.run(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Abbrev}\n"]).stdout
    return {line.split()[0] for line in listed.splitlines() if line.endswith("ii ")}


def packages(source: str) -> set[str]:
    return set(docker.FROM_DOCKER if source == "docker" else docker.RIVALS["docker"])


def test_a_repository_with_another_key_changes_nothing(
    server: Deployment, docker_site: Mapping[str, Any]
) -> None:
    before = survivor(server.host)
    unsigned = {"docker": {**docker_site["docker"], "mirror_key": None}}
    done = server.run("-y", site=unsigned)
    assert done.returncode == 1, transcript(done)
    assert "is not signed" in done.stdout + done.stderr
    assert "docker.io" in installed(server.host)
    assert survivor(server.host) == before


def test_the_engine_comes_from_docker_and_containers_live(
    server: Deployment, docker_site: Mapping[str, Any]
) -> None:
    before = survivor(server.host)
    assert server.apply(site=docker_site)
    assert survivor(server.host) == before
    found = installed(server.host)
    assert found >= packages("docker")
    assert not found & packages("distribution")
    assert server.host.run(["docker", "compose", "version"]).stdout
    assert server.apply(site=docker_site) == []


def test_a_later_purge_of_the_old_engine_keeps_the_data(server: Deployment) -> None:
    server.host.run("DEBIAN_FRONTEND=noninteractive apt-get -qy purge docker.io")
    assert survivor(server.host)
    assert "tiny" in server.host.run(["docker", "images"]).stdout


def test_the_repository_provides_its_own_packages_only(server: Deployment) -> None:
    policy = server.host.run(["apt-cache", "policy", "hello", "docker-ce"]).stdout
    stranger, engine = policy.split("docker-ce:")
    assert VERSION in stranger
    assert f"Candidate: {VERSION}" not in stranger
    assert f"Candidate: {VERSION}" in engine
    assert MIRROR in server.host.run(["apt-cache", "policy"]).stdout


def test_updates_of_the_engine_install_themselves(
    server: Deployment, repository: Repository
) -> None:
    repository.publish(NEWER, DOUBLES[-1:])
    server.host.run(["apt-get", "-qq", "update"])
    server.host.run(["unattended-upgrade"], timeout=300)
    version = ["dpkg-query", "-W", "-f", "${Version}", DOUBLES[-1].name]
    assert server.host.run(version).stdout == NEWER


def test_the_engine_comes_back_to_the_distribution(server: Deployment) -> None:
    before = survivor(server.host)
    assert server.apply()
    assert survivor(server.host) == before
    found = installed(server.host)
    assert {"docker.io", "docker-cli", "docker-compose"} <= found
    assert not found & packages("docker")
    assert server.apply() == []
    assert MIRROR not in server.host.run(["apt-cache", "policy"]).stdout


def test_a_power_cut_amid_the_change_is_mended_by_the_next_run(
    server: Deployment, docker_site: Mapping[str, Any]
) -> None:
    host = server.host
    server.apply()
    run = subprocess.Popen(
        server.argv("-y", site=docker_site),
        env=server.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while "docker.io" in installed(host):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    host.power_cut()
    run.kill()
    run.wait()
    host.start()
    assert server.apply(site=docker_site)
    assert installed(host) >= packages("docker")
    assert host.run(["systemctl", "is-active", "docker"]).stdout.strip() == "active"
    assert server.apply(site=docker_site) == []
