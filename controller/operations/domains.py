"""Domains of services: each belongs to one service of the whole server, the derived ones too."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from controller.domains import default_domain, domains_of
from controller.errors import Conflict, InvalidInput, NotFound
from controller.names import Address, check_domain
from controller.operations.access import Actor
from controller.operations.lookup import address_of, get_service
from controller.state import EventDraft, Put, State, put
from controller.types import Right
from controller.views import GuardChange

MAX_DOMAINS = 100
"""Of one service."""


def check_domain_is_free(state: State, asker: Actor, domain: str, address: Address, *, root: str) -> None:
    """Raise Conflict when a service other than `address` answers under `domain`.

    `root` is the setting `domain`, from which the default ones are derived. The owner is named to
    those who may view it.
    """
    owner = state.domain_owner(domain) or _owner_by_default(state, domain, root)
    if owner is None or owner == address:
        return
    known = asker.may(owner.deployment, Right.VIEW)
    raise Conflict(f"The domain {domain} is in use by {owner if known else 'another app'}.")


def _owner_by_default(state: State, domain: str, root: str) -> Address | None:
    if not domain.endswith(f".{root}"):
        return None
    for each in state.services():
        if default_domain(each.deployment, each.name, root) == domain:
            return address_of(each)
    return None


class DomainOperations:
    def __init__(self, state: State, *, root: str, wake: Callable[[], None]) -> None:
        self._state = state
        self._root = root
        self._wake = wake

    def list(self, asker: Actor, address: Address) -> Sequence[str]:
        """The default one first."""
        return domains_of(get_service(self._state, asker, address, Right.VIEW), self._root)

    async def change(
        self, asker: Actor, address: Address, *, add: Iterable[str] = (), remove: Iterable[str] = ()
    ) -> Sequence[str]:
        """All or nothing; what is there already, or is gone already, is left so.

        Raises Conflict when another service has one of `add`, NotFound when the service has not one of
        `remove`, InvalidInput for no valid domain and for removing the default one.
        """
        wanted = [check_domain(each) for each in add]
        unwanted = [check_domain(each) for each in remove]

        def decide() -> Iterator[Put | EventDraft]:
            service = get_service(self._state, asker, address, Right.OPERATE)
            default = default_domain(service.deployment, service.name, self._root)
            for domain in wanted:
                check_domain_is_free(self._state, asker, domain, address_of(service), root=self._root)
                check_own_domain(asker, domain, default, root=self._root)
            for domain in unwanted:
                if domain == default:
                    raise InvalidInput("domain", f"{domain} comes from the app's name and can't be removed.")
                if domain not in service.domains:
                    raise NotFound(f"{address_of(service)} has no domain {domain}.")
            added = tuple(
                each for each in dict.fromkeys(wanted) if each not in service.domains and each != default
            )
            kept = tuple(each for each in service.domains if each not in unwanted)
            if len(kept) + len(added) > MAX_DOMAINS:
                raise InvalidInput(
                    "domain", f"A service can have {MAX_DOMAINS} domains; use a wildcard for more."
                )
            guards = {each: guard for each, guard in service.guards.items() if each not in unwanted}
            changed = replace(service, domains=kept + added, guards=guards)
            if changed == service:
                return
            yield put(changed)
            yield EventDraft(
                kind="domains.changed",
                deployment=service.deployment,
                service=service.name,
                actor=asker.name,
                text=told_domains(added, unwanted),
                data={"added": list(added), "removed": unwanted},
            )

        await self._state.transact(decide)
        self._wake()
        return self.list(asker, address)


def check_own_domain(asker: Actor, domain: str, default: str | None, *, root: str) -> None:
    """Names at and below the server's own domain are those of apps that are yet to be made: whoever has
    one, or a wildcard that covers them, would get their requests. An app may have those below its own.
    Raises Forbidden."""
    if default is not None and (domain == default or domain.endswith(f".{default}")):
        return
    host = domain.removeprefix("*.")
    if f".{host}".endswith(f".{root}") or (host != domain and f".{root}".endswith(f".{host}")):
        asker.require_admin(f"give an app {domain}, as the server names apps below {root}")


def told_domains(
    added: Sequence[str], removed: Sequence[str], *, asking: Mapping[str, GuardChange] | None = None
) -> str:
    """In words, for the journal."""
    parts = [f"domains added: {', '.join(added)}"] if added else []
    parts += [f"domains removed: {', '.join(removed)}"] if removed else []
    parts += [f"password of {domain} {change}" for domain, change in (asking or {}).items()]
    return "; ".join(parts)
