"""`app.json`: what the code itself says of how it is run. Pure.

Other hosts' form of it, as far as there is something here that it means; what means nothing here is left alone.
"""

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controller.errors import InvalidInput
from controller.formation import MAX_INSTANCES
from controller.names import check_process_type
from controller.operations.artifacts import MAX_COMMAND, MAX_JOBS
from controller.operations.checks import read_check
from controller.operations.definition import changed_env
from controller.operations.numbers import whole
from controller.operations.text import is_passable, one_line
from controller.schedules import check_schedule
from controller.servicefile.complaints import (
    Complaint,
    Complaints,
    NotAServiceFile,
    Place,
    did_you_mean,
    shown,
)
from controller.servicefile.places import Path, places_of
from controller.types import CronJob, HealthCheck, Manifest, Wish

APP_JSON = "app.json"
MAX_SIZE = 64 * 1024
"""Characters."""
MAX_DEPTH = 16
ATTEMPTS, TIMEOUT, WAIT = 3, 5.0, 5.0
"""What a health check has where it says less, in the form that is read here: tries, and seconds."""
KINDS = ("path", "command", "uptime")
ACTED_ON = frozenset(
    {"type", "name", "description", "attempts", "timeout", "wait", "initialDelay", "listening", *KINDS}
)
"""Keys of a health check that mean something here, or nothing anywhere."""
STARTUP = "startup"
LATER = {
    "liveness": "what ends is started again, and what hangs is not noticed.",
    "readiness": "what serves takes requests for as long as it can be connected.",
}
"""Types of checks of what serves already, which are read and not made: what is done in their place."""


@dataclass(frozen=True, kw_only=True)
class AppJson:
    """What one says."""

    formation: Mapping[str, int] = field(default_factory=dict)
    """Process type to how many there are at first."""
    manifest: Manifest = field(default_factory=Manifest)
    """What goes along with the code."""
    places: Mapping[str, Place] = field(default_factory=dict)
    """Where it asks for each variable."""
    notes: tuple[Complaint, ...] = ()
    """What of it is not acted on."""


def read_app_json(text: str, name: str = APP_JSON) -> AppJson:
    """Raises NotAServiceFile with every error that there is."""
    start, text = Place(name, 1, 1), text.removeprefix("\ufeff")
    if len(text) > MAX_SIZE:
        raise NotAServiceFile([Complaint(start, f"It is larger than {MAX_SIZE // 1024} KiB.")])
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        said = f"This is no valid JSON: {error.msg[:1].lower()}{error.msg[1:]}."
        raise NotAServiceFile([Complaint(Place(name, error.lineno, error.colno), said)]) from error
    except (ValueError, RecursionError) as error:
        raise NotAServiceFile([Complaint(start, "This is no valid JSON, or nested too deep.")]) from error
    if not isinstance(content, dict):
        raise NotAServiceFile([Complaint(start, 'An app.json is an object, such as {"env": {}}.')])
    places = places_of(text, name)
    if any(len(path) > MAX_DEPTH for path in places):
        raise NotAServiceFile([Complaint(start, f"It is nested more than {MAX_DEPTH} levels deep.")])
    return _Reader(content, places, start).read()


class _Reader:
    def __init__(self, content: Mapping[str, Any], places: Mapping[Path, Place], start: Place) -> None:
        self._content = content
        self._places = places
        self._start = start
        self._complaints = Complaints()

    def read(self) -> AppJson:
        env = dict(self._env())
        formation = dict(self._formation())
        manifest = Manifest(
            env=env,
            predeploy=self._script("dokku", "predeploy"),
            postdeploy=self._script("dokku", "postdeploy"),
            first_postdeploy=self._script("postdeploy"),
            checks=dict(self._checks()),
            cron=tuple(self._cron()),
        )
        if self._content.get("addons"):
            self._warn("addons are not made by a push: they are resources of the deployment.", "addons")
        self._complaints.raise_errors()
        return AppJson(
            formation=formation,
            manifest=manifest,
            places={name: self._place("env", name) for name in env},
            notes=tuple(self._complaints.warnings),
        )

    # Variables

    def _env(self) -> Iterator[tuple[str, Wish]]:
        for name, given in self._entries(self._content.get("env"), '{"COLOR": {"value": "blue"}}', "env"):
            path = ("env", name)
            wish = {"value": given} if isinstance(given, str) else given
            if not isinstance(wish, Mapping):
                self._error(f'{shown(name)} must be a text, or an object such as {{"value": "x"}}.', *path)
                continue
            value, required = wish.get("value"), wish.get("required", True)
            if isinstance(value, bool | int | float):
                value = json.dumps(value)
            if value is not None and not isinstance(value, str):
                self._error(f"The value of {shown(name)} must be a text.", *path, "value")
            elif not isinstance(required, bool):
                self._error(f"{shown(name)}: required must be true or false.", *path, "required")
            elif wish.get("generator") not in (None, "secret"):
                self._error(
                    f'{shown(name)}: the only generator that is known is "secret".', *path, "generator"
                )
            elif self._fits(path, changed_env, {}, put={name: value or ""}, drop=()):
                if wish.get("sync"):
                    self._warn(f"{name}: sync means nothing here: what is set stays.", *path, "sync")
                yield (
                    name,
                    Wish(
                        value=value,
                        secret=wish.get("generator") is not None,
                        required=required,
                        description=one_line(str(wish.get("description") or ""), 200),
                    ),
                )

    # Processes

    def _formation(self) -> Iterator[tuple[str, int]]:
        for kind, given in self._entries(
            self._content.get("formation"), '{"web": {"quantity": 2}}', "formation"
        ):
            path = ("formation", kind)
            if not isinstance(given, Mapping):
                self._error(f'{shown(kind)} must be an object such as {{"quantity": 2}}.', *path)
            elif self._fits(path, check_process_type, kind) and "quantity" in given:
                quantity, what = given["quantity"], f"formation.{kind}.quantity"
                if self._fits((*path, "quantity"), whole, what, quantity, least=0, most=MAX_INSTANCES):
                    yield kind, quantity

    def _script(self, *path: str) -> str | None:
        place: Path = ("scripts",)
        value: Any = self._content.get("scripts")
        for name in path:
            if value is None:
                return None
            if not isinstance(value, Mapping):
                self._error(f'{place[-1]} must be an object such as {{"{name}": "…"}}.', *place)
                return None
            place, value = (*place, name), value.get(name)
        if value is None:
            return None
        return self._command(value, f"scripts.{'.'.join(path)}", *place)

    def _command(self, value: Any, what: str, *path: str | int) -> str | None:
        fits = isinstance(value, str) and value.strip() and is_passable(value) and len(value) <= MAX_COMMAND
        if not fits:
            self._error(f"{what} must be a shell line of at most {MAX_COMMAND} characters, not empty.", *path)
        return value if fits else None

    def _cron(self) -> Iterator[CronJob]:
        given = self._content.get("cron")
        if given is None:
            return
        if not isinstance(given, list) or len(given) > MAX_JOBS:
            self._error('cron must be a list such as [{"command": "…", "schedule": "0 3 * * *"}].', "cron")
            return
        for at, each in enumerate(given):
            if not isinstance(each, Mapping):
                self._error("A job has a command and a schedule.", "cron", at)
                continue
            command = self._command(each.get("command"), "The command of a job", "cron", at, "command")
            try:
                schedule = check_schedule(str(each.get("schedule", "")), "The schedule of a job")
            except InvalidInput as error:
                self._error(str(error), "cron", at, "schedule")
                continue
            if command:
                yield CronJob(command=command, schedule=schedule)

    # Health checks

    def _checks(self) -> Iterator[tuple[str, HealthCheck]]:
        for kind, given in self._entries(
            self._content.get("healthchecks"), '{"web": [{"type": "startup", "path": "/up"}]}', "healthchecks"
        ):
            path = ("healthchecks", kind)
            if not isinstance(given, list) or not all(isinstance(each, Mapping) for each in given):
                self._error(f"{shown(kind)} must be a list of checks.", *path)
            elif self._fits(path, check_process_type, kind):
                check = self._startup(kind, given)
                if check is not None:
                    yield kind, check

    def _startup(self, kind: str, given: Sequence[Mapping[str, Any]]) -> HealthCheck | None:
        """The first that is one, and does more than to connect where there are several."""
        path = ("healthchecks", kind)
        startup = [at for at, each in enumerate(given) if each.get("type", STARTUP) == STARTUP]
        for at, each in enumerate(given):
            if at not in startup:
                self._tell_of_other(kind, each.get("type"), *path, at)
        if not startup:
            return None
        first = next((at for at in startup if any(each in given[at] for each in KINDS)), startup[0])
        if len(startup) > 1:
            self._warn(f"There is one check at the start for {kind}, of several: this one.", *path, first)
        check = given[first]
        if more := sorted(check.keys() - ACTED_ON):
            self._warn(f"Nothing here acts on {', '.join(map(shown, more))}.", *path, first, more[0])
        try:
            return read_check(dict(_our_check(check)), f"healthchecks.{kind}")
        except InvalidInput as error:
            self._error(str(error), *path, first)
            return None

    def _tell_of_other(self, kind: str, type_: Any, *path: str | int) -> None:
        if type_ in LATER:
            self._warn(
                f"The {type_} check of {kind} is not made: {LATER[type_]} Only checks at the start (startup) are.",
                *path,
            )
        else:
            near = did_you_mean(str(type_), (STARTUP, *LATER))
            self._warn(f"{shown(str(type_))} is no type of check that is known here.{near}", *path, "type")

    # All

    def _entries(self, given: Any, example: str, name: str) -> Iterator[tuple[str, Any]]:
        if isinstance(given, Mapping):
            yield from given.items()
        elif given is not None:
            self._error(f"{name} must be an object such as {example}.", name)

    def _fits(self, path: Path, check: Callable[..., object], *given: Any, **named: Any) -> bool:
        """Whether the check takes it; complains where it does not."""
        try:
            check(*given, **named)
        except InvalidInput as error:
            self._error(str(error), *path)
            return False
        return True

    def _place(self, *path: str | int) -> Place:
        """Where that is, or what it would be in."""
        return next(
            (self._places[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self._places),
            self._start,
        )

    def _error(self, text: str, *path: str | int) -> None:
        self._complaints.error(self._place(*path), text)

    def _warn(self, text: str, *path: str | int) -> None:
        self._complaints.warn(self._place(*path), text)


def _our_check(check: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """In our own form. What has another form than it should is left to who reads that."""
    for key in KINDS:
        if key in check:
            value = check[key]
            is_words = isinstance(value, list) and all(isinstance(each, str) for each in value)
            yield key, shlex.join(value) if key == "command" and is_words else value
    times = [check.get("attempts", ATTEMPTS), check.get("timeout", TIMEOUT), check.get("wait", WAIT)]
    times += [check.get("initialDelay", 0), check.get("uptime", 0)]
    if all(isinstance(each, int | float) and not isinstance(each, bool) for each in times):
        attempts, timeout, wait, delay, uptime = times
        if check.keys() & {"attempts", "timeout", "wait", "initialDelay"}:
            yield "timeout", delay + attempts * (timeout + wait) + uptime
    else:
        yield "timeout", "attempts, timeout, wait and initialDelay"
