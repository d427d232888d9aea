"""What a version has from plugins, and how it runs with that. Pure.

A version keeps its definition as people wrote it, `{NAME}` included, and beside it what the names stood for when
it was made. So no secret shows where the definition does, and going back to a version brings its values back.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from controller.environment import shared_env
from controller.servicefile.replace import braced_names, replaced_text
from controller.types import Definition, Provided, Version

ENTRYPOINT = "entrypoint"


def put_in(env: Mapping[str, str], names: Mapping[str, str]) -> Mapping[str, str]:
    """Variables with what the names stand for in their values."""
    if not names:
        return env
    return {name: replaced_text(value, names) for name, value in env.items()}


def named(definition: Definition, shared: Mapping[str, Any]) -> frozenset[str]:
    """Names that stand in braces somewhere in them."""
    return frozenset(name for text in _texts(definition, shared) for name in braced_names(text))


def used(definition: Definition, shared: Mapping[str, Any], names: Mapping[str, str]) -> Mapping[str, str]:
    """Those of the names that stand somewhere in them: what else changes is no change of theirs."""
    if not names:
        return {}
    said = named(definition, shared)
    return {name: value for name, value in names.items() if name in said}


def _texts(definition: Definition, shared: Mapping[str, Any]) -> Iterator[str]:
    yield from (each for each in (definition.command, definition.predeploy, definition.postdeploy) if each)
    yield from _entrypoint(definition)
    yield from definition.env.values()
    yield from shared_env(shared).values()


def _entrypoint(definition: Definition) -> Sequence[str]:
    words = definition.extra.get(ENTRYPOINT)
    return [each for each in words if isinstance(each, str)] if isinstance(words, list | tuple) else ()


def _extra(definition: Definition, names: Mapping[str, str]) -> Mapping[str, Any]:
    words = _entrypoint(definition)
    if not words or not names:
        return definition.extra
    return {**definition.extra, ENTRYPOINT: [replaced_text(each, names) for each in words]}


def effective(version: Version) -> Version:
    """The version as it runs. Not to be asked of what it has answered.

    Commands that run once for a version stay as they are: theirs are kept and told, so `run_spec` puts values in.
    """
    provided = version.provided
    if provided == Provided():
        return version
    definition = provided.definition or version.definition
    command = definition.command
    return replace(
        version,
        definition=replace(
            definition,
            command=None if command is None else replaced_text(command, provided.vars),
            extra=_extra(definition, provided.vars),
            env={**provided.env, **put_in(definition.env, provided.vars)},
        ),
        globals={**version.globals, "Env": put_in(shared_env(version.globals), provided.vars)},
    )
