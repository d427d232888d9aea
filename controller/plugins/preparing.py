"""The last word on what is about to start: variables that plugins give to a single instance."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from controller.backends.base import InstanceSpec
from controller.environment import RESERVED_PREFIX
from controller.exposing import exposed
from controller.operations.execs import provisional_version
from controller.plugins.builtin import ask
from controller.plugins.facts import StartFacts
from controller.plugins.manager import Plugins
from controller.provided import effective
from controller.state import State
from controller.types import Definition


class Places(Protocol):
    """Where services of a deployment are reached by others of it."""

    async def places(self, deployment: str, wanted: Iterable[str]) -> Mapping[str, str]:
        """Service, or `service:port`, to `HOST:PORT`. Raises BackendError."""


class Preparing:
    def __init__(self, plugins: Plugins, state: State, places: Places) -> None:
        self._plugins = plugins
        self._state = state
        self._places = places

    async def prepared(self, spec: InstanceSpec) -> InstanceSpec:
        """As it is where no plugin has anything to give, or fails. Raises BackendError where it is to be told where
        another service is, and that can't be found out."""
        spec = await self.told(spec)
        if not self._plugins.has(_hook(spec)):
            return spec
        return _with(spec, await self._plugins.prepared(_hook(spec), _facts(spec)))

    async def told(self, spec: InstanceSpec) -> InstanceSpec:
        """The same with what the product's own plugins give: also to what somebody is attached to."""
        definition = self._definition(spec)
        wanted = exposed(definition) if definition is not None else {}
        if not wanted:
            return spec
        places = await self._places.places(spec.deployment, wanted.values())
        start = replace(_facts(spec), exposed={name: places[place] for name, place in wanted.items()})
        for _, given in ask(_hook(spec), start=start):
            spec = _with(spec, given)
        return spec

    def _definition(self, spec: InstanceSpec) -> Definition | None:
        service = self._state.service(spec.deployment, spec.service)
        if spec.version:
            version = self._state.version(spec.deployment, spec.service, spec.version)
        else:
            version = provisional_version(self._state, service) if service is not None else None
        return None if version is None else effective(version).definition


def _hook(spec: InstanceSpec) -> str:
    return "before_once" if spec.once else "before_start"


def _facts(spec: InstanceSpec) -> StartFacts:
    return StartFacts(
        id=spec.id,
        deployment=spec.deployment,
        service=spec.service,
        version=spec.version,
        process_type=spec.process_type,
        command=spec.command,
        env=spec.env,
    )


def _with(spec: InstanceSpec, given: Mapping[str, str]) -> InstanceSpec:
    own = {name: value for name, value in given.items() if not name.startswith(RESERVED_PREFIX)}
    return replace(spec, env={**spec.env, **own}) if own else spec
