"""Bazarr: its own login, its key, and the way to Sonarr and Radarr, all in its own file.

It has no other way to take them (bazarr/app/config.py). Its password is stored as MD5 there, so it
must be long and random: a file that only Bazarr and root read holds it, and the portal is before
it.
"""

from __future__ import annotations

import hashlib

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context
from roles.core import libyaml
from roles.core.model import Desired, Directory, Settings
from roles.core.operations import Plan, converge
from roles.stack.stack import PROJECT, data_folder

ROLE = "bazarr"
Value = str | int | bool


def desired(context: Context) -> Desired:
    """It connects to Sonarr and Radarr with their keys, so it restarts when one changes."""
    service = context.stack.service(ROLE)
    owner = str(service.uid)
    folder = f"{data_folder(service, 'config')}/config"
    entries = {
        **{f"auth/{name}": value for name, value in _login(context).items()},
        # The image brings updates.
        "general/auto_update": False,
        **_others(context),
    }
    return Desired(
        ROLE,
        (
            *context.belongings(service),
            Directory(folder, "0700", owner, owner),
            Settings(
                f"{folder}/config.yaml",
                "yaml",
                tuple((name, _scalar(value)) for name, value in entries.items()),
                owner,
                owner,
                f"{PROJECT}-{ROLE}-1",
            ),
        ),
    )


def _login(context: Context) -> dict[str, Value]:
    password = context.secrets["bazarr_password"].reveal()
    return {
        "type": "form",
        "username": context.site.admin,
        # The form that check_credentials() compares with (bazarr/utilities/helper.py).
        "password": hashlib.md5(password.encode(), usedforsecurity=False).hexdigest(),
        "apikey": context.secrets["bazarr_api_key"].reveal(),
    }


def _others(context: Context) -> dict[str, Value]:
    present = {service.name: service for service in context.stack.services}
    found: dict[str, Value] = {}
    for name in ("sonarr", "radarr"):
        found[f"general/use_{name}"] = name in present
        if name not in present:
            continue
        route = present[name].route
        assert route
        found |= {
            f"{name}/ip": name,
            f"{name}/port": route.port,
            f"{name}/base_url": "/",
            f"{name}/ssl": False,
            f"{name}/apikey": context.secrets[f"{name}_api_key"].reveal(),
        }
    return found


def _scalar(value: Value) -> str:
    """As Bazarr's own writer puts it, or the entry would look changed after its next start."""
    return libyaml.dump(value).splitlines()[0]


@pyinfra_deploy("Bazarr")
def deploy(plan: Plan) -> None:
    """Its container starts with the stack."""
    converge(name="login and connections", plan=plan, role=ROLE)
