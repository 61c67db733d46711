"""The doubles of Jellyfin and Homepage, and the HTTP server under all doubles."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.images.doubles import jellyfin_double as jellyfin
from tests.lab.images.doubles.homepage_double import FILES, Homepage
from tests.lab.images.doubles.http import Request, plain_address

REPOSITORY = Path(__file__).resolve().parents[2]
CLIENT = 'MediaBrowser Client="t", Device="t", DeviceId="t1", Version="1"'


class Server:
    """A fresh Jellyfin double without HTTP."""

    def __init__(self, folder: Path) -> None:
        state = jellyfin.State(folder / "state.json")
        proxies = jellyfin.known_proxies(folder / "network.xml")
        self.application = jellyfin.Application(state, proxies)

    def ask(
        self, method: str, path: str, body: object = None, token: str = "", **headers: str
    ) -> tuple[int, Any]:
        authorization = f'{CLIENT}, Token="{token}"' if token else CLIENT
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        content = b"" if body is None else json.dumps(body).encode()
        request = Request(
            method, path, {"authorization": authorization, **given}, content, "172.30.0.2"
        )
        answer = self.application.handle(request)
        found = json.loads(answer.body) if "json" in answer.content_type else answer.body
        return answer.status, found

    def complete(self) -> str:
        self.ask("GET", "/Startup/User")
        assert self.ask("POST", "/Startup/Configuration", {"ServerName": "home"})[0] == 204
        first = {"Name": "alice", "Password": "secret"}
        assert self.ask("POST", "/Startup/User", first)[0] == 204
        assert self.ask("POST", "/Startup/RemoteAccess", {"EnableRemoteAccess": True})[0] == 204
        assert self.ask("POST", "/Startup/Complete")[0] == 204
        return self.login("secret")[1]["AccessToken"]

    def login(self, password: str, **headers: str) -> tuple[int, Any]:
        body = {"Username": "alice", "Pw": password}
        return self.ask("POST", "/Users/AuthenticateByName", body, **headers)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(jellyfin, "ITERATIONS", 1)
    monkeypatch.setenv("JELLYFIN_LOG_DIR", str(tmp_path))
    (tmp_path / "network.xml").write_text(
        "<NetworkConfiguration><KnownProxies><string>172.30.0.2</string></KnownProxies>"
        "</NetworkConfiguration>"
    )
    return Server(tmp_path)


def test_the_wizard_is_open_once(server: Server) -> None:
    assert server.ask("POST", "/Startup/User", {"Name": "a", "Password": "b"})[0] == 404
    assert server.ask("GET", "/System/Info/Public")[1]["StartupWizardCompleted"] is False
    token = server.complete()
    assert server.ask("GET", "/System/Info/Public")[1]["StartupWizardCompleted"] is True
    for path in ("/Startup/User", "/Startup/Configuration"):
        assert server.ask("GET", path)[0] == 401
    assert server.ask("POST", "/Startup/User", {"Name": "eve", "Password": "x"})[0] == 401
    assert server.ask("GET", "/Startup/Configuration", token=token)[0] == 200


def test_only_a_token_opens_the_server(server: Server) -> None:
    token = server.complete()
    assert server.ask("GET", "/Users/Me")[0] == 401
    assert server.ask("GET", "/Users/Me", token="guess")[0] == 401
    status, user = server.ask("GET", "/Users/Me", token=token)
    assert (status, user["Name"], user["Policy"]["IsAdministrator"]) == (200, "alice", True)


def test_libraries_are_an_administrator_s(server: Server, tmp_path: Path) -> None:
    token = server.complete()
    body = {"LibraryOptions": {"PathInfos": [{"Path": str(tmp_path)}]}}
    path = "/Library/VirtualFolders?name=Movies&collectionType=movies"
    assert server.ask("POST", path, body)[0] == 401
    assert server.ask("POST", path, body, token=token)[0] == 204
    (library,) = server.ask("GET", "/Library/VirtualFolders", token=token)[1]
    assert (library["Name"], library["Locations"]) == ("Movies", [str(tmp_path)])
    missing = {"LibraryOptions": {"PathInfos": [{"Path": "/nonexistent"}]}}
    assert server.ask("POST", f"{path}2", missing, token=token)[0] == 404


def test_a_failure_names_the_client_behind_a_known_proxy(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.complete()
    capsys.readouterr()
    assert server.login("wrong", x_forwarded_for="192.0.2.9, 203.0.113.7")[0] == 401
    (file,) = tmp_path.glob("log_*.log")
    line = 'UserManager: Authentication request for "alice" has been denied (IP: "203.0.113.7").'
    assert file.read_text().endswith(f"{line}\n")
    plain = "UserManager: Authentication request for alice has been denied (IP: 203.0.113.7)."
    assert capsys.readouterr().out.endswith(f"{plain}\n")


def test_state_outlives_the_process(server: Server, tmp_path: Path) -> None:
    token = server.complete()
    assert Server(tmp_path).ask("GET", "/Users/Me", token=token)[0] == 200
    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o600


# Homepage


@pytest.fixture
def home(tmp_path: Path) -> Homepage:
    for name in FILES:
        (tmp_path / name).write_text("")
    (tmp_path / "key").write_text("from a file")
    (tmp_path / "settings.yaml").write_text('title: "{{HOMEPAGE_VAR_NAME}}"\n')
    (tmp_path / "docker.yaml").write_text("stack: {host: 127.0.0.1, port: 1}\n")
    (tmp_path / "services.yaml").write_text(
        "- Media:\n    - Jellyfin: {href: 'https://j', description: '{{HOMEPAGE_FILE_KEY}}', "
        "server: stack, container: nexus-jellyfin-1}\n"
    )
    environment = {
        "HOMEPAGE_ALLOWED_HOSTS": "home.example.org",
        "HOMEPAGE_VAR_NAME": "<Home>",
        "HOMEPAGE_FILE_KEY": str(tmp_path / "key"),
    }
    return Homepage(tmp_path, environment)


def get(home: Homepage, path: str, host: str = "home.example.org") -> tuple[int, bytes]:
    answer = home.handle(Request("GET", path, {"host": host}, b"", "127.0.0.1"))
    return answer.status, answer.body


def test_only_allowed_hosts_reach_the_interface(home: Homepage) -> None:
    assert get(home, "/api/healthcheck") == (200, b"up")
    assert get(home, "/api/healthcheck", "127.0.0.1:3000") == (200, b"up")
    assert get(home, "/api/healthcheck", "evil.example")[0] == 400
    assert get(home, "/api/healthcheck", "")[0] == 400


def test_tiles_are_shown_with_their_values_escaped(home: Homepage) -> None:
    status, page = get(home, "/")
    assert status == 200
    assert b"&lt;Home&gt;" in page
    assert b"from a file" in page
    assert b"/api/docker/status/nexus-jellyfin-1/stack" in page


def test_a_silent_docker_api_is_an_error_of_its_own(home: Homepage) -> None:
    assert get(home, "/api/docker/status/nexus-jellyfin-1/stack")[0] == 500
    assert get(home, "/api/docker/status/nexus-jellyfin-1")[0] == 400


def test_missing_files_are_made_or_refused(tmp_path: Path) -> None:
    Homepage(tmp_path, {}).check()
    assert {item.name for item in tmp_path.iterdir()} == set(FILES)


# The server


@pytest.fixture
def running(tmp_path: Path) -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = (
        "from tests.lab.images.doubles.http import serve, as_text\n"
        "import time\n"
        "def handle(request):\n"
        "    if request.path == '/slow': time.sleep(0.2)\n"
        "    if request.path == '/broken': raise KeyError\n"
        "    return as_text(request.body.decode() or request.path)\n"
        f"serve({{('127.0.0.1', {port}): handle}}, lambda: print('ready', flush=True))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    yield port
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0
    process.stdout.close()


def test_the_server_answers_refuses_and_stops(running: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", running, timeout=5)
    for path, status, body in (
        ("/a%20b", 200, b"/a b"),
        ("/broken", 500, None),
        ("/c", 200, b"/c"),
    ):
        connection.request("GET", path)
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == status
        assert body is None or content == body
    connection.request("HEAD", "/x")
    answer = connection.getresponse()
    assert (answer.read(), answer.getheader("Content-Length")) == (b"", "2")
    connection.close()
    chunked = b"POST /d HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
    for raw, status in (
        (b"nonsense\r\n\r\n", b"400"),
        (chunked + b"Content-Length: 3\r\n\r\nabc", b"400"),
        (chunked + b"\r\nxyz\r\nabc\r\n", b"400"),
        (chunked + b"\r\n3\r\nabc\r\n0\r\n\r\n", b"200"),
    ):
        with socket.create_connection(("127.0.0.1", running), 5) as plain:
            plain.sendall(raw)
            assert plain.recv(100).startswith(b"HTTP/1.1 " + status)


def test_slow_requests_do_not_stop_the_others(running: int) -> None:
    slow = http.client.HTTPConnection("127.0.0.1", running, timeout=5)
    slow.request("GET", "/slow")
    started = time.monotonic()
    quick = http.client.HTTPConnection("127.0.0.1", running, timeout=5)
    quick.request("GET", "/quick")
    assert quick.getresponse().read() == b"/quick"
    assert time.monotonic() - started < 0.15
    assert slow.getresponse().read() == b"/slow"
    slow.close()
    quick.close()


def test_a_mapped_address_is_shown_as_ipv4() -> None:
    assert plain_address("::ffff:192.0.2.1") == "192.0.2.1"
    assert plain_address("fd77::1") == "fd77::1"
    assert plain_address("") == ""
