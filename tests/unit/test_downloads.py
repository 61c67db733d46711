"""The tunnel's declaration and the downloaders' settings follow from the site."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from roles import downloads
from roles.context import Context
from roles.core import libyaml
from roles.core.model import Desired, File, Settings, Unit
from roles.plan import roles_of
from roles.stack.credentials import specs
from roles.stack.stack import COMPOSE_FILE

CUSTOM = {
    "provider": "custom",
    "endpoint": "203.0.113.7:51820",
    "public_key": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "addresses": ["10.64.0.2/32"],
    "preshared_key": True,
}


def compose(context: Context) -> Any:
    files = {file.path: file for role in roles_of(context) for file in role.of(File)}
    return libyaml.load(files[COMPOSE_FILE].content)["services"]


def settings(context: Context, name: str) -> dict[str, str]:
    roles: list[Desired] = roles_of(context)
    found = [s for role in roles for s in role.of(Settings) if s.path.endswith(name)]
    return dict(found[0].entries)


def test_without_a_tunnel_there_is_no_torrent_client(context: Context) -> None:
    assert not {"gluetun", "qbittorrent"} & set(compose(context))
    assert "qbittorrent_password" not in context.secrets


def test_who_has_no_network_of_another_s_is_not_looked_after(
    make_context: Callable[..., Context],
) -> None:
    def timer(context: Context) -> list[Unit]:
        units = (unit for role in roles_of(context) for unit in role.of(Unit))
        return [unit for unit in units if unit.name == downloads.TIMER]

    assert timer(make_context(vpn=CUSTOM)) == [Unit(downloads.TIMER)]
    assert timer(make_context()) == [Unit(downloads.TIMER, enabled=False, active=False)]


def test_gluetun_gets_the_keys_as_files_and_nothing_else_of_them(
    make_context: Callable[..., Context],
) -> None:
    context = make_context(vpn=CUSTOM)
    gluetun = compose(context)["gluetun"]
    assert {secret["target"] for secret in gluetun["secrets"]} == {
        "wireguard_private_key",
        "wireguard_preshared_key",
    }
    assert gluetun["environment"]["WIREGUARD_ENDPOINT_IP"] == "203.0.113.7"
    assert gluetun["environment"]["WIREGUARD_ENDPOINT_PORT"] == "51820"
    assert gluetun["environment"]["FIREWALL_INPUT_PORTS"] == "8080"
    assert gluetun["cap_add"] == ["NET_ADMIN"]
    given = {spec.name for spec in specs(context.site) if spec.kind == "given"}
    assert given == {"wireguard_private_key", "wireguard_preshared_key"}


def test_openvpn_asks_for_a_name_and_a_password(make_context: Callable[..., Context]) -> None:
    context = make_context(vpn={"provider": "purevpn", "type": "openvpn", "countries": ["Spain"]})
    gluetun = compose(context)["gluetun"]
    targets = {secret["target"] for secret in gluetun["secrets"]}
    assert targets == {"openvpn_user", "openvpn_password"}
    assert gluetun["environment"]["SERVER_COUNTRIES"] == "Spain"


def test_qbittorrent_has_no_network_of_its_own(make_context: Callable[..., Context]) -> None:
    declared = compose(make_context(vpn=CUSTOM))["qbittorrent"]
    assert declared["network_mode"] == "service:gluetun"
    assert "networks" not in declared
    assert declared["depends_on"]["gluetun"]["restart"] is True


def test_qbittorrent_believes_the_proxy_alone(make_context: Callable[..., Context]) -> None:
    context = make_context(vpn=CUSTOM)
    entries = settings(context, "qBittorrent.conf")
    proxy = context.stack.address("traefik", "downloads")
    assert entries["Preferences/WebUI\\TrustedReverseProxiesList"] == proxy
    assert entries["BitTorrent/Session\\Interface"] == "tun0"
    hashed = context.secrets["qbittorrent_password_hash"].reveal()
    assert entries["Preferences/WebUI\\Password_PBKDF2"] == f'"@ByteArray({hashed})"'


def test_a_login_path_asks_authelia_like_the_rest(make_context: Callable[..., Context]) -> None:
    roles = roles_of(make_context(vpn=CUSTOM))
    files = {file.path: file for role in roles for file in role.of(File)}
    routes = libyaml.load(files["/opt/nexus/config/traefik/dynamic/routes.yml"].content)
    routers = routes["http"]["routers"]
    for name, guarded in (("qbittorrent", True), ("jellyfin", False)):
        middlewares = routers[f"{name}-login"]["middlewares"]
        assert "ratelimit-login" in middlewares
        assert ("authelia" in middlewares) is guarded


def test_sabnzbd_answers_the_home_alone_unless_the_site_is_open(
    make_context: Callable[..., Context],
) -> None:
    home = settings(make_context(), "sabnzbd.ini")
    assert home["misc/inet_exposure"] == "0"
    assert home["misc/local_ranges"] == "192.168.1.0/24, fd00:1::/64, 172.30.0.0/16"
    assert settings(make_context(exposure="internet"), "sabnzbd.ini")["misc/inet_exposure"] == "4"
