"""What a service file says once its includes, variables and short forms are resolved."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ENV, DOMAINS, VARS = "Env", "Domains", "Vars"
SECTIONS = ("Env", "Domains", "Includes", "Vars", "Generate", "Exec", "Resources")
"""Globals that mean something to us."""


@dataclass(frozen=True, kw_only=True)
class Infra:
    """What an infrastructure file says of one deployment."""

    scale: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Service to process type to number of instances."""
    domains: Mapping[str, str] = field(default_factory=dict)
    """Domain to a service of the deployment."""


@dataclass(frozen=True, kw_only=True)
class ServiceFile:
    """What `deploy` sends to the server."""

    services: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Name to the keys of its definition, as `changed_definition` takes them."""
    globals: Mapping[str, Any] = field(default_factory=dict)
    """Sections of the whole deployment. `Env` is flat: what it says for one service is in that one's `env`."""
    infra: Infra | None = None
    """None: what the last one said of domains holds on, and nothing is scaled."""


def is_section(key: str) -> bool:
    """Whether a key of the file names a section of the whole deployment, and no service."""
    return key[:1].isupper()
