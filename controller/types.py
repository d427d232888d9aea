"""The model: immutable values that store, operations, API, client and reconcile loop all share.

Times are timezone-aware UTC. Sizes are bytes. Every type here is plain data that msgspec and
pydantic can write and read; changes are made with `dataclasses.replace`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class Right(StrEnum):
    """What a user may do with a deployment; each one includes those before it."""

    VIEW = "view"
    DEPLOY = "deploy"
    OPERATE = "operate"
    MANAGE = "manage"

    def includes(self, other: "Right") -> bool:
        """Whether holding this right means holding `other` too."""
        order = list(Right)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True, kw_only=True)
class User:
    """A person or a machine that may ask for things."""

    name: str
    admin: bool = False
    """An admin has every right on every deployment, and manages users."""
    rights: Mapping[str, Right] = field(default_factory=dict)
    """Deployment name to right."""
    created_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class SshKey:
    """A public key and whose it is."""

    name: str
    user: str
    fingerprint: str
    """`SHA256:…` as ssh-keygen -l prints it; unique over the server."""
    public_key: str
    """One line in OpenSSH form, without options."""
    created_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Token:
    """An API token; only its hash is kept."""

    id: str
    user: str
    sha256: str
    """Hex SHA-256 of the secret: a long random one needs no slow hash."""
    description: str = ""
    created_at: datetime | None = None
    expires_at: datetime | None = None
    """From then on it lets nobody in; None: it does until it is removed."""
    right: Right | None = None
    """The highest right that it gives, on any deployment; None: all that the user has."""
    deployments: tuple[str, ...] = ()
    """The only ones that it is good for; empty: all that the user has rights on."""
    last_used_at: datetime | None = None
    """To the hour or so: not every use is written down."""

    @property
    def narrowed(self) -> bool:
        """Whether it gives less than its user has. Such a one is no admin's, whoever the user is."""
        return self.right is not None or bool(self.deployments)


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """That a request with an `Idempotency-Key` was begun, and what was answered to it."""

    id: str
    """Hex SHA-256 of whose it is and of the key."""
    user: str
    fingerprint: str
    """Tells whether another request is the same; made with the key."""
    created_at: datetime
    answer: str = ""
    """Sealed with the key; empty while it is not known, or when it is too large to be kept."""


class ArtifactKind(StrEnum):
    SLUG = "slug"
    IMAGE = "image"


@dataclass(frozen=True, kw_only=True)
class CronJob:
    """A command that is to run again and again."""

    schedule: str
    """Five fields, as cron has them."""
    command: str
    """A shell line."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A variable that code asks for."""

    value: str | None = None
    """What it is set to where nobody has set it."""
    secret: bool = False
    """It is set to a secret of its own where nobody has set it."""
    required: bool = True
    """Without it the code can't run."""
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What the code itself asks for, in its app.json. What people set for the service goes before it."""

    env: Mapping[str, Wish] = field(default_factory=dict)
    predeploy: str | None = None
    postdeploy: str | None = None
    first_postdeploy: str | None = None
    """Runs once the first version of the service is live."""
    checks: Mapping[str, "HealthCheck"] = field(default_factory=dict)
    """By process type."""
    cron: tuple[CronJob, ...] = ()
    """What the server runs by itself while that code serves."""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """What a build made; content-addressed, never changed."""

    kind: ArtifactKind
    reference: str
    """Slug: hex SHA-256 of its content. Image: `sha256:…`, its id on the engine, or the name in its definition."""
    size: int = 0
    process_types: Mapping[str, str] = field(default_factory=dict)
    """Process type to command line, from Procfile and buildpack."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Defaults that the buildpack wants set (its config vars); the service's own env wins."""
    buildpack: str = ""
    """What built it, as shown to people ("Python"); of an image that was not built here, its name."""
    manifest: Manifest = field(default_factory=Manifest)
    runner: str = ""
    """Of a slug, where instances are containers: the image that it runs in, by a shell; empty: the usual one."""


@dataclass(frozen=True, kw_only=True)
class HealthCheck:
    """How an instance shows that it can do its work: by at most one of `path`, `command` and `uptime`.

    With none of them a process with a port must take a TCP connection, and one without must stay up.
    """

    path: str | None = None
    """HTTP path that must answer 200 to 399."""
    command: str | None = None
    """A shell line that is run beside the instance, in its folder and environment, and must exit with 0."""
    uptime: float | None = None
    """Seconds that it must stay up, whether it has a port or not."""
    timeout: float | None = None
    """Seconds a new instance has to become healthy before its version is given up; None: the server's
    setting, and the seconds that it must stay up."""
    settle: float = 1.0
    """Seconds that a process without a port must stay up to count as healthy."""


class Strategy(StrEnum):
    """In which steps a service moves from what serves to what is wanted."""

    ALL_AT_ONCE = "all-at-once"
    """Everything new beside everything old, then all of the old goes."""
    ONE_BY_ONE = "one-by-one"
    """One instance of each process type after the other."""
    BATCH = "batch"
    """`size` instances of each process type at a time."""
    CANARY = "canary"
    """A share of the instances beside all of the old ones, until somebody promotes or aborts it."""
    STOP_FIRST = "stop-first"
    """Everything old stops before anything new starts; nothing serves in between. What all-at-once becomes for a
    service with volumes."""


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """How a service gets from one version, or one generation, to the next."""

    strategy: Strategy = Strategy.ALL_AT_ONCE
    size: int = 1
    """Batch: how many instances of each process type are replaced at a time."""
    share: int = 10
    """Canary: percent of the instances of each routed process type (of each, where none is routed); at least one."""
    timeout: float = 3600.0
    """Canary: seconds after which it is aborted when nobody has promoted it."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one instance may take. In a definition None means not said (what holds for all types, else the
    server's default), and 0 means no limit; for an instance None means no limit."""

    cpu: float | None = None
    """Cores: 0.5 is half of one."""
    memory: int | None = None
    """Bytes, of all its processes together."""
    pids: int | None = None
    """Processes and threads at a time."""
    nofile: int | None = None
    """Open files of each of its processes."""


NO_LIMITS = Limits()


@dataclass(frozen=True, kw_only=True)
class Definition:
    """What somebody wants of a service. A change makes a version; the same again makes none."""

    image: str | None = None
    """None means a code service: its artifact comes from a push or an upload."""
    command: str | None = None
    """Overrides the command of the unnamed process type (image services)."""
    env: Mapping[str, str] = field(default_factory=dict)
    health: HealthCheck = field(default_factory=HealthCheck)
    """Of `web` and the unnamed process type; the times in it count for the other types too."""
    checks: Mapping[str, HealthCheck] = field(default_factory=dict)
    """Process type to a check of its own, in place of `health`."""
    rollout: Rollout = field(default_factory=Rollout)
    predeploy: str | None = None
    """A shell line that runs in a new version's code before its release command; the version fails with it."""
    postdeploy: str | None = None
    """A shell line that runs once the version is live. When it fails, that is told and undoes nothing."""
    limits: Mapping[str, Limits] = field(default_factory=dict)
    """By process type; "" for those of all types."""
    volumes: Mapping[str, str] = field(default_factory=dict)
    """Name to the folder at which a container has it. All instances of the service share it, over versions."""
    publish: Mapping[str, int] = field(default_factory=dict)
    """Where instances have a network of their own: `HOST:PORT` of the machine to the port that answers there. Of
    servers of resources; nobody else can set it."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Unknown keys, kept as they came, for plugins to claim."""


@dataclass(frozen=True, kw_only=True)
class Provided:
    """What plugins gave a version beside what people said."""

    vars: Mapping[str, str] = field(default_factory=dict)
    """What `{NAME}` stands for, of the names that its texts have."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables below those of the service itself."""
    definition: Definition | None = None
    """What it runs by in place of its own; None: nobody changed that."""


class BuilderChoice(StrEnum):
    """What turns a service's source into what runs."""

    AUTO = "auto"
    """A Dockerfile where the source has one and nothing names buildpacks, else buildpacks."""
    BUILDPACKS = "buildpacks"
    DOCKERFILE = "dockerfile"


@dataclass(frozen=True, kw_only=True)
class DockerfileBuild:
    """How a service's Dockerfile is built."""

    path: str = ""
    """The file, from the top of what is built; empty: `Dockerfile`."""
    target: str = ""
    """The stage that is built; empty: the last one."""
    args: Mapping[str, str] = field(default_factory=dict)
    """Build arguments (`ARG`). They stay to be seen in the image: no place for secrets."""
    secrets: tuple[str, ...] = ()
    """Names of config variables that `RUN --mount=type=secret,id=NAME` may read, and nothing else."""


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """A named group of services with shared globals."""

    name: str
    globals: Mapping[str, Any] = field(default_factory=dict)
    filed: tuple[str, ...] = ()
    """What of the globals came from the last service file, as `Domains` and `Env.NAME`: those go when the next one
    has them no more. What people set otherwise stays."""
    generated: Mapping[str, str] = field(default_factory=dict)
    """Values of the names in the section `Generate`, and of those that once were."""
    vars: Mapping[str, str] = field(default_factory=dict)
    """What variables of its service file stand for here, in place of what the file says."""
    infra_domains: Mapping[str, str] = field(default_factory=dict)
    """Domain to service, as the last infrastructure file said."""
    given_domains: Mapping[str, Any] = field(default_factory=dict)
    """What plugins gave for its last service file, as a section Domains, without passwords."""
    inner_ports: Mapping[str, int] = field(default_factory=dict)
    """Service, or `service:port` where it is one of its ports with a name, to the port of the machine at which others
    of the deployment reach it. It stays for as long as the deployment is there."""
    created_at: datetime | None = None
    created_by: str = ""


@dataclass(frozen=True, kw_only=True)
class Code:
    """Code that was brought, by a push or an upload."""

    artifact: Artifact
    commit: str | None = None
    origin: str = ""
    """As in a version."""
    build: str | None = None


class GuardMode(StrEnum):
    """How a browser shows that somebody knows the password of a domain. Not the router's own of that name: these types
    go into build containers, which know no router."""

    DIGEST = "digest"
    BASIC = "basic"


@dataclass(frozen=True, kw_only=True)
class Guard:
    """Who may come in by a domain."""

    mode: GuardMode = GuardMode.DIGEST
    users: Mapping[str, str] = field(default_factory=dict)
    """Name to the hash of the password, as a router takes it."""


@dataclass(frozen=True, kw_only=True)
class Raise:
    """Somebody asked for more instances of a process type."""

    at: datetime
    reason: str
    """In words: "scaled up to 3"."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """The desired state of one service."""

    deployment: str
    name: str
    definition: Definition = field(default_factory=Definition)
    branches: tuple[str, ...] = ("master", "main")
    """Branches whose push deploys; any other ref is stored only."""
    buildpacks: tuple[str, ...] = ()
    """What builds its source, in this order; empty: the source says, or they are detected."""
    build_dir: str = ""
    """The folder of the repository that is built, from its top; empty: all of it."""
    builder: BuilderChoice = BuilderChoice.AUTO
    dockerfile: DockerfileBuild = field(default_factory=DockerfileBuild)
    scale: Mapping[str, int] = field(default_factory=dict)
    """Process type to number of instances; a missing `web` (or unnamed type) means 1, others 0."""
    domains: tuple[str, ...] = ()
    """Domains added by people, beside the default one that the server derives."""
    guards: Mapping[str, Guard] = field(default_factory=dict)
    """Those of all its domains that ask for a password, to who may come in."""
    raised: Mapping[str, Raise] = field(default_factory=dict)
    """Process type to when and how more of it were last asked for: why instances start soon after."""
    stopped: bool = False
    stopped_types: tuple[str, ...] = ()
    """Process types of which nothing shall run for now; their scale is kept."""
    withdrawn: tuple[str, ...] = ()
    """Ids of single instances that were stopped: nothing takes their place until they are started, the type
    is scaled, or there is a new version."""
    replacing: tuple[str, ...] = ()
    """Ids of instances that go as soon as another one is healthy in their place; cleared once they are gone."""
    maintenance: bool = False
    """The router answers requests itself, with 503, while instances go on running."""
    maintenance_page: str = ""
    """HTML that it answers with; empty: its own page."""
    generation: int = 1
    """Raised by a restart: instances of an older generation are replaced."""
    current: int | None = None
    """The version that serves. None: none ever did."""
    target: int | None = None
    """The version wanted. A rollout is under way while it differs from `current`."""
    latest: int = 0
    """The highest version number ever given out; 0 before the first."""
    rollout_started_at: datetime | None = None
    rollout_failure: str = ""
    """Why the last rollout (or restart) was given up; empty when it was not."""
    current_generation: int = 1
    """The generation that serves; below `generation` while a restart is under way."""
    paused: bool = False
    """Somebody holds the rollout that is under way: no further step of it is taken."""
    promoted: tuple[int, ...] = ()
    """Version and generation of the canary that was promoted last; empty: none was."""
    holds: Mapping[str, str] = field(default_factory=dict)
    """Before the first version: name of a plugin to why it keeps the service from having one."""
    code: Code | None = None
    """What was brought while it was held; its first version has it."""
    uid: int | None = None
    """User id that its builds and instances run as; None when the server itself is unprivileged."""
    filed: tuple[str, ...] = ()
    """What of the definition came from the last service file, as `image` and `env.NAME`."""
    cron: Mapping[str, datetime] = field(default_factory=dict)
    """Of the jobs that are to run again and again: when each had its last turn, or was first seen."""
    backups: Mapping[str, "BackupPlan"] = field(default_factory=dict)
    """Volume to when it is backed up by itself; of those that its definition has no more too."""
    created_at: datetime | None = None
    created_by: str = ""


class VersionStatus(StrEnum):
    PENDING = "pending"
    """Its rollout is under way."""
    LIVE = "live"
    """It is the current one."""
    SUPERSEDED = "superseded"
    """It was current once, or was overtaken before it got there."""
    FAILED = "failed"
    """It never passed the health gate."""
    CANCELED = "canceled"
    """Its rollout was cancelled, or its canary aborted, before it was live."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """Immutable but for `status` and `failure`, which tell how its rollout went."""

    deployment: str
    service: str
    number: int
    definition: Definition
    globals: Mapping[str, Any] = field(default_factory=dict)
    artifact: Artifact | None = None
    commit: str | None = None
    """Full git commit id, for a version that came from source."""
    origin: str = ""
    """The sender's own commit that an archive of its code was made of, as `COMMIT` or `COMMIT:FOLDER`; empty: the
    commit itself is the sender's, or it is not known."""
    build: str | None = None
    provided: Provided = field(default_factory=Provided)
    actor: str = ""
    reason: str = ""
    """In words: "push of 1a2b3c4 to master", "config:set GREETING", "rollback to v3"."""
    staged: tuple[str, ...] = ()
    """Names of variables that were set or unset before, without a version, and went along in this one."""
    before: int | None = None
    """The version that was wanted when it was made; None for the first, and for those of an older release."""
    summary: str = ""
    """What it changed in that one, without values: "code, +COLOR ~GREETING"; empty for those of an older release."""
    created_at: datetime | None = None
    status: VersionStatus = VersionStatus.PENDING
    failure: str = ""
    """The sentence for people: why it failed, who cancelled it, or what overtook it; else empty."""
    failure_log: tuple[str, ...] = ()
    """The last lines that the failed instances printed."""


class BuildStatus(StrEnum):
    QUEUED = "queued"
    """It waits for its turn."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    ABANDONED = "abandoned"
    """The server died under it, or nothing was heard of its owner any more."""

    @property
    def under_way(self) -> bool:
        """Whether it has yet to end."""
        return self in (BuildStatus.QUEUED, BuildStatus.RUNNING)


@dataclass(frozen=True, kw_only=True)
class Build:
    """Source → artifact, with its status; the log is kept beside it."""

    id: str
    deployment: str
    service: str
    status: BuildStatus
    commit: str | None = None
    actor: str = ""
    error: str = ""
    artifact: Artifact | None = None
    cancel_requested_by: str = ""
    """Who asked for it to end; the build's owner watches for this."""
    reason: str = ""
    """In words: "push of 1a2b3c4 to master"."""
    version: int | None = None
    """The version that was made of its artifact; None: none was yet."""
    doing: str = ""
    """In words, what it waits for while it is queued, and its phase while it runs; empty afterwards."""
    queued_at: datetime | None = None
    """When it was opened; None for one of an older release."""
    started_at: datetime | None = None
    """When it began to run; None while it is queued, and for one that never ran."""
    finished_at: datetime | None = None


class InstanceState(StrEnum):
    STARTING = "starting"
    """Started, not yet ready: it has not passed its health check."""
    RUNNING = "running"
    CRASHED = "crashed"
    """It exited by itself; its backend starts it again with back-off."""
    CRASH_LOOPING = "crash-looping"
    """It keeps exiting soon after each start. It takes no requests until it has stayed up for a while."""
    STOPPING = "stopping"
    STOPPED = "stopped"
    EXITED = "exited"
    """It was started once (`Instance.once`) and has ended by itself; it is never started again."""


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One running copy, as the backend reports it."""

    id: str
    deployment: str
    service: str
    version: int
    process_type: str
    number: int
    generation: int
    state: InstanceState
    host: str = "local"
    address: str | None = None
    """IP address to reach it at; None for a process without a port."""
    port: int | None = None
    started_at: datetime | None = None
    restarts: int = 0
    next_start_at: datetime | None = None
    """When it is due to be started again; None while its process is there."""
    detail: str = ""
    """In words, what a person should know ("exited with status 1")."""
    once: bool = False
    """It belongs to a `Run`: no copy of a process type, and never started again."""
    exit_code: int | None = None
    """Of one that has exited: as a shell tells it, 128 and more for a signal. None: how it ended is not known."""


class ResourceStatus(StrEnum):
    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"
    REMOVING = "removing"


@dataclass(frozen=True, kw_only=True)
class Resource:
    """Something of a deployment that its services may need: a database, a command that must have run."""

    deployment: str
    name: str
    kind: str
    """The driver, or the plugin, that it comes from: `postgres`, `exec`."""
    status: ResourceStatus = ResourceStatus.PENDING
    failure: str = ""
    """The sentence for people: why it failed; else empty."""
    values: Mapping[str, str] = field(default_factory=dict)
    """What it gives to those that it is attached to; sealed where it is kept."""
    attached: Mapping[str, str] = field(default_factory=dict)
    """Service to the prefix of the variables that it finds there."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What is no secret, as its kind has it."""
    backup: "BackupPlan | None" = None
    """When it is backed up by itself; None: never."""
    created_at: datetime | None = None
    created_by: str = ""


@dataclass(frozen=True, kw_only=True)
class BackupPlan:
    """When a resource, or a volume, is backed up by itself, how many of these backups are kept, and how that goes."""

    schedule: str
    """As crontab writes it, in UTC."""
    keep: int = 7
    """How many of them, at least 1: the newest stays in any case."""
    days: int = 0
    """How old they become; 0: as old as `keep` lets them."""
    since: datetime
    """When the last turn began, or the plan was made: times before that are done with."""
    failure: str = ""
    """Why the last turn made no backup; empty where it made one."""
    filed: bool = False
    """The last service file said it, and not somebody by the verb."""


class RunKind(StrEnum):
    RUN = "run"
    """Somebody asked for it."""
    ENTER = "enter"
    """A shell in the place of a running instance."""
    PREDEPLOY = "predeploy"
    RELEASE = "release"
    """Both run before a version is switched to; that version fails with them."""
    POSTDEPLOY = "postdeploy"
    """Runs once a version is live."""
    EXEC = "exec"
    """Of the section Exec: once it has ended well, a resource is there."""
    SCHEDULED = "scheduled"
    """Of `cron` in an app.json: the server began it at its time."""


class RunStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """It exited with another status than 0, or could not be started."""
    STOPPED = "stopped"
    """It was ended because somebody asked, or because nobody wanted its outcome any more."""
    TIMED_OUT = "timed-out"
    LOST = "lost"
    """How it ended is not known; it is not run again."""

    @property
    def over(self) -> bool:
        return self not in (RunStatus.PENDING, RunStatus.RUNNING)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A one-off: a command that runs once, in the code and the environment of a version."""

    id: str
    """Also of the instance that it runs as."""
    deployment: str
    service: str
    version: int
    """0: the service had none yet; it runs in what its first one would have."""
    kind: RunKind
    number: int
    """Together with the kind it names the process (`run.3`), as log lines call it."""
    command: str
    """A shell command line."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables of this run alone, over those of the version."""
    process_type: str = ""
    """Whose limits apply; empty: those of no certain type."""
    resource: str = ""
    """Name of what is there once it has ended well; empty: nothing is."""
    job: str = ""
    """By what the job is known that it is a turn of (`Service.cron`); empty: it is none."""
    attached: bool = False
    """It lives as long as the connection of whoever asked for it."""
    ttl: float = 86400.0
    """Seconds from its start after which it is ended."""
    status: RunStatus = RunStatus.PENDING
    exit_code: int | None = None
    detail: str = ""
    """In words, how it ended; empty when there is nothing to say."""
    actor: str = ""
    stop_requested_by: str = ""
    """Who asked for its end."""
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def process(self) -> str:
        """As people call it: `run.3`."""
        return f"{self.kind}.{self.number}"


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened, kept in order of `revision`."""

    revision: int
    time: datetime
    kind: str
    """Dotted and stable: `deployment.created`, `version.live`, `instance.start`, …"""
    deployment: str = ""
    service: str = ""
    actor: str = ""
    text: str = ""
    """One line for people, with the reason."""
    data: Mapping[str, Any] = field(default_factory=dict)


class LogSource(StrEnum):
    APP = "app"
    """What instances print."""
    BUILD = "build"
    """What builds print."""
    ROUTER = "router"
    """Requests, and what the router answered them with."""
    SYSTEM = "system"
    """What the server did with the service, and what it noticed of its instances."""


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """One line of output. Printed as `2026-01-01T00:00:00Z app[web.1]: text`."""

    time: datetime
    source: LogSource
    instance: str
    """Id of an instance or a build; empty where it concerns none (no instance was there for a request)."""
    process: str
    """`web.1`; the build id; `web` of a request that no instance took; `deploy` and such of the server's own."""
    text: str
