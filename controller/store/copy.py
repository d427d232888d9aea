"""Copying all that one store holds into another, checked, and so that half a copy is never served."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from controller.store.base import Entry, Json, Store, StoreError, Write

UNFINISHED_KEY = "meta/unfinished-copy"
"""There while a copy is under way, and for ever where it was broken off: no server takes such a store."""
BATCH_WRITES = 100
BATCH_BYTES = 512 * 1024
"""How much goes into one transaction: less than any store takes. A single larger value goes alone."""


class CopyRefused(StoreError):
    """The copy can't be begun, or can't be trusted; the sentence says why."""


@dataclass(frozen=True)
class Copied:
    entries: int
    removed: int
    """Entries of the target that the source does not have."""
    revision: int
    """Of the source, at which all was read."""


async def copy_store(
    source: Store, target: Store, *, force: bool = False, progress: Callable[[int, int], None]
) -> Copied:
    """Make the target hold exactly what the source holds; `progress` gets what is done, and of how many.

    Values and keys are copied; revisions and history are each store's own, leases stay behind. Raises
    CopyRefused: for an empty source; for a target with content, unless `force`, which replaces it; when
    the source changed meanwhile, or the target is not equal in the end. Whatever is raised once writing
    has begun, the target stays marked as unfinished. No server may use either store.
    """
    entries, revision = await source.list("")
    there, _ = await target.list("")
    _check_begin(entries, there, force)

    await target.put(UNFINISHED_KEY, {"entries": len(entries)})
    wanted = {entry.key for entry in entries}
    gone = [entry.key for entry in there if entry.key not in wanted | {UNFINISHED_KEY}]
    done, total = 0, len(entries) + len(gone)
    for batch in _batches([*(Write(key, None) for key in gone), *(Write(e.key, e.value) for e in entries)]):
        await target.commit(batch)
        done += len(batch)
        progress(done, total)

    await _check_equal(source, target, revision, _content(entries))
    await target.delete(UNFINISHED_KEY)
    return Copied(len(entries), len(gone), revision)


def _check_begin(entries: Sequence[Entry], there: Sequence[Entry], force: bool) -> None:
    if not entries:
        raise CopyRefused("There is nothing to copy: the source is empty.")
    if UNFINISHED_KEY in _content(entries):
        raise CopyRefused("The source is itself a copy that was broken off: copy it anew from its origin.")
    if there and not force:
        broken_off = UNFINISHED_KEY in _content(there)
        raise CopyRefused(
            f"The target holds {len(there)} entries already"
            + (", left by a copy that was broken off." if broken_off else ".")
            + " --force replaces all of them."
        )


async def _check_equal(source: Store, target: Store, revision: int, content: Mapping[str, Json]) -> None:
    again, _ = await source.list("")
    if any(entry.revision > revision for entry in again) or len(again) != len(content):
        raise CopyRefused(
            "The source changed while it was copied: stop whatever writes to it, and copy anew."
        )
    found = _content((await target.list(""))[0])
    found.pop(UNFINISHED_KEY, None)
    if found != content:
        differing = [key for key in found.keys() | content.keys() if found.get(key) != content.get(key)]
        raise CopyRefused(
            f"The target is not equal to the source at {len(differing)} keys, {min(differing)!r} first. "
            "Does anything else write to it?"
        )


def _content(entries: Sequence[Entry]) -> dict[str, Json]:
    return {entry.key: entry.value for entry in entries}


def _batches(writes: Sequence[Write]) -> Iterator[Sequence[Write]]:
    batch, size = list[Write](), 0
    for write in writes:
        length = len(msgspec.json.encode(write.value)) + len(write.key.encode())
        if batch and (len(batch) == BATCH_WRITES or size + length > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(write)
        size += length
    yield batch
