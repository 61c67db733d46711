"""From an inventory to the desired state of one host: validated first, computed whole."""

from __future__ import annotations

import datetime
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pyinfra import logger
from pyinfra.api.exceptions import PyinfraError
from pyinfra.context import host

from roles import (
    alertmanager,
    applications,
    authelia,
    backup,
    base,
    bazarr,
    blackbox,
    docker,
    docker_source,
    downloads,
    exporters,
    fail2ban,
    firewall,
    grafana,
    handbook,
    homepage,
    jellyfin,
    logs,
    measure,
    media,
    networks,
    notify,
    postgres,
    predecessor,
    prometheus,
    scan,
    scrub,
    seerr,
    servarr,
    socket_proxy,
    ssh,
    stack_role,
    tracing,
    traefik,
    valkey,
)
from roles.context import Context, Facts, Running
from roles.core.certificates import ensure_certificates
from roles.core.engine_socket import holds_engine_socket
from roles.core.model import Desired
from roles.core.operations import Plan, ask, no_delay
from roles.core.secret import MissingSecretError, Secret, ensure
from roles.core.vault import Vault, VaultError, load_key
from roles.site.schema import Site, SiteError, load_site, shown
from roles.stack import catalogue
from roles.stack.credentials import specs
from roles.stack.policy import PolicyError
from roles.stack.stack import Render, Stack, fitted, image_names, stack_of

VAULTS = Path(__file__).parents[1] / "secrets"
# What there is on any host; the services' own roles follow the site.
HOST_ROLES = (
    *(base, handbook, ssh, firewall, docker_source, docker, networks, media, fail2ban),
    *(notify, measure),
)
SERVICE_ROLES = (
    socket_proxy,
    traefik,
    postgres,
    valkey,
    authelia,
    jellyfin,
    homepage,
    downloads,
    servarr,
    bazarr,
    seerr,
    prometheus,
    grafana,
    logs,
    tracing,
    alertmanager,
    blackbox,
    exporters,
)


def begin() -> Plan:
    """Validate the site and its vault, then compute what this host should be.

    Raises:
        PyinfraError: the site or the vault is not usable; nothing was done to the host.
    """
    try:
        site = site_of(host.data.get("site"))
        secrets = secrets_of(site, host.data.get("vault"))
        vault = vault_file(site, host.data.get("vault")).read_bytes()
        stack = stack_of(site, secrets)
    except (SiteError, VaultError, MissingSecretError, PolicyError) as error:
        raise PyinfraError(f"{host.name}: refused before the host was touched\n{error}") from error
    no_delay(host)
    found = facts(site)
    try:
        stack = fitted(stack, found.processors, found.render, found.memory, found.journal_gid)
        predecessor.refuse(stack, found.containers)
        context = Context(site, stack, found, secrets, vault)
        media.refuse(context, servarr.shelves(context))
        roles = roles_of(context)
    except SiteError as error:
        raise PyinfraError(f"{host.name}: refused before the host was changed\n{error}") from error
    for remark in remarks(stack, found):
        host.log(remark, logger.warning)
    return Plan(roles)


def remarks(stack: Stack, found: Facts) -> Iterator[str]:
    """What the operator should know of this host, and what can be done about it."""
    names = {service.name for service in stack.services}
    if "jellyfin" in names and found.render is None:
        yield "no Intel render device: Jellyfin transcodes on the processor"
    # Swap does not count: no container may use any (memswap_limit).
    limits = {service.name: service.limits.memory for service in stack.services}
    factor = sum(limits.values()) / found.memory if found.memory else 0
    if factor > stack.site.memory_overcommit:
        largest = sorted(limits, key=lambda name: -limits[name])[:3]
        yield (
            f"the containers' memory limits add up to {_gib(sum(limits.values()))} of the host's "
            f"{_gib(found.memory)} ({', '.join(f'{n} {_gib(limits[n])}' for n in largest)}, ...): "
            "were all in use, the kernel would end any program; lower some with "
            "site.services.NAME.memory, or accept it with site.memory_overcommit = "
            f"{math.ceil(factor * 10) / 10}"
        )


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def site_of(raw: Any) -> Site:
    """The validated site of an inventory.

    Raises:
        SiteError: one line for each problem.
    """
    if raw is None:
        raise SiteError(["site: the inventory has none; run: make init"])
    if not isinstance(raw, Mapping):
        raise SiteError([f'site: {shown(raw)} must be a dictionary, e.g. {{"name": "home"}}'])
    return load_site(raw, catalogue.names(), image_names())


def secrets_of(
    site: Site, path: str | None = None, environment: Mapping[str, str] = os.environ
) -> dict[str, Secret]:
    """Every secret of a site; what can be generated and is missing is generated and saved.

    `path` is the vault's file where it is not the usual one; `environment` names its key.

    Raises:
        VaultError: the vault cannot be opened.
        MissingSecretError: a value that only the operator knows is not there.
    """
    vault = Vault.open(vault_file(site, path), load_key(site.name, environment))
    wanted = specs(site)
    made = ensure(vault, wanted)
    if site.tls.mode == "own-ca":
        made += ensure_certificates(vault, site.domain, datetime.datetime.now(datetime.UTC))
    if made:
        vault.save()
    return {spec.name: vault.get(spec.name) for spec in wanted}


def kept_secrets(
    site: Site, path: str | None = None, environment: Mapping[str, str] = os.environ
) -> dict[str, Secret]:
    """Every secret of a site as the vault holds it; nothing is made and nothing is saved.

    Raises:
        VaultError: the vault cannot be opened, or an entry that a deploy makes is not there.
    """
    vault = Vault.open(vault_file(site, path), load_key(site.name, environment))
    wanted = [spec.name for spec in specs(site)]
    missing = [name for name in wanted if name not in vault.names()]
    if missing:
        raise VaultError(f"{vault.path} has no {', '.join(missing)} yet; run: make apply")
    return {name: vault.get(name) for name in wanted}


def foreseen_secrets(
    site: Site, path: str | None = None, environment: Mapping[str, str] = os.environ
) -> dict[str, Secret]:
    """Every secret of a site before its first deploy too: what a deploy would make is made up.

    Nothing is saved, so what is made up fits no host.

    Raises:
        VaultError: the vault cannot be opened.
        MissingSecretError: a value that only the operator knows is not there.
    """
    vault = Vault.open(vault_file(site, path), load_key(site.name, environment))
    wanted = specs(site)
    ensure(vault, wanted)
    if site.tls.mode == "own-ca":
        ensure_certificates(vault, site.domain, datetime.datetime.now(datetime.UTC))
    return {spec.name: vault.get(spec.name) for spec in wanted}


def vault_file(site: Site, path: str | None = None) -> Path:
    """The inventory's own choice, or the usual place."""
    return Path(path) if path else VAULTS / f"{site.name}.vault.json"


def roles_of(context: Context) -> list[Desired]:
    """The desired state of every role, in the order of the critical path."""
    present = {service.name for service in context.stack.services}
    roles = [role.desired(context) for role in HOST_ROLES]
    # A role of several services names them; the others serve the one of their own name.
    serving = {role: set(getattr(role, "SERVICES", (role.ROLE,))) for role in SERVICE_ROLES}
    own = [role for role, names in serving.items() if names & present]
    served = set().union(*serving.values())
    others = [s for s in context.stack.services if s.name not in served]
    of_services = [role.desired(context) for role in own]
    of_services.append(applications.desired(context, others))
    roles += [stack_role.announcing(context.stack, role) for role in of_services]
    return [
        *roles,
        predecessor.desired(context),
        stack_role.desired(context, roles),
        predecessor.remains(context),
        backup.desired(context),
        scrub.desired(context),
        scan.desired(context),
    ]


def facts(site: Site) -> Facts:
    """What decides about packages, groups and whether media can be filed: one remote command.

    Raises:
        PyinfraError: a release that this project does not know.
    """
    asked = {"do": "facts", "folders": sorted(site.media.values())}
    return facts_in(ask(asked), host.name)


def facts_in(found: Mapping[str, object], name: str) -> Facts:
    """The facts in the agent's answer about the host of this name.

    Raises:
        PyinfraError: a release that this project does not know.
    """
    facts = Facts(
        distribution=str(found["distribution"]),
        codename=str(found["codename"]),
        architecture=str(found["architecture"]),
        docker_gid=_number(found["docker_gid"]),
        processors=int(str(found["processors"])),
        memory=int(str(found["memory"])),
        render=_render(found["render"]),
        containers=_containers(found["containers"]),
        journal_gid=_number(found["journal_gid"]),
        folders=_folders(found["folders"]),
    )
    if facts.release not in docker.FROM_DISTRIBUTION:
        known = ", ".join(docker.FROM_DISTRIBUTION)
        raise PyinfraError(f"{name} runs {facts.release}; this project knows {known}")
    return facts


def _number(found: object) -> int | None:
    return None if found is None else int(str(found))


def _folders(found: object) -> dict[str, tuple[int, int]]:
    seen = found.items() if isinstance(found, dict) else ()
    return {str(path): (int(mode), int(group)) for path, (mode, group) in seen}


def _containers(found: object) -> tuple[Running, ...]:
    return tuple(_running(**one) for one in found) if isinstance(found, list) else ()


def _running(*, ports: Iterable[tuple[str, int]], mounts: Iterable[str], **words: str) -> Running:
    held = tuple((str(kind), int(port)) for kind, port in ports)
    return Running(**words, ports=held, socket=any(map(holds_engine_socket, mounts)))


def _render(found: object) -> Render | None:
    return Render(str(found["device"]), int(found["gid"])) if isinstance(found, dict) else None
