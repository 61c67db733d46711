"""Single sign-on with a second factor; what no rule allows is denied."""

from __future__ import annotations

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context
from roles.core.model import Desired
from roles.core.operations import Plan, converge
from roles.stack.stack import Stack

ROLE = "authelia"
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
        ),
        "users_database.yml": context.template(
            f"{ROLE}/users_database.yml",
            password_hash=context.secrets["authelia_admin_password_hash"].reveal(),
        ),
    }
    return Desired(ROLE, (*context.belongings(service), *context.config(service, files)))


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
