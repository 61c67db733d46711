"""Doubles of the old NEXUS's smaller programs: each answers a few of its program's addresses.

What the validation report says of a program is true of its double: the AI and the AR/VR services
are the mock-ups that they were, the collector ends on a configuration that the real one refuses.
"""

from __future__ import annotations

import base64
import configparser
import json
import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import yaml

from . import legacy_collector, legacy_portainer
from .http import Handler, Request, Response, as_json, as_text, serve

CONFIG = Path("/config")


def page(title: str) -> Response:
    """What a browser gets: no header that protects it, as the programs themselves send none."""
    text = (
        f'<!DOCTYPE html><html lang="en"><head><title>{title}</title></head>'
        f'<body class="lab-double"><h1>{title} (a lab double)</h1></body></html>'
    )
    return as_text(text, content_type="text/html")


def rows(database: Path, query: str) -> list[dict[str, object]]:
    """The rows of a query, by column."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(query)]


def overseerr() -> Handler:
    """Its status, and the wishes to whoever has the key of settings.json."""
    key = json.loads((CONFIG / "settings.json").read_text())["main"]["apiKey"]

    def handle(request: Request) -> Response:
        if request.path == "/api/v1/status":
            return as_json({"version": "1.33.2", "restartRequired": False})
        if request.path == "/api/v1/request":
            if request.header("x-api-key") != key:
                return as_json({"status": 403, "error": "You do not have permission"}, 403)
            return as_json(
                {"results": rows(CONFIG / "db/db.sqlite3", "SELECT * FROM media_request")}
            )
        return page("Overseerr")

    return handle


def tautulli() -> Handler:
    """The watch history to whoever has the key of config.ini; its own pages ask for no login."""
    settings = configparser.ConfigParser()
    settings.read(CONFIG / "config.ini")
    key = settings["General"]["api_key"]

    def handle(request: Request) -> Response:
        if request.path == "/status":
            return as_json({"result": "success", "message": "Ok"})
        if request.path != "/api/v2":
            return page("Tautulli")
        if request.query.get("apikey") != key:
            return as_json({"response": {"result": "error", "message": "Invalid apikey"}}, 401)
        found = rows(CONFIG / "tautulli.db", "SELECT * FROM session_history")
        return as_json({"response": {"result": "success", "data": {"data": found}}})

    return handle


def grafana() -> Handler:
    """Its account from the environment, by form or by the Authorization header."""
    user = os.environ.get("GF_SECURITY_ADMIN_USER", "admin")
    password = os.environ.get("GF_SECURITY_ADMIN_PASSWORD", "admin")
    header = f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"

    def handle(request: Request) -> Response:
        if request.path == "/api/health":
            return as_json({"database": "ok", "version": "12.1.0"})
        if request.path == "/login" and request.method == "POST":
            given = request.json()
            if (given.get("user"), given.get("password")) != (user, password):
                return as_json({"message": "Invalid username or password"}, 401)
            return as_json({"message": "Logged in"})
        if request.path.startswith("/api/"):
            if request.header("authorization") != header:
                return as_json({"message": "Unauthorized"}, 401)
            return as_json(_datasources() if request.path == "/api/datasources" else [])
        return page("Grafana")

    return handle


def _datasources() -> list[object]:
    found: list[object] = []
    for file in sorted(Path("/etc/grafana/provisioning/datasources").glob("*.y*ml")):
        found += yaml.safe_load(file.read_text())["datasources"]
    return found


def loki() -> Handler:
    """Ready, and without a line: nothing sends it any."""
    yaml.safe_load(Path("/etc/loki/local-config.yaml").read_text())["schema_config"]

    def handle(request: Request) -> Response:
        if request.path == "/ready":
            return as_text("ready\n")
        return as_json({"status": "success", "data": []})

    return handle


def jaeger() -> Handler:
    """Its page and an interface that lists no service: no program sends it a trace."""

    def handle(request: Request) -> Response:
        if request.path.startswith("/api/"):
            return as_json({"data": [], "total": 0, "limit": 0, "offset": 0, "errors": None})
        return page("Jaeger UI")

    return handle


def voice() -> Handler:
    """The mock-up: it understands everything, whatever it hears."""

    def handle(request: Request) -> Response:
        if request.path == "/api/voice/command":
            return as_json({"intent": "play_movie", "confidence": 0.97, "status": "simulated"})
        return page("NEXUS AI Voice Control")

    return handle


def arvr() -> Handler:
    """The mock-up: a session that nothing ever joins."""

    def handle(request: Request) -> Response:
        if request.path == "/api/xr/sessions":
            return as_json({"sessions": [{"id": 1, "state": "ready", "status": "simulated"}]})
        return page("NEXUS AR/VR Cinema")

    return handle


# Port and program, by the name under which an image starts it.
PROGRAMS: dict[str, tuple[int, Callable[[], Handler]]] = {
    "overseerr": (5055, overseerr),
    "tautulli": (8181, tautulli),
    "grafana": (3000, grafana),
    "loki": (3100, loki),
    "jaeger": (16686, jaeger),
    "voice": (8500, voice),
    "arvr": (8600, arvr),
    "portainer": (9000, legacy_portainer.portainer),
}


def main(arguments: list[str]) -> int:
    """Serve as the program of this name until told to stop."""
    name, *rest = arguments
    if name == "otelcol-contrib":
        return legacy_collector.main(rest)
    port, program = PROGRAMS[name]
    serve(
        {(None, port): program()},
        lambda: print(f"{name}: a lab double, ready on port {port}", flush=True),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
