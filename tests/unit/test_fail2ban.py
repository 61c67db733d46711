"""The jails follow from the declarations, and the operator's network is in none of them."""

from __future__ import annotations

import configparser
from collections.abc import Callable

import pytest

from roles.context import Context
from roles.core import libyaml
from roles.core.model import Desired, File, Unit
from roles.plan import roles_of
from roles.site.schema import SiteError
from roles.stack.stack import COMPOSE_FILE
from tests.unit.conftest import site_from

Jails = configparser.RawConfigParser


def role_of(context: Context) -> Desired:
    return next(role for role in roles_of(context) if role.role == "fail2ban")


def jails_of(context: Context) -> Jails:
    files = {file.path: file for file in role_of(context).of(File)}
    parser = Jails()
    parser.read_string(files["/etc/fail2ban/jail.local"].content.decode())
    return parser


def test_each_door_has_a_jail_and_its_filter(context: Context) -> None:
    jails = jails_of(context)
    assert jails.sections() == ["sshd", "traefik", "authelia", "jellyfin"]
    written = {file.path for file in role_of(context).of(File)}
    for name in jails.sections()[1:]:
        assert jails[name]["port"] == "80,443"
        assert f"/etc/fail2ban/filter.d/{jails[name]['filter']}.conf" in written
        assert jails[name]["journalmatch"].endswith(f"CONTAINER_NAME=nexus-{name}-1")


def test_the_ssh_jail_closes_the_ports_of_ssh(make_context: Callable[..., Context]) -> None:
    jails = jails_of(make_context(ssh={"ports": [22, 2222]}))
    assert jails["sshd"]["port"] == "22,2222"


def test_a_service_that_is_off_has_no_jail(make_context: Callable[..., Context]) -> None:
    jails = jails_of(make_context(services={n: {"enabled": False} for n in ("jellyfin", "seerr")}))
    assert "jellyfin" not in jails


def test_what_a_jail_reads_is_in_the_journal(context: Context, roles: list[Desired]) -> None:
    content = next(f for r in roles for f in r.of(File) if f.path == COMPOSE_FILE).content
    compose = libyaml.load(content)["services"]
    drivers = {name: service["logging"]["driver"] for name, service in compose.items()}
    assert set(drivers) >= {"traefik", "authelia", "jellyfin"}
    assert set(drivers.values()) == {"journald"}


@pytest.mark.parametrize(
    ("changes", "never"),
    [
        ({}, {"192.168.1.0/24", "fd00:1::/64"}),
        (
            {"ssh": {"allow_from": ["10.8.0.0/24", "0.0.0.0/0"]}},
            {"192.168.1.0/24", "fd00:1::/64", "10.8.0.0/24"},
        ),
        ({"never_ban": ["192.168.1.5/32"]}, {"192.168.1.5/32"}),
    ],
    ids=["the LAN", "and who may use SSH, but not everybody", "what the site says instead"],
)
def test_the_operator_s_network_is_never_banned(
    make_context: Callable[..., Context], changes: dict[str, object], never: set[str]
) -> None:
    context = make_context(**changes)
    ignored = set(jails_of(context)["DEFAULT"]["ignoreip"].split())
    containers = {s.subnet6 for s in context.stack.segments.values() if s.subnet6}
    assert ignored == {"127.0.0.0/8", "::1", "172.30.0.0/16", *containers, *never}


@pytest.mark.parametrize(
    ("never", "word"), [("0.0.0.0/0", "most of the internet"), ("192.168.1.5/24", "no network")]
)
def test_a_site_cannot_spare_everybody(never: str, word: str) -> None:
    with pytest.raises(SiteError, match=rf"site.never_ban\[0\].*{word}"):
        site_from(never_ban=[never])


def test_a_changed_file_restarts_it(context: Context) -> None:
    role = role_of(context)
    (unit,) = role.of(Unit)
    assert set(unit.restart_on) == {file.path for file in role.of(File)}
