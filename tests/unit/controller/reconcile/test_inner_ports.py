"""The loop and the ports at which apps reach each other."""

import asyncio
from dataclasses import replace
from typing import Any

from controller.state import put
from controller.types import Artifact, ArtifactKind, Definition
from router.base import Router, RouterError
from router.inner import WithInnerPorts
from router.memory import MemoryRouter
from router.types import Pool
from tests.unit.controller.reconcile.test_loop import opened


async def address() -> str:
    return "127.0.0.1"


async def test_a_port_that_is_given_out_later_leads_to_what_runs_already() -> None:
    async with opened() as here:
        inner = MemoryRouter()
        here.router = WithInnerPorts(MemoryRouter(), make=lambda _: inner, address=address)
        here.restart_controller()
        await here.push(1)
        await here.settle()
        deployment = here.state.deployment("foo")
        await here.state.commit(put(replace(deployment, inner_ports={"app": 30000})))
        await here.settle()
        [pool] = (await inner.table()).pools.values()
        assert pool.domains == {"30000-127.0.0.1"}
        assert len(pool.targets) == 1


async def test_ports_that_can_not_be_had_keep_nobody_busy() -> None:
    def make(_: str) -> Router:
        raise RouterError("HAProxy can't listen")

    async with opened() as here:
        router = WithInnerPorts(MemoryRouter(), make=make, address=address)
        here.router = router
        here.restart_controller()
        await here.push(1)
        await here.settle()
        deployment = here.state.deployment("foo")
        await here.state.commit(put(replace(deployment, inner_ports={"app": 30000})))
        before = len(here.state.events("foo"))
        running = asyncio.create_task(here.loop.run())
        await asyncio.sleep(1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        told = [each.text for each in here.state.events("foo")][before:]
        assert len(told) < 5, told
        assert "HAProxy can't listen" in str(router.problem)


async def test_each_version_is_reached_at_its_own_number_of_a_port() -> None:
    async with opened() as here:
        inner, told = MemoryRouter(), list[Pool]()

        class Noting(MemoryRouter):
            async def change(self, pools: Any, *, gone: Any = ()) -> None:
                told.extend(pools := list(pools))
                await inner.change(pools, gone=gone)

            async def table(self, *, after: str = "") -> Any:
                return await inner.table(after=after)

            async def remove(self, target: str) -> None:
                await inner.remove(target)

        def of(number: int, smtp: int) -> dict[str, Any]:
            definition = Definition(image=f"mail:{number}", extra={"ports": {"": 80, "smtp": smtp}})
            artifact = Artifact(kind=ArtifactKind.IMAGE, reference=f"mail:{number}")
            return {"definition": definition, "artifact": artifact}

        here.router = WithInnerPorts(MemoryRouter(), make=lambda _: Noting(), address=address)
        here.restart_controller()
        deployment = here.state.deployment("foo")
        await here.state.commit(put(replace(deployment, inner_ports={"app:smtp": 30000})))
        await here.push(1, **of(1, 25))
        await here.settle()
        await here.push(2, **of(2, 2525))
        await here.settle()
        ports = {(each.id, each.port) for pool in told for each in pool.targets}
        assert {port for name, port in ports if "-1-" in name} == {25}
        assert {port for name, port in ports if "-2-" in name} == {2525}
