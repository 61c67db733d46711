#!/bin/sh
# As root with PUID and PGID it drops to them, as the upstream image does.
set -e
if [ "$(id -u)" = 0 ] && [ "${PUID:-0}" != 0 ]; then
    exec setpriv --reuid="$PUID" --regid="${PGID:-$PUID}" --clear-groups -- "$@"
fi
exec "$@"
