"""Telling plugins what has happened, from the journal: so that what a killed server saw last is told by the next one.

Each event is told at least once to each plugin that is on: how far one has come is kept in the store, at most a
second late. An event with which a plugin fails is not told again; one that is suspended hears what it missed once it is
resumed, as far as the journal reaches back. A plugin that is new hears nothing of the past.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Any

from controller.following import TRIMMED
from controller.operations.facts import facts_of, service_facts
from controller.plugins.hooks import NOTICES
from controller.plugins.manager import Plugins
from controller.plugins.record import Record
from controller.state import State
from controller.store.base import Store, StoreError
from controller.types import Event

log = logging.getLogger(__name__)

KEY = "meta/plugins"
"""Store key of how far each plugin has come."""
KEPT_EVERY = 1.0
"""Seconds between two times that this is written down."""

HOOKS = {
    "deployment.created": "deployment_created",
    "deployment.config": "globals_changed",
    "version.created": "post_setup",
    "service.held": "post_setup",
    "build.succeeded": "data_provided",
    "resource.pending": "resource_changed",
    "resource.ready": "resource_changed",
    "resource.failed": "resource_changed",
    "resource.removed": "resource_changed",
    "instance.healthy": "post_start",
    "instance.stopped": "post_stop",
}
"""Kind of an event to the hook that tells of it."""


class Notifier:
    def __init__(self, state: State, store: Store, plugins: Plugins) -> None:
        self._state = state
        self._store = store
        self._plugins = plugins
        self._reached: dict[str, int] = {}
        """Plugin to the revision of the last event that it was told of."""
        self._kept: Mapping[str, int] = {}

    async def known(self) -> Mapping[str, int]:
        """Plugins that the server has started with before."""
        entry = await self._store.get(KEY)
        return dict(entry.value) if entry else {}

    async def run(self) -> None:
        """Until cancelled."""
        self._reached = dict(await self.known())
        for each in self._plugins.records:
            if each.active:
                self._reached.setdefault(each.name, self._state.last_event)
        await self._keep()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_often())
            for record in self._plugins.records:
                if not set(NOTICES).isdisjoint(record.hooks):
                    tasks.create_task(self._tell_all(record))

    async def _tell_all(self, record: Record) -> None:
        """One task for each plugin: a slow one is late by itself."""
        async for event in self._state.follow_events(after=self._reached[record.name]):
            while not record.active:  # noqa: ASYNC110 - somebody resumes it, or nobody does
                await asyncio.sleep(KEPT_EVERY)
            if event.kind == TRIMMED:
                log.warning("plugin.missed name=%s: %s", record.name, event.text)
            elif (hook := HOOKS.get(event.kind)) in record.hooks and hook is not None:
                try:
                    await self._tell(record, hook, event)
                except Exception:  # whatever it is, the next event is another one
                    log.exception("plugin could not be told name=%s event=%d", record.name, event.revision)
            self._reached[record.name] = max(self._reached[record.name], event.revision)

    async def _tell(self, record: Record, hook: str, event: Event) -> None:
        told = self._told(event)
        if told is not None:
            await self._plugins.ask_one(record, hook, **told)

    def _told(self, event: Event) -> Mapping[str, Any] | None:
        """What the hooks take; None: what it was about is gone."""
        deployment = self._state.deployment(event.deployment)
        if deployment is None:
            return None
        facts = facts_of(self._state, deployment)
        name = str(event.data.get("resource", ""))
        told = {"deployment": facts, "name": name, "resource": facts.resources.get(name)}
        service = self._state.service(event.deployment, event.service)
        if service is not None:
            told |= {
                "service": service_facts(service),
                "version": event.data.get("version"),
                "build": event.data.get("build", ""),
                "instance": event.data.get("instance", ""),
            }
        elif event.service:
            return None
        return told

    async def _keep_often(self) -> None:
        while True:
            await asyncio.sleep(KEPT_EVERY)
            with contextlib.suppress(StoreError):  # the next time is soon
                await self._keep()

    async def _keep(self) -> None:
        if self._reached and dict(self._reached) != self._kept:
            reached = dict(self._reached)
            await self._store.put(KEY, reached)
            self._kept = reached
