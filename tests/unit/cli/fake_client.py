"""A server in memory behind the methods of `controller.client.Client`, for tests of commands."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from controller.deliveries import DeliveryStep, HostKey, Mark, SyncBuild, UploadState
from controller.difference import HIDDEN, differences, masked
from controller.dockerfile import changed_args
from controller.errors import Conflict, NotFound, Refused
from controller.limits import effective_limits
from controller.names import Address
from controller.operations.backupplans import filed_plans
from controller.operations.limits import changed_limits
from controller.plugins.claims import unclaimed
from controller.servicefile.document import ServiceFile
from controller.servicefile.plan import Found, Plan, make_plan
from controller.types import (
    Artifact,
    Build,
    BuilderChoice,
    BuildStatus,
    Code,
    Definition,
    Deployment,
    DockerfileBuild,
    Event,
    Instance,
    Limits,
    LogLine,
    LogSource,
    ResourceStatus,
    Right,
    Run,
    RunKind,
    RunStatus,
    Service,
    SshKey,
    Token,
    User,
    Version,
    VersionStatus,
)
from controller.views import (
    Area,
    BackupInfo,
    BackupPlanInfo,
    BuildpackVerdict,
    Change,
    Collected,
    CronInfo,
    Deploy,
    DeployState,
    Difference,
    DiskReport,
    DiskSpace,
    ExecInfo,
    FileChange,
    FileChangeKind,
    FileOutcome,
    PluginCommand,
    PluginInfo,
    PluginReport,
    ProcessLimits,
    ResourceInfo,
    RolloutStep,
    ServiceInfo,
    ServiceUsage,
    SharedChange,
    Status,
    Variable,
    VariableSource,
    VersionDiff,
    VolumeInfo,
    VolumeSchedule,
)
from tests import factories
from tests.factories import NOW

Key = tuple[str, str]


DB = ResourceInfo(
    deployment="foo",
    name="db",
    kind="postgres",
    status=ResourceStatus.READY,
    attached={"app": ""},
    plan={"version": "15", "port": "31000"},
    backup=BackupPlanInfo(
        schedule="0 3 * * *", keep=7, days=0, next_at=NOW, failure="its server does not run"
    ),
    values={"URL": "postgres://app:5ec2e7@127.0.0.1:31000/app"},
    created_at=NOW,
    created_by="ann",
)


class FakeClient:
    """One app `foo` with two live versions, a worker, a build; `bare` has no service yet."""

    def __init__(self) -> None:
        self.closed = False
        self.uploaded = dict[str, bytes]()
        self.server_version = "1.2.3"
        self.ssh_address = "127.0.0.1:2222"
        self.calls: list[tuple[object, ...]] = []
        self.broken_rollout = ""
        self.rolling = VersionStatus.PENDING
        """The status of the version whose rollout is steered; LIVE: it is restarted."""
        self.rollout: str | None = None
        self.shared_: dict[str, str] = {}
        self.runs_ = [
            factories.run(
                2,
                RunKind.RELEASE,
                version=2,
                status=RunStatus.FAILED,
                exit_code=3,
                detail="exited with status 3",
                started_at=NOW,
                finished_at=NOW + timedelta(seconds=4),
            ),
            factories.run(1, status=RunStatus.RUNNING, started_at=NOW, command="sleep 100"),
        ]
        self.staged_: tuple[str, ...] = ()
        self.deployments_: dict[str, Deployment] = {
            name: factories.deployment(name) for name in ("foo", "bare")
        }
        definition = Definition(env={"GREETING": "hello", "COLOR": "blue"})
        self.services_: dict[Key, Service] = {
            ("foo", "app"): factories.service(
                definition=definition, current=2, target=2, latest=2, scale={"web": 2, "worker": 1}
            )
        }
        self.versions_: dict[Key, list[Version]] = {
            ("foo", "app"): [
                factories.version(1, status=VersionStatus.SUPERSEDED, commit="1" * 40),
                factories.version(
                    2,
                    status=VersionStatus.LIVE,
                    commit="2" * 40,
                    definition=definition,
                    build="b2",
                    before=1,
                    summary="+COLOR +GREETING",
                ),
            ]
        }
        self.instances_: dict[Key, list[Instance]] = {
            ("foo", "app"): [
                factories.instance(2, 1),
                factories.instance(2, 2),
                factories.instance(2, 1, "worker", restarts=3, detail="exited with status 1"),
            ]
        }
        self.builds_ = [
            Build(
                id="b2",
                deployment="foo",
                service="app",
                status=BuildStatus.SUCCEEDED,
                commit="2" * 40,
                actor="ann",
                artifact=factories.slug(buildpack="Python"),
                started_at=NOW,
                finished_at=NOW,
            )
        ]
        self.deploys_ = [
            Deploy(
                deployment="foo",
                service="app",
                state=DeployState.BUILDING,
                build="b3",
                actor="bob",
                reason="push of 3333333 to main",
                doing="Python app detected",
            ),
            Deploy(
                deployment="foo",
                service="app",
                state=DeployState.QUEUED,
                build="b4",
                actor="ann",
                reason="push of 4444444 to main",
                doing="Waiting for bob's push of 3333333 to main, under way since 12:00:00 UTC",
            ),
        ]
        self.logs_ = [
            LogLine(
                time=NOW, source=LogSource.APP, instance="foo-app-2-web-1", process="web.1", text="GET / 200"
            )
        ]
        self.users_ = {
            "ann": User(name="ann", admin=True, created_at=NOW),
            "bob": User(name="bob", rights={"foo": Right.DEPLOY}, created_at=NOW),
        }
        self.keys_ = [
            SshKey(
                name="laptop",
                user="ann",
                fingerprint="SHA256:abc",
                public_key="ssh-ed25519 AAAA",
                created_at=NOW,
            )
        ]

    def _get(self, address: Address) -> Service:
        if address.deployment not in self.deployments_:
            raise NotFound(f"There is no app {address.deployment}.")
        try:
            return self.services_[address.deployment, address.service]
        except KeyError:
            raise NotFound(f"{address.deployment} has no service {address.service}.") from None

    def _info(self, service: Service) -> ServiceInfo:
        key = (service.deployment, service.name)
        host = f"{service.deployment}.localhost"
        domains = (host, *service.domains)
        has_version = bool(self.versions_.get(key))
        return ServiceInfo(
            service=service,
            domains=domains,
            urls=tuple(f"http://{each}:8080/" for each in domains),
            process_types=dict(service.scale) if has_version else {},
            due=sum(service.scale.values()) if has_version and not service.stopped else 0,
            held=None if has_version else "no code yet",
            staged=self.staged_ if has_version else (),
            rollout=self.rollout,
            running=0 if service.stopped else len(self.instances_.get(key, ())),
        )

    def _version(self, address: Address, **changes: Any) -> Version:
        service = self._get(address)
        number = service.latest + 1
        made = factories.version(number, service.deployment, service.name, **changes)
        key = (service.deployment, service.name)
        self.versions_.setdefault(key, []).append(made)
        self.services_[key] = replace(service, latest=number, target=number, definition=made.definition)
        return made

    async def status(self) -> Status:
        return Status(
            version=self.server_version,
            api="127.0.0.1:5555",
            ssh=self.ssh_address,
            http="127.0.0.1:8080",
            domain="localhost",
            host_key_fingerprint="SHA256:host",
            limits={"cpu": "cgroup v2", "memory": "cgroup v2", "pids": "cgroup v2", "nofile": "rlimit"},
        )

    async def rotate_secrets(self) -> None:
        self.calls.append(("rotate_secrets",))

    async def me(self) -> User:
        return self.users_["ann"]

    async def deployments(self) -> Sequence[Deployment]:
        return list(self.deployments_.values())

    async def create_deployment(self, name: str) -> Deployment:
        if name in self.deployments_:
            raise Conflict(f"There is an app {name} already.")
        self.deployments_[name] = factories.deployment(name)
        return self.deployments_[name]

    async def destroy_deployment(self, name: str) -> None:
        del self.deployments_[name]
        self.services_ = {key: each for key, each in self.services_.items() if key[0] != name}

    async def services(self, deployment: str | None = None) -> Sequence[ServiceInfo]:
        if deployment is not None and deployment not in self.deployments_:
            raise NotFound(f"There is no app {deployment}.")
        return [self._info(each) for each in self.services_.values() if deployment in (None, each.deployment)]

    async def service(self, address: Address) -> ServiceInfo:
        return self._info(self._get(address))

    async def ensure_service(self, address: Address) -> ServiceInfo:
        key = (address.deployment, address.service)
        self.services_.setdefault(key, factories.service(*key))
        return self._info(self.services_[key])

    async def set_service(
        self, address: Address, definition: Mapping[str, Any], *, force: bool = False
    ) -> Change:
        self.calls.append(("set_service", address, dict(definition), force))
        key = (address.deployment, address.service)
        self.services_.setdefault(key, factories.service(*key))
        wanted = replace(
            self.services_[key].definition,
            **{name: value for name, value in definition.items() if name in ("image", "env", "command")},
        )
        if wanted.image is None:
            return Change(version=None, held="no code yet", needs_code=True)
        if wanted == self.services_[key].definition and not force:
            return Change(version=None)
        version = self._version(address, definition=wanted)
        name = f"{key[0]}-{key[1]}-{version.number}-1"
        self.instances_[key] = [
            factories.instance(version.number, process_type="", id=name, deployment=key[0], service=key[1])
        ]
        return Change(version=version)

    async def plan_file(
        self, deployment: str, body: Mapping[str, Any], *, name: str, prune: bool = False, force: bool = False
    ) -> FileOutcome:
        """By the plan that a server makes."""
        return _outcome(self._plan_of(deployment, body, prune=prune, force=force), {}, applied=False)

    def _plan_of(self, deployment: str, body: Mapping[str, Any], *, prune: bool, force: bool) -> Plan:
        if deployment not in self.deployments_:
            raise NotFound(f"There is no app {deployment}.")
        services = {name: each for (of, name), each in self.services_.items() if of == deployment}
        kept = {name: self.versions_.get((deployment, name)) for name in services}
        versions = {name: each[-1] for name, each in kept.items() if each}
        code = {
            name: Code(artifact=each.artifact)
            for name, each in versions.items()
            if each.artifact and each.definition.image is None
        }
        found = Found(deployment=self.deployments_[deployment], services=services, wanted=versions, code=code)
        file = ServiceFile(services=body["services"], globals=body["globals"], infra=body.get("infra"))
        return make_plan(file, found, prune=prune, force=force)

    async def deploy_file(
        self, deployment: str, body: Mapping[str, Any], *, name: str, prune: bool = False, force: bool = False
    ) -> FileOutcome:
        plan = self._plan_of(deployment, body, prune=prune, force=force)
        self.calls.append(("deploy_file", deployment, name, prune, force))
        self.deployments_[deployment] = plan.deployment
        numbers = dict[str, int]()
        for step in plan.changes:
            key = (deployment, step.address.service)
            service = self.services_.setdefault(key, factories.service(*key))
            said = {"filed": step.filed, "domains": step.domains, "guards": step.guards, "scale": step.scale}
            backups = filed_plans(step.backups or {}, service.backups, NOW)
            self.services_[key] = replace(service, definition=step.definition, backups=backups, **said)
            if step.makes_version and step.content is not None:
                made = self._version(
                    step.address,
                    definition=step.definition,
                    artifact=step.content.artifact,
                    globals=step.content.globals,
                    provided=step.content.provided,
                )
                id_ = f"{deployment}-{key[1]}-{made.number}-1"
                self.instances_[key] = [
                    factories.instance(made.number, id=id_, deployment=deployment, service=key[1])
                ]
                numbers[key[1]] = made.number
        return _outcome(plan, numbers, applied=True)

    async def promote(
        self, source: str, target: str, services: Sequence[str] = (), *, plan: bool = False
    ) -> FileOutcome:
        """What `foo` serves, into any other; `bare` serves nothing."""
        if source != "foo":
            raise Refused(f"{source} serves nothing yet: there is nothing to take over.")
        self.calls.append(("promote", source, target, tuple(services), plan))
        address = Address(target)
        await self.ensure_service(address)
        commit = self.versions_["foo", "app"][-1].commit
        made = None if plan else self._version(address, commit=commit)
        code = Difference(area=Area.CODE, name="code", before=None, after=str(commit)[:12])
        change = FileChange(
            deployment=target,
            service="app",
            kind=FileChangeKind.CHANGE,
            makes_version=True,
            version=made and made.number,
            differences=(code, Difference(area=Area.ENV, name="KEY", after=HIDDEN)),
        )
        notes = () if services else (f"{target} has no service db: deploy its service file there first.",)
        return FileOutcome(
            deployment=target, applied=not plan, globals=(), changes=(change,), unchanged=0, notes=notes
        )

    async def destroy_service(self, address: Address) -> None:
        self._get(address)
        del self.services_[address.deployment, address.service]

    async def config(self, address: Address) -> Mapping[str, str]:
        return self._get(address).definition.env

    async def environment(self, address: Address) -> Sequence[Variable]:
        own = self._get(address).definition.env
        layers = {VariableSource.DEPLOYMENT: self.shared_, VariableSource.SERVICE: own}
        found = {
            name: Variable(name=name, value=value, source=source)
            for source, layer in layers.items()
            for name, value in layer.items()
        }
        return [found[name] for name in sorted(found)]

    async def shared_config(self, deployment: str) -> Mapping[str, str]:
        return self.shared_

    async def resources(self, deployment: str) -> Sequence[ResourceInfo]:
        if deployment != "foo":
            return []
        cache = replace(DB, name="cache", kind="redis", status=ResourceStatus.FAILED, failure="it crashed")
        return [replace(cache, attached={}, values={}), DB]

    async def resource(self, deployment: str, name: str) -> ResourceInfo:
        return DB

    async def create_resource(
        self, deployment: str, kind: str, name: str, *, url: str | None = None
    ) -> ResourceInfo:
        return DB

    async def destroy_resource(self, deployment: str, name: str) -> None:
        pass

    async def attach_resource(self, address: Address, name: str, *, prefix: str = "") -> Change:
        return await self.change_config(address, put={f"{prefix}_URL": DB.values["URL"]})

    async def detach_resource(self, address: Address, name: str) -> Change:
        return await self.change_config(address, put={}, drop=["COLOR"])

    async def backups(self, deployment: str, name: str) -> Sequence[BackupInfo]:
        first = BackupInfo(id="20260101T000000", created_at=NOW, size=5_000_000, sha256="0" * 64, actor="ann")
        return [first, replace(first, id="20260102T000000", actor="", scheduled=True)]

    async def schedule_backups(
        self, deployment: str, name: str, schedule: str, *, keep: int = 7, days: int = 0
    ) -> ResourceInfo:
        return replace(DB, backup=BackupPlanInfo(schedule=schedule, keep=keep, days=days, next_at=NOW))

    async def unschedule_backups(self, deployment: str, name: str) -> ResourceInfo:
        return replace(DB, backup=None)

    async def back_up(self, deployment: str, name: str) -> AsyncIterator[DeliveryStep]:
        yield DeliveryStep(mark=Mark.STEP, text=f"Backing up {name}")
        yield DeliveryStep(mark=Mark.DONE, text="20260102T000000")

    async def restore(
        self, deployment: str, name: str, backup: str | None = None
    ) -> AsyncIterator[DeliveryStep]:
        yield DeliveryStep(mark=Mark.STEP, text=f"Restoring {name}")
        yield DeliveryStep(mark=Mark.DONE, text="20260102T000000")

    async def volume_backups(self, address: Address, name: str) -> Sequence[BackupInfo]:
        return (await self.backups(address.deployment, name))[:1]

    async def volume_schedule(self, address: Address, name: str) -> VolumeSchedule:
        return VolumeSchedule(service=address.service, name=name, backup=DB.backup)

    async def schedule_volume_backups(
        self, address: Address, name: str, schedule: str, *, keep: int = 7, days: int = 0
    ) -> VolumeSchedule:
        plan = BackupPlanInfo(schedule=schedule, keep=keep, days=days, next_at=NOW)
        return VolumeSchedule(service=address.service, name=name, backup=plan)

    async def unschedule_volume_backups(self, address: Address, name: str) -> VolumeSchedule:
        return VolumeSchedule(service=address.service, name=name, backup=None)

    async def back_up_volume(self, address: Address, name: str) -> AsyncIterator[DeliveryStep]:
        yield DeliveryStep(mark=Mark.STEP, text=f"Backing up the volume {name} of {address}")
        yield DeliveryStep(mark=Mark.DONE, text="20260102T000000")

    async def restore_volume(
        self, address: Address, name: str, backup: str | None = None
    ) -> AsyncIterator[DeliveryStep]:
        yield DeliveryStep(mark=Mark.STEP, text=f"Restoring the volume {name} of {address}")
        yield DeliveryStep(mark=Mark.DONE, text=backup or "20260102T000000")

    async def volumes(self, deployment: str) -> Sequence[VolumeInfo]:
        data = VolumeInfo(service="app", name="data", path="/srv/data", size=5 * 1024**2)
        saved = replace(data, name="saved", path="/srv/saved", backup=DB.backup)
        return [data, replace(data, name="old", path="", size=0), saved] if deployment == "foo" else []

    async def destroy_volume(self, address: Address, name: str) -> int:
        return 5 * 1024**2

    async def plugins(self) -> PluginReport:
        notify = PluginInfo(
            name="notify",
            source="/data/plugins/notify.py",
            standing="on",
            hooks=("post_setup", "register_commands"),
            keys=("Notify",),
            calls=3,
            errors=1,
            seconds=0.25,
            last_error="post_setup: OSError: no route",
        )
        own = PluginInfo(
            name="require", source="Mooring", standing="built in", hooks=("setup",), keys=("require",)
        )
        off = PluginInfo(
            name="other", source="other 1.0", standing="off", why="the setting plugins leaves it out"
        )
        unclaimed = {"foo": ("Backups", "web.sidecar")}
        return PluginReport(
            plugins=(own, notify, off), trace=False, timeout=5.0, panels=(), unclaimed=unclaimed
        )

    async def resume_plugin(self, name: str) -> PluginInfo:
        return (await self.plugins()).plugins[1]

    async def trace_plugins(self, *, on: bool) -> bool:
        return on

    async def plugin_verbs(self) -> Sequence[PluginCommand]:
        return [PluginCommand(verb="notify:test", plugin="notify", summary="Send a test.")]

    async def call_verb(
        self, verb: str, words: Sequence[str], *, deployment: str | None = None
    ) -> Sequence[str]:
        return [f"{verb} {' '.join(words)} ({deployment})"]

    async def execs(self, deployment: str) -> Sequence[ExecInfo]:
        if deployment != "foo":
            return []
        failure = "exec.1 of foo: exited with status 3 (run:logs -a foo exec.1)"
        init = ExecInfo(
            deployment="foo",
            name="Init",
            service="app",
            command="./init",
            require=("db",),
            status=ResourceStatus.FAILED,
            run="exec.1",
            failure=failure,
        )
        seed = replace(init, name="Seed", require=("Init",), status=ResourceStatus.PENDING, run=None)
        return [init, replace(seed, failure="", waits="waits for Init")]

    async def retry_exec(self, deployment: str, name: str) -> ExecInfo:
        return (await self.execs(deployment))[1]

    async def generated(self, deployment: str) -> Mapping[str, str]:
        return {"Secret": "5ec2e7", "Other": "0123"}

    async def renew_generated(self, deployment: str, name: str) -> SharedChange:
        return SharedChange(versions=(self._version(Address(deployment)),))

    async def change_shared_config(
        self, deployment: str, *, put: Mapping[str, str], drop: Sequence[str] = ()
    ) -> SharedChange:
        self.shared_ = {name: value for name, value in self.shared_.items() if name not in drop} | dict(put)
        version = self._version(Address(deployment), definition=self._get(Address(deployment)).definition)
        return SharedChange(versions=(version,))

    async def vars(self, deployment: str) -> Mapping[str, str]:
        if deployment not in self.deployments_:
            raise NotFound(f"There is no app {deployment}.")
        return self.deployments_[deployment].vars

    async def change_vars(
        self, deployment: str, *, put: Mapping[str, str], drop: Sequence[str] = ()
    ) -> Mapping[str, str]:
        before = await self.vars(deployment)
        found = {name: value for name, value in before.items() if name not in drop} | dict(put)
        self.deployments_[deployment] = replace(self.deployments_[deployment], vars=found)
        return found

    async def change_config(
        self,
        address: Address,
        *,
        put: Mapping[str, str],
        drop: Sequence[str] = (),
        replace_all: bool = False,
        stage: bool = False,
    ) -> Change:
        service = self._get(address)
        kept = {} if replace_all else service.definition.env
        env = {name: value for name, value in kept.items() if name not in drop} | dict(put)
        if env == service.definition.env:
            return Change(version=None)
        definition = replace(service.definition, env=env)
        if stage:
            self.services_[address.deployment, address.service] = replace(service, definition=definition)
            return Change(version=None, staged=tuple(sorted({*put, *drop})))
        if not service.latest:
            self.services_[address.deployment, address.service] = replace(service, definition=definition)
            return Change(version=None, held="no code yet")
        return Change(version=self._version(address, definition=definition))

    async def apply_config(self, address: Address) -> Change:
        self.staged_ = ()
        return Change(version=self._version(address, definition=self._get(address).definition))

    async def limits(self, address: Address) -> Sequence[ProcessLimits]:
        definition = self._get(address).definition
        found = [
            (kind, effective_limits(definition, kind, Limits(memory=512 * 1024**2, pids=512, nofile=65536)))
            for kind in ("web", "worker")
        ]
        return [
            ProcessLimits(process_type=kind, limits=limits, sources=sources)
            for kind, (limits, sources) in found
        ]

    async def change_limits(
        self,
        address: Address,
        process_type: str = "",
        *,
        put: Mapping[str, float | str],
        drop: Sequence[str] = (),
    ) -> Change:
        before = self._get(address).definition
        limits = changed_limits(before.limits, process_type, values=put, drop=drop)
        return Change(version=self._version(address, definition=replace(before, limits=limits)))

    async def change_buildpacks(
        self,
        address: Address,
        *,
        only: Sequence[str] | None = None,
        add: Sequence[str] = (),
        at: int | None = None,
        remove: Sequence[str] = (),
    ) -> Service:
        key = (address.deployment, address.service)
        service = self._get(address)
        kept = [each for each in (service.buildpacks if only is None else only) if each not in remove]
        place = len(kept) if at is None else at - 1
        names = (*kept[:place], *add, *kept[place:])
        self.services_[key] = replace(service, buildpacks=names)
        return self.services_[key]

    async def set_build_dir(self, address: Address, folder: str) -> Service:
        key = (address.deployment, address.service)
        self.services_[key] = replace(self._get(address), build_dir=folder)
        return self.services_[key]

    async def set_builder(
        self,
        address: Address,
        *,
        choice: BuilderChoice | None = None,
        dockerfile: str | None = None,
        target: str | None = None,
        args: Mapping[str, str | None] | None = None,
        secrets: Sequence[str] | None = None,
    ) -> Service:
        service = self._get(address)
        before = service.dockerfile
        after = DockerfileBuild(
            path=before.path if dockerfile is None else dockerfile,
            target=before.target if target is None else target,
            args=changed_args(before.args, args or {}),
            secrets=before.secrets if secrets is None else tuple(secrets),
        )
        key = (address.deployment, address.service)
        self.services_[key] = replace(service, builder=choice or service.builder, dockerfile=after)
        return self.services_[key]

    async def deploy_image(self, address: Address, image: str) -> AsyncIterator[DeliveryStep]:
        yield DeliveryStep(mark=Mark.STEP, text=f"Pulling {image}")
        yield DeliveryStep(mark=Mark.DONE, text="", deployed=True)

    async def deploy_saved_image(
        self, address: Address, image: str, content: AsyncIterator[bytes]
    ) -> AsyncIterator[DeliveryStep]:
        size = sum([len(piece) async for piece in content])
        yield DeliveryStep(mark=Mark.STEP, text=f"Loading {image} from {size} bytes")
        yield DeliveryStep(mark=Mark.DONE, text="", deployed=True)

    async def detect_buildpacks(
        self, address: Address, *, branch: str | None = None
    ) -> Sequence[BuildpackVerdict]:
        self._get(address)
        return [
            BuildpackVerdict(
                buildpack="go", by="", matched=False, words="there is no go.mod at the top", builds=False
            ),
            BuildpackVerdict(buildpack="python", by="", matched=True, words="Python", builds=True),
            BuildpackVerdict(buildpack="procfile", by="", matched=True, words="Procfile", builds=False),
        ]

    async def deploy_archive(
        self, address: Address, content: AsyncIterator[bytes], *, name: str = "", origin: str = ""
    ) -> AsyncIterator[DeliveryStep]:
        size = sum([len(piece) async for piece in content])
        yield DeliveryStep(mark=Mark.STEP, text=f"Unpacking {size} bytes of {name or 'an archive'}")
        yield DeliveryStep(mark=Mark.WARNING, text="a warning")
        yield DeliveryStep(mark=Mark.DONE, text="", commit="c" * 40, deployed=True)

    async def begin_upload(self, address: Address) -> UploadState:
        await self.ensure_service(address)
        self.uploaded[f"u{len(self.uploaded) + 1}"] = b""
        return UploadState(id=f"u{len(self.uploaded)}", offset=0)

    async def append_upload(
        self, address: Address, upload: str, offset: int, content: AsyncIterator[bytes]
    ) -> UploadState:
        assert offset == len(self.uploaded[upload])
        async for piece in content:
            self.uploaded[upload] += piece
        return UploadState(id=upload, offset=len(self.uploaded[upload]))

    async def deploy_upload(
        self, address: Address, upload: str, *, name: str = "", origin: str = ""
    ) -> AsyncIterator[DeliveryStep]:
        async def content() -> AsyncIterator[bytes]:
            yield self.uploaded[upload]

        async for step in self.deploy_archive(address, content(), name=name, origin=origin):
            yield step

    async def deploy_archive_of(self, address: Address, url: str) -> AsyncIterator[DeliveryStep]:
        yield DeliveryStep(mark=Mark.STEP, text=f"Fetching {url}")
        yield DeliveryStep(mark=Mark.SECTION, text="Application deployed:")
        yield DeliveryStep(mark=Mark.LINE, text="http://foo.localhost:8080")
        yield DeliveryStep(mark=Mark.DONE, text="", commit="c" * 40, deployed=True)

    async def sync(
        self, address: Address, url: str, *, ref: str = "", build: SyncBuild = SyncBuild.NO
    ) -> AsyncIterator[DeliveryStep]:
        yield DeliveryStep(mark=Mark.STEP, text=f"Fetching {ref or 'HEAD'} of {url}; build: {build}")
        yield DeliveryStep(mark=Mark.DONE, text="", commit="c" * 40, deployed=build is not SyncBuild.NO)

    async def git_public_key(self) -> str:
        return "ssh-ed25519 AAAA mooring@localhost"

    async def allow_git_host(self, host: str) -> Sequence[HostKey]:
        return [HostKey(host=host, algorithm="ssh-ed25519", fingerprint="SHA256:abc")]

    async def set_branches(self, address: Address, branches: Sequence[str]) -> Service:
        key = (address.deployment, address.service)
        self.services_[key] = replace(self._get(address), branches=tuple(branches))
        return self.services_[key]

    async def scale(self, address: Address, changes: Mapping[str, str]) -> ServiceInfo:
        self.calls.append(("scale", address, dict(changes)))
        service = self._get(address)
        scale = dict(service.scale)
        for name, value in changes.items():
            scale[name] = scale.get(name, 0) + int(value) if value[0] in "+-" else int(value)
        key = (address.deployment, address.service)
        self.services_[key] = replace(service, scale=scale)
        return self._info(self.services_[key])

    async def restart(self, address: Address, process: str | None = None) -> Version:
        self.calls.append(("restart", address, process))
        self._get(address)
        return self.versions_[address.deployment, address.service][-1]

    async def stop(self, address: Address, process: str | None = None) -> ServiceInfo:
        self.calls.append(("stop", address, process))
        key = (address.deployment, address.service)
        changes = {"stopped": True} if process is None else {"stopped_types": (process,)}
        self.services_[key] = replace(self._get(address), **changes)
        return self._info(self.services_[key])

    async def start(self, address: Address, process: str | None = None) -> ServiceInfo:
        self.calls.append(("start", address, process))
        key = (address.deployment, address.service)
        self.services_[key] = replace(self._get(address), stopped=False, stopped_types=())
        return self._info(self.services_[key])

    async def set_maintenance(self, address: Address, on: bool, *, page: str = "") -> ServiceInfo:
        self.calls.append(("maintenance", address, on, page))
        key = (address.deployment, address.service)
        self.services_[key] = replace(self._get(address), maintenance=on, maintenance_page=page)
        return self._info(self.services_[key])

    async def instances(self, address: Address) -> Sequence[Instance]:
        self._get(address)
        return self.instances_.get((address.deployment, address.service), [])

    async def versions(self, address: Address, *, limit: int | None = None) -> Sequence[Version]:
        self._get(address)
        return self.versions_.get((address.deployment, address.service), [])[::-1][:limit]

    async def version(self, address: Address, number: int) -> Version:
        for each in await self.versions(address):
            if each.number == number:
                return each
        raise NotFound(f"{address} has no version v{number}.")

    async def version_diff(
        self, address: Address, number: int, *, other: int | None = None, reveal: bool = False
    ) -> VersionDiff:
        version = await self.version(address, number)
        base = await self.version(address, other) if other else None
        if base is None and number > 1:
            base = await self.version(address, number - 1)
        found = differences(base, version)
        return VersionDiff(
            deployment=address.deployment,
            service=address.service,
            number=number,
            compared_with=base.number if base else None,
            differences=found if reveal else tuple(map(masked, found)),
        )

    async def rollback(self, address: Address, number: int | None = None) -> Version:
        older = await self.version(address, number or 1)
        return self._version(address, definition=older.definition, reason=f"rollback to v{older.number}")

    async def follow(self, address: Address, number: int | None = None) -> AsyncIterator[RolloutStep]:
        yield RolloutStep(text="new instances start")
        yield RolloutStep(text="new instances are healthy")
        key = (address.deployment, address.service)
        if number is None:
            yield RolloutStep(text="settled", done=True, failure=self.broken_rollout)
            return
        version = await self.version(address, number)
        if self.broken_rollout:
            ended = replace(
                version,
                status=VersionStatus.FAILED,
                failure=self.broken_rollout,
                failure_log=("Traceback", "Oops"),
            )
        else:
            ended = replace(version, status=VersionStatus.LIVE)
            self.services_[key] = replace(self.services_[key], current=number)
        self.versions_[key] = [ended if each.number == number else each for each in self.versions_[key]]
        yield RolloutStep(text=f"v{number} is done", done=True, version=ended, failure=self.broken_rollout)

    async def promote_rollout(self, address: Address) -> Version:
        return await self._steered("promote", address)

    async def abort_rollout(self, address: Address, *, reason: str = "") -> Version:
        return await self._steered("abort", address, reason)

    async def pause_rollout(self, address: Address) -> Version:
        return await self._steered("pause", address)

    async def resume_rollout(self, address: Address) -> Version:
        return await self._steered("resume", address)

    async def _steered(self, *call: object) -> Version:
        self.calls.append(call)
        return factories.version(2, status=self.rolling)

    async def deploys(self, address: Address | None = None) -> Sequence[Deploy]:
        return self.deploys_

    async def cancel_deploy(self, address: Address) -> Deploy:
        return self.deploys_[0]

    async def disk(self) -> DiskReport:
        gib = 1024**3
        return DiskReport(
            space=DiskSpace(total=100 * gib, free=40 * gib, warning=2 * gib, reserve=gib // 2),
            usage={"slugs": 3_000_000, "caches": 50_000_000, "other": 20_000},
            services=(await self.disk_usage(Address("foo")),),
        )

    async def disk_usage(self, address: Address) -> ServiceUsage:
        return ServiceUsage(
            deployment=address.deployment,
            service=address.service,
            usage={"slugs": 3_000_000, "caches": 50_000_000},
        )

    async def collect_disk(self) -> Collected:
        return Collected(versions=2, slugs=1, size=3_000_000)

    async def purge_cache(self, address: Address) -> int:
        return 50_000_000

    async def domains(self, address: Address) -> Sequence[str]:
        return self._info(self._get(address)).domains

    async def add_domains(self, address: Address, domains: Sequence[str]) -> Sequence[str]:
        key = (address.deployment, address.service)
        service = self._get(address)
        self.services_[key] = replace(service, domains=(*service.domains, *domains))
        return self._info(self.services_[key]).domains

    async def remove_domains(self, address: Address, domains: Sequence[str]) -> Sequence[str]:
        key = (address.deployment, address.service)
        service = self._get(address)
        self.services_[key] = replace(service, domains=tuple(x for x in service.domains if x not in domains))
        return self._info(self.services_[key]).domains

    async def logs(
        self,
        address: Address,
        *,
        sources: Sequence[LogSource] = (),
        process: str | None = None,
        instance: str | None = None,
        since: str | None = None,
        until: str | None = None,
        text: str = "",
        lines: int | None = None,
        follow: bool = False,
    ) -> AsyncIterator[LogLine]:
        asked = {
            "sources": sources,
            "process": process,
            "instance": instance,
            "since": since,
            "until": until,
            "text": text,
            "lines": lines,
            "follow": follow,
        }
        given = {name: value for name, value in asked.items() if value not in (None, "", (), False)}
        self.calls.append(("logs", address, given))
        self._get(address)
        for each in self.logs_:
            yield each

    async def builds(self, address: Address, *, limit: int | None = None) -> Sequence[Build]:
        self._get(address)
        return [
            x for x in self.builds_ if (x.deployment, x.service) == (address.deployment, address.service)
        ][::-1][:limit]

    async def build(self, build: str) -> Build:
        for each in self.builds_:
            if each.id == build:
                return each
        raise NotFound(f"There is no build {build}.")

    async def build_log(self, build: str) -> str:
        await self.build(build)
        return "-----> Python app detected\n       Installing\n"

    async def cancel_build(self, build: str) -> Build:
        return replace(await self.build(build), cancel_requested_by="ann")

    async def run_detached(
        self,
        address: Address,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        ttl: float | None = None,
        process_type: str = "",
    ) -> Run:
        self._get(address)
        self.calls.append(("run", tuple(command), dict(env or {}), ttl, process_type))
        return factories.run(3, command=" ".join(command))

    async def runs(self, address: Address) -> Sequence[Run]:
        self._get(address)
        return self.runs_[::-1]

    async def cron(self, address: Address) -> Sequence[CronInfo]:
        clean = CronInfo(schedule="0 3 * * *", command="./clean --all", next_at=NOW)
        failed = replace(
            clean,
            schedule="*/5 * * * *",
            command="./poll",
            last_at=NOW,
            run="scheduled.3",
            status=RunStatus.FAILED,
            detail="exited with status 3",
        )
        return [clean, failed]

    async def run(self, address: Address, run: str) -> Run:
        found = [each for each in await self.runs(address) if run in (each.id, each.process)]
        if not found:
            raise NotFound(f"{address} has no one-off {run}.")
        return found[0]

    async def stop_run(self, address: Address, run: str) -> Run:
        return replace(await self.run(address, run), stop_requested_by="ann")

    async def run_logs(
        self, address: Address, run: str, *, lines: int | None = None, follow: bool = False
    ) -> AsyncIterator[LogLine]:
        found = await self.run(address, run)
        yield LogLine(
            time=NOW, source=LogSource.APP, instance=found.id, process=found.process, text="2 rows changed"
        )

    async def users(self) -> Sequence[User]:
        return list(self.users_.values())

    async def create_user(self, name: str, *, admin: bool = False) -> User:
        self.users_[name] = User(name=name, admin=admin, created_at=NOW)
        return self.users_[name]

    async def remove_user(self, name: str) -> None:
        if self.users_.pop(name, None) is None:
            raise NotFound(f"There is no user {name}.")

    async def grant(self, user: str, deployment: str, right: Right | None) -> User:
        before = self.users_[user]
        rights = {name: each for name, each in before.rights.items() if name != deployment}
        if right is not None:
            rights[deployment] = right
        self.users_[user] = replace(before, rights=rights)
        return self.users_[user]

    async def keys(self) -> Sequence[SshKey]:
        return self.keys_

    async def add_key(self, name: str, public_key: str, *, user: str | None = None) -> SshKey:
        self.keys_.append(
            SshKey(
                name=name, user=user or "ann", fingerprint="SHA256:new", public_key=public_key, created_at=NOW
            )
        )
        return self.keys_[-1]

    async def remove_key(self, name: str) -> None:
        if name not in [each.name for each in self.keys_]:
            raise NotFound(f"There is no key {name}.")
        self.keys_ = [each for each in self.keys_ if each.name != name]

    async def create_token(
        self,
        *,
        user: str | None = None,
        description: str = "",
        expires_in: timedelta | None = None,
        right: Right | None = None,
        deployments: Sequence[str] = (),
    ) -> str:
        self.calls.append(("create_token", user, expires_in, right, deployments))
        return "moor_secret"

    async def tokens(self) -> Sequence[Token]:
        plain = Token(id="t1", user="ann", sha256="0" * 64, description="build server", created_at=NOW)
        narrow = replace(plain, id="t2", right=Right.DEPLOY, deployments=("foo",), expires_at=NOW)
        return [plain, narrow]

    async def remove_token(self, token_id: str) -> None:
        if token_id != "t1":
            raise NotFound(f"There is no token {token_id}.")

    async def follow_events(
        self,
        *,
        deployment: str | None = None,
        service: str | None = None,
        kinds: Sequence[str] = (),
        after: int | None = None,
        past: int = 0,
    ) -> AsyncIterator[Event]:
        self.calls.append(("follow_events", deployment, service, kinds, after, past))
        for each in await self.events():
            yield each

    async def events(
        self,
        *,
        deployment: str | None = None,
        service: str | None = None,
        kinds: Sequence[str] = (),
        after: int | None = None,
        limit: int = 100,
    ) -> Sequence[Event]:
        self.calls.append(("events", deployment, service, kinds, after, limit))
        return [
            Event(
                revision=7,
                time=NOW,
                kind="version.live",
                deployment="foo",
                service="app",
                actor="ann",
                text="v2 is live",
            )
        ]

    async def close(self) -> None:
        self.closed = True

    def add_build(self, **changes: Any) -> None:
        artifact: Artifact | None = None
        made = Build(id="b3", deployment="foo", service="app", status=BuildStatus.RUNNING, artifact=artifact)
        self.builds_.append(replace(made, **changes))


def _outcome(plan: Plan, numbers: Mapping[str, int], *, applied: bool) -> FileOutcome:
    changed = [each.told(numbers.get(each.address.service)) for each in plan.changes]
    return FileOutcome(
        deployment=plan.deployment.name,
        applied=applied,
        globals=(*plan.globals, *plan.backups),
        changes=tuple(changed),
        unchanged=len(plan.steps) - len(changed),
        unclaimed=unclaimed(plan.deployment, plan.definitions, ()),
        notes=plan.notes,
    )
