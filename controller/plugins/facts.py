"""What plugins are told: plain values of one moment, of one deployment."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.types import Definition, Deployment, Resource


@dataclass(frozen=True, kw_only=True)
class ServiceFacts:
    """A service as it is, or as it is about to be."""

    name: str
    definition: Definition
    live: bool = False
    """Whether a version of it serves, or did before it was stopped."""
    failure: str = ""
    """Why the last attempt to bring it up was given up; empty when it was not."""


@dataclass(frozen=True, kw_only=True)
class DeploymentFacts:
    """A deployment, and what of it others may wait for."""

    deployment: Deployment
    services: Mapping[str, ServiceFacts] = field(default_factory=dict)
    resources: Mapping[str, Resource] = field(default_factory=dict)
    """Without their values."""


@dataclass(frozen=True, kw_only=True)
class StartFacts:
    """An instance, or a one-off, that is about to start."""

    id: str
    deployment: str
    service: str
    version: int
    process_type: str
    command: str
    env: Mapping[str, str] = field(default_factory=dict)
    exposed: Mapping[str, str] = field(default_factory=dict)
    """Variable to `HOST:PORT`, where the service is that the definition names for it (`expose`)."""
