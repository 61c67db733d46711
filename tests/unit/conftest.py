"""A site, a vault and a context that the pure tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from roles.context import Context, Facts
from roles.core.model import Desired
from roles.core.secret import Secret
from roles.plan import roles_of
from roles.site.schema import Site, load_site
from roles.stack import catalogue
from roles.stack.credentials import specs
from roles.stack.stack import image_names, stack_of

RAW: dict[str, Any] = {
    "name": "home",
    "domain": "home.example.org",
    "email": "admin@example.org",
    "timezone": "Europe/Berlin",
    "admin": "alice",
    "lan": ["192.168.1.0/24", "fd00:1::/64"],
    "media": {"movies": "/srv/media/movies"},
}


def site_from(**changes: Any) -> Site:
    return load_site({**RAW, **changes}, catalogue.names(), image_names())


def context_from(**changes: Any) -> Context:
    site = site_from(**changes)
    secrets = {spec.name: Secret(f"value-of-{spec.name}") for spec in specs(site)}
    facts = Facts("debian", "trixie", "x86_64", docker_gid=None)
    return Context(site, stack_of(site, secrets), facts, secrets)


@pytest.fixture
def raw() -> dict[str, Any]:
    return dict(RAW)


@pytest.fixture
def make_context() -> Callable[..., Context]:
    return context_from


@pytest.fixture(scope="session")
def context() -> Context:
    return context_from()


@pytest.fixture(scope="session")
def roles(context: Context) -> list[Desired]:
    return roles_of(context)


@pytest.fixture
def vault_path(tmp_path: Path) -> Path:
    return tmp_path / "home.vault.json"
