"""Values of a template's variables: how they are named, and files of them. Pure."""

import re
from collections.abc import Mapping

from controller.errors import InvalidInput
from controller.servicefile.complaints import Complaints, shown
from controller.servicefile.tree import Branch, Scalar, read_tree

DEPLOY_ID = "DEPLOY_ID"
"""The variable that stands for the deployment's name."""
PORT = "PORT"
"""Known in commands only: the shell puts it in, as it is chosen when an instance starts."""
STARTED = frozenset({PORT, "HOST"})
MAX_VALUE = 16 * 1024
"""Characters."""
MAX_VALUES = 1000
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


def check_variable(name: str, value: str = "") -> str:
    """The name; raises InvalidInput."""
    if not NAME.fullmatch(name):
        raise InvalidInput(
            "vars", f"The variable {shown(name)} must be of letters, digits and _: choose another name."
        )
    if name in STARTED | {DEPLOY_ID}:
        raise InvalidInput("vars", f"The variable {name} is given by the server: choose another name.")
    if len(value) > MAX_VALUE:
        raise InvalidInput("vars", f"The value of {name} is longer than {MAX_VALUE // 1024} KiB.")
    return name


def read_values(text: str, name: str) -> Mapping[str, str]:
    """What a file of values says, each as it was written; raises NotAServiceFile with every error."""
    complaints = Complaints()
    tree = read_tree(text, name, complaints)
    found = dict[str, str]()
    if not isinstance(tree, Branch):
        complaints.error(tree.place, "A file of values maps names to texts, as in `TAG: v2`.")
        complaints.raise_errors()
        return found
    for key, entry in tree.entries.items():
        if not isinstance(entry.value, Scalar) or entry.value.value is None:
            complaints.error(
                entry.value.place, f"The variable {shown(key)} must be a text: {key}: '' is none."
            )
            continue
        try:
            found[check_variable(key, entry.value.text)] = entry.value.text
        except InvalidInput as error:
            complaints.error(entry.key.place, str(error))
    complaints.raise_errors()
    return found
