"""The services of the stack, each declared once. Facts per image were probed, not guessed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from roles.stack import logs_and_traces, monitoring
from roles.stack.service import (
    GIGABYTE,
    MEGABYTE,
    Backup,
    Health,
    Limits,
    Metrics,
    Port,
    Proof,
    Route,
    Service,
    Tile,
    Waiver,
    answers,
    asks,
)

ADMINISTRATION = "whoever gets in can run commands and read everything downloaded"
# The images' own entry point, with a umask that lets the group write (roles/media.py). None of
# these images has a setting for it.
GROUP_WRITABLE = (
    *("/usr/bin/catatonit", "--", "/bin/sh", "-c"),
    'umask 002 && exec /entrypoint.sh "$@"',
    "/entrypoint.sh",
)

# Its web client compiles decoders (WebAssembly), runs workers from blobs, casts by Google's script,
# shows pictures of metadata providers and carries styles inline, but no script
# (https://github.com/jellyfin/jellyfin-web, src/index.html).
JELLYFIN_CONTENT = (
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval' blob: https://www.gstatic.com; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob: https:; "
    "media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; "
    "worker-src 'self' blob:; frame-src 'self' https://www.youtube.com; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)


def kept_by_servarr(name: str, api: str) -> Backup:
    """What Sonarr and its relatives keep; the key from the backup must open what came back."""
    proof = Proof(f"/api/{api}/system/status", name.capitalize(), ("servarr", f"{name}_api_key"))
    return Backup("stop", ("config",), ("config/logs", "config/MediaCover"), proof=proof)


SOCKET_PROXY = Service(
    name="socket-proxy",
    number=1,
    image="haproxy",
    purpose="the only process that touches the Docker socket; one allowlist a consumer",
    limits=Limits(memory=64 * MEGABYTE, cpus=0.5, pids=50),
    health=asks("http://127.0.0.1:2375/_ping"),
    listens=(2375,),
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
    networks=("edge", "media", "downloads"),
    ports=(Port(80, 8000), Port(443, 8443)),
    # For who asks the routes from inside.
    listens=(8443,),
    metrics=Metrics(8082),
    config="/etc/traefik",
    reloads=("dynamic/",),
    data=(("acme", "/acme"),),
    login_log=True,
    backup=Backup(keep=("acme",)),
    tmpfs=("/tmp",),  # noqa: S108 - a path inside the container, private to it
)

POSTGRES = Service(
    name="postgres",
    number=3,
    image="postgres",
    purpose="Authelia's database",
    limits=Limits(memory=512 * MEGABYTE, cpus=1, pids=100),
    health=Health(test=("CMD-SHELL", "pg_isready -q -h 127.0.0.1 -U authelia -d authelia")),
    networks=("data",),
    listens=(5432,),
    data=(("database", "/var/lib/postgresql"),),
    backup=Backup("postgres", keep=("database",)),
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
    listens=(6379,),
    command=("valkey-server", "/etc/valkey/valkey.conf"),
    config="/etc/valkey",
    data=(("sessions", "/data"),),
    backup=Backup(
        left_out=(Waiver("sessions", "a session that was ended must not come back to life"),)
    ),
)

AUTHELIA = Service(
    name="authelia",
    number=5,
    image="authelia",
    purpose="single sign-on with a second factor in front of everything",
    limits=Limits(memory=512 * MEGABYTE, cpus=1, pids=100),
    health=asks("http://127.0.0.1:9091/api/health"),
    networks=("edge", "data"),
    route=Route(
        "auth",
        9091,
        "portal",
        "the login page itself",
        login_paths=(
            "/api/firstfactor",
            "/api/secondfactor",
            "/api/reset-password",
            "/api/user/session/elevation",
        ),
        # It sends its own, with a nonce that is new for each answer.
        content_policy="",
    ),
    config="/config",
    reloads=("users_database.yml",),
    data=(("state", "/data"),),
    # It does not start on a database that its key does not open.
    backup=Backup(keep=("state",), proof=Proof("/api/health", '"OK"')),
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
    metrics=Metrics(9959),
    login_log=True,
)

JELLYFIN = Service(
    name="jellyfin",
    number=6,
    image="jellyfin",
    purpose="plays the media",
    limits=Limits(memory=4 * GIGABYTE, cpus=4, pids=500),
    health=answers("http://127.0.0.1:8096/health", start_period=300),
    networks=("media",),
    route=Route(
        "jellyfin",
        8096,
        "native",
        "its apps on televisions and phones cannot follow a login page; it asks for its own "
        "password on every path",
        # It still answers below the paths of the server that it descends from.
        login_paths=tuple(
            f"{prefix}/Users/{name}"
            for prefix in ("", "/emby", "/mediabrowser")
            for name in ("AuthenticateByName", "AuthenticateWithQuickConnect")
        ),
        content_policy=JELLYFIN_CONTENT,
    ),
    data=(("library", "/config"), ("cache", "/cache")),
    # Upstream's own, but with values quoted: a line break in a user name must not begin a line.
    environment=(
        (
            "JELLYFIN_Serilog__WriteTo__0__Args__outputTemplate",
            "[{Timestamp:HH:mm:ss}] [{Level:u3}] [{ThreadId}] {SourceContext}: "
            "{Message}{NewLine}{Exception}",
        ),
    ),
    login_log=True,
    backup=Backup(
        "stop",
        keep=("library",),
        exclude=("library/log",),
        left_out=(Waiver("cache", "transcoded pieces and images that it makes anew"),),
        # A new one would ask for its first account.
        proof=Proof("/System/Info/Public", '"StartupWizardCompleted":true'),
    ),
    tmpfs=("/tmp",),  # noqa: S108 - inside the container
    media="read",
    transcodes=True,
    # What a film's transcoder writes ahead; segments that were played are deleted (encoding.xml).
    scratch=(("/transcode", 2 * GIGABYTE),),
    tile=Tile("Media", "Jellyfin", "Films, series and music", "jellyfin"),
)

HOMEPAGE = Service(
    name="homepage",
    number=7,
    image="homepage",
    purpose="the start page with the state of every service",
    limits=Limits(memory=512 * MEGABYTE, cpus=1, pids=100),
    health=asks("http://127.0.0.1:3000/api/healthcheck"),
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

# The four share one code base, so they share what their declaration says.
SONARR = Service(
    name="sonarr",
    number=8,
    image="sonarr",
    purpose="finds and files series",
    limits=Limits(memory=GIGABYTE, cpus=2, pids=200),
    health=answers("http://127.0.0.1:8989/ping", start_period=120),
    networks=("media", "downloads"),
    route=Route("sonarr", 8989, "two_factor", ADMINISTRATION, ("/login",), "/api/"),
    entrypoint=GROUP_WRITABLE,
    data=(("config", "/config"),),
    backup=kept_by_servarr("sonarr", "v3"),
    tmpfs=("/tmp",),  # noqa: S108 - inside the container
    media="write",
    talks_to=("prowlarr", "qbittorrent", "sabnzbd", "jellyfin"),
    tile=Tile("Library", "Sonarr", "Series", "sonarr"),
)

RADARR = replace(
    SONARR,
    name="radarr",
    number=9,
    image="radarr",
    purpose="finds and files films",
    health=answers("http://127.0.0.1:7878/ping", start_period=120),
    route=Route("radarr", 7878, "two_factor", ADMINISTRATION, ("/login",), "/api/"),
    backup=kept_by_servarr("radarr", "v3"),
    tile=Tile("Library", "Radarr", "Films", "radarr"),
)

LIDARR = replace(
    SONARR,
    name="lidarr",
    number=10,
    image="lidarr",
    purpose="finds and files music",
    health=answers("http://127.0.0.1:8686/ping", start_period=120),
    route=Route("lidarr", 8686, "two_factor", ADMINISTRATION, ("/login",), "/api/"),
    backup=kept_by_servarr("lidarr", "v1"),
    tile=Tile("Library", "Lidarr", "Music", "lidarr"),
)

PROWLARR = replace(
    SONARR,
    name="prowlarr",
    number=11,
    image="prowlarr",
    purpose="keeps the indexers for the others",
    limits=Limits(memory=512 * MEGABYTE, cpus=1, pids=200),
    health=answers("http://127.0.0.1:9696/ping", start_period=120),
    networks=("media",),
    route=Route("prowlarr", 9696, "two_factor", ADMINISTRATION, ("/login",), "/api/"),
    entrypoint=(),
    media="none",
    talks_to=("sonarr", "radarr", "lidarr"),
    backup=kept_by_servarr("prowlarr", "v1"),
    tile=Tile("Library", "Prowlarr", "Indexers", "prowlarr"),
)

BAZARR = Service(
    name="bazarr",
    number=12,
    image="bazarr",
    purpose="fetches subtitles",
    limits=Limits(memory=512 * MEGABYTE, cpus=1, pids=200),
    health=answers("http://127.0.0.1:6767/", start_period=120),
    networks=("media",),
    route=Route("bazarr", 6767, "two_factor", ADMINISTRATION, ("/api/system/account",), "/api/"),
    entrypoint=GROUP_WRITABLE,
    data=(("config", "/config"),),
    backup=Backup("stop", keep=("config",), proof=Proof("/api/system/ping", "OK")),
    tmpfs=("/tmp", "/config/cache"),  # noqa: S108 - inside the container
    media="write",
    talks_to=("sonarr", "radarr"),
    tile=Tile("Library", "Bazarr", "Subtitles", "bazarr"),
)

GLUETUN = Service(
    name="gluetun",
    number=13,
    image="gluetun",
    purpose="the tunnel outside of which the torrent client has no network",
    limits=Limits(memory=256 * MEGABYTE, cpus=1, pids=100),
    health=Health(
        test=("CMD", "/gluetun-entrypoint", "healthcheck"), interval=10, retries=6, start_period=60
    ),
    only_with="vpn",
    networks=("downloads",),
    data=(("state", "/gluetun"),),
    backup=Backup(left_out=(Waiver("state", "a list of servers that it fetches anew"),)),
    tmpfs=("/tmp",),  # noqa: S108 - inside the container
    environment=(
        # Root without CAP_CHOWN and CAP_SETUID: there is nobody else to be.
        ("PUID", "0"),
        ("PGID", "0"),
        # Without a role of its own, every request is denied; nobody else can ask at all.
        ("HTTP_CONTROL_SERVER_ADDRESS", "127.0.0.1:8000"),
        ("PUBLICIP_ENABLED", "off"),
        ("VERSION_INFORMATION", "off"),
    ),
    user=Waiver("0", "a program gets NET_ADMIN by being root, or by file capabilities it has not"),
    writable_root=Waiver(
        "/",
        "it writes the tunnel's resolver into resolv.conf, which Docker mounts read-only where the "
        "root is",
    ),
    capabilities=(Waiver("NET_ADMIN", "interface, routes and packet filter of its own network"),),
    devices=(Waiver("/dev/net/tun", "the kernel's end of the tunnel"),),
    # Nobody's address (RFC 5737): a name that is asked of Docker must not go around the tunnel.
    dns=("192.0.2.1",),
    sysctls=(
        # The tunnel carries IPv4 alone, so that nothing can go around it by IPv6.
        ("net.ipv6.conf.all.disable_ipv6", "1"),
        # Strict filtering would take the tunnel's own packets for forged ones: they come in where
        # no other packet of that address would go out (RFC 3704).
        ("net.ipv4.conf.all.rp_filter", "2"),
    ),
)

QBITTORRENT = Service(
    name="qbittorrent",
    number=14,
    image="qbittorrent",
    purpose="downloads torrents, through the tunnel alone",
    limits=Limits(memory=2 * GIGABYTE, cpus=2, pids=200),
    health=answers("http://127.0.0.1:8080/", start_period=60),
    behind="gluetun",
    only_with="vpn",
    route=Route(
        "qbittorrent",
        8080,
        "two_factor",
        ADMINISTRATION,
        login_paths=("/api/v2/auth/login",),
    ),
    entrypoint=GROUP_WRITABLE,
    data=(("config", "/config"),),
    backup=Backup("stop", keep=("config",), proof=Proof("/", "qBittorrent")),
    tmpfs=("/tmp",),  # noqa: S108 - inside the container
    media="write",
    tile=Tile("Downloads", "qBittorrent", "Torrents", "qbittorrent"),
)

SABNZBD = Service(
    name="sabnzbd",
    number=15,
    image="sabnzbd",
    purpose="downloads from Usenet over TLS",
    limits=Limits(memory=GIGABYTE, cpus=2, pids=200),
    health=answers("http://127.0.0.1:8080/", start_period=60),
    networks=("downloads",),
    route=Route(
        "sabnzbd",
        8080,
        "two_factor",
        ADMINISTRATION,
        login_paths=("/login", "/sabnzbd/login"),
    ),
    entrypoint=GROUP_WRITABLE,
    data=(("config", "/config"),),
    # No proof: it answers its own networks alone, and a drill has another; its health check asks.
    backup=Backup("stop", keep=("config",)),
    tmpfs=("/tmp", "/config/logs"),  # noqa: S108 - inside the container
    media="write",
    tile=Tile("Downloads", "SABnzbd", "Usenet", "sabnzbd"),
)

SEERR = Service(
    name="seerr",
    number=16,
    image="seerr",
    purpose="takes the household's wishes",
    limits=Limits(memory=GIGABYTE, cpus=1, pids=200),
    health=Health(
        test=("CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:5055/api/v1/status"),
        start_period=120,
    ),
    networks=("media",),
    route=Route(
        "seerr",
        5055,
        "one_factor",
        "the household asks here; it has accounts of its own as well",
        ("/api/v1/auth/jellyfin", "/api/v1/auth/local"),
    ),
    init=True,
    data=(("config", "/app/config"),),
    backup=Backup(
        "stop",
        keep=("config",),
        proof=Proof("/api/v1/settings/public", '"initialized":true'),
    ),
    tmpfs=("/tmp",),  # noqa: S108 - inside the container
    talks_to=("jellyfin", "sonarr", "radarr"),
    needs=("jellyfin",),
    tile=Tile("Media", "Seerr", "Ask for films and series", "seerr"),
)

CATALOGUE: tuple[Service, ...] = (
    SOCKET_PROXY,
    TRAEFIK,
    POSTGRES,
    VALKEY,
    AUTHELIA,
    JELLYFIN,
    HOMEPAGE,
    SONARR,
    RADARR,
    LIDARR,
    PROWLARR,
    BAZARR,
    GLUETUN,
    QBITTORRENT,
    SABNZBD,
    SEERR,
    *monitoring.SERVICES,
    *logs_and_traces.SERVICES,
)


def names(services: Iterable[Service] = CATALOGUE) -> frozenset[str]:
    """The names under which a site may override a service."""
    return frozenset(service.name for service in services)
