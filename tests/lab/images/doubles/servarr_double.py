"""A lab double of Sonarr, Radarr, Lidarr and Prowlarr: one program, four faces.

Written from the public behaviour of the four: ConfigFileProvider, HostConfigController,
ProviderControllerBase, AuthenticationController. It finds and files nothing.
"""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import json
import os
import secrets
import sys
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from .http import Request, Response, as_json, as_text, serve

ITERATIONS = 10_000
MASK = "********"
Json = dict[str, Any]

# Written into config.xml when they are missing; the others stand there only once they are set.
WRITTEN = {
    "BindAddress": "*",
    "Port": "",
    "SslPort": "9898",
    "EnableSsl": "False",
    "LaunchBrowser": "True",
    "ApiKey": "",
    "AuthenticationMethod": "None",
    "AuthenticationRequired": "Enabled",
    "Branch": "main",
    "LogLevel": "debug",
    "SslCertPath": "",
    "SslCertPassword": "",
    "UrlBase": "",
    "InstanceName": "",
}
OPTIONAL = {
    "AnalyticsEnabled": "True",
    "UpdateMechanism": "BuiltIn",
    "UpdateAutomatically": "False",
    "LogSizeLimit": "1",
    "Theme": "auto",
}
BOOLEANS = ("EnableSsl", "LaunchBrowser", "AnalyticsEnabled", "UpdateAutomatically")
NUMBERS = ("Port", "SslPort", "LogSizeLimit")
CHOICES = {
    "AuthenticationMethod": ("None", "Basic", "Forms", "External"),
    "AuthenticationRequired": ("Enabled", "DisabledForLocalAddresses", "DisabledForLocalhost"),
    "UpdateMechanism": ("BuiltIn", "Script", "External", "Apt", "Docker"),
}
# Private addresses may say for whom they ask, one step far (Startup.cs).
PROXIES = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))


@dataclass(frozen=True)
class Face:
    """What differs between the four. `category` is the download clients' own field."""

    name: str
    port: int
    api: str
    version: str
    category: str = ""


FACES = {
    face.name: face
    for face in (
        Face("Sonarr", 8989, "v3", "4.0.20.3012", "tvCategory"),
        Face("Radarr", 7878, "v3", "6.4.4.10685", "movieCategory"),
        Face("Lidarr", 8686, "v1", "3.1.3.4987", "musicCategory"),
        Face("Prowlarr", 9696, "v1", "2.6.5.5623"),
    )
}
NOTHING: Json = {"page": 1, "pageSize": 1, "totalRecords": 0, "records": []}
# Upstream has ended it; the old stack still runs it.
RETIRED = {"Readarr": Face("Readarr", 8787, "v1", "0.4.18.2805", "musicCategory")}


def templates(face: Face) -> dict[str, list[Json]]:
    """The providers that can be made, by endpoint: contract and fields with their defaults."""
    if face.name == "Prowlarr":
        made = [
            _template(
                other.name,
                {
                    "prowlarrUrl": "http://localhost:9696",
                    "baseUrl": f"http://localhost:{other.port}",
                    "apiKey": "",
                    "syncCategories": [2000],
                },
                {"syncLevel": "fullSync"},
            )
            for other in FACES.values()
            if other is not face
        ]
        return {"applications": made}
    common = {"host": "localhost", "port": 8080, "useSsl": False, "urlBase": ""}
    user = {"username": "", "password": "", face.category: face.name.lower()}
    enabled = {"enable": True, "priority": 1}
    clients = [
        _template("QBittorrent", {**common, **user}, {**enabled, "protocol": "torrent"}),
        _template("Sabnzbd", {**common, "apiKey": "", **user}, {**enabled, "protocol": "usenet"}),
    ]
    return {"downloadclient": clients}


def _template(implementation: str, fields: Json, settings: Json) -> Json:
    return {
        "implementation": implementation,
        "implementationName": implementation,
        "configContract": f"{implementation}Settings",
        "name": "",
        "tags": [],
        "presets": [],
        "fields": [{"name": name, "value": value} for name, value in fields.items()],
        **settings,
    }


class RefusedError(Exception):
    """An answer other than success; `problems` are (property, message)."""

    def __init__(self, status: int, *problems: tuple[str, str]) -> None:
        super().__init__(status)
        self.status = status
        self.problems = [{"propertyName": name, "errorMessage": text} for name, text in problems]


class ConfigFile:
    """config.xml: read at the start, completed, and without what the program does not know."""

    def __init__(self, path: Path, face: Face) -> None:
        self.path = path
        own = {"Port": str(face.port), "InstanceName": face.name, "ApiKey": secrets.token_hex(16)}
        found = self._read()
        self.values = {
            **{name: own.get(name, default) for name, default in WRITTEN.items()},
            **{name: value for name, value in found.items() if name in {**WRITTEN, **OPTIONAL}},
        }
        self._judge()
        self.save()

    def get(self, name: str) -> str:
        return self.values.get(name, OPTIONAL.get(name, ""))

    def save(self) -> None:
        root = ElementTree.Element("Config")
        for name, value in self.values.items():
            ElementTree.SubElement(root, name).text = value
        ElementTree.indent(root)
        self.path.write_text(ElementTree.tostring(root, encoding="unicode"))

    def _read(self) -> dict[str, str]:
        if not self.path.exists():
            return {}
        try:
            root = ElementTree.parse(self.path).getroot()  # noqa: S314 - the host's own file
        except ElementTree.ParseError:
            sys.exit(f"{self.path} is corrupt is invalid. Please delete the config file")
        if root.tag != "Config":
            sys.exit(f"{self.path} is invalid. Please delete the config file")
        return {child.tag: (child.text or "").strip() for child in root}

    def _judge(self) -> None:
        for name, allowed in CHOICES.items():
            if self.get(name).lower() not in {choice.lower() for choice in allowed}:
                sys.exit(f"{self.path}: {name}: Requested value '{self.get(name)}' was not found")
        for name in BOOLEANS:
            if self.get(name).lower() not in ("true", "false"):
                sys.exit(f"{self.path}: {name}: String was not recognized as a valid Boolean")
        for name in NUMBERS:
            if not self.get(name).isdigit():
                sys.exit(f"{self.path}: {name}: Input string was not in a correct format")


class State:
    """User, folders and providers, kept in one file that is replaced whole."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.lock = threading.RLock()
        empty: Json = {"user": {}, "rootfolder": [], "downloadclient": [], "applications": []}
        self.data: Json = json.loads(file.read_text()) if file.exists() else empty

    def save(self) -> None:
        unfinished = self._file.with_suffix(".new")
        with unfinished.open("w") as handle:
            os.fchmod(handle.fileno(), 0o600)
            json.dump(self.data, handle)
        unfinished.replace(self._file)

    def add(self, kind: str, item: Json) -> Json:
        item["id"] = max((known["id"] for known in self.data[kind]), default=0) + 1
        self.data[kind].append(item)
        self.save()
        return item

    def remove(self, kind: str, number: int) -> Json:
        """An unknown number is no error (ProviderFactory.cs)."""
        self.data[kind] = [item for item in self.data[kind] if item["id"] != number]
        self.save()
        return {}


def hashed(password: str, salt: str) -> str:
    """PBKDF2 with HMAC-SHA512, as UserService.cs does it."""
    made = hashlib.pbkdf2_hmac("sha512", password.encode(), bytes.fromhex(salt), ITERATIONS, 32)
    return made.hex()


class Application:
    """The answers, without HTTP."""

    def __init__(self, face: Face, folder: Path) -> None:
        self.face = face
        self.folder = folder
        self.config = ConfigFile(folder / "config.xml", face)
        self.state = State(folder / "double.json")
        self.templates = templates(face)
        self.sessions: set[str] = set()
        # Read once, as the real ones do: a new key or method needs a new start.
        self.key = self.config.get("ApiKey")
        self.method = self.config.get("AuthenticationMethod").lower()

    def log(self, level: str, source: str, text: str) -> None:
        """The file's format; the console leaves out date and place (NzbDroneLogger.cs)."""
        moment = datetime.now(UTC)
        print(f"[{level}] {source}: {text}", flush=True)
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        with (logs / f"{self.face.name.lower()}.txt").open("a") as file:
            tenth = moment.microsecond // 100_000
            file.write(f"{moment:%Y-%m-%d %H:%M:%S}.{tenth}|{level}|{source}|{text}\n")

    def handle(self, request: Request) -> Response:
        """Answer a request, with the four ways in: none, a key, a form, a session."""
        path = request.path.rstrip("/") or "/"
        if path == "/ping":
            return as_json({"status": "OK"})
        root = f"/api/{self.face.api}/"
        if path.startswith("/api"):
            return self._api(request, path.removeprefix(root) if path.startswith(root) else "")
        if path == "/login":
            return self._login(request) if request.method == "POST" else self._page(request, True)
        if not self._may_see(request):
            place = f"/login?returnUrl={urllib.parse.quote(request.target, safe='')}"
            return Response(302, headers=[("Location", place)])
        if path == "/initialize.json":
            return as_json({"apiRoot": f"/api/{self.face.api}", "apiKey": self.key})
        return self._page(request, False)

    def _may_see(self, request: Request) -> bool:
        if self.method in ("none", "external"):
            return True
        required = self.config.get("AuthenticationRequired").lower()
        address = ipaddress.ip_address(self._address(request))
        if required == "disabledforlocaladdresses" and address.is_private:
            return True
        if required == "disabledforlocalhost" and address.is_loopback:
            return True
        return request.cookie(f"{self.face.name}Auth") in self.sessions

    def _address(self, request: Request) -> str:
        hops = [hop.strip() for hop in request.header("x-forwarded-for").split(",") if hop.strip()]
        peer = ipaddress.ip_address(request.peer)
        known = peer.is_loopback or any(peer in network for network in PROXIES)
        return hops[-1] if hops and known else request.peer

    def _page(self, request: Request, login: bool) -> Response:
        del request
        wizard = self.method == "none"
        title = "Authentication Required: choose a method" if wizard else self.face.name
        page = (
            f'<!DOCTYPE html><html lang="en"><head><title>{title}</title></head>'
            f'<body class="lab-double"><h1>{title} (a lab double)</h1>'
            f"{'<form method=post action=/login></form>' if login else ''}</body></html>"
        )
        return as_text(page, content_type="text/html")

    def _login(self, request: Request) -> Response:
        form = {k: v[0] for k, v in urllib.parse.parse_qs(request.body.decode()).items()}
        user, name = self.state.data["user"], form.get("username", "")
        known = bool(user) and name.lower() == user["username"]
        if not known or hashed(form.get("password", ""), user["salt"]) != user["hash"]:
            address = self._address(request)
            self.log("Warn", "Auth", f"Auth-Failure ip {address} username '{name}'")
            back = request.query.get("returnUrl", "")
            place = f"/login?returnUrl={back}&loginFailed=true"
            return Response(302, headers=[("Location", place)])
        session = secrets.token_urlsafe(32)
        self.sessions.add(session)
        cookie = f"{self.face.name}Auth={session}; path=/; httponly; samesite=lax"
        return Response(302, headers=[("Set-Cookie", cookie), ("Location", "/")])

    def _api(self, request: Request, path: str) -> Response:
        given = request.query.get("apikey") or request.header("x-api-key")
        given = given or request.header("authorization").removeprefix("Bearer ")
        if not secrets.compare_digest(given.encode(), self.key.encode()):
            return Response(401)
        try:
            body = json.loads(request.body) if request.body else {}
            with self.state.lock:
                status, answer = self._answer(request.method, path, body)
        except RefusedError as refused:
            return as_json(refused.problems, refused.status)
        except (KeyError, TypeError, ValueError) as error:
            return as_json({"message": f"{type(error).__name__}: {error}"}, 400)
        return as_json(answer, status)

    def _answer(self, method: str, path: str, body: Json) -> tuple[int, object]:
        kind, _, rest = path.partition("/")
        actions: Mapping[tuple[str, str], Callable[[], tuple[int, object]]] = {
            ("GET", "system/status"): lambda: (200, self._status()),
            ("GET", "config/host"): lambda: (200, self._host()),
            ("PUT", "config/host/1"): lambda: (202, self._set_host(body)),
            ("GET", "health"): lambda: (200, self._health()),
            ("GET", "queue"): lambda: (200, NOTHING),
            ("GET", "wanted/missing"): lambda: (200, NOTHING),
            ("GET", "rootfolder"): lambda: (200, self.state.data["rootfolder"]),
            ("POST", "rootfolder"): lambda: (201, self._add_folder(body)),
            ("GET", "qualityprofile"): lambda: (200, [{"id": 1, "name": "Any"}]),
            ("GET", "metadataprofile"): lambda: (200, [{"id": 1, "name": "Standard"}]),
            ("POST", "command"): lambda: (201, {"id": 1, "name": body["name"]}),
            ("POST", "indexer/test"): lambda: (200, self._test_indexer(body)),
        }
        action = actions.get((method, path))
        files = ("rootfolder", "queue", "wanted")
        if action and not (kind in files and self.face.name == "Prowlarr"):
            return action()
        if kind in self.templates:
            if method == "GET":
                found = self.templates[kind] if rest == "schema" else self._providers(kind)
                return 200, found
            if method == "POST" and not rest:
                return 201, self._save_provider(kind, body, None)
            if method == "PUT":
                return 202, self._save_provider(kind, body, int(rest))
            if method == "DELETE":
                return 200, self.state.remove(kind, int(rest))
        raise RefusedError(404, ("", "NotFound"))

    def _health(self) -> list[Json]:
        """RootFolderCheck.cs, the one check of many that fails here too."""
        return [
            {
                "source": "RootFolderCheck",
                "type": "error",
                "message": f"Missing root folder: {folder['path']}",
            }
            for folder in self.state.data["rootfolder"]
            if not Path(folder["path"]).is_dir()
        ]

    def _status(self) -> Json:
        return {
            "appName": self.face.name,
            "instanceName": self.config.get("InstanceName"),
            "version": self.face.version,
            "urlBase": self.config.get("UrlBase"),
            "authentication": self.method,
            "isDocker": True,
        }

    def _host(self) -> Json:
        def value(name: str) -> object:
            text = self.config.get(name)
            if name in BOOLEANS:
                return text.lower() == "true"
            return int(text) if name in NUMBERS else text

        names = (*WRITTEN, *OPTIONAL)
        user = self.state.data["user"]
        return {
            "id": 1,
            **{name[0].lower() + name[1:]: value(name) for name in names},
            "username": user.get("username", ""),
            "password": user.get("hash", ""),
            "passwordConfirmation": "",
        }

    def _set_host(self, body: Json) -> Json:
        user, name, password = self.state.data["user"], body["username"], body["password"]
        problems = []
        if str(body["authenticationMethod"]).lower() == "forms":
            problems += [("Username", "must not be empty")] if not name else []
            problems += [("Password", "must not be empty")] if not password else []
        if password not in (user.get("hash"), body["passwordConfirmation"]):
            problems += [("PasswordConfirmation", "Must match Password")]
        if self.face.name not in body["instanceName"]:
            problems += [("InstanceName", f"Must contain {self.face.name}")]
        if problems:
            raise RefusedError(400, *problems)
        for key in (*WRITTEN, *OPTIONAL):
            new = str(body[key[0].lower() + key[1:]])
            if key != "ApiKey" and new != self.config.get(key):
                self.config.values[key] = new
        self.config.save()
        if name and password:
            salt = user.get("salt") or secrets.token_hex(16)
            same = password == user.get("hash")
            stored = password if same else hashed(password, salt)
            self.state.data["user"] = {"username": name.lower(), "salt": salt, "hash": stored}
            self.state.save()
        return self._host()

    def _add_folder(self, body: Json) -> Json:
        path = Path(body["path"])
        if not path.is_dir():
            raise RefusedError(400, ("Path", f"Path '{path}' does not exist"))
        if any(known["path"] == str(path) for known in self.state.data["rootfolder"]):
            raise RefusedError(400, ("Path", f"Path '{path}' is already configured"))
        try:
            with tempfile.TemporaryFile(dir=path):
                pass
        except OSError:
            text = f"Folder '{path}' is not writable by user '{os.getuid()}'"
            raise RefusedError(400, ("Path", text)) from None
        if self.face.name == "Lidarr" and not (
            body.get("name")
            and body.get("defaultMetadataProfileId") == 1
            and body.get("defaultQualityProfileId") == 1
        ):
            raise RefusedError(400, ("Name", "a name and two profiles that exist are needed"))
        return self.state.add("rootfolder", {**body, "path": str(path), "accessible": True})

    def _providers(self, kind: str) -> list[Json]:
        def shown(field: Json) -> Json:
            hidden = field["name"] in ("apiKey", "password") and field["value"]
            return {**field, "value": MASK} if hidden else field

        return [
            {**provider, "fields": [shown(field) for field in provider["fields"]]}
            for provider in self.state.data[kind]
        ]

    def _save_provider(self, kind: str, body: Json, number: int | None) -> Json:
        known = self.state.data[kind]
        old: Json | None = next((item for item in known if item["id"] == number), None)
        if number is not None and old is None:
            raise RefusedError(404, ("", "NotFound"))
        template = next(
            (t for t in self.templates[kind] if t["configContract"] == body["configContract"]), None
        )
        if template is None or template["implementation"] != body["implementation"]:
            raise RefusedError(400, ("ConfigContract", "is not known"))
        if not body["name"]:
            raise RefusedError(400, ("Name", "must not be empty"))
        if any(k is not old and k["name"].lower() == body["name"].lower() for k in known):
            raise RefusedError(400, ("Name", "Should be unique"))
        fields = self._fields(template, body, old)
        self._test(kind, body, fields)
        made = {
            **{key: body.get(key, value) for key, value in template.items() if key != "presets"},
            "fields": [{"name": name, "value": value} for name, value in fields.items()],
        }
        if old is None:
            return self.state.add(kind, made)
        old.update(made)
        self.state.save()
        return old

    def _fields(self, template: Json, body: Json, old: Json | None) -> Json:
        """Unknown fields are dropped, wrong kinds refused, masked secrets stay (SchemaBuilder)."""
        given = {field["name"]: field.get("value") for field in body["fields"]}
        before = {field["name"]: field["value"] for field in old["fields"]} if old else {}
        found = {}
        for field in template["fields"]:
            name, default = field["name"], field["value"]
            value = given.get(name, default)
            if value == MASK and name in before:
                value = before[name]
            if type(value) is not type(default):
                raise RefusedError(400, (name, f"could not be converted to {type(default)}"))
            found[name] = value
        return found

    def _test(self, kind: str, body: Json, fields: Json) -> None:
        """What it is told of must answer, and to this secret."""
        if kind == "applications":
            if body.get("syncLevel") == "disabled":
                return
            self._test_application(FACES[body["implementation"]].api, fields)
        elif body.get("enable"):
            _test_client(body["implementation"], fields)

    def _test_application(self, api: str, fields: Json) -> None:
        if not fields["apiKey"]:
            raise RefusedError(400, ("ApiKey", "must not be empty"))
        asked = urllib.request.Request(  # noqa: S310 - what the operator named
            f"{fields['baseUrl']}/api/{api}/indexer/test",
            json.dumps({"fields": [{"name": "baseUrl", "value": fields["prowlarrUrl"]}]}).encode(),
            {"X-Api-Key": fields["apiKey"], "Content-Type": "application/json"},
        )
        try:
            urllib.request.urlopen(asked, timeout=10).close()  # noqa: S310
        except urllib.error.HTTPError as error:
            texts = {401: ("ApiKey", "API Key is invalid"), 400: ("ProwlarrUrl", "is invalid")}
            other = ("BaseUrl", f"Unable to complete application test, {error.code}")
            raise RefusedError(400, texts.get(error.code, other)) from None
        except (OSError, http.client.HTTPException):
            raise RefusedError(400, ("BaseUrl", "cannot connect")) from None

    def _test_indexer(self, body: Json) -> Json:
        address = next(f["value"] for f in body["fields"] if f["name"] == "baseUrl")
        try:
            urllib.request.urlopen(f"{address}/ping", timeout=10).close()  # noqa: S310
        except (OSError, http.client.HTTPException):
            raise RefusedError(400, ("BaseUrl", "cannot connect")) from None
        return {}


def _test_client(implementation: str, fields: Json) -> None:
    root = f"http://{fields['host']}:{fields['port']}{fields['urlBase']}"
    if implementation == "QBittorrent":
        login = {"username": fields["username"], "password": fields["password"]}
        url, data = f"{root}/api/v2/auth/login", urllib.parse.urlencode(login).encode()
        refused, accepted = ("Username", "Authentication failure"), b"Ok."
    else:
        query = {"mode": "get_config", "output": "json", "apikey": fields["apiKey"]}
        url, data = f"{root}/api?{urllib.parse.urlencode(query)}", None
        refused, accepted = ("APIKey", "API Key Incorrect"), b"config"
    try:
        with urllib.request.urlopen(url, data, timeout=10) as answer:  # noqa: S310
            said = answer.read()
    except urllib.error.HTTPError:
        raise RefusedError(400, refused) from None
    except (OSError, http.client.HTTPException):
        raise RefusedError(400, ("Host", f"Unable to connect to {implementation}")) from None
    if said.strip() and accepted not in said:
        raise RefusedError(400, refused)


def main(arguments: list[str]) -> int:
    """Serve as the program of this name. `--data=` names the folder of config.xml."""
    face = {**FACES, **RETIRED}[arguments[0]]
    named = [word.removeprefix("--data=") for word in arguments if word.startswith("--data=")]
    application = Application(face, Path(named[0] if named else "/config"))
    said = f"servarr_double: this is a lab double, not {face.name}; it finds nothing"
    application.log("Info", "Bootstrap", said)
    address = application.config.get("BindAddress")
    listener = (None if address == "*" else address, int(application.config.get("Port")))
    ready = f"Now listening on port {listener[1]}"
    serve({listener: application.handle}, lambda: application.log("Info", "Bootstrap", ready))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
