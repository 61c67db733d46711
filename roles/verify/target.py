"""One host to prove: its model, what it says of itself, and where it answers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pyinfra.api.exceptions import PyinfraError
from testinfra.host import Host

from roles.context import Context, Facts
from roles.core import transport
from roles.core.model import Desired, Observed
from roles.core.secret import MissingSecretError, Secret
from roles.core.snapshot import observed, question
from roles.core.vault import VaultError
from roles.plan import facts_in, kept_secrets, roles_of, site_of, vault_file
from roles.site.schema import Site, SiteError
from roles.stack.policy import PolicyError
from roles.stack.service import Service
from roles.stack.stack import fitted, stack_of
from roles.verify import collected, probe
from roles.verify.collected import Collected
from roles.verify.connection import Backend, NoLoginError, connect
from roles.verify.leaks import Searcher
from roles.verify.probe import Door

# Facts, what the deploy manages, and what the kernel says.
COMMANDS = 3
WELL_KNOWN = range(1, 1025)
SecretsOf = Callable[[Site, str | None], Mapping[str, Secret]]
DOCKER_API = (2375, 2376, 2377)
# Where Traefik's entry points listen inside its container (templates/traefik/traefik.yml.j2).
HTTP, HTTPS = 8000, 8443


class RefusedError(Exception):
    """The proof cannot begin; the text names what is wrong and the mend."""


@dataclass(frozen=True)
class Target:
    """A deployed host, read once. `address` is where the operator's machine reached it."""

    name: str
    address: str
    context: Context
    roles: tuple[Desired, ...]
    observed: Observed
    collected: Collected
    clock_error: float
    host: Host = field(repr=False)

    @property
    def site(self) -> Site:
        return self.context.site

    @property
    def services(self) -> Mapping[str, Service]:
        return {service.name: service for service in self.context.stack.services}

    @property
    def commands(self) -> int:
        """How many remote commands were spent on this host."""
        return int(self.host.backend.commands)

    @cached_property
    def searcher(self) -> Searcher:
        return Searcher(self.context.secrets)

    @property
    def addresses(self) -> list[str]:
        """Every address at which something could answer, the one in use first."""
        return list(dict.fromkeys([self.address, *self.collected.addresses()]))

    @property
    def allowed_ports(self) -> set[int]:
        """The TCP ports that the site opens."""
        published = (p for service in self.services.values() for p in service.ports)
        return {*self.site.ssh.ports, *(p.host for p in published if p.protocol == "tcp")}

    @cached_property
    def open_ports(self) -> Mapping[str, list[int]]:
        """What accepts TCP from here: well-known ports, the services' own, whatever listens."""
        inside = (p.container for service in self.services.values() for p in service.ports)
        routed = (s.route.port for s in self.services.values() if s.route)
        listening = (each.port for each in self.collected.listeners())
        published = (port for c in self.collected.containers for _, port in c.published)
        ports = {*WELL_KNOWN, *DOCKER_API, *inside, *routed, *listening, *published}
        return probe.open_ports(filter(probe.has_route, self.addresses), sorted(ports))

    def is_reached(self, address: str) -> bool:
        """Whether this machine gets through to an address, so that a closed port means something.

        UFW lets everybody ping (its before.rules), also where no port is open to this machine.
        """
        return bool(self.open_ports.get(address)) or probe.pings(address)

    def door(self, address: str | None = None) -> Door:
        """The reverse proxy, and whose certificates it must show."""
        ports = {p.container: p.host for p in self.services["traefik"].ports}
        address = address or self.address
        return Door(address, ports[HTTP], ports[HTTPS], self.context.authority)

    @property
    def portal(self) -> str:
        """The name of the login page."""
        return self.context.stack.hostname(self.services["authelia"])


def targets(inventory: Path, secrets_of: SecretsOf = kept_secrets) -> list[Target]:
    """Read every host of an inventory: three remote commands each, nothing is changed.

    With `foreseen_secrets` a host may be one that was never deployed to.

    Raises:
        RefusedError: the inventory, its vault or a host is not usable.
    """
    try:
        return [_target(backend, secrets_of) for backend in connect(inventory)]
    except (NoLoginError, PyinfraError) as error:
        raise RefusedError(str(error)) from error


def _target(backend: Backend, secrets_of: SecretsOf) -> Target:
    data = backend.pyinfra.data
    try:
        site = site_of(data.get("site"))
        secrets = secrets_of(site, data.get("vault"))
        facts = facts_in(_ask(backend, transport.stdin({"do": "facts"})), backend.hostname)
        context = _context(site, secrets, facts, vault_file(site, data.get("vault")))
        roles = tuple(roles_of(context))
    except (SiteError, VaultError, MissingSecretError, PolicyError) as error:
        raise RefusedError(f"{backend.hostname}: {error}") from error
    seen = observed(_ask(backend, transport.stdin(question(roles))))
    found = collected.unpack(_answer(backend, collected.stdin()))
    clock_error = found.raw["time"] - time.time()
    host = Host(backend)
    return Target(backend.hostname, backend.address, context, roles, seen, found, clock_error, host)


def _context(site: Site, secrets: Mapping[str, Secret], facts: Facts, vault: Path) -> Context:
    stack = stack_of(site, secrets)
    stack = fitted(stack, facts.processors, facts.render, facts.memory, facts.journal_gid)
    return Context(site, stack, facts, secrets, vault.read_bytes())


def _ask(backend: Backend, stdin: list[str]) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(_answer(backend, stdin))
    return answer


def _answer(backend: Backend, stdin: list[str]) -> str:
    done = backend.run(transport.COMMAND, stdin=stdin)
    if done.failed or not done.stdout:
        said = done.stderr.strip().splitlines()[-1:]
        reason = said[0] if said else "it needs python3 and a way to root"
        raise RefusedError(f"{backend.hostname} did not answer: {reason}")
    return str(done.stdout).splitlines()[-1]
