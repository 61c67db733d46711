"""The one door: TLS, routes from files (no socket), headers, rate limits, forward-auth."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context
from roles.core.model import Desired, File, Unit
from roles.core.operations import Plan, converge
from roles.site.schema import LATENCIES
from roles.stack.logs_and_traces import is_traced
from roles.stack.service import CONTENT_POLICY, Service
from roles.stack.stack import PROJECT

ROLE = "traefik"
TIMER = "nexus-certificates.timer"
HTTPS = 443


def desired(context: Context) -> Desired:
    """Static and dynamic configuration; the routes follow from the declarations."""
    service = context.stack.service(ROLE)
    resolver = resolver_of(context)
    files = {
        "traefik.yml": context.template(
            f"{ROLE}/traefik.yml",
            resolver=resolver,
            metrics=service.metrics,
            buckets=LATENCIES,
            traced=is_traced(context.stack.services),
        ),
        "dynamic/routes.yml": context.template(
            f"{ROLE}/dynamic.yml",
            resolver=resolver,
            routed=context.stack.routed(),
            login_rule=login_rule,
            middlewares=middlewares,
            policies=content_policies(context.stack.routed()),
            authelia=any(other.name == "authelia" for other in context.stack.services),
        ),
    }
    if context.site.tls.ca_certificate:
        files["acme-ca.pem"] = context.site.tls.ca_certificate.encode()
    if not resolver:
        files["certificate.pem"] = context.secrets["tls_server_certificate"].reveal().encode()
    return Desired(
        ROLE,
        (
            *context.belongings(service),
            *context.config(service, files),
            *retry(context, service),
            Unit(TIMER),
        ),
    )


def retry(context: Context, service: Service) -> tuple[File, ...]:
    """What asks again for a certificate that could not be had when the proxy started."""
    names = [context.stack.hostname(other) for other in context.stack.routed()]
    script = "/usr/local/lib/nexus/certificates"
    return (
        context.file(
            ROLE,
            script,
            mode="0755",
            address=context.stack.address(ROLE, "edge"),
            port=next(port.container for port in service.ports if port.host == HTTPS),
            names=names,
            container=f"{PROJECT}-{ROLE}-1",
        ),
        context.file(ROLE, "/etc/systemd/system/nexus-certificates.service"),
        context.file(ROLE, f"/etc/systemd/system/{TIMER}"),
    )


def resolver_of(context: Context) -> dict[str, Any]:
    """The ACME settings (RFC 8555), empty with the site's own certificate authority."""
    tls, domain = context.site.tls, context.site.domain
    if tls.mode == "own-ca":
        return {}
    # Traefik orders nothing for a name that a stored certificate covers, whoever signed it and
    # however old it is, and renews all it has stored. So a store serves one way of proof only.
    kind = f"{tls.mode} {tls.directory} {domain}"
    return {
        "storage": f"/acme/{hashlib.sha256(kind.encode()).hexdigest()[:16]}.json",
        "directory": tls.directory,
        "private_ca": bool(tls.ca_certificate),
        "provider": tls.provider,
        "resolvers": list(tls.resolvers),
        # Only a DNS proof gives one (RFC 8555 7.1.3). One name, because not every provider can
        # hold two TXT records; and public logs of certificates do not list the services.
        "wildcard": f"*.{domain}" if tls.mode == "acme-dns" else "",
    }


def middlewares(service: Service) -> list[str]:
    """What a request passes on its way to a service, from the outside in."""
    route = service.route
    if route is None:
        return []
    asked = route.policy in ("one_factor", "two_factor")
    return [
        # The portal is asked often, for its state and its many files: a limit would break it.
        *(["ratelimit"] if route.policy != "portal" else []),
        *(["authelia", "compress"] if asked else []),
        *content_policies([service]),
        "retry",
        "breaker",
    ]


def content_policies(services: Iterable[Service]) -> dict[str, str]:
    """The Content-Security-Policies of services, by the name of the middleware that sends one."""
    policies = {s.name: s.route.content_policy for s in services if s.route}
    return {
        "policy" if policy == CONTENT_POLICY else f"policy-{name}": policy
        for name, policy in policies.items()
        if policy
    }


def login_rule(service: Service) -> str:
    """A router rule that matches a service's credential paths, in whatever case they come.

    ASP.NET, under Jellyfin, ignores case; a rule that does not would be walked around.
    """
    paths = service.route.login_paths if service.route else ()
    return f"PathRegexp(`(?i)^(?:{'|'.join(map(re.escape, paths))})`)"


@pyinfra_deploy("Traefik")
def deploy(plan: Plan) -> None:
    """Routes reload by themselves; its container starts with the stack."""
    converge(name="TLS, routes, headers, limits", plan=plan, role=ROLE)
