"""From an inventory to the desired state of one host: validated first, computed whole."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyinfra.api.exceptions import PyinfraError
from pyinfra.context import host

from roles import (
    authelia,
    base,
    docker,
    firewall,
    homepage,
    jellyfin,
    networks,
    postgres,
    socket_proxy,
    ssh,
    stack_role,
    traefik,
    valkey,
)
from roles.context import Context, Facts
from roles.core.certificates import ensure_certificates
from roles.core.model import Desired
from roles.core.operations import Plan, ask, no_delay
from roles.core.secret import MissingSecretError, Secret, ensure
from roles.core.vault import Vault, VaultError, load_key
from roles.site.schema import Site, SiteError, load_site
from roles.stack import catalogue
from roles.stack.credentials import specs
from roles.stack.policy import PolicyError
from roles.stack.stack import image_names, stack_of

VAULTS = Path(__file__).parents[1] / "secrets"
# What there is on any host; the services' own roles follow the site.
HOST_ROLES = (base, ssh, firewall, docker, networks)
SERVICE_ROLES = (socket_proxy, traefik, postgres, valkey, authelia, jellyfin, homepage)


def begin() -> Plan:
    """Validate the site and its vault, then compute what this host should be.

    Raises:
        PyinfraError: the site or the vault is not usable; nothing was done to the host.
    """
    try:
        site = site_of(host.data.get("site"))
        secrets = secrets_of(site, host.data.get("vault"))
        stack = stack_of(site, secrets)
    except (SiteError, VaultError, MissingSecretError, PolicyError) as error:
        raise PyinfraError(f"{host.name}: refused before the host was touched\n{error}") from error
    no_delay(host)
    context = Context(site, stack, facts(), secrets)
    return Plan(roles_of(context))


def site_of(raw: Any) -> Site:
    """The validated site of an inventory.

    Raises:
        SiteError: one line for each problem.
    """
    if not isinstance(raw, Mapping):
        raise SiteError(["site: the inventory has none; run: make init"])
    return load_site(raw, catalogue.names(), image_names())


def secrets_of(site: Site, path: str | None = None) -> dict[str, Secret]:
    """Every secret of a site; what can be generated and is missing is generated and saved.

    Raises:
        VaultError: the vault cannot be opened.
        MissingSecretError: a value that only the operator knows is not there.
    """
    file = Path(path) if path else VAULTS / f"{site.name}.vault.json"
    vault = Vault.open(file, load_key(site.name))
    wanted = specs(site)
    made = ensure(vault, wanted)
    if site.tls.mode == "own-ca":
        made += ensure_certificates(vault, site.domain, datetime.datetime.now(datetime.UTC))
    if made:
        vault.save()
    return {spec.name: vault.get(spec.name) for spec in wanted}


def roles_of(context: Context) -> list[Desired]:
    """The desired state of every role, in the order of the critical path."""
    present = {service.name for service in context.stack.services}
    roles = [role.desired(context) for role in HOST_ROLES]
    roles += [role.desired(context) for role in SERVICE_ROLES if role.ROLE in present]
    return [*roles, stack_role.desired(context, roles)]


def facts() -> Facts:
    """What decides about packages and groups: one remote command.

    Raises:
        PyinfraError: a distribution that this project does not know.
    """
    found = ask({"do": "facts"})
    distribution = str(found["distribution"])
    if distribution not in docker.PACKAGES:
        known = ", ".join(docker.PACKAGES)
        raise PyinfraError(f"{host.name} runs {distribution}; this project knows {known}")
    gid = found["docker_gid"]
    return Facts(
        distribution=distribution,
        codename=str(found["codename"]),
        architecture=str(found["architecture"]),
        docker_gid=int(str(gid)) if gid is not None else None,
    )
