"""The Compose project: one file derived from the declarations, and containers that run as it says.

CIS Docker Benchmark 5.4 (capabilities), 5.11-5.13 (limits, read-only root), 5.26 (no new
privileges), 5.29 (pids).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context
from roles.core.model import Check, Desired, File, Handler, Notice, Settings, Stack, paths
from roles.core.operations import Plan, converge
from roles.docker import docker_gid
from roles.stack.compose import FINGERPRINT, compose, containers, definitions
from roles.stack.service import CONFIG, DATA, Service
from roles.stack.stack import COMPOSE_FILE, PROJECT, config_folder, secret_file
from roles.stack.stack import Stack as Composed

ROLE = "stack"


def desired(context: Context, roles: Sequence[Desired]) -> Desired:
    """The Compose file, and a container for each service in it."""
    stack = context.stack
    inputs = {service.name: _inputs(service, roles) for service in stack.services}
    services = definitions(stack, inputs, docker_gid(context))
    handlers = [
        Handler(handler.name, handler.argv, last=handler.last)
        for role in roles
        for handler in role.handed_on
    ]
    return Desired(
        ROLE,
        (
            File(COMPOSE_FILE, compose(stack, services).encode(), "0640"),
            Stack(PROJECT, COMPOSE_FILE, FINGERPRINT, containers(stack, services)),
        ),
        checks=(
            Check(
                ("docker", "compose", "-f", f"{{{COMPOSE_FILE}}}", "config", "-q"), (COMPOSE_FILE,)
            ),
        ),
        handlers=tuple(handlers),
    )


def announcing(stack: Composed, role: Desired) -> Desired:
    """A role that also has containers recreated where an input file of theirs was wrong.

    What it hands on is due where one of that handler's own paths was.
    The fingerprint tells a changed declaration; it cannot tell that a file was altered on the host,
    read by the service, and is right again.
    """
    notices = [
        Notice(ROLE, service.name, found)
        for service in stack.services
        if (found := paths(_inputs(service, [role])))
    ]
    notices += [Notice(ROLE, handler.name, handler.on) for handler in role.handed_on]
    return replace(role, notices=(*role.notices, *notices))


def _inputs(service: Service, roles: Iterable[Desired]) -> list[File | Settings]:
    """A service's own files that it does not notice by itself when they change."""
    own = tuple(f"{folder}/{service.name}/" for folder in (CONFIG, DATA))
    # A secret that only a script of the host reads is none of the container's.
    mounted = {secret_file(service, name) for name in service.secrets}
    live = tuple(f"{config_folder(service)}/{name}" for name in service.reloads)
    return [
        resource
        for role in roles
        for resource in role.resources
        if isinstance(resource, File | Settings)
        and (
            resource.path in mounted
            or (resource.path.startswith(own) and not resource.path.startswith(live))
        )
    ]


@pyinfra_deploy("Stack")
def deploy(plan: Plan) -> None:
    """Only services whose own inputs changed are recreated."""
    converge(name="containers", plan=plan, role=ROLE)
