#!/bin/sh
# Options or a configuration file alone mean the server; started as root it drops to uid 999.
set -e
case "${1:-}" in
    -* | *.conf) set -- valkey-server "$@" ;;
esac
if [ "${1:-}" = valkey-server ]; then
    # The upstream build has the protected mode off; Debian's has it on.
    [ "$#" -gt 1 ] || set -- "$@" --protected-mode no
    [ "$(umask)" != 0022 ] || umask 0077
    if [ "$(id -u)" = 0 ]; then
        find . ! -user valkey -exec chown valkey {} +
        set -- setpriv --reuid=valkey --regid=valkey --clear-groups -- "$@"
    fi
fi
# Word splitting is how extra flags are passed.
# shellcheck disable=SC2086
exec "$@" ${VALKEY_EXTRA_FLAGS:-}
