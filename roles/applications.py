"""The services that need no role of their own, the operator's among them: accounts and folders."""

from __future__ import annotations

from collections.abc import Iterable

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context
from roles.core.model import Desired
from roles.core.operations import Plan, converge
from roles.stack.service import Service

ROLE = "applications"


def desired(context: Context, services: Iterable[Service]) -> Desired:
    """What every service has, for these."""
    resources = [resource for service in services for resource in context.belongings(service)]
    return Desired(ROLE, tuple(resources))


@pyinfra_deploy("Applications")
def deploy(plan: Plan) -> None:
    """Their containers start with the stack."""
    converge(name="accounts and folders", plan=plan, role=ROLE)
