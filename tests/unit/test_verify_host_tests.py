"""Tests of a host that no damage of a lab host can make fail, and what a proof never does."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from roles.core.vault import Vault, VaultError
from roles.plan import kept_secrets, secrets_of
from roles.verify.report import Unproven
from roles.verify.target import COMMANDS, Target
from tests.host import test_base, test_firewall
from tests.unit.conftest import site_from

PASSPHRASE = {"NEXUS_VAULT_PASSPHRASE": "unit"}


def target(**values: Any) -> Any:
    return SimpleNamespace(**values)


@pytest.mark.parametrize("seconds", [31.0, -31.0])
def test_a_wrong_clock_fails(seconds: float) -> None:
    test_base.test_clock_is_right(target(clock_error=2.0))
    with pytest.raises(Unproven, match="clock"):
        test_base.test_clock_is_right(target(clock_error=seconds))


def test_another_remote_command_fails() -> None:
    test_base.test_proof_is_cheap(target(commands=COMMANDS))
    with pytest.raises(Unproven, match="remote commands: 4; expected 3"):
        test_base.test_proof_is_cheap(target(commands=COMMANDS + 1))


@pytest.mark.parametrize(
    ("ports", "pings", "tried"), [([], False, False), ([], True, True), ([22], False, True)]
)
def test_closed_ports_mean_something_where_the_host_is_reached(
    monkeypatch: pytest.MonkeyPatch, ports: list[int], pings: bool, tried: bool
) -> None:
    monkeypatch.setattr("roles.verify.probe.pings", lambda address: pings)
    there: Any = target(open_ports={"192.0.2.1": ports}, allowed_ports={22})
    there.is_reached = partial(Target.is_reached, there)
    if tried:
        test_firewall.test_only_declared_ports_answer(there, "192.0.2.1")
    else:
        with pytest.raises(pytest.skip.Exception, match=r"does not reach 192\.0\.2\.1"):
            test_firewall.test_only_declared_ports_answer(there, "192.0.2.1")


def test_a_proof_writes_nothing_into_the_vault(
    vault_path: Path, monkeypatch: pytest.MonkeyPatch, cheap_secrets: None
) -> None:
    Vault.create(vault_path, b"unit")
    before = vault_path.read_bytes()
    site = site_from()
    with pytest.raises(VaultError, match=r"has no .*authelia_session_secret.* run: make apply"):
        kept_secrets(site, str(vault_path), PASSPHRASE)
    assert vault_path.read_bytes() == before
    made = secrets_of(site, str(vault_path), PASSPHRASE)
    assert kept_secrets(site, str(vault_path), PASSPHRASE) == made
