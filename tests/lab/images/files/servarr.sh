#!/bin/sh
# As upstream's /entrypoint.sh: the one program in /app/bin, its data in /config.
exec /app/bin/* --nobrowser --data=/config "$@"
