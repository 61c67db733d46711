"""The media server: own accounts (its apps cannot follow a login page), known proxy, first account.

An unfinished set-up wizard belongs to whoever finds it first, so the deploy completes it.
"""

from __future__ import annotations

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context
from roles.core.model import Desired, Directory, File, Handler, Settings
from roles.core.operations import Plan, converge
from roles.stack.service import Service
from roles.stack.stack import PROJECT, data_folder, secret_file

ROLE = "jellyfin"
TRANSCODE = "/transcode"
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
            Settings(
                f"{folder}/encoding.xml",
                "xml",
                tuple(encoding(service).items()),
                owner,
                owner,
                container=f"{PROJECT}-{ROLE}-1",
            ),
            File(SETUP, script, "0700"),
        ),
        # A new password, or a library folder that is new and so has an open wizard.
        handed_on=(
            Handler(
                "jellyfin-setup",
                (SETUP,),
                (secret_file(service, PASSWORD), data_folder(service, "library")),
                last=True,
            ),
        ),
    )


def encoding(service: Service) -> dict[str, str]:
    """How it transcodes: on the GPU where there is one, never onto the disk.

    Names: MediaBrowser.Model/Configuration/EncodingOptions.cs. Segments that were played go, so
    that the space in memory lasts for a whole film.
    """
    device = next((waiver.value for waiver in service.devices), "")
    gpu = {
        "HardwareAccelerationType": "qsv",
        "VaapiDevice": device,
        "QsvDevice": device,
        "EnableTonemapping": "true",
        "EnableVppTonemapping": "true",
    }
    values = {
        "TranscodingTempPath": TRANSCODE,
        "EnableThrottling": "true",
        "EnableSegmentDeletion": "true",
        "EnableHardwareEncoding": "true" if device else "false",
        **(gpu if device else {"HardwareAccelerationType": "none"}),
    }
    return {f"EncodingOptions/{name}": value for name, value in values.items()}


@pyinfra_deploy("Jellyfin")
def deploy(plan: Plan) -> None:
    """Its container starts with the stack."""
    converge(name="network settings and first account", plan=plan, role=ROLE)
