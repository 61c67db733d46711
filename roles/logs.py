"""Every line of the host in one place: a reader of the journal, and the store it sends them to.

What of them is kept for how long is a decision: docs/decisions/logs.md.
"""

from __future__ import annotations

from collections.abc import Mapping

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context
from roles.core.model import Check, Desired, Resource
from roles.core.operations import Plan, converge
from roles.stack.networks import MONITORING
from roles.stack.stack import config_folder
from roles.validator import accepted_by

ROLE = "logs"
STORE, READER = SERVICES = ("loki", "alloy")
PROBER = "blackbox"
FILES = {STORE: "loki.yml", READER: "config.alloy"}
# The programs' own words for: is this configuration one that you would start with?
JUDGES = {STORE: ("-verify-config", "-config.file=")}
_GROUP = "[0-9a-fA-F]{1,4}"
_OCTET = "[0-9a-fA-F]{2}"
# What an expression captures is replaced, everywhere in a line. RE2 and Python read them alike.
# Of an IPv4 address stays the /24, of an IPv6 address the /48 (RFC 6177: a home's is no shorter)
# and of a network card the maker; what only looks like one of these does no harm.
SHORTENING: tuple[tuple[str, str], ...] = (
    (rf"\b(?:{_OCTET}:){{3}}((?:{_OCTET}:){{2,10}}{_OCTET})\b", "x"),
    (r"\b(?:\d{1,3}\.){3}(\d{1,3})\b", "0"),
    # All eight groups; four groups or more before the gap; three or fewer before it.
    (rf"\b(?:{_GROUP}:){{3}}((?:{_GROUP}:){{4}}{_GROUP})\b", ":"),
    (rf"\b(?:{_GROUP}:){{3}}((?:{_GROUP}:){{1,4}}:(?:{_GROUP}(?::{_GROUP})*)?)", ":"),
    (rf"\b(?:{_GROUP}:){{1,3}}:({_GROUP}(?::{_GROUP})*)", "0"),
)


def desired(context: Context) -> Desired:
    """Both programs' configurations; which logs tell of logins follows from the declarations."""
    resources: list[Resource] = []
    checks: list[Check] = []
    values: Mapping[str, object] = {
        "doors": [service.name for service in context.stack.services if service.login_log],
        "shortening": SHORTENING,
        "prober": context.stack.address(PROBER, MONITORING) if context.stack.has(PROBER) else "",
    }
    for service in context.stack.services:
        if service.name in SERVICES:
            name = FILES[service.name]
            content = context.template(f"{ROLE}/{name}", **values)
            resources += [*context.belongings(service), *context.config(service, {name: content})]
            if words := JUDGES.get(service.name):
                path = f"{config_folder(service)}/{name}"
                checks.append(accepted_by(context, service, path, *words))
    return Desired(ROLE, tuple(resources), checks=tuple(checks))


@pyinfra_deploy("Logs")
def deploy(plan: Plan) -> None:
    """Both containers start with the stack."""
    converge(name="what is kept of lines, and for how long", plan=plan, role=ROLE)
