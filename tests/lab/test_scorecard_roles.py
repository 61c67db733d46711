"""Each role's effect taken away on a deployed host: its checks fail, and no others.

Several roles go at once where they do not touch each other, because a run of the scorecard takes
longer than all of them. Who falls with them is named: whatever else fails is a wrong check.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from roles import backup, handbook, notify, scan, scrub
from roles.scorecard import catalogue
from roles.stack.stack import COMPOSE_FILE
from tests.lab.deployment import MONITORING, Deployment
from tests.lab.paths import REPOSITORY
from tests.lab.test_verify import VERIFY

pytestmark = pytest.mark.lab

REPORT = [*VERIFY[:2], "roles.command.report"]
# A host that misses a role is not as its inventory says; and this one has no monitoring.
ALWAYS = {"REC-11", *(each.id for each in catalogue.checks() if each.role in MONITORING)}
# The operator's to choose, and true only after the first night and the first drill.
OPERATORS = {"REC-05", "REC-06", "REC-08", "REC-12"}
WEAKENED = ("bazarr", "homepage", "jellyfin", "postgres")
WEAK_FILE = "/root/weak.yml"
# A stack that the site replaces. Its container never starts, so that it offends nobody else.
OLD = "old"
SECRET = "/opt/nexus/secrets/authelia/authelia_session_secret"


@dataclass(frozen=True)
class Removal:
    """Commands that take a role's effect away, and those that a deploy does not take back."""

    commands: str
    undo: str = "true"


def stopped(*services: str) -> Removal:
    return Removal(f"docker stop -t 2 {' '.join(f'nexus-{name}-1' for name in services)}")


MACHINE = {
    "base": Removal(
        "rm /etc/systemd/journald.conf.d/50-nexus.conf; systemctl stop apt-daily.timer; "
        "sysctl -qw net.ipv4.conf.all.accept_redirects=1; "
        """echo 'APT::Periodic::Unattended-Upgrade "0";' > /etc/apt/apt.conf.d/99stray""",
        "rm -f /etc/apt/apt.conf.d/99stray",
    ),
    "handbook": Removal(f"rm -r {handbook.FOLDER}"),
    "ssh": Removal(
        "sed -i -e 's/^PasswordAuthentication.*/PasswordAuthentication yes/' "
        "-e 's/^Ciphers.*/Ciphers aes256-ctr,aes128-cbc/' /etc/ssh/sshd_config; "
        "systemctl restart ssh"
    ),
    "firewall": Removal(
        "ufw --force disable; for each in iptables ip6tables; do $each -F DOCKER-USER; "
        "$each -P INPUT ACCEPT; $each -P FORWARD ACCEPT; done; "
        "systemd-run -q --collect --unit=stray python3 -m http.server 9090 --bind ::",
        "systemctl stop stray",
    ),
    "fail2ban": Removal("systemctl stop fail2ban"),
    "backup": Removal(f"systemctl stop {' '.join(backup.TIMERS)}; rm -r {backup.SETTINGS}"),
    "scrub": Removal(f"systemctl stop {scrub.TIMER}"),
    "scan": Removal(f"systemctl stop {scan.TIMER}"),
    "media": Removal("chmod o+w /srv/media/movies", "chmod o-w /srv/media/movies"),
    "docker_source": Removal("touch /etc/apt/sources.list.d/docker.list"),
    "docker": Removal(
        "systemd-run -q --collect --unit=api python3 -m http.server 2375; "
        "gpasswd -a operator docker; "
        'sed -i \'s/"live-restore": true/"live-restore": false/\' /etc/docker/daemon.json; '
        "systemctl reload docker",
        "systemctl stop api; gpasswd -d operator docker",
    ),
    "networks": Removal(
        "docker network create flat; for each in postgres sonarr sabnzbd; do "
        "docker network connect flat nexus-$each-1; done",
        "for each in postgres sonarr sabnzbd; do "
        "docker network disconnect -f flat nexus-$each-1; done; docker network rm flat",
    ),
    "predecessor": Removal(
        f"docker create --name old --label com.docker.compose.project={OLD} "
        "$(docker inspect -f '{{.Config.Image}}' nexus-homepage-1)",
        "docker rm -f old",
    ),
}
DOORS = {
    "traefik": stopped("traefik"),
    "authelia": Removal(f"docker stop -t 2 nexus-authelia-1; chmod 444 {SECRET}"),
    "jellyfin": Removal("true"),  # The weak file does it: without a health check, behind no proxy.
    "stack_role": Removal(
        # Compose hands a container's mounts on to the next at the folders that its image names.
        "docker commit nexus-homepage-1 stray:1; docker rm -f nexus-bazarr-1 nexus-jellyfin-1; "
        f"docker compose -p nexus --project-directory /opt/nexus -f {WEAK_FILE} "
        f"up -d --no-deps {' '.join(WEAKENED)}",
        # For a deploy these are another stack of the same name, which is not its to take down.
        f"docker rm -f {' '.join(f'nexus-{name}-1' for name in WEAKENED)}; "
        f"docker rmi -f stray:1; rm -f {WEAK_FILE}",
    ),
}
APPLICATIONS = {
    "notify": Removal(f"rm {notify.PROGRAM}"),
    "socket_proxy": stopped("socket-proxy"),
    "postgres": stopped("postgres"),
    "valkey": stopped("valkey"),
    "homepage": stopped("homepage"),
    "servarr": stopped("sonarr", "radarr", "lidarr", "prowlarr"),
    "bazarr": stopped("bazarr"),
    "seerr": stopped("seerr"),
    "downloads": stopped("sabnzbd"),
}
# What else needs the roles of its round: no page without the proxy, no login without its database,
# no network in use without applications.
WITH_THE_DOORS = {"EXP-03", "PERF-12", "SCA-07"}
WITH_THE_APPLICATIONS = {
    *("SEC-21", "SEC-22", "SEC-23", "SEC-24", "SEC-38", "SEC-39", "SEC-40", "SEC-43"),
    *("INT-03", "INT-08", "OPS-17", "API-11"),
}
# Counts the networks in use: it falls with who uses them.
LATER = {"SEC-21"}


def of(*roles: str) -> set[str]:
    """The checks that these roles mend, but for what this host has no use of."""
    absent = {"PERF-05", "COM-10"}
    return {check.id for check in catalogue.checks() if check.role in roles} - absent


def failing(deployed: Deployment, folder: Path) -> dict[str, Any]:
    """The checks that fail now, with what was seen."""
    deployed.argv(site={"replaces": [OLD]})
    done = deployed.execute([*REPORT, str(deployed.inventory), "--out", str(folder)])
    assert (folder / "scorecard.json").exists(), done.stdout + done.stderr
    found = json.loads((folder / "scorecard.json").read_text())["checks"]
    failed = {c["id"]: c["failures"] for c in found if c["status"] == "failed"}
    return {name: rows for name, rows in failed.items() if name not in OPERATORS}


@contextmanager
def without(deployed: Deployment, removals: Iterable[Removal]) -> Iterator[None]:
    """The host as if these roles had not been deployed."""
    host = deployed.host
    removals = list(removals)
    try:
        for removal in removals:
            host.run(removal.commands)
        yield
    finally:
        for removal in removals:
            host.run(removal.undo, check=False)
        deployed.apply()


def expect_exactly(found: dict[str, Any], expected: set[str]) -> None:
    wrongly = {name: rows for name, rows in found.items() if name not in expected}
    assert not wrongly, f"fail as well: {wrongly}"
    held = sorted(expected - found.keys())
    assert not held, f"still pass: {held}"


def test_every_role_is_removed() -> None:
    text = (REPOSITORY / "deploy.py").read_text()
    deployed = set(re.findall(r"^(\w+)\.deploy\(plan\)$", text, re.MULTILINE))
    # The operator's own applications are judged like every other.
    assert {*MACHINE, *DOORS, *APPLICATIONS} == deployed - {"applications", *MONITORING}


def test_without_the_roles_of_the_machine(deployed: Deployment, tmp_path: Path) -> None:
    with without(deployed, MACHINE.values()):
        expect_exactly(failing(deployed, tmp_path), of(*MACHINE) - LATER | ALWAYS)


def test_without_the_doors_and_the_stack(deployed: Deployment, tmp_path: Path) -> None:
    project = yaml.safe_load(deployed.host.run(["cat", COMPOSE_FILE]).stdout)
    deployed.host.run(["tee", WEAK_FILE], stdin=yaml.safe_dump(weakened(project)))
    # The stack first: what is stopped must stay so.
    with without(deployed, reversed(DOORS.values())):
        expect_exactly(failing(deployed, tmp_path), of(*DOORS) | ALWAYS | WITH_THE_DOORS)


def test_without_the_applications(deployed: Deployment, tmp_path: Path) -> None:
    with without(deployed, APPLICATIONS.values()):
        expected = of(*APPLICATIONS) | ALWAYS | WITH_THE_APPLICATIONS
        expect_exactly(failing(deployed, tmp_path), expected)


def weakened(project: dict[str, Any]) -> dict[str, Any]:
    """The Compose project with what people copy from the web, each in a service that bears it."""
    services = project["services"]
    homepage, jellyfin = services["homepage"], services["jellyfin"]
    bazarr, postgres = services["bazarr"], services["postgres"]
    for key in ("mem_limit", "memswap_limit", "cpus", "pids_limit", "cap_drop"):
        del homepage[key]
    homepage |= {
        "healthcheck": {"disable": True},
        **{"image": "stray:1", "user": "0:0", "privileged": True, "read_only": False},
        "security_opt": ["no-new-privileges:false", "seccomp:unconfined"],
        **{"restart": "no", "ports": ["8088:3000"], "devices": ["/dev/zero:/dev/zero"]},
        "environment": {**homepage["environment"], "API_PASSWORD": "hunter2"},
    }
    binds = ("/run/docker.sock:/mnt/api", "/etc:/mnt/etc:ro", "/opt/nexus/data/seerr/config:/mnt/s")
    homepage["volumes"] += binds
    jellyfin["healthcheck"] = {"disable": True}
    jellyfin["volumes"] = [
        {**volume, "read_only": False}
        for volume in jellyfin["volumes"]
        if volume["target"] != "/cache"
    ]
    jellyfin["volumes"].append("/opt/nexus/data/jellyfin/library/log:/media/log")
    owner = f"uid={jellyfin['user'].partition(':')[0]}"
    jellyfin["tmpfs"] = ["/tmp", f"/transcode:{owner}", f"/cache:{owner}"]
    jellyfin["logging"] = {"driver": "json-file"}
    del bazarr["networks"]
    bazarr["network_mode"] = "bridge"
    bazarr["volumes"] = [v for v in bazarr["volumes"] if v["target"] != "/config"]
    bazarr["tmpfs"].append(f"/config:uid={bazarr['user'].partition(':')[0]}")
    del postgres["environment"]["POSTGRES_INITDB_ARGS"]
    return project
