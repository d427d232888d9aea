"""Following services that are held, until they are live or nothing happens any more that could release them."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from cli.context import Context
from cli.output import SEED_MARK
from controller.names import Address
from controller.views import ServiceInfo

POLL = 0.3
"""Seconds between two looks."""
SETTLED = 3.0
"""Seconds in which nothing was under way any more in the deployment: what is held then, stays so."""
LONGEST = 900.0
"""Seconds that are waited in all."""


async def released(context: Context, held: Sequence[Address]) -> AsyncIterator[tuple[Address, int]]:
    """Each of these (of one deployment) with its first version, as soon as it has one; at the end, what those that
    are left wait for is told."""
    if not held:
        return
    clock = asyncio.get_running_loop().time
    end, quiet_since, before = clock() + LONGEST, clock(), None
    while True:
        infos = {each.service.name: each for each in await context.client.services(held[0].deployment)}
        for each in held:
            info = infos.get(each.service)
            if info is not None and info.held is None and info.service.latest:
                context.output.step(f"Released: {each.service}", SEED_MARK)
                yield each, info.service.latest
        held = [each for each in held if (info := infos.get(each.service)) is None or info.held is not None]
        if not held:
            return
        seen = [(each.service.name, each.held, each.rollout) for each in infos.values()]
        if seen != before or any(each.rollout for each in infos.values()):
            quiet_since, before = clock(), seen
        if clock() > min(end, quiet_since + SETTLED):
            break
        await asyncio.sleep(POLL)
    _tell(context, held, infos)


def _tell(context: Context, held: Sequence[Address], infos: dict[str, ServiceInfo]) -> None:
    for each in held:
        info = infos.get(each.service)
        if info is not None and info.held is not None:
            context.output.note(f"{each} is still held: {info.held}. It starts by itself once that is there.")
