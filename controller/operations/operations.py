"""All operations of one server, put together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from controller.config import Settings
from controller.operations.advice import Advisor
from controller.operations.attaching import AttachOperations
from controller.operations.builds import BuildOperations
from controller.operations.credentials import CredentialOperations, Sessions
from controller.operations.cron import CronOperations
from controller.operations.deployments import DeploymentOperations
from controller.operations.deploys import DeployOperations
from controller.operations.disk import DiskOperations
from controller.operations.domains import DomainOperations
from controller.operations.execs import ExecOperations
from controller.operations.holding import Releaser
from controller.operations.instances import InstanceOperations
from controller.operations.journal import JournalOperations
from controller.operations.keys import KeyOperations
from controller.operations.logs import LogOperations
from controller.operations.newservices import NewServices
from controller.operations.plugins import PluginOperations
from controller.operations.processes import ProcessOperations
from controller.operations.promotion import PromotionOperations
from controller.operations.provision import Provision
from controller.operations.receipts import Receipts
from controller.operations.removal import Removal
from controller.operations.resources import MakeSlug, ResourceOperations
from controller.operations.rollouts import RolloutOperations
from controller.operations.runs import RunOperations
from controller.operations.runtime import Runtime
from controller.operations.secrets import SecretOperations
from controller.operations.server import Doorplate, ServerOperations
from controller.operations.servicefiles import ServiceFileOperations
from controller.operations.services import ServiceOperations
from controller.operations.shared import SharedConfigOperations
from controller.operations.sources import Inspect, SourceOperations
from controller.operations.users import UserOperations
from controller.operations.vars import VarOperations
from controller.operations.versions import VersionOperations
from controller.operations.volumebackups import VolumeBackups
from controller.operations.volumes import VolumeOperations
from controller.plugins.manager import Plugins
from controller.reconcile.act_runs import Prepare, as_planned
from controller.resources.backups import BackupStores, folders
from controller.resources.base import ResourceDriver
from controller.state import State
from controller.upkeep.backups import ScheduledBackups
from controller.upkeep.collector import Collector, Policy
from controller.upkeep.overdue import Limits
from controller.upkeep.reaper import Reaper
from controller.upkeep.storage import Storage
from controller.upkeep.upkeep import Upkeep
from controller.upkeep.watermark import DiskWatch
from controller.vault import Vault


@dataclass(frozen=True, kw_only=True)
class Operations:
    """Every change of desired state, and every look at it, by what it is about.

    Each call takes the `Actor` who asks first, and checks their rights itself.
    """

    server: ServerOperations
    disk: DiskOperations
    resources: ResourceOperations
    provision: Provision
    volumes: VolumeOperations
    volume_backups: VolumeBackups
    deployments: DeploymentOperations
    services: ServiceOperations
    servicefiles: ServiceFileOperations
    sources: SourceOperations
    shared: SharedConfigOperations
    vars: VarOperations
    promotion: PromotionOperations
    processes: ProcessOperations
    instances: InstanceOperations
    logs: LogOperations
    domains: DomainOperations
    versions: VersionOperations
    rollouts: RolloutOperations
    builds: BuildOperations
    deploys: DeployOperations
    runs: RunOperations
    cron: CronOperations
    execs: ExecOperations
    plugins: PluginOperations
    attaching: AttachOperations
    users: UserOperations
    keys: KeyOperations
    credentials: CredentialOperations
    journal: JournalOperations
    secrets: SecretOperations
    receipts: Receipts
    removal: Removal
    releaser: Releaser
    upkeep: Upkeep

    async def tidy(self) -> None:
        """Put in order what grows old: to be called about once a minute."""
        await self.credentials.tidy()
        await self.receipts.tidy()
        await self.logs.tidy()

    async def close(self) -> None:
        """Leave what is still being removed to the next start."""
        await self.removal.close()


def make_operations(
    state: State,
    settings: Settings,
    runtime: Runtime,
    *,
    storage: Storage,
    doorplate: Callable[[], Doorplate],
    sessions: Sessions,
    privileged: bool,
    vault: Vault | None = None,
    inspect: Inspect | None = None,
    drivers: Mapping[str, ResourceDriver] | None = None,
    make_slug: MakeSlug,
    backups: BackupStores | None = None,
    plugins: Plugins | None = None,
    prepare: Prepare = as_planned,
    router_problem: Callable[[], str | None] = lambda: None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Operations:
    """`storage`: the server's files; `doorplate` is asked when somebody wants to know.

    `drivers`: of resources, by kind; `make_slug`: what their servers run in, see ResourceOperations;
    `backups`: where those of their data are kept, None: in the data folder.
    `prepare`: has the last word on what somebody is attached to; `router_problem`: what the router lacks, in words.
    `inspect` asks the buildpacks about what was pushed. `privileged`: the server is root, so each service gets
    a user id of its own.
    """
    plugins = plugins or Plugins()
    backups = backups or folders(settings.folders.backups)
    builds = BuildOperations(state, folder=settings.folders.builds, keep=settings.keep_builds, clock=clock)

    async def clean(deployment: str, service: str) -> None:
        await storage.remove_service(deployment, service)
        await builds.sweep_logs()
        await collector.collect_slugs()

    removal = Removal(state, runtime, clean)
    collector = Collector(state, runtime, storage, builds, _policy(settings), clock=clock)
    credentials = CredentialOperations(state, sessions, clock=clock)
    rollouts = RolloutOperations(state, runtime, renew=credentials.renew, clock=clock)
    runs = RunOperations(state, runtime, renew=credentials.renew, default_ttl=settings.run_ttl, clock=clock)
    advisor = Advisor(state, plugins)
    execs = ExecOperations(state, runtime, ttl=settings.run_ttl, clock=clock)
    births = NewServices(
        state,
        removal,
        root_domain=settings.domain,
        first_uid=settings.first_uid if privileged else None,
        clock=clock,
    )
    services = ServiceOperations(
        state,
        runtime,
        removal,
        advisor,
        root_domain=settings.domain,
        http_port=lambda: doorplate().http.port,
        first_uid=settings.first_uid if privileged else None,
        limits=settings.limits,
        clock=clock,
    )
    resources = ResourceOperations(
        state,
        runtime,
        services,
        births,
        storage,
        drivers=drivers or {},
        make_slug=make_slug,
        image=settings.resource_image,
        backups=backups,
        clock=clock,
    )
    volume_backups = VolumeBackups(state, runtime, storage, backups=backups, clock=clock)
    cron = CronOperations(state, runtime, ttl=settings.run_ttl, clock=clock)
    upkeep = Upkeep(
        storage,
        collector,
        DiskWatch(state, storage, collector, warning=settings.disk_warning, reserve=settings.disk_reserve),
        Reaper(state, runtime, builds, rollouts, _limits(settings), clock=clock),
        ScheduledBackups(state, resources.back_up_by_plan, volume_backups.back_up_by_plan, clock=clock),
        cron.look,
    )

    def problems() -> Sequence[str]:
        router = router_problem()
        told = () if router is None else (router,)
        return (*runtime.problems(), *told, *upkeep.problems(), *removal.problems(), *plugins.problems())

    return Operations(
        server=ServerOperations(runtime, problems, doorplate, upkeep.disk.space, domain=settings.domain),
        disk=DiskOperations(state, upkeep),
        volumes=VolumeOperations(state, runtime, storage),
        volume_backups=volume_backups,
        upkeep=upkeep,
        deployments=DeploymentOperations(state, removal, clock=clock),
        services=services,
        resources=resources,
        provision=Provision(state, runtime, resources),
        servicefiles=ServiceFileOperations(
            state,
            runtime,
            removal,
            births,
            advisor,
            check_kind=resources.check_kind,
            root_domain=settings.domain,
            clock=clock,
        ),
        sources=SourceOperations(state, inspect),
        shared=SharedConfigOperations(state, runtime, advisor, clock=clock),
        vars=VarOperations(state, clock=clock),
        processes=ProcessOperations(state, runtime, services, clock=clock),
        instances=InstanceOperations(state, runtime),
        logs=LogOperations(
            state,
            runtime,
            builds=settings.folders.builds,
            logs=settings.folders.logs,
            renew=credentials.renew,
            clock=clock,
            limit=settings.log_limit,
        ),
        domains=DomainOperations(state, root=settings.domain, wake=runtime.wake),
        versions=VersionOperations(state, runtime, advisor, clock=clock),
        promotion=PromotionOperations(state, runtime, storage, advisor, clock=clock),
        rollouts=rollouts,
        builds=builds,
        deploys=DeployOperations(state, runtime, builds, rollouts),
        runs=runs,
        cron=cron,
        attaching=AttachOperations(
            state,
            runtime,
            runs,
            limits=settings.limits,
            renew=credentials.renew,
            prepare=prepare,
            clock=clock,
        ),
        users=UserOperations(state, clock=clock),
        keys=KeyOperations(state, clock=clock),
        credentials=credentials,
        journal=JournalOperations(state, renew=credentials.renew),
        secrets=SecretOperations(state, vault),
        receipts=Receipts(state, clock=clock),
        removal=removal,
        execs=execs,
        plugins=PluginOperations(state, plugins),
        releaser=Releaser(state, runtime, advisor, execs, clock=clock),
    )


def _policy(settings: Settings) -> Policy:
    return Policy(keep_versions=settings.keep_versions, cache_limit=settings.cache_limit)


def _limits(settings: Settings) -> Limits:
    return Limits(
        queue_timeout=timedelta(seconds=settings.queue_timeout),
        build_timeout=timedelta(seconds=settings.build_timeout),
        rollout_timeout=timedelta(seconds=settings.rollout_timeout),
        stop_grace=timedelta(seconds=settings.stop_grace),
    )
