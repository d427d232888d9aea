"""One buildpack of the classic kind: three programs in `bin/`, and what they answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from builder.base import BuildFailed
from builder.procfile import MAX_TYPES
from controller.errors import InvalidInput
from controller.names import check_env_name, check_process_type

BUNDLED = Path(__file__).with_name("buildpacks")
ORDER = ("ruby", "go", "python", "php", "nodejs", "static", "procfile")
"""The bundled ones in the order in which they are asked; the first that detects its kind builds. A
package.json is often beside another language, for its assets alone: that language is asked first."""
BY_NAME = frozenset({"null"})
"""Those that build only where somebody names them."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """What `bin/release` declares. What the Procfile and the service's own env say comes first."""

    process_types: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Buildpack:
    """A folder with `bin/detect`, `bin/compile` and maybe `bin/release`."""

    path: Path
    label: str = ""
    """Its name, where that is not the folder's."""

    @property
    def name(self) -> str:
        return self.label or self.path.name

    @property
    def export(self) -> Path:
        """A shell file that it may write for the buildpacks after it."""
        return self.path / "export"

    def is_whole(self) -> bool:
        return all((self.path / "bin" / name).is_file() for name in ("detect", "compile"))

    def detect(self, build: Path) -> tuple[str, ...]:
        """Exit status 0: it is for this tree; the first line printed is its name for people."""
        return (str(self.path / "bin/detect"), str(build))

    def compile(self, build: Path, cache: Path, env: Path) -> tuple[str, ...]:
        return (str(self.path / "bin/compile"), str(build), str(cache), str(env))

    def release(self, build: Path) -> tuple[str, ...] | None:
        """None: it has no such program."""
        program = self.path / "bin/release"
        return (str(program), str(build)) if program.exists() else None


def find_buildpacks(folder: Path) -> Sequence[Buildpack]:
    """Those in a folder that may be asked: the bundled names in their order, then any others by name."""
    found = {path.parent.parent for path in folder.glob("*/bin/detect")} - {folder / name for name in BY_NAME}
    rank = {name: number for number, name in enumerate(ORDER)}
    return tuple(
        Buildpack(path) for path in sorted(found, key=lambda each: (rank.get(each.name, 99), each.name))
    )


def parse_release(text: str) -> Release:
    """Read the YAML of `bin/release`. Raises BuildFailed."""
    try:
        content = yaml.safe_load(text) or {}
        if not isinstance(content, dict):
            raise BuildFailed("The buildpack's bin/release must print a YAML mapping.")
        types = _texts(content, "default_process_types")
        env = _texts(content, "config_vars")
    except (yaml.YAMLError, RecursionError) as error:
        raise BuildFailed(f"The buildpack's bin/release prints something invalid: {error}") from error
    return checked_release(Release(process_types=types, env=env))


def checked_release(release: Release) -> Release:
    """Return it when its names are names, and not too many; raise BuildFailed otherwise."""
    try:
        for name in release.process_types:
            check_process_type(name)
        for name in release.env:
            check_env_name(name)
    except InvalidInput as error:
        raise BuildFailed(f"The buildpack's bin/release prints something invalid: {error}") from error
    if len(release.process_types) > MAX_TYPES:
        raise BuildFailed("The buildpack's bin/release declares too many process types.")
    return release


def _texts(content: Mapping[object, object], key: str) -> Mapping[str, str]:
    found = content.get(key) or {}
    if not isinstance(found, dict):
        raise BuildFailed(f"The buildpack's bin/release must print a mapping under {key}.")
    if not all(isinstance(each, str | int | float) for each in (*found, *found.values())):
        raise BuildFailed(f"The buildpack's bin/release must print texts and numbers under {key}.")
    return {str(name): str(value) for name, value in found.items()}
