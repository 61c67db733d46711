"""Whom a failed unit tells: the journal always, and the operator by mail, ntfy or a webhook.

A backup that fails in silence is found out when it is needed.
"""

from __future__ import annotations

import json
from typing import Any

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context
from roles.core.model import Desired, Directory, File
from roles.core.operations import Plan, converge
from roles.stack.service import SECRETS

ROLE = "notify"
PROGRAM = "/usr/local/lib/nexus/notify"
SETTINGS = f"{SECRETS}/{ROLE}/channels.json"


def desired(context: Context) -> Desired:
    """The unit that others name in OnFailure=, its program, and what opens the channels."""
    unit = "/etc/systemd/system/nexus-failed@.service"
    channels = json.dumps(_channels(context), indent=1).encode()
    return Desired(
        ROLE,
        (
            Directory(f"{SECRETS}/{ROLE}", "0700", purge=True),
            File(SETTINGS, channels, "0400", secret=True),
            context.file(ROLE, PROGRAM, "0755"),
            context.file(ROLE, unit, program=PROGRAM, settings=SETTINGS),
        ),
    )


def _channels(context: Context) -> dict[str, Any]:
    notify = context.site.notify

    def value(entry: str | None) -> str:
        return context.secrets[entry].reveal() if entry else ""

    mail, ntfy, webhook = notify.mail, notify.ntfy, notify.webhook
    opened = {"user": value(mail.user), "password": value(mail.password)} if mail else {}
    return {
        "ca_certificate": notify.ca_certificate or "",
        "mail": {**mail.model_dump(), **opened} if mail else None,
        "ntfy": {"address": ntfy.address, "token": value(ntfy.token)} if ntfy else None,
        "webhook": {"address": value(webhook)} if webhook else None,
    }


@pyinfra_deploy("Notify")
def deploy(plan: Plan) -> None:
    """Before whatever may fail."""
    converge(name="channels for failures", plan=plan, role=ROLE)
