"""Authelia's session store: internal network only, a password, no dangerous commands."""

from __future__ import annotations

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context
from roles.core.model import Desired
from roles.core.operations import Plan, converge

ROLE = "valkey"


def desired(context: Context) -> Desired:
    """The program reads its password from its configuration only, so that file is a secret."""
    service = context.stack.service(ROLE)
    password = context.secrets["valkey_password"].reveal()
    config = context.template(f"{ROLE}/valkey.conf", password=password)
    return Desired(
        ROLE, (*context.belongings(service), *context.config(service, {"valkey.conf": config}))
    )


@pyinfra_deploy("Valkey")
def deploy(plan: Plan) -> None:
    """Its container starts with the stack."""
    converge(name="configuration", plan=plan, role=ROLE)
