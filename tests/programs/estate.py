"""Collections of hosts that were never there: a hardened one, and one as the report found it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from roles import handbook
from roles.context import Context
from roles.core import libyaml
from roles.core.model import File
from roles.plan import roles_of
from roles.prometheus import alerts, slo
from roles.stack.service import Service
from roles.stack.stack import COMPOSE_FILE, PROJECT, config_folder, data_folder, secret_file
from roles.verify.collected import Collected
from roles.verify.collector import FIGURES
from roles.verify.target import Target
from tests.unit.conftest import context_from
from tests.unit.observation import converged

PINNED = "@sha256:" + "0" * 64
GIGABYTE = 2**30
SOUND = {"CapBnd": "0", "NoNewPrivs": "1", "Seccomp": "2", "Groups": ""}
ALL_CAPABILITIES = "a80425fb"


def container(name: str, program: str, **changes: Any) -> dict[str, Any]:
    """What `docker inspect` says of a hardened container but for the changes, by their words."""
    given = {
        **{"user": "8801:8801", "env": [], "labels": {}, "mounts": [], "networks": ["nx-edge"]},
        **{"ports": {}, "health": "healthy", "restart": "unless-stopped", "log": "journald"},
        **{"image": f"registry.example/{program}{PINNED}", "args": [], "read_only": True},
        **{"privileged": False, "devices": [], "mode": "nx-edge", "security": [], "project": name},
        **{"restarts": 0, "looping": False},
        **changes,
    }
    health = {"Health": {"Status": given["health"]}} if given["health"] else {}
    labels = {
        "com.docker.compose.project": PROJECT,
        "com.docker.compose.service": program,
        **given["labels"],
    }
    return {
        "Id": name.ljust(64, "0"),
        "Image": f"sha256:{program}",
        "Name": f"/{name}",
        "Args": given["args"],
        "RestartCount": given["restarts"],
        "State": {"Running": True, "Status": "running", "Restarting": given["looping"], **health},
        "Config": {
            "Image": given["image"],
            "User": given["user"],
            "Env": given["env"],
            "Labels": labels,
        },
        "Mounts": given["mounts"],
        "NetworkSettings": {
            "Networks": {n: {"IPAddress": "172.30.0.2"} for n in given["networks"]},
            "Ports": given["ports"],
        },
        "HostConfig": {
            "ReadonlyRootfs": given["read_only"],
            "Privileged": given["privileged"],
            "Devices": given["devices"],
            "NetworkMode": given["mode"],
            "SecurityOpt": given["security"],
            "RestartPolicy": {"Name": given["restart"]},
            "LogConfig": {"Type": given["log"], "Config": {}},
            "PortBindings": given["ports"],
        },
    }


def mount(source: str, destination: str, *, writable: bool = True) -> dict[str, Any]:
    return {"Type": "bind", "Source": source, "Destination": destination, "RW": writable}


def ports(*numbers: int) -> dict[str, Any]:
    return {f"{n}/tcp": [{"HostPort": str(n)}] for n in numbers}


def target(
    raw: Mapping[str, Any], context: Any, roles: Sequence[Any], open_ports: Iterable[int]
) -> Target:
    """A target whose ports were tried already."""
    found = Target(
        name="home",
        address="192.0.2.1",
        context=context,
        roles=tuple(roles),
        observed=converged(*roles),
        collected=Collected(raw),
        clock_error=0.0,
        host=cast(Any, SimpleNamespace(backend=SimpleNamespace(commands=3))),
    )
    # What a host's ports say is cached there.
    found.__dict__["open_ports"] = {found.address: sorted(open_ports)}
    return found


def _collection(**changes: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {
        **{"time": time.time(), "containers": [], "digests": {}, "processes": [], "mounts": {}},
        **{"limits": {}, "listeners": [], "addresses": [], "filters": {"4": "", "6": ""}},
        **{"sshd": [], "apt": [], "docker": {}, "docker_members": [], "failed_units": []},
        **{"timers": [], "tree": {}, "logs": {}, "networks": [], "jails": [], "journald": []},
        **{"memory_kills": [], "reports": {}},
        **{"kernel": {}, "places": {}, "documents": {}, "written": {}, "proxy": {}},
        **{"backups": {}, "backup_record": {}, "monitoring": {}, "reached": {}},
    }
    assert not changes.keys() - empty.keys()
    return {**empty, **changes}


def bare() -> Target:
    """A host without Docker."""
    context = context_from()
    return target(_collection(), context, roles_of(context), {22})


def hardened() -> Target:
    """A host as the deploy leaves it, as far as a collection tells."""
    context = context_from()
    context = replace(context, facts=replace(context.facts, memory=64 * GIGABYTE))
    roles = roles_of(context)
    containers = [
        _ours(service, context.stack.networks_of(service)) for service in services(context)
    ]
    ids = {c["Name"].removeprefix("/"): c["Id"] for c in containers}
    api = [ids["nexus-socket-proxy-1"], 2375, "172.30.9.2", 403]
    reached: dict[str, list[Any]] = {number: [] for number in ids.values()}
    reached[ids["nexus-homepage-1"]] = [api]
    files = {f.path: f for role in roles for f in role.of(File)}
    pages = {p: f.content.decode() for p, f in files.items() if p.startswith(handbook.FOLDER)}
    proxy = [
        f.content.decode() for p, f in files.items() if p.startswith("/opt/nexus/config/traefik")
    ]
    plan = libyaml.load(files["/opt/nexus/config/backup/plan.json"].content)
    now = time.time()
    raw = _collection(
        containers=containers,
        processes=[_process(s, ids[f"nexus-{s.name}-1"]) for s in services(context)],
        limits={ids[f"nexus-{s.name}-1"]: _limits(s.limits.memory) for s in services(context)},
        mounts={ids["nexus-jellyfin-1"]: ["1 1 0:1 / /transcode rw - tmpfs tmpfs rw,size=2g"]},
        filters=dict.fromkeys("46", "*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\nCOMMIT\n"),
        docker={"ServerVersion": "28", **_engine()},
        apt=_apt(),
        timers=[_timer(name) for name in _TIMERS],
        reports={_service(name): ["nexus-failed@it.service"] for name in _TIMERS[2:]},
        tree={f"/opt/nexus/secrets/backup/{n}.password": [0o400, 0, 0] for n in ("local",)},
        networks=[
            {"Name": s.docker_name, "Internal": s.internal} for s in context.stack.segments.values()
        ],
        jails=["sshd", "traefik", "authelia", "jellyfin"],
        journald=["Storage=persistent", "MaxRetentionSec=3month"],
        kernel=dict(_KERNEL),
        places={"/": [0o755, 0, 100, 50], "/srv/media/movies": [0o2775, 0, 100, 50]},
        documents=pages,
        written={COMPOSE_FILE: []},
        proxy={ids["nexus-traefik-1"]: ["traefik", *proxy]},
        backups=plan,
        backup_record={
            "snapshot_timestamp_seconds": {"local": now},
            "drill_timestamp_seconds": {"local": now},
            "drill_rto_seconds": {"local": 40.0},
        },
        reached=reached,
        monitoring={
            ids["nexus-prometheus-1"]: _prometheus(context),
            ids["nexus-grafana-1"]: {"/api/health": '{"database": "ok"}'},
            ids["nexus-loki-1"]: {"/loki/api/v1/labels": '{"data": ["service"]}'},
            ids["nexus-jaeger-1"]: {"/": "", "/api/services": '{"data": ["traefik"]}'},
        },
    )
    return target(raw, context, roles, {22, 80, 443})


def _prometheus(context: Context) -> dict[str, str]:
    """What it answers with the rules that it is given, and figures of each kind."""
    made = [*alerts.groups(context), *slo.groups(context)]
    rules = [
        [
            {**rule, "type": "alerting", "name": rule["alert"]}
            if "alert" in rule
            else {"type": "recording", "name": rule["record"]}
            for rule in group["rules"]
        ]
        for group in made
    ]
    answers = {
        "/api/v1/targets?state=active": {"activeTargets": [{"health": "up"}]},
        "/api/v1/rules": {"groups": [{"rules": group} for group in rules]},
        "/api/v1/alertmanagers": {"activeAlertmanagers": [{}]},
        FIGURES: {
            "result": [
                {"metric": {"__name__": name}}
                for name in (
                    *("node_cpu_seconds_total", "traefik_service_request_duration_seconds_sum"),
                    *("jellyfin_sessions", "nexus_backup_snapshot_timestamp_seconds"),
                    *("container_memory_working_set_bytes", "probe_success", "pg_up"),
                )
            ]
        },
    }
    return {path: json.dumps({"data": answer}) for path, answer in answers.items()}


def services(context: Any) -> list[Service]:
    return list(context.stack.services)


def _ours(service: Service, segments: Iterable[Any]) -> dict[str, Any]:
    mounts = [mount(data_folder(service, n), place) for n, place in service.data]
    mounts += [
        mount(secret_file(service, n), f"/run/secrets/{n}", writable=False) for n in service.secrets
    ]
    mounts += [mount(m.source, m.target, writable=not m.read_only) for m in service.mounts]
    mounts += (
        [mount(config_folder(service), service.config, writable=False)] if service.config else []
    )
    if service.docker_socket:
        mounts += [mount("/run/docker.sock", "/var/run/docker.sock", writable=False)]
    return container(
        f"{PROJECT}-{service.name}-1",
        service.image,
        labels={"com.docker.compose.service": service.name},
        user=f"{service.uid}:{service.uid}",
        args=list(service.command),
        env=[f"{key}={value}" for key, value in service.environment],
        mounts=mounts,
        networks=[segment.docker_name for segment in segments],
        ports={f"{p.container}/tcp": [{"HostPort": str(p.host)}] for p in service.ports},
    )


def _process(service: Service, number: str) -> dict[str, Any]:
    uids = " ".join([str(service.uid)] * 4)
    return {"container": number, "status": {**SOUND, "Uid": uids}}


def _limits(memory: int) -> dict[str, str]:
    return {"memory.max": str(memory), "cpu.max": "100000 100000", "pids.max": "100"}


def _engine() -> dict[str, Any]:
    return {
        "LiveRestoreEnabled": True,
        "LoggingDriver": "json-file",
        "Swarm": {"LocalNodeState": "inactive"},
        "SecurityOptions": ["name=seccomp,profile=builtin"],
    }


def _apt() -> list[str]:
    return [
        'APT::Periodic::Unattended-Upgrade "1";',
        'Unattended-Upgrade::Origins-Pattern:: "origin=Debian,label=Debian-Security";',
    ]


_TIMERS = (
    *("apt-daily.timer", "apt-daily-upgrade.timer"),
    *("nexus-backup-run.timer", "nexus-backup-maintain.timer"),
    *("nexus-scrub.timer", "nexus-scan.timer"),
)
_KERNEL = {
    "net.ipv4.conf.all.accept_redirects": "0",
    "net.ipv4.conf.all.accept_source_route": "0",
    "net.ipv6.conf.all.accept_redirects": "0",
    "net.ipv6.conf.all.accept_source_route": "0",
    "net.ipv4.conf.all.send_redirects": "0",
    "net.ipv4.tcp_syncookies": "1",
}


def _timer(name: str) -> dict[str, Any]:
    return {"unit": name, "activates": _service(name), "next": 1, "last": 1}


def _service(timer: str) -> str:
    return timer.replace(".timer", ".service")


def legacy() -> Target:
    """A host as the validation report describes it: a Compose project copied from the web."""
    context = context_from()
    folder = Path("/srv/nexus")
    socket = mount("/var/run/docker.sock", "/var/run/docker.sock")
    media = mount("/srv/media", "/media")

    def old(name: str, program: str, port: int, *mounts: dict[str, Any], **more: Any) -> Any:
        weak = {
            **{"user": "", "ports": ports(port), "restart": "unless-stopped", "log": "json-file"},
            **{"image": f"example/{program}:latest", "read_only": False, "health": ""},
            **{"networks": ["old_media"], "mode": "old_media", "mounts": list(mounts)},
        }
        labels = {"com.docker.compose.service": name}
        return container(name, program, **{**weak, "labels": labels, **more})

    def config(name: str) -> dict[str, Any]:
        return mount(str(folder / "config" / name), "/config")

    told = {"env": ["PUID=1000", "PGID=1000"], "health": "healthy"}
    containers = [
        old("jellyfin", "jellyfin", 8096, config("jellyfin"), media, **told),
        old("sonarr", "sonarr", 8989, config("sonarr"), media, **told),
        old("qbittorrent", "qbittorrent", 8080, config("qbittorrent"), **told),
        old("homepage", "homepage", 3000, socket, health="healthy"),
        old("portainer", "portainer-ce", 9000, socket),
        old("traefik", "traefik", 80, socket),
        old("db", "postgres", 5432, mount("/srv/db", "/data"), env=["POSTGRES_PASSWORD=nexus2025"]),
        old(
            "prometheus", "prometheus", 9090, mount("/srv/prom", "/prometheus"), mount("/", "/host")
        ),
        old(
            "grafana", "grafana", 3001, mount("/srv/grafana", "/g"), env=["GF_ADMIN_PASSWORD=admin"]
        ),
        old("jaeger", "all-in-one", 16686),
        old("otel", "otel-collector", 4317, restarts=50, looping=True),
        old("ai-voice", "ai-voice", 7000),
        old("arvr", "arvr-cinema", 7001),
    ]
    ids = [c["Id"] for c in containers]
    metrics = (
        '{"data": {"activeTargets": [{"health": "up"}, {"health": "down", "scrapeUrl": "o"}]}}'
    )
    answers = {
        "/api/v1/targets?state=active": metrics,
        "/api/v1/rules": '{"data": {"groups": []}}',
        "/api/v1/alertmanagers": '{"data": {"activeAlertmanagers": []}}',
        FIGURES: '{"data": {"result": [{"metric": {"__name__": "node_cpu_seconds_total"}}]}}',
    }
    weak = {"Uid": "0 0 0 0", "CapBnd": ALL_CAPABILITIES, "NoNewPrivs": "0", "Seccomp": "2"}
    raw = _collection(
        containers=containers,
        processes=[{"container": i, "status": {**weak, "Groups": ""}} for i in ids],
        docker={"ServerVersion": "28", **_engine(), "LiveRestoreEnabled": False},
        filters=dict.fromkeys(
            "46", "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\nCOMMIT\n"
        ),
        docker_members=["operator"],
        networks=[{"Name": "old_media", "Internal": False}],
        places={"/": [0o755, 0, 100, 50], "/srv/media": [0o777, 0, 100, 50]},
        kernel={**_KERNEL, "net.ipv4.conf.all.accept_redirects": "1"},
        written={"/srv/nexus/docker-compose.yml": ["POSTGRES_PASSWORD"]},
        proxy={ids[5]: ["--api.insecure=true"]},
        monitoring={
            ids[7]: answers,
            ids[8]: {"/api/health": '{"database": "ok"}'},
            ids[9]: {"/": "<html>"},
        },
        reached={i: [[j, 80, "172.28.0.2"] for j in ids if j != i] for i in ids},
    )
    return target(raw, context, roles_of(context), {22, 80, 443, 8096, 9090})
