#!/bin/sh
# No argument or --config means the server; anything else is a command of its own.
set -e
[ -z "${UMASK:-}" ] || umask "$UMASK"
case "${1:-}" in
    "" | --config) ;;
    *) exec "$@" ;;
esac
if [ "$(id -u)" = 0 ]; then
    chown -R "$PUID:$PGID" /config
    exec setpriv --reuid="$PUID" --regid="$PGID" --clear-groups -- authelia "$@"
fi
exec authelia "$@"
