"""A stand-in for Trivy's database: its format and its place in a registry, a few made-up words.

The real one is not had here. It is a file of bbolt (https://github.com/etcd-io/bbolt, version 2 of
its pages) in an archive in a registry (https://github.com/aquasecurity/trivy-db, schema 2).
"""

from __future__ import annotations

import datetime
import gzip
import hashlib
import io
import json
import struct
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.lab.images.registry import MANIFEST_TYPE, Registry

NAME, TAG = "trivy-db", "2"
CONFIG_TYPE = "application/vnd.aquasec.trivy.config.v1+json"
LAYER_TYPE = "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip"
PAGE = 4096
HEADER, ELEMENT, BUCKET = (struct.Struct(form) for form in ("<QHHI", "<IIII", "<QQ"))
META, CHECKSUM = struct.Struct("<IIIIQQQQQ"), struct.Struct("<Q")
LEAF_FLAG, META_FLAG, FREELIST_FLAG, BUCKET_FLAG = 2, 4, 16, 1
MAGIC, VERSION = 0xED0CDAED, 2
FNV_OFFSET, FNV_PRIME = 0xCBF29CE484222325, 0x100000001B3

# Names with bytes, or with another tree.
Tree = Mapping[str, Any]


@dataclass(frozen=True)
class Known:
    """A vulnerability of a Debian source package, and the version that has it no more."""

    id: str
    package: str
    fixed: str
    severity: int


def publish(registry: str, authority: Path, release: str, known: tuple[Known, ...]) -> str:
    """Put a database of these into a registry (host:port); where it lies there.

    `release` is Debian's number; severities are 1 (low) to 4 (critical). Raises RegistryError.
    """
    database = _bolt(_tree(release, known))
    layer, config = _archive(database), b"{}"
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": _described(CONFIG_TYPE, config),
        "layers": [_described(LAYER_TYPE, layer)],
    }
    connection = Registry(f"https://{registry}", authority)
    try:
        with TemporaryDirectory() as folder:
            for blob in (config, layer):
                file = Path(folder, "blob")
                file.write_bytes(blob)
                connection.push_blob(NAME, _digest(blob), file, None)
        connection.push_manifest(NAME, json.dumps(manifest).encode(), TAG)
    finally:
        connection.close()
    return f"{registry}/{NAME}:{TAG}"


def _described(kind: str, blob: bytes) -> dict[str, object]:
    title = {"org.opencontainers.image.title": "db.tar.gz"}
    return {"mediaType": kind, "size": len(blob), "digest": _digest(blob), "annotations": title}


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _tree(release: str, known: tuple[Known, ...]) -> Tree:
    packages: dict[str, dict[str, bytes]] = {}
    for each in known:
        advisory = {"FixedVersion": each.fixed}
        packages.setdefault(each.package, {})[each.id] = json.dumps(advisory).encode()
    source = {"ID": "debian", "Name": "a double", "URL": "https://example.org"}
    details = {
        each.id: json.dumps({"Title": "made up", "VendorSeverity": {"nvd": each.severity}}).encode()
        for each in known
    }
    platform = f"debian {release}"
    return {
        platform: packages,
        "data-source": {platform: json.dumps(source).encode()},
        "vulnerability": details,
    }


def _archive(database: bytes) -> bytes:
    now = datetime.datetime.now(datetime.UTC)
    times = {"UpdatedAt": now, "NextUpdate": now + datetime.timedelta(days=1)}
    metadata = {"Version": 2, **{name: time.isoformat() for name, time in times.items()}}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in (
            ("trivy.db", database),
            ("metadata.json", json.dumps(metadata).encode()),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), 1)


def _bolt(tree: Tree) -> bytes:
    """A bbolt file with one page for each bucket, which has to hold it."""
    pages: list[bytes] = []

    def bucket(content: Tree) -> int:
        """Write a bucket behind those in it; its page's number."""
        elements = []
        for key, value in sorted(content.items()):
            if isinstance(value, bytes):
                elements.append((0, key.encode(), value))
            else:
                elements.append((BUCKET_FLAG, key.encode(), BUCKET.pack(bucket(value), 0)))
        number = 3 + len(pages)
        pages.append(_leaf(number, elements))
        return number

    root = bucket(tree)
    last = 3 + len(pages)
    freelist = HEADER.pack(2, FREELIST_FLAG, 0, 0).ljust(PAGE, b"\0")
    return b"".join([*(_meta(number, root, last) for number in (0, 1)), freelist, *pages])


def _leaf(number: int, elements: list[tuple[int, bytes, bytes]]) -> bytes:
    heads, body = [], b""
    for index, (flags, key, value) in enumerate(elements):
        # Counted from the element's own head.
        offset = (len(elements) - index) * ELEMENT.size + len(body)
        heads.append(ELEMENT.pack(flags, offset, len(key), len(value)))
        body += key + value
    page = HEADER.pack(number, LEAF_FLAG, len(elements), 0) + b"".join(heads) + body
    assert len(page) <= PAGE, "too much for one page"
    return page.ljust(PAGE, b"\0")


def _meta(number: int, root: int, last: int) -> bytes:
    content = META.pack(MAGIC, VERSION, PAGE, 0, root, 0, 2, last, number)
    checksum = FNV_OFFSET
    for byte in content:
        checksum = (checksum ^ byte) * FNV_PRIME & 0xFFFFFFFFFFFFFFFF
    page = HEADER.pack(number, META_FLAG, 0, 0) + content + CHECKSUM.pack(checksum)
    return page.ljust(PAGE, b"\0")
