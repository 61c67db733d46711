"""Container images without a container engine: built here, pushed to the lab's registry.

Images share a base layer or two; each adds one thin layer of its own. The same inputs give the same
digests. Real programs where Debian or the package index has them, doubles of the wire contract
where not (authelia, jellyfin, homepage).
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from tests.lab.images.base import base_layer
from tests.lab.images.layer import MEDIA_TYPE, Layer, add_entries, write_layer
from tests.lab.images.recipes import Recipe, all_recipes
from tests.lab.images.registry import MANIFEST_TYPE, Registry, RegistryError
from tests.lab.images.store import Store, recipe_hash

__all__ = ["RegistryError", "publish", "references"]

TAG = "lab"
DEFAULT_HOST = "10.77.0.1:5000"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
CREATED = "2026-01-01T00:00:00Z"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def publish(
    registry: str,
    ca_file: Path | None,
    cache: Path,
    bin_dir: Path | None = None,
    recipes: Sequence[Recipe] = (),
) -> dict[str, str]:
    """Build what the cache lacks, push what the registry lacks; image name -> pinned reference.

    `registry` is an address such as https://10.77.0.1:5000 whose certificate `ca_file` vouches
    for; `recipes` take the place of the stack's own. Needs root and mmdebstrap when the base layer
    is not in `cache` yet. Raises RegistryError, and subprocess.CalledProcessError when a tool
    fails.
    """
    connection = Registry(registry, ca_file)
    built = _build_all(cache, recipes or all_recipes(bin_dir))
    try:
        base: str | None = None
        for name, result in built.items():
            if not connection.has_manifest(name, result["digest"]):
                _push(connection, _store(cache), name, result, base)
            base = name
    finally:
        connection.close()
    return {name: f"{connection.host}/{name}@{result['digest']}" for name, result in built.items()}


def references(
    cache: Path, bin_dir: Path | None = None, host: str = DEFAULT_HOST
) -> dict[str, str]:
    """Image name -> pinned reference, built if the cache lacks them, without asking a registry."""
    built = _build_all(cache, all_recipes(bin_dir))
    return {name: f"{host}/{name}@{result['digest']}" for name, result in built.items()}


def _store(cache: Path) -> Store:
    return Store(cache / "images")


def _build_all(cache: Path, recipes: Sequence[Recipe]) -> dict[str, dict[str, Any]]:
    store = _store(cache)
    # Most of it is other programs' work, each on one processor.
    with store.locked(), ThreadPoolExecutor() as pool:
        needed = tuple({recipe.base: None for recipe in recipes})
        bases = dict(zip(needed, pool.map(partial(base_layer, store), needed), strict=True))
        built = pool.map(lambda recipe: _build(store, bases[recipe.base], recipe), recipes)
        return {recipe.name: result for recipe, result in zip(recipes, built, strict=True)}


def _build(store: Store, base: Layer, recipe: Recipe) -> dict[str, Any]:
    name = recipe_hash(recipe.name, base.digest, recipe.config, recipe.inputs, CREATED)
    if found := store.result(name):
        return found
    entries = recipe.entries(store)
    own = store.write(
        lambda sink: write_layer(sink, lambda archive: add_entries(archive, entries)),
        lambda layer: layer.digest,
    )
    layers = [base, own]
    config = _config(recipe, layers)
    manifest = _manifest(config, layers)
    result = {
        "blobs": [*(layer.digest for layer in layers), store.put(config)],
        "digest": store.put(manifest),
    }
    store.remember(name, result)
    return result


def _config(recipe: Recipe, layers: list[Layer]) -> bytes:
    machine = platform.machine()
    document = {
        "architecture": ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "created": CREATED,
        "config": recipe.config,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": CREATED, "created_by": text} for text in ("base", recipe.name)],
    }
    return json.dumps(document, sort_keys=True).encode()


def _manifest(config: bytes, layers: list[Layer]) -> bytes:
    digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "size": len(config), "digest": digest},
        "layers": [
            {"mediaType": MEDIA_TYPE, "size": layer.size, "digest": layer.digest}
            for layer in layers
        ],
    }
    return json.dumps(document, sort_keys=True).encode()


def _push(
    connection: Registry, store: Store, name: str, result: dict[str, Any], other: str | None
) -> None:
    for digest in result["blobs"]:
        connection.push_blob(name, digest, store.blob(digest), other)
    connection.push_manifest(name, store.blob(result["digest"]).read_bytes(), TAG)
