"""Single sign-on with a second factor; what no rule allows is denied."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context
from roles.core.model import Desired, File, Handler
from roles.core.operations import Plan, converge
from roles.stack.credentials import login
from roles.stack.openid import client_secret
from roles.stack.stack import PROJECT, Stack, config_folder, secret_file

ROLE = "authelia"
END_SESSIONS = "/usr/local/lib/nexus/authelia-end-sessions"
GROUPS = {"two_factor": "admins", "one_factor": "users"}


def desired(context: Context) -> Desired:
    """Configuration and accounts; the access rules follow from the routes."""
    stack = context.stack
    service = stack.service(ROLE)
    landing = next((s for s in stack.routed() if s.name == "homepage"), None)
    files = {
        "configuration.yml": context.template(
            f"{ROLE}/configuration.yml",
            portal=stack.hostname(service),
            landing=stack.hostname(landing) if landing else "",
            rules=access_rules(stack),
            clients=openid_clients(context),
            metrics=service.metrics,
        ),
        "users_database.yml": context.template(
            f"{ROLE}/users_database.yml", accounts=list(accounts(context))
        ),
    }
    script = context.template(
        f"{ROLE}/end-sessions",
        container=f"{PROJECT}-valkey-1",
        secret=secret_file(service, "valkey_password"),
    )
    database = f"{config_folder(service)}/users_database.yml"
    return Desired(
        ROLE,
        (
            *context.belongings(service),
            *context.config(service, files),
            File(END_SESSIONS, script, "0700"),
        ),
        # Authelia takes a new password by itself, but lets in whoever logged in with the old one.
        handed_on=(Handler("end-sessions", (END_SESSIONS,), (database,), last=True),),
    )


def accounts(context: Context) -> Iterator[dict[str, Any]]:
    """Who may log in, as what, and the hash of each password."""
    site, everybody = context.site, [GROUPS["one_factor"]]
    people = [(name, email, login(name), everybody) for name, email in sorted(site.people.items())]
    first = (site.admin, site.email, "authelia_admin_password", [GROUPS["two_factor"], *everybody])
    for name, email, entry, groups in (first, *people):
        hashed = context.secrets[f"{entry}_hash"].reveal()
        yield {"name": name, "email": email, "hash": hashed, "groups": groups}


def openid_clients(context: Context) -> list[dict[str, str]]:
    """Who may ask Authelia who somebody is, each known by the hash of its secret."""
    return [
        {
            "id": service.name,
            "title": service.name.capitalize(),
            "hash": context.secrets[f"{client_secret(service.name)}_hash"].reveal(),
            "callback": f"https://{context.stack.hostname(service)}{service.openid.callback}",
            "policy": service.route.policy,
        }
        for service in context.stack.openid_clients()
        if service.openid and service.route
    ]


def access_rules(stack: Stack) -> list[dict[str, str]]:
    """One rule a route that asks Authelia; first match wins, and the default is deny."""
    return [
        {
            "domain": stack.hostname(service),
            "policy": service.route.policy,
            "group": GROUPS[service.route.policy],
            "reason": service.route.reason,
        }
        for service in stack.routed()
        if service.route and service.route.policy in GROUPS
    ]


@pyinfra_deploy("Authelia")
def deploy(plan: Plan) -> None:
    """Its container starts with the stack."""
    converge(name="access rules and accounts", plan=plan, role=ROLE)
