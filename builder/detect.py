"""Which buildpack is for a tree."""

from collections.abc import Awaitable, Callable, Sequence

from builder.base import BuilderUnavailable
from builder.buildpack import Buildpack

Ask = Callable[[Buildpack], Awaitable[tuple[int, str]]]
"""Runs a buildpack's detect program; its exit status and what it printed."""

NOTHING_DETECTED = (
    "No buildpack knows what this is. Add a Procfile with a line such as `web: python app.py`, "
    "or at the top of the repository one of: requirements.txt or pyproject.toml (Python), "
    "index.html or public/index.html (static files)."
)


async def choose(buildpacks: Sequence[Buildpack], ask: Ask) -> tuple[Buildpack, str] | None:
    """The first that says yes, with its name for people; None when none does."""
    if not buildpacks:
        raise BuilderUnavailable("This server has no buildpacks.")
    for buildpack in buildpacks:
        status, printed = await ask(buildpack)
        if status == 0:
            lines = printed.strip().splitlines()
            return buildpack, lines[0][:60] if lines else buildpack.name
    return None
