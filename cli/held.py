"""Following services that are held, until they are live or nothing happens any more that could release them."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass

from cli.context import Context, opened
from cli.output import SEED_MARK
from controller.errors import MooringError, NotFound
from controller.names import Address
from controller.types import ResourceStatus
from controller.views import ExecInfo, ServiceInfo

POLL = 0.3
"""Seconds between two looks."""
SETTLED = 3.0
"""Seconds in which nothing was under way any more in the deployment: what is held then, stays so."""
LONGEST = 900.0
"""Seconds that are waited in all."""
LINES = 10
"""Of what a command printed that failed."""


@dataclass(frozen=True)
class _Look:
    infos: Mapping[str, ServiceInfo]
    execs: Sequence[ExecInfo]

    @property
    def under_way(self) -> bool:
        """Whether something goes on that may release others."""
        return any(each.rollout for each in self.infos.values()) or any(
            each.status is ResourceStatus.PENDING and each.waits is None for each in self.execs
        )


Past = Collection[tuple[str, str]]
"""Runs of commands of `Exec`, by service and process."""


async def past_runs(context: Context, deployment: str) -> Past:
    """Those that there are now: what they printed is nothing new."""
    try:
        execs = await context.client.execs(deployment)
    except NotFound:
        return ()
    return {(each.service, each.run) for each in execs if each.run}


async def released(
    context: Context, held: Sequence[Address], failures: list[str], past: Past
) -> AsyncIterator[tuple[Address, int]]:
    """Each of these (of one deployment) with its first version, as soon as it has one. What commands of `Exec` print
    that have run since `past` is shown; and at the end, what those that are left wait for. Commands that failed go to
    `failures`."""
    if not held:
        return
    clock = asyncio.get_running_loop().time
    end, quiet_since, before, shown = clock() + LONGEST, clock(), None, set(past)
    while True:
        look = await _look(context, held[0].deployment)
        await _show_commands(context, look.execs, shown)
        for each in _free(held, look):
            context.output.step(f"Released: {each.service}", SEED_MARK)
            yield each, look.infos[each.service].service.latest
        held = [each for each in held if each not in _free(held, look)]
        if not held:
            return
        if look.under_way or look != before:
            quiet_since, before = clock(), look
        if clock() > min(end, quiet_since + SETTLED):
            break
        await asyncio.sleep(POLL)
    await _tell(context, held, look, failures)


async def _look(context: Context, deployment: str) -> _Look:
    infos, execs = await asyncio.gather(context.client.services(deployment), context.client.execs(deployment))
    return _Look({each.service.name: each for each in infos}, execs)


def _free(held: Sequence[Address], look: _Look) -> Sequence[Address]:
    found = [(each, look.infos.get(each.service)) for each in held]
    return [each for each, info in found if info and info.held is None and info.service.latest]


async def _show_commands(context: Context, execs: Sequence[ExecInfo], shown: set[tuple[str, str]]) -> None:
    """What those print that run now, to their ends, and what those printed that have ended well."""
    for each in execs:
        if each.run is None or each.status is ResourceStatus.FAILED or (each.service, each.run) in shown:
            continue
        shown.add((each.service, each.run))
        context.output.step(f"Running {each.name}: {each.command}", SEED_MARK)
        await _print_lines(context, each, follow=each.status is ResourceStatus.PENDING)


async def _print_lines(
    context: Context, command: ExecInfo, *, follow: bool, lines: int | None = None
) -> None:
    address = Address(command.deployment, command.service)
    try:
        async with opened(
            context.client.run_logs(address, command.run or "", lines=lines, follow=follow)
        ) as stream:
            async for line in stream:
                context.output.detail(line.text)
                await context.output.drain()
    except MooringError as error:
        context.output.note(f"What {command.name} prints can't be shown: {error}")


def failed_text(command: ExecInfo) -> str:
    """How it failed, and the way to try again."""
    return (
        f"{command.name} failed: {command.failure}. Once that is mended: "
        f"moor exec:retry -a {command.deployment} {command.name}"
    )


async def _tell(context: Context, held: Sequence[Address], look: _Look, failures: list[str]) -> None:
    for command in look.execs:
        if command.failure:
            context.output.step(f"The last lines of {command.name}", SEED_MARK)
            await _print_lines(context, command, follow=False, lines=LINES)
            failures.append(failed_text(command))
    for each in held:
        info = look.infos.get(each.service)
        if info is not None and info.held is not None:
            context.output.note(f"{each} is still held: {info.held}. It starts by itself once that is there.")
