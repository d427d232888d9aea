"""What two versions don't have in common. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from controller.types import Artifact, Definition, Version
from controller.views import Area, Difference
from controller.wire import to_json

HIDDEN = "(hidden)"
"""Stands for the value of a variable that is not shown."""
SECRET = frozenset({Area.ENV, Area.SHARED_ENV, Area.BUILDPACK_ENV, Area.PROVIDED, Area.GLOBALS})
"""Areas whose values nobody sees unless they ask for it: any of them may be a secret."""


def differences(before: Version | None, after: Version) -> tuple[Difference, ...]:
    """From `before` (None: from nothing) to `after`, by area and name. Values are those of the versions."""
    old, new = _facts(before), _facts(after)
    return tuple(
        Difference(area=area, name=name, before=old.get((area, name)), after=new.get((area, name)))
        for area in Area
        for name in sorted({name for of, name in old.keys() | new.keys() if of is area})
        if old.get((area, name)) != new.get((area, name))
    )


def masked(found: Difference) -> Difference:
    """The same without a value that may be a secret; whether there is one stays to be seen."""
    if found.area not in SECRET:
        return found
    return replace(
        found,
        before=None if found.before is None else HIDDEN,
        after=None if found.after is None else HIDDEN,
    )


def summary(before: Version | None, after: Version) -> str:
    """The same for a column: `code, +COLOR ~GREETING -OLD, command`. No values."""
    if before is None:
        return "the first"
    found = differences(before, after)
    names = [f"{each.sign}{each.name}" for each in found if each.area in SECRET - {Area.BUILDPACK_ENV}]
    keys = dict.fromkeys(each.name.split(".")[0] for each in found if each.area is Area.DEFINITION)
    code = ["code"] if any(each.area is Area.CODE and each.name == "artifact" for each in found) else []
    types = ["process types"] if any(each.area is Area.PROCESSES for each in found) else []
    return ", ".join([*code, *types, *([" ".join(names)] if names else []), *keys])


def _facts(version: Version | None) -> Mapping[tuple[Area, str], Any]:
    """All that there is to say of a version; what is None is not there."""
    if version is None:
        return {}
    code = {"commit": version.commit, **_of_artifact(version.artifact)}
    areas: Mapping[Area, Mapping[str, Any]] = {
        Area.CODE: code,
        Area.PROCESSES: version.artifact.process_types if version.artifact else {},
        Area.DEFINITION: dict(_flat(_of_definition(version.definition))),
        Area.ENV: version.definition.env,
        Area.SHARED_ENV: version.globals.get("Env") or {},
        Area.BUILDPACK_ENV: version.artifact.env if version.artifact else {},
        Area.PROVIDED: {
            **{f"{{{name}}}": value for name, value in version.provided.vars.items()},
            **version.provided.env,
        },
        Area.GLOBALS: dict(_sections(version.globals)),
    }
    return {
        (area, name): value
        for area, facts in areas.items()
        for name, value in facts.items()
        if value is not None
    }


def _sections(shared: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """All but variables; of resources each by itself."""
    for name, value in shared.items():
        if name == "Resources" and isinstance(value, Mapping):
            yield from ((f"{name}.{key}", each) for key, each in value.items())
        elif name != "Env":
            yield name, value


def _of_artifact(artifact: Artifact | None) -> Mapping[str, Any]:
    if artifact is None:
        return {}
    return {
        "artifact": artifact.reference,
        "buildpack": artifact.buildpack or None,
        "size": artifact.size or None,
        **{f"app.json {name}": value for name, value in _flat(to_json(artifact.manifest)) if value},
    }


def _of_definition(definition: Definition) -> Mapping[str, Any]:
    keys: dict[str, Any] = to_json(replace(definition, env={}, extra={}))
    del keys["env"], keys["extra"]
    keys["limits"] = {kind or "all": limits for kind, limits in keys["limits"].items()}
    extra: dict[str, Any] = to_json(definition.extra)
    if isinstance(ports := extra.pop("ports", None), Mapping):
        keys |= {f"ports.{name}" if name else "port": number for name, number in ports.items()}
    elif ports is not None:
        keys["ports"] = ports
    return {**keys, **extra}


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`health.path` for what lies deeper; the unnamed process type is called `web` where people read."""
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _flat(inner, f"{prefix}{name or 'web'}.")
        else:
            yield prefix + (name or "web"), inner
