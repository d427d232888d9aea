"""`Includes:`: one tree of several files. The including file wins, and later ones win over earlier ones."""

import posixpath
from collections.abc import Callable, Mapping, Sequence

from controller.errors import InvalidInput
from controller.servicefile.complaints import Complaint, Complaints, NotAServiceFile, shown
from controller.servicefile.tree import Branch, Entry, Row, Scalar, Tree, read_tree

INCLUDES = "Includes"
MAX_FILES = 100

Load = Callable[[str], str]
"""Gives the text of the file of that path; raises InvalidInput where it can't be read."""


def nothing_to_load(path: str) -> str:
    """The `Load` of where there are no files."""
    raise InvalidInput(
        INCLUDES,
        f"{path} can't be read here, as files of yours are not: deploy it by `moor` on your machine.",
    )


def read_whole(
    text: str, name: str, load: Load, complaints: Complaints, *, allowed: Sequence[str] = ()
) -> Branch:
    """The tree of a file with all that it includes, merged one level deep, without the key itself.

    Included files lie in the folder of `name`, or in one of `allowed`. Raises NotAServiceFile.
    """
    return _Merger(load, complaints, (posixpath.dirname(name), *allowed)).whole(text, (name,))


class _Merger:
    def __init__(self, load: Load, complaints: Complaints, folders: Sequence[str]) -> None:
        self._load = load
        self._complaints = complaints
        self._folders = [posixpath.normpath(each or ".") for each in folders]
        self._count = 0

    def whole(self, text: str, chain: tuple[str, ...]) -> Branch:
        tree = read_tree(text, chain[-1], self._complaints)
        if not isinstance(tree, Branch):
            said = "A service file is a mapping of services, as in `web: {image: nginx}`."
            raise NotAServiceFile([Complaint(tree.place, said)])
        own = dict(tree.entries)
        entry = own.pop(INCLUDES, None)
        base: Mapping[str, Entry] = {}
        for path in _paths(entry.value, self._complaints) if entry else ():
            if (found := self._included(path, chain)) is not None:
                base = _merged(base, found.entries)
        return Branch(tree.place, _merged(base, own))

    def _included(self, path: Scalar, chain: tuple[str, ...]) -> Branch | None:
        name = posixpath.normpath(posixpath.join(posixpath.dirname(chain[-1]), path.text))
        self._count += 1
        if not any(_is_below(name, each) for each in self._folders):
            self._complaints.error(
                path.place,
                f"{shown(path.text)} lies outside of the folder of the service file: put it below, "
                "or name its folder with --include-dir.",
            )
        elif name in map(posixpath.normpath, chain):
            whole = " includes ".join((*chain, name))
            self._complaints.error(path.place, f"The includes go in a circle: {whole}. Take one of them out.")
        elif self._count > MAX_FILES:
            raise NotAServiceFile([Complaint(path.place, f"More than {MAX_FILES} files are included.")])
        else:
            try:
                text = self._load(name)
            except InvalidInput as error:
                self._complaints.error(path.place, str(error))
            else:
                return self.whole(text, (*chain, name))
        return None


def _paths(tree: Tree, complaints: Complaints) -> Sequence[Scalar]:
    items = tree.items if isinstance(tree, Row) else (tree,)
    found = [each for each in items if isinstance(each, Scalar) and isinstance(each.value, str) and each.text]
    if len(found) != len(items):
        complaints.error(tree.place, "Includes takes paths, as in `Includes: [common.yml]`.")
    return found


def _is_below(name: str, folder: str) -> bool:
    if folder == ".":
        return not posixpath.isabs(name) and name != ".." and not name.startswith("../")
    return name.startswith(folder.rstrip("/") + "/")


def _merged(base: Mapping[str, Entry], own: Mapping[str, Entry]) -> Mapping[str, Entry]:
    """One level deep: keys of a service and names of a section are put together, what is below is replaced."""
    found = dict(base)
    for name, entry in own.items():
        before = found.get(name)
        if before and isinstance(before.value, Branch) and isinstance(entry.value, Branch):
            entries = {**before.value.entries, **entry.value.entries}
            found[name] = Entry(entry.key, Branch(entry.value.place, entries, entry.value.flow))
        else:
            found[name] = entry
    return found
