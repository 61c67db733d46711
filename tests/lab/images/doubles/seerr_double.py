"""A lab double of Seerr: its settings file, its set-up through Jellyfin, and its servers.

Written from the public behaviour of server/lib/settings, server/routes/auth.ts and
server/routes/settings. It takes no wishes.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import sys
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .http import Request, Response, as_json, as_text, serve

PORT = 5055
JELLYFIN = 2
UNSET = 4
VERSION = "3.5.0"
Json = dict[str, Any]
CONNECTION = {"hostname": str, "port": int, "apiKey": str, "useSsl": bool}
SERVER = {
    **CONNECTION,
    "name": str,
    "activeProfileId": int,
    "activeProfileName": str,
    "activeDirectory": str,
    "is4k": bool,
    "isDefault": bool,
}
OWN: dict[str, dict[str, type]] = {
    "sonarr": {"enableSeasonFolders": bool},
    "radarr": {"minimumAvailability": str},
}


def defaults() -> Json:
    """The settings that this double knows, a part of the real one's."""
    return {
        "clientId": str(uuid.uuid4()),
        "main": {
            "apiKey": "",
            "applicationTitle": "Seerr",
            "applicationUrl": "",
            "localLogin": True,
            "mediaServerLogin": True,
            "mediaServerType": UNSET,
        },
        "jellyfin": {
            **{"name": "", "ip": "", "port": 8096, "useSsl": False, "urlBase": ""},
            **{"libraries": [], "serverId": "", "apiKey": ""},
        },
        "radarr": [],
        "sonarr": [],
        "public": {"initialized": False},
        "network": {"csrfProtection": False, "trustProxy": False},
        "migrations": [],
    }


def merged(base: Json, other: Mapping[str, Any]) -> Json:
    """As lodash's merge: objects are merged, what else is there replaces."""
    found = dict(base)
    for name, value in other.items():
        old = found.get(name)
        deep = isinstance(old, dict) and isinstance(value, dict)
        found[name] = merged(old or {}, value) if deep else value
    return found


class RefusedError(Exception):
    """An answer other than success."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Seerr:
    """The answers, without HTTP."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        self._file = folder / "settings.json"
        self._users = folder / "double.json"
        self.users: list[Json] = json.loads(self._users.read_text()) if self._users.exists() else []
        found = json.loads(self._file.read_text()) if self._file.exists() else {}
        self.settings = merged(defaults(), found)
        # A random one, as the real one, so that an unset key is no empty key.
        self.settings["main"]["apiKey"] = self.settings["main"]["apiKey"] or secrets.token_hex(32)
        self.sessions: dict[str, int] = {}
        self.save()

    def save(self) -> None:
        for file, content in ((self._file, self.settings), (self._users, self.users)):
            unfinished = file.with_suffix(".tmp")
            with unfinished.open("w") as handle:
                os.fchmod(handle.fileno(), 0o600)
                json.dump(content, handle, indent=1)
            unfinished.replace(file)

    def log(self, level: str, label: str, message: str, **details: object) -> None:
        moment = datetime.now(UTC)
        clock = f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"
        line = f"{clock} [{level}][{label}]: {message} "
        line += json.dumps(details, separators=(",", ":")) if details else ""
        print(line, flush=True)
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        with (logs / f"seerr-{moment:%Y-%m-%d}.log").open("a") as file:
            file.write(f"{line}\n")

    def address(self, request: Request) -> str:
        forwarded = request.header("x-forwarded-for").split(",")[0].strip()
        return forwarded if self.settings["network"]["trustProxy"] and forwarded else request.peer

    def handle(self, request: Request) -> Response:
        """Answer a request; the pages lead to the set-up, then to the login."""
        root = "/api/v1/"
        if not request.path.startswith("/api"):
            return self._page(request)
        try:
            body = json.loads(request.body) if request.body else {}
            with self.lock:
                return self._answer(request, request.path.removeprefix(root), body)
        except RefusedError as refused:
            return as_json({"message": str(refused)}, refused.status)
        except (KeyError, TypeError, ValueError) as error:
            return as_json({"message": f"request/body {type(error).__name__}"}, 400)

    def _page(self, request: Request) -> Response:
        place = "/login" if self.settings["public"]["initialized"] else "/setup"
        if request.path not in (place, "/favicon.ico") and not self._user(request):
            return Response(307, headers=[("Location", place)])
        page = (
            f'<!DOCTYPE html><html lang="en"><head><title>Seerr</title></head>'
            f'<body class="lab-double"><h1>Seerr {place} (a lab double)</h1></body></html>'
        )
        return as_text(page, content_type="text/html")

    def _user(self, request: Request) -> Json | None:
        given, key = request.header("x-api-key"), self.settings["main"]["apiKey"]
        number = self.sessions.get(request.cookie("connect.sid"), 0)
        if secrets.compare_digest(given.encode(), key.encode()):
            number = 1
        return next((user for user in self.users if user["id"] == number), None)

    def _answer(self, request: Request, path: str, body: Json) -> Response:
        if path == "status":
            return as_json({"version": VERSION, "commitTag": "local", "restartRequired": False})
        if path == "settings/public":
            return as_json({**self.settings["public"], "applicationTitle": "Seerr"})
        if (request.method, path) == ("POST", "auth/jellyfin"):
            return self._login(request, body)
        if (request.method, path) == ("POST", "auth/plex"):
            configured = self.settings["main"]["mediaServerType"] != UNSET
            raise RefusedError(
                500, "Plex login is disabled" if configured else "this double knows no Plex"
            )
        user = self._user(request)
        if user is None or (path.startswith("settings") and not user["admin"]):
            raise RefusedError(403, "You do not have permission to access this endpoint")
        kind = path.split("/")[1] if path.startswith("settings/") else ""
        if kind in OWN:
            return self._server(request.method, kind, path.split("/")[2:], body)
        actions: Mapping[tuple[str, str], Callable[[], object]] = {
            ("GET", "auth/me"): lambda: user,
            ("GET", "settings/main"): lambda: self.settings["main"],
            ("GET", "settings/jellyfin"): lambda: self.settings["jellyfin"],
            ("POST", "settings/jellyfin"): lambda: self._connect(body),
            ("GET", "settings/jellyfin/library"): lambda: self._libraries(request),
            ("POST", "settings/initialize"): self._initialize,
        }
        action = actions.get((request.method, path))
        if action is None:
            raise RefusedError(404, "not found")
        return as_json(action())

    def _initialize(self) -> Json:
        self.settings["public"]["initialized"] = True
        self.save()
        return dict(self.settings["public"])

    def _connect(self, body: Json) -> Json:
        server = {**self.settings["jellyfin"], **body}
        try:
            found = jellyfin(server, "GET", "/System/Info", token=server["apiKey"])
        except (OSError, http.client.HTTPException):
            raise RefusedError(500, "INVALID_URL") from None
        names = {"serverId": found["Id"], "name": found["ServerName"]}
        self.settings["jellyfin"] = {**server, **names}
        self.save()
        return dict(self.settings["jellyfin"])

    def _login(self, request: Request, body: Json) -> Response:
        known = self.settings["jellyfin"]
        if known["ip"] and body.get("hostname"):
            raise RefusedError(500, "Jellyfin hostname already configured")
        if not known["ip"] and not body.get("hostname"):
            raise RefusedError(500, "No hostname provided.")
        server = known if known["ip"] else {**known, **body, "ip": body["hostname"]}
        login = {"Username": body["username"], "Pw": body["password"]}
        try:
            account = jellyfin(server, "POST", "/Users/AuthenticateByName", login)
        except urllib.error.HTTPError as error:
            details = {"ip": self.address(request), "email": body["username"]}
            self.log(
                "warn",
                "Auth",
                "Failed login attempt from user with incorrect Jellyfin credentials",
                account={**details, "password": "__REDACTED__"},
            )
            raise RefusedError(error.code, "INVALID_CREDENTIALS") from None
        except (OSError, http.client.HTTPException):
            raise RefusedError(404, "INVALID_URL") from None
        user = next((u for u in self.users if u["jellyfinUserId"] == account["User"]["Id"]), None)
        if not self.users or self.settings["main"]["mediaServerType"] == UNSET:
            user = self._adopt(server, body, account)
        elif user is None:
            user = self._add_user(account, body.get("email") or "", admin=False)
        session = secrets.token_urlsafe(24)
        self.sessions[session] = user["id"]
        cookie = f"connect.sid={session}; Path=/; HttpOnly; SameSite=Lax"
        answer = as_json(user)
        answer.headers.append(("Set-Cookie", cookie))
        return answer

    def _adopt(self, server: Json, body: Json, account: Json) -> Json:
        """The first to sign in, with an administrator of any Jellyfin, owns Seerr from then on."""
        if not account["User"]["Policy"]["IsAdministrator"]:
            raise RefusedError(403, "NOT_ADMIN")
        if body.get("serverType") != JELLYFIN:
            raise RefusedError(500, "NO_ADMIN_USER")
        token = account["AccessToken"]
        jellyfin(server, "POST", "/Auth/Keys?App=Seerr", token=token)
        keys = jellyfin(server, "GET", "/Auth/Keys", token=token)["Items"]
        self.settings["main"]["mediaServerType"] = JELLYFIN
        self.settings["jellyfin"] |= {
            "name": jellyfin(server, "GET", "/System/Info/Public")["ServerName"],
            # As upstream: out of the request, also where that may not name a server.
            "ip": body.get("hostname", ""),
            "port": body.get("port", 8096),
            "useSsl": body.get("useSsl", False),
            "urlBase": body.get("urlBase", ""),
            "serverId": account["ServerId"],
            "apiKey": next(key["AccessToken"] for key in keys if key["AppName"] == "Seerr"),
        }
        return self._add_user(account, body.get("email") or "", admin=True)

    def _add_user(self, account: Json, email: str, *, admin: bool) -> Json:
        user = {
            "id": len(self.users) + 1,
            "email": email or account["User"]["Name"],
            "jellyfinUsername": account["User"]["Name"],
            "jellyfinUserId": account["User"]["Id"],
            "admin": admin,
        }
        self.users.append(user)
        self.save()
        return user

    def _libraries(self, request: Request) -> list[Json]:
        known = self.settings["jellyfin"]
        if request.query.get("sync"):
            found = jellyfin(known, "GET", "/Library/MediaFolders", token=known["apiKey"])["Items"]
            if not found:
                raise RefusedError(404, "SYNC_ERROR_NO_LIBRARIES")
            known["libraries"] = [{"id": item["Id"], "name": item["Name"]} for item in found]
        enabled = request.query.get("enable", "").split(",")
        known["libraries"] = [
            {**item, "enabled": item["id"] in enabled} for item in known["libraries"]
        ]
        self.save()
        return list(known["libraries"])

    def _server(self, method: str, kind: str, rest: list[str], body: Json) -> Response:
        listed = self.settings[kind]
        if method == "GET" and not rest:
            return as_json(listed)
        if rest == ["test"]:
            _judge(body, CONNECTION)
            return as_json(_test(body))
        number = int(rest[0]) if rest else max((item["id"] for item in listed), default=-1) + 1
        if rest and all(item["id"] != number for item in listed):
            raise RefusedError(404, "Settings instance not found")
        kept = [item for item in listed if item["id"] != number]
        if method != "DELETE":
            _judge(body, {**SERVER, **OWN[kind]})
            if "id" in body:
                raise RefusedError(400, "request/body/id is read-only")
            kept.append({**body, "id": number})
        self.settings[kind] = kept
        self.save()
        return as_json({**body, "id": number}, 201 if method == "POST" else 200)


def _judge(body: Json, wanted: Mapping[str, type]) -> None:
    for name, kind in wanted.items():
        if name not in body:
            raise RefusedError(400, f"request/body must have required property '{name}'")
        if type(body[name]) is not kind:
            raise RefusedError(400, f"request/body/{name} must be {kind.__name__}")


def _test(server: Json) -> Json:
    scheme = "https" if server["useSsl"] else "http"
    root = f"{scheme}://{server['hostname']}:{server['port']}{server.get('baseUrl', '')}/api/v3"
    headers = {"X-Api-Key": server["apiKey"]}

    def get(path: str) -> Any:
        asked = urllib.request.Request(f"{root}/{path}", headers=headers)  # noqa: S310
        with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310
            return json.loads(answer.read())

    try:
        get("system/status")
        profiles, folders = get("qualityprofile"), get("rootfolder")
    except (OSError, http.client.HTTPException):
        raise RefusedError(500, "Failed to connect") from None
    shown = [{"id": folder["id"], "path": folder["path"]} for folder in folders]
    return {"profiles": profiles, "rootFolders": shown, "tags": []}


def jellyfin(server: Json, method: str, path: str, body: object = None, token: str = "") -> Json:
    """One request to a Jellyfin server."""
    scheme = "https" if server["useSsl"] else "http"
    url = f"{scheme}://{server['ip']}:{server['port']}{server['urlBase']}{path}"
    who = 'MediaBrowser Client="Seerr", Device="Seerr", DeviceId="BOT_seerr", Version="3"'
    authorization = f'{who}, Token="{token}"' if token else who
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": authorization, "Content-Type": "application/json"}
    asked = urllib.request.Request(url, data, headers, method=method)  # noqa: S310
    with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310
        text = answer.read()
    found: Json = json.loads(text) if text else {}
    return found


def main() -> int:
    """Serve until told to stop. Environment: CONFIG_DIRECTORY."""
    seerr = Seerr(Path(os.environ.get("CONFIG_DIRECTORY", "/app/config")))
    seerr.log("info", "Server", "seerr_double: this is a lab double, not Seerr; it takes no wishes")
    serve({(None, PORT): seerr.handle}, lambda: seerr.log("info", "Server", f"Ready on {PORT}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
