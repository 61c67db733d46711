"""The one door: TLS, routes from files (no socket), headers, rate limits, forward-auth."""

from __future__ import annotations

from typing import Any

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context
from roles.core.model import Desired, File
from roles.core.operations import Plan, converge
from roles.stack.service import Service

ROLE = "traefik"


def desired(context: Context) -> Desired:
    """Static and dynamic configuration; the routes follow from the declarations."""
    service = context.stack.service(ROLE)
    resolver = resolver_of(context)
    files = {
        "traefik.yml": context.template(f"{ROLE}/traefik.yml", resolver=resolver),
        "dynamic/routes.yml": context.template(
            f"{ROLE}/dynamic.yml",
            resolver=resolver,
            routed=context.stack.routed(),
            login_rule=login_rule,
            authelia=any(other.name == "authelia" for other in context.stack.services),
        ),
    }
    extra: tuple[File, ...] = ()
    if not resolver:
        files["certificate.pem"] = context.secrets["tls_server_certificate"].reveal().encode()
        extra = context.secret_files(service, ("tls_server_key",))
    return Desired(ROLE, (*context.belongings(service), *context.config(service, files), *extra))


def resolver_of(context: Context) -> dict[str, Any]:
    """The ACME settings (RFC 8555), empty with the site's own certificate authority."""
    tls = context.site.tls
    if tls.mode == "own-ca":
        return {}
    return {
        "directory": tls.directory,
        "ca_file": tls.ca_file,
        "provider": getattr(tls, "provider", None),
        "resolvers": getattr(tls, "resolvers", None),
    }


def login_rule(service: Service) -> str:
    """A router rule that matches a service's credential paths."""
    paths = service.route.login_paths if service.route else ()
    return " || ".join(f"PathPrefix(`{path}`)" for path in paths)


@pyinfra_deploy("Traefik")
def deploy(plan: Plan) -> None:
    """Routes reload by themselves; its container starts with the stack."""
    converge(name="TLS, routes, headers, limits", plan=plan, role=ROLE)
