"""The old stack on a host makes room for the new one, and nothing of its data is touched.

It goes in two steps: stopped when the new stack needs its ports, removed once that one is healthy.
Removed are containers (`docker inspect` shows the passwords in their environment) and networks;
Compose and .env files become root's alone. A container that nobody has named and that is in the way
ends the run before it changes anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context, Running
from roles.core.model import Desired, Retired
from roles.core.operations import Plan, converge
from roles.core.state import LIVE
from roles.site.schema import SiteError
from roles.stack.stack import COMPOSE_FILE, PROJECT, Stack

ROLE = "predecessor"
REMAINS = "remains"


def desired(context: Context) -> Desired:
    """Stopped, before the new stack needs the ports."""
    return Desired(ROLE, tuple(Retired(project) for project in context.site.replaces))


def remains(context: Context) -> Desired:
    """Removed, after the new stack has come up healthy."""
    return Desired(REMAINS, tuple(Retired(name, removed=True) for name in context.site.replaces))


def refuse(stack: Stack, containers: Sequence[Running]) -> None:
    """End the run where containers of others are in the way.

    Raises:
        SiteError: one line for each, with what to do about it.
    """
    problems = [*_of_our_name(containers), *_in_the_way(stack, containers)]
    if problems:
        raise SiteError(problems)


def _of_our_name(containers: Sequence[Running]) -> Iterator[str]:
    named = (c.file for c in containers if c.project == PROJECT)
    # Ours with another file on top is drift, which the run mends.
    files = {file for file in named if COMPOSE_FILE not in file.split(",")}
    for file in sorted(files):
        option = f" -f {file}" if file else ""
        yield (
            f"the host has another Compose project named {PROJECT} ({file or 'of no file'}), which "
            f"is the name of the new stack; take its containers down, which keeps volumes and "
            f"folders: docker compose -p {PROJECT}{option} down"
        )


def _in_the_way(stack: Stack, containers: Sequence[Running]) -> Iterator[str]:
    wanted = {(port.protocol, port.host) for service in stack.services for port in service.ports}
    for container in containers:
        if container.state not in LIVE or container.project in (PROJECT, *stack.site.replaces):
            continue
        holds = [f"port {port}" for kind, port in container.ports if (kind, port) in wanted]
        if container.socket:
            holds.append("the Docker socket, which is root on the host")
        if holds:
            yield (
                f"container {container.name} of the host holds {' and '.join(holds)}; "
                f"{_mend(container)}"
            )


def _mend(container: Running) -> str:
    if container.project:
        return (
            f'write site["replaces"] = ["{container.project}"] for its project to make room '
            "(its data stays), or stop it yourself"
        )
    return f"it is of no Compose project; stop it yourself: docker rm -f {container.name}"


@pyinfra_deploy("Predecessor")
def deploy(plan: Plan) -> None:
    """Its ports are free when the new stack starts."""
    converge(name="stop what is replaced", plan=plan, role=ROLE)


@pyinfra_deploy("Predecessor's remains")
def clear(plan: Plan) -> None:
    """The stack before this has come up, or the run has ended there."""
    converge(name="remove what was replaced", plan=plan, role=REMAINS)
