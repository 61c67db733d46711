"""Authelia's session store: internal network only, a password, no dangerous commands."""

from __future__ import annotations

import hashlib

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context
from roles.core.model import Desired
from roles.core.operations import Plan, converge

ROLE = "valkey"


def desired(context: Context) -> Desired:
    """The program reads its password from its configuration only, so that file is a secret."""
    service = context.stack.service(ROLE)
    password = context.secrets["valkey_password"].reveal()
    config = context.template(f"{ROLE}/valkey.conf", password=password, monitor=_monitor(context))
    return Desired(
        ROLE, (*context.belongings(service), *context.config(service, {"valkey.conf": config}))
    )


def _monitor(context: Context) -> str:
    """What the server keeps of the monitoring's password (ACL SETUSER), if there is one."""
    password = context.secrets.get("valkey_monitor_password")
    return hashlib.sha256(password.reveal().encode()).hexdigest() if password else ""


@pyinfra_deploy("Valkey")
def deploy(plan: Plan) -> None:
    """Its container starts with the stack."""
    converge(name="configuration", plan=plan, role=ROLE)
