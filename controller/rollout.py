"""What the record of a service says of the rollout that is under way, and the way back from it. Pure."""

from dataclasses import replace

from controller.environment import changed_names
from controller.types import Definition, Service, Strategy, Version


def is_rolling(service: Service) -> bool:
    """Whether something else is wanted than what serves: another version, or a restart of this one."""
    wanted, serves = goal_of(service), (service.current, service.current_generation)
    return service.target is not None and wanted != serves


def is_restart(service: Service) -> bool:
    """Whether that is a restart: nothing becomes of the version then, whatever comes of the rollout."""
    return is_rolling(service) and service.target == service.current


def goal_of(service: Service) -> tuple[int | None, int]:
    """Version and generation that are wanted."""
    return service.target, service.generation


def goal_text(service: Service) -> str:
    """What is wanted, in words: `v3`, or `the restart of v3`."""
    return f"the restart of v{service.target}" if is_restart(service) else f"v{service.target}"


def paused_text(service: Service) -> str:
    """What somebody has to decide while the rollout is held."""
    return (
        f"the rollout of {goal_text(service)} is paused: deploy:resume lets it go on, deploy:cancel ends it"
    )


def is_canary(service: Service, target: Version | None) -> bool:
    """Whether the rollout is that of a canary which nobody has promoted. `target`: the version wanted.

    Where nothing serves yet there is nothing to run beside.
    """
    return (
        is_rolling(service)
        and service.current is not None
        and target is not None
        and target.definition.rollout.strategy is Strategy.CANARY
        and service.promoted != goal_of(service)
    )


def returned(service: Service, target: Version | None, current: Version | None, reason: str) -> Service:
    """The service as it is wanted once its goal was given up: what serves is what is wanted again.

    What the version brought into its definition goes back too, so that `config` tells what is in effect
    and the next push does not fail for the same cause. What was staged is staged again.
    """
    definition = service.definition
    if target is not None and current is not None:
        definition = _given_back(definition, target, current.definition)
    return replace(
        service,
        target=service.current,
        generation=service.current_generation if service.current else service.generation,
        definition=definition,
        paused=False,
        promoted=(),
        rollout_failure=reason,
    )


def _given_back(now: Definition, given_up: Version, before: Definition) -> Definition:
    """`before`, but for what was staged before that version was made, or while it was on its way."""
    staged = {*given_up.staged, *changed_names(given_up.definition.env, now.env)}
    env = {name: value for name, value in before.env.items() if name not in staged}
    env |= {name: value for name, value in now.env.items() if name in staged}
    untouched = replace(now, env={}) == replace(given_up.definition, env={})
    return replace(before if untouched else now, env=env)
