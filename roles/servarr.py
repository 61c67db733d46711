"""Sonarr, Radarr, Lidarr and Prowlarr: no open wizard, and they know each other.

They share one code base. Each has a login of its own behind the portal (docs/decisions/servarr.md)
and a key for programs, both from the vault; over its API it then learns of the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context, setup_file
from roles.core.model import Desired, File, Handler, Settings, paths
from roles.core.operations import Plan, converge
from roles.stack.catalogue import CATALOGUE
from roles.stack.service import Service
from roles.stack.stack import PROJECT, data_folder

ROLE = "servarr"
SETUP = "/usr/local/lib/nexus/servarr-setup"
DECLARATION = f"{SETUP}.json"
INDEXERS = "prowlarr"


@dataclass(frozen=True, slots=True)
class Application:
    """A program of the family; `shelves` are the names of site.media that it files into."""

    service: str
    label: str
    api: str
    shelves: tuple[str, ...] = ()


APPLICATIONS = (
    Application("sonarr", "Sonarr", "v3", ("series", "shows", "tv")),
    Application("radarr", "Radarr", "v3", ("films", "movies")),
    Application("lidarr", "Lidarr", "v1", ("music",)),
    Application(INDEXERS, "Prowlarr", "v1"),
)
SERVICES = tuple(application.service for application in APPLICATIONS)


@dataclass(frozen=True, slots=True)
class Client:
    """A download client, as the applications name it; `login` maps a field to a vault entry."""

    service: str
    implementation: str
    username: bool
    login: tuple[tuple[str, str], ...]


CLIENTS = (
    Client("qbittorrent", "QBittorrent", True, (("password", "qbittorrent_password"),)),
    Client("sabnzbd", "Sabnzbd", False, (("apiKey", "sabnzbd_api_key"),)),
)


def served(services: Iterable[Service]) -> tuple[Application, ...]:
    """The applications of the family that a site has."""
    names = {service.name for service in services}
    return tuple(application for application in APPLICATIONS if application.service in names)


def folders(context: Context, application: Application) -> list[str]:
    """The media folders that an application files into."""
    media = context.site.media
    return [media[name] for name in application.shelves if name in media]


def shelves(context: Context) -> list[str]:
    """Every media folder that some application files into."""
    applications = served(context.stack.services)
    return sorted({path for each in applications for path in folders(context, each)})


def desired(context: Context) -> Desired:
    """Entries of their own configuration files, and a program that introduces them."""
    applications = served(context.stack.services)
    services = [context.stack.service(application.service) for application in applications]
    declaration = [_declared(context, application) for application in applications]
    resources = (
        *(resource for service in services for resource in context.belongings(service)),
        *(_settings(context, application) for application in applications),
        *context.setup_files(ROLE, _secrets(context)),
        File(DECLARATION, (json.dumps(declaration, indent=2) + "\n").encode(), "0600"),
        File(SETUP, context.template(f"{ROLE}/setup", declaration=DECLARATION), "0700"),
    )
    # A folder that is new holds an application that knows nobody.
    new = tuple(data_folder(service, name) for service in services for name, _ in service.data)
    inputs = paths(r for r in resources if isinstance(r, File)) + new
    return Desired(
        ROLE, resources, handed_on=(Handler("servarr-setup", (SETUP,), inputs, last=True),)
    )


def _settings(context: Context, application: Application) -> Settings:
    """Names and values of ConfigFileProvider.cs in the programs' source."""
    service = context.stack.service(application.service)
    assert service.route
    entries = {
        "BindAddress": "*",
        "Port": str(service.route.port),
        "EnableSsl": "False",
        "UrlBase": "",
        "ApiKey": context.secrets[f"{service.name}_api_key"].reveal(),
        "AuthenticationMethod": "Forms",
        # The other choice trusts every private address, which all containers have.
        "AuthenticationRequired": "Enabled",
        "InstanceName": application.label,
        "AnalyticsEnabled": "False",
        "UpdateMechanism": "Docker",
        "LaunchBrowser": "False",
        "LogLevel": "info",
    }
    return Settings(
        f"{data_folder(service, 'config')}/config.xml",
        "xml",
        tuple((f"Config/{name}", value) for name, value in entries.items()),
        owner=str(service.uid),
        group=str(service.uid),
        container=f"{PROJECT}-{service.name}-1",
    )


def _declared(context: Context, application: Application) -> dict[str, Any]:
    """What the program on the host tells one application. Secrets are paths of files."""
    service = context.stack.service(application.service)
    address = context.stack.address(service.name, "media")
    is_indexer = application.service == INDEXERS
    providers = _indexed(context) if is_indexer else _clients(context, application)
    gone = _gone_applications(context) if is_indexer else _gone_clients(context)
    return {
        "name": application.label,
        "url": f"{_url(service, address)}/api/{application.api}",
        "key": setup_file(ROLE, f"{service.name}_api_key"),
        "username": context.site.admin,
        "password": setup_file(ROLE, f"{service.name}_password"),
        "folders": folders(context, application),
        "providers": list(providers),
        "gone": list(gone),
        "sync": is_indexer,
    }


def _indexed(context: Context) -> Iterator[dict[str, Any]]:
    indexers = context.stack.service(INDEXERS)
    for application in served(context.stack.services):
        if application.service == INDEXERS:
            continue
        service = context.stack.service(application.service)
        yield {
            "endpoint": "applications",
            "name": application.label,
            "implementation": application.label,
            "settings": {"syncLevel": "fullSync"},
            "fields": {
                "prowlarrUrl": _url(indexers, indexers.name),
                "baseUrl": _url(service, service.name),
            },
            "secrets": {"apiKey": setup_file(ROLE, f"{service.name}_api_key")},
        }


def _clients(context: Context, application: Application) -> Iterator[dict[str, Any]]:
    for client in _present(context):
        service = context.stack.service(client.service)
        assert service.route
        user = {"username": context.site.admin} if client.username else {}
        yield {
            "endpoint": "downloadclient",
            "name": client.implementation,
            "implementation": client.implementation,
            "settings": {"enable": True},
            "fields": {
                "host": context.stack.upstream(service),
                "port": service.route.port,
                "useSsl": False,
                **user,
            },
            "secrets": {field: setup_file(ROLE, entry) for field, entry in client.login},
        }


def _gone_applications(context: Context) -> Iterator[dict[str, str]]:
    """What an earlier deploy may have introduced, under this name and with this address."""
    absent = _absent(context)
    for application in APPLICATIONS:
        if service := absent.get(application.service):
            address = _url(service, service.name)
            yield _gone("applications", application.label, "baseUrl", address)


def _gone_clients(context: Context) -> Iterator[dict[str, str]]:
    absent = _absent(context)
    for client in CLIENTS:
        if service := absent.get(client.service):
            address = service.behind or service.name
            yield _gone("downloadclient", client.implementation, "host", address)


def _gone(endpoint: str, name: str, field: str, value: str) -> dict[str, str]:
    return {"endpoint": endpoint, "name": name, "field": field, "value": value}


def _absent(context: Context) -> dict[str, Service]:
    names = {service.name for service in context.stack.services}
    return {service.name: service for service in CATALOGUE if service.name not in names}


def _present(context: Context) -> list[Client]:
    names = {service.name for service in context.stack.services}
    return [client for client in CLIENTS if client.service in names]


def _secrets(context: Context) -> Iterator[str]:
    for application in served(context.stack.services):
        yield f"{application.service}_api_key"
        yield f"{application.service}_password"
    for client in _present(context):
        yield from (entry for _, entry in client.login)


def _url(service: Service, host: str) -> str:
    assert service.route
    return f"http://{host}:{service.route.port}"


@pyinfra_deploy("Sonarr, Radarr, Lidarr, Prowlarr")
def deploy(plan: Plan) -> None:
    """Their containers start with the stack; then they are introduced to each other."""
    converge(name="settings and introduction", plan=plan, role=ROLE)
