"""What is on its way to serve: builds that wait or run, and rollouts under way."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from controller.errors import Refused
from controller.names import Address
from controller.operations.access import Actor
from controller.operations.builds import BuildOperations
from controller.operations.lookup import address_of, find_wanted, get_deployment, get_service
from controller.operations.rollouts import RolloutOperations, rollout_text
from controller.operations.runtime import Runtime
from controller.rollout import is_restart, is_rolling
from controller.state import State
from controller.types import Build, BuildStatus, Right, Service
from controller.views import Deploy, DeployState

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class DeployOperations:
    def __init__(
        self, state: State, runtime: Runtime, builds: BuildOperations, rollouts: RolloutOperations
    ) -> None:
        self._state = state
        self._runtime = runtime
        self._builds = builds
        self._rollouts = rollouts

    def list(
        self, asker: Actor, *, deployment: str | None = None, service: str | None = None
    ) -> Sequence[Deploy]:
        """Those furthest on first: rollouts, running builds, then queued ones in the order they came.

        Of one service, one deployment, or all that the asker may view. Raises NotFound.
        """
        if deployment is not None and service is not None:
            get_service(self._state, asker, Address(deployment, service), Right.VIEW)
        elif deployment is not None:
            get_deployment(self._state, asker, deployment, Right.VIEW)
        found = [
            each
            for each in (
                *self._rollouts_under_way(deployment),
                *map(_of_build, self._state.builds_under_way()),
            )
            if deployment in (None, each.deployment)
            and service in (None, each.service)
            and asker.may(each.deployment, Right.VIEW)
        ]
        order = list(DeployState)
        return sorted(found, key=lambda each: order.index(each.state))

    async def cancel(self, asker: Actor, address: Address) -> Deploy:
        """End the deploy of a service that is furthest on: the build that runs, else the rollout under way,
        else the build that waits first. Raises Refused where there is none.
        """
        service = get_service(self._state, asker, address, Right.DEPLOY)
        found = self.list(asker, deployment=service.deployment, service=service.name)
        under_way = {each.state: each for each in reversed(found)}
        for state in (DeployState.BUILDING, DeployState.ROLLING_OUT, DeployState.QUEUED):
            furthest = under_way.get(state)
            if furthest is None:
                continue
            if furthest.build is not None:
                await self._builds.cancel(asker, furthest.build)
            else:
                await self._rollouts.cancel(asker, address)
            return furthest
        raise Refused(f"No deploy of {address_of(service)} is under way (see deploys).")

    def _rollouts_under_way(self, deployment: str | None) -> Iterator[Deploy]:
        """Those that began first come first."""
        rolling = [each for each in self._state.services(deployment) if is_rolling(each) and not each.stopped]
        for service in sorted(rolling, key=lambda each: each.rollout_started_at or _LONG_AGO):
            yield self._of_rollout(service)

    def _of_rollout(self, service: Service) -> Deploy:
        version = find_wanted(self._state, service)
        actor, reason = (version.actor, version.reason) if version else ("", "")
        if is_restart(service):
            events = self._state.events(service.deployment, service.name)
            asked = next((each for each in reversed(events) if each.kind == "service.restart"), None)
            actor, reason = asked.actor if asked else "", "restart"
        return Deploy(
            state=DeployState.ROLLING_OUT,
            deployment=service.deployment,
            service=service.name,
            version=service.target,
            actor=actor,
            reason=reason,
            since=service.rollout_started_at,
            doing=rollout_text(self._runtime, service) or "",
        )


def _of_build(build: Build) -> Deploy:
    ending = f"{build.cancel_requested_by} asked for its end" if build.cancel_requested_by else ""
    return Deploy(
        state=DeployState.QUEUED if build.status is BuildStatus.QUEUED else DeployState.BUILDING,
        deployment=build.deployment,
        service=build.service,
        build=build.id,
        actor=build.actor,
        reason=build.reason or "build",
        since=build.started_at or build.queued_at,
        doing=ending or build.doing,
    )
