#!/bin/sh
# Debian's qBittorrent behind the contract of the upstream container image: without a configuration
# it begins with one that asks no private address for a password.
set -e
file=/config/qBittorrent/qBittorrent.conf
if [ ! -f "$file" ]; then
    mkdir -p "${file%/*}"
    cp /defaults/qBittorrent.conf "$file"
fi
log=/config/qBittorrent/logs/qbittorrent.log
mkdir -p "${log%/*}"
[ -f "$log" ] || ln -sf /proc/self/fd/1 "$log"
exec /app/qbittorrent-nox "$@"
