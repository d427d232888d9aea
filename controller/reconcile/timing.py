"""How long the steps of planning may take."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """How long things may take, in seconds; the settings of the same names."""

    drain_timeout: float = 30.0
    stop_grace: float = 30.0
    health_timeout: float = 60.0
    release_timeout: float = 900.0
