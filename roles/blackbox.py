"""The prober: every route is asked as a browser would ask it, certificate and all."""

from __future__ import annotations

from typing import Any

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context
from roles.core import libyaml
from roles.core.model import Desired
from roles.core.operations import Plan, converge

ROLE = "blackbox"
FOLDER = "/etc/blackbox_exporter"
# Seconds; who waits longer has gone away.
PATIENCE = 10
# A page, a way to one, or a login that is asked for; neither "not found" nor an error.
GOOD = (200, 204, 301, 302, 303, 307, 308, 401)


def desired(context: Context) -> Desired:
    """How it asks, and whom it trusts."""
    service = context.stack.service(ROLE)
    files = {"config.yml": libyaml.dump(configuration(context)).encode()}
    if context.authority:
        files["authority.pem"] = context.authority.encode()
    return Desired(ROLE, (*context.belongings(service), *context.config(service, files)))


def configuration(context: Context) -> dict[str, Any]:
    """What config.yml says
    (https://github.com/prometheus/blackbox_exporter/blob/master/CONFIGURATION.md)."""
    http: dict[str, Any] = {
        "preferred_ip_protocol": "ip4",
        "follow_redirects": False,
        "fail_if_not_ssl": True,
        "valid_status_codes": list(GOOD),
        "headers": {"Accept": "text/html"},
    }
    if context.authority:
        http["tls_config"] = {"ca_file": f"{FOLDER}/authority.pem"}
    return {"modules": {"route": {"prober": "http", "timeout": f"{PATIENCE}s", "http": http}}}


@pyinfra_deploy("Blackbox")
def deploy(plan: Plan) -> None:
    """Its container starts with the stack."""
    converge(name="how routes are asked", plan=plan, role=ROLE)
