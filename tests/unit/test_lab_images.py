"""The lab's images: the same content gives the same bytes, and nothing is sent twice."""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.lab.images.layer import Entry, Layer, add_entries, hidden, write_layer
from tests.lab.images.recipes import HERE, recipes
from tests.lab.images.registry import Registry, RegistryError
from tests.lab.images.store import Store

NAMES = {"traefik", "authelia", "postgres", "valkey", "haproxy", "jellyfin", "homepage"}
ENTRIES = [
    Entry("usr/bin/tool", b"#!/bin/sh\n"),
    Entry("data", mode=0o1777, owner=(70, 70)),
    Entry("usr/bin/alias", target="tool"),
    hidden("usr/bin/curl"),
]


def pack(entries: list[Entry]) -> tuple[bytes, Layer]:
    sink = io.BytesIO()
    layer = write_layer(sink, lambda archive: add_entries(archive, entries))
    return sink.getvalue(), layer


def members(packed: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        return {member.name: member for member in archive}


def test_a_layer_does_not_depend_on_the_order_or_the_moment() -> None:
    assert pack(ENTRIES) == pack(ENTRIES[::-1])


def test_a_layer_names_its_compressed_and_its_plain_digest() -> None:
    packed, layer = pack(ENTRIES)
    assert layer.digest == f"sha256:{hashlib.sha256(packed).hexdigest()}"
    assert layer.diff_id == f"sha256:{hashlib.sha256(gzip.decompress(packed)).hexdigest()}"
    assert layer.size == len(packed)


def test_a_layer_holds_modes_owners_links_and_whiteouts() -> None:
    found = members(pack(ENTRIES)[0])
    assert found["usr"].isdir() and found["usr/bin"].isdir()
    assert found["usr/bin/tool"].mode == 0o755
    assert (found["data"].mode, found["data"].uid, found["data"].gid) == (0o1777, 70, 70)
    assert found["usr/bin/alias"].linkname == "tool"
    assert found["usr/bin/.wh.curl"].size == 0


def test_every_image_is_declared_and_starts_something() -> None:
    declared = {recipe.name: recipe for recipe in recipes(None)}
    assert set(declared) == NAMES
    assert all(recipe.config["Entrypoint"] for recipe in declared.values())


def test_a_real_program_replaces_the_double(tmp_path: Path) -> None:
    (tmp_path / "authelia").write_bytes(b"the real one")
    store = Store(tmp_path / "cache")
    (recipe,) = [found for found in recipes(tmp_path) if found.name == "authelia"]
    content = {entry.path: entry.content for entry in recipe.entries(store)}
    assert content["app/authelia"] == b"the real one"
    (double,) = [found for found in recipes(None) if found.name == "authelia"]
    assert double.inputs != recipe.inputs


@pytest.mark.parametrize(
    "script", sorted((HERE / "files").glob("*.sh")), ids=lambda path: path.name
)
def test_scripts_parse(script: Path) -> None:
    subprocess.run(["sh", "-n", str(script)], check=True)


class FakeRegistry(BaseHTTPRequestHandler):
    """Keeps what is put, by its path; counts nothing but remembers every request line."""

    protocol_version = "HTTP/1.1"
    kept: dict[str, bytes]
    seen: list[str]

    def do_HEAD(self) -> None:
        self._answer(200 if self.path in self.kept else 404)

    def do_POST(self) -> None:
        self._answer(202, {"Location": "/v2/tool/blobs/uploads/1?state=x"})

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        parts = urlsplit(self.path)
        digest = parse_qs(parts.query).get("digest")
        if "/refused/" in parts.path:
            self._answer(400)
            return
        self.kept[f"/v2/tool/blobs/{digest[0]}" if digest else parts.path] = body
        self._answer(201)

    def _answer(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.seen.append(self.command)
        self.send_response(status)
        for name, value in {"Content-Length": "0", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Tests are quiet."""


@pytest.fixture
def address() -> Iterator[str]:
    FakeRegistry.kept, FakeRegistry.seen = {}, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeRegistry)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_blob_is_sent_once(address: str, tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(b"content")
    registry = Registry(address, None)
    registry.push_blob("tool", "sha256:abc", blob, None)
    assert FakeRegistry.seen == ["HEAD", "POST", "PUT"]
    assert FakeRegistry.kept == {"/v2/tool/blobs/sha256:abc": b"content"}
    registry.push_blob("tool", "sha256:abc", blob, None)
    assert FakeRegistry.seen[3:] == ["HEAD"]
    registry.close()


def test_a_refusal_names_what_was_refused(address: str) -> None:
    registry = Registry(address, None)
    with pytest.raises(RegistryError, match="manifest of refused"):
        registry.push_manifest("refused", b"{}", "lab")
    registry.close()


@pytest.mark.parametrize("wrong", ["10.77.0.1:5000", "ftp://10.77.0.1"])
def test_an_address_without_a_known_scheme_is_refused(wrong: str) -> None:
    with pytest.raises(RegistryError, match="expected https://"):
        Registry(wrong, None)


def test_a_registry_that_is_not_there_is_an_error() -> None:
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1:1"):
        Registry("http://127.0.0.1:1", None).has_manifest("tool", "sha256:abc")
