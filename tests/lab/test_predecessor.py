"""The deploy takes over a host that the old NEXUS runs on: its ports, and nothing of its data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.lab.deployment import DOMAIN, Deployment
from tests.lab.lab import Lab
from tests.lab.legacy import PROJECT, SOCKET_HOLDERS, Legacy, state
from tests.lab.network import LAN, NEIGHBOUR_NAMESPACE

pytestmark = pytest.mark.lab

REPLACES = {"replaces": [PROJECT]}
OLD = ["docker", "ps", "--all", "--filter", f"label=com.docker.compose.project={PROJECT}"]


@pytest.fixture(scope="module")
def legacy(lab: Lab) -> Iterator[Legacy]:
    legacy = Legacy.boot(lab, "takeover")
    yield legacy
    legacy.host.destroy()


@pytest.fixture(scope="module")
def deployment(
    legacy: Legacy, images: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Deployment:
    return Deployment(legacy.host, Path(tmp_path_factory.mktemp("site")), images)


def old_containers(legacy: Legacy, form: str = "{{.Names}}") -> set[str]:
    return set(legacy.host.run([*OLD, "--format", form]).stdout.split())


def belongings(legacy: Legacy) -> dict[str, str]:
    """What may not be lost: each file of the household by its digest, and the volumes' names."""
    root = legacy.host.layout.root
    kept = ("*.db", "*.sqlite3", "*.xml", "*.tar", "*.mkv", "*.flac", "*.epub", "*.torrent")
    folders = (root / state.FOLDER.lstrip("/"), root / state.MEDIA.lstrip("/"))
    # SABnzbd writes into its own folder as it starts and ends.
    files = [
        file
        for folder in folders
        for form in kept
        for file in folder.rglob(form)
        if "sabnzbd/admin" not in str(file)
    ]
    volumes = legacy.host.run(["docker", "volume", "ls", "--quiet"]).stdout.split()
    named = {name: "volume" for name in volumes if name.startswith(PROJECT)}
    found = {str(f.relative_to(root)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
    return {**found, **named}


def mode_and_owner(legacy: Legacy, path: str) -> str:
    return legacy.host.run(["stat", "-c", "%a %U:%G", path]).stdout.strip()


def test_a_host_in_use_is_refused_before_anything_changes(
    legacy: Legacy, deployment: Deployment
) -> None:
    before = old_containers(legacy, "{{.ID}}")
    done = deployment.run("-y")
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "refused before the host was changed" in said
    for name in SOCKET_HOLDERS:
        assert f"container {name} of the host holds" in said
    assert f'site["replaces"] = ["{PROJECT}"]' in said
    assert old_containers(legacy, "{{.ID}}") == before
    assert legacy.host.run("test -e /var/lib/nexus || test -e /opt/nexus", check=False).returncode


def test_until_the_new_stack_is_up_the_old_one_is_only_stopped(
    legacy: Legacy, deployment: Deployment
) -> None:
    before = belongings(legacy)
    missing = f"{LAN.address(1)}:5000/absent@sha256:{'0' * 64}"
    broken = {"images": {**deployment.site["images"], "homepage": missing}}
    done = deployment.run("-y", site={**REPLACES, **broken})
    assert done.returncode == 1
    assert old_containers(legacy) == set(legacy.services)
    form = "{{.State.Running}} {{.HostConfig.RestartPolicy.Name}}"
    states = legacy.host.run(["docker", "inspect", "-f", form, *legacy.services]).stdout
    assert set(states.splitlines()) == {"false no"}
    assert belongings(legacy) == before


def test_the_next_run_finishes_and_loses_nothing(legacy: Legacy, deployment: Deployment) -> None:
    before = belongings(legacy)
    archive = f"{legacy.folder}/backups/nexus-2025-03-02.tar"
    open_mode, owner = mode_and_owner(legacy, archive).split()
    assert not open_mode.endswith("0")
    deployment.apply(site=REPLACES)
    assert {f"nexus-{s.name}-1" for s in deployment.stack().services} <= deployment.healthy()
    assert old_containers(legacy) == set()
    networks = legacy.host.run(["docker", "network", "ls", "--format", "{{.Name}}"]).stdout
    assert PROJECT not in networks
    assert belongings(legacy) == before
    for name in ("docker-compose.yml", ".env"):
        assert mode_and_owner(legacy, f"{legacy.folder}/{name}") == "600 root:root"
    assert mode_and_owner(legacy, archive) == f"{open_mode[:-1]}0 {owner}"


def test_a_second_run_changes_nothing(deployment: Deployment) -> None:
    assert deployment.apply(site=REPLACES) == []


def test_the_old_ports_are_shut_and_the_new_door_answers(
    legacy: Legacy, deployment: Deployment
) -> None:
    ask = ["curl", "-sk", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}"]
    place = f"auth.{DOMAIN}:443:{legacy.host.address}"
    portal = NEIGHBOUR_NAMESPACE.run([*ask, "--resolve", place, f"https://auth.{DOMAIN}/"])
    assert portal.stdout == "200"
    for port in (8989, 9000, 9090):
        url = f"http://{legacy.host.address}:{port}/"
        assert NEIGHBOUR_NAMESPACE.run([*ask, url], check=False).stdout == "000"


def test_the_way_back_is_open(legacy: Legacy) -> None:
    """As docs/decisions/predecessor.md says it."""
    before = belongings(legacy)
    legacy.host.run("docker compose -p nexus -f /opt/nexus/compose.yml down", timeout=300)
    legacy.host.run(f"cd {legacy.folder} && docker compose up -d", timeout=300)
    legacy.wait_up()
    assert belongings(legacy) == before
    assert (
        "Night Train"
        in legacy.host.run(["python3", "-c", _READ_SERIES.format(folder=legacy.folder)]).stdout
    )


_READ_SERIES = (
    "import sqlite3; print(sqlite3.connect('{folder}/config/sonarr/sonarr.db')"
    ".execute('SELECT Title FROM Series').fetchall())"
)
