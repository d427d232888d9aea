"""The one client of the HTTP API: the command line, the SSH commands and the push pipeline use it.

Every call raises the errors of `controller.errors`, rebuilt from the server's problem+json, and
Unavailable when the server can't be reached. Addresses are `controller.names.Address`.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote, urlencode
from uuid import uuid4

import httpx

from controller import wire
from controller.deliveries import DeliveryStep, HostKey, SyncBuild, UploadState
from controller.errors import InternalFault, InvalidInput, MooringError, Unavailable
from controller.names import Address, check_name, check_run_name, check_title
from controller.problem import MEDIA_TYPE, Problem, error_of
from controller.types import (
    Artifact,
    Build,
    BuilderChoice,
    BuildStatus,
    Deployment,
    Event,
    Instance,
    LogLine,
    LogSource,
    Right,
    Run,
    Service,
    SshKey,
    Token,
    User,
    Version,
)
from controller.views import (
    BackupInfo,
    BuildpackVerdict,
    Change,
    Collected,
    CronInfo,
    Deploy,
    DiskReport,
    ExecInfo,
    FileOutcome,
    PluginCommand,
    PluginInfo,
    PluginPanel,
    PluginReport,
    ProcessLimits,
    ResourceInfo,
    RolloutStep,
    ServiceInfo,
    ServiceUsage,
    SharedChange,
    Status,
    Variable,
    VersionDiff,
    VolumeInfo,
    VolumeSchedule,
)

if TYPE_CHECKING:
    from controller.attachment import Attachment

__all__ = ["Change", "Client", "RolloutStep", "ServiceInfo", "Status"]

CONNECT_TIMEOUT = 5.0
SILENCE_TIMEOUT = 60.0
"""Seconds that a stream may be silent: the server gives a sign of life far more often."""
LONG_TIMEOUT = 3600.0
"""Seconds that a database may take until it has written, or taken in, its data."""
KEPT_OPEN = 2.0
"""Seconds that an idle connection is used again: less than the server's 5, so that it never closes one in our face."""
BATCH = 256 * 1024
"""Characters of one request with log lines: JSON makes up to six bytes of one, and the server takes 2 MiB."""

PAGE = 500
"""Items of a list that are asked for at once."""
PATIENCE, RECONNECT = 60.0, 1.0
"""Seconds that a lost stream of events is tried again, and before what was cut off is tried once more."""

Param = str | int | Sequence[str] | None
T = TypeVar("T")


class Client:
    def __init__(self, base_url: str, token: str, *, timeout: float = 30.0) -> None:
        """`base_url` such as `http://127.0.0.1:5555`; `timeout`: seconds that one answer may take.

        Raises InvalidInput for what can't be a URL or a token.
        """
        self._base_url = _checked_url(base_url)
        self._timeout = timeout
        if not token.isascii() or not token.isprintable():
            raise InvalidInput("token", "The token has characters that no token has: copy it once more.")
        self._token = token
        secure = self._base_url.startswith("https:")
        self._http = httpx.AsyncClient(
            base_url=self._base_url,
            headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
            timeout=httpx.Timeout(timeout, connect=CONNECT_TIMEOUT),
            limits=httpx.Limits(keepalive_expiry=KEPT_OPEN),
            # Loading the certificate authorities takes longer than a request; a proxy of the
            # environment must not see the token of an unencrypted connection.
            verify=secure,
            trust_env=secure,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    # The server

    async def status(self) -> Status:
        return await self._get(Status, "/v1/status")

    async def rotate_secrets(self) -> None:
        """Seal all config values with a new key; for admins."""
        await self._request("POST", "/v1/secrets/rotate")

    async def me(self) -> User:
        return await self._get(User, "/v1/me")

    # Deployments and services

    async def deployments(self) -> Sequence[Deployment]:
        return await self._list(Deployment, "/v1/deployments")

    async def create_deployment(self, name: str) -> Deployment:
        """Also makes nothing else: a service comes with its first push or `set_service`. Raises Conflict."""
        return await self._send(Deployment, "POST", "/v1/deployments", {"name": name})

    async def destroy_deployment(self, name: str) -> None:
        """Stops and forgets everything of it: services, versions, domains, repositories, slugs, logs."""
        await self._request("DELETE", _deployment(name))

    async def services(self, deployment: str | None = None) -> Sequence[ServiceInfo]:
        """All that the user may view, of one deployment or of all."""
        return await self._list(ServiceInfo, "/v1/services", deployment=deployment)

    async def service(self, address: Address) -> ServiceInfo:
        return await self._get(ServiceInfo, _service(address))

    async def ensure_service(self, address: Address) -> ServiceInfo:
        """The service, made as an empty code service when the deployment has none of that name (a first push)."""
        path = f"{_deployment(address.deployment)}/services"
        return await self._send(ServiceInfo, "POST", path, {"name": address.service})

    async def set_service(
        self, address: Address, definition: Mapping[str, Any], *, force: bool = False
    ) -> Change:
        """Put the given keys of the definition in place of what they were; null takes one away.

        Keys that are not given stay as they are; `env`, `health`, `checks` and `rollout` are replaced as a
        whole. Makes the service when there is none. `force` makes a version even where nothing changes.
        """
        return await self._send(
            Change, "PATCH", _service(address), {"definition": definition, "force": force}
        )

    async def deploy_file(
        self, deployment: str, body: Mapping[str, Any], *, name: str, prune: bool = False, force: bool = False
    ) -> FileOutcome:
        """Make the deployment what a service file says (`body`: its services and globals), in one step.

        The same again changes nothing. `prune`: services that are not in it go. `force`: each one of it gets a
        version. Raises Conflict where a domain belongs to somebody else.
        """
        said = {**body, "name": name, "prune": prune, "force": force}
        return await self._send(FileOutcome, "POST", f"{_deployment(deployment)}/servicefile", said)

    async def plan_file(
        self, deployment: str, body: Mapping[str, Any], *, name: str, prune: bool = False, force: bool = False
    ) -> FileOutcome:
        """What `deploy_file` would change now."""
        said = {**body, "name": name, "prune": prune, "force": force}
        return await self._send(FileOutcome, "POST", f"{_deployment(deployment)}/servicefile/plan", said)

    async def promote(
        self, source: str, target: str, services: Sequence[str] = (), *, plan: bool = False
    ) -> FileOutcome:
        """Take the code of what serves in `source` over to `target`, without a build; none named: all that are in
        both. `plan`: only tell what that would change."""
        path = f"{_deployment(target)}/promotion{'/plan' if plan else ''}"
        return await self._send(FileOutcome, "POST", path, {"source": source, "services": list(services)})

    async def destroy_service(self, address: Address) -> None:
        await self._request("DELETE", _service(address))

    # Config

    async def config(self, address: Address) -> Mapping[str, str]:
        """The variables set for the service itself."""
        return await self._get(dict[str, str], f"{_service(address)}/config")

    async def environment(self, address: Address) -> Sequence[Variable]:
        """What the service's next version finds in its environment, by name, with where each was set."""
        return await self._get(list[Variable], f"{_service(address)}/environment")

    async def shared_config(self, deployment: str) -> Mapping[str, str]:
        """The variables of a deployment, which its services find below their own."""
        return await self._get(dict[str, str], f"{_deployment(deployment)}/config")

    async def change_shared_config(
        self, deployment: str, *, put: Mapping[str, str], drop: Sequence[str] = ()
    ) -> SharedChange:
        """One version of each service whose environment that changes."""
        body = {"put": put, "drop": list(drop)}
        return await self._send(SharedChange, "PATCH", f"{_deployment(deployment)}/config", body)

    async def resources(self, deployment: str) -> Sequence[ResourceInfo]:
        return await self._list(ResourceInfo, f"{_deployment(deployment)}/resources")

    async def resource(self, deployment: str, name: str) -> ResourceInfo:
        return await self._get(ResourceInfo, _resource(deployment, name))

    async def create_resource(
        self, deployment: str, kind: str, name: str, *, url: str | None = None
    ) -> ResourceInfo:
        """`url`: of a server that is kept elsewhere; None: it gets one of its own. Raises Conflict, Refused."""
        body = {"kind": kind, "name": name, "url": url}
        return await self._send(ResourceInfo, "POST", f"{_deployment(deployment)}/resources", body)

    async def destroy_resource(self, deployment: str, name: str) -> None:
        """With all data, but for backups. Raises Conflict while it is attached."""
        await self._request("DELETE", _resource(deployment, name))

    async def attach_resource(self, address: Address, name: str, *, prefix: str = "") -> Change:
        """Raises Conflict where the service has other variables of these names."""
        path = f"{_resource(address.deployment, name)}/attachments/{address.service}"
        return await self._send(Change, "PUT", path, {"prefix": prefix})

    async def detach_resource(self, address: Address, name: str) -> Change:
        path = f"{_resource(address.deployment, name)}/attachments/{address.service}"
        return await self._send(Change, "DELETE", path)

    async def backups(self, deployment: str, name: str) -> Sequence[BackupInfo]:
        """Oldest first."""
        return await self._list(BackupInfo, f"{_resource(deployment, name)}/backups")

    async def schedule_backups(
        self, deployment: str, name: str, schedule: str, *, keep: int = 7, days: int = 0
    ) -> ResourceInfo:
        """`schedule`: as crontab writes it, in UTC. Raises InvalidInput, Refused."""
        body = {"schedule": schedule, "keep": keep, "days": days}
        return await self._send(ResourceInfo, "PUT", f"{_resource(deployment, name)}/backup-schedule", body)

    async def unschedule_backups(self, deployment: str, name: str) -> ResourceInfo:
        return await self._send(ResourceInfo, "DELETE", f"{_resource(deployment, name)}/backup-schedule")

    async def back_up(self, deployment: str, name: str) -> AsyncIterator[DeliveryStep]:
        """How that goes. Closing the stream ends it, and nothing of the backup stays."""
        async for step in self._streamed(DeliveryStep, "POST", f"{_resource(deployment, name)}/backups"):
            yield step

    async def restore(
        self, deployment: str, name: str, backup: str | None = None
    ) -> AsyncIterator[DeliveryStep]:
        """`backup`: its id; None: the newest."""
        url = f"{_resource(deployment, name)}/restore?{_query({'backup': backup})}"
        async for step in self._streamed(DeliveryStep, "POST", url):
            yield step

    async def export_data(self, deployment: str, name: str) -> AsyncIterator[bytes]:
        """Raises Unavailable where not all of it comes."""
        async with aclosing(self._bytes(f"{_resource(deployment, name)}/data")) as pieces:
            async for piece in pieces:
                yield piece

    async def import_data(self, deployment: str, name: str, content: AsyncIterator[bytes]) -> ResourceInfo:
        """Takes the place of all that it has; where it fails nothing is changed."""
        return self._decoded(
            ResourceInfo, await self._put_bytes(f"{_resource(deployment, name)}/data", content)
        )

    async def _bytes(self, url: str) -> AsyncGenerator[bytes, None]:
        timeout = httpx.Timeout(self._timeout, connect=CONNECT_TIMEOUT, read=LONG_TIMEOUT)
        with self._told_in_our_words():
            async with self._http.stream("GET", url, timeout=timeout) as answer:
                if not answer.is_success:
                    raise self._error(answer.status_code, answer.headers, await answer.aread())
                async for piece in answer.aiter_bytes():
                    yield piece

    async def _put_bytes(self, url: str, content: AsyncIterator[bytes]) -> bytes:
        timeout = httpx.Timeout(self._timeout, connect=CONNECT_TIMEOUT, read=LONG_TIMEOUT)
        headers = {"Content-Type": "application/octet-stream"}
        with self._told_in_our_words():
            answer = await self._http.put(url, content=content, headers=headers, timeout=timeout)
        if not answer.is_success:
            raise self._error(answer.status_code, answer.headers, answer.content)
        return answer.content

    async def volumes(self, deployment: str) -> Sequence[VolumeInfo]:
        return await self._list(VolumeInfo, f"{_deployment(deployment)}/volumes")

    async def destroy_volume(self, address: Address, name: str) -> int:
        """With all that is in it; its bytes. Raises Refused while the service, or what runs of it, has it."""
        return (await self._send(dict[str, int], "DELETE", _volume(address, name)))["bytes"]

    async def volume_backups(self, address: Address, name: str) -> Sequence[BackupInfo]:
        """Oldest first."""
        return await self._list(BackupInfo, f"{_volume(address, name)}/backups")

    async def volume_schedule(self, address: Address, name: str) -> VolumeSchedule:
        return await self._get(VolumeSchedule, f"{_volume(address, name)}/backup-schedule")

    async def schedule_volume_backups(
        self, address: Address, name: str, schedule: str, *, keep: int = 7, days: int = 0
    ) -> VolumeSchedule:
        """As `schedule_backups`."""
        body = {"schedule": schedule, "keep": keep, "days": days}
        return await self._send(VolumeSchedule, "PUT", f"{_volume(address, name)}/backup-schedule", body)

    async def unschedule_volume_backups(self, address: Address, name: str) -> VolumeSchedule:
        return await self._send(VolumeSchedule, "DELETE", f"{_volume(address, name)}/backup-schedule")

    async def back_up_volume(self, address: Address, name: str) -> AsyncIterator[DeliveryStep]:
        """As `back_up`."""
        async for step in self._streamed(DeliveryStep, "POST", f"{_volume(address, name)}/backups"):
            yield step

    async def restore_volume(
        self, address: Address, name: str, backup: str | None = None
    ) -> AsyncIterator[DeliveryStep]:
        """As `restore`. Raises Refused while its service is not stopped."""
        url = f"{_volume(address, name)}/restore?{_query({'backup': backup})}"
        async for step in self._streamed(DeliveryStep, "POST", url):
            yield step

    async def export_volume(self, address: Address, name: str) -> AsyncIterator[bytes]:
        """A tar in zstd. Raises Unavailable where not all of it comes."""
        async with aclosing(self._bytes(f"{_volume(address, name)}/data")) as pieces:
            async for piece in pieces:
                yield piece

    async def import_volume(self, address: Address, name: str, content: AsyncIterator[bytes]) -> None:
        """A tar takes the place of all that is in it; where it fails nothing is changed."""
        await self._put_bytes(f"{_volume(address, name)}/data", content)

    async def plugins(self) -> PluginReport:
        """All plugins of the server, for admins."""
        return await self._get(PluginReport, "/v1/plugins")

    async def resume_plugin(self, name: str) -> PluginInfo:
        """Raises NotFound, Refused where it is not suspended."""
        return await self._send(PluginInfo, "POST", f"/v1/plugins/{quote(name, safe='')}/resume", {})

    async def trace_plugins(self, *, on: bool) -> bool:
        answer = await self._send(dict[str, bool], "PUT", "/v1/plugins-trace", {"on": on})
        return answer["on"]

    async def plugin_verbs(self) -> Sequence[PluginCommand]:
        """Verbs that the server has from plugins."""
        return await self._list(PluginCommand, "/v1/plugin-verbs")

    async def plugin_panels(self, deployment: str | None = None) -> Sequence[PluginPanel]:
        """Parts of the web page that plugins bring: about a deployment, or about the server, for admins.

        Raises NotFound.
        """
        return await self._list(PluginPanel, "/v1/plugin-panels", deployment=deployment)

    async def call_verb(
        self, verb: str, words: Sequence[str], *, deployment: str | None = None
    ) -> Sequence[str]:
        """What a plugin's verb prints. Raises NotFound, InvalidInput; Unavailable where the plugin fails."""
        said = {"words": list(words), "deployment": deployment}
        return await self._send(list[str], "POST", f"/v1/plugin-verbs/{quote(verb, safe='')}", said)

    async def execs(self, deployment: str) -> Sequence[ExecInfo]:
        """The commands of a deployment's section Exec."""
        return await self._list(ExecInfo, f"{_deployment(deployment)}/execs")

    async def retry_exec(self, deployment: str, name: str) -> ExecInfo:
        """Run one again that failed. Raises NotFound, Conflict."""
        path = f"{_deployment(deployment)}/execs/{quote(name, safe='')}/retry"
        return await self._send(ExecInfo, "POST", path, {})

    async def generated(self, deployment: str) -> Mapping[str, str]:
        """The secrets of a deployment's section Generate, by name."""
        return await self._get(dict[str, str], f"{_deployment(deployment)}/generated")

    async def renew_generated(self, deployment: str, name: str) -> SharedChange:
        """A new secret, and one version of each service that has it. Raises NotFound."""
        path = f"{_deployment(deployment)}/generated/{quote(name, safe='')}/renew"
        return await self._send(SharedChange, "POST", path, {})

    async def vars(self, deployment: str) -> Mapping[str, str]:
        """What variables of its service file stand for in that deployment."""
        return await self._get(dict[str, str], f"{_deployment(deployment)}/vars")

    async def change_vars(
        self, deployment: str, *, put: Mapping[str, str], drop: Sequence[str] = ()
    ) -> Mapping[str, str]:
        """All that there are then."""
        body = {"put": put, "drop": list(drop)}
        return await self._send(dict[str, str], "PATCH", f"{_deployment(deployment)}/vars", body)

    async def change_config(
        self,
        address: Address,
        *,
        put: Mapping[str, str],
        drop: Sequence[str] = (),
        replace_all: bool = False,
        stage: bool = False,
    ) -> Change:
        """Several variables in one version. `replace_all`: all that are not in `put` go.

        `stage`: no version is made; `apply_config`, a push or any other new version but a rollback has them.
        """
        body = {"put": put, "drop": list(drop), "replace": replace_all, "stage": stage}
        return await self._send(Change, "PATCH", f"{_service(address)}/config", body)

    async def apply_config(self, address: Address) -> Change:
        """One version of all that is staged."""
        return await self._send(Change, "POST", f"{_service(address)}/config/apply")

    async def limits(self, address: Address) -> Sequence[ProcessLimits]:
        """What one instance of each process type may take, as the next version has it."""
        return await self._get(list[ProcessLimits], f"{_service(address)}/limits")

    async def change_limits(
        self,
        address: Address,
        process_type: str = "",
        *,
        put: Mapping[str, float | str],
        drop: Sequence[str] = (),
    ) -> Change:
        """cpu, memory, pids, nofile of one process type, or ("") of all; 0 is no limit. Makes a version."""
        body = {"process": process_type, "put": dict(put), "drop": list(drop)}
        return await self._send(Change, "PATCH", f"{_service(address)}/limits", body)

    async def change_buildpacks(
        self,
        address: Address,
        *,
        only: Sequence[str] | None = None,
        add: Sequence[str] = (),
        at: int | None = None,
        remove: Sequence[str] = (),
    ) -> Service:
        """`only`: in place of all; `at`: the place of the first added, from 1, else they come last."""
        body = {
            "only": None if only is None else list(only),
            "add": list(add),
            "at": at,
            "remove": list(remove),
        }
        return await self._send(Service, "PATCH", f"{_service(address)}/buildpacks", body)

    async def set_build_dir(self, address: Address, folder: str) -> Service:
        """Empty: the whole repository is built."""
        return await self._send(Service, "PUT", f"{_service(address)}/build-dir", {"folder": folder})

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
        """What builds it from the next build on, and how its Dockerfile is built; what is None stays, and an argument
        of the value None goes."""
        body = {
            "builder": choice,
            "dockerfile": dockerfile,
            "target": target,
            "args": dict(args or {}),
            "secrets": None if secrets is None else list(secrets),
        }
        return await self._send(Service, "PATCH", f"{_service(address)}/builder", body)

    async def detect_buildpacks(
        self, address: Address, *, branch: str | None = None
    ) -> Sequence[BuildpackVerdict]:
        """What each says of what was pushed last; `branch` None: of the one that deploys."""
        params = {} if branch is None else {"branch": branch}
        path = f"{_service(address)}/buildpacks/detect"
        return self._decoded(list[BuildpackVerdict], await self._request("POST", path, params=params))

    async def set_branches(self, address: Address, branches: Sequence[str]) -> Service:
        body = {"branches": list(branches)}
        return await self._send(Service, "PUT", f"{_service(address)}/branches", body)

    # Source by other ways than a push. Closing the stream before the release ends the deploy.

    async def deploy_archive(
        self, address: Address, content: AsyncIterator[bytes], *, name: str = "", origin: str = ""
    ) -> AsyncIterator[DeliveryStep]:
        """How the deploy of that archive goes; `name`: what it is called in records; `origin`: see Version."""
        said = _query({"name": name[:200] or None, "origin": origin or None})
        url = f"{_service(address)}/archive?{said}"
        async for step in self._streamed(DeliveryStep, "POST", url, content=content):
            yield step

    async def begin_upload(self, address: Address) -> UploadState:
        """For an archive that is sent in pieces; see `controller.upload`."""
        return await self._send(UploadState, "POST", f"{_service(address)}/uploads", {})

    async def upload_state(self, address: Address, upload: str) -> UploadState:
        """Raises NotFound where it is not there any more."""
        return await self._get(UploadState, _upload(address, upload))

    async def append_upload(
        self, address: Address, upload: str, offset: int, content: AsyncIterator[bytes]
    ) -> UploadState:
        """Go on from there. Raises Conflict where so much has not come, or more; Unavailable where the line breaks."""
        headers = {"Content-Type": "application/octet-stream"}
        url = f"{_upload(address, upload)}?{_query({'offset': offset})}"
        with self._told_in_our_words():
            answer = await self._http.request("PATCH", url, content=content, headers=headers)
        if not answer.is_success:
            raise self._error(answer.status_code, answer.headers, answer.content)
        return self._decoded(UploadState, answer.content)

    async def deploy_upload(
        self, address: Address, upload: str, *, name: str = "", origin: str = ""
    ) -> AsyncIterator[DeliveryStep]:
        """As `deploy_archive`, of one that has arrived."""
        said = _query({"name": name[:200] or None, "origin": origin or None})
        url = f"{_upload(address, upload)}/deploy?{said}"
        async for step in self._streamed(DeliveryStep, "POST", url):
            yield step

    async def deploy_archive_of(self, address: Address, url: str) -> AsyncIterator[DeliveryStep]:
        """The same of one that the server fetches."""
        content = wire.encode({"url": url})
        async for step in self._streamed(
            DeliveryStep, "POST", f"{_service(address)}/archive/fetch", content=content
        ):
            yield step

    async def sync(
        self, address: Address, url: str, *, ref: str = "", build: SyncBuild = SyncBuild.NO
    ) -> AsyncIterator[DeliveryStep]:
        """Fetch a branch, tag or commit of a repository elsewhere; "": its own branch."""
        content = wire.encode({"url": url, "ref": ref, "build": build})
        async for step in self._streamed(DeliveryStep, "POST", f"{_service(address)}/sync", content=content):
            yield step

    async def deploy_image(self, address: Address, image: str) -> AsyncIterator[DeliveryStep]:
        """How the deploy of that image goes; the server's engine pulls it where it is not there."""
        content = wire.encode({"image": image})
        async for step in self._streamed(DeliveryStep, "POST", f"{_service(address)}/image", content=content):
            yield step

    async def deploy_saved_image(
        self, address: Address, image: str, content: AsyncIterator[bytes]
    ) -> AsyncIterator[DeliveryStep]:
        """The same of one that `docker save` wrote; `image`: what it is called there."""
        url = f"{_service(address)}/image/archive?{_query({'image': image[:300]})}"
        async for step in self._streamed(DeliveryStep, "POST", url, content=content):
            yield step

    async def git_public_key(self) -> str:
        """The key by which the server fetches private source."""
        return (await self._get(dict[str, str], "/v1/git/public-key"))["public_key"]

    async def allow_git_host(self, host: str) -> Sequence[HostKey]:
        """Know `HOST` or `HOST:PORT` from now on by the keys that it shows; for admins."""
        return await self._send(list[HostKey], "POST", "/v1/git/hosts", {"host": host})

    # Processes

    async def scale(self, address: Address, changes: Mapping[str, str]) -> ServiceInfo:
        """Process type to "2", "+1" or "-1"."""
        return await self._send(ServiceInfo, "PATCH", f"{_service(address)}/scale", {"changes": changes})

    async def restart(self, address: Address, process: str | None = None) -> Version:
        """All instances, or those of a process type (`web`), or one (`web.1`, or its id)."""
        return await self._send(Version, "POST", _about(f"{_service(address)}/restart", process))

    async def stop(self, address: Address, process: str | None = None) -> ServiceInfo:
        """`process` as in `restart`. What was stopped stays so until it is started, or (one) a new version comes."""
        return await self._send(ServiceInfo, "POST", _about(f"{_service(address)}/stop", process))

    async def start(self, address: Address, process: str | None = None) -> ServiceInfo:
        """None undoes every stop."""
        return await self._send(ServiceInfo, "POST", _about(f"{_service(address)}/start", process))

    async def set_maintenance(self, address: Address, on: bool, *, page: str = "") -> ServiceInfo:
        """While it is on, the router answers with 503 and `page` (HTML of at most 8 KiB; empty: its own one)."""
        body = {"on": on, "page": page}
        return await self._send(ServiceInfo, "PUT", f"{_service(address)}/maintenance", body)

    async def instances(self, address: Address) -> Sequence[Instance]:
        """Of the service, or of the process type that the address names."""
        return await self._list(Instance, f"{_service(address)}/instances", process=address.process_type)

    # Versions

    async def versions(self, address: Address, *, limit: int | None = None) -> Sequence[Version]:
        """Newest first; the newest `limit`, or all that are kept."""
        return await self._list(Version, f"{_service(address)}/versions", limit)

    async def version(self, address: Address, number: int) -> Version:
        return await self._get(Version, f"{_service(address)}/versions/{number:d}")

    async def version_diff(
        self, address: Address, number: int, *, other: int | None = None, reveal: bool = False
    ) -> VersionDiff:
        """What it changed: in `other`, by default in the version that it replaced. `reveal`: with values."""
        path = f"{_service(address)}/versions/{number:d}/diff"
        return await self._get(VersionDiff, path, to=other, reveal=str(reveal).lower())

    async def release(
        self,
        address: Address,
        artifact: Artifact,
        *,
        commit: str | None,
        origin: str = "",
        build: str | None,
        reason: str,
        variables: Mapping[str, str] | None = None,
        formation: Mapping[str, int] | None = None,
    ) -> Change:
        """A version from new code. `variables` are set where nobody has set them; `formation`: how many of each
        process type there are with the first version."""
        body = {
            "artifact": artifact,
            "commit": commit,
            "origin": origin,
            "build": build,
            "reason": reason,
            "variables": variables or {},
            "formation": formation or {},
        }
        return await self._send(Change, "POST", f"{_service(address)}/versions", body)

    async def rollback(self, address: Address, number: int | None = None) -> Version:
        """A new version with the code and config of an older one; None: of the last that was live before."""
        return await self._send(Version, "POST", f"{_service(address)}/rollback", {"number": number})

    # Rollouts: each call answers with the version whose rollout it is, and raises Refused where none is under way

    async def promote_rollout(self, address: Address) -> Version:
        """Let the canary take the place of what serves."""
        return await self._send(Version, "POST", f"{_service(address)}/rollout/promote")

    async def abort_rollout(self, address: Address, *, reason: str = "") -> Version:
        """End the canary."""
        return await self._send(Version, "POST", f"{_service(address)}/rollout/abort", {"reason": reason})

    async def cancel_rollout(self, address: Address, *, reason: str = "") -> Version:
        """End the rollout, or the restart, under way: what serves is what is wanted again."""
        return await self._send(Version, "POST", f"{_service(address)}/rollout/cancel", {"reason": reason})

    async def pause_rollout(self, address: Address) -> Version:
        """Take no further step of it until `resume_rollout`."""
        return await self._send(Version, "POST", f"{_service(address)}/rollout/pause")

    async def resume_rollout(self, address: Address) -> Version:
        return await self._send(Version, "POST", f"{_service(address)}/rollout/resume")

    async def follow(self, address: Address, number: int | None = None) -> AsyncIterator[RolloutStep]:
        """The rollout of that version, from its start, until it has ended, or waits for a person's word.

        None: whatever the service is busy with (scaling, restart, stop), until it has settled.
        """
        async for step in self._stream(RolloutStep, f"{_service(address)}/rollout", version=number):
            yield step

    # Deploys

    async def deploys(self, address: Address | None = None) -> Sequence[Deploy]:
        """What is on its way: rollouts, running builds, then queued ones in the order they came."""
        where = {"deployment": address.deployment, "service": address.service} if address else {}
        return await self._get(list[Deploy], "/v1/deploys", **where)

    async def cancel_deploy(self, address: Address) -> Deploy:
        """End the one that is furthest on: running build, rollout, queued build. Raises Refused where none is."""
        return await self._send(Deploy, "POST", f"{_service(address)}/deploy/cancel")

    # The disk

    async def disk(self) -> DiskReport:
        """What uses the server's disk, measured now; for admins."""
        return await self._get(DiskReport, "/v1/disk")

    async def disk_usage(self, address: Address) -> ServiceUsage:
        return await self._get(ServiceUsage, f"{_service(address)}/disk")

    async def collect_disk(self) -> Collected:
        """Remove what nothing needs; for admins."""
        return await self._send(Collected, "POST", "/v1/disk/collect")

    async def purge_cache(self, address: Address) -> int:
        """Remove the build cache of a service; its bytes. Raises Refused while a build works with it."""
        answer = await self._send(dict[str, int], "DELETE", f"{_service(address)}/cache")
        return answer["bytes"]

    # Domains

    async def domains(self, address: Address) -> Sequence[str]:
        return await self._get(list[str], f"{_service(address)}/domains")

    async def add_domains(self, address: Address, domains: Sequence[str]) -> Sequence[str]:
        """Raises Conflict when another service has one of them; none is added then."""
        return await self._send(list[str], "PATCH", f"{_service(address)}/domains", {"add": list(domains)})

    async def remove_domains(self, address: Address, domains: Sequence[str]) -> Sequence[str]:
        """Raises NotFound when the service has not one of them; none is removed then."""
        return await self._send(list[str], "PATCH", f"{_service(address)}/domains", {"remove": list(domains)})

    # Logs

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
        """Lines of the past by time, then (with `follow`) new ones; of the process type that the address names, if any.

        No `sources`: all of them. `process`: `web` or `web.1`. `since`, `until`: `10m` or a moment in ISO 8601.
        `text`: that is in the line, `*` stands for anything. `lines`: the last so many; None: 100, or all with `since`.
        """
        stream = self._stream(
            LogLine,
            f"{_service(address)}/logs",
            source=",".join(sources) or None,
            process=process or address.process_type,
            instance=instance,
            since=since,
            until=until,
            text=text or None,
            lines=lines,
            follow=str(follow).lower(),
        )
        async for line in stream:
            yield line

    # Builds

    async def open_build(
        self, address: Address, *, commit: str | None, reason: str = "", waits_for: str = ""
    ) -> Build:
        """Queued while it `waits_for` something, else it runs. Its owner touches it every few seconds."""
        body = {"commit": commit, "reason": reason, "waits_for": waits_for}
        return await self._send(Build, "POST", f"{_service(address)}/builds", body)

    async def touch_build(
        self, build: str, *, status: BuildStatus | None = None, doing: str | None = None
    ) -> Build:
        """A sign of life; the build as it is, which its owner ends when it has ended or somebody asks for that."""
        body = {"status": status, "doing": doing}
        answer = await self._request("POST", f"{_build(build)}/touch", body, repeatable=False)
        return self._decoded(Build, answer)

    async def append_build_log(self, build: str, lines: Sequence[str]) -> None:
        for batch in _batches(lines):
            await self._request("POST", f"{_build(build)}/log", {"lines": batch}, repeatable=False)

    async def close_build(
        self, build: str, status: BuildStatus, *, error: str = "", artifact: Artifact | None = None
    ) -> Build:
        body = {"status": status, "error": error, "artifact": artifact}
        return await self._send(Build, "POST", f"{_build(build)}/close", body)

    async def builds(self, address: Address, *, limit: int | None = None) -> Sequence[Build]:
        """Newest first; the newest `limit`, or all that are kept."""
        return await self._list(Build, f"{_service(address)}/builds", limit)

    async def build(self, build: str) -> Build:
        return await self._get(Build, _build(build))

    async def build_log(self, build: str) -> str:
        return (await self._request("GET", f"{_build(build)}/log")).decode(errors="replace")

    async def cancel_build(self, build: str) -> Build:
        """Ask for its end; the build's owner notices within a second."""
        return await self._send(Build, "POST", f"{_build(build)}/cancel")

    # One-offs

    async def run_detached(
        self,
        address: Address,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        ttl: float | None = None,
        process_type: str = "",
    ) -> Run:
        """One word is a shell line as it is, several are a program and its arguments. `ttl` in seconds."""
        body = {"command": list(command), "env": env or {}, "ttl": ttl, "type": process_type}
        return await self._send(Run, "POST", f"{_service(address)}/runs", body)

    def attach(
        self,
        address: Address,
        command: Sequence[str],
        *,
        terminal: tuple[int, int, str] | None,
        enter: str | None = None,
        env: Mapping[str, str] | None = None,
        ttl: float | None = None,
        process_type: str = "",
    ) -> "AbstractAsyncContextManager[Attachment]":
        """A one-off that runs for as long as the block lasts, with whoever called attached to it.

        `terminal`: columns, rows and its TERM; None: none. `enter`: a process (web.1) or instance to be in, ""
        for any; None: a fresh process.
        """
        from controller.attachment import attached  # few commands need it

        screen = None if terminal is None else dict(zip(("columns", "rows", "kind"), terminal, strict=True))
        order = {
            "command": list(command),
            "env": env or {},
            "ttl": ttl,
            "type": process_type,
            "terminal": screen,
            "enter": enter,
        }
        return attached(self._base_url, f"{_service(address)}/attach", token=self._token, order=order)

    async def runs(self, address: Address) -> Sequence[Run]:
        """Newest first, the last that have ended too."""
        return await self._get(list[Run], f"{_service(address)}/runs")

    async def cron(self, address: Address) -> Sequence[CronInfo]:
        """Commands that are run again and again, in the order of the app.json that serves."""
        return await self._get(list[CronInfo], f"{_service(address)}/cron")

    async def run(self, address: Address, run: str) -> Run:
        """By its id or the name of its process, such as run.3."""
        return await self._get(Run, _run(address, run))

    async def stop_run(self, address: Address, run: str) -> Run:
        return await self._send(Run, "POST", f"{_run(address, run)}/stop")

    async def run_logs(
        self, address: Address, run: str, *, lines: int | None = None, follow: bool = False
    ) -> AsyncIterator[LogLine]:
        """What it printed; with `follow` also what it will, until it ends."""
        stream = self._stream(LogLine, f"{_run(address, run)}/logs", lines=lines, follow=str(follow).lower())
        async for line in stream:
            yield line

    # People

    async def users(self) -> Sequence[User]:
        """All for an admin; else oneself, and who has rights on what one manages."""
        return await self._list(User, "/v1/users")

    async def create_user(self, name: str, *, admin: bool = False) -> User:
        return await self._send(User, "POST", "/v1/users", {"name": name, "admin": admin})

    async def remove_user(self, name: str) -> None:
        """With their keys and tokens. Raises Refused for the last admin."""
        await self._request("DELETE", _user(name))

    async def grant(self, user: str, deployment: str, right: Right | None) -> User:
        """None takes all rights on that deployment away."""
        path = f"{_user(user)}/rights/{quote(check_name(deployment, 'app name'), safe='')}"
        if right is None:
            return await self._send(User, "DELETE", path)
        return await self._send(User, "PUT", path, {"right": right})

    async def keys(self) -> Sequence[SshKey]:
        """All for an admin, else one's own."""
        return await self._list(SshKey, "/v1/keys")

    async def add_key(self, name: str, public_key: str, *, user: str | None = None) -> SshKey:
        """None: the asker's own. An admin may name anybody; a new user is made by that (without rights)."""
        body = {"name": name, "public_key": public_key, "user": user}
        return await self._send(SshKey, "POST", "/v1/keys", body)

    async def remove_key(self, name: str) -> None:
        await self._request("DELETE", f"/v1/keys/{quote(check_title(name, 'key name'), safe='')}")

    async def tokens(self) -> Sequence[Token]:
        """All for an admin, else one's own. Their secrets are kept nowhere."""
        return await self._list(Token, "/v1/tokens")

    async def create_token(
        self,
        *,
        user: str | None = None,
        description: str = "",
        expires_in: timedelta | None = None,
        right: Right | None = None,
        deployments: Sequence[str] = (),
    ) -> str:
        """The secret, shown this once. `right` and `deployments` narrow it to less than its user has."""
        body = {
            "user": user,
            "description": description,
            "expires_in": None if expires_in is None else round(expires_in.total_seconds()),
            "right": right,
            "deployments": list(deployments),
        }
        made = await self._send(dict[str, str], "POST", "/v1/tokens", body)
        return made["secret"]

    async def remove_token(self, token_id: str) -> None:
        await self._request("DELETE", f"/v1/tokens/{quote(check_title(token_id, 'token id'), safe='')}")

    async def events(
        self,
        *,
        deployment: str | None = None,
        service: str | None = None,
        kinds: Sequence[str] = (),
        after: int | None = None,
        limit: int = 100,
    ) -> Sequence[Event]:
        """The newest `limit`, oldest first; with `after` the next `limit` behind that revision.

        `kinds` such as `version.live`, or `version` for all that begin so.
        """
        pages = self._pages(
            Event, "/v1/events", limit, deployment=deployment, service=service, kind=kinds, after=after
        )
        if after is not None:
            return [event async for page in pages for event in page]
        found: list[Event] = []
        async for page in pages:  # each one is older
            found[:0] = page
        return found

    async def follow_events(
        self,
        *,
        deployment: str | None = None,
        service: str | None = None,
        kinds: Sequence[str] = (),
        after: int | None = None,
        past: int = 0,
    ) -> AsyncIterator[Event]:
        """Events as they happen: with those since `after`, or with the newest `past` to begin with.

        A lost connection is made again from where it broke off. Raises Unavailable once that has failed for a minute.
        An event of the kind `journal.trimmed` stands for those that are no longer kept.
        """
        now = asyncio.get_running_loop().time
        there: float | None = None

        def seen() -> None:
            nonlocal there
            there = now()

        while True:
            stream = self._stream(
                Event,
                "/v1/events",
                seen,
                deployment=deployment,
                service=service,
                kind=kinds,
                after=after,
                limit=past if past and after is None else None,
            )
            try:
                async with aclosing(stream):
                    async for event in stream:
                        after = event.revision
                        seen()
                        yield event
            except Unavailable:
                # Not before there is a place to go on from: what came meanwhile would be missing.
                if after is None or there is None or now() - there > PATIENCE:
                    raise
            await asyncio.sleep(RECONNECT)

    # The way there

    async def _get(self, kind: type[T], path: str, /, **params: Param) -> T:
        return self._decoded(kind, await self._request("GET", path, params=params))

    async def _pages(
        self, kind: type[T], path: str, limit: int | None = None, /, **params: Param
    ) -> AsyncIterator[list[T]]:
        """Page after page of a list, up to `limit` items in all (None: all that there are)."""
        left, following = limit, f"{path}?{_query({**params, 'limit': min(limit or PAGE, PAGE)})}"
        while following:
            answer = await self._answer("GET", following)
            page: list[T] = self._decoded(list[kind], answer.content)  # type: ignore[valid-type]
            yield page if left is None else page[:left]
            left = None if left is None else left - len(page)
            following = "" if left is not None and left <= 0 else answer.links.get("next", {}).get("url", "")

    async def _list(
        self, kind: type[T], path: str, limit: int | None = None, /, **params: Param
    ) -> Sequence[T]:
        """A list in all of its pages, up to `limit` items."""
        return [item async for page in self._pages(kind, path, limit, **params) for item in page]

    async def _send(self, kind: type[T], method: str, path: str, body: object = None) -> T:
        return self._decoded(kind, await self._request(method, path, body))

    async def _request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        params: Mapping[str, Param] | None = None,
        repeatable: bool = True,
    ) -> bytes:
        url = f"{path}?{_query(params)}" if params else path
        return (await self._answer(method, url, body, repeatable=repeatable)).content

    async def _answer(
        self, method: str, url: str, body: object = None, *, repeatable: bool = True
    ) -> httpx.Response:
        """`repeatable`: it is sent once more where the connection was lost, with a key that says it is the same."""
        headers = {} if body is None else {"Content-Type": "application/json"}
        if repeatable and method in ("POST", "PATCH"):
            headers["Idempotency-Key"] = str(uuid4())
        request = self._http.build_request(
            method, url, content=None if body is None else wire.encode(body), headers=headers
        )
        with self._told_in_our_words():
            try:
                answer = await self._http.send(request)
            except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
                if not repeatable or method == "DELETE":  # what is gone already would be told not to be there
                    raise
                await asyncio.sleep(RECONNECT)
                answer = await self._http.send(request)
        if answer.is_success:
            return answer
        raise self._error(answer.status_code, answer.headers, answer.content)

    async def _stream(
        self, kind: type[T], path: str, opened: Callable[[], None] | None = None, /, **params: Param
    ) -> AsyncGenerator[T, None]:
        """Values of an NDJSON answer. Blank lines are signs of life; a problem may end it."""
        async with aclosing(self._streamed(kind, "GET", f"{path}?{_query(params)}", opened=opened)) as values:
            async for value in values:
                yield value

    async def _streamed(
        self,
        kind: type[T],
        method: str,
        url: str,
        *,
        content: bytes | AsyncIterator[bytes] | None = None,
        opened: Callable[[], None] | None = None,
    ) -> AsyncGenerator[T, None]:
        """`content`: JSON, or what is sent as it is, piece by piece."""
        timeout = httpx.Timeout(self._timeout, connect=CONNECT_TIMEOUT, read=SILENCE_TIMEOUT)
        headers = {"Accept": "application/x-ndjson"}
        if content is not None:
            json = isinstance(content, bytes)
            headers["Content-Type"] = "application/json" if json else "application/octet-stream"
        with self._told_in_our_words():
            async with self._http.stream(
                method, url, content=content, headers=headers, timeout=timeout
            ) as answer:
                if not answer.is_success:
                    raise self._error(answer.status_code, answer.headers, await answer.aread())
                if opened is not None:
                    opened()
                async for line in _lines(answer):
                    if line.startswith(b'{"problem":'):
                        raise error_of(self._decoded(dict[str, Problem], line)["problem"])
                    if line:
                        yield self._decoded(kind, line)

    @contextmanager
    def _told_in_our_words(self) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectError as error:
            raise Unavailable(
                f"The server at {self._base_url} does not answer. Is `moor server` running?"
            ) from error
        except httpx.TimeoutException as error:
            raise Unavailable(f"The server at {self._base_url} takes too long to answer.") from error
        except httpx.TransportError as error:
            raise Unavailable(f"The connection to the server at {self._base_url} was lost.") from error

    def _decoded(self, kind: type[T], text: bytes) -> T:
        try:
            return wire.decode(kind, text)
        except wire.WireError as error:
            raise InternalFault(
                f"The answer of {self._base_url} makes no sense to this version of moor: {error}"
            ) from error

    def _error(self, status: int, headers: httpx.Headers, content: bytes) -> MooringError:
        if headers.get("Content-Type", "").startswith(MEDIA_TYPE):
            return error_of(self._decoded(Problem, content))
        return Unavailable(f"{self._base_url} answered {status}, and not as a Mooring server does.")


async def _lines(answer: httpx.Response) -> AsyncIterator[bytes]:
    """Whole lines as soon as they are there; httpx's own way splits at every Unicode line end."""
    kept = b""
    async for chunk in answer.aiter_bytes():
        *lines, kept = (kept + chunk).split(b"\n")
        for line in lines:
            yield line


def _checked_url(text: str) -> str:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise InvalidInput("url", f"{text!a} is no URL of a server: {error}.") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise InvalidInput("url", f"{text!a} is no URL of a server: it begins with http:// or https://.")
    return text.rstrip("/")


def _batches(lines: Sequence[str]) -> Iterator[list[str]]:
    """As large as a request may be, and no larger; a line that alone is larger is cut."""
    batch: list[str] = []
    size = 0
    for line in lines:
        if batch and size + len(line) > BATCH:
            yield batch
            batch, size = [], 0
        batch.append(line[:BATCH])
        size += len(line) + 1
    if batch:
        yield batch


def _query(params: Mapping[str, Param]) -> str:
    """`a=1&b=2`: None is left out, a sequence is repeated."""
    given = {name: value for name, value in params.items() if value is not None}
    return urlencode(given, doseq=True)


def _deployment(name: str) -> str:
    return f"/v1/deployments/{check_name(name, 'app name')}"


def _volume(address: Address, name: str) -> str:
    return f"{_service(address)}/volumes/{quote(name, safe='')}"


def _resource(deployment: str, name: str) -> str:
    return f"{_deployment(deployment)}/resources/{check_name(name, 'resource name')}"


def _service(address: Address) -> str:
    return f"{_deployment(address.deployment)}/services/{check_name(address.service, 'service name')}"


def _upload(address: Address, upload: str) -> str:
    return f"{_service(address)}/uploads/{quote(upload, safe='')}"


def _about(path: str, process: str | None) -> str:
    return path if process is None else f"{path}?process={quote(process, safe='')}"


def _run(address: Address, run: str) -> str:
    return f"{_service(address)}/runs/{check_run_name(run)}"


def _build(build: str) -> str:
    return f"/v1/builds/{quote(check_title(build, 'build id'), safe='')}"


def _user(name: str) -> str:
    return f"/v1/users/{quote(check_title(name, 'user name'), safe='')}"
