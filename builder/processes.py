"""What a built app can run: its Procfile, and what its buildpacks add."""

from collections.abc import Mapping
from pathlib import Path

from builder.base import BuildFailed
from builder.buildpack import Release
from builder.procfile import FILE, MAX_BYTES, parse_procfile
from builder.tree import read_small
from builder.types import BuildOutput


def process_types(build: Path, release: Release, name: str, out: BuildOutput) -> Mapping[str, str]:
    """What can be started: the Procfile's types, and the buildpack's where the Procfile says nothing."""
    out.step("Discovering process types")
    content = read_small(build, FILE, MAX_BYTES)
    declared = parse_procfile(content) if content is not None else {}
    default = {key: value for key, value in release.process_types.items() if key not in declared}
    if declared:
        out.line(f"Procfile declares types -> {', '.join(declared)}")
    if default:
        out.line(f"Default types for {name} -> {', '.join(default)}")
    if not declared and not default:
        misspelt = sorted(each.name for each in build.iterdir() if each.name.lower().startswith("procfile"))
        hint = f" (there is {misspelt[0]!a}; the name must be exactly Procfile)" if misspelt else ""
        raise BuildFailed(
            "Nothing says how to start this app. Add a file named Procfile with a line such as "
            f"`web: python app.py`{hint}."
        )
    return {**declared, **default}
