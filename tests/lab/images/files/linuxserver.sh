#!/bin/sh
# As LinuxServer's images: root gives the folder to PUID and PGID, then drops to them.
set -e
chown -R "$PUID:$PGID" /config
exec setpriv --reuid="$PUID" --regid="$PGID" --clear-groups -- "$@"
