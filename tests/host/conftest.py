"""The hosts under proof; tests are parametrised by what their models declare."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from testinfra.host import Host

from roles.verify.report import TARGETS
from roles.verify.target import Target


def _routed(target: Target, *policies: str) -> dict[str, Any]:
    services = target.services if "traefik" in target.services else {}
    return {n: s for n, s in services.items() if s.route and s.route.policy in policies}


def _present(name: str) -> Callable[[Target], dict[str, Any]]:
    return lambda target: {n: s for n, s in target.services.items() if n == name}


# A test that names one of these runs once for each.
VARIANTS: Mapping[str, Callable[[Target], Mapping[str, Any]]] = {
    "role": lambda target: {role.role: role for role in target.roles},
    "service": lambda target: target.services,
    "route": lambda t: _routed(t, "two_factor", "one_factor", "native", "portal"),
    "two_factor": lambda target: _routed(target, "two_factor"),
    "guarded": lambda target: _routed(target, "two_factor", "one_factor"),
    "native": lambda target: _routed(target, "native"),
    "portal": lambda target: _routed(target, "portal"),
    "proxy": _present("traefik"),
    "jellyfin": _present("jellyfin"),
    "family": lambda target: {"IPv4": "4", "IPv6": "6"},
    "address": lambda target: {address: address for address in target.addresses},
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    targets: Sequence[Target] | None = metafunc.config.stash.get(TARGETS, None)
    if targets is None:
        pytest.exit("these tests need a host; run: make verify", returncode=2)
    if "target" not in metafunc.fixturenames:
        return
    kinds = [name for name in VARIANTS if name in metafunc.fixturenames]
    assert len(kinds) <= 1, f"{metafunc.function.__name__} names two kinds"
    several = len(targets) > 1
    parameters = [
        pytest.param(target, *value, id="-".join([*([target.name] if several else []), *name]))
        for target in targets
        for name, value in _variants(target, kinds)
    ]
    metafunc.parametrize(["target", *kinds], parameters, scope="session")


def _variants(target: Target, kinds: Sequence[str]) -> list[tuple[list[str], list[Any]]]:
    if not kinds:
        return [([], [])]
    return [([name], [value]) for name, value in VARIANTS[kinds[0]](target).items()]


@pytest.fixture(scope="session")
def host(target: Target) -> Host:
    """testinfra's host. Its own fixture would be the operator's machine. Each use is a command."""
    return target.host
