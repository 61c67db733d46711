"""The lock file against a registry that speaks the protocol, tokens included."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from roles.command.images import locked, main
from roles.stack.stack import IMAGE_LOCK
from tests.serving import serve

OLD, NEW = (f"sha256:{digit * 64}" for digit in "ab")


class _Registry(BaseHTTPRequestHandler):
    tags: dict[str, str]
    wants_token = False

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        if self.wants_token and self.headers["Authorization"] != "Bearer anonymous":
            realm = f'Bearer realm="http://{self.headers["Host"]}/token",service="s",scope="pull"'
            self._answer(401, {"WWW-Authenticate": realm})
            return
        digest = self.tags.get(self.path)
        headers = {"Docker-Content-Digest": digest} if digest else {}
        self._answer(200 if digest is not None else 404, headers)

    def do_GET(self) -> None:
        assert "scope=pull" in self.path
        self._answer(200, {}, json.dumps({"token": "anonymous"}).encode())

    def _answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def registry() -> Iterator[tuple[str, type[_Registry]]]:
    handler = type("Handler", (_Registry,), {"tags": {}})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        serve(server)
        yield f"127.0.0.1:{server.server_address[1]}", handler
        server.shutdown()


@pytest.fixture
def lock(tmp_path: Path, registry: tuple[str, type[_Registry]]) -> Path:
    file = tmp_path / "lock.yml"
    file.write_text(f"# pinned\nwiki: {registry[0]}/team/wiki:1.2@{OLD}\n")
    return file


@pytest.mark.parametrize("token", [False, True])
def test_a_tag_that_stands_is_said(
    lock: Path,
    registry: tuple[str, type[_Registry]],
    token: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    registry[1].tags = {"/v2/team/wiki/manifests/1.2": OLD}
    registry[1].wants_token = token
    assert main(["--lock", str(lock)]) == 0
    assert "as locked" in capsys.readouterr().out


def test_a_moved_tag_is_shown_and_kept_when_asked(
    lock: Path, registry: tuple[str, type[_Registry]], capsys: pytest.CaptureFixture[str]
) -> None:
    registry[1].tags = {"/v2/team/wiki/manifests/1.2": NEW}
    before = lock.read_text()
    assert main(["--lock", str(lock)]) == 2
    assert f"- {OLD}" in (out := capsys.readouterr().out) and f"+ {NEW}" in out
    assert lock.read_text() == before
    assert main(["--lock", str(lock), "--write"]) == 0
    assert lock.read_text() == before.replace(OLD, NEW)


@pytest.mark.parametrize("tags", [{}, {"/v2/team/wiki/manifests/1.2": ""}])
def test_no_digest_is_never_invented(
    lock: Path,
    registry: tuple[str, type[_Registry]],
    tags: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    registry[1].tags = tags
    before = lock.read_text()
    assert main(["--lock", str(lock), "--write"]) == 1
    assert "wiki" in capsys.readouterr().err
    assert lock.read_text() == before


def test_a_line_of_another_form_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "lock.yml"
    file.write_text("wiki: wiki:latest\n")
    assert main(["--lock", str(file)]) == 1
    assert ":1:" in capsys.readouterr().err


def test_the_project_s_own_lock_is_read_whole() -> None:
    lines = [line for line in IMAGE_LOCK.read_text().splitlines() if not line.startswith("#")]
    assert len(list(locked(IMAGE_LOCK.read_text()))) == len(lines) > 0
