"""The Compose project: one file derived from the declarations, and containers that run as it says.

CIS Docker Benchmark 5.4 (capabilities), 5.11-5.13 (limits, read-only root), 5.26 (no new
privileges), 5.29 (pids).
"""

from __future__ import annotations

from collections.abc import Sequence

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context
from roles.core.model import Check, Desired, File, Handler, Stack
from roles.core.operations import Plan, converge
from roles.docker import docker_gid
from roles.jellyfin import SETUP
from roles.postgres import SET_PASSWORD
from roles.stack.compose import compose, containers
from roles.stack.service import Service
from roles.stack.stack import COMPOSE_FILE, PROJECT, config_folder

ROLE = "stack"


def desired(context: Context, roles: Sequence[Desired]) -> Desired:
    """The Compose file carries a fingerprint of the files that each service reads at its start."""
    stack = context.stack
    fingerprints = {
        service.name: stack.fingerprint(_inputs(service, roles)) for service in stack.services
    }
    text = compose(stack, fingerprints, docker_gid(context))
    present = {service.name for service in stack.services}
    handlers = (
        ("postgres", Handler("postgres-password", (SET_PASSWORD,), last=True)),
        ("jellyfin", Handler("jellyfin-setup", (SETUP,), last=True)),
    )
    return Desired(
        ROLE,
        (
            File(COMPOSE_FILE, text.encode(), "0640"),
            Stack(PROJECT, COMPOSE_FILE, containers(stack)),
        ),
        checks=(
            Check(
                ("docker", "compose", "-f", f"{{{COMPOSE_FILE}}}", "config", "-q"), (COMPOSE_FILE,)
            ),
        ),
        handlers=tuple(handler for service, handler in handlers if service in present),
    )


def _inputs(service: Service, roles: Sequence[Desired]) -> list[File]:
    """The files of a service's own role that it does not notice by itself when they change."""
    live = tuple(f"{config_folder(service)}/{name}" for name in service.reloads)
    return [
        file
        for role in roles
        if role.role == service.name
        for file in role.of(File)
        if not file.path.startswith("/usr/local/") and not file.path.startswith(live or ("\0",))
    ]


@pyinfra_deploy("Stack")
def deploy(plan: Plan) -> None:
    """Only services whose own inputs changed are recreated."""
    converge(name="containers", plan=plan, role=ROLE)
