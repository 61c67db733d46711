"""Five segments instead of one flat network; internal ones have no way out.

CIS Docker Benchmark 5.30: no container uses the default bridge.
"""

from __future__ import annotations

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context
from roles.core.model import Desired, Network
from roles.core.operations import Plan, converge

ROLE = "networks"


def desired(context: Context) -> Desired:
    """The site's segments and the private links to the Docker API."""
    return Desired(
        ROLE,
        tuple(
            Network(
                segment.docker_name,
                tuple(subnet for subnet in (segment.subnet, segment.subnet6) if subnet),
                segment.internal,
                segment.bridge,
            )
            for segment in context.stack.segments.values()
        ),
    )


@pyinfra_deploy("Networks")
def deploy(plan: Plan) -> None:
    """Before the containers that live in them."""
    converge(name="segments and private links", plan=plan, role=ROLE)
