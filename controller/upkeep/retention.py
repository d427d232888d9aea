"""Which versions may be forgotten, and which unpacked slugs are needed. Pure."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from controller.operations.versioning import was_live
from controller.types import Service, Version, VersionStatus


def surplus_versions(
    service: Service, versions: Sequence[Version], *, running: AbstractSet[int], keep: int
) -> Sequence[Version]:
    """Those beyond the newest `keep` that nothing needs, oldest first. `versions`: all, newest first.

    `running`: numbers of versions that instances or runs still are of.
    """
    needed = needed_versions(service, versions, running)
    older = versions[max(keep, 1) :]
    return [each for each in reversed(older) if each.number not in needed]


def needed_versions(
    service: Service, versions: Sequence[Version], running: AbstractSet[int]
) -> frozenset[int]:
    """What serves, what is wanted or on its way, what still runs, and what a rollback goes back to."""
    pending = {each.number for each in versions if each.status is VersionStatus.PENDING}
    wanted = {service.current, service.target, _previous(service, versions)} - {None}
    return frozenset(pending | wanted | running)  # type: ignore[arg-type]


def _previous(service: Service, versions: Sequence[Version]) -> int | None:
    """The newest that was live before what serves; None where none was."""
    before = service.current or service.latest + 1
    return next((each.number for each in versions if each.number < before and was_live(each)), None)
