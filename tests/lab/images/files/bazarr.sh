#!/bin/sh
# As upstream's /entrypoint.sh.
exec /usr/local/bin/python /app/bin/bazarr.py \
    --no-update True --config /config --port "${BAZARR__PORT}" "$@"
