"""Where services are reached by others of their deployment: ports of the machine, given out once and kept."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from controller.backends.base import BackendError
from controller.exposing import exposed, free_port
from controller.provided import effective
from controller.state import EventDraft, Put, State, put
from controller.store.base import StoreError
from controller.types import Deployment
from router.base import RouterError, SupportsInnerPorts

MOST_PLACES = 64
"""Of one deployment: the ports are there for all."""


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
            if not self._has_all(deployment, names):
                await self._state.transact(lambda: self._given(deployment, names))
            host = await self._router.inner_address()
        except (RouterError, StoreError) as error:
            raise BackendError(f"where {', '.join(names)} is reached can't be said now: {error}") from error
        found = self._state.deployment(deployment)
        if found is None:
            raise BackendError(f"{deployment} was destroyed.", retryable=False)
        return {name: f"{host}:{found.inner_ports[name]}" for name in names}

    def _has_all(self, name: str, wanted: Iterable[str]) -> bool:
        deployment = self._state.deployment(name)
        return deployment is not None and all(
            deployment.inner_ports.get(each) in self._ports for each in wanted
        )

    def _given(self, name: str, wanted: Sequence[str]) -> Iterator[Put | EventDraft]:
        known = {each.name: each for each in self._state.deployments()}
        if name not in known:
            return
        before = dict(known)
        for place in wanted:
            if known[name].inner_ports.get(place) in self._ports:
                continue
            if len(known[name].inner_ports) >= MOST_PLACES:
                known[name] = self._without_unused(known[name], wanted)
            if len(known[name].inner_ports) >= MOST_PLACES:
                raise BackendError(
                    f"a deployment can have {MOST_PLACES} places that are reached (expose)", retryable=False
                )
            port = free_port(self._ports, known.values())
            if port is None:
                known = {
                    key: self._without_unused(each, wanted if key == name else ())
                    for key, each in known.items()
                }
                port = free_port(self._ports, known.values())
            if port is None:
                raise BackendError(
                    f"no port is left at which {place} could be reached (setting inner_ports: "
                    f"{self._ports.start}-{self._ports.stop - 1})"
                )
            known[name] = replace(known[name], inner_ports={**known[name].inner_ports, place: port})
            yield EventDraft(
                kind="service.reachable",
                deployment=name,
                service=place.partition(":")[0],
                text=f"{place} is reached by others of {name} at port {port} within the machine",
                data={"port": port},
            )
        yield from (put(each) for key, each in known.items() if each != before[key])

    def _without_unused(self, deployment: Deployment, wanted: Iterable[str]) -> Deployment:
        """Without the places that nothing of it is told of, or will be."""
        used = set(wanted)
        for service in self._state.services(deployment.name):
            used |= {*exposed(service.definition).values()}
            for number in {service.current, service.target} - {None}:
                version = self._state.version(deployment.name, service.name, number or 0)
                if version is not None:
                    used |= {*exposed(effective(version).definition).values()}
        kept = {place: port for place, port in deployment.inner_ports.items() if place in used}
        return replace(deployment, inner_ports=kept)
