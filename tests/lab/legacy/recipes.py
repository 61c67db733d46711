"""The images of the old NEXUS: its programs as their images run them, as root and with what is set.

Prometheus, the node exporter, Traefik, PostgreSQL, qBittorrent and SABnzbd are the real programs;
the others are doubles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.lab.images.base import DOWNLOADERS, Base
from tests.lab.images.layer import Entry
from tests.lab.images.recipes import HERE, PATH, Recipe, all_recipes
from tests.lab.images.store import Store, recipe_hash

# Its set-user-id programs stay so, as in the images that the doubles stand for.
LEGACY = Base(
    "legacy",
    (
        "busybox",
        "ca-certificates",
        "catatonit",
        "curl",
        "prometheus",
        "prometheus-node-exporter",
        "python3",
        "python3-yaml",
        "sqlite3",
        "tzdata",
        "wget",
    ),
    setuid=True,
)
DOUBLES = "usr/lib/python3/dist-packages/doubles"
# The stack's own images that the old one ran as well, with the names under which it asked for them.
SHARED = {
    "traefik": "traefik:v3.0",
    "postgres": "postgres:15-alpine",
    "jellyfin": "jellyfin/jellyfin:latest",
    "homepage": "ghcr.io/gethomepage/homepage:latest",
    "gluetun": "qmcgaw/gluetun:latest",
}
SERVARR = ("Sonarr", "Radarr", "Lidarr", "Readarr", "Prowlarr")
# Small programs that one double plays, with the names of their images.
SMALL = {
    "grafana": "grafana/grafana:latest",
    "loki": "grafana/loki:latest",
    "jaeger": "jaegertracing/all-in-one:latest",
    "otelcol-contrib": "otel/opentelemetry-collector-contrib:latest",
    "portainer": "portainer/portainer-ce:latest",
    "voice": "nexus/ai-voice:latest",
    "arvr": "nexus/arvr-cinema:latest",
}


def recipes() -> dict[str, Recipe]:
    """Every image of the old stack by the name that its Compose file uses."""
    own = {recipe.name: recipe for recipe in all_recipes(None)}
    return {
        **{tag: own[name] for name, tag in SHARED.items()},
        **{_linuxserver(name.lower()): _servarr(name) for name in SERVARR},
        _linuxserver("bazarr"): _bazarr(),
        **{_linuxserver(name): _dropping(name) for name in ("overseerr", "tautulli")},
        _linuxserver("qbittorrent"): _qbittorrent(),
        _linuxserver("sabnzbd"): _sabnzbd(),
        "prom/prometheus:latest": _prometheus(),
        "prom/node-exporter:latest": _node_exporter(),
        **{tag: _small(name) for name, tag in SMALL.items()},
    }


def _linuxserver(name: str) -> str:
    return f"lscr.io/linuxserver/{name}:{'develop' if name == 'readarr' else 'latest'}"


def _servarr(program: str) -> Recipe:
    double = [_file(f"app/bin/{program}", "servarr-double.sh"), *_modules("servarr")]
    command = [f"/app/bin/{program}", "--nobrowser", "--data=/config"]
    return _dropping_recipe(program.lower(), command, double, LEGACY)


def _bazarr() -> Recipe:
    double = [_file("usr/local/bin/python", "bazarr-double.sh"), *_modules("bazarr")]
    command = ["/usr/local/bin/python", "/app/bin/bazarr.py", "--config", "/config"]
    return _dropping_recipe("bazarr", command, double, LEGACY)


def _dropping(name: str) -> Recipe:
    return _dropping_recipe(name, [f"/app/{name}"], _double(f"app/{name}"), LEGACY)


def _qbittorrent() -> Recipe:
    command = ["/usr/bin/qbittorrent-nox", "--webui-port=8080", "--profile=/config"]
    return _dropping_recipe("qbittorrent", command, [], DOWNLOADERS, "QBT_CONFIRM_LEGAL_NOTICE=1")


def _sabnzbd() -> Recipe:
    command = ["/usr/bin/sabnzbdplus", "--browser", "0", "--server", "[::]:8080"]
    command += ["--config-file", "/config/sabnzbd.ini", "--disable-file-log", "--console"]
    return _dropping_recipe("sabnzbd", command, [], DOWNLOADERS)


def _prometheus() -> Recipe:
    config = {
        "User": "nobody",
        "Entrypoint": ["/usr/bin/prometheus"],
        "ExposedPorts": {"9090/tcp": {}},
        "Volumes": {"/prometheus": {}},
        "WorkingDir": "/prometheus",
        "Env": [f"PATH={PATH}"],
    }
    return _recipe("prometheus", config, [Entry("prometheus", owner=(65534, 65534))], LEGACY)


def _node_exporter() -> Recipe:
    config = {
        "Entrypoint": ["/usr/bin/prometheus-node-exporter"],
        "ExposedPorts": {"9100/tcp": {}},
        "Env": [f"PATH={PATH}"],
    }
    return _recipe("node-exporter", config, [], LEGACY)


def _small(name: str) -> Recipe:
    config = {"Entrypoint": [f"/app/{name}"], "Env": [f"PATH={PATH}"]}
    return _recipe(name, config, _double(f"app/{name}"), LEGACY)


def _double(path: str) -> list[Entry]:
    return [_file(path, "legacy-double.sh"), *_modules("legacy")]


def _dropping_recipe(
    name: str, command: list[str], entries: list[Entry], base: Base, *environment: str
) -> Recipe:
    """LinuxServer's way: root is there, and the program runs as PUID and PGID."""
    config = {
        "Entrypoint": ["/usr/bin/catatonit", "--", "/init"],
        "Cmd": command,
        "Volumes": {"/config": {}},
        "Env": [f"PATH={PATH}", "PUID=911", "PGID=911", "HOME=/config", *environment],
    }
    return _recipe(name, config, [_file("init", "linuxserver.sh"), *entries], base)


def _recipe(name: str, config: Mapping[str, Any], entries: list[Entry], base: Base) -> Recipe:
    def made(_: Store) -> list[Entry]:
        return entries

    build: Callable[[Store], list[Entry]] = made
    inputs = tuple(recipe_hash(e.path, (e.content or b"").hex(), e.owner) for e in entries)
    return Recipe(f"legacy-{name}", config, build, inputs, base)


def _file(path: str, name: str) -> Entry:
    return Entry(path, (HERE / "files" / name).read_bytes())


def _modules(prefix: str) -> list[Entry]:
    found = sorted((HERE / "doubles").glob("*.py"))
    return [
        Entry(f"{DOUBLES}/{module.name}", module.read_bytes(), 0o644)
        for module in found
        if module.stem in ("__init__", "http") or module.stem.startswith(prefix)
    ]
