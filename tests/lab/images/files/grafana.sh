#!/bin/bash
# What the upstream image's /run.sh looks at before it starts the program.
[ -r "$GF_PATHS_CONFIG" ] || { echo "GF_PATHS_CONFIG='$GF_PATHS_CONFIG' is not readable." >&2; exit 1; }
[ -w "$GF_PATHS_DATA" ] || { echo "GF_PATHS_DATA='$GF_PATHS_DATA' is not writable." >&2; exit 1; }
exec grafana server --homepath="$GF_PATHS_HOME" --config="$GF_PATHS_CONFIG" --packaging=docker \
    cfg:default.log.mode=console cfg:default.paths.data="$GF_PATHS_DATA" \
    cfg:default.paths.logs="$GF_PATHS_LOGS" cfg:default.paths.plugins="$GF_PATHS_PLUGINS" \
    cfg:default.paths.provisioning="$GF_PATHS_PROVISIONING" "$@"
