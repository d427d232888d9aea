"""Which buildpacks are for a tree: those that somebody named, else the first that knows it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from builder.base import BuilderUnavailable, BuildFailed
from builder.buildpack import Buildpack
from controller.views import BuildpackVerdict

Ask = Callable[[Buildpack], Awaitable[tuple[int, str]]]
"""Runs a buildpack's detect program; its exit status and what it printed."""

NOTHING_DETECTED = (
    "No buildpack knows what this is. Add a Procfile with a line such as `web: python app.py`, "
    "or at the top of the repository one of: requirements.txt or pyproject.toml (Python), package.json (Node.js), "
    "go.mod (Go), Gemfile (Ruby), composer.json or index.php (PHP), index.html or public/index.html (static files). "
    "`buildpacks:detect` tells what each of them looked for."
)


@dataclass(frozen=True)
class Detected:
    """A buildpack that knows the tree."""

    buildpack: Buildpack
    words: str
    """Its name for people."""


async def choose(buildpacks: Sequence[Buildpack], ask: Ask) -> Detected | None:
    """The first that says yes; None when none does."""
    if not buildpacks:
        raise BuilderUnavailable("This server has no buildpacks.")
    for buildpack in buildpacks:
        matched, words = await _answer(buildpack, ask)
        if matched:
            return Detected(buildpack, words)
    return None


async def check_named(buildpack: Buildpack, by: str, ask: Ask) -> Detected:
    """One that somebody named must know the tree: raises BuildFailed where it does not."""
    matched, words = await _answer(buildpack, ask)
    if not matched:
        raise BuildFailed(
            f"The buildpack {buildpack.name}, named by {by}, does not know this app: {words}. "
            "Take it out there, or give it what it looks for."
        )
    return Detected(buildpack, words)


async def judge(buildpacks: Sequence[Buildpack], by: str, ask: Ask) -> Sequence[BuildpackVerdict]:
    """What each of them says; `by` as in BuildpackVerdict."""
    verdicts: list[BuildpackVerdict] = []
    for buildpack in buildpacks:
        matched, words = await _answer(buildpack, ask)
        builds = matched and (bool(by) or not any(each.builds for each in verdicts))
        verdicts.append(
            BuildpackVerdict(buildpack=buildpack.name, by=by, matched=matched, words=words, builds=builds)
        )
    return verdicts


async def _answer(buildpack: Buildpack, ask: Ask) -> tuple[bool, str]:
    status, printed = await ask(buildpack)
    lines = [line.strip() for line in printed.strip().splitlines()]
    if status == 0:
        return True, lines[0][:60] if lines and lines[0] else buildpack.name
    said = lines[-1].removeprefix("!").strip()[:200].rstrip(".") if lines else ""
    return False, said or f"its bin/detect ended with status {status}"
