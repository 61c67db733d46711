"""The image assembler: same inputs, same digests; nothing half done; nothing pushed twice."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.lab import images
from tests.lab.images import base, layer, recipes
from tests.lab.images.registry import Registry, RegistryError
from tests.lab.images.store import Store

NAMES = {
    *("traefik", "authelia", "postgres", "valkey", "haproxy", "jellyfin", "homepage"),
    *("sonarr", "radarr", "lidarr", "prowlarr", "bazarr", "seerr"),
    *("gluetun", "qbittorrent", "sabnzbd"),
    *("grafana", "loki", "alloy", "otel-collector", "jaeger"),
    *("prometheus", "alertmanager", "blackbox-exporter"),
    *("node-exporter", "postgres-exporter", "redis-exporter"),
    "trivy",
}


class FakeRegistry(ThreadingHTTPServer):
    """Enough of the registry's API to notice a blob that is missing or was sent twice."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.manifests: dict[tuple[str, str], bytes] = {}
        self.log: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeRegistry

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_HEAD(self) -> None:
        _, _, name, kind, reference = self.path.split("/")
        self.server.log.append(f"HEAD {kind}")
        known = self.server.blobs if kind == "blobs" else self.server.manifests
        self._answer(200 if (name, reference) in known else 404)

    def do_POST(self) -> None:
        parts = urlsplit(self.path)
        name = parts.path.split("/")[2]
        query = parse_qs(parts.query)
        origin = (query.get("from", [""])[0], query.get("mount", [""])[0])
        if origin in self.server.blobs:
            self.server.blobs[name, origin[1]] = self.server.blobs[origin]
            self.server.log.append("MOUNT")
            self._answer(201)
            return
        self._answer(202, Location=f"{self.server.address}/upload/{name}?state=1")

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        parts = urlsplit(self.path)
        if parts.path.startswith("/upload/"):
            digest = parse_qs(parts.query)["digest"][0]
            assert digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
            self.server.blobs[parts.path.split("/")[2], digest] = content
            self.server.log.append("UPLOAD")
            self._answer(201)
            return
        name = parts.path.split("/")[2]
        document = json.loads(content)
        for item in [document["config"], *document["layers"]]:
            assert (name, item["digest"]) in self.server.blobs
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.server.manifests[name, digest] = content
        self.server.log.append("MANIFEST")
        self._answer(201)


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    server = FakeRegistry()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A base layer and a proxy of a few bytes."""

    def base_layer(store: Store, _: base.Base) -> layer.Layer:
        return store.write(
            lambda sink: layer.write_layer(
                sink, lambda archive: layer.add_entries(archive, [layer.Entry("usr/x", b"base")])
            ),
            lambda made: made.digest,
        )

    monkeypatch.setattr(images, "base_layer", base_layer)
    monkeypatch.setattr(recipes, "wheel_program", lambda *_: b"traefik")


def packed(entries: list[layer.Entry]) -> tuple[bytes, layer.Layer]:
    sink = io.BytesIO()
    made = layer.write_layer(sink, lambda archive: layer.add_entries(archive, entries))
    return sink.getvalue(), made


def test_a_layer_depends_on_its_content_alone() -> None:
    one, two = layer.Entry("b/c", b"x"), layer.Entry("a", target="b/c")
    first, made = packed([one, two])
    second, _ = packed([two, one])
    assert first == second
    assert made.digest == f"sha256:{hashlib.sha256(first).hexdigest()}"
    assert made.diff_id == f"sha256:{hashlib.sha256(gzip.decompress(first)).hexdigest()}"
    assert made.size == len(first)
    with tarfile.open(fileobj=io.BytesIO(first)) as archive:
        assert archive.getnames() == ["a", "b", "b/c"]
        assert {member.mtime for member in archive} == {layer.EPOCH}


def test_a_whiteout_takes_a_file_away() -> None:
    assert layer.hidden("usr/bin/curl").path == "usr/bin/.wh.curl"


def tree(*members: tuple[str, bytes, int, int]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, content, mode, mtime in members:
            member = tarfile.TarInfo(name)
            member.mode, member.mtime, member.size = mode, mtime, len(content)
            archive.addfile(member, io.BytesIO(content))
    return sink.getvalue()


def test_a_base_tree_loses_clock_times_privileges_and_what_no_image_needs(tmp_path: Path) -> None:
    file = tmp_path / "tree.tar"
    file.write_bytes(
        tree(
            ("./usr/bin/su", b"su", 0o4755, 100),
            ("./etc/passwd", b"postgres:x:103:104::/:/bin/sh\n", 0o644, 5000),
            ("./usr/lib/x86_64-linux-gnu/libLLVM.so.19.1", b"big", 0o644, 100),
            ("./var/log/dpkg.log", b"now", 0o644, 5000),
        )
    )
    sink = io.BytesIO()
    base._pack(file, sink, started=4000)
    with tarfile.open(fileobj=io.BytesIO(sink.getvalue())) as archive:
        found = {member.name: member for member in archive}
        passwd = archive.extractfile("etc/passwd")
        assert passwd is not None
        assert passwd.read() == b"postgres:x:70:70::/:/bin/sh\n"
    assert set(found) == {"usr/bin/su", "etc/passwd"}
    assert found["usr/bin/su"].mode == 0o755
    assert (found["usr/bin/su"].mtime, found["etc/passwd"].mtime) == (100, layer.EPOCH)


def test_a_link_to_what_goes_goes_too(tmp_path: Path) -> None:
    file = tmp_path / "tree.tar"
    with tarfile.open(file, "w") as archive:
        for name, target in (
            ("./etc/ssl/certs/1.0", "ssl-cert-snakeoil.pem"),
            ("./bin", "usr/bin"),
        ):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
    sink = io.BytesIO()
    base._pack(file, sink, started=4000)
    with tarfile.open(fileobj=io.BytesIO(sink.getvalue())) as archive:
        assert archive.getnames() == ["bin"]


def test_a_killed_build_leaves_nothing_under_a_name(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fails(_: object) -> layer.Layer:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.write(fails, lambda made: made.digest)
    assert not list((tmp_path / "blobs").iterdir())
    assert list((tmp_path / "parts").iterdir())
    with store.locked():
        assert not list((tmp_path / "parts").iterdir())


def test_a_result_counts_only_while_its_blobs_are_there(tmp_path: Path) -> None:
    store = Store(tmp_path)
    digest = store.put(b"content")
    store.remember("recipe", {"blobs": [digest]})
    assert store.result("recipe") == {"blobs": [digest]}
    store.blob(digest).unlink()
    assert store.result("recipe") is None


@pytest.mark.usefixtures("tiny")
def test_publishing_pushes_each_image_once(tmp_path: Path, registry: FakeRegistry) -> None:
    found = images.publish(registry.address, None, tmp_path)
    assert set(found) == NAMES
    host = registry.address.removeprefix("http://")
    for name, reference in found.items():
        address, _, digest = reference.partition("@")
        assert address == f"{host}/{name}"
        assert (name, digest) in registry.manifests
    # The base travels once; six repositories mount it.
    assert registry.log.count("MOUNT") == len(NAMES) - 1
    registry.log.clear()
    assert images.publish(registry.address, None, tmp_path) == found
    assert registry.log == ["HEAD manifests"] * len(NAMES)


@pytest.mark.usefixtures("tiny")
def test_a_cold_cache_comes_to_the_same_digests(tmp_path: Path) -> None:
    assert images.references(tmp_path / "one") == images.references(tmp_path / "two")


@pytest.mark.usefixtures("tiny")
def test_a_real_program_takes_the_double_s_place(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    double = images.references(tmp_path, programs)
    (programs / "authelia").write_bytes(b"real")
    real = images.references(tmp_path, programs)
    assert {name for name in NAMES if real[name] != double[name]} == {"authelia"}


@pytest.mark.usefixtures("tiny")
def test_the_configuration_is_upstream_s(tmp_path: Path) -> None:
    reference = images.references(tmp_path)["postgres"]
    store = Store(tmp_path / "images")
    manifest = json.loads(store.blob(reference.partition("@")[2]).read_text())
    document = json.loads(store.blob(manifest["config"]["digest"]).read_text())
    assert document["config"]["Volumes"] == {"/var/lib/postgresql": {}}
    assert "PGDATA=/var/lib/postgresql/18/docker" in document["config"]["Env"]
    assert len(document["rootfs"]["diff_ids"]) == 2


def test_a_registry_that_is_away_is_named() -> None:
    with pytest.raises(RegistryError, match=r"registry 127\.0\.0\.1:1: HEAD"):
        Registry("http://127.0.0.1:1", None).has_manifest("x", "sha256:0")
    with pytest.raises(RegistryError, match="expected https"):
        Registry("10.77.0.1:5000", None)
