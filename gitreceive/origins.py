"""What a commit of ours was made of, where somebody sent an archive of a commit of their own: the last line of its
message. Who pushes the history with that commit builds upon it, although git does not see that."""

import re

from dulwich.objects import Commit, ObjectID
from dulwich.repo import Repo

_LINE = re.compile(rb"\ASource from [^\n]*\n\nOrigin: ([0-9a-f]{40}|[0-9a-f]{64})(?::[^\n]*)?\n?\Z")


def with_origin(message: str, origin: str) -> str:
    """`origin`: as in `Version.origin`; empty: it is not known."""
    return f"{message}\n\nOrigin: {origin}\n" if origin else f"{message}\n"


def origin_of(repository: Repo, commit: bytes) -> str | None:
    """The sender's commit; None: it is no commit of ours, or not known of what it was made."""
    try:
        found = repository[ObjectID(commit)]
    except KeyError:
        return None
    match = _LINE.match(found.message) if isinstance(found, Commit) else None
    return match[1].decode() if match else None
