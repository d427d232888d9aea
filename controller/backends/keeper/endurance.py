"""How well an instance stays up: how long it waits before its next start, and when that is a crash loop."""

LASTS = 60.0
"""Seconds that it must stay up for what came before not to count any more."""
LOOPS_AFTER = 5
"""So many ends without having lasted in between are a crash loop."""
FREE_STARTS = 2
"""So many ends are followed by a start without a pause of ours."""
LONGEST_PAUSE = 60.0
"""Seconds."""


class Endurance:
    """Counts the ends of one instance. Times are seconds of one clock."""

    def __init__(self) -> None:
        self._ends = 0
        self._began: float | None = None
        self.rests_until = 0.0
        """Before this it is not started again."""

    def began(self, now: float) -> None:
        self._began = now

    def ended(self, now: float) -> None:
        self._ends = 1 if self._has_lasted(now) else self._ends + 1
        self._began = None
        over = self._ends - FREE_STARTS
        self.rests_until = now + min(2.0**over, LONGEST_PAUSE) if over >= 0 else now

    def loops(self, now: float) -> bool:
        return self._ends >= LOOPS_AFTER and not self._has_lasted(now)

    def _has_lasted(self, now: float) -> bool:
        return self._began is not None and now - self._began >= LASTS
