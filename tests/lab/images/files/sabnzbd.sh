#!/bin/sh
# Debian's SABnzbd behind the contract of the upstream container image.
set -e
exec /usr/bin/python3 /usr/bin/sabnzbdplus --browser 0 \
    --server "$SABNZBD__ADDRESS:$SABNZBD__PORT" --config-file /config/sabnzbd.ini \
    --disable-file-log --console "$@"
