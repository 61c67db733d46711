"""What the rules know about images, paths and capabilities, each with its source."""

from __future__ import annotations

import re
from typing import NamedTuple


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What Docker grants anyway: giving one back after cap_drop ALL is the least privilege.
# https://docs.docker.com/engine/security/#linux-kernel-capabilities
DEFAULT_CAPABILITIES = _words(
    "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW "
    "SETFCAP SETGID SETPCAP SETUID SYS_CHROOT"
)
# Each is a way to root on the host (capabilities(7)).
ROOT_CAPABILITIES = _words(
    "ALL BPF DAC_READ_SEARCH SYS_ADMIN SYS_BOOT SYS_MODULE SYS_PTRACE SYS_RAWIO"
)

# The system's own folders (CIS Docker Benchmark 5.6), and where Docker and people keep theirs.
SYSTEM_FOLDERS = _words(
    "/bin /boot /dev /etc /home /lib /lib64 /proc /root /sbin /sys /usr "
    "/var/lib /var/lib/containers /var/lib/docker /var/log ~"
)
WRITABLE_BY_NOBODY = ("/boot/", "/etc/", "/lib/", "/proc/", "/sys/", "/usr/", "/var/lib/docker/")
HARMLESS_FILES = frozenset({"/etc/localtime", "/etc/timezone", "/etc/machine-id"})
SECRET_FOLDERS = re.compile(r"(^|/)\.(ssh|gnupg|aws|kube|docker)(/|$)|^/etc/shadow$")

DEVICES_OF_THE_HOST = re.compile(
    r"^/dev(/(mem|kmem|port|sd[a-z]\w*|nvme\w+|vd[a-z]\w*|mapper.*))?$"
)

SOCKET_PROXY = re.compile(r"socket-?proxy")
# The verbs that a proxy must not let through: its consumers become root on the host by them.
# https://github.com/Tecnativa/docker-socket-proxy, https://github.com/wollomatic/socket-proxy
PROXY_WRITES = re.compile(
    r"POST|EXEC|BUILD|COMMIT|SECRETS|AUTH|ALLOW_(START|STOP|RESTARTS|PAUSE|UNPAUSE|CREATE)"
    r"|SP_ALLOW_(POST|PUT|PATCH|DELETE)"
)

PROXIES = re.compile(r"^(traefik|caddy.*|nginx.*|haproxy.*|swag|envoy.*|npmplus|.*nginx-proxy.*)$")
TUNNELS = re.compile(r"gluetun|wireguard|wg-easy|vpn|tailscale|zerotier|warp")
TORRENTS = re.compile(r"^(.*qbittorrent.*|transmission.*|.*deluge.*|r[u]?torrent.*|aria2.*)$")
DOWNLOADERS = re.compile(rf"{TORRENTS.pattern}|^(sabnzbd|nzbget|nzbhydra2?|jdownloader.*)$")

DATABASES = re.compile(
    r"^(postgres.*|postgis|timescaledb.*|pgvecto.*|mariadb|mysql.*|percona.*|mongo|mongodb.*"
    r"|redis|redis-stack.*|valkey.*|keydb|memcached|elasticsearch|opensearch|influxdb|clickhouse.*"
    r"|rabbitmq|couchdb|cassandra|etcd|neo4j|mssql.*|qdrant|meilisearch|typesense)$"
)
DATABASE_PORTS = _words("1433 3306 5432 5984 6379 9042 11211 27017")
# Where peers connect, not people.
PEER_PORTS = frozenset({"6881", "51413"})
# Pages from which the whole machine, or every application, is steered.
CONSOLES = re.compile(
    r"^(portainer.*|adminer|phpmyadmin|pgadmin4?|mongo-express|redis-commander|redisinsight"
    r"|dozzle|cadvisor|prometheus|alertmanager|node-exporter|netdata|yacht|dockge|webmin|guacamole"
    r"|code-server|filebrowser|kibana|opensearch-dashboards|cockpit.*|komodo.*|semaphore"
    r"|sonarr|radarr|lidarr|readarr|prowlarr|jackett|bazarr|sabnzbd|nzbget|qbittorrent.*"
    r"|transmission.*|deluge.*|vault|consul|nomad|jupyter.*|n8n|rundeck)$"
)

# What such an image cannot do without; whoever runs it accepts that. A tunnel makes an interface,
# routes and a packet filter: https://github.com/qdm12/gluetun-wiki, https://docs.linuxserver.io
TUNNEL_NEEDS = frozenset({"NET_ADMIN", "root", "writable-root"})

FLOATING_TAGS = _words(
    "latest develop development dev nightly edge main master rolling unstable beta "
    "testing snapshot preview stable release"
)


class Retired(NamedTuple):
    """An image that gets no more fixes, why, what replaces it, and who says so."""

    images: re.Pattern[str]
    why: str
    instead: str
    source: str


def _retired(images: str, why: str, instead: str, source: str) -> Retired:
    return Retired(re.compile(rf"(^|/)({images})(:|@|$)"), why, instead, source)


RETIRED = (
    _retired(
        "[^/]+/readarr",
        "the project was retired on 27 June 2025",
        "another library manager, or none",
        "https://github.com/Readarr/Readarr",
    ),
    _retired(
        "[^/]+/(overseerr|jellyseerr)",
        "the project was merged into Seerr",
        "ghcr.io/seerr-team/seerr",
        "https://github.com/seerr-team/seerr",
    ),
    _retired(
        "(containrrr|v2tec)/watchtower",
        "the repository was archived on 17 December 2025",
        "pinned digests and a bot that proposes new ones",
        "https://github.com/containrrr/watchtower",
    ),
    _retired(
        "grafana/promtail",
        "it reached its end of life on 2 March 2026",
        "grafana/alloy",
        "https://grafana.com/docs/loki/latest/send-data/promtail/",
    ),
    _retired(
        "grafana/agent",
        "it reached its end of life on 1 November 2025",
        "grafana/alloy",
        "https://grafana.com/docs/agent/latest/static/set-up/",
    ),
    _retired(
        "grafana/grafana-oss",
        "this name gets no image after 12.4",
        "grafana/grafana",
        "https://hub.docker.com/r/grafana/grafana-oss",
    ),
    _retired(
        "jaegertracing/all-in-one",
        "Jaeger 1 reached its end of life on 31 December 2025",
        "jaegertracing/jaeger (version 2)",
        "https://github.com/jaegertracing/jaeger/issues/6321",
    ),
    _retired(
        "ajnart/homarr",
        "version 1.0 has another image, and this one gets no more fixes",
        "ghcr.io/homarr-labs/homarr",
        "https://homarr.dev/blog/2025/01/19/migration-guide-1.0",
    ),
    _retired(
        "minio/(minio|mc)",
        "no image was published after September 2025, and the repository is archived",
        "another S3 server",
        "https://github.com/minio/minio",
    ),
    _retired(
        "bitnami(legacy)?/[^/:@]+",
        "versions went to bitnamilegacy on 28 August 2025, which gets no more fixes",
        "the program's own image",
        "https://github.com/bitnami/containers/issues/83267",
    ),
)


class Claim(NamedTuple):
    """A feature that a home server's Compose file may claim by name only."""

    feature: str
    words: re.Pattern[str]


CLAIMS = (
    Claim("quantum security", re.compile(r"\bquantum\b")),
    Claim("blockchain", re.compile(r"\b(web3|blockchain|nft|smart contracts?|hardhat|contract)\b")),
    Claim("voice control", re.compile(r"\bvoice\b")),
    Claim("AR or VR", re.compile(r"\b(ar|vr|ar vr|webxr|xr|metaverse|holograms?)\b")),
    Claim(
        "machine learning",
        re.compile(
            r"\b(ai|ml|neural|emotion|recommendation engine|content analysis|training worker)\b"
        ),
    ),
)
# Images that run whatever is mounted into them: their name says nothing about the feature.
RUNTIMES = re.compile(r"^(node|python|golang|deno|bun)$")
