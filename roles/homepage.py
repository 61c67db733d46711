"""The start page: one tile a service, its state from the socket proxy."""

from __future__ import annotations

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context
from roles.core.model import Desired, Directory
from roles.core.operations import Plan, converge
from roles.stack.service import Service
from roles.stack.stack import config_folder

ROLE = "homepage"
FILES = (
    "settings.yaml",
    "services.yaml",
    "widgets.yaml",
    "bookmarks.yaml",
    "docker.yaml",
    "kubernetes.yaml",
    "proxmox.yaml",
    "custom.css",
    "custom.js",
)


def desired(context: Context) -> Desired:
    """Every file it would otherwise write itself, so that its folder can be read-only."""
    service = context.stack.service(ROLE)
    groups: dict[str, list[Service]] = {}
    for other in context.stack.services:
        if other.tile:
            groups.setdefault(other.tile.group, []).append(other)
    files = {
        name: context.template(f"{ROLE}/{name}", groups=sorted(groups.items())) for name in FILES
    }
    logs = Directory(f"{config_folder(service)}/logs", "0750", "root", str(service.uid))
    return Desired(ROLE, (*context.belongings(service), *context.config(service, files), logs))


@pyinfra_deploy("Homepage")
def deploy(plan: Plan) -> None:
    """Its container starts with the stack."""
    converge(name="tiles", plan=plan, role=ROLE)
