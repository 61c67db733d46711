"""Programs by what they are for, named as the last part of their images' names."""

from __future__ import annotations

ORGANISERS = ("sonarr", "radarr", "lidarr", "readarr")
DOWNLOADERS = ("qbittorrent", "sabnzbd", "transmission", "deluge", "nzbget")
APPLICATIONS = (
    *("jellyfin", "prowlarr", "bazarr", "seerr", "overseerr", "jellyseerr"),
    *ORGANISERS,
    *DOWNLOADERS,
)
DATABASES = ("postgres", "mariadb", "mysql", "mongo", "valkey", "redis")
CACHES = ("valkey", "redis", "memcached")
# What governs others: nobody who is in a download client may talk to it.
ADMINISTRATION = ("portainer", "portainer-ce", "prometheus", "grafana", "authelia", "homepage")
PROXIES = ("traefik", "nginx", "caddy", "nginx-proxy-manager")
SOCKET_PROXIES = ("docker-socket-proxy", "socket-proxy", "haproxy")
# Those that keep something that would be missed.
STATEFUL = (
    *APPLICATIONS,
    *("postgres", "mariadb", "mysql", "grafana", "prometheus", "authelia", "loki"),
)
