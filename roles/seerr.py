"""Seerr: its set-up done over its API, with Jellyfin's administrator.

Until then the first to sign in owns it. Its settings name this site's Jellyfin before it starts for
the first time, so that whoever comes earlier can be none but an administrator of that one
(server/routes/auth.ts).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles import servarr
from roles.context import Context, setup_file
from roles.core.model import Desired, File, Handler, Settings, paths
from roles.core.operations import Plan, converge
from roles.stack.stack import PROJECT, data_folder

ROLE = "seerr"
KEY = "seerr_api_key"
PASSWORD = "jellyfin_admin_password"  # noqa: S105 - the name of a vault entry
# Its number among the media servers (server/constants/server.ts).
JELLYFIN = 2
SETUP = "/usr/local/lib/nexus/seerr-setup"
DECLARATION = f"{SETUP}.json"
# What each kind of server must be told besides (seerr-api.yml).
SERVERS: dict[str, dict[str, Any]] = {
    "sonarr": {"enableSeasonFolders": True},
    "radarr": {"minimumAvailability": "released"},
}


def desired(context: Context) -> Desired:
    """Its key stands in its file; the rest it is told over its API."""
    service = context.stack.service(ROLE)
    owner = str(service.uid)
    folder = data_folder(service, "config")
    servers = list(_servers(context))
    secrets = [KEY, PASSWORD, *(f"{server['kind']}_api_key" for server in servers)]
    jellyfin = {"ip": "jellyfin", "port": _port(context, "jellyfin"), "useSsl": False}
    declaration = {
        "url": f"http://{context.stack.address(ROLE, 'media')}:{_port(context, ROLE)}/api/v1",
        "key": setup_file(ROLE, KEY),
        "login": {"username": context.site.admin, "email": context.site.email},
        "jellyfin": jellyfin,
        "type": JELLYFIN,
        "password": setup_file(ROLE, PASSWORD),
        "servers": servers,
        "gone": list(_gone({server["kind"] for server in servers})),
    }
    entries = {
        "main/apiKey": context.secrets[KEY].reveal(),
        "main/mediaServerType": JELLYFIN,
        **{f"jellyfin/{name}": value for name, value in jellyfin.items()},
        "main/applicationUrl": f"https://{context.stack.hostname(service)}",
        # Only the reverse proxy reaches it, and that writes the header itself.
        "network/trustProxy": True,
    }
    resources = (
        *context.belongings(service),
        Settings(
            f"{folder}/settings.json",
            "json",
            tuple((name, json.dumps(value)) for name, value in entries.items()),
            owner,
            owner,
            f"{PROJECT}-{ROLE}-1",
        ),
        *context.setup_files(ROLE, secrets),
        File(DECLARATION, (json.dumps(declaration, indent=2) + "\n").encode(), "0600"),
        File(SETUP, context.template(f"{ROLE}/setup", declaration=DECLARATION), "0700"),
    )
    # With its settings gone it is a wizard again, open to the first who comes.
    inputs = (*paths(resources), folder)
    return Desired(
        ROLE, resources, handed_on=(Handler("seerr-setup", (SETUP,), inputs, last=True),)
    )


def _servers(context: Context) -> Iterator[dict[str, Any]]:
    """The applications that take its wishes, where there is a folder to file them in."""
    for application in servarr.served(context.stack.services):
        if application.service in SERVERS and servarr.folders(context, application):
            yield {
                "kind": application.service,
                "key": setup_file(ROLE, f"{application.service}_api_key"),
                "connection": {
                    "hostname": application.service,
                    "port": _port(context, application.service),
                    "useSsl": False,
                    "baseUrl": "",
                },
                "new": {
                    "name": application.label,
                    "is4k": False,
                    "isDefault": True,
                    "syncEnabled": True,
                    "preventSearch": False,
                    **SERVERS[application.service],
                },
            }


def _gone(served: Collection[str]) -> Iterator[dict[str, str]]:
    """What an earlier deploy may have introduced, under this name and with this address."""
    for each in servarr.APPLICATIONS:
        if each.service in SERVERS and each.service not in served:
            yield {"kind": each.service, "name": each.label, "hostname": each.service}


def _port(context: Context, name: str) -> int:
    route = context.stack.service(name).route
    assert route
    return route.port


@pyinfra_deploy("Seerr")
def deploy(plan: Plan) -> None:
    """Its container starts with the stack; then its set-up is completed."""
    converge(name="settings and set-up", plan=plan, role=ROLE)
