"""Passwords of a service file → what is kept of them. Pure but for the salt."""

from collections.abc import Mapping

import router.types as routed
from controller.difference import HIDDEN
from controller.errors import InvalidInput
from controller.guards import routed_guards
from controller.names import Address
from controller.plugins.generate import Random
from controller.servicefile.document import DOMAINS
from controller.servicefile.domains import Asked
from controller.servicefile.replace import replaced_text
from controller.types import Guard, GuardMode
from controller.views import GuardChange
from router.guards import MAX_GUARDS, guards_text, password_hash

SALT = 16
"""Bytes."""


def guard_for(asked: Asked, before: Guard | None, secrets: Mapping[str, str], random: Random) -> Guard:
    """The same as before where the passwords are the same. `secrets`: what `{NAME}` in a password stands for.

    Raises InvalidInput."""
    if unsaid := [name for name, password in asked.passwords.items() if password == HIDDEN]:
        raise InvalidInput(
            DOMAINS, f"The password of {min(unsaid)} is given as {HIDDEN}: write the password itself."
        )
    salt = _salt_of(before) or random(SALT)
    users = {
        name: password_hash(routed.GuardMode(asked.mode), name, replaced_text(password, secrets), salt)
        for name, password in asked.passwords.items()
    }
    return Guard(mode=asked.mode, users=dict(sorted(users.items())))


def guard_changes(
    before: Mapping[str, Guard], after: Mapping[str, Guard], *, gone: frozenset[str]
) -> Mapping[str, GuardChange]:
    """By domain. `gone`: domains that lead there no more, of which there is nothing to tell."""
    changes = {
        domain: GuardChange.CHANGED if domain in before else GuardChange.SET
        for domain, guard in after.items()
        if before.get(domain) != guard
    }
    ended = {domain for domain in before if domain not in after and domain not in gone}
    return dict(sorted({**changes, **dict.fromkeys(ended, GuardChange.ENDED)}.items()))


def check_size(guards: Mapping[str, Guard], address: Address) -> None:
    """Raise InvalidInput for more than a router takes."""
    if len(guards_text(routed_guards(guards))) > MAX_GUARDS:
        raise InvalidInput(
            DOMAINS,
            f"{address}: its domains have more names and passwords than a router takes ({MAX_GUARDS} bytes): let fewer "
            "in, or use a wildcard.",
        )


def _salt_of(guard: Guard | None) -> str:
    if guard is None or guard.mode is not GuardMode.BASIC or not guard.users:
        return ""
    return next(iter(guard.users.values())).partition("$")[0]
