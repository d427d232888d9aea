"""What the engine tells of our instances, kept up to date by its events: a look at it costs nothing.

Where the events break off, nothing is known until everything was inspected again.
"""

import asyncio
import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from controller.backends.base import Observation
from controller.backends.docker.container import (
    ATTACHED,
    ID,
    INSTANCE,
    KIND,
    OWNER,
    container_name,
    instance_labels,
    owner_lives,
)
from controller.backends.docker.scribes import Scribes
from controller.backends.docker.seen import Life, Seen, now, parse
from controller.backends.docker.wire import Wire, open_wire
from controller.backends.labels import DEPLOYMENT, SERVICE
from controller.engine import REALM, Engine, EngineError, NotThere
from controller.types import Instance
from router.changelog import ChangeLog

log = logging.getLogger(__name__)

HEEDED = ("start", "die", "oom", "destroy", "update", "pause", "unpause", "exec_die")
LEFT_AFTER = 300.0
"""Seconds after which a container that was made and never started is nobody's."""
MEND_AFTER, MEND_PAUSE = 1.0, 60.0
"""Seconds until one that the engine has given up is started by us: at first, and at most."""
PART_ENDS = 1.0
"""Seconds after a process was killed for memory in which the whole instance may end of it."""
LOCKS = 64


class Watch:
    """All instances of a realm. Raises EngineError where it can't see."""

    def __init__(self, engine: Engine, realm: str, scribes: Scribes, logs: Path) -> None:
        self._engine = engine
        self._realm = realm
        self._scribes = scribes
        self._logs = logs
        self._lives: dict[str, Life] = {}
        self._looked_at: dict[str, float] = {}
        """When (monotonic) each was inspected last."""
        self._changes = ChangeLog()
        self._moving = set[str]()
        self._events: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()
        self._locks = [asyncio.Lock() for _ in range(LOCKS)]
        """Of two inspections of one container the later answer must count."""
        self._menders: dict[str, asyncio.Task[None]] = {}
        self._execs: dict[str, asyncio.Future[int]] = {}

    # What there is

    def instance(self, name: str) -> Instance | None:
        life = self._lives.get(name)
        return life.shown if life else None

    def seen(self, name: str) -> Seen | None:
        life = self._lives.get(name)
        return life.seen if life else None

    def observation(self, after: str) -> Observation:
        """Of what is known; for one who has just called `ensure`."""
        for name in list(self._moving):
            self._note(name, changed=self._lives[name].look(now()))
        changed = self._changes.since(after) if after else None
        names = self._lives.keys() if changed is None else [each for each in changed if each in self._lives]
        return Observation(
            instances=tuple(self._lives[each].shown for each in names),
            cursor=self._changes.cursor,
            complete=changed is None,
            gone=frozenset(each for each in changed or () if each not in self._lives),
        )

    # Looking

    async def ensure(self) -> None:
        """Events are followed from here on, and everything is known."""
        if self._is_connected():
            return
        async with self._connecting:
            if self._is_connected():
                return
            self._scribes.take_over()
            wire = await self._open_events()
            try:
                await self.look_at_all(anew=True)
                await self._sweep()
            except BaseException:
                wire.close()
                raise
            self._events = asyncio.create_task(self._follow(wire), name="container events")

    async def look_at_all(self, *, anew: bool = False) -> None:
        """Compare with the engine's own list. `anew`: what was remembered may be outdated."""
        asked = time.monotonic()
        if not anew and self._scribes.take_over():
            anew = True  # whoever wrote the logs until now has gone: from here on we do
        listed = {each["Labels"][ID]: each for each in await self._list(INSTANCE)}
        for name in self._lives.keys() - listed.keys():
            if self._looked_at.get(name, 0.0) < asked:
                self._drop(name)
        await asyncio.gather(
            *(
                self.look(name, anew=anew)
                for name, each in listed.items()
                if each["State"] != "created" and (anew or self._differs(name, each))
            )
        )
        await self._remove_left(each for each in listed.values() if each["State"] == "created")

    async def look(self, name: str, *, anew: bool = False) -> Seen | None:
        """Inspect one. None: there is no such container."""
        async with self._locks[hash(name) % LOCKS]:
            try:
                data = await self._engine.call(
                    lambda client: client.inspect_container(container_name(self._realm, name))
                )
            except NotThere:
                self._drop(name)
                return None
            seen = parse(data)
            self._looked_at[name] = time.monotonic()
            if seen.status != "created":
                self._take(seen, anew=anew)
            return seen

    def forget(self, name: str) -> None:
        """We have removed it."""
        self._drop(name)

    async def end_of_exec(self, exec_id: str, *, within: float) -> int | None:
        """The exit code of a command in a container, when the engine tells it in that time."""
        future = self._execs.setdefault(exec_id, asyncio.get_running_loop().create_future())
        try:
            return await asyncio.wait_for(asyncio.shield(future), within)
        except TimeoutError:
            return None

    def expect_exec(self, exec_id: str) -> None:
        """Its end will be asked for; to be called before it is started."""
        self._execs[exec_id] = asyncio.get_running_loop().create_future()

    def forget_exec(self, exec_id: str) -> None:
        self._execs.pop(exec_id, None)

    async def close(self) -> None:
        tasks = [each for each in (self._events, *self._menders.values()) if each is not None]
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Events

    def _is_connected(self) -> bool:
        return self._events is not None and not self._events.done()

    async def _open_events(self) -> Wire:
        assert self._engine.socket is not None
        filters = {"type": ["container"], "label": [f"{REALM}={self._realm}", f"{KIND}={INSTANCE}"]}
        filters["event"] = list(HEEDED)
        return await open_wire(self._engine.socket, "GET", "/events", {"filters": json.dumps(filters)})

    async def _follow(self, wire: Wire) -> None:
        try:
            while line := await wire.reader.readline():
                await self._heed(json.loads(line))
            log.warning("the container engine has ended its events")
        except (OSError, ValueError, EngineError) as error:
            log.warning("the container engine's events broke off cause=%s", error)
        finally:
            wire.close()

    async def _heed(self, event: Mapping[str, Any]) -> None:
        said = event["Actor"]["Attributes"]
        name, action, at = said[ID], event["Action"].partition(":")[0], event["timeNano"] / 1e9
        if action == "exec_die":
            future = self._execs.get(said.get("execID", ""))
            if future is not None and not future.done():
                future.set_result(int(said.get("exitCode") or 0))
            return
        if action == "destroy":
            life = self._lives.get(name)
            if life is not None and life.seen.container == event["Actor"]["ID"]:
                self._drop(name)
            return
        if action == "oom":
            self._heed_memory(name, at)
        await self.look(name)
        life = self._lives.get(name)
        if action == "die" and life is not None and life.seen.container == event["Actor"]["ID"]:
            words = life.end(at, int(said.get("exitCode") or 0), now())
            if words is not None:
                self._scribes.note(life.seen.container, at, words)
                self._note(name, changed=life.look(now()))

    def _heed_memory(self, name: str, at: float) -> None:
        life = self._lives.get(name)
        if life is None:
            return
        life.memory_ran_out(at)

        def tell() -> None:
            if self._lives.get(name) is life and (words := life.of_memory(at)):
                self._scribes.say(life.seen.container, at, words)

        asyncio.get_running_loop().call_later(PART_ENDS, tell)

    # What is remembered

    def _take(self, seen: Seen, *, anew: bool) -> None:
        name, time_now = seen.id, now()
        life = self._lives.get(name)
        if life is None or life.seen.container != seen.container or anew:
            before = life.shown if life else None
            if life is not None and life.seen.container != seen.container:
                self._scribes.drop(life.seen.container)
            told = None
            life = self._lives[name] = Life(seen, time_now)
            changed, started = life.shown != before, True
        else:
            told, started_at = life.last_end, life.seen.started_at
            changed = life.take(seen, time_now)
            started = life.seen.started_at != started_at
        if started:
            self._scribes.follow(seen.container, self._file(seen))
        if life.last_end is not None and life.last_end != told:
            self._scribes.note(seen.container, *life.last_end)
        self._note(name, changed=changed)
        if seen.is_given_up and name not in self._menders:
            self._mend(name)

    def _drop(self, name: str) -> None:
        life = self._lives.pop(name, None)
        self._looked_at.pop(name, None)
        self._moving.discard(name)
        if life is not None:
            self._scribes.drop(life.seen.container)
            self._changes.note(name)

    def _note(self, name: str, *, changed: bool) -> None:
        (self._moving.add if self._lives[name].moves else self._moving.discard)(name)
        if changed:
            self._changes.note(name)

    def _file(self, seen: Seen) -> Path:
        labels = instance_labels(seen.labels)
        return self._logs / labels[DEPLOYMENT] / labels[SERVICE] / f"{seen.id}.log"

    def _differs(self, name: str, listed: Mapping[str, Any]) -> bool:
        life = self._lives.get(name)
        return life is None or (life.seen.container, life.seen.status) != (listed["Id"], listed["State"])

    # Putting right

    def _mend(self, name: str) -> None:
        task = asyncio.create_task(self._start_again(name), name=f"mend {name}")
        self._menders[name] = task
        task.add_done_callback(lambda _: self._menders.pop(name, None))

    async def _start_again(self, name: str) -> None:
        """An engine that could not start a container again does not try any more."""
        pause = MEND_AFTER
        while (seen := self.seen(name)) is not None and seen.is_given_up:
            await asyncio.sleep(pause)
            pause = min(pause * 2, MEND_PAUSE)
            try:
                container = seen.container
                await self._engine.call(lambda client: client.start(container))  # noqa: B023
            except EngineError as error:
                log.warning("instance.start-failed instance=%s cause=%s", name, error)
            try:
                await self.look(name)
            except EngineError:
                return  # the next look at everything tries again

    async def _sweep(self) -> None:
        """What was attached to a server that has gone."""
        for each in await self._list(ATTACHED):
            if not owner_lives(each["Labels"].get(OWNER, "")):
                log.info("attached.swept container=%s: its server is gone", each["Id"][:12])
                await self._remove(each["Id"])

    async def _remove_left(self, created: Any) -> None:
        for each in created:
            if now() - each["Created"] > LEFT_AFTER:
                await self._remove(each["Id"])

    async def _remove(self, container: str) -> None:
        try:
            await self._engine.call(lambda client: client.remove_container(container, v=True, force=True))
        except EngineError as error:
            log.debug("container was not removed container=%s cause=%s", container[:12], error)

    async def _list(self, kind: str) -> Sequence[Mapping[str, Any]]:
        labels = [f"{REALM}={self._realm}", f"{KIND}={kind}"]
        found: Sequence[Mapping[str, Any]] = await self._engine.call(
            lambda client: client.containers(all=True, filters={"label": labels})
        )
        return [each for each in found if ID in each["Labels"]]
