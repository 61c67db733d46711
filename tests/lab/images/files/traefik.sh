#!/bin/sh
# Options alone, or a sub-command, mean the proxy itself; anything else is run as it is.
set -e
case "${1:-}" in
    "" | -*) exec traefik "$@" ;;
    healthcheck | version) exec traefik "$@" ;;
esac
exec "$@"
