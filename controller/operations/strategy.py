"""Reading the key `rollout` of a definition: plain values in, a checked one out. Pure."""

from collections.abc import Mapping
from typing import Any

from controller.errors import InvalidInput
from controller.operations.numbers import seconds, whole
from controller.types import Rollout, Strategy

OPTIONS = {
    Strategy.ALL_AT_ONCE: (),
    Strategy.ONE_BY_ONE: (),
    Strategy.BATCH: ("size",),
    Strategy.CANARY: ("share", "timeout"),
    Strategy.STOP_FIRST: (),
}
LONGEST_CANARY = 7 * 24 * 3600
"""Seconds: two versions side by side are no lasting state."""


def read_rollout(value: Any) -> Rollout:
    """`one-by-one`, or a mapping with the strategy and its options; null: the default. Raises InvalidInput."""
    if value is None:
        return Rollout()
    if isinstance(value, str):
        value = {"strategy": value}
    if not isinstance(value, Mapping):
        raise InvalidInput(
            "rollout", "rollout must be a strategy such as one-by-one, or {strategy: canary, share: 25}."
        )
    given = {str(key): each for key, each in value.items() if each is not None}
    strategy = _strategy(given.pop("strategy", None))
    if unknown := given.keys() - set(OPTIONS[strategy]):
        known = " and ".join(OPTIONS[strategy]) or "no options"
        raise InvalidInput("rollout", f"{strategy} knows {known}, not {min(unknown)[:60]!a}.")
    default = Rollout()
    return Rollout(
        strategy=strategy,
        size=whole("rollout.size", given.get("size", default.size), least=1, most=100),
        share=whole("rollout.share", given.get("share", default.share), least=1, most=100),
        timeout=seconds("rollout.timeout", given.get("timeout", default.timeout), most=LONGEST_CANARY),
    )


def _strategy(value: Any) -> Strategy:
    try:
        return Strategy(value)
    except ValueError:
        known = ", ".join(Strategy)
        raise InvalidInput("rollout", f"rollout.strategy must be one of {known}.") from None
