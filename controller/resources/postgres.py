"""PostgreSQL: Debian's server of the machine or of an image, or one that is kept elsewhere."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from controller.resources.base import ResourceError, Server, Surroundings
from controller.resources.urls import prefixed, url_of, values_of

INSTALLED = Path("/usr/lib/postgresql")
"""Where Debian has each major version of it, in a folder of that name."""
USER = NAME = "app"
_FIND = (
    "set -eu; "
    # In a container: the version that made the data, else the newest that the image has.
    'if [ -z "$PG_BIN" ]; then version="$(cat "$VOLUME_DATA/pgdata/PG_VERSION" 2>/dev/null || '
    'ls /usr/lib/postgresql 2>/dev/null | sort -n | tail -n 1)"; PG_BIN="/usr/lib/postgresql/$version/bin"; '
    # Images of others have it where all programs are.
    'if [ ! -x "$PG_BIN/postgres" ] && ! postgres --version 2>/dev/null | grep -q " ${version:-[0-9]*}\\."; then '
    'echo "the image has no PostgreSQL $version" >&2; exit 1; fi; fi; '
    'PATH="$PG_BIN:$PATH"; export PATH; '
)
_CONNECT = (
    'export PGHOST=127.0.0.1 PGPORT="$PORT_NUMBER" PGUSER=app PGPASSWORD="$PASSWORD" PGCONNECT_TIMEOUT=10; '
)

# These two programs want the name of their user, and that of a service is in no list of users.
_NAMED = (
    'named() { if id -un >/dev/null 2>&1; then "$@"; return; fi; '
    'wrapper="$(ls /usr/lib/*/libnss_wrapper.so /usr/lib/libnss_wrapper.so 2>/dev/null | head -n 1)"; '
    # A container may make no namespace of users, so there its programs are told another list.
    'if [ -n "$wrapper" ]; then printf "app:x:%s:%s::/:/bin/sh\\n" "$(id -u)" "$(id -g)" >"$VOLUME_DATA/passwd"; '
    'printf "app:x:%s:\\n" "$(id -g)" >"$VOLUME_DATA/group"; '
    'LD_PRELOAD="$wrapper" NSS_WRAPPER_PASSWD="$VOLUME_DATA/passwd" NSS_WRAPPER_GROUP="$VOLUME_DATA/group" "$@"; '
    'else unshare --user --map-user=1 --map-group=1 "$@"; fi; }; '
)
_SERVE = (
    _FIND + 'data="$VOLUME_DATA/pgdata"; ' + _NAMED + 'if [ ! -e "$data" ]; then '
    # Made beside its place: a server that is killed meanwhile begins anew.
    'rm -rf "$data.new"; '
    'named initdb -D "$data.new" -U postgres -E UTF8 --locale=C.UTF-8 --auth=scram-sha-256 --auth-local=reject '
    ">/dev/null; "
    'printf "CREATE ROLE app LOGIN CREATEDB PASSWORD \'%s\';\\nCREATE DATABASE app OWNER app;\\n" "$PASSWORD" '
    '| named postgres --single -D "$data.new" postgres >/dev/null; '
    'mv "$data.new" "$data"; fi; '
    'exec postgres -D "$data" -p "$PORT_NUMBER" -c unix_socket_directories= -c listen_addresses='
)
_IN_CONTAINER = (
    # By way of the engine's proxy each client comes from the same address, and which one is the engine's choice.
    'set -eu; umask 077; printf "host all all all scram-sha-256\\n" >"$VOLUME_DATA/pg_hba.conf"; '
)
_OF_CONTAINER = (
    ' -c hba_file="$VOLUME_DATA/pg_hba.conf" '
    # A container has 64 MiB in /dev/shm, which queries in parallel outgrow.
    "-c dynamic_shared_memory_type=sysv"
)
_CHECK = _FIND + _CONNECT + 'psql -Xqc "SELECT 1" app >/dev/null'
_BACKUP = _FIND + _CONNECT + "exec pg_dump --format=custom --compress=1 --no-owner --no-acl app"
_SWAP = (
    'psql -Xqv ON_ERROR_STOP=1 -d postgres -c "ALTER DATABASE app ALLOW_CONNECTIONS false" '
    "-c \"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'app'\" >/dev/null; "
    'psql -Xqv ON_ERROR_STOP=1 -1 -d postgres -c "ALTER DATABASE app RENAME TO app_before" '
    '-c "ALTER DATABASE app_restored RENAME TO app"; '
)
_RESTORE = (
    _FIND + _CONNECT + "export PGOPTIONS='-c client_min_messages=warning'; "
    # Into a database of its own, which takes the other's place once it is whole.
    "undo() { "
    'psql -Xqd postgres -c "ALTER DATABASE app ALLOW_CONNECTIONS true" 2>/dev/null || :; '
    "dropdb --if-exists --force app_restored; }; "
    "trap undo EXIT; trap 'exit 1' HUP INT TERM; "
    "dropdb --if-exists --force app_restored; createdb app_restored; "
    "pg_restore --no-owner --no-acl --exit-on-error -d app_restored; " + _SWAP + "trap - EXIT; "
    "dropdb --if-exists --force app_before"
)


class PostgresDriver:
    """Implements ResourceDriver."""

    def __init__(self, installed: Path = INSTALLED) -> None:
        self._installed = installed

    def server(self, port: int, password: str, place: Surroundings, /) -> Server:
        programs = None if place.image else self._newest()
        url = url_of("postgres", user=USER, password=password, host=place.host, port=port, name=NAME)
        found = "" if programs is None else str(programs)
        # A volume goes on with the major version that made it: the newest one can't read it.
        known = f"PG_BIN={shlex.quote(found)}; "
        command = known + _SERVE + place.listen
        return Server(
            command=_IN_CONTAINER + command + _OF_CONTAINER if place.image else command,
            check=known + _CHECK,
            secrets={"PASSWORD": password, "PORT_NUMBER": str(port), "PG_BIN": found},
            values=values_of(url, ("postgres",), port),
            plan={
                **({"version": programs.parent.name} if programs else {"image": place.image}),
                "port": str(port),
            },
        )

    def external(self, url: str) -> Mapping[str, str]:
        return values_of(url, ("postgres", "postgresql"), 5432)

    def bind(self, values: Mapping[str, str], prefix: str) -> Mapping[str, str]:
        return prefixed(values, prefix) if prefix else {"DATABASE_URL": values["URL"]}

    def backup(self) -> str:
        return _BACKUP

    def restore(self) -> str:
        return _RESTORE

    def _newest(self) -> Path:
        found = [
            each
            for each in self._installed.glob("*/bin")
            if each.parent.name.isdecimal() and (each / "initdb").exists()
        ]
        if not found:
            raise ResourceError(
                "No PostgreSQL server is installed on this machine: install Debian's package postgresql, or name one "
                "that is kept elsewhere by --url postgres://USER:PASSWORD@HOST/NAME.",
                retryable=False,
            )
        return max(found, key=lambda each: int(each.parent.name))
