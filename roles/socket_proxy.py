"""The Docker socket's only holder: an allowlist a consumer, the rest refused.

CIS Docker Benchmark 5.32: no other container mounts the socket.
"""

from __future__ import annotations

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context
from roles.core.model import Desired
from roles.core.operations import Plan, converge
from roles.stack.networks import link

ROLE = "socket-proxy"


def desired(context: Context) -> Desired:
    """HAProxy's configuration, derived from each service's `docker_api`."""
    stack = context.stack
    consumers = [
        {
            "name": service.name,
            "id": service.name.replace("-", "_"),
            "subnet": stack.segments[link(service)].subnet,
            "allowed": service.docker_api,
        }
        for service in stack.services
        if service.docker_api
    ]
    service = stack.service(ROLE)
    config = context.template(f"{ROLE}/haproxy.cfg", consumers=consumers)
    return Desired(
        ROLE, (*context.belongings(service), *context.config(service, {"haproxy.cfg": config}))
    )


@pyinfra_deploy("Socket proxy")
def deploy(plan: Plan) -> None:
    """Its container starts with the stack."""
    converge(name="allowlists", plan=plan, role=ROLE)
