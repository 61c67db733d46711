"""A double of Homepage (https://gethomepage.dev): its configuration files, its tiles, its API."""

from __future__ import annotations

import html
import http.client
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from .http import Request, Response, SocketConnection, as_json, as_text, serve

NAME = "homepage_double"
# Upstream copies a sample of each that is missing, which a read-only folder refuses.
FILES = (
    "settings.yaml",
    "services.yaml",
    "bookmarks.yaml",
    "widgets.yaml",
    "docker.yaml",
    "kubernetes.yaml",
    "proxmox.yaml",
    "custom.css",
    "custom.js",
)
DOCKER_SECONDS = 5
_PLACEHOLDER = re.compile(r"\{\{(HOMEPAGE_(?:VAR|FILE)_[A-Za-z0-9_]+)\}\}")


class DockerError(Exception):
    """The Docker API could not be asked; the message says why."""


class Homepage:
    """The application over one configuration folder and one environment."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._port = environment.get("PORT", "3000")

    def check(self) -> None:
        """Create an empty file for each missing one, as upstream copies its samples."""
        for name in FILES:
            if not (self._folder / name).exists():
                (self._folder / name).write_text("")

    def handle(self, request: Request) -> Response:
        """Answer a request. Only the API checks the Host header, as upstream's middleware does."""
        path = request.path
        if not path.startswith("/api/"):
            return self._page(request) if path == "/" else as_text("404", 404)
        if not self._host_allowed(request.header("host")):
            log(
                "error",
                f"Host validation failed for: {request.header('host')}. Hint: Set the "
                "HOMEPAGE_ALLOWED_HOSTS environment variable to allow requests from this host "
                "/ port.",
            )
            return as_json({"error": "Host validation failed. See logs for more details."}, 400)
        return self._api(path)

    def _api(self, path: str) -> Response:
        if path == "/api/healthcheck":
            return as_text("up")
        if path == "/api/services":
            return as_json(self._load("services.yaml") or [])
        if path == "/api/bookmarks":
            return as_json(self._load("bookmarks.yaml") or [])
        if path == "/api/widgets":
            return as_json(self._load("widgets.yaml") or [])
        if path.startswith("/api/docker/status/"):
            return self._docker_status(path.split("/")[4:])
        return as_text("404", 404)

    def _host_allowed(self, host: str) -> bool:
        wanted = self._environment.get("HOMEPAGE_ALLOWED_HOSTS", "")
        if wanted == "*":
            return True
        own = [f"{name}:{self._port}" for name in ("localhost", "127.0.0.1", "[::1]")]
        return host in [*own, *wanted.split(",")] and bool(host)

    def _docker_status(self, parts: list[str]) -> Response:
        if len(parts) != 2 or not all(parts):
            return as_json({"error": "docker query parameters are required"}, 400)
        container, server = parts
        try:
            listed = self._docker(server, "/containers/json?all=true")
            names = [name.lstrip("/") for item in listed for name in item["Names"]]
            if container not in names:
                return as_json({"status": "not found"}, 404)
            state = self._docker(server, f"/containers/{quote(container, safe='')}/json")["State"]
        except (DockerError, KeyError, TypeError) as error:
            log("error", f"<dockerStatusService> {error}")
            return as_json({"error": {"message": str(error)}}, 500)
        found = {"status": state["Status"], "health": state.get("Health", {}).get("Status")}
        return as_json({key: value for key, value in found.items() if value})

    def _docker(self, server: str, path: str) -> Any:
        place = (self._load("docker.yaml") or {}).get(server)
        if not place:
            raise DockerError(f"docker.yaml has no server {server}")
        connection = _connection(place)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise DockerError(f"{server}: {error}") from error
        finally:
            connection.close()
        if answer.status != 200:
            raise DockerError(f"(HTTP code {answer.status}) {path}")
        return json.loads(body)

    def _load(self, name: str) -> Any:
        return yaml.safe_load(self._substituted((self._folder / name).read_text()))

    def _substituted(self, text: str) -> str:
        def value(match: re.Match[str]) -> str:
            name = match[1]
            if name not in self._environment:
                return match[0]
            if name.startswith("HOMEPAGE_FILE_"):
                return Path(self._environment[name]).read_text()
            return self._environment[name]

        return _PLACEHOLDER.sub(value, text)

    def _page(self, _: Request) -> Response:
        settings = self._load("settings.yaml") or {}
        title = html.escape(str(settings.get("title", "Homepage")))
        groups = "".join(
            f'<section><h2>{html.escape(group)}</h2><ul class="services-list">'
            f"{''.join(_tile(name, tile) for name, tile in tiles)}</ul></section>"
            for group, tiles in _groups(self._load("services.yaml"))
        )
        return as_text(_PAGE.format(title=title, groups=groups), content_type="text/html")


def _connection(place: Mapping[str, Any]) -> http.client.HTTPConnection:
    if "socket" in place:
        return SocketConnection(place["socket"], DOCKER_SECONDS)
    return http.client.HTTPConnection(
        place["host"], place.get("port", 2375), timeout=DOCKER_SECONDS
    )


def _groups(services: Any) -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    for group in services or []:
        for name, tiles in group.items():
            yield name, [(key, tile or {}) for item in tiles or [] for key, tile in item.items()]


def _tile(name: str, tile: Mapping[str, Any]) -> str:
    state = ""
    if tile.get("server") and tile.get("container"):
        source = f"/api/docker/status/{quote(tile['container'])}/{quote(tile['server'])}"
        state = f'<span class="docker-status" data-source="{html.escape(source)}">…</span>'
    return (
        f'<li class="service" data-name="{html.escape(name)}">'
        f'<a href="{html.escape(str(tile.get("href", "#")))}">{html.escape(name)}</a> '
        f"<small>{html.escape(str(tile.get('description', '')))}</small> {state}</li>"
    )


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"></head>
<body><main id="page_container"><h1>{title}</h1>{groups}</main>
<footer>lab double of Homepage</footer>
<script>
for (const place of document.querySelectorAll(".docker-status")) {{
  fetch(place.dataset.source).then(answer => answer.json()).then(state => {{
    place.textContent = state.health || state.status || "error";
  }}).catch(() => {{ place.textContent = "error"; }});
}}
</script></body></html>
"""


def log(level: str, message: str) -> None:
    """One line in upstream's format on the standard output."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    print(f"[{moment}] {level}: {message}", flush=True)


def main() -> int:
    """Serve until told to stop. Ends with 1 when the configuration folder cannot be used."""
    log("info", f"{NAME}: this is a lab double, not Homepage")
    home = Homepage(Path("/app/config"), os.environ)
    try:
        home.check()
    except OSError as error:
        log("error", f"could not write a missing configuration file: {error}")
        return 1
    port = int(os.environ.get("PORT", "3000"))
    serve({(None, port): home.handle}, lambda: log("info", f"ready on port {port}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
