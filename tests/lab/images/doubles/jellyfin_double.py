"""A lab double of Jellyfin: its wire contract for the first run, sign-in and passwords.

Written from the public behaviour of Jellyfin 10.11/12 (Startup, User and System controllers,
NetworkConfiguration). It plays nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import os
import re
import secrets
import sys
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from .http import Request, Response, as_json, as_text, serve

NAME = "jellyfin_double"
PORT = 8096
VERSION = "12.1.0"
ITERATIONS = 210_000
# .NET reads "__" in a variable as one level of the settings, after the prefix of the program.
CONSOLE_TEMPLATE = "JELLYFIN_Serilog__WriteTo__0__Args__outputTemplate"
Json = dict[str, Any]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class RefusedError(Exception):
    """An answer other than success; `status` is HTTP's."""

    def __init__(self, status: int, text: str = "") -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Caller:
    """Who asks: the client's own address, and what the Authorization header says."""

    address: str
    token: str
    device: str


@dataclass(frozen=True)
class Call:
    """A request's parts; the keys of query and body are in lower case, as .NET ignores case."""

    caller: Caller
    query: Json
    body: Json


class State:
    """Users, tokens and the wizard's progress, kept in one file that is replaced whole."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.lock = threading.RLock()
        if file.exists():
            self.data: Json = json.loads(file.read_text())
        else:
            self.data = {
                "id": uuid.uuid4().hex,
                "completed": False,
                "configuration": {
                    "ServerName": "",
                    "UICulture": "en-US",
                    "MetadataCountryCode": "US",
                    "PreferredMetadataLanguage": "en",
                },
                "remote_access": True,
                "users": [],
                "tokens": {},
            }
            self.save()

    def save(self) -> None:
        unfinished = self._file.with_suffix(".new")
        with unfinished.open("w") as handle:
            os.fchmod(handle.fileno(), 0o600)
            json.dump(self.data, handle)
            handle.flush()
            os.fsync(handle.fileno())
        unfinished.replace(self._file)

    def user(self, key: str, value: str) -> Json | None:
        wanted = value.casefold()
        return next((u for u in self.data["users"] if u[key].casefold() == wanted), None)


def hash_password(password: str, salt: bytes | None = None) -> str:
    """PBKDF2-SHA512, the scheme of Jellyfin's default provider."""
    salt = salt or secrets.token_bytes(16)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)
    return f"{salt.hex()}${digest.hex()}"


def check_password(stored: str, password: str) -> bool:
    if not stored:
        return not password
    salt = bytes.fromhex(stored.partition("$")[0])
    return hmac.compare_digest(stored, hash_password(password, salt))


def known_proxies(file: Path) -> tuple[Network, ...]:
    """The addresses whose X-Forwarded-For is believed; a broken file means the defaults: none."""
    try:
        root = ElementTree.parse(file).getroot()  # noqa: S314 - the host's own configuration
    except (FileNotFoundError, ElementTree.ParseError):
        return ()
    found = []
    for item in root.findall("./KnownProxies/string"):
        try:
            found.append(ipaddress.ip_network((item.text or "").strip(), strict=False))
        except ValueError:
            log("WRN", "Network", "Unable to parse known proxy {proxy}", proxy=item.text or "")
    return tuple(found)


def hardware_acceleration(file: Path) -> str:
    """What encoding.xml asks for; a broken file means the defaults, as for every settings file."""
    try:
        root = ElementTree.parse(file).getroot()  # noqa: S314 - the host's own configuration
    except (FileNotFoundError, ElementTree.ParseError):
        return "none"
    return root.findtext("./HardwareAccelerationType") or "none"


def client_address(peer: str, forwarded: str, proxies: tuple[Network, ...]) -> str:
    """Walk X-Forwarded-For from the right for as long as the sender is a known proxy."""
    address = normal(peer)
    hops = [hop.strip() for hop in forwarded.split(",") if hop.strip()]
    while hops and any(ipaddress.ip_address(address) in network for network in proxies):
        try:
            address = normal(hops.pop())
        except ValueError:
            break
    return address


def normal(text: str) -> str:
    address = ipaddress.ip_address(text)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def caller_of(authorization: str, address: str) -> Caller:
    """Read a `MediaBrowser Client="...", DeviceId="...", Token="..."` header."""
    scheme, _, rest = authorization.partition(" ")
    found = dict(re.findall(r'(\w+)="([^"]*)"', rest)) if scheme == "MediaBrowser" else {}
    return Caller(address, found.get("Token", ""), found.get("DeviceId", ""))


def log(level: str, source: str, template: str, **values: str) -> None:
    """Write a line to the console and to the day's file, each in upstream's own format.

    The file quotes the values and has the date; the console has neither
    (Jellyfin.Server/Resources/Configuration/logging.json), unless its output template says
    {Message} in place of {Message:lj}.
    """
    moment = datetime.now(UTC)
    thread = threading.get_native_id() % 100
    quoted = {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}
    wanted = quoted if "{Message}" in os.environ.get(CONSOLE_TEMPLATE, "") else values
    plain = template.format(**wanted)
    clock = f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03}"
    print(f"[{clock}] [{level}] [{thread}] {source}: {plain}", flush=True)
    folder = Path(os.environ.get("JELLYFIN_LOG_DIR", "/config/log"))
    if folder.is_dir():
        with (folder / f"log_{moment:%Y%m%d}.log").open("a") as file:
            file.write(
                f"[{moment:%Y-%m-%d} {clock} +00:00] [{level}] [{thread}] {source}: "
                f"{template.format(**quoted)}\n"
            )


class Application:
    """The answers, without HTTP: each takes a request and returns what becomes JSON, or None."""

    def __init__(self, state: State, proxies: tuple[Network, ...]) -> None:
        self.state = state
        self._proxies = proxies
        # By token; the real server forgets them at its end, too.
        self._sessions: dict[str, Json] = {}
        self._actions: dict[tuple[str, str], Callable[[Call], object]] = {
            ("GET", "/system/info/public"): lambda _: self._public(),
            ("GET", "/system/info"): self._information,
            ("GET", "/startup/configuration"): lambda _: self.state.data["configuration"],
            ("POST", "/startup/configuration"): self._configure,
            ("GET", "/startup/user"): self._first_user,
            ("GET", "/startup/firstuser"): self._first_user,
            ("POST", "/startup/user"): self._set_first_user,
            ("POST", "/startup/remoteaccess"): self._set_remote_access,
            ("POST", "/startup/complete"): self._complete,
            ("POST", "/users/authenticatebyname"): self._login,
            ("GET", "/users/me"): lambda call: self._public_user(self._user(call)),
            ("GET", "/users"): self._all_users,
            ("GET", "/users/public"): lambda _: [],
            ("POST", "/users/password"): self._change_password,
            ("POST", "/sessions/logout"): self._logout,
            ("GET", "/sessions"): self._all_sessions,
            ("POST", "/sessions/playing"): self._play,
            ("POST", "/sessions/playing/stopped"): self._stop,
            ("GET", "/library/virtualfolders"): self._libraries,
            ("POST", "/library/virtualfolders"): self._add_library,
            ("GET", "/library/mediafolders"): self._media_folders,
            ("POST", "/auth/keys"): self._add_key,
            ("GET", "/auth/keys"): self._keys,
        }

    def handle(self, request: Request) -> Response:
        """Answer a request; paths are case-insensitive, as in the real server."""
        path = request.path.rstrip("/").casefold() or "/"
        method = "GET" if request.method == "HEAD" else request.method
        if found := _plain(path):
            return found
        action = self._actions.get((method, path))
        if action is None:
            return Response(405 if any(known == path for _, known in self._actions) else 404)
        try:
            call = Call(self._caller(request), _folded(request.query), _body(request))
            with self.state.lock:
                if path.startswith("/startup"):
                    self._wizard_only(call)
                answer = action(call)
        except RefusedError as refused:
            return as_text(str(refused), refused.status)
        return Response(204) if answer is None else as_json(answer)

    def _caller(self, request: Request) -> Caller:
        address = client_address(request.peer, request.header("x-forwarded-for"), self._proxies)
        return caller_of(request.header("authorization"), address)

    def _wizard_only(self, call: Call) -> None:
        if self.state.data["completed"] and not self._user(call)["admin"]:
            raise RefusedError(403)

    def _user(self, call: Call) -> Json:
        # A key for programs belongs to nobody and may do everything.
        if any(key["AccessToken"] == call.caller.token for key in self.state.data.get("keys", [])):
            return {"id": "", "name": "", "hash": "", "admin": True}
        owner = self.state.data["tokens"].get(call.caller.token) if call.caller.token else None
        user = self.state.user("id", owner) if owner else None
        if user is None:
            raise RefusedError(401)
        return user

    def _public(self) -> Json:
        data = self.state.data
        return {
            "LocalAddress": "",
            "ServerName": data["configuration"]["ServerName"] or "lab-double",
            "Version": VERSION,
            "ProductName": "Jellyfin Server",
            "OperatingSystem": "",
            "Id": data["id"],
            "StartupWizardCompleted": data["completed"],
        }

    def _information(self, call: Call) -> Json:
        self._user(call)
        return {**self._public(), "CanSelfRestart": True, "HasUpdateAvailable": False}

    def _all_users(self, call: Call) -> list[Json]:
        self._user(call)
        return [self._public_user(user) for user in self.state.data["users"]]

    def _all_sessions(self, call: Call) -> list[Json]:
        self._administrator(call)
        return list(self._sessions.values())

    def _play(self, call: Call) -> None:
        self._user(call)
        session = self._sessions.setdefault(call.caller.token, {"DeviceId": call.caller.device})
        session["NowPlayingItem"] = {"Id": call.body.get("itemid", "")}
        session["PlayState"] = {"PlayMethod": call.body.get("playmethod", "DirectPlay")}

    def _stop(self, call: Call) -> None:
        self._user(call)
        for key in ("NowPlayingItem", "PlayState"):
            self._sessions.get(call.caller.token, {}).pop(key, None)

    def _logout(self, call: Call) -> None:
        self._user(call)
        self.state.data["tokens"].pop(call.caller.token)
        self.state.save()

    def _libraries(self, call: Call) -> list[Json]:
        self._administrator(call)
        return list(self.state.data.get("libraries", []))

    def _add_library(self, call: Call) -> None:
        self._administrator(call)
        query, body = call.query, call.body
        options = body.get("libraryoptions") or {}
        paths = [item["Path"] for item in options.get("PathInfos", [])]
        paths += [query["paths"]] if query.get("paths") else []
        if not query.get("name"):
            raise RefusedError(400, "Error processing request.")
        if missing := [path for path in paths if not Path(path).is_dir()]:
            raise RefusedError(404, f"The path does not exist: {missing[0]}")
        libraries = self.state.data.setdefault("libraries", [])
        if any(library["Name"] == query["name"] for library in libraries):
            raise RefusedError(409, "A library of this name exists already.")
        libraries.append(
            {
                "Name": query["name"],
                "Locations": paths,
                "CollectionType": query.get("collectiontype", ""),
                "ItemId": uuid.uuid4().hex,
            }
        )
        self.state.save()

    def _media_folders(self, call: Call) -> Json:
        return {
            "Items": [
                {"Id": library["ItemId"], "Name": library["Name"], "Type": "CollectionFolder"}
                for library in self._libraries(call)
            ]
        }

    def _add_key(self, call: Call) -> None:
        self._administrator(call)
        key = {"AppName": call.query["app"], "AccessToken": secrets.token_hex(16)}
        self.state.data.setdefault("keys", []).append(key)
        self.state.save()

    def _keys(self, call: Call) -> Json:
        self._administrator(call)
        return {"Items": list(self.state.data.get("keys", []))}

    def _administrator(self, call: Call) -> None:
        if not self._user(call)["admin"]:
            raise RefusedError(403)

    def _set_remote_access(self, call: Call) -> None:
        self.state.data["remote_access"] = bool(call.body.get("enableremoteaccess"))
        self.state.save()

    def _complete(self, _: Call) -> None:
        self.state.data["completed"] = True
        self.state.save()

    def _configure(self, call: Call) -> None:
        configuration = self.state.data["configuration"]
        for key in configuration:
            configuration[key] = call.body.get(key.casefold()) or configuration[key]
        self.state.save()

    def _first_user(self, _: Call) -> Json:
        users = self.state.data["users"]
        if not users:
            first = {"id": uuid.uuid4().hex, "name": "MyJellyfinUser", "hash": "", "admin": True}
            users.append(first)
            self.state.save()
        return {"Name": users[0]["name"], "Password": ""}

    def _set_first_user(self, call: Call) -> None:
        body = call.body
        users = self.state.data["users"]
        if not users:
            raise RefusedError(404)
        if not body.get("password"):
            raise RefusedError(400, "Password must not be empty")
        if users[0]["hash"]:
            raise RefusedError(403)
        users[0]["name"] = body.get("name") or users[0]["name"]
        users[0]["hash"] = hash_password(body["password"])
        self.state.save()

    def _login(self, call: Call) -> Json:
        body, caller = call.body, call.caller
        if not caller.device:
            raise RefusedError(400, "Error processing request.")
        name = str(body.get("username") or "")
        user = self.state.user("name", name)
        if not check_password(user["hash"] if user else f"{'00' * 16}$", str(body.get("pw") or "")):
            log(
                "INF",
                "Jellyfin.Server.Implementations.Users.UserManager",
                "Authentication request for {name} has been denied (IP: {address}).",
                name=name,
                address=caller.address,
            )
            raise RefusedError(401, "Invalid username or password entered.")
        assert user is not None
        token = secrets.token_hex(16)
        self.state.data["tokens"][token] = user["id"]
        self.state.save()
        session = {"UserId": user["id"], "UserName": user["name"], "RemoteEndPoint": caller.address}
        self._sessions[token] = {**session, "DeviceId": caller.device}
        return {
            "User": self._public_user(user),
            "SessionInfo": session,
            "AccessToken": token,
            "ServerId": self.state.data["id"],
        }

    def _change_password(self, call: Call) -> None:
        query, body, caller = call.query, call.body, call.caller
        caller_user = self._user(call)
        user = self.state.user("id", query.get("userid") or caller_user["id"])
        if user is None:
            raise RefusedError(404, "User not found")
        if user is not caller_user and not caller_user["admin"]:
            raise RefusedError(403, "User is not allowed to update the password.")
        current = str(body.get("currentpw") or "")
        if user is caller_user and not check_password(user["hash"], current):
            raise RefusedError(403, "Invalid user or password entered.")
        user["hash"] = hash_password(str(body.get("newpw") or ""))
        tokens = self.state.data["tokens"]
        # Every other session of the user ends with the old password.
        self.state.data["tokens"] = {
            token: owner
            for token, owner in tokens.items()
            if owner != user["id"] or token == caller.token
        }
        self.state.save()

    def _public_user(self, user: Json) -> Json:
        return {
            "Name": user["name"],
            "ServerId": self.state.data["id"],
            "Id": user["id"],
            "HasPassword": bool(user["hash"]),
            "HasConfiguredPassword": bool(user["hash"]),
            "Policy": {"IsAdministrator": user["admin"], "IsDisabled": False},
        }


PAGE = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Jellyfin</title></head>
<body class="lab-double"><h1>Jellyfin (a lab double)</h1></body></html>
"""


def _plain(path: str) -> Response | None:
    """The answers that are no JSON."""
    if path == "/health":
        return as_text("Healthy")
    if path == "/web" or path.startswith("/web/"):
        return as_text(PAGE, content_type="text/html")
    if path == "/":
        return Response(302, headers=[("Location", "/web/")])
    return None


def _body(request: Request) -> Json:
    if not request.body:
        return {}
    try:
        return _folded(request.json())
    except ValueError as error:
        raise RefusedError(400, "Error processing request.") from error


def _folded(found: Mapping[str, Any]) -> Json:
    return {key.casefold(): value for key, value in found.items()}


def main() -> int:
    """Serve until told to stop. Environment: JELLYFIN_DATA_DIR, JELLYFIN_CONFIG_DIR."""
    data = Path(os.environ.get("JELLYFIN_DATA_DIR", "/config"))
    settings = Path(os.environ.get("JELLYFIN_CONFIG_DIR", str(data / "config")))
    folder = data / "data"
    for needed in (folder, Path(os.environ.get("JELLYFIN_LOG_DIR", "/config/log"))):
        needed.mkdir(parents=True, exist_ok=True)
    log("INF", "Main", f"{NAME}: this is a lab double, not Jellyfin; it plays nothing")
    proxies = known_proxies(settings / "network.xml")
    log("INF", "Main", f"Known proxies: {[str(network) for network in proxies]}")
    acceleration = hardware_acceleration(settings / "encoding.xml")
    log("INF", "Main", f"Hardware acceleration: {acceleration}")
    application = Application(State(folder / "double.json"), proxies)
    serve({(None, PORT): application.handle}, lambda: log("INF", "Main", "Startup complete"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
