"""Authelia's database: on the internal network only, password by file, SCRAM (RFC 5802)."""

from __future__ import annotations

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context, setup_file
from roles.core.model import Desired, File, Handler
from roles.core.operations import Plan, converge
from roles.stack.stack import PROJECT, secret_file

ROLE = "postgres"
MONITOR = "postgres_monitor_password"
SET_PASSWORD = "/usr/local/lib/nexus/postgres-set-password"  # noqa: S105 - a program's path


def desired(context: Context) -> Desired:
    """Its folders and its password; the image reads the password at the first start only."""
    service = context.stack.service(ROLE)
    secret = secret_file(service, "postgres_password")
    monitored = context.site.monitoring.enabled
    monitor = setup_file(ROLE, MONITOR) if monitored else ""
    script = context.template(
        f"{ROLE}/set-password", container=f"{PROJECT}-{ROLE}-1", secret=secret, monitor=monitor
    )
    causes = (secret, *([monitor] if monitor else []))
    return Desired(
        ROLE,
        (
            *context.belongings(service),
            *context.setup_files(ROLE, [MONITOR] if monitored else []),
            File(SET_PASSWORD, script, "0700"),
        ),
        # Before its readers start with a new password, and after the first start of all.
        handed_on=(
            Handler("postgres-password-first", (SET_PASSWORD, "if-running"), causes),
            Handler("postgres-password", (SET_PASSWORD,), causes, last=True),
        ),
    )


@pyinfra_deploy("PostgreSQL")
def deploy(plan: Plan) -> None:
    """Its container starts with the stack."""
    converge(name="folders and password", plan=plan, role=ROLE)
