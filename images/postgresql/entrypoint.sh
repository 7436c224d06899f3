#!/bin/sh
# Makes the database at the first start, then runs PostgreSQL; further arguments go to `postgres`, as in: -c shared_buffers=256MB
#
# POSTGRES_USER            the owner, default mlmp
# POSTGRES_DB              the database, default the owner's name
# POSTGRES_PASSWORD_FILE   a file with the owner's password, or
# POSTGRES_PASSWORD        the password itself; one of the two is needed at the first start and not read later
set -eu
umask 077
user=${POSTGRES_USER:-mlmp}
database=${POSTGRES_DB:-$user}

for name in "$user" "$database"; do
    case $name in
    '' | [!a-z_]* | *[!a-z0-9_]*)
        echo "POSTGRES_USER and POSTGRES_DB take lower-case letters, digits and _, not starting with a digit; got '$name'." >&2
        exit 2 ;;
    esac
done

if [ ! -e "$PGDATA/PG_VERSION" ]; then
    if [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then
        POSTGRES_PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
    fi
    if [ -z "${POSTGRES_PASSWORD:-}" ]; then
        echo "There is no database in $PGDATA yet. To make it, set POSTGRES_PASSWORD_FILE (or POSTGRES_PASSWORD)." >&2
        exit 2
    fi
    # Made beside its place and moved there at last: a start that was cut off begins anew, instead of finding half a database.
    new=$PGDATA.new
    rm -rf "$new"
    initdb --pgdata="$new" --username="$user" --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 \
        --locale=C.UTF-8 --pwfile=/dev/stdin >/dev/null <<PASSWORD
$POSTGRES_PASSWORD
PASSWORD
    echo "host all all all scram-sha-256" >>"$new/pg_hba.conf"
    if [ "$database" != postgres ]; then
        echo "CREATE DATABASE $database" |
            postgres --single -D "$new" postgres >/dev/null
    fi
    sync
    mv "$new" "$PGDATA"
fi
unset POSTGRES_PASSWORD
# The fsGroup of a pod opens a volume to that group whenever it is mounted; PostgreSQL does not start on such a folder.
chmod 0700 "$PGDATA"

exec postgres -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories=/run/postgresql "$@"
