#!/bin/sh
# First start: create the cluster, its role and its database. Later starts: only the server.
# Debian's PostgreSQL behind the contract of the upstream container image.
set -eu

fail() { echo "postgres: $*" >&2; exit 1; }

# value NAME DEFAULT: the variable, or the content of the file that NAME_FILE names, never both.
value() {
    eval "plain=\${$1-} file=\${$1_FILE-}"
    if [ -n "$plain" ] && [ -n "$file" ]; then
        fail "both $1 and $1_FILE are set (but are exclusive)"
    fi
    if [ -n "$file" ]; then cat "$file"; else printf %s "${plain:-$2}"; fi
}

as_postgres() {
    mkdir -p "$PGDATA" /var/run/postgresql
    chown -R postgres:postgres "$PGDATA" /var/run/postgresql
    exec setpriv --reuid=postgres --regid=postgres --clear-groups -- "$0" "$@"
}

create_cluster() {
    method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
    if [ -z "$password" ] && [ "$method" != trust ]; then
        fail "no superuser password: set POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE"
    fi
    # The password reaches initdb through a pipe: neither a file nor an argument shows it.
    # shellcheck disable=SC2086
    initdb --username="$user" --pgdata="$PGDATA" -c listen_addresses='*' \
        ${password:+--pwfile=/dev/fd/3} $arguments 3<<PASSWORD
$password
PASSWORD
    printf '\nhost all all all %s\n' "$method" >> "$PGDATA/pg_hba.conf"
}

run_first_scripts() {
    for script in /docker-entrypoint-initdb.d/*; do
        case "$script" in
            *.sh) if [ -x "$script" ]; then "$script"; else . "$script"; fi ;;
            *.sql) query --dbname "$database" --file "$script" ;;
            *.sql.gz) gunzip -c "$script" | query --dbname "$database" ;;
        esac
    done
}

# Beside PGDATA and renamed last: a container killed half-way begins anew, and no start ever
# takes a cluster without its database for a whole one. -T refuses a folder that is in use.
complete_first_start() {
    final=$PGDATA
    PGDATA="${final%/*}/.unfinished"
    rm -rf "$PGDATA"
    mkdir -p -m 0700 "$PGDATA"
    first_start
    sync
    mv -T "$PGDATA" "$final"
    sync
    PGDATA=$final
}

query() { PGHOST='' PGPASSWORD="$password" psql -v ON_ERROR_STOP=1 --no-psqlrc -q --username "$user" "$@"; }

first_start() {
    create_cluster
    # Only the socket listens while the scripts run, so nobody meets a half-made database.
    pg_ctl --pgdata="$PGDATA" --options="-c listen_addresses=''" --wait --silent start
    if [ "$database" != postgres ]; then
        query --dbname postgres --set name="$database" <<'SQL'
CREATE DATABASE :"name";
SQL
    fi
    run_first_scripts
    pg_ctl --pgdata="$PGDATA" --mode=fast --wait --silent stop
    echo "PostgreSQL init process complete; ready for start up."
}

case "${1:-}" in
    -*) set -- postgres "$@" ;;
esac
if [ "${1:-}" = postgres ]; then
    [ "$(id -u)" != 0 ] || as_postgres "$@"
    if [ ! -s "$PGDATA/PG_VERSION" ]; then
        user=$(value POSTGRES_USER postgres)
        database=$(value POSTGRES_DB "$user")
        password=$(value POSTGRES_PASSWORD "")
        arguments=$(value POSTGRES_INITDB_ARGS "")
        complete_first_start
        unset password
    fi
    unset POSTGRES_PASSWORD
fi
exec "$@"
