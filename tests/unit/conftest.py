"""A site, a vault and a context that the pure tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from roles.context import Context, Facts
from roles.core import agent, secret
from roles.core.model import Desired
from roles.core.secret import Secret
from roles.plan import roles_of
from roles.site.schema import Site, load_site
from roles.stack import catalogue
from roles.stack.credentials import specs
from roles.stack.stack import image_names, stack_of
from tests.serving import serve
from tests.unit.engine import Engine, Reply

# The same examples on every machine: a failure here is a failure there.
settings.register_profile("unit", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("unit")

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
    facts = Facts("debian", "trixie", "x86_64", docker_gid=None, processors=8)
    return Context(site, stack_of(site, secrets), facts, secrets)


@pytest.fixture
def cheap_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and hashes at the least cost; the real costs have tests of their own."""
    argon2 = {"time_cost": 1, "memory_cost": 8, "parallelism": 1}
    monkeypatch.setattr("roles.core.vault.SCRYPT", {"n": 16, "r": 1, "p": 1})
    monkeypatch.setattr(secret, "ARGON2", argon2)
    monkeypatch.setattr(secret, "RSA_BITS", 1024)
    for hashed in (secret.PBKDF2, secret.CRYPT):
        monkeypatch.setitem(hashed, "iterations", 1000)


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
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """The engine that the agent finds, which has nothing at first."""
    place = str(tmp_path / "docker.sock")
    monkeypatch.setattr(agent, "DOCKER", place)
    with Engine(place, Reply) as server:
        server.answers = {}
        serve(server)
        yield server
        server.shutdown()


@pytest.fixture
def vault_path(tmp_path: Path) -> Path:
    return tmp_path / "home.vault.json"
