"""The plugins that are part of the product. They go through the same hooks as others, with one difference: they are
ours, so they are asked within the transaction that they decide on, and not in a thread."""

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pluggy

from controller.plugins import (
    announce,
    app,
    domains,
    exec,  # noqa: A004  (as its section is)
    generate,
    hooks,
    require,
    resources,
)

MODULES: tuple[ModuleType, ...] = (require, resources, app, domains, exec, generate, announce)


def _made() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(hooks.PROJECT)
    manager.add_hookspecs(hooks)
    # What was registered last is called first.
    for module in sorted(MODULES, key=lambda each: -int(getattr(each, "priority", hooks.DEFAULT_PRIORITY))):
        manager.register(module, name=module.NAME)
    manager.check_pending()
    return manager


BUILTIN = _made()


def ask(hook: str, **told: Any) -> Iterator[tuple[str, Any]]:
    """Name of the plugin to its answer, of those that have one, in their order."""
    for implementation in reversed(getattr(BUILTIN.hook, hook).get_hookimpls()):
        answer = implementation.function(*(told[name] for name in implementation.argnames))
        if answer is not None:
            yield implementation.plugin_name, answer
