"""Docker Engine with a daemon configuration that narrows what a container may do by default.

What is done to containers and images is written to the journal, which nobody needs the socket for.

CIS Docker Benchmark 2.1 (inter-container traffic), 2.13 (live restore), 2.14 (no new privileges),
2.17 (logging); the socket's group has no members.
"""

from __future__ import annotations

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context
from roles.core.model import (
    Absent,
    AbsentPackage,
    Check,
    Desired,
    Directory,
    Group,
    Handler,
    Notice,
    Package,
    Unit,
    paths,
)
from roles.core.operations import Plan, converge
from roles.site.schema import SiteError
from roles.stack.networks import SOCKET_PROXY

ROLE = "docker"
EVENTS_UNIT = "nexus-docker-events.service"
EVENTS_PROGRAM = "/usr/local/lib/nexus/docker-events"
# What is done to containers, images, networks and volumes, and how a container ends or feels. Not
# exec_create and its kin: each health check is one, and their arguments may hold secrets.
EVENTS = (
    *("attach", "commit", "copy", "create", "destroy", "die", "export", "health_status", "kill"),
    *("oom", "pause", "rename", "restart", "start", "stop", "unpause", "update"),
    *("delete", "import", "load", "prune", "pull", "push", "save", "tag", "untag"),
    *("connect", "disconnect", "remove", "mount", "unmount", "reload", "enable", "disable"),
)
SOCKET = "docker.socket"
DAEMON_FILE = "/etc/docker/daemon.json"
# A number of our own where the group does not exist yet: the socket proxy's group must be known
# before the engine is installed.
DEFAULT_GID = 8800
# The engine in each release that this project knows. Debian 12 has none with Compose v2.
FROM_DISTRIBUTION = {
    "debian bookworm": (),
    "debian trixie": ("docker.io", "docker-cli", "docker-compose"),
    "ubuntu noble": ("docker.io", "docker-compose-v2"),
}
# Nothing is built on the host, so buildx is left out.
FROM_DOCKER = ("docker-ce", "docker-ce-cli", "containerd.io", "docker-compose-plugin")
EXTRAS_FROM_DOCKER = ("docker-buildx-plugin", "docker-ce-rootless-extras", "docker-model-plugin")
ENGINES = ("docker-ce", "docker.io")
# Debian's removed package leaves it behind, and a later purge runs it on all images and volumes.
TIME_BOMB = "/var/lib/docker/nuke-graph-directory.sh"
# What must go for either source. Some of these write the same files without a declared conflict.
RIVALS = {
    "distribution": (*FROM_DOCKER, *EXTRAS_FROM_DOCKER),
    "docker": (
        *("containerd", "docker-buildx", "docker-cli", "docker-compose", "docker-compose-v2"),
        *("docker.io", "podman-docker", "runc"),
    ),
}


def docker_gid(context: Context) -> int:
    """The group of the Docker socket."""
    return context.facts.docker_gid or DEFAULT_GID


def packages(context: Context) -> tuple[str, ...]:
    """The engine, its command line and Compose v2.

    Raises:
        SiteError: the distribution has no Compose v2.
    """
    if context.site.docker.source == "docker":
        return FROM_DOCKER
    names = FROM_DISTRIBUTION[context.facts.release]
    if not names:
        raise SiteError(
            [
                f"site.docker.source: 'distribution' has no Compose v2 in {context.facts.release}; "
                "write docker"
            ]
        )
    return names


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
    events = (
        context.file(ROLE, EVENTS_PROGRAM, "0755", events=EVENTS),
        context.file(ROLE, f"/etc/systemd/system/{EVENTS_UNIT}", program=EVENTS_PROGRAM),
    )
    return Desired(
        ROLE,
        (
            Group("docker", docker_gid(context)),
            *(Package(name) for name in packages(context)),
            *(AbsentPackage(name) for name in RIVALS[context.site.docker.source]),
            Directory("/etc/docker", "0755"),
            context.file(ROLE, DAEMON_FILE, daemon=daemon),
            *events,
            Absent(TIME_BOMB),
            Unit(SOCKET, enabled=None),
            # The scripts of the package that comes start the engine, but fail silently.
            Unit("docker.service", restart_on=(DAEMON_FILE, SOCKET, *ENGINES)),
            Unit(EVENTS_UNIT, restart_on=paths(events)),
        ),
        checks=(
            Check(("dockerd", "--validate", "--config-file", f"{{{DAEMON_FILE}}}"), (DAEMON_FILE,)),
        ),
        handlers=(
            Handler("keep-data", ("rm", "-f", TIME_BOMB), on=ENGINES),
            # Ubuntu's removed package leaves a dead socket, with which no engine could start.
            Handler("old-socket", ("systemctl", "stop", SOCKET), on=ENGINES),
        ),
        # Its container holds the socket that went.
        notices=(Notice("stack", SOCKET_PROXY, (SOCKET, *ENGINES)),),
    )


@pyinfra_deploy("Docker")
def deploy(plan: Plan) -> None:
    """The engine comes after the firewall, so that no port is ever published unfiltered."""
    converge(name="engine and daemon settings", plan=plan, role=ROLE)
