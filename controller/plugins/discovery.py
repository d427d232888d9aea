"""Finding plugins: installed ones by entry point, and single files in the data folder."""

import importlib.util
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from controller.plugins.record import Record, Standing

log = logging.getLogger(__name__)

GROUP = "mooring.plugins"
ALL = "*"


def find_plugins(folder: Path, wanted: str, *, taken: Sequence[str] = ()) -> Sequence[Record]:
    """All that there are, loaded where they are wanted. What can't be loaded says why, and stops nobody.

    `wanted`: names that are on, after commas; `*` for all; `-NAME` for all but that one. `taken`: names that are
    in use already.
    """
    words = [each.strip() for each in wanted.split(",") if each.strip()]
    found = dict[str, Record]()
    places: Sequence[tuple[str, str, EntryPoint | Path]] = [*_installed(), *_files(folder)]
    for name, source, load in places:
        if name in found or name in taken:
            why = f"its name is that of {found[name].source if name in found else 'a part of the product'}"
            found[f"{name} ({source})"] = Record(name, source, Standing.FAILED, why)
        elif not _is_wanted(name, words):
            found[name] = Record(name, source, Standing.OFF, "the setting plugins leaves it out")
        else:
            found[name] = _loaded(name, source, load)
    for word in words:
        name = word.removeprefix("-")
        if name not in (*found, *taken, ALL):
            found[name] = Record(
                name, "the setting plugins", Standing.FAILED, "there is no plugin of that name"
            )
    return list(found.values())


def _is_wanted(name: str, words: Sequence[str]) -> bool:
    if f"-{name}" in words:
        return False
    return name in words or ALL in words or (bool(words) and all(each.startswith("-") for each in words))


def _installed() -> Iterator[tuple[str, str, EntryPoint]]:
    for each in sorted(entry_points(group=GROUP), key=lambda each: each.name):
        source = f"{each.dist.name} {each.dist.version}" if each.dist else each.value
        yield each.name, source, each


def _files(folder: Path) -> Iterator[tuple[str, str, Path]]:
    for each in sorted(folder.glob("*.py")):
        if each.is_file() and not each.name.startswith(("_", ".")):
            yield each.stem, str(each), each


def _loaded(name: str, source: str, place: EntryPoint | Path) -> Record:
    try:
        plugin = _module(name, place) if isinstance(place, Path) else place.load()
        if isinstance(plugin, type):
            plugin = plugin()
    except BaseException as error:  # whatever a foreign module does when it is loaded
        if isinstance(error, KeyboardInterrupt):
            raise
        log.warning("plugin can't be loaded name=%s source=%s", name, source, exc_info=True)
        return Record(name, source, Standing.FAILED, f"it can't be loaded: {type(error).__name__}: {error}")
    keys = frozenset(map(str, (*getattr(plugin, "keys", ()), *getattr(plugin, "sections", ()))))
    return Record(name, source, Standing.ON, plugin=plugin, keys=keys)


def _module(name: str, file: Path) -> ModuleType:
    title = f"mooring_plugin_{name.replace('-', '_')}"
    spec = importlib.util.spec_from_file_location(title, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[title] = module  # as dataclasses and pickle look for it there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[title]
        raise
    return module


def claimed(records: Sequence[Record], own: Sequence[Any]) -> Mapping[str, str]:
    """Key or section to the name of the plugin that acts on it."""
    ours = {
        key: module.NAME
        for module in own
        for key in (*getattr(module, "keys", ()), *getattr(module, "sections", ()))
    }
    return {**{key: each.name for each in records if each.active for key in each.keys}, **ours}
