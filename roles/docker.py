"""Docker Engine with a daemon configuration that narrows what a container may do by default.

CIS Docker Benchmark 2.1 (inter-container traffic), 2.13 (live restore), 2.14 (no new privileges),
2.17 (logging); the socket's group has no members.
"""

from __future__ import annotations

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context
from roles.core.model import Check, Desired, Directory, Group, Package, Unit
from roles.core.operations import Plan, converge

ROLE = "docker"
DAEMON_FILE = "/etc/docker/daemon.json"
# A number of our own where the group does not exist yet: the socket proxy's group must be known
# before the engine is installed.
DEFAULT_GID = 8800
# Debian 13 and Ubuntu 24.04 call Compose v2 differently.
PACKAGES = {
    "debian": ("docker.io", "docker-cli", "docker-compose"),
    "ubuntu": ("docker.io", "docker-compose-v2"),
}


def docker_gid(context: Context) -> int:
    """The group of the Docker socket."""
    return context.facts.docker_gid or DEFAULT_GID


def desired(context: Context) -> Desired:
    """The engine, its configuration, and its group."""
    daemon = {
        "icc": False,
        "ip6tables": True,
        "experimental": True,  # ip6tables needs it before Docker 27
        "live-restore": True,
        "log-driver": "json-file",
        "log-opts": {"max-size": "10m", "max-file": "3"},
        "no-new-privileges": True,
        "userland-proxy": False,
    }
    return Desired(
        ROLE,
        (
            Group("docker", context.facts.docker_gid or DEFAULT_GID),
            *(Package(name) for name in PACKAGES[context.facts.distribution]),
            Directory("/etc/docker", "0755"),
            context.file(ROLE, DAEMON_FILE, daemon=daemon),
            Unit("docker.service", restart_on=(DAEMON_FILE,)),
        ),
        checks=(
            Check(("dockerd", "--validate", "--config-file", f"{{{DAEMON_FILE}}}"), (DAEMON_FILE,)),
        ),
    )


@pyinfra_deploy("Docker")
def deploy(plan: Plan) -> None:
    """The engine comes after the firewall, so that no port is ever published unfiltered."""
    converge(name="engine and daemon settings", plan=plan, role=ROLE)
