"""A lab double of Bazarr: its configuration file, its login and what it asks of the others.

Written from the public behaviour of bazarr/app/config.py, app/ui.py, app/logger.py and the API's
system part. It fetches no subtitle.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import secrets
import sys
import urllib.parse
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from .http import Request, Response, as_json, as_text, serve

IPV4 = re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b")
Settings = dict[str, dict[str, Any]]
AUTHENTICATION = (None, "basic", "form")


def defaults() -> Settings:
    """The entries that this double knows, a part of the real one's."""
    other = {"ip": "127.0.0.1", "base_url": "/", "ssl": False, "apikey": "", "http_timeout": 60}
    return {
        "auth": {
            "apikey": secrets.token_hex(16),
            "type": None,
            "username": "",
            "password": "",
        },
        "general": {
            "ip": "*",
            "port": 6767,
            "base_url": "",
            "auto_update": True,
            "use_sonarr": False,
            "use_radarr": False,
            "flask_secret_key": secrets.token_hex(16),
        },
        "sonarr": {**other, "port": 8989},
        "radarr": {**other, "port": 7878},
    }


def load(path: Path) -> Settings:
    """Read, complete and write back. A value of the wrong kind is replaced by its default."""
    path.parent.mkdir(parents=True, exist_ok=True)
    found = yaml.safe_load(path.read_text()) if path.exists() else None
    settings: Settings = found if isinstance(found, dict) else {}
    for section, entries in defaults().items():
        own = settings.setdefault(section, {})
        for name, default in entries.items():
            if not _valid(section, name, own.get(name, default), default):
                own[name] = default
            own.setdefault(name, default)
    with path.open("w") as file:
        yaml.safe_dump(settings, file, explicit_start=True, default_flow_style=False)
    return settings


def _valid(section: str, name: str, value: object, default: object) -> bool:
    if (section, name) == ("auth", "type"):
        return value in AUTHENTICATION
    return isinstance(value, type(default)) and isinstance(value, bool) is isinstance(default, bool)


class Bazarr:
    """The answers, without HTTP."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = load(folder / "config/config.yaml")
        self.sessions: set[str] = set()

    def log(self, text: str) -> None:
        """The console says everything; the file hides addresses (FileHandlerFormatter)."""
        moment = datetime.now(UTC)
        print(f"{moment:%Y-%m-%d %H:%M:%S} - root (double) :  INFO - {text}", flush=True)
        logs = self.folder / "log"
        logs.mkdir(exist_ok=True)
        hidden = IPV4.sub("***.***.***.***", text)
        with (logs / "bazarr.log").open("a") as file:
            file.write(f"{moment:%Y-%m-%d %H:%M:%S}|INFO    |{'root':32}|{hidden}|\n")

    def handle(self, request: Request) -> Response:
        """Answer a request: the API with the key, the page to everybody, its key to a session."""
        path = request.path
        if path == "/api/system/account" and request.method == "POST":
            return self._account(request)
        if path == "/api/system/ping":
            return as_json({"status": "OK"})
        if path.startswith("/api/"):
            given = (request.query.get("apikey"), request.header("x-api-key"))
            if self.settings["auth"]["apikey"] not in given:
                return Response(401)
            return as_json({"data": self._status()}) if path == "/api/system/status" else _missing()
        return self._page(request)

    def _page(self, request: Request) -> Response:
        kind = self.settings["auth"]["type"]
        open_to_all = kind is None or (
            kind == "form" and request.cookie("session") in self.sessions
        )
        if kind == "basic":
            return Response(401, headers=[("WWW-Authenticate", 'Basic realm="Login Required"')])
        inject: dict[str, object] = {"baseUrl": self.settings["general"]["base_url"]}
        if open_to_all:
            inject["apiKey"] = self.settings["auth"]["apikey"]
        page = (
            '<!DOCTYPE html><html lang="en"><head><title>Bazarr</title></head>'
            f"<body class='lab-double'><script>window.Bazarr = {json.dumps(inject)}</script>"
            "<h1>Bazarr (a lab double)</h1></body></html>"
        )
        return as_text(page, content_type="text/html")

    def _account(self, request: Request) -> Response:
        if self.settings["auth"]["type"] != "form":
            return as_json("Unknown authentication type define in config", 500)
        form = {k: v[0] for k, v in urllib.parse.parse_qs(request.body.decode()).items()}
        form = {**request.query, **form}
        user, auth = form.get("username", ""), self.settings["auth"]
        address = request.header("x-forwarded-for") or request.peer
        made = hashlib.md5(form.get("password", "").encode()).hexdigest()  # noqa: S324 - upstream's
        if form.get("action") != "login" or (user, made) != (auth["username"], auth["password"]):
            self.log(f"Failed authentication from {address} for user {user}")
            return as_json("Authentication failed", 403)
        self.log(f"Successful authentication from {address} for user {user}")
        session = secrets.token_urlsafe(32)
        self.sessions.add(session)
        return Response(204, headers=[("Set-Cookie", f"session={session}; HttpOnly; Path=/")])

    def _status(self) -> dict[str, str]:
        use = self.settings["general"]
        return {
            "bazarr_version": "1.6.0",
            **{
                f"{name}_version": version_of(self.settings[name]) if use[f"use_{name}"] else ""
                for name in ("sonarr", "radarr")
            },
        }


def version_of(other: Mapping[str, Any]) -> str:
    """What another one says of itself to this key; "unknown" to a wrong one, as the real one."""
    scheme = "https" if other["ssl"] else "http"
    address = f"{scheme}://{other['ip']}:{other['port']}{other['base_url'].rstrip('/')}"
    headers = {"X-Api-Key": other["apikey"]}
    asked = urllib.request.Request(f"{address}/api/v3/system/status", headers=headers)  # noqa: S310
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310
            return str(json.loads(answer.read())["version"])
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return "unknown"


def _missing() -> Response:
    return as_json({"message": "not found"}, 404)


def main(arguments: list[str]) -> int:
    """Serve until told to stop. Options: --config FOLDER, --port NUMBER."""
    options = dict(zip(arguments[::2], arguments[1::2], strict=False))
    bazarr = Bazarr(Path(options.get("--config", "/config")))
    bazarr.log("bazarr_double: this is a lab double, not Bazarr; it fetches no subtitle")
    address = bazarr.settings["general"]["ip"]
    port = int(options.get("--port") or bazarr.settings["general"]["port"])
    listener = (None if address == "*" else address, port)
    serve({listener: bazarr.handle}, lambda: bazarr.log("BAZARR is started and waiting"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
