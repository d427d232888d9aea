"""What the server derives from the model for those who ask: the answers of operations, API and client."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from controller.types import Limits, ResourceStatus, Right, RunStatus, Service, Version


@dataclass(frozen=True, kw_only=True)
class ServiceInfo:
    """A service with what the server derives for it."""

    service: Service
    domains: tuple[str, ...]
    """All its domains, the default one first."""
    urls: tuple[str, ...]
    """The same as URLs that work through the router, port included where it is not 80."""
    process_types: Mapping[str, int]
    """Every process type of the wanted version to the number of instances it should have."""
    held: str | None
    """Why it can't start yet; None when nothing holds it."""
    running: int
    """Instances that run now."""
    rollout: str | None = None
    """What the rollout that is under way does, or waits for, in words; None where none is."""
    due: int = 0
    """Instances that should run now: those of `process_types` without what was stopped."""
    staged: tuple[str, ...] = ()
    """Names of variables that were changed without a version: the next version has them."""
    inner_ports: Mapping[str, int] = field(default_factory=dict)
    """Where others of its deployment reach it: its ports with a name, "" for its `PORT`, to ports of the machine."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """What came of a request to change a service."""

    version: Version | None
    """The new version; None when nothing was made: no changes, or the service is held (see `held`)."""
    held: str | None = None
    needs_code: bool = False
    """Whether it has none yet: that is among what holds it."""
    staged: tuple[str, ...] = ()
    """Where staging was asked for: names of the variables that wait for a version now."""


@dataclass(frozen=True, kw_only=True)
class BuildpackVerdict:
    """What one buildpack says of a source."""

    buildpack: str
    by: str
    """Where it was named, such as `.buildpacks`; empty for one that was asked because none was."""
    matched: bool
    words: str
    """Its name for people, or why not."""
    builds: bool
    """Whether it would build: of those that were not named, only the first that matches does."""


class Area(StrEnum):
    """What a difference of two versions is about, in the order in which people are told."""

    CODE = "code"
    """`commit`, `artifact`, `buildpack`, `size`."""
    PROCESSES = "processes"
    """Process type to the command that the code brings for it."""
    DEFINITION = "definition"
    """Keys as in the definition; what lies deeper as `health.path`."""
    ENV = "env"
    SHARED_ENV = "shared-env"
    BUILDPACK_ENV = "buildpack-env"
    PROVIDED = "provided"
    """By plugins: `{NAME}` to what it stands for, and variables."""
    GLOBALS = "globals"
    """Of the deployment, but for its variables."""
    SCALE = "scale"
    """Process type to number of instances: a service's state, and no part of versions."""
    BACKUPS = "backups"
    """Resource or volume to when it is backed up by itself, in words: no part of versions either."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing that two versions don't have in common."""

    area: Area
    name: str
    before: Any = None
    """Its value in the older one, or `(hidden)`; None: it was not there."""
    after: Any = None
    """Its value in the newer one, or `(hidden)`; None: it is not there any more."""

    @property
    def sign(self) -> str:
        """`+` for added, `-` for removed, `~` for changed."""
        if self.before is None:
            return "+"
        return "-" if self.after is None else "~"


@dataclass(frozen=True, kw_only=True)
class VersionDiff:
    """What a version changed."""

    deployment: str
    service: str
    number: int
    compared_with: int | None
    """None: with nothing, as no older version is there."""
    differences: tuple[Difference, ...]


class DeployState(StrEnum):
    """How far one is; those furthest on come first."""

    ROLLING_OUT = "rolling-out"
    BUILDING = "building"
    QUEUED = "queued"


@dataclass(frozen=True, kw_only=True)
class Deploy:
    """Something on its way to serve: a build, or the rollout of a version."""

    deployment: str
    service: str
    state: DeployState
    build: str | None = None
    """The build's id; None for a rollout."""
    version: int | None = None
    """The version that is rolled out, or restarted; None for a build."""
    actor: str = ""
    reason: str = ""
    """In words, why it was begun."""
    since: datetime | None = None
    """When it began to be in this state."""
    doing: str = ""
    """In words, what it does now or waits for."""


class LimitSource(StrEnum):
    TYPE = "type"
    SERVICE = "service"
    SERVER = "server"
    """Nobody set it for the service: the server's default."""


@dataclass(frozen=True, kw_only=True)
class ProcessLimits:
    """What one instance of a process type may take, as the next version has it."""

    process_type: str
    limits: Limits
    """None: no limit."""
    sources: Mapping[str, LimitSource]
    """Each limit to where it was set."""


@dataclass(frozen=True, kw_only=True)
class DiskSpace:
    """The disk of the data folder, in bytes."""

    total: int
    free: int
    warning: int
    """Below so many free bytes the server makes room by itself, and warns."""
    reserve: int
    """Below so many free bytes pushes are refused."""
    usage: Mapping[str, int] = field(default_factory=dict)
    """Bytes that the server's own files take, by kind, as last measured while little was free; else empty."""


@dataclass(frozen=True, kw_only=True)
class ServiceUsage:
    """What one service uses of the disk."""

    deployment: str
    service: str
    usage: Mapping[str, int]
    """Bytes by kind: slugs, apps, caches, images, builds, logs, repositories. A slug counts for each that has it."""


@dataclass(frozen=True, kw_only=True)
class DiskReport:
    """What the server uses of its disk."""

    space: DiskSpace | None
    usage: Mapping[str, int]
    """Bytes by kind, as for services, and `other`."""
    services: tuple[ServiceUsage, ...]
    """Those that use most first."""


@dataclass(frozen=True, kw_only=True)
class Collected:
    """What was removed because nothing needs it."""

    versions: int = 0
    builds: int = 0
    slugs: int = 0
    apps: int = 0
    """Unpacked slugs."""
    caches: int = 0
    images: int = 0
    """On the container engine; what that frees is not counted in `size`."""
    size: int = 0
    """Bytes on disk."""


@dataclass(frozen=True, kw_only=True)
class VolumeInfo:
    """A folder of a service that outlives its versions."""

    service: str
    name: str
    path: str
    """Where a container has it; empty where the service's definition has it no more."""
    size: int
    """Bytes on disk; 0 before the first instance."""
    backup: "BackupPlanInfo | None" = None
    """When it is backed up by itself; null: never."""


@dataclass(frozen=True, kw_only=True)
class VolumeSchedule:
    """When a volume is backed up by itself."""

    service: str
    name: str
    backup: "BackupPlanInfo | None"
    """Null: never."""


@dataclass(frozen=True, kw_only=True)
class ResourceInfo:
    """A database of a deployment, or the like."""

    deployment: str
    name: str
    kind: str
    status: ResourceStatus
    failure: str = ""
    external: bool = False
    """It is kept elsewhere: no service of the deployment is its server."""
    attached: Mapping[str, str] = field(default_factory=dict)
    """Service to the prefix of its variables; empty: they are named as its kind is known."""
    plan: Mapping[str, str] = field(default_factory=dict)
    """What is no secret of its server."""
    values: Mapping[str, str] = field(default_factory=dict)
    """What it gives to services; hidden from those who may only view."""
    backup: "BackupPlanInfo | None" = None
    """When it is backed up by itself; null: never."""
    created_at: datetime | None = None
    created_by: str = ""


@dataclass(frozen=True, kw_only=True)
class BackupPlanInfo:
    """When a resource, or a volume, is backed up by itself, and how that went last."""

    schedule: str
    """As crontab writes it, in UTC."""
    keep: int
    """How many of these backups are kept."""
    days: int
    """How many days they are kept; 0: as long as `keep` lets them."""
    next_at: datetime | None
    """Null while it rests: of a volume that the service's definition does not have now, or before a version of it ever
    served."""
    failure: str = ""
    """Why the last turn made none; empty where it made one, or none came yet."""


@dataclass(frozen=True, kw_only=True)
class CronInfo:
    """A command of a service that is run again and again, and how that went last."""

    schedule: str
    """As crontab writes it, in UTC."""
    command: str
    next_at: datetime | None
    """Null: never. A time that has passed is due, and waits for the turn before it to end."""
    last_at: datetime | None = None
    """When the last turn began; null: none is remembered."""
    run: str | None = None
    """The process of that one (`scheduled.3`), by which its logs are found."""
    status: RunStatus | None = None
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class BackupInfo:
    """All data of a resource, or of a volume."""

    id: str
    created_at: datetime
    size: int
    """Bytes."""
    sha256: str
    actor: str = ""
    scheduled: bool = False
    """Made by a schedule, whose retention removes it: those that people asked for stay."""


class VariableSource(StrEnum):
    SERVICE = "service"
    DEPLOYMENT = "deployment"
    BUILDPACK = "buildpack"


@dataclass(frozen=True, kw_only=True)
class Variable:
    """One variable that a service finds in its environment."""

    name: str
    value: str
    source: VariableSource
    """Where it was set; what a service's own config overrides does not show."""


@dataclass(frozen=True, kw_only=True)
class SharedChange:
    """What came of a change of a deployment's config."""

    versions: tuple[Version, ...]
    """One of each service whose environment it changed."""


@dataclass(frozen=True, kw_only=True)
class PluginInfo:
    """A plugin of the server, and how it has done since the server started."""

    name: str
    source: str
    """A distribution with its version, or a file."""
    standing: str
    """`built in`, `on`, `off`, `failed` (not loaded) or `suspended`."""
    why: str = ""
    """Why it is not on."""
    hooks: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    """Of definitions, and sections, that it acts on."""
    calls: int = 0
    errors: int = 0
    seconds: float = 0.0
    last_error: str = ""
    left_behind: int = 0
    """Calls that did not answer in time; they may still be going on."""


@dataclass(frozen=True, kw_only=True)
class PluginReport:
    """All plugins."""

    plugins: tuple[PluginInfo, ...]
    trace: bool
    timeout: float
    """Seconds that a call may take."""
    panels: tuple[str, ...]
    """Paths of routes that are parts of a web page."""
    unclaimed: Mapping[str, tuple[str, ...]]
    """Deployment to sections, and keys of services, that no plugin acts on."""


@dataclass(frozen=True, kw_only=True)
class PluginCommand:
    """A verb that a plugin brings."""

    verb: str
    plugin: str
    summary: str = ""


@dataclass(frozen=True, kw_only=True)
class PluginPanel:
    """A part of the web page that a plugin brings."""

    plugin: str
    title: str
    path: str
    """Of the route whose answer is its HTML."""
    right: Right | None
    """That the route takes on the deployment in its query (`?deployment=foo`); null: it is for admins."""


@dataclass(frozen=True, kw_only=True)
class ExecInfo:
    """A command of the section Exec."""

    deployment: str
    name: str
    service: str
    """In whose code it runs."""
    command: str
    require: tuple[str, ...]
    status: ResourceStatus
    """`ready` once it has ended well."""
    waits: str | None = None
    """Why it does not run yet; None: it does, or did."""
    run: str | None = None
    """Name of the process of its last run, such as `exec.1`; None: it has not run."""
    failure: str = ""


class FileChangeKind(StrEnum):
    CREATE = "create"
    CHANGE = "change"
    REMOVE = "remove"


class GuardChange(StrEnum):
    """What becomes of the password that a domain asks for."""

    SET = "set"
    CHANGED = "changed"
    """Other names, or other passwords."""
    ENDED = "ended"
    """Everybody may come in."""


@dataclass(frozen=True, kw_only=True)
class FileChange:
    """What a service file changes of one service, or has changed."""

    deployment: str
    service: str
    kind: FileChangeKind
    makes_version: bool
    version: int | None = None
    """The version that was made; None in a plan, and where none is."""
    differences: tuple[Difference, ...] = ()
    """Of its definition, its scale and when its volumes are backed up, without values that may be secrets."""
    added_domains: tuple[str, ...] = ()
    removed_domains: tuple[str, ...] = ()
    guards: Mapping[str, GuardChange] = field(default_factory=dict)
    """Domain, of those that lead there afterwards, to what becomes of its password."""
    held: str | None = None
    """Why it can't start yet; None when nothing holds it."""
    needs_code: bool = False
    """Whether it has none yet: that is among what holds it."""


@dataclass(frozen=True, kw_only=True)
class FileOutcome:
    """What a service file changes, or has changed."""

    deployment: str
    applied: bool
    """False: it is a plan, and nothing was changed."""
    globals: tuple[Difference, ...]
    """Of the whole deployment, without values; and when its resources are backed up."""
    changes: tuple[FileChange, ...]
    """Those that others require come first."""
    unchanged: int
    """How many services of the file stay as they are."""
    unclaimed: tuple[str, ...] = ()
    """Sections, and keys of services as `web.sidecar`, that are kept and that no plugin acts on."""
    notes: tuple[str, ...] = ()
    """What people should know."""


@dataclass(frozen=True, kw_only=True)
class RolloutStep:
    """One line of a rollout as it is followed."""

    text: str
    """For people, with the reason; empty in the last one where an earlier one has said it all."""
    done: bool = False
    """True in the last one only."""
    version: Version | None = None
    """In the last one: the version as it ended, `live`, `failed` or `canceled` (or `superseded`); `pending`
    where nothing comes of it for now: the service is stopped, or somebody has to promote or to resume it."""
    failure: str = ""
    """In the last one: why the rollout, or the restart, was given up or cancelled; empty when it was not."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """The server as a whole."""

    version: str
    api: str
    ssh: str
    http: str
    domain: str
    host_key_fingerprint: str
    problems: tuple[str, ...] = ()
    """What is wrong now, in words: a backend that does not answer, a full disk."""
    limits: Mapping[str, str] = field(default_factory=dict)
    """Each limit (cpu, memory, pids, nofile) to how this machine keeps it: `cgroup v2`, `cgroup v1`, `rlimit`,
    `watched` (looked at every second, and killed when above) or `not kept`."""
    disk: DiskSpace | None = None
    """None: it was not looked at yet."""
