"""The media server: own accounts (its apps cannot follow a login page), known proxy, first account.

An unfinished set-up wizard belongs to whoever finds it first, so the deploy completes it.
"""

from __future__ import annotations

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context
from roles.core.model import Desired, Directory, File, Notice
from roles.core.operations import Plan, converge
from roles.stack.stack import data_folder, secret_file

ROLE = "jellyfin"
SETUP = "/usr/local/lib/nexus/jellyfin-setup"
PASSWORD = "jellyfin_admin_password"  # noqa: S105 - the name of a vault entry


def desired(context: Context) -> Desired:
    """Its network settings stand among its data: the program writes other files beside them."""
    stack = context.stack
    service = stack.service(ROLE)
    owner = str(service.uid)
    folder = f"{data_folder(service, 'library')}/config"
    network = context.template(
        f"{ROLE}/network.xml",
        proxy_address=stack.address("traefik", "media"),
        hostname=stack.hostname(service),
    )
    script = context.template(
        f"{ROLE}/setup",
        address=stack.address(ROLE, "media"),
        secret=secret_file(service, PASSWORD),
    )
    return Desired(
        ROLE,
        (
            *context.belongings(service),
            *context.secret_files(service, (PASSWORD,)),
            Directory(folder, "0700", owner, owner),
            File(f"{folder}/network.xml", network, "0600", owner, owner),
            File(SETUP, script, "0700"),
        ),
        # A new password, or a library folder that is new and so has an open wizard.
        notices=(
            Notice(
                "stack",
                "jellyfin-setup",
                (secret_file(service, PASSWORD), data_folder(service, "library")),
            ),
        ),
    )


@pyinfra_deploy("Jellyfin")
def deploy(plan: Plan) -> None:
    """Its container starts with the stack."""
    converge(name="network settings and first account", plan=plan, role=ROLE)
