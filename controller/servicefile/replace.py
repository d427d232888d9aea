"""`{VAR}` in texts: known names are replaced, all other braces stay what they are.

{TAG}     the value of TAG
{{TAG}}   {TAG}: of more braces than one, one is taken away
${TAG}    the shell's, left alone
"""

import re
from collections.abc import Mapping, Set

from controller.servicefile.complaints import Complaint, Complaints, NotAServiceFile, shown
from controller.servicefile.tree import Branch, Entry, Row, Scalar, Tree

_BRACES = re.compile(r"(?<![${])(\{+)([A-Za-z_][A-Za-z0-9_]*)(\}+)")
MAX_TEXT = 1024**2
"""Characters of all texts that had braces in them, once their variables are put in."""


def replaced_text(text: str, variables: Mapping[str, str]) -> str:
    """The text with known variables put in, and what was escaped as it is meant."""

    def put_in(match: re.Match[str]) -> str:
        opening, name, closing = match.groups()
        if name not in variables:
            return match[0]
        if min(len(opening), len(closing)) > 1:
            return f"{opening[1:]}{name}{closing[1:]}"
        return f"{opening[1:]}{variables[name]}{closing[1:]}"

    return _BRACES.sub(put_in, text) if "{" in text else text


def escaped_text(text: str, names: Set[str]) -> str:
    """The text that `replaced_text` makes this one of, where the variables have these names."""
    if "{" not in text:
        return text
    return _BRACES.sub(lambda match: f"{{{match[0]}}}" if match[2] in names else match[0], text)


def braced_names(text: str) -> Set[str]:
    """Names that stand in single braces."""
    return {each[2] for each in _BRACES.finditer(text)} if "{" in text else set()


def replaced(tree: Tree, variables: Mapping[str, str], complaints: Complaints) -> Tree:
    """The tree with variables put into its texts and keys. What came of a variable is a text."""
    return _Replacer(variables, complaints).tree(tree)


class _Replacer:
    def __init__(self, variables: Mapping[str, str], complaints: Complaints) -> None:
        self._variables = variables
        self._complaints = complaints
        self._left = MAX_TEXT
        self._longest = max(map(len, variables.values()), default=0)

    def tree(self, tree: Tree) -> Tree:
        match tree:
            case Scalar():
                return self._scalar(tree)
            case Row():
                return Row(tree.place, tuple(map(self.tree, tree.items)))
            case Branch():
                return self._branch(tree)

    def _scalar(self, scalar: Scalar) -> Scalar:
        if not isinstance(scalar.value, str) or "{" not in scalar.text:
            return scalar
        most = len(scalar.text) + scalar.text.count("{") * self._longest
        text = replaced_text(scalar.text, self._variables) if most <= MAX_TEXT else ""
        self._left -= len(text)
        if self._left < 0 or most > MAX_TEXT:
            said = "Up to here, the texts with variables in them are larger than a service file may be."
            raise NotAServiceFile([Complaint(scalar.place, said)])
        return Scalar(scalar.place, text, text)

    def _branch(self, branch: Branch) -> Branch:
        entries = dict[str, Entry]()
        for entry in branch.entries.values():
            key = self._scalar(entry.key)
            if key.text in entries:
                self._complaints.error(
                    key.place, f"{shown(key.text)} is there twice once its variables are put in."
                )
            entries[key.text] = Entry(key, self.tree(entry.value))
        return Branch(branch.place, entries, branch.flow)
