"""Drivers by name: what `--backend`, `--router`, `--store` and `--builder` choose from.

A driver is registered under its plug point's entry point group, ours through the same door as anybody
else's. It is called with those of its kind's keyword arguments that it names; each function below
says which there are.
"""

import inspect
import logging
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from builder.base import ArtifactLost, Builder, BuilderUnavailable
from builder.slugs import SlugStore
from controller.backends.base import Backend, BackendError, InstanceSpec, SupportsPublishing
from controller.config import AUTO, Settings
from controller.errors import InvalidInput
from controller.plugins.builtin import MODULES
from controller.plugins.discovery import find_plugins
from controller.plugins.manager import Plugins
from controller.resources.backups import BackupStores, folders
from controller.resources.base import ResourceDriver
from controller.resources.bucketplace import BucketPlace, check_endpoint, parse_place
from controller.store.base import Store
from controller.types import ArtifactKind
from router.base import Router, RouterError, SupportsInnerPorts
from router.haproxy import HaproxyRouter
from router.inner import WithInnerPorts
from router.memory import MemoryRouter

if TYPE_CHECKING:
    from builder.images import ImageStore

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
"""Where instances that are plain processes reach each other."""
KINDS = ("backend", "router", "store", "builder")


@dataclass(frozen=True)
class _Lazy:
    """Made only for a driver that names it: libraries that few need cost every server memory."""

    make: Callable[[], Any]


def make_store(settings: Settings) -> Store:
    """`path`: of the database file; `etcd`: the setting of that name."""
    surroundings = {"path": settings.folders.database, "etcd": settings.etcd}
    return cast(Store, _make("store", settings, surroundings))


def make_backend(settings: Settings, slugs: SlugStore, inner: SupportsInnerPorts | None = None) -> Backend:
    """`inner`: leads apps to each other, None where nothing is to be started; `folder`: its own; `logs`: for what
    instances print; `prepare`: gives an instance's unpacked slug; `volumes`: the folder below which volumes lie;
    `engine` and `realm`: of containers (see `_engine`); and the settings of the same names."""

    async def prepare(spec: InstanceSpec) -> Path:
        if spec.artifact.kind is not ArtifactKind.SLUG:
            raise BackendError(
                f"the backend {settings.backend!r} runs code that was pushed, not images "
                f"such as {spec.artifact.reference!r}",
                retryable=False,
            )
        try:
            return await slugs.ensure_unpacked(spec.deployment, spec.service, spec.artifact, spec.uid)
        except BuilderUnavailable as error:
            raise BackendError(str(error), retryable=not isinstance(error, ArtifactLost)) from error

    surroundings = {
        "folder": settings.folders.root / settings.backend,
        "logs": settings.folders.logs,
        "prepare": prepare,
        "volumes": settings.folders.volumes,
        "runner_image": settings.runner_image,
        "ca_bundle": settings.build_ca_bundle,
        "inner": inner,
        **_engine(settings),
    }
    return cast(Backend, _make("backend", settings, surroundings))


def make_router(settings: Settings) -> Router:
    """`folder`: its own; `host` and `port`: where it takes requests; `access_logs`: which of them are told of."""
    surroundings = {
        "folder": settings.folders.root / settings.router,
        "host": settings.http.host,
        "port": settings.http.port,
        "access_logs": settings.router_logs,
    }
    return cast(Router, _make("router", settings, surroundings))


def with_inner_ports(
    settings: Settings, router: Router, find_backend: Callable[[], Backend | None]
) -> WithInnerPorts:
    """The router, and beside it the ports at which apps reach each other: by an HAProxy of its own, whatever the
    router is. `find_backend`: once there is one."""
    folder = settings.folders.inner

    def make(address: str) -> Router:
        if settings.router == "memory":
            return MemoryRouter()
        ports = settings.inner_ports.numbers
        return HaproxyRouter(
            folder=folder,
            host=address,
            port=ports.start,
            ports=len(ports),
            spare_pools=len(ports),  # as many as there can be, so that no reload makes room for more
            template="inner.cfg.j2",
            setting="--inner-ports",
        )

    async def address() -> str:
        backend = find_backend()
        try:
            return await backend.inner_address() if isinstance(backend, SupportsPublishing) else LOOPBACK
        except BackendError as error:
            raise RouterError(str(error)) from error

    return WithInnerPorts(router, make=make, address=address, begun=(folder / "current").exists)


def make_builder(settings: Settings, slugs: SlugStore) -> Builder:
    """`builds`, `tools`: folders; `slugs`: the store; `engine` and `realm`: of containers; and the settings of the
    same names."""
    surroundings = {
        "builds": settings.folders.builds,
        "tools": settings.folders.tools,
        "slugs": slugs,
        "build_env": settings.build_env,
        "ca_bundle": settings.build_ca_bundle,
        "disk_reserve": settings.disk_reserve,
        "buildpack_folders": [Path(each) for each in settings.buildpack_folders.split(":") if each],
        "build_memory": settings.build_memory,
        "build_pids": settings.build_pids,
        "build_cpu": settings.build_cpu,
        "build_disk": settings.build_disk,
        "build_network": settings.build_network,
        "build_ready": settings.build_ready,
        "builder_image": settings.builder_image,
        "image_limit": settings.image_limit,
        "dockerfile_builder": settings.dockerfile_builder,
        "runs_images": settings.backend == "docker",
        **_engine(settings),
    }
    return cast(Builder, _make("builder", settings, surroundings))


def make_images(settings: Settings) -> "ImageStore | None":
    """Those of the engine that instances run on; None where they are no containers."""
    if settings.backend != "docker":
        return None
    from builder.images import ImageStore
    from controller.engine import Engine

    return ImageStore(
        Engine(settings.docker_host), ensure_realm(settings.folders.realm), limit=settings.image_limit
    )


def make_resource_drivers() -> Mapping[str, ResourceDriver]:
    """All that are installed, by kind, made with what they are by default. One that can't be loaded is left out,
    which the log says: others have nothing to do with it."""
    found = dict[str, ResourceDriver]()
    for entry in entry_points(group="mooring.resources"):
        try:
            found[entry.name] = entry.load()()
        except Exception:
            log.exception("resource driver not loaded kind=%s", entry.name)
    return found


def make_backups(settings: Settings) -> BackupStores:
    """Where backups of resources are kept. Raises InvalidInput."""
    if not settings.backup_storage:
        return folders(settings.folders.backups)
    place = checked_storage(settings)
    from controller.resources.bucket import buckets

    return buckets(
        place,
        endpoint=settings.backup_endpoint,
        region=settings.backup_region,
        spool=settings.folders.backups,
    )


def checked_storage(settings: Settings) -> BucketPlace:
    """Raise InvalidInput where the settings of backup storage are no such, or what it takes is not installed."""
    place = parse_place(settings.backup_storage)
    if settings.backup_endpoint:
        check_endpoint(settings.backup_endpoint)
    if find_spec("botocore") is None:
        raise InvalidInput(
            "backup_storage",
            "backup_storage: the package botocore is not installed: `pip install mooring[s3]`, or leave it out.",
        )
    return place


def make_plugins(settings: Settings) -> Plugins:
    """Those that the settings want, loaded; none of them was called yet."""
    own = [module.NAME for module in MODULES]
    return Plugins(
        find_plugins(settings.folders.plugins, settings.plugins, taken=own),
        timeout=settings.plugin_timeout,
        trace=settings.plugin_trace,
    )


def check_drivers(settings: Settings) -> None:
    """Raise InvalidInput for a name that no driver has, without loading any, and where the settings switch off a plugin
    that is a part of the product."""
    for kind in KINDS:
        if getattr(settings, kind) != AUTO:
            _find(kind, getattr(settings, kind))
    if settings.backup_storage:
        checked_storage(settings)
    off = {each.strip() for each in settings.plugins.split(",")}
    if own := sorted(module.NAME for module in MODULES if f"-{module.NAME}" in off):
        raise InvalidInput(
            "plugins",
            f"plugins: {own[0]} is a part of the product and can't be switched off: take -{own[0]} out. A service file "
            "that does not use it has nothing of it.",
        )


def _make(kind: str, settings: Settings, surroundings: Mapping[str, Any]) -> Any:
    entry = _find(kind, getattr(settings, kind))
    try:
        factory = entry.load()
    except ImportError as error:
        raise InvalidInput(kind, f"The {kind} {entry.name!r} can't be loaded: {error}.") from error
    wanted = inspect.signature(factory).parameters
    given = {name: value for name, value in surroundings.items() if name in wanted}
    return factory(**{name: each.make() if isinstance(each, _Lazy) else each for name, each in given.items()})


def _engine(settings: Settings) -> Mapping[str, _Lazy]:
    """`engine`: of containers, not connected yet; `realm`: what names this installation's own things to it."""

    def engine() -> Any:
        from controller.engine import Engine  # the SDK costs every server that needs none 10 MiB

        return Engine(settings.docker_host)

    return {"engine": _Lazy(engine), "realm": _Lazy(lambda: ensure_realm(settings.folders.realm))}


def ensure_realm(path: Path) -> str:
    """The installation's name to a container engine, made at its first use; it goes where the data folder goes."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        pass
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(f"{secrets.token_hex(6)}\n")
    fresh.rename(path)
    return path.read_text().strip()


def _find(kind: str, name: str) -> EntryPoint:
    known = {each.name: each for each in entry_points(group=f"mooring.{kind}s")}
    if name not in known:
        raise InvalidInput(
            kind, f"There is no {kind} {name!r}. Set --{kind} to one of: {', '.join(sorted(known))}."
        )
    return known[name]
