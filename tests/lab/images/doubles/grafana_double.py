"""A lab double of Grafana 13: its settings, its provisioning, the login and the questions.

It is no Grafana: it shows each dashboard as one plain page, and nothing can be changed in it. It
asks Prometheus and Loki the dashboards' own questions, as the real one would pass them on.
"""

from __future__ import annotations

import base64
import configparser
import hashlib
import json
import re
import secrets
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from . import grafana_page
from .http import Request, Response, as_json, as_text, serve

VERSION = "13.2.3-double"
PORT = 3000
SESSION = "grafana_session"
STATE = "oauth_state"
VERIFIER = "oauth_code_verifier"
LIFETIME = 24 * 3600
POINTS = 240
OPEN = frozenset(["/api/health", "/metrics", "/login", "/login/generic_oauth", "/logout"])
ROLE = re.compile(r"contains\(groups\[\*\], '([^']+)'\) && '(Admin|Editor|Viewer)'")
NEEDED = ("client_id", "client_secret", "auth_url", "token_url", "api_url", "role_attribute_path")


class SettingsError(Exception):
    """Settings or provisioning that the program does not start with; the message says why."""


class Settings:
    """grafana.ini, with the values that are in files of their own."""

    def __init__(self, file: Path) -> None:
        self._parser = configparser.ConfigParser(interpolation=None)
        self._parser.read_string(file.read_text())

    def get(self, section: str, key: str, default: str = "") -> str:
        """A value. Raises SettingsError where it is in a file that cannot be read."""
        text = self._parser.get(section, key, fallback=default)
        named = re.fullmatch(r"\$__file\{([^}]+)\}", text)
        if not named:
            return text
        try:
            return Path(named[1]).read_text().strip()
        except OSError as error:
            raise SettingsError(f"[{section}] {key}: {error}") from error

    def yes(self, section: str, key: str, default: bool) -> bool:
        return self.get(section, key, str(default)).lower() == "true"


class Provisioned:
    """The data sources and dashboards of the provisioning folder, which must fit each other."""

    def __init__(self, folder: Path) -> None:
        self.sources: dict[str, dict[str, Any]] = {}
        self.boards: dict[str, dict[str, Any]] = {}
        for document in _documents(folder / "datasources"):
            for source in document["datasources"]:
                self.sources[source["uid"]] = source
        for document in _documents(folder / "dashboards"):
            for provider in document["providers"]:
                self._read(Path(provider["options"]["path"]))

    def _read(self, folder: Path) -> None:
        for file in sorted(folder.rglob("*.json")):
            board = json.loads(file.read_text())
            if board["uid"] in self.boards:
                raise SettingsError(f"{file}: uid {board['uid']} is used twice")
            for panel in board["panels"]:
                for target in panel["targets"]:
                    if target["datasource"]["uid"] not in self.sources:
                        raise SettingsError(f"{file}: {panel['title']}: no such data source")
            self.boards[board["uid"]] = board


def _documents(folder: Path) -> list[dict[str, Any]]:
    found = [yaml.safe_load(file.read_text()) for file in sorted(folder.glob("*.y*ml"))]
    if any(document.get("apiVersion") != 1 for document in found):
        raise SettingsError(f"{folder}: apiVersion must be 1")
    return found


class Grafana:
    """The answers to requests, over settings and what was provisioned."""

    def __init__(self, settings: Settings, provisioned: Provisioned) -> None:
        self._settings = settings
        self._provisioned = provisioned
        self._sessions: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._oauth = {key: settings.get("auth.generic_oauth", key) for key in NEEDED}
        missing = [key for key, value in self._oauth.items() if not value]
        if settings.yes("auth.generic_oauth", "enabled", False) and missing:
            raise SettingsError(f"[auth.generic_oauth]: {', '.join(missing)} is missing")
        self._root = settings.get("server", "root_url").rstrip("/")
        if settings.get("security", "secret_key") == "":
            raise SettingsError("[security] secret_key is missing")

    def handle(self, request: Request) -> Response:
        """Answer any request; whoever is not known is sent to the login, or gets 401."""
        path = request.path.rstrip("/") or "/"
        user = self._user(request)
        if path not in OPEN and user is None:
            if path.startswith("/api/"):
                return as_json({"message": "Unauthorized", "statusCode": 401}, 401)
            return _to("/login/generic_oauth")
        if path.startswith("/login") or path == "/logout":
            return self._log_in_or_out(request, path)
        return self._answer(request, path, user or {})

    def _answer(self, request: Request, path: str, user: Mapping[str, Any]) -> Response:
        boards = self._provisioned.boards
        fixed: dict[str, Callable[[], Response]] = {
            "/api/health": lambda: as_json({"database": "ok", "version": VERSION, "commit": ""}),
            "/metrics": lambda: as_text(self._metrics()),
            "/api/user": lambda: as_json({key: user[key] for key in ("login", "name", "email")}),
            "/api/user/orgs": lambda: as_json(
                [{"orgId": 1, "name": "Main Org.", "role": user["role"]}]
            ),
            "/api/search": lambda: as_json([_found(board) for board in boards.values()]),
            "/api/ds/query": lambda: self._query(request.json()),
            "/": lambda: self._page("overview", request),
        }
        if user.get("role") == "Admin":
            sources = list(self._provisioned.sources.values())
            fixed["/api/datasources"] = lambda: as_json(sources)
        if path in fixed:
            return fixed[path]()
        board = re.fullmatch(r"/(api/dashboards/uid|d)/([\w-]+)(?:/.*)?", path)
        if not board or board[2] not in boards:
            return as_json({"message": "Not found"}, 404)
        if board[1] == "d":
            return self._page(board[2], request)
        if request.method != "GET":
            return as_json({"message": "Cannot save provisioned dashboard"}, 400)
        meta = {"provisioned": True, "canSave": False, "canEdit": False, "slug": board[2]}
        return as_json({"dashboard": boards[board[2]], "meta": meta})

    def _metrics(self) -> str:
        return (
            f'grafana_build_info{{version="{VERSION}",edition="oss"}} 1\n'
            f"grafana_stat_totals_dashboard {len(self._provisioned.boards)}\n"
            f"grafana_stat_active_users {len(self._sessions)}\n"
            f"process_start_time_seconds {START}\n"
        )

    # The login (RFC 6749, RFC 7636)

    def _user(self, request: Request) -> dict[str, Any] | None:
        with self._lock:
            user = self._sessions.get(request.cookie(SESSION))
        return user if user and time.time() - user["time"] < LIFETIME else None

    def _log_in_or_out(self, request: Request, path: str) -> Response:
        if path == "/logout":
            with self._lock:
                self._sessions.pop(request.cookie(SESSION), None)
            return _to("/login/generic_oauth")
        if path == "/login" and request.method == "POST":
            # The form is off, and so is every account with a password.
            off = self._settings.yes("auth", "disable_login_form", False)
            return as_json({"message": "Invalid username or password"}, 401 if off else 500)
        if path == "/login" and not self._settings.yes("auth.generic_oauth", "auto_login", False):
            return as_text('<a href="/login/generic_oauth">Sign in</a>', content_type="text/html")
        return self._come_back(request) if request.query.get("code") else self._send_away()

    def _send_away(self) -> Response:
        state, verifier = secrets.token_urlsafe(24), secrets.token_urlsafe(48)
        digest = hashlib.sha256(verifier.encode()).digest()
        asked = {
            "client_id": self._oauth["client_id"],
            "redirect_uri": f"{self._root}/login/generic_oauth",
            "response_type": "code",
            "scope": self._settings.get("auth.generic_oauth", "scopes"),
            "state": state,
        }
        if self._settings.yes("auth.generic_oauth", "use_pkce", False):
            challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
            asked |= {"code_challenge": challenge, "code_challenge_method": "S256"}
        response = _to(f"{self._oauth['auth_url']}?{urlencode(asked)}")
        response.headers += [_cookie(STATE, state, 600), _cookie(VERIFIER, verifier, 600)]
        return response

    def _come_back(self, request: Request) -> Response:
        if not secrets.compare_digest(request.query.get("state", ""), request.cookie(STATE)):
            return as_text("Login failed: the state is not the one that was sent", 400)
        form = {
            "grant_type": "authorization_code",
            "code": request.query["code"],
            "redirect_uri": f"{self._root}/login/generic_oauth",
            "code_verifier": request.cookie(VERIFIER),
        }
        pair = f"{self._oauth['client_id']}:{self._oauth['client_secret']}"
        basic = base64.b64encode(pair.encode()).decode()
        try:
            headers = {"Authorization": f"Basic {basic}"}
            tokens = _fetch(self._oauth["token_url"], urlencode(form).encode(), headers)
            bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
            claims = {**_claims(tokens["id_token"]), **_fetch(self._oauth["api_url"], None, bearer)}
        except (OSError, ValueError, KeyError) as error:
            print(f"login failed: {error}", file=sys.stderr, flush=True)
            return as_text("Login failed: the provider gave no token", 500)
        role = self._role(claims.get("groups", []))
        if role is None:
            return as_text("Login failed: no role", 403)
        identifier = secrets.token_urlsafe(32)
        user = {"login": claims["preferred_username"], "role": role, "time": time.time()}
        user |= {key: claims.get(key, "") for key in ("name", "email")}
        with self._lock:
            self._sessions[identifier] = user
        response = _to("/")
        response.headers.append(_cookie(SESSION, identifier, LIFETIME))
        return response

    def _role(self, groups: list[str]) -> str | None:
        """The first role whose group is among these, or none; other expressions it cannot judge."""
        for part in self._oauth["role_attribute_path"].split("||"):
            if not (match := ROLE.fullmatch(part.strip())):
                raise SettingsError(f"this double cannot judge the expression {part.strip()}")
            if match[1] in groups:
                return match[2]
        return None

    # The questions

    def _query(self, asked: Mapping[str, Any]) -> Response:
        end = time.time()
        span = (
            max(60.0, (int(asked["to"]) - int(asked["from"])) / 1000) if "from" in asked else 3600
        )
        results = {q["refId"]: self.ask(q, end - span, end) for q in asked["queries"]}
        return as_json({"results": results})

    def ask(self, target: Mapping[str, Any], start: float, end: float) -> dict[str, Any]:
        """One question to its data source; an error is told as one."""
        source = self._provisioned.sources.get(target["datasource"]["uid"])
        if source is None:
            return {"status": 404, "error": "data source not found", "frames": []}
        loki = source["type"] == "loki"
        step = max((end - start) / POINTS, 1.0)
        expression = _interpolated(target["expr"], end - start, step)
        parameters = {"query": expression}
        moment = not loki and target.get("instant")
        if moment:
            parameters |= {"time": f"{end:.3f}"}
        elif loki:
            parameters |= {"start": f"{start:.3f}", "end": f"{end:.3f}", "limit": "200"}
        else:
            parameters |= {"start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:.3f}"}
        path = "loki/api/v1/query_range" if loki else f"api/v1/query{'' if moment else '_range'}"
        try:
            answer = _fetch(f"{source['url']}/{path}?{urlencode(parameters)}")
        except urllib.error.HTTPError as error:
            return {"status": error.code, "error": error.read(500).decode(), "frames": []}
        except (OSError, ValueError) as error:
            return {"status": 502, "error": str(error), "frames": []}
        return {"status": 200, "frames": [_frame(series) for series in answer["data"]["result"]]}

    def _page(self, uid: str, request: Request) -> Response:
        board = self._provisioned.boards[uid]
        end = time.time()
        start = end - grafana_page.span(request.query.get("from") or board["time"]["from"])
        results = {
            panel["id"]: [self.ask(target, start, end) for target in panel["targets"]]
            for panel in board["panels"]
        }
        text = grafana_page.page(board, list(self._provisioned.boards.values()), results)
        return as_text(text, content_type="text/html")


def _found(board: Mapping[str, Any]) -> dict[str, Any]:
    uid = board["uid"]
    return {"uid": uid, "title": board["title"], "url": f"/d/{uid}/{uid}", "type": "dash-db"}


def _frame(series: Mapping[str, Any]) -> dict[str, Any]:
    labels = series.get("metric", series.get("stream", {}))
    pairs = series["values"] if "values" in series else [series["value"]]
    fields = [{"name": "Time", "type": "time"}, {"name": "Value", "labels": labels}]
    values = [[pair[0] for pair in pairs], [pair[1] for pair in pairs]]
    return {"schema": {"fields": fields}, "data": {"values": values}}


def _interpolated(expression: str, length: float, step: float) -> str:
    words = {
        "$__rate_interval": f"{max(round(step), 120)}s",
        "$__interval": f"{max(round(step), 15)}s",
        "$__range": f"{round(length)}s",
    }
    for word, value in words.items():
        expression = expression.replace(word, value)
    return expression


def _claims(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def _fetch(url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Any:
    request = urllib.request.Request(url, body, dict(headers or {}))  # noqa: S310 - from settings
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
        return json.loads(answer.read())


def _to(place: str) -> Response:
    response = as_text("", 302)
    response.headers.append(("Location", place))
    return response


def _cookie(name: str, value: str, seconds: int) -> tuple[str, str]:
    attributes = f"Path=/; Max-Age={seconds}; HttpOnly; Secure; SameSite=Lax"
    return ("Set-Cookie", f"{name}={value}; {attributes}")


START = time.time()


def main(arguments: list[str]) -> int:
    """Serve until told to stop; 1 when settings or provisioning cannot be used."""
    options = dict(
        item.partition("=")[::2] for item in arguments if item.startswith(("--", "cfg:"))
    )
    try:
        settings = Settings(Path(options["--config"]))
        folder = Path(options["cfg:default.paths.provisioning"])
        application = Grafana(settings, Provisioned(folder))
    except (SettingsError, OSError, ValueError, KeyError, configparser.Error) as error:
        print(f"grafana_double: {error}", file=sys.stderr)
        return 1
    serve({(None, PORT): application.handle}, lambda: print("a lab double, ready", flush=True))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
