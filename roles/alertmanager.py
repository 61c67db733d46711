"""Alertmanager: alerts reach people by the channels of site.notify, bundled, and once.

And one goes out all the time, to a place elsewhere that complains when it stops (a dead man's
switch): no alarm on this host can tell that the host is gone.
"""

from __future__ import annotations

from typing import Any

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context
from roles.core import libyaml
from roles.core.model import Desired
from roles.core.operations import Plan, converge
from roles.prometheus.alerts import WATCHDOG
from roles.prometheus.times import seconds
from roles.site.schema import Mail

ROLE = "alertmanager"
FOLDER = "/etc/alertmanager"
PEOPLE, HEARTBEAT, NOBODY = "people", "heartbeat", "nobody"
# What explains the rest: whoever hears of the one need not hear of the others.
EXPLAINED = {
    "ContainerStopped": (
        ("ContainerUnhealthy", "TargetDown", "RouteDown", "RouteErrors", "ApplicationSilent"),
        "service",
    ),
    "ContainerUnhealthy": (("RouteDown", "RouteErrors", "TargetDown"), "service"),
    "DiskFull": (("DiskFilling",), "mountpoint"),
    "CertificateExpired": (("CertificateExpiring",), "hostname"),
}
# Seconds at a pace of 1: to gather what comes together, between two messages about one matter,
# until it is told again, and from one sign of life to the next.
GATHER, AGAIN, REPEAT, BEAT = 30, 300, 12 * 3600, 300
IMPLICIT_TLS = 465


def desired(context: Context) -> Desired:
    """Its configuration, and what opens the channels."""
    service = context.stack.service(ROLE)
    notify = context.site.notify
    files = {
        "alertmanager.yml": libyaml.dump(configuration(context)).encode(),
        "messages.tmpl": context.template(f"{ROLE}/messages.tmpl"),
    }
    if notify.ca_certificate:
        files["trust/own.pem"] = notify.ca_certificate.encode()
    return Desired(ROLE, (*context.belongings(service), *context.config(service, files)))


def configuration(context: Context) -> dict[str, Any]:
    """What alertmanager.yml says (https://prometheus.io/docs/alerting/latest/configuration/)."""
    pace = context.site.monitoring.pace
    beat = context.site.monitoring.heartbeat
    return {
        "templates": [f"{FOLDER}/messages.tmpl"],
        "route": {
            "receiver": PEOPLE,
            "group_by": ["alertname", "service"],
            "group_wait": seconds(GATHER, pace),
            "group_interval": seconds(AGAIN, pace),
            "repeat_interval": seconds(REPEAT, pace),
            "routes": [
                {
                    "matchers": [f'alertname="{WATCHDOG}"'],
                    "receiver": HEARTBEAT if beat else NOBODY,
                    "group_wait": seconds(1, pace),
                    "group_interval": seconds(BEAT, pace),
                    "repeat_interval": seconds(BEAT, pace),
                }
            ],
        },
        "inhibit_rules": [
            {
                "source_matchers": [f'alertname="{cause}"'],
                "target_matchers": [f'alertname=~"{"|".join(effects)}"'],
                "equal": [label],
            }
            for cause, (effects, label) in EXPLAINED.items()
        ],
        "receivers": [
            {"name": PEOPLE, **channels(context)},
            {"name": NOBODY},
            *([{"name": HEARTBEAT, "webhook_configs": [_beating(beat)]}] if beat else []),
        ],
    }


def _beating(entry: str) -> dict[str, Any]:
    return {"url_file": f"/run/secrets/{entry}", "send_resolved": False, "max_alerts": 1}


def channels(context: Context) -> dict[str, list[dict[str, Any]]]:
    """The receivers that site.notify names; what opens them is in files."""
    notify = context.site.notify
    found: dict[str, list[dict[str, Any]]] = {}
    if notify.mail:
        found["email_configs"] = [_mail(context, notify.mail)]
    if notify.ntfy:
        # The server writes the message (https://docs.ntfy.sh/publish/#message-templating).
        token = {"credentials_file": f"/run/secrets/{notify.ntfy.token}"}
        found["webhook_configs"] = [
            {
                "url": f"{notify.ntfy.address}?template=alertmanager",
                "send_resolved": True,
                **({"http_config": {"authorization": token}} if notify.ntfy.token else {}),
            }
        ]
    if notify.webhook:
        kind, address, words = {
            "json": ("webhook_configs", "url_file", {}),
            "slack": ("slack_configs", "api_url_file", _words("title", "text")),
            "discord": ("discord_configs", "webhook_url_file", _words("title", "message")),
        }[notify.webhook_speaks]
        said = {address: f"/run/secrets/{notify.webhook}", "send_resolved": True, **words}
        found.setdefault(kind, []).append(said)
    return found


def _words(title: str, text: str) -> dict[str, str]:
    return {title: '{{ template "nexus.title" . }}', text: '{{ template "nexus.text" . }}'}


def _mail(context: Context, mail: Mail) -> dict[str, Any]:
    implicit = mail.security == "tls"
    usual = mail.server.endswith(f":{IMPLICIT_TLS}")
    login = {}
    if mail.user and mail.password:
        login["auth_username"] = context.secrets[mail.user].reveal()
        login["auth_password_file"] = f"/run/secrets/{mail.password}"
    return {
        "to": mail.to,
        "from": mail.sender,
        "smarthost": mail.server,
        **login,
        "require_tls": not implicit,
        **({"force_implicit_tls": implicit} if implicit != usual else {}),
        "headers": {"Subject": '{{ template "nexus.title" . }}'},
        "html": "",
        "text": '{{ template "nexus.text" . }}',
        "send_resolved": True,
    }


@pyinfra_deploy("Alertmanager")
def deploy(plan: Plan) -> None:
    """Its container starts with the stack."""
    converge(name="channels and what is bundled", plan=plan, role=ROLE)
