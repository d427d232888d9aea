"""The infrastructure file: how many run of each service and which domains lead there, deployment by deployment. Pure.

production:
    scale: {website: {web: 3, worker: 2}, redis: 1}
    domains: {example.org: website}
staging:
    domains: {staging.example.org: website}
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from controller.errors import InvalidInput
from controller.formation import MAX_INSTANCES
from controller.names import check_name, check_process_type
from controller.operations.numbers import whole
from controller.servicefile.complaints import Complaints, Place, did_you_mean, shown
from controller.servicefile.document import Infra
from controller.servicefile.domains import read_domains
from controller.servicefile.tree import Branch, Entry, Scalar, Tree, plain, read_tree

FIELD = "infra"
SCALE, DOMAINS = "scale", "domains"
MAIN = "web"
"""The process type that a number alone is about; it stands for the unnamed one too."""


def read_infra(text: str, *, name: str, deployment: str) -> Infra:
    """What the file says of that deployment; raises NotAServiceFile with every error that there is."""
    complaints = Complaints()
    tree = read_tree(text, name, complaints)
    entries = dict(_Reader(complaints, deployment).entries(tree, "deployments", "production: {scale: …}"))
    found = dict[str, Infra]()
    for each, entry in entries.items():
        found[each] = _Reader(complaints, each).infra(entry)
    if deployment not in found:
        known = f"It knows {', '.join(map(shown, entries))}." if entries else "There is nothing in it."
        complaints.error(
            Place(name, 1, 1), f"It says nothing of {deployment}. {known}{did_you_mean(deployment, entries)}"
        )
    complaints.raise_errors()
    return found[deployment]


def check_infra(infra: Infra, deployment: str) -> Infra:
    """The same with domains in small letters; raises InvalidInput."""
    for service, types in infra.scale.items():
        check_name(service, "service name")
        for kind, quantity in types.items():
            check_process_type(kind)
            whole(f"{FIELD}.{service}.{kind}", quantity, least=0, most=MAX_INSTANCES)
    domains = dict[str, str]()
    for domain, target in read_domains(infra.domains, deployment).items():
        if target.asks is not None:
            raise InvalidInput(
                FIELD,
                f"{domain}: auth is said in the section Domains of the service file, and holds here too.",
            )
        if target.address is None or target.address.deployment != deployment:
            raise InvalidInput(FIELD, f"{domain} must lead to a service of {deployment}, by its name.")
        domains[domain] = target.address.service
    return Infra(scale=infra.scale, domains=domains)


class _Reader:
    """Reads what is said of one deployment."""

    def __init__(self, complaints: Complaints, deployment: str) -> None:
        self._complaints = complaints
        self._deployment = deployment

    def infra(self, entry: Entry) -> Infra:
        self._check(entry.key.place, check_name, self._deployment, "app name")
        scale, domains = dict[str, Mapping[str, int]](), dict[str, str]()
        for key, each in self.entries(entry.value, self._deployment, "{scale: {website: 2}}"):
            if key == SCALE:
                scale.update(self._scale(each.value))
            elif key == DOMAINS:
                domains.update(self._domains(each.value))
            else:
                near = did_you_mean(key, (SCALE, DOMAINS))
                said = f"{shown(key)} is nothing that an infrastructure file says: it has scale and domains.{near}"
                self._complaints.error(each.key.place, said)
        return Infra(scale=scale, domains=domains)

    def _scale(self, tree: Tree) -> Iterator[tuple[str, Mapping[str, int]]]:
        for service, entry in self.entries(tree, SCALE, "{website: 2} or {website: {web: 2, worker: 1}}"):
            types: Mapping[str, Tree] | None = (
                {MAIN: entry.value} if isinstance(entry.value, Scalar) else None
            )
            if types is None:
                types = {
                    kind: each.value
                    for kind, each in self.entries(entry.value, service, "{web: 2, worker: 1}")
                }
            given = {kind: plain(each) for kind, each in types.items()}
            if self._check(entry.key.place, check_infra, Infra(scale={service: given}), self._deployment):
                yield service, given

    def _domains(self, tree: Tree) -> Iterator[tuple[str, str]]:
        for domain, entry in self.entries(tree, DOMAINS, "{example.org: website}"):
            one = Infra(domains={domain: plain(entry.value)})
            if self._check(entry.key.place, check_infra, one, self._deployment):
                yield from check_infra(one, self._deployment).domains.items()

    def entries(self, tree: Tree, what: str, example: str) -> Sequence[tuple[str, Entry]]:
        if isinstance(tree, Branch):
            return list(tree.entries.items())
        if not isinstance(tree, Scalar) or tree.value is not None:
            self._complaints.error(tree.place, f"{shown(what)} must be a mapping, as in {example}.")
        return ()

    def _check(self, place: Place, check: Any, *given: Any) -> bool:
        try:
            check(*given)
        except InvalidInput as error:
            self._complaints.error(place, str(error))
            return False
        return True
