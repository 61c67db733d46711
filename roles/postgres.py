"""Authelia's database: on the internal network only, password by file, SCRAM (RFC 5802)."""

from __future__ import annotations

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context
from roles.core.model import Desired, File, Notice
from roles.core.operations import Plan, converge
from roles.stack.stack import PROJECT, secret_file

ROLE = "postgres"
SET_PASSWORD = "/usr/local/lib/nexus/postgres-set-password"  # noqa: S105 - a program's path


def desired(context: Context) -> Desired:
    """Its folders and its password; the image reads the password at the first start only."""
    service = context.stack.service(ROLE)
    secret = secret_file(service, "postgres_password")
    script = context.template(
        f"{ROLE}/set-password", container=f"{PROJECT}-{ROLE}-1", secret=secret
    )
    return Desired(
        ROLE,
        (*context.belongings(service), File(SET_PASSWORD, script, "0700")),
        notices=(Notice("stack", "postgres-password", (secret,)),),
    )


@pyinfra_deploy("PostgreSQL")
def deploy(plan: Plan) -> None:
    """Its container starts with the stack."""
    converge(name="folders and password", plan=plan, role=ROLE)
