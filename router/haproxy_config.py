"""HAProxy's configuration on disk: the whole table, so that HAProxy started alone from it serves at once.

One numbered folder holds the configuration, its maps and pages; the link `current` names the one that
counts. A folder is complete before the link moves, so that configuration and maps always fit together.
"""

import grp
import hashlib
import os
import pwd
import re
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import jinja2

from router.access import AccessLogs
from router.base import RouterError
from router.guards import guards_text
from router.haproxy_access import FORMAT
from router.haproxy_table import (
    GUARDS,
    HOSTS,
    MAINTENANCE,
    NAMES,
    NO_SERVERS,
    WILDCARDS,
    Layout,
    encode_text,
    map_entry,
    parse_live_table,
)
from router.types import Pool, Target

_PAGES = (
    "unknown-host.html",
    "not-running.html",
    "bad-answer.html",
    "too-slow.html",
    "maintenance.html",
    "guarded.html",
)
_GUARD = "guard.lua"
_HOST = re.compile(r"[A-Za-z0-9.:-]+")
_LONGEST_SOCKET = 90
"""HAProxy takes 97 characters, and adds a suffix while it binds."""
_WILDCARD_DEPTH = 12
"""How many labels in front of a wildcard's domain are tried."""
_BOOT = "boot"
"""File that tells which boot of the machine the table is of."""
_RETRY_AFTER = 120
"""Seconds after which whoever met an app in maintenance may ask again."""
_PATIENCE = 2
"""Seconds that a connection within the machine waits for being let in."""
_CHECKED_EVERY = 200
"""Up to so many targets each is checked every 2 s; above, checks stay at 100 a second in all."""


def boot_id() -> str:
    """Changes with every boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def place(target: Target) -> str:
    """Address and port as HAProxy reads them."""
    host = f"[{target.address}]" if ":" in target.address else target.address
    return f"{host}:{target.port}"


def server_options(targets: int) -> str:
    """Health check of a server. It begins as up: it passed our own health gate.

    Failed connections count too, so that a busy server that died is out at once, however rare the checks are.
    The two of the pool are what a server in a file has by default; one that is added at run time keeps no
    idle connection without them, which halves the throughput.
    """
    seconds = max(2, round(2 * targets / _CHECKED_EVERY))
    return (
        f"check inter {seconds}s fastinter 1s downinter 1s fall 2 rise 1 "
        "observe layer4 error-limit 3 on-error mark-down pool-max-conn -1 pool-purge-delay 5s"
    )


@dataclass(frozen=True)
class Identity:
    """What a running HAProxy says of itself (its `description`)."""

    fingerprint: str
    """Changes with the template and the settings, not with the table."""
    slots: int
    serial: int
    """Of the folder that it was started from."""

    def __str__(self) -> str:
        return f"mooring-{self.fingerprint}-{self.slots}-{self.serial}"

    @classmethod
    def find(cls, text: str) -> "Identity | None":
        """None when this was not written by us."""
        match = re.search(r"\bmooring-([0-9a-f]{12})-(\d+)-(\d+)\b", text)
        return cls(match[1], int(match[2]), int(match[3])) if match else None


@dataclass
class HaproxyConfig:
    """Renders and writes. Everything here blocks; `write` is for a thread."""

    folder: Path
    host: str
    port: int
    ports: int = 1
    """How many ports in a row it listens on, from `port` on."""
    template: str = "haproxy.cfg.j2"
    setting: str = "--http"
    """By which people choose the address."""
    file_limit: int = 65536
    """Open files that HAProxy takes at most, if the system lets it; half as many connections."""
    access_logs: AccessLogs = AccessLogs.OFF
    piped: bool = True
    """Whether the HAProxy that is to read it writes its output into our pipe: else nothing is logged."""
    _fingerprints: dict[bool, str] = field(default_factory=dict, init=False, repr=False)
    _writing: threading.Lock = field(default_factory=threading.Lock, repr=False)
    """Whoever awaited a write may have been cancelled, while the thread that writes goes on."""

    def __post_init__(self) -> None:
        if not _HOST.fullmatch(self.host) or not 0 < self.port <= 65536 - self.ports:
            raise RouterError(f"{self.host}:{self.port} is no address that HAProxy can listen on.")
        if len(str(self.socket)) > _LONGEST_SOCKET or re.search(r"[\s\"'\\#$]", str(self.folder)):
            raise RouterError(
                f"The folder {self.folder} can't hold HAProxy's sockets: choose a data folder with a path of at "
                f"most {_LONGEST_SOCKET - 20} characters, without spaces and quotes."
            )

    @property
    def socket(self) -> Path:
        """The Runtime API of the process that serves."""
        return self.folder / "admin.sock"

    @property
    def master_socket(self) -> Path:
        """The master's: reload, and the processes that a reload left behind."""
        return self.folder / "master.sock"

    @property
    def current(self) -> Path:
        return self.folder / "current"

    @property
    def file(self) -> Path:
        """What HAProxy is started with."""
        return self.current / "haproxy.cfg"

    @property
    def jail(self) -> Path:
        """The empty folder that HAProxy sees as its whole file system, when started by root."""
        return self.folder / "empty"

    @property
    def listen(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" + (f"-{self.port + self.ports - 1}" if self.ports > 1 else "")

    @property
    def whose_port(self) -> str:
        return "the port" if self.ports == 1 else "one of the ports"

    @property
    def access_pipe(self) -> Path:
        return self.folder / "access.pipe"

    @property
    def fingerprint(self) -> str:
        if self.piped not in self._fingerprints:
            pages = b"".join(_template_text(page).encode() for page in _PAGES)
            text = self._render(description="", options=server_options(0), layout=Layout(0)).encode()
            guard = _template_text(_GUARD).encode()
            self._fingerprints[self.piped] = hashlib.sha256(text + pages + guard).hexdigest()[:12]
        return self._fingerprints[self.piped]

    def prepare(self) -> None:
        """Make the folders."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.jail.mkdir(mode=0o555, exist_ok=True)

    def find_written(self) -> Identity | None:
        """What the configuration on disk would make HAProxy say; None when there is none."""
        try:
            with self.file.open() as file:
                return Identity.find(file.read(400))
        except OSError:
            return None

    def find_older_layout(self) -> Layout | None:
        """What the configuration on disk routes, without its targets, where an earlier boot of this machine wrote it;
        None when this one did, or nobody.

        Whatever listens at those targets' ports by now need not be what listened there.
        """
        identity = self.find_written()
        if identity is None or self._text(_BOOT) == boot_id():
            return None
        live = parse_live_table(
            identity.slots,
            **{
                name.removesuffix(".map"): "".join(f"- {line}\n" for line in self._text(name).splitlines())
                for name in (NAMES, HOSTS, WILDCARDS, MAINTENANCE, GUARDS)
            },
            servers=NO_SERVERS,
        )
        return live.layout()

    def _text(self, name: str) -> str:
        try:
            return (self.current / name).read_text()
        except OSError:
            return ""

    def write(self, layout: Layout) -> Identity:
        """Write the table whole, make it the current one, and forget those before the last."""
        with self._writing:
            self.prepare()
            serials = sorted(int(each.name.partition("-")[2]) for each in self.folder.glob("table-*"))
            identity = Identity(self.fingerprint, layout.slots, serials[-1] + 1 if serials else 1)
            folder = self.folder / f"table-{identity.serial}"
            folder.mkdir(mode=0o700)
            for name, text in self.render(layout, identity).items():
                _write_durably(folder / name, text)
            _sync_folder(folder)
            link = self.folder / "current.new"
            link.unlink(missing_ok=True)
            link.symlink_to(folder.name)
            link.rename(self.current)
            _sync_folder(self.folder)
            # The one before may just be read by a process that starts.
            for serial in serials[:-1]:
                shutil.rmtree(self.folder / f"table-{serial}", ignore_errors=True)
            return identity

    def render(self, layout: Layout, identity: Identity) -> Mapping[str, str]:
        """File name to text."""
        maps = {HOSTS: "", WILDCARDS: "", NAMES: "", MAINTENANCE: "", GUARDS: ""}
        for slot, pool in layout.pools.items():
            maps[NAMES] += f"{slot} {pool.name}\n"
            if pool.maintenance:
                maps[MAINTENANCE] += f"{slot} {encode_text(pool.page)}\n"
            if pool.guards:
                maps[GUARDS] += f"{slot} {encode_text(guards_text(pool.guards))}\n"
            for domain in sorted(pool.domains):
                name, key = map_entry(domain)
                maps[name] += f"{key} {slot}\n"
        targets = sum(len(pool.targets) for pool in layout.pools.values())
        config = self._render(description=str(identity), options=server_options(targets), layout=layout)
        return {
            "haproxy.cfg": config,
            _BOOT: boot_id(),
            **maps,
            **{name: _template_text(name) for name in (*_PAGES, _GUARD)},
        }

    def _render(self, *, description: str, options: str, layout: Layout) -> str:
        user, group = _unprivileged() if os.geteuid() == 0 else ("", "")
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 - no HTML
        return environment.from_string(_template_text(self.template)).render(
            description=description,
            bind=self.listen,
            socket=self.socket,
            jail=self.jail,
            file_limit=self.file_limit,
            access_logs=self.access_logs.value if self.piped else AccessLogs.OFF.value,
            access_format=FORMAT,
            user=user,
            group=group,
            server_options=options,
            wildcard_depth=_WILDCARD_DEPTH,
            retry_after=_RETRY_AFTER,
            patience=_PATIENCE,
            slots=[(name, _servers(layout.pools.get(name))) for name in layout.names()],
        )


def _servers(pool: Pool | None) -> list[tuple[str, str]]:
    return [(target.id, place(target)) for target in sorted(pool.targets)] if pool is not None else []


def _unprivileged() -> tuple[str, str]:
    for name in ("haproxy", "nobody"):
        try:
            user = pwd.getpwnam(name)
            return name, grp.getgrgid(user.pw_gid).gr_name
        except KeyError:
            continue
    raise RouterError("There is no user for HAProxy to run as: make one that is named haproxy.")


def _template_text(name: str) -> str:
    return (resources.files("router") / "templates" / name).read_text()


def _write_durably(path: Path, text: str) -> None:
    with path.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
