"""Exporters: they tell the figures of programs that do not, as users that can do nothing else."""

from __future__ import annotations

import json

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context
from roles.core.model import Desired, Resource
from roles.core.operations import Plan, converge

ROLE = "exporters"
SERVICES = ("node-exporter", "postgres-exporter", "valkey-exporter")


def desired(context: Context) -> Desired:
    """Accounts and secrets; one program takes its password from a file of its own form."""
    resources: list[Resource] = []
    for service in context.stack.services:
        if service.name in SERVICES:
            resources += context.belongings(service)
        if service.name == "valkey-exporter":
            password = context.secrets["valkey_monitor_password"].reveal()
            passwords = json.dumps({"redis://monitor@valkey:6379": password}).encode()
            resources += context.config(service, {"passwords.json": passwords})
    return Desired(ROLE, tuple(resources))


@pyinfra_deploy("Exporters")
def deploy(plan: Plan) -> None:
    """Their containers start with the stack."""
    converge(name="accounts and passwords", plan=plan, role=ROLE)
