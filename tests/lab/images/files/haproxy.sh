#!/bin/sh
# Master-worker mode in the foreground, so that signals and the log reach the container's process.
set -e
case "${1:-}" in
    -*) set -- haproxy "$@" ;;
esac
if [ "${1:-}" = haproxy ]; then
    shift
    set -- haproxy -W -db "$@"
fi
exec "$@"
