"""The server's settings, one dataclass: flags, environment and YAML file are all derived from it.

The docstring below each field is its documentation: unit, default, reason. `moor server --help`,
`contrib/settings.md` and the error messages print it from here.
"""

import ast
import inspect
import os
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from controller.errors import InvalidInput
from controller.types import Limits
from router.access import AccessLogs

MOST_PORTS = 1024
"""In a row: a proxy listens on each of them."""
AUTO = "auto"
"""In place of a driver's name: whichever fits the machine."""


@dataclass(frozen=True)
class Listen:
    """An address to listen on. Port 0 lets the system choose one."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True)
class Ports:
    """Ports in a row, the last one included."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    @property
    def numbers(self) -> range:
        return range(self.first, self.last + 1)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be set for one server."""

    data: Path = Path("/var/lib/mooring")
    """Folder that holds all state: store, repositories, slugs, logs, keys. One server owns it."""
    api: Listen = Listen("127.0.0.1", 5555)
    """Address of the HTTP API. Put TLS in front of it before you open it to a network."""
    ssh: Listen = Listen("127.0.0.1", 2222)
    """Address of the SSH endpoint that takes pushes and admin commands."""
    http: Listen = Listen("127.0.0.1", 8080)
    """Address at which the router takes the apps' requests."""
    inner_ports: Ports = Ports(30000, 30255)
    """Ports at which apps of one deployment reach each other (`expose`): on 127.0.0.1, with the backend `docker` at the
    machine's address in the network of the containers. Nothing listens there before the first one is needed."""
    domain: str = "localhost"
    """Apps get NAME.<domain> by default. `localhost` works on this machine without any DNS."""
    backend: str = AUTO
    """Driver that runs instances (entry point group `mooring.backends`). `auto`: at the first start `docker`, where a
    container engine answers and has the stack images, else `supervisor`; from then on what was chosen."""
    router: str = "haproxy"
    """Driver that points domains at instances (entry point group `mooring.routers`)."""
    store: str = "sqlite"
    """Driver that keeps state (entry point group `mooring.stores`)."""
    etcd: str = "127.0.0.1:2379"
    """Where the store `etcd` is: HOST:PORT, further members after commas, and /PREFIX for the keys (default
    /mooring). For TLS `https://` goes before it and `?ca=FILE&cert=FILE&key=FILE` behind it, for a login
    `?user=NAME&password-file=FILE`. Give Mooring an etcd of its own: its history is compacted."""
    store_patience: float = 60.0
    """Seconds that a starting server waits for a store that does not answer, before it ends with status 1."""
    builder: str = AUTO
    """Driver that turns source into artifacts (entry point group `mooring.builders`). `auto`: `docker` with the backend
    of that name, else `host`."""
    plugins: str = "*"
    """Plugins that are on, by their names, with commas between them: those that are installed (entry point group
    `mooring.plugins`), and files in `plugins/` of the data folder. `*` stands for all, `-NAME` for all but that one;
    empty: none. Plugins run within the server, with all that it may do."""
    plugin_timeout: float = 5.0
    """Seconds that a call of a plugin may take; then it is suspended."""
    plugin_trace: bool = False
    """Whether each call of a plugin is written into the log."""
    docker_host: str = ""
    """Where the container engine is: `unix:///var/run/docker.sock`, or for builds alone also `tcp://HOST:PORT` and
    `ssh://USER@HOST`. Empty: the variable DOCKER_HOST, else the socket of this machine."""
    builder_image: str = "mooring/stack:1-build"
    """Image in which the builder `docker` runs buildpacks. Another one must take a tar of the source on its standard
    input and, told `-`, give the slug as a tar on its standard output, as flynn/slugbuilder does."""
    runner_image: str = "mooring/stack:1-run"
    """Image in which the backend `docker` runs slugs. Another one must run the slug in its `/app`, given
    a command line, as flynn/slugrunner does."""
    resource_image: str = "mooring/stack:1-resources"
    """Image in which the backend `docker` runs servers of resources. Another one must have their programs and a
    shell, and for PostgreSQL libnss_wrapper."""
    backup_storage: str = ""
    """Where backups are kept: s3://BUCKET or s3://BUCKET/PREFIX, of Amazon or whoever speaks its S3; empty: in the data
    folder. The keys of access come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or from a profile. Takes the
    package botocore (`pip install mooring[s3]`)."""
    backup_endpoint: str = ""
    """Address of the storage, as in https://s3.example.org; empty: Amazon's."""
    backup_region: str = ""
    """Region that requests to the storage are signed for; empty: us-east-1."""
    build_network: str = "isolated"
    """What builds in containers may reach: `isolated` (the internet, no other container), `none`, or the name of a
    network of the engine."""
    build_ready: float = 3600.0
    """Seconds after a build in a container that another one waits for the service's next push, which it makes faster
    by the time that a container takes to start; two at most, some 10 MiB each. 0: none does."""
    build_disk: int = 8 * 1024**3
    """Bytes that a build in a container may write; 0: no limit."""
    secret_key: Path = Path("secret.key")
    """File of the keys that config values are sealed with in the store; by default in the data folder. Back it up,
    and elsewhere than the store: without it those values are lost."""
    first_uid: int = 42000
    """Where the server runs as root, each service gets a user id of its own, counted up from here."""
    push_limit: int = 1024**3
    """Largest pack that a push may send, in bytes; also the largest archive, and the most that is fetched at once."""
    fetch_private: bool = False
    """Whether source may be fetched from private networks and this machine itself: archives by URL, `git:sync` and
    submodules. Whoever may deploy an app names those addresses, so `true` lets them reach what this server reaches."""
    slug_limit: int = 500 * 1024**2
    """Largest slug, in bytes, compressed."""
    image_limit: int = 4 * 1024**3
    """Largest image that is built or deployed, in bytes, unpacked; 0: no limit."""
    dockerfile_builder: str = AUTO
    """What builds a Dockerfile: `buildkit`, through a docker command of this machine, or `classic`, the engine's own
    builder. `auto`: BuildKit where such a command is there and `build_network` is no network by name. The classic one
    keeps build_memory, build_cpu and build_pids for each step; with BuildKit they are kept where the server is root
    and on the engine's machine. Only BuildKit has secrets."""
    build_timeout: float = 900.0
    """Seconds that a build may take."""
    build_memory: int = 2 * 1024**3
    """Bytes of memory that all processes of a build may take together; 0: no limit."""
    build_pids: int = 1024
    """Processes and threads that a build may have at once; 0: no limit."""
    build_cpu: float = 2.0
    """Cores that a build may keep busy, where the system lets us limit that; 0: no limit. Apps go first in any case."""
    buildpack_folders: str = ""
    """Folders of this machine, separated by `:`, below which services may choose buildpacks by their path. They must
    be readable for everybody. Empty: none."""
    builds_at_once: int = 0
    """Builds that run at the same time, over all services; others wait in the order they came. 0: one for
    each processor."""
    queue_timeout: float = 3600.0
    """Seconds that a build may wait for its turn."""
    build_env: Mapping[str, str] = field(default_factory=dict)
    """Variables that every build sees (a package index, a proxy), as KEY=VALUE; in YAML a mapping."""
    build_ca_bundle: Path | None = Path("/etc/ssl/certs/ca-certificates.crt")
    """File of trusted certificates that builds are told to use; left out where it does not exist."""
    rollout_timeout: float = 3600.0
    """Seconds that a rollout may go on without getting anywhere; then its version fails. One that waits for a
    person, such as a canary, may wait."""
    keep_versions: int = 20
    """Versions kept of each service. What serves, is on its way, or was live before stays in any case."""
    keep_builds: int = 20
    """Ended builds kept of each service, with their logs."""
    cache_limit: int = 2 * 1024**3
    """Bytes that all build caches together may take; those not used for the longest time go first."""
    disk_warning: int = 2 * 1024**3
    """Below so many free bytes in the data folder room is made at once, and `status` warns."""
    disk_reserve: int = 512 * 1024**2
    """Pushes are refused while less than this many bytes are free in the data folder."""
    limit_memory: int = 512 * 1024**2
    """Bytes of memory that one instance may take, where its service has no limit of its own; 0: no limit."""
    limit_cpu: float = 0.0
    """Cores that one instance may keep busy, where its service has no limit of its own; 0: no limit."""
    limit_pids: int = 512
    """Processes and threads that one instance may have, where its service has no limit of its own; 0: no limit."""
    limit_nofile: int = 65536
    """Files that each process of an instance may open, where its service has no limit of its own; 0: no limit."""
    drain_timeout: float = 30.0
    """Seconds that an instance gets to finish the requests it has, once it is out of the routing."""
    stop_grace: float = 30.0
    """Seconds between SIGTERM and SIGKILL."""
    health_timeout: float = 60.0
    """Seconds that a new version has to become healthy, where its own definition does not say."""
    release_timeout: float = 900.0
    """Seconds that a version's predeploy and release command may take, each; and its postdeploy command."""
    run_ttl: float = 86400.0
    """Seconds after which a one-off (`run`) is ended, where whoever asked for it does not say."""
    keep_alive: float = 15.0
    """Seconds of silence after which a push or a stream gets a sign of life, so that no link in between closes."""
    log_limit: int = 256 * 1024**2
    """Bytes of logs kept of each service, build logs aside: beyond it those of the instances that ended longest ago
    go first. Each instance that runs has up to 30M, and so have the requests of a service."""
    router_logs: AccessLogs = AccessLogs.ON
    """Which requests are logged, without their query: `on` for all, `errors`, or `off`. Each costs the router some
    3 % more processor time (0.6 µs on a quiet machine), and the server 5 µs; above 5,000 a second the rest is only
    counted."""
    log_level: str = "info"
    """debug, info, warning or error."""

    @property
    def folders(self) -> "DataFolder":
        return DataFolder(self.data)

    @property
    def limits(self) -> Limits:
        """Those of services without limits of their own."""
        return Limits(
            cpu=self.limit_cpu, memory=self.limit_memory, pids=self.limit_pids, nofile=self.limit_nofile
        )


@dataclass(frozen=True)
class DataFolder:
    """Where things lie below the data folder. The only place that knows."""

    root: Path

    @property
    def lock(self) -> Path:
        """Locked (flock) by the server that owns the folder; holds its process id."""
        return self.root / "server.lock"

    @property
    def server_info(self) -> Path:
        """JSON for `MOOR_DATA=DIR moor …`: the running server's api, ssh and http address and process id."""
        return self.root / "server.json"

    @property
    def local_token(self) -> Path:
        """An admin token for commands on this machine, readable by the server's user only."""
        return self.root / "local-token"

    @property
    def host_key(self) -> Path:
        return self.root / "ssh_host_ed25519_key"

    @property
    def git(self) -> Path:
        """What source is fetched with: the server's own SSH key, and the hosts that it knows."""
        return self.root / "git"

    @property
    def drivers(self) -> Path:
        """JSON: the backend and the builder of this installation, as of its last start."""
        return self.root / "drivers.json"

    @property
    def realm(self) -> Path:
        """Names this installation to a container engine, which others may use too."""
        return self.root / "realm"

    @property
    def database(self) -> Path:
        return self.root / "state.sqlite"

    @property
    def repositories(self) -> Path:
        """Bare repositories, `<deployment>/<service>.git`."""
        return self.root / "repositories"

    @property
    def slugs(self) -> Path:
        """Slug archives, `<sha256>.tar.zst`; readable by the server's user only."""
        return self.root / "slugs"

    @property
    def apps(self) -> Path:
        """Unpacked slugs, `<deployment>/<service>/<sha256>/`, shared by the instances of a service."""
        return self.root / "apps"

    @property
    def volumes(self) -> Path:
        """Folders of services that outlive their versions, `<deployment>/<service>/<name>/`."""
        return self.root / "volumes"

    @property
    def backups(self) -> Path:
        """Backups of resources, a folder for each; readable by the server's user only."""
        return self.root / "backups"

    @property
    def caches(self) -> Path:
        """Build caches, `<deployment>/<service>/`."""
        return self.root / "caches"

    @property
    def builds(self) -> Path:
        """Build logs, `<build id>.log`, and the temporary folders of running builds, `<build id>.tmp/`."""
        return self.root / "builds"

    @property
    def trash(self) -> Path:
        """What is on its way out: moved here at once, removed after that. Emptied at each start."""
        return self.root / "trash"

    @property
    def tools(self) -> Path:
        """What builds use and everybody may read: buildpacks and the programs that they call."""
        return self.root / "tools"

    @property
    def plugins(self) -> Path:
        """Plugins that are single files, and what plugins keep."""
        return self.root / "plugins"

    @property
    def logs(self) -> Path:
        """What instances print, `<deployment>/<service>/<instance id>.log`, rotated."""
        return self.root / "logs"

    @property
    def supervisor(self) -> Path:
        """The supervisor backend's own: configuration, socket, process id, log."""
        return self.root / "supervisor"

    @property
    def inner(self) -> Path:
        """Another HAProxy's own, of the ports at which apps reach each other."""
        return self.root / "inner"

    @property
    def haproxy(self) -> Path:
        """The HAProxy router's own: configuration, map, socket, process id, log."""
        return self.root / "haproxy"


ENV_PREFIX = "MOOR_"


@cache
def documentation() -> Mapping[str, str]:
    """Field name to the docstring below it."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(Settings)))
    body = tree.body[0]
    assert isinstance(body, ast.ClassDef)
    docs: dict[str, str] = {}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
        ):
            docs[statement.target.id] = inspect.cleandoc(str(following.value.value))
    return docs


def load_settings(
    *,
    flags: Mapping[str, Any],
    environ: Mapping[str, str] = os.environ,
    file: Path | None = None,
) -> Settings:
    """Settings from flags, else `MOOR_<NAME>`, else the YAML file, else defaults.

    `flags` maps field names to raw values (text, numbers, mappings); None means not given. Raises
    InvalidInput naming the setting and where its value came from.
    """
    known = {each.name for each in fields(Settings)}
    from_file = _read_file(file, known)
    values: dict[str, Any] = {}
    for name in known:
        variable = ENV_PREFIX + name.upper()
        if flags.get(name) is not None:
            values[name] = _converted(name, flags[name], f"--{name.replace('_', '-')}")
        elif variable in environ:
            values[name] = _converted(name, environ[variable], variable)
        elif name in from_file:
            values[name] = _converted(name, from_file[name], f"{file}: {name}")
    return Settings(**values)


def _read_file(file: Path | None, known: set[str]) -> Mapping[str, Any]:
    if file is None:
        return {}
    import yaml  # costs every command that only looks for the data folder 15 ms

    try:
        content = yaml.safe_load(file.read_text())
    except OSError as error:
        raise InvalidInput("config", f"The settings file {file} can't be read: {error.strerror}.") from error
    except yaml.YAMLError as error:
        raise InvalidInput("config", f"The settings file {file} is no valid YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InvalidInput("config", f"The settings file {file} must hold `name: value` lines.")
    named = {str(key).replace("-", "_"): value for key, value in content.items()}
    for key in named:
        if key not in known:
            raise InvalidInput("config", f"{file}: there is no setting {key!r}.{_did_you_mean(key, known)}")
    return named


def _did_you_mean(word: str, known: set[str]) -> str:
    import difflib

    close = difflib.get_close_matches(word, sorted(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else f" Known are: {', '.join(sorted(known))}."


def _converted(name: str, raw: Any, source: str) -> Any:
    wanted = get_type_hints(Settings)[name]
    options = [each for each in get_args(wanted) if each is not type(None)] or [wanted]
    kind = options[0] if get_origin(wanted) is not Mapping else Mapping
    try:
        return _CONVERT[kind](raw)
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidInput(name, f"{source}: {raw!r} is not {_WANTED[kind]}.") from error


def parse_listen(raw: Any) -> Listen:
    """`HOST:PORT`, `[IPv6]:PORT` or `:PORT` (all IPv4 addresses); raises ValueError."""
    match = re.fullmatch(r"(?:\[(?P<six>[^\]]+)\]|(?P<four>[^:]*)):(?P<port>\d{1,5})", str(raw))
    if not match or int(match["port"]) > 65535:
        raise ValueError(raw)
    return Listen(match["six"] or match["four"] or "0.0.0.0", int(match["port"]))


def parse_ports(raw: Any) -> Ports:
    """`FIRST-LAST`, 1 to 1024 of them; raises ValueError."""
    match = re.fullmatch(r"(\d{1,5})-(\d{1,5})", str(raw).strip())
    if not match:
        raise ValueError(raw)
    first, last = int(match[1]), int(match[2])
    if not 0 < first <= last <= 65535 or last - first >= MOST_PORTS:
        raise ValueError(raw)
    return Ports(first, last)


def _size(raw: Any) -> int:
    match = re.fullmatch(r"(\d+)\s*([kmgt]?)i?b?", str(raw).strip().lower())
    if not match:
        raise ValueError(raw)
    factor: int = 1024 ** " kmgt".index(match[2] or " ")
    return int(match[1]) * factor


def _seconds(raw: Any) -> float:
    value = float(raw)
    if not 0 <= value < 10**7:
        raise ValueError(raw)
    return value


def _truth(raw: Any) -> bool:
    words = {"true": True, "yes": True, "on": True, "1": True}
    words |= {"false": False, "no": False, "off": False, "0": False}
    return words[str(raw).strip().lower()]


def _access_logs(raw: Any) -> AccessLogs:
    # YAML takes `on` and `off` for truth values.
    return AccessLogs(("off", "on")[raw] if isinstance(raw, bool) else str(raw))


def _mapping(raw: Any) -> Mapping[str, str]:
    if isinstance(raw, Mapping):
        return {str(key): str(value) for key, value in raw.items()}
    pairs = raw.split("\n") if isinstance(raw, str) else list(raw)
    return dict(_pair(each) for each in pairs if each)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(text)
    return key, value


_CONVERT: Mapping[Any, Any] = {
    Path: lambda raw: Path(str(raw)).expanduser().absolute(),
    Listen: parse_listen,
    Ports: parse_ports,
    int: _size,
    bool: _truth,
    float: _seconds,
    str: str,
    AccessLogs: _access_logs,
    Mapping: _mapping,
}
_WANTED: Mapping[Any, str] = {
    Path: "a path",
    Listen: "an address such as 127.0.0.1:8080",
    Ports: "up to 1024 ports in a row, such as 30000-30255",
    int: "a whole number (of bytes: 500M and 1G work too)",
    bool: "true or false",
    float: "a number of seconds",
    str: "a text",
    AccessLogs: "one of on, errors and off",
    Mapping: "KEY=VALUE",
}
