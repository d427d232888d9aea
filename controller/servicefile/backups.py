"""When what a service file names is backed up by itself: `backup` of a volume, and what it changes. Pure.

A schedule is no content of a version: it is taken out of a service's keys before they become a definition.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from controller.errors import InvalidInput
from controller.operations.backupplans import (
    KEEP,
    WantedBackups,
    read_backups,
    wanted_of,
)
from controller.plugins.exec import KIND as EXEC_KIND
from controller.plugins.resources import SECTION as RESOURCES
from controller.plugins.resources import declared, is_unmade
from controller.types import BackupPlan, Deployment, Resource
from controller.views import Area, Difference

VOLUMES, PATH, BACKUP = "volumes", "path", "backup"
_KEYS = (PATH, BACKUP)


def parted(keys: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, WantedBackups]]:
    """The keys of a service with volumes in their short form, `{data: /srv/data}`, and volume to what its long form
    says of backups. Raises InvalidInput, whose field is `volumes.NAME.backup` and so on."""
    volumes = keys.get(VOLUMES)
    if not isinstance(volumes, Mapping):
        return keys, {}
    found = {str(name): _parted(str(name), value) for name, value in volumes.items()}
    said = {name: backup for name, (_, backup) in found.items() if backup is not None}
    return {**keys, VOLUMES: {name: path for name, (path, _) in found.items()}}, said


def joined(volumes: Mapping[str, Any], said: Mapping[str, WantedBackups]) -> Mapping[str, Any]:
    """What `parted` makes the same of again."""
    return {
        name: {PATH: path, BACKUP: _written(said[name])} if name in said else path
        for name, path in volumes.items()
    }


def _parted(name: str, value: Any) -> tuple[Any, WantedBackups | None]:
    if not isinstance(value, Mapping):
        return value, None
    if unknown := [str(each) for each in value if each not in _KEYS]:
        raise InvalidInput(
            f"{VOLUMES}.{name}.{unknown[0]}",
            f"The volume {name[:60]}: {unknown[0][:60]!a} is unknown. Known are {', '.join(_KEYS)}.",
        )
    if not isinstance(value.get(PATH), str):
        raise InvalidInput(
            f"{VOLUMES}.{name}", f"The volume {name[:60]}: path is missing, as in {{path: /srv/data}}."
        )
    if value.get(BACKUP) is None:
        return value[PATH], None
    try:
        return value[PATH], read_backups(value[BACKUP])
    except InvalidInput as error:
        field = f"{VOLUMES}.{name}.{BACKUP}.{error.field}".rstrip(".")
        raise InvalidInput(field, f"The volume {name[:60]}: {error}") from error


def _written(backup: WantedBackups) -> Any:
    if (backup.keep, backup.days) == (KEEP, 0):
        return backup.schedule
    days = {"days": backup.days} if backup.days else {}
    return {"schedule": backup.schedule, "keep": backup.keep, **days}


def changes_of_volumes(
    before: Mapping[str, BackupPlan], said: Mapping[str, WantedBackups]
) -> tuple[Difference, ...]:
    """What becomes of those of a service by a file that says this of its volumes."""
    old = {name: wanted_of(plan) for name, plan in before.items()}
    left = {name: wanted_of(_left(plan)) for name, plan in before.items()}
    return _changes(old, {**left, **said})


def _changes(
    before: Mapping[str, WantedBackups | None], after: Mapping[str, WantedBackups | None]
) -> tuple[Difference, ...]:
    return tuple(
        Difference(area=Area.BACKUPS, name=name, before=_text(before.get(name)), after=_text(after.get(name)))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    )


def changes_of_resources(
    before: Deployment, after: Deployment, there: Mapping[str, Resource]
) -> tuple[Difference, ...]:
    """What becomes of those of resources; of one that is yet to be made, what the section said and says of it."""
    old, new = (
        {name: each.backup for name, each in declared(deployment.globals.get(RESOURCES)).items()}
        for deployment in (before, after)
    )
    for name, resource in there.items():
        if not has_backups(resource):
            old[name] = new[name] = None
        elif not is_unmade(resource):
            old[name] = wanted_of(resource.backup)
            new[name] = new.get(name) or wanted_of(_left(resource.backup))
    return _changes(old, new)


def notes_on_resources(deployment: Deployment, there: Mapping[str, Resource]) -> Iterator[str]:
    """What people should know of schedules of which nothing comes."""
    for name, wanted in declared(deployment.globals.get(RESOURCES)).items():
        if wanted.backup is not None and name in there and not has_backups(there[name]):
            yield f"{name} is kept elsewhere: it is backed up there, and `backup` of the file does nothing here."


def has_backups(resource: Resource) -> bool:
    """Whether the server backs it up, or will once it is made."""
    return resource.kind != EXEC_KIND and not resource.settings.get("external")


def _left(plan: BackupPlan | None) -> BackupPlan | None:
    """What stays of it where a file says nothing."""
    return None if plan is None or plan.filed else plan


def _text(wanted: WantedBackups | None) -> str | None:
    return None if wanted is None else str(wanted)
