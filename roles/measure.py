"""What only the host can do for the monitoring: measure, and notice that the monitoring is dead.

One program of our own reads containers, file systems, bans, disks and applications, so that no
container needs the Docker socket or the host's files for that; the node exporter passes it on.
Another one, which depends on none of the containers, complains when these are silent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles import servarr
from roles.backup import STORAGE as BACKUP_STORAGE
from roles.backup import UNITS
from roles.context import Context, setup_file
from roles.core.model import Desired, Directory, File, Resource, Unit, paths
from roles.core.operations import Plan, converge
from roles.fail2ban import jails
from roles.prometheus.alerts import WATCHDOG
from roles.stack.monitoring import TEXTFILES
from roles.stack.networks import MONITORING
from roles.stack.stack import PROJECT

ROLE = "measure"
PROGRAM, WATCH = "/usr/local/lib/nexus/measure", "/usr/local/lib/nexus/watch"
SETTINGS = f"{PROGRAM}.json"
STATE = "/var/lib/nexus/measure"
SERVICE, TIMER = "nexus-measure.service", "nexus-watch.timer"
# Seconds at a pace of 1: the host, the applications, the disks' own word, and the watcher.
OFTEN, APPLICATIONS, STORAGE, LOOK = 15, 60, 3600, 300
# Which vault entry opens an application's API, and how it is asked.
KEYS = {
    "jellyfin": ("jellyfin", "jellyfin_admin_password"),
    "qbittorrent": ("qbittorrent", "qbittorrent_password"),
    "sabnzbd": ("sabnzbd", "sabnzbd_api_key"),
}


def desired(context: Context) -> Desired:
    """Both programs; without a monitoring they rest. The backups write to the folder as well."""
    on, pace = context.site.monitoring.enabled, context.site.monitoring.pace
    applications = list(_applications(context)) if on else []
    settings = json.dumps(_settings(context, applications), indent=1).encode()
    measuring = (
        File(SETTINGS, settings, "0600"),
        context.file(ROLE, PROGRAM, "0755", settings=SETTINGS),
        context.file(
            ROLE,
            f"{UNITS}/{SERVICE}",
            program=PROGRAM,
            writable=f"{TEXTFILES} {STATE}",
            watchdog="10min",
        ),
        *context.setup_files(ROLE, [entry for _, entry in applications]),
    )
    timer = context.file(ROLE, f"{UNITS}/{TIMER}", interval=max(round(LOOK * pace), 5))
    watching = (
        context.file(ROLE, WATCH, "0755", places=_places(context), alert=WATCHDOG, pace=pace),
        context.file(ROLE, f"{UNITS}/nexus-watch.service", program=WATCH),
        timer,
    )
    resources: tuple[Resource, ...] = (
        *(Directory(TEXTFILES), Directory(STATE, "0700")),
        *measuring,
        *watching,
        Unit(SERVICE, on, on, restart_on=paths(r for r in measuring if isinstance(r, File))),
        Unit(TIMER, on, on, restart_on=(timer.path,)),
    )
    return Desired(ROLE, resources)


def _settings(context: Context, applications: list[tuple[dict[str, Any], str]]) -> dict[str, Any]:
    """What the program looks at on this host."""
    site, services = context.site, context.stack.services
    pace = site.monitoring.pace
    return {
        "project": PROJECT,
        "folder": TEXTFILES,
        "state": f"{STATE}/state.json",
        "interval": OFTEN * pace,
        "applications_interval": APPLICATIONS * pace,
        "storage_interval": STORAGE * pace,
        "services": [service.name for service in services],
        "behind": [service.name for service in services if service.behind],
        "jails": [jail.name for jail in jails(context)],
        "repositories": ["local", *(["offsite"] if site.backup.offsite else [])],
        "objectives": site.backup.objectives.in_seconds(),
        "updates": site.updates.automatic,
        "storage": BACKUP_STORAGE,
        "applications": [about for about, _ in applications],
    }


def _applications(context: Context) -> Iterator[tuple[dict[str, Any], str]]:
    """How each application is asked, and the vault entry of its key."""
    stack = context.stack
    family = {each.service: each for each in servarr.served(stack.services)}
    for service in stack.services:
        if service.name in family:
            kind, entry = "servarr", f"{service.name}_api_key"
            more = {"api": family[service.name].api, "files": bool(family[service.name].shelves)}
        elif service.name in KEYS:
            (kind, entry), more = KEYS[service.name], {}
        else:
            continue
        upstream = stack.upstream(service)
        port = service.ports_inside[0]
        place = stack.address(upstream, stack.service(upstream).networks[0])
        about = {
            **{"service": service.name, "kind": kind, "url": f"http://{place}:{port}"},
            **{"name": f"{upstream}:{port}", "user": context.site.admin},
            **{"key": setup_file(ROLE, entry), **more},
        }
        yield about, entry


def _places(context: Context) -> dict[str, str]:
    """Whom the watcher asks, and where."""
    stack = context.stack
    asked = [s for s in stack.services if s.name in ("prometheus", "alertmanager")]
    return {
        s.name: f"http://{stack.address(s.name, MONITORING)}:{s.ports_inside[0]}" for s in asked
    }


@pyinfra_deploy("Measure")
def deploy(plan: Plan) -> None:
    """Before the container that passes on what is measured."""
    converge(name="figures of the host, and the watcher", plan=plan, role=ROLE)
