"""Redis: Debian's server of the machine or of an image, or one that is kept elsewhere."""

import os
import shutil
from collections.abc import Mapping

from controller.resources.base import ResourceError, Server, Surroundings
from controller.resources.urls import prefixed, url_of, values_of

PLACES = "/usr/local/bin:/usr/bin:/usr/sbin"
_ASK = 'export REDISCLI_AUTH="$PASSWORD"; ask() { redis-cli --no-auth-warning -p "$PORT_NUMBER" "$@"; }; set -eu; '
_SERVE = (
    "set -eu; umask 077; "
    # Not on its command line, which everybody on the machine may read.
    'printf "requirepass %s\\n" "$PASSWORD" > "$VOLUME_DATA/redis.conf"; '
    'exec redis-server "$VOLUME_DATA/redis.conf" --port "$PORT_NUMBER" --dir "$VOLUME_DATA" '
    "--appendonly yes --enable-debug-command local --daemonize no "
    # Else each backup waits for five seconds, for replicas that are not there.
    "--repl-diskless-sync-delay 0 "
    # A title is written over the environment, by which the keeper knows what belongs to an instance.
    "--set-proc-title no --bind "
)
_CHECK = _ASK + '[ "$(ask PING)" = PONG ]'
# Its own words go to its standard output too, where it writes to a pipe: by way of a file there are only data.
_BACKUP = (
    _ASK + 'file="$VOLUME_DATA/backup.$$.rdb"; trap \'rm -f "$file"\' EXIT; trap "exit 1" HUP INT TERM; '
    'ask --rdb "$file" >/dev/null; redis-check-rdb "$file" >/dev/null; cat "$file"'
)
_RESTORE = (
    _ASK + 'file="$VOLUME_DATA/restore.$$.rdb"; trap \'rm -f "$file"\' EXIT; trap "exit 1" HUP INT TERM; '
    'cat > "$file"; redis-check-rdb "$file" >/dev/null || { echo "this is no whole backup of redis" >&2; exit 1; }; '
    'said() { [ "$1" = OK ] || { echo "$1" >&2; exit 1; }; }; '
    # Its log of changes would bring the old data back at the next start: it is written anew.
    'said "$(ask CONFIG SET appendonly no)"; mv "$file" "$VOLUME_DATA/dump.rdb"; '
    'said "$(ask DEBUG RELOAD NOSAVE)"; said "$(ask CONFIG SET appendonly yes)"; '
    "while ask INFO persistence | grep -q '^aof_rewrite_\\(in_progress\\|scheduled\\):1'; do sleep 0.05; done; "
    "ask INFO persistence | grep -q '^aof_last_bgrewrite_status:ok'"
)


class RedisDriver:
    """Implements ResourceDriver."""

    def __init__(self, places: str = PLACES) -> None:
        self._places = places

    def server(self, port: int, password: str, place: Surroundings, /) -> Server:
        url = url_of("redis", user="default", password=password, host=place.host, port=port, name="0")
        plan = {"image": place.image} if place.image else {"program": os.path.realpath(self._program())}
        return Server(
            command=_SERVE + place.listen,
            check=_CHECK,
            secrets={"PASSWORD": password, "PORT_NUMBER": str(port)},
            values=values_of(url, ("redis",), port),
            plan={**plan, "port": str(port)},
        )

    def external(self, url: str) -> Mapping[str, str]:
        return values_of(url, ("redis", "rediss"), 6379)

    def bind(self, values: Mapping[str, str], prefix: str) -> Mapping[str, str]:
        return prefixed(values, prefix) if prefix else {"REDIS_URL": values["URL"]}

    def backup(self) -> str:
        return _BACKUP

    def restore(self) -> str:
        return _RESTORE

    def _program(self) -> str:
        program = shutil.which("redis-server", path=self._places)
        if program is None:
            raise ResourceError(
                "No redis server is installed on this machine: install Debian's package redis-server, or name one that "
                "is kept elsewhere by --url redis://:PASSWORD@HOST:6379.",
                retryable=False,
            )
        return program
