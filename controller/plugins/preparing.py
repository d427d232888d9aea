"""The last word on what is about to start: variables that plugins give to a single instance."""

from dataclasses import replace

from controller.backends.base import InstanceSpec
from controller.environment import RESERVED_PREFIX
from controller.plugins.facts import StartFacts
from controller.plugins.manager import Plugins


class Preparing:
    def __init__(self, plugins: Plugins) -> None:
        self._plugins = plugins

    async def prepared(self, spec: InstanceSpec) -> InstanceSpec:
        """As it is where no plugin has anything to give, or fails."""
        hook = "before_once" if spec.once else "before_start"
        if not self._plugins.has(hook):
            return spec
        start = StartFacts(
            id=spec.id,
            deployment=spec.deployment,
            service=spec.service,
            version=spec.version,
            process_type=spec.process_type,
            command=spec.command,
            env=spec.env,
        )
        given = await self._plugins.prepared(hook, start)
        own = {name: value for name, value in given.items() if not name.startswith(RESERVED_PREFIX)}
        return replace(spec, env={**spec.env, **own}) if own else spec
