"""The old NEXUS is as bad as the report says: what the hardened host is compared with is real."""

from __future__ import annotations

import sqlite3
import sys
import tarfile
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from roles.scorecard.card import load
from roles.scorecard.catalogue import validation
from tests.lab.deployment import Deployment
from tests.lab.legacy import RESTARTING, SOCKET_HOLDERS, Legacy, state
from tests.lab.network import ATTACKER_NAMESPACE, NEIGHBOUR_NAMESPACE, Namespace

pytestmark = pytest.mark.lab

# One process tries all ports: accepting a connection is not enough, Docker's own proxy does that.
ASK = """
import http.client, sys
address, *ports = sys.argv[1:]
for port in ports:
    link = http.client.HTTPConnection(address, int(port), timeout=5)
    try:
        link.request("GET", "/")
        print(port, link.getresponse().status)
    except (OSError, http.client.HTTPException) as error:
        print(port, error)
"""
# Not HTTP, or nobody listens: a database, TLS, the collector that never runs, torrents.
SILENT = {5432, 443, 4318, 6881}
DOCKER_API = (
    "import http.client, socket;"
    "link = http.client.HTTPConnection('localhost');"
    "link.sock = socket.socket(socket.AF_UNIX);"
    "link.sock.connect('/var/run/docker.sock');"
    "link.request('GET', '/containers/json');"
    "print(link.getresponse().status)"
)


@pytest.mark.parametrize("place", (NEIGHBOUR_NAMESPACE, ATTACKER_NAMESPACE), ids=lambda p: p.name)
@pytest.mark.parametrize("family", (4, 6))
def test_every_page_answers_past_the_firewall(
    legacy: Legacy, place: Namespace, family: int
) -> None:
    address = legacy.host.address if family == 4 else legacy.host.address6
    ports = sorted({port for kind, port in legacy.published() if kind == "tcp"} - SILENT)
    assert len(ports) > 20
    said = place.run([sys.executable, "-c", ASK, address, *map(str, ports)]).stdout
    failed = [line for line in said.splitlines() if not line.split(maxsplit=1)[1].isdigit()]
    assert not failed
    assert len(said.splitlines()) == len(ports)


def test_the_firewall_is_on_and_lets_three_ports_in(legacy: Legacy) -> None:
    status = legacy.host.run(["ufw", "status"]).stdout
    allowed = {line.split("/")[0] for line in status.splitlines() if "ALLOW" in line}
    assert "Status: active" in status
    assert allowed == {"22", "80", "443"}


def test_three_containers_hold_the_docker_api(legacy: Legacy) -> None:
    holders = {
        name
        for name, service in legacy.services.items()
        if any("docker.sock" in volume for volume in service.get("volumes", ()))
    }
    assert holders == set(SOCKET_HOLDERS)
    for name in SOCKET_HOLDERS:
        assert legacy.inside(name, ["python3", "-c", DOCKER_API]).stdout.strip() == "200"


def test_the_collector_restarts_for_ever_and_nothing_else_does(legacy: Legacy) -> None:
    before = legacy.restarts(RESTARTING)
    deadline = time.monotonic() + 90
    while legacy.restarts(RESTARTING) <= before:
        assert time.monotonic() < deadline
        time.sleep(1)
    log = legacy.host.run(["docker", "logs", "--tail", "9", RESTARTING]).stderr
    assert 'unknown type: "jaeger"' in log
    others = set(legacy.services) - {RESTARTING}
    assert {name for name in others if legacy.restarts(name)} == set()


def test_no_container_is_limited_or_confined(legacy: Legacy) -> None:
    for name in legacy.services:
        found = legacy.inspect(name)["HostConfig"]
        assert (found["Memory"], found["NanoCpus"], found["PidsLimit"] or 0) == (0, 0, 0)
        assert not found["SecurityOpt"]
        assert not found["ReadonlyRootfs"]


def test_what_a_household_would_miss_is_there(legacy: Legacy) -> None:
    folder = legacy.host.layout.root / state.FOLDER.lstrip("/")
    with closing(sqlite3.connect(folder / "config/tautulli/tautulli.db")) as history:
        assert history.execute("SELECT count(*) FROM session_history").fetchone()[0] > 0
    with tarfile.open(next((folder / "backups").glob("*.tar"))) as backup:
        assert ".env" in backup.getnames()
    seeding = legacy.host.run(["curl", "-s", "http://127.0.0.1:8080/api/v2/torrents/info"]).stdout
    assert '"progress":1' in seeding


def test_the_letters_are_those_that_the_page_gives_reasons_for(
    legacy: Legacy, images: Mapping[str, str], tmp_path: Path
) -> None:
    deployment = Deployment(legacy.host, tmp_path, images)
    deployment.argv()
    report = [sys.executable, "-m", "roles.command.report", str(deployment.inventory)]
    deployment.execute([*report, "--out", str(tmp_path)])
    card = load(tmp_path / "scorecard.json")
    rebuilt = {name: area.rebuilt for name, area in validation().areas.items()}
    assert {name: grade.letter for name, grade in card.areas.items()} == rebuilt
    assert card.overall.score is not None and card.overall.score <= 35


def test_whoever_is_on_the_host_reads_the_passwords(legacy: Legacy) -> None:
    readers = ["runuser", "-u", "nobody", "--", "cat"]
    settings = legacy.host.run([*readers, f"{legacy.folder}/.env"]).stdout
    assert "VPN_PRIVATE_KEY" in settings
    assert f"POSTGRES_PASSWORD={state.PASSWORD}" in str(legacy.inspect("postgres")["Config"]["Env"])
