"""The one place where names that people choose are checked.

Everything that reaches a path, a unit name or a command line passed through here first.
"""

import re
from dataclasses import dataclass

from controller.errors import InvalidInput

MAX_NAME = 40
DEFAULT_SERVICE = "app"
"""The service meant when only the deployment is named (the convention of the first design)."""

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?")
_PROCESS_TYPE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HOST_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_TITLE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9@._+-]*[A-Za-z0-9])?")


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 60 else text[:57] + "...")


def check_name(text: str, field: str = "name") -> str:
    """Return `text` when it is fit to name a deployment or a service; raise InvalidInput otherwise."""
    if not _NAME.fullmatch(text) or len(text) > MAX_NAME or ".." in text:
        raise InvalidInput(
            field,
            f"{_shown(text)} is no valid {field}: use at most {MAX_NAME} lower-case letters, digits, "
            "'-' and '.', beginning and ending with a letter or digit.",
        )
    return text


def check_title(text: str, field: str = "name") -> str:
    """Return `text` when it is fit to name a user or an SSH key; raise InvalidInput otherwise."""
    if not _TITLE.fullmatch(text) or len(text) > 64:
        raise InvalidInput(
            field, f"{_shown(text)} is no valid {field}: use at most 64 letters, digits and any of @ . _ + -."
        )
    return text


def check_run_name(text: str) -> str:
    """Return `text` when it can be the id of a one-off, or the name of its process; raise InvalidInput otherwise."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", text):
        raise InvalidInput("run", f"{_shown(text)} is no one-off: write run.3, say. `run:list` lists them.")
    return text


def check_process_type(text: str) -> str:
    """Return `text` when it is fit to name a process type; raise InvalidInput otherwise."""
    if not _PROCESS_TYPE.fullmatch(text) or len(text) > MAX_NAME:
        raise InvalidInput(
            "process type",
            f"{_shown(text)} is no valid process type: use at most {MAX_NAME} letters, digits, '-' and '_'.",
        )
    return text


def check_env_name(text: str) -> str:
    """Return `text` when it is fit to name an environment variable; raise InvalidInput otherwise."""
    if not _ENV_NAME.fullmatch(text) or len(text) > 256:
        raise InvalidInput(
            "env",
            f"{_shown(text)} is no valid variable name: use letters, digits and '_', "
            "not beginning with a digit.",
        )
    return text


def check_domain(text: str) -> str:
    """Return the domain in lower case, or raise InvalidInput. A leading `*.` label is allowed."""
    domain = text.strip().rstrip(".").lower()
    labels = domain.split(".")
    if labels and labels[0] == "*" and len(labels) > 1:
        labels = labels[1:]
    if not domain or len(domain) > 253 or not all(_HOST_LABEL.fullmatch(label) for label in labels):
        raise InvalidInput(
            "domain",
            f"{_shown(text)} is no valid domain: use a host name such as www.example.org, "
            "without scheme, port or path (international names in their xn-- form).",
        )
    return domain


@dataclass(frozen=True)
class Address:
    """What a command is about: a service of a deployment, maybe one of its process types."""

    deployment: str
    service: str = DEFAULT_SERVICE
    process_type: str | None = None

    def __str__(self) -> str:
        text = self.deployment if self.service == DEFAULT_SERVICE else f"{self.deployment}/{self.service}"
        return text if self.process_type is None else f"{text}:{self.process_type}"


def parse_address(text: str) -> Address:
    """Read `DEPLOYMENT[/SERVICE][:TYPE]`; raise InvalidInput when any part is no valid name."""
    path, colon, process_type = text.partition(":")
    deployment, slash, service = path.partition("/")
    return Address(
        check_name(deployment, "app name"),
        check_name(service, "service name") if slash else DEFAULT_SERVICE,
        check_process_type(process_type) if colon else None,
    )


_INSTANCE_ID = re.compile(r"([0-9]+)-(?:(.+)-)?([0-9]+)")


def parse_instance_id(deployment: str, service: str, text: str) -> tuple[int, str, int] | None:
    """Version, process type and number of an instance of that service; None when it is no id of such a one."""
    prefix = f"{deployment}-{service}-"
    match = _INSTANCE_ID.fullmatch(text.removeprefix(prefix)) if text.startswith(prefix) else None
    return (int(match[1]), match[2] or "", int(match[3])) if match else None


def instance_id(deployment: str, service: str, version: int, process_type: str, number: int) -> str:
    """The name of one running copy; an unnamed process type ("") leaves its part out."""
    middle = f"{process_type}-" if process_type else ""
    return f"{deployment}-{service}-{version}-{middle}{number}"
