"""The program that introduces the applications to each other, run against their doubles."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from roles import servarr
from roles.context import Context
from roles.core.agent import with_entries
from roles.core.model import Desired, File, Settings
from tests.lab.images.doubles.http import Request, Response, as_text
from tests.lab.images.doubles.servarr_double import FACES, Application
from tests.serving import serve

SITE = {
    "media": {"tv": "/m/tv", "movies": "/m/movies", "music": "/m/music"},
    "downloads": "/m/downloads",
    "vpn": {"provider": "mullvad", "addresses": ["10.64.0.2/32"]},
}
VALUES = {"password": "value-of-qbittorrent_password", "username": "alice"}


def start(answer: Callable[[Request], Response]) -> ThreadingHTTPServer:
    """A double's answers on a port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            found = answer(Request(self.command, self.path, headers, body, "127.0.0.1"))
            self.send_response(found.status)
            for name, value in found.headers:
                self.send_header(name, value)
            self.send_header("Content-Type", found.content_type)
            self.send_header("Content-Length", str(len(found.body)))
            self.end_headers()
            self.wfile.write(found.body)

        do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - the names are the standard library's

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serve(server)
    return server


class World:
    """The four doubles and a torrent client, each with a port, and the program that tells them."""

    def __init__(self, context: Context, folder: Path) -> None:
        self.context, self.folder = context, folder
        self.role: Desired = servarr.desired(context)
        self.applications: dict[str, Application] = {}
        self.servers = {"gluetun:8080": start(qbittorrent), "sabnzbd:8080": start(sabnzbd)}
        for name, face in FACES.items():
            data = folder / name
            data.mkdir()
            self.applications[name] = self.started(name)
            server = start(lambda request, name=name: self.applications[name].handle(request))  # type: ignore[misc]
            self.servers[f"{name.lower()}:{face.port}"] = server
        for shelf in ("tv", "movies", "music"):
            (folder / shelf).mkdir()

    def started(self, name: str) -> Application:
        """An application that has just read its file, into which the deploy's entries were set."""
        part = f"/{name.lower()}/"
        settings = next(s for s in self.role.of(Settings) if part in s.path)
        file = self.folder / name / "config.xml"
        text = file.read_text() if file.exists() else ""
        file.write_text(with_entries("xml", text, dict(settings.entries)))
        return Application(FACES[name], self.folder / name)

    def url(self, name: str) -> str:
        place = f"{name.lower()}:{FACES[name].port}"
        return f"http://127.0.0.1:{self.servers[place].server_port}"

    def told(self) -> list[dict[str, Any]]:
        """The declaration, with this machine's ports and paths in the place of the host's."""
        declared = next(f for f in self.role.of(File) if f.path == servarr.DECLARATION)
        found: list[dict[str, Any]] = json.loads(declared.content)
        for application in found:
            application["url"] = (
                f"{self.url(application['name'])}/api/" + FACES[application["name"]].api
            )
            application["folders"] = [
                str(self.folder / Path(path).name) for path in application["folders"]
            ]
            for provider in application["providers"]:
                fields = provider["fields"]
                if "host" in fields:
                    port = self.servers[f"{fields['host']}:{fields['port']}"].server_port
                    fields |= {"host": "127.0.0.1", "port": port}
                else:
                    fields |= {
                        "baseUrl": self.url(provider["name"]),
                        "prowlarrUrl": self.url("Prowlarr"),
                    }
            for gone in application["gone"]:
                host = gone["field"] == "host"
                gone["value"] = "127.0.0.1" if host else self.url(gone["name"])
        text = json.dumps(found).replace("/opt/nexus/secrets", str(self.folder / "secrets"))
        return list(json.loads(text))

    def introduce(self) -> subprocess.CompletedProcess[str]:
        for file in self.role.of(File):
            if file.secret:
                place = self.folder / file.path.removeprefix("/opt/nexus/")
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(file.content)
        declaration = self.folder / "declaration.json"
        declaration.write_text(json.dumps(self.told()))
        program = self.folder / "setup"
        text = self.context.template("servarr/setup", declaration=declaration).decode()
        program.write_text(
            text.replace("STARTING, CONNECTING = 300, 120", "STARTING, CONNECTING = 9, 0")
        )
        return subprocess.run(
            [sys.executable, "-I", str(program)], capture_output=True, text=True, check=False
        )


def qbittorrent(request: Request) -> Response:
    body = request.body.decode()
    right = all(f"{name}={value}" in body for name, value in VALUES.items())
    return as_text("Ok." if right else "Fails.")


def sabnzbd(request: Request) -> Response:
    right = "apikey=value-of-sabnzbd_api_key" in request.target
    return as_text('{"config": {}}' if right else "API Key Incorrect", 200 if right else 403)


@pytest.fixture
def world(make_context: Callable[..., Context], tmp_path: Path) -> Iterator[World]:
    made = World(make_context(**SITE), tmp_path)
    yield made
    for server in made.servers.values():
        server.shutdown()
        server.server_close()


def torrents(known: dict[str, Any]) -> dict[str, Any]:
    found = [item for item in known["downloadclient"] if item["name"] == "QBittorrent"]
    assert len(found) == 1
    return dict(found[0])


def state(world: World, name: str) -> dict[str, Any]:
    return world.applications[name].state.data


def status_of(address: str, **headers: str) -> int:
    asked = urllib.request.Request(  # noqa: S310 - a double on this machine
        address, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_each_learns_of_the_others_and_a_second_time_nothing_new(world: World) -> None:
    for _ in range(2):
        done = world.introduce()
        assert (done.returncode, done.stdout + done.stderr) == (0, "")
        told = state(world, "Prowlarr")["applications"]
        assert [item["name"] for item in told] == ["Sonarr", "Radarr", "Lidarr"]
        for name, shelf in (("Sonarr", "tv"), ("Radarr", "movies"), ("Lidarr", "music")):
            known = state(world, name)
            assert [f["path"] for f in known["rootfolder"]] == [str(world.folder / shelf)]
            client = torrents(known)
            fields = {field["name"]: field["value"] for field in client["fields"]}
            assert fields.items() >= VALUES.items()
            assert client["enable"] is True


def test_the_login_is_the_vault_s(world: World) -> None:
    world.introduce()
    sonarr = world.applications["Sonarr"]
    for password, place in (("value-of-sonarr_password", "/"), ("wrong", "loginFailed=true")):
        form = f"username=alice&password={password}".encode()
        forwarded = {"x-forwarded-for": "203.0.113.7"}
        answer = sonarr.handle(Request("POST", "/login", forwarded, form, "172.30.1.3"))
        assert dict(answer.headers)["Location"].endswith(place)
    log = (world.folder / "Sonarr/logs/sonarr.txt").read_text().splitlines()[-1]
    assert log.endswith("|Warn|Auth|Auth-Failure ip 203.0.113.7 username 'alice'")


def test_without_key_or_session_nothing_is_shown(world: World) -> None:
    world.introduce()
    sonarr = world.applications["Sonarr"]
    key = sonarr.key
    for path in ("/", "/initialize.json", "/settings/general"):
        answer = sonarr.handle(Request("GET", path, {}, b"", "172.30.1.3"))
        assert answer.status == 302
        assert key.encode() not in answer.body
    status = f"{world.url('Sonarr')}/api/v3/system/status"
    assert status_of(status) == 401
    assert status_of(status, X_Api_Key=key) == 200
    assert status_of(f"{world.url('Sonarr')}/ping") == 200


def test_a_new_key_reaches_the_others(world: World, make_context: Callable[..., Context]) -> None:
    world.introduce()
    changed = make_context(**SITE)
    secret = type(changed.secrets["sonarr_api_key"])
    secrets = {**changed.secrets, "sonarr_api_key": secret("f" * 32)}
    world.context = Context(changed.site, changed.stack, changed.facts, secrets)
    world.role = servarr.desired(world.context)
    world.applications["Sonarr"] = world.started("Sonarr")
    assert world.introduce().returncode == 0
    told = state(world, "Prowlarr")["applications"][0]
    assert {"name": "apiKey", "value": "f" * 32} in told["fields"]


def test_a_wrong_key_and_a_closed_folder_are_named_without_their_secrets(world: World) -> None:
    (world.folder / "movies").rmdir()
    done = world.introduce()
    assert done.returncode == 1
    assert "Radarr" in done.stderr and "does not exist" in done.stderr and "chgrp" in done.stderr
    world.applications["Radarr"].key = "another"
    done = world.introduce()
    assert "Radarr: refuses the vault's key" in done.stderr
    assert "value-of" not in done.stderr


def test_what_the_operator_added_stays(world: World) -> None:
    world.introduce()
    client = next(c for c in state(world, "Sonarr")["downloadclient"] if c["name"] == "QBittorrent")
    client["tags"] = [7]
    state(world, "Sonarr")["downloadclient"].append({**client, "id": 9, "name": "mine"})
    assert world.introduce().returncode == 0
    kept = {item["name"]: item["tags"] for item in state(world, "Sonarr")["downloadclient"]}
    assert kept["QBittorrent"] == kept["mine"] == [7]


def test_what_has_left_the_site_is_forgotten(
    world: World, make_context: Callable[..., Context]
) -> None:
    world.introduce()
    own = {**torrents(state(world, "Radarr")), "id": 9}
    elsewhere = {"name": "host", "value": "nas.lan"}
    own["fields"] = [elsewhere if f["name"] == "host" else f for f in own["fields"]]
    state(world, "Radarr")["downloadclient"] = [own]
    # The doubles are at addresses of this machine, and so is what was introduced.
    left = {name: value for name, value in SITE.items() if name != "vpn"}
    left |= {"services": {"sonarr": {"enabled": False}}}
    world.context = make_context(**left)
    world.role = servarr.desired(world.context)
    assert world.introduce().returncode == 0
    assert [c["name"] for c in state(world, "Lidarr")["downloadclient"]] == ["Sabnzbd"]
    assert state(world, "Radarr")["downloadclient"][0] == own
    assert [c["name"] for c in state(world, "Prowlarr")["applications"]] == ["Radarr", "Lidarr"]


@pytest.mark.parametrize(
    ("entry", "value"),
    [("AuthenticationMethod", "Maybe"), ("Port", "many"), ("LaunchBrowser", "perhaps")],
)
def test_the_double_refuses_a_broken_file(tmp_path: Path, entry: str, value: str) -> None:
    (tmp_path / "config.xml").write_text(f"<Config><{entry}>{value}</{entry}></Config>")
    with pytest.raises(SystemExit, match=entry):
        Application(FACES["Sonarr"], tmp_path)


def test_the_double_completes_its_file_and_drops_what_it_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "config.xml").write_text("<Config><ApiKey>k</ApiKey><Stray>1</Stray></Config>")
    Application(FACES["Radarr"], tmp_path)
    text = (tmp_path / "config.xml").read_text()
    assert "<ApiKey>k</ApiKey>" in text and "<Port>7878</Port>" in text
    assert "Stray" not in text
