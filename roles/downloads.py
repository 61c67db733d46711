"""The downloaders: torrents through the tunnel alone, Usenet over TLS.

Both rewrite their own configuration, so only the entries that matter are held there, and they are
there before the first start: the torrent client's image would begin without a login for any private
address, Usenet's with an open wizard.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context
from roles.core.model import Desired, Directory, Resource, Settings, Unit
from roles.core.operations import Plan, converge
from roles.stack.service import MEDIA_GID, Service
from roles.stack.stack import PROJECT, data_folder
from roles.stack.tunnel import INTERFACE

ROLE = "downloads"
SERVICES = ("gluetun", "qbittorrent", "sabnzbd")
TIMER = "nexus-rejoin.timer"


def desired(context: Context) -> Desired:
    """Their accounts and folders, and the entries of their configuration files."""
    services = {s.name: s for s in context.stack.services if s.name in SERVICES}
    resources: list[Resource] = []
    for service in services.values():
        resources += context.belongings(service)
    if "qbittorrent" in services:
        resources += _qbittorrent(context, services["qbittorrent"])
    if "sabnzbd" in services:
        resources += _sabnzbd(context, services["sabnzbd"])
    resources += _rejoin(context, [s for s in services.values() if s.behind])
    return Desired(ROLE, tuple(resources))


def _qbittorrent(context: Context, service: Service) -> Iterator[Resource]:
    """https://github.com/qbittorrent/qBittorrent/blob/release-5.2.4/src/base/preferences.cpp"""
    stack, home = context.stack, f"{context.site.downloads}/torrents"
    upstream = stack.upstream(service)
    proxy = stack.address("traefik", stack.service(upstream).networks[0])
    hashed = context.secrets["qbittorrent_password_hash"].reveal()
    session = {
        # A second kill switch: without this interface it has no socket at all.
        "Interface": INTERFACE,
        "InterfaceName": INTERFACE,
        "LSDEnabled": "false",
        "DefaultSavePath": home,
        "TempPath": f"{home}/incomplete",
        "TempPathEnabled": "true",
    }
    web = {
        "Port": str(service.ports_inside[0]),
        "UseUPnP": "false",
        "Username": context.site.admin,
        "Password_PBKDF2": f'"@ByteArray({hashed})"',
        "LocalHostAuth": "true",
        "AuthSubnetWhitelistEnabled": "false",
        "MaxAuthenticationFailCount": "5",
        "BanDuration": "3600",
        "CSRFProtection": "true",
        "ClickjackingProtection": "true",
        "SecureCookie": "true",
        "HostHeaderValidation": "true",
        "ServerDomains": f'"{stack.hostname(service)};{upstream}"',
        # The proxy's address is fixed; its word about the client counts, nobody else's does.
        "ReverseProxySupportEnabled": "true",
        "TrustedReverseProxiesList": proxy,
    }
    entries = (
        ("LegalNotice/Accepted", "true"),
        ("AutoRun/enabled", "false"),
        ("Preferences/Connection\\UPnP", "false"),
        # It would fetch a database of addresses.
        ("Preferences/Connection\\ResolvePeerCountries", "false"),
        *((f"BitTorrent/Session\\{key}", value) for key, value in session.items()),
        *((f"Preferences/WebUI\\{key}", value) for key, value in web.items()),
    )
    folder = f"{data_folder(service, 'config')}/qBittorrent"
    yield _private(folder, service)
    yield from (_shared(path) for path in (home, f"{home}/incomplete"))
    yield _settings(f"{folder}/qBittorrent.conf", entries, service)


def _rejoin(context: Context, guests: Sequence[Service]) -> Iterator[Resource]:
    """What brings a container back into a network that began anew; without any, it rests."""
    pairs = [(f"{PROJECT}-{guest.behind}-1", f"{PROJECT}-{guest.name}-1") for guest in guests]
    script = "/usr/local/lib/nexus/rejoin"
    yield context.file(ROLE, script, mode="0755", pairs=pairs)
    yield context.file(ROLE, "/etc/systemd/system/nexus-rejoin.service")
    yield context.file(ROLE, f"/etc/systemd/system/{TIMER}")
    yield Unit(TIMER, bool(guests), bool(guests))


def _sabnzbd(context: Context, service: Service) -> Iterator[Resource]:
    """https://sabnzbd.org/wiki/configuration/5.1/special and its source, sabnzbd/cfg.py"""
    stack, home = context.stack, f"{context.site.downloads}/usenet"
    secrets = context.secrets
    misc = {
        "enable_https": "0",
        "auto_browser": "0",
        "check_new_rel": "0",
        "username": context.site.admin,
        "password": secrets["sabnzbd_password"].reveal(),
        "api_key": secrets["sabnzbd_api_key"].reveal(),
        "nzb_key": secrets["sabnzbd_nzb_key"].reveal(),
        "host_whitelist": f"{stack.hostname(service)}, {service.name}",
        # What it takes for local: everybody else, by the proxy's word, is refused.
        **_exposure(context),
        "verify_xff_header": "1",
        "download_dir": f"{home}/incomplete",
        "complete_dir": f"{home}/complete",
        "permissions": "775",
    }
    entries = tuple((f"misc/{key}", value) for key, value in misc.items())
    yield from (_shared(path) for path in (home, f"{home}/incomplete", f"{home}/complete"))
    yield _settings(f"{data_folder(service, 'config')}/sabnzbd.ini", entries, service)


def _exposure(context: Context) -> dict[str, str]:
    """Whose requests SABnzbd answers: 0 means those of `local_ranges`, 4 everybody's."""
    site = context.site
    local = ", ".join((*site.lan, site.network_prefix))
    return {"inet_exposure": "4" if site.exposure == "internet" else "0", "local_ranges": local}


def _private(path: str, service: Service) -> Directory:
    return Directory(path, "0700", str(service.uid), str(service.uid))


def _shared(path: str) -> Directory:
    """A folder for all that file downloads; new files in it keep the group (setgid)."""
    return Directory(path, "2775", "root", str(MEDIA_GID))


def _settings(path: str, entries: tuple[tuple[str, str], ...], service: Service) -> Settings:
    owner = str(service.uid)
    return Settings(path, "ini", entries, owner, owner, f"{PROJECT}-{service.name}-1")


@pyinfra_deploy("Downloads")
def deploy(plan: Plan) -> None:
    """Their containers start with the stack."""
    converge(name="torrents and Usenet", plan=plan, role=ROLE)
