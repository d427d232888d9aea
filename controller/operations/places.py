"""Where services are reached by others of their deployment: ports of the machine, given out once and kept."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from controller.backends.base import BackendError
from controller.exposing import free_port
from controller.state import EventDraft, Put, State, put
from controller.store.base import StoreError
from router.base import RouterError, SupportsInnerPorts


class InnerPlaces:
    """Gives a service its port when something that is to reach it starts."""

    def __init__(self, state: State, router: SupportsInnerPorts, *, ports: range) -> None:
        """`ports`: those that there are."""
        self._state = state
        self._router = router
        self._ports = ports

    async def places(self, deployment: str, wanted: Iterable[str]) -> Mapping[str, str]:
        """Service, or `service:port`, to `HOST:PORT`. Whether there is such a service does not count: it may come
        later. Raises BackendError."""
        names = list(dict.fromkeys(wanted))
        try:
            await self._state.transact(lambda: self._given(deployment, names))
            host = await self._router.inner_address()
        except (RouterError, StoreError) as error:
            raise BackendError(f"where {', '.join(names)} is reached can't be said now: {error}") from error
        found = self._state.deployment(deployment)
        if found is None:
            raise BackendError(f"{deployment} was destroyed.", retryable=False)
        return {name: f"{host}:{found.inner_ports[name]}" for name in names}

    def _given(self, name: str, wanted: Iterable[str]) -> Iterator[Put | EventDraft]:
        deployment = self._state.deployment(name)
        if deployment is None:
            return
        before = deployment
        for each in wanted:
            if each in deployment.inner_ports:
                continue
            others = [one for one in self._state.deployments() if one.name != name]
            port = free_port(self._ports, [*others, deployment])
            if port is None:
                raise BackendError(
                    f"no port is left at which {each} could be reached (setting inner_ports: "
                    f"{self._ports.start}-{self._ports.stop - 1})"
                )
            deployment = replace(deployment, inner_ports={**deployment.inner_ports, each: port})
            yield EventDraft(
                kind="service.reachable",
                deployment=name,
                service=each.partition(":")[0],
                text=f"{each} is reached by others of {name} at port {port} within the machine",
                data={"port": port},
            )
        if deployment != before:
            yield put(deployment)
