"""The services of the stack, each declared once. Facts per image were probed, not guessed."""

from __future__ import annotations

from collections.abc import Iterable

from roles.stack.service import Health, Limits, Port, Route, Service, Tile, Waiver

MEGABYTE = 1024**2
GIGABYTE = 1024**3

SOCKET_PROXY = Service(
    name="socket-proxy",
    number=1,
    image="haproxy",
    purpose="the only process that touches the Docker socket; one allowlist a consumer",
    limits=Limits(memory=64 * MEGABYTE, cpus=0.5, pids=50),
    health=Health(test=("CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:2375/_ping")),
    config="/usr/local/etc/haproxy",
    docker_socket=Waiver("/run/docker.sock", "it stands between the socket and everyone else"),
    stop_signal="SIGUSR1",
)

TRAEFIK = Service(
    name="traefik",
    number=2,
    image="traefik",
    purpose="the one door: TLS, routes from files, security headers, rate limits",
    limits=Limits(memory=256 * MEGABYTE, cpus=2, pids=200),
    health=Health(test=("CMD", "traefik", "healthcheck", "--ping")),
    networks=("edge", "media"),
    ports=(Port(80, 8000), Port(443, 8443)),
    config="/etc/traefik",
    reloads=("dynamic/",),
    data=(("acme", "/acme"),),
    tmpfs=("/tmp",),  # noqa: S108 - a path inside the container, private to it
    talks_to=("authelia", "jellyfin", "homepage"),
)

POSTGRES = Service(
    name="postgres",
    number=3,
    image="postgres",
    purpose="Authelia's database",
    limits=Limits(memory=512 * MEGABYTE, cpus=1, pids=100),
    health=Health(test=("CMD-SHELL", "pg_isready -q -h 127.0.0.1 -U authelia -d authelia")),
    networks=("data",),
    data=(("database", "/var/lib/postgresql"),),
    tmpfs=("/tmp", "/var/run/postgresql"),  # noqa: S108 - inside the container
    secrets=("postgres_password",),
    environment=(
        ("POSTGRES_USER", "authelia"),
        ("POSTGRES_DB", "authelia"),
        ("POSTGRES_PASSWORD_FILE", "/run/secrets/postgres_password"),
        ("POSTGRES_INITDB_ARGS", "--auth-host=scram-sha-256 --data-checksums"),
    ),
    user=Waiver("70", "initdb looks its user up in the image's passwd, where postgres is 70"),
    shm_size="128m",
)

VALKEY = Service(
    name="valkey",
    number=4,
    image="valkey",
    purpose="Authelia's sessions",
    limits=Limits(memory=128 * MEGABYTE, cpus=0.5, pids=50),
    health=Health(test=("CMD-SHELL", "valkey-cli -h 127.0.0.1 ping 2>&1 | grep -Eq 'PONG|NOAUTH'")),
    networks=("data",),
    command=("valkey-server", "/etc/valkey/valkey.conf"),
    config="/etc/valkey",
    data=(("sessions", "/data"),),
)

AUTHELIA = Service(
    name="authelia",
    number=5,
    image="authelia",
    purpose="single sign-on with a second factor in front of everything",
    limits=Limits(memory=512 * MEGABYTE, cpus=1, pids=100),
    health=Health(
        test=("CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:9091/api/health")
    ),
    networks=("edge", "data"),
    route=Route(
        "auth",
        9091,
        "portal",
        "the login page itself",
        login_paths=("/api/firstfactor", "/api/secondfactor", "/api/reset-password"),
    ),
    config="/config",
    reloads=("users_database.yml",),
    data=(("state", "/data"),),
    tmpfs=("/tmp",),  # noqa: S108 - inside the container
    secrets=(
        "authelia_session_secret",
        "authelia_storage_encryption_key",
        "authelia_reset_password_jwt_secret",
        "postgres_password",
        "valkey_password",
    ),
    environment=(
        ("AUTHELIA_SESSION_SECRET_FILE", "/run/secrets/authelia_session_secret"),
        ("AUTHELIA_SESSION_REDIS_PASSWORD_FILE", "/run/secrets/valkey_password"),
        (
            "AUTHELIA_STORAGE_ENCRYPTION_KEY_FILE",
            "/run/secrets/authelia_storage_encryption_key",
        ),
        ("AUTHELIA_STORAGE_POSTGRES_PASSWORD_FILE", "/run/secrets/postgres_password"),
        (
            "AUTHELIA_IDENTITY_VALIDATION_RESET_PASSWORD_JWT_SECRET_FILE",
            "/run/secrets/authelia_reset_password_jwt_secret",
        ),
    ),
    talks_to=("postgres", "valkey"),
    needs=("postgres", "valkey"),
)

JELLYFIN = Service(
    name="jellyfin",
    number=6,
    image="jellyfin",
    purpose="plays the media",
    limits=Limits(memory=4 * GIGABYTE, cpus=4, pids=500),
    health=Health(
        test=("CMD", "curl", "-fsS", "-o", "/dev/null", "http://127.0.0.1:8096/health"),
        start_period=300,
    ),
    networks=("media",),
    route=Route(
        "jellyfin",
        8096,
        "native",
        "its apps on televisions and phones cannot follow a login page; it asks for its own "
        "password on every path",
        login_paths=("/Users/AuthenticateByName",),
    ),
    data=(("library", "/config"), ("cache", "/cache")),
    tmpfs=("/tmp",),  # noqa: S108 - inside the container
    tile=Tile("Media", "Jellyfin", "Films, series and music", "jellyfin"),
)

HOMEPAGE = Service(
    name="homepage",
    number=7,
    image="homepage",
    purpose="the start page with the state of every service",
    limits=Limits(memory=512 * MEGABYTE, cpus=1, pids=100),
    health=Health(
        test=("CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:3000/api/healthcheck")
    ),
    networks=("edge",),
    route=Route("home", 3000, "two_factor", "it shows what runs here and how it is"),
    config="/app/config",
    tmpfs=("/app/config/logs", "/tmp"),  # noqa: S108 - inside the container
    environment=(("LOG_TARGETS", "stdout"),),
    talks_to=("socket-proxy",),
    docker_api=(
        ("GET", "/containers/json"),
        ("GET", "/containers/nexus-[a-z-]+-1/(json|stats)"),
    ),
)

CATALOGUE: tuple[Service, ...] = (
    SOCKET_PROXY,
    TRAEFIK,
    POSTGRES,
    VALKEY,
    AUTHELIA,
    JELLYFIN,
    HOMEPAGE,
)


def names(services: Iterable[Service] = CATALOGUE) -> frozenset[str]:
    """The names under which a site may override a service."""
    return frozenset(service.name for service in services)
