"""From the text of a service file to what it says, with all that is wrong with it and where."""

import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.errors import InvalidInput
from controller.names import check_name
from controller.operations.backupplans import WantedBackups
from controller.operations.definition import changed_definition
from controller.plugins.exec import SECTION as EXEC
from controller.plugins.exec import read_exec
from controller.plugins.generate import SECTION as GENERATE
from controller.plugins.generate import read_generate
from controller.plugins.resources import EXAMPLE, read_resources
from controller.plugins.resources import SECTION as RESOURCES
from controller.servicefile.backups import VOLUMES, joined, parted
from controller.servicefile.complaints import Complaint, Complaints, Place, did_you_mean, shown
from controller.servicefile.document import DOMAINS, ENV, SECTIONS, VARS, ServiceFile, is_section
from controller.servicefile.domains import AUTH, CERTIFICATE, HTTP, OPTIONS, read_domains
from controller.servicefile.includes import Load, nothing_to_load, read_whole
from controller.servicefile.keys import (
    KEPT,
    KNOWN,
    OF_CODE,
    OF_IMAGES,
    SHORT,
    canonical,
    check_wan_map,
    twice,
)
from controller.servicefile.replace import braced_names, replaced, replaced_text
from controller.servicefile.tree import Branch, Entry, Scalar, Tree, plain
from controller.servicefile.values import DEPLOY_ID, NAME, PORT, STARTED, check_variable
from controller.types import Definition

_SHELL_PORT = "${PORT}"
KEPT_TEXT = "is kept for plugins; nothing here acts on it yet"
HINTS = {"scale": "how many run is no part of the file: `ps:scale`", "domains": "write a section Domains"}


@dataclass(frozen=True, kw_only=True)
class Reading:
    file: ServiceFile
    warnings: tuple[Complaint, ...] = ()


def read_servicefile(
    text: str,
    *,
    name: str = "Servicefile",
    deployment: str = "deployment",
    variables: Mapping[str, str] | None = None,
    load: Load = nothing_to_load,
    allowed: Sequence[str] = (),
) -> Reading:
    """What the file says for that deployment; raises NotAServiceFile with every error that there is.

    `variables` win over the file's own `Vars`. `load` reads what it includes, from its own folder and from
    `allowed`.
    """
    complaints = Complaints()
    tree = read_whole(text, name, load, complaints, allowed=allowed)
    known = _variables(tree, {**(variables or {}), DEPLOY_ID: deployment}, complaints)
    sections, services = _parted(tree, known, complaints)
    file = _Reader(complaints, deployment, known).file(sections, services)
    if not tree.entries and not complaints.errors:
        complaints.error(tree.place, "There is nothing in it: write services, as in `web: {image: nginx}`.")
    complaints.raise_errors()
    return Reading(file=file, warnings=tuple(complaints.warnings))


def _variables(tree: Branch, given: Mapping[str, str], complaints: Complaints) -> Mapping[str, str]:
    """Those of the file, with those that were given put in and in their place."""
    entry = tree.entries.get(VARS)
    if entry is None:
        return given
    section = replaced(entry.value, given, complaints)
    if not isinstance(section, Branch):
        complaints.error(section.place, "Vars must map names to texts, as in {TAG: v1}.")
        return given
    found = dict[str, str]()
    for name, each in section.entries.items():
        try:
            check_variable(name)
        except InvalidInput as error:
            complaints.error(each.key.place, str(error))
            continue
        if not isinstance(each.value, Scalar):
            complaints.error(
                each.value.place, f"The variable {name} must be a text.{_brace_hint(each.value)}"
            )
        elif each.value.value is not None:
            found[name] = each.value.text
        elif name not in given:
            complaints.error(
                each.key.place,
                f"The variable {name} has no value here: give it one by --var {name}=…, by a file of --values, or "
                f"keep one for the deployment with vars:set {name}=….",
            )
    return {**found, **given}


def _parted(
    tree: Branch, variables: Mapping[str, str], complaints: Complaints
) -> tuple[Mapping[str, Entry], Mapping[str, Entry]]:
    """Sections and services, with variables put in below their names."""
    sections, services = dict[str, Entry](), dict[str, Entry]()
    for name, entry in tree.entries.items():
        if name != VARS:
            value = replaced(entry.value, variables, complaints)
            (sections if is_section(name) else services)[name] = Entry(entry.key, value)
    return sections, services


class _Reader:
    def __init__(self, complaints: Complaints, deployment: str, known: Mapping[str, str]) -> None:
        """`known`: the variables, which were put in already."""
        self._known = known
        self._complaints = complaints
        self._deployment = deployment
        self._kept = defaultdict[str, list[Place]](list)
        """Key that is kept for plugins to where it stands."""
        self._env = dict[str, dict[str, str]]()
        """Service to what the section Env says for it alone."""
        self._env_places = dict[str, Place]()
        self._commands = list[str]()
        """Names of the section Exec."""
        self._resources = dict[str, Place]()
        """Those of the section Resources."""
        self._required = list[tuple[str, Place]]()
        self._exposed = list[tuple[str, Place]]()
        self._places_of_exposed = dict[str, Place]()

    def file(self, sections: Mapping[str, Entry], services: Mapping[str, Entry]) -> ServiceFile:
        shared = {name: self._section(name, entry) for name, entry in sections.items()}
        named = self._named(services)
        for name in self._env.keys() - named.keys():
            said = f"Env has values for {shown(name)}, which is no service here.{did_you_mean(name, named)}"
            self._complaints.error(self._env_places[name], said)
        for name, place in self._resources.items():
            if name in named or name in self._commands:
                what = "a service" if name in named else "a command of Exec"
                self._complaints.error(place, f"{shown(name)} is {what} too: give the resource another name.")
        found = {name: self._service(name, *each) for name, each in named.items()}
        self._tell_what_is_kept(found)
        return ServiceFile(
            services=found, globals={name: each for name, each in shared.items() if each is not None}
        )

    # Sections

    def _section(self, name: str, entry: Entry) -> Any:
        if name == ENV:
            return self._shared_env(entry.value) or None
        if name == DOMAINS:
            return self._domains(entry.value)
        if name == GENERATE:
            self._check_generate(entry.value)
        if name == EXEC:
            self._check_exec(entry.value)
        if name == RESOURCES:
            self._check_resources(entry.value)
        if name not in SECTIONS:
            near = did_you_mean(name, SECTIONS)
            if isinstance(entry.value, Branch) and set(entry.value.entries) & set(KNOWN):
                near = " A service has a name of small letters."
            self._complaints.warn(
                entry.key.place,
                f"{shown(name)} is no section that is known here.{near} It {KEPT_TEXT}.",
                about=name,
            )
        return plain(entry.value)

    def _shared_env(self, tree: Tree) -> Mapping[str, str]:
        found, before = dict[str, str](), len(self._complaints.errors)
        for name, entry in self._entries(tree, "Env must map names to values, or services to such mappings."):
            if isinstance(entry.value, Branch) and not _brace_hint(entry.value):
                self._env[name] = dict(self._variables(entry.value, f"Env.{name}"))
                self._env_places[name] = entry.key.place
            else:
                found.update(self._variables(Branch(tree.place, {name: entry}), ENV))
        if len(self._complaints.errors) == before:  # of each variable was told already
            self._check(tree.place, {"env": found})
        return found

    def _domains(self, tree: Tree) -> Any:
        for name, entry in self._entries(
            tree, "Domains must map domains to services, as in {example.org: {http: shop:app}}."
        ):
            if isinstance(entry.value, Branch):
                self._check_options(entry.value)
            try:
                read_domains({name: _options(entry.value)}, self._deployment)
            except InvalidInput as error:
                hint = _brace_hint(entry.value) or _password_hint(entry.value)
                self._complaints.error(entry.key.place, f"{error}{hint}")
        if not isinstance(tree, Branch):
            return None
        found = {name: _options(entry.value) for name, entry in tree.entries.items()}
        return {name: {HTTP: each} if isinstance(each, str) else each for name, each in found.items()}

    def _check_generate(self, tree: Tree) -> None:
        if not isinstance(tree, Branch):
            self._complaints.error(tree.place, "Generate must map names to sizes, as in {Secret: {hex: 32}}.")
            return
        for name, entry in tree.entries.items():
            if name in self._known:
                self._complaints.error(
                    entry.key.place, f"{shown(name)} is a variable already: choose another name."
                )
            try:
                read_generate({name: plain(entry.value)})
            except InvalidInput as error:
                self._complaints.error(_spot(entry), str(error))

    def _check_exec(self, tree: Tree) -> None:
        for name, entry in self._entries(
            tree, "Exec must map names to commands, as in {Init: {service: web, cmd: ./init}}."
        ):
            try:
                (order,) = read_exec({name: plain(entry.value)}).values()
            except InvalidInput as error:
                self._complaints.error(_spot(entry), str(error))
            else:
                self._commands.append(name)
                self._required += [(each, entry.key.place) for each in (*order.require, order.service)]

    def _check_resources(self, tree: Tree) -> None:
        for name, entry in self._entries(tree, EXAMPLE):
            try:
                (wanted,) = read_resources({name: plain(entry.value)}).values()
            except InvalidInput as error:
                below = error.field.removeprefix(f"{RESOURCES}.{name}")
                self._complaints.error(_spot(_within(entry, below)), f"{error}{_brace_hint(entry.value)}")
            else:
                self._resources[name] = entry.key.place
                self._required += [(each, entry.key.place) for each in wanted.attach or ()]

    def _check_options(self, options: Branch) -> None:
        for name, entry in options.entries.items():
            if name not in OPTIONS:
                near = did_you_mean(name, OPTIONS)
                self._complaints.warn(
                    entry.key.place, f"{shown(name)} is no option of a domain.{near} It {KEPT_TEXT}."
                )
            elif name in CERTIFICATE:
                self._complaints.warn(entry.key.place, f"{name} {KEPT_TEXT}.")

    # Services

    def _named(self, services: Mapping[str, Entry]) -> Mapping[str, tuple[Entry, str | None]]:
        """Name to the entry, and the image where the entry's key is one."""
        found = dict[str, tuple[Entry, str | None]]()
        for key, entry in services.items():
            image = key if "/" in key or ":" in key else None
            name = image_name(key) if image else key
            if key.capitalize() in SECTIONS:
                near = f"{shown(key)} is read as a service, as it begins with a small letter."
                self._complaints.warn(entry.key.place, f"{near} Did you mean {key.capitalize()}?")
            try:
                check_name(name, "service name")
            except InvalidInput as error:
                self._complaints.error(entry.key.place, str(error))
                continue
            if name in found:
                first = found[name][0].key.place
                self._complaints.error(
                    entry.key.place, f"The service {name} is there twice, first in {first.file}:{first.line}."
                )
                continue
            found[name] = (entry, image)
        return found

    def _service(self, name: str, entry: Entry, image: str | None) -> Mapping[str, Any]:
        keys: dict[str, Any] = {} if image is None else {"image": image}
        for key, each in self._keys(name, entry.value):
            read = self._key(name, key, each)
            own = SHORT.get(key, key)
            if own in keys and own != "image":
                entries = entry.value.entries if isinstance(entry.value, Branch) else {}
                self._complaints.error(each.key.place, twice(key, own, entries))
            keys.update(read)
        if name in self._env:
            keys["env"] = {**self._env[name], **keys.get("env", {})}
        for key, each in self._keys(name, entry.value):
            if key == "wan_map":
                try:
                    check_wan_map(keys)
                except InvalidInput as error:
                    self._complaints.error(_spot(each), str(error))
            self._tell_what_is_elsewhere(key, each, is_image="image" in keys)
        if "image" in keys:
            self._check(entry.key.place, {"image": keys["image"]})
            if "git" in keys:
                self._complaints.error(
                    entry.key.place, f"{name} has an image and git: keep the one that it runs."
                )
        elif "git" not in keys:
            self._complaints.warn(
                entry.key.place,
                f"{name} has neither image nor git: it waits for a push. (An image of that name: `image: {name}`.)",
            )
        return keys

    def _keys(self, name: str, tree: Tree) -> Sequence[tuple[str, Entry]]:
        if isinstance(tree, Scalar) and tree.value is None:
            return ()
        example = tree.text if isinstance(tree, Scalar) else "redis"
        return self._entries(tree, f"{shown(name)} must be a mapping, as in {{image: {shown(example)}}}.")

    def _key(self, service: str, key: str, entry: Entry) -> Mapping[str, Any]:
        """What the key says under its one name; nothing where it says nothing, or can't be read."""
        before = len(self._complaints.errors)
        value = self._value(key, entry)
        if value is None or len(self._complaints.errors) > before:
            return {}
        if key not in KNOWN:
            near = did_you_mean(key, KNOWN)
            hint = f" ({HINTS[key]})" if key in HINTS else ""
            self._complaints.warn(
                entry.key.place,
                f"{shown(key)} is no key that is known here{hint}.{near} It {KEPT_TEXT}.",
                about=f"{service}.{key}",
            )
        own = SHORT.get(key, key)
        if own in KEPT:
            self._kept[own].append(entry.key.place)
        keys, backups = self._parted(entry, {key: value})
        checked = self._check(_spot(entry), keys, _brace_hint(entry.value))
        if backups and checked:
            checked = {VOLUMES: joined(checked[VOLUMES], backups)}
        if own == "require":
            self._required += [(each, entry.key.place) for each in checked.get(own, ())]
        if own == "expose":
            places = checked.get(own, {}).values()
            self._exposed += [(each.partition(":")[0], entry.key.place) for each in places]
            self._places_of_exposed[service] = entry.key.place
        return {name: each for name, each in checked.items() if each is not None}

    def _parted(
        self, entry: Entry, keys: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any], Mapping[str, WantedBackups]]:
        """As `parted`; complains, and gives nothing, where it can't be read."""
        try:
            return parted(keys)
        except InvalidInput as error:
            place = _within(entry, error.field.removeprefix(VOLUMES))
            self._complaints.error(_spot(place), f"{error}{_brace_hint(place.value)}")
            return {}, {}

    def _tell_what_is_elsewhere(self, key: str, entry: Entry, *, is_image: bool) -> None:
        """Keys that mean nothing with what the service runs."""
        own = SHORT.get(key, key)
        if own in OF_IMAGES and not is_image:
            said = f"{key} means something with an image only; with code it is kept, and nothing acts on it."
            self._complaints.warn(entry.key.place, said)
        elif own in OF_CODE and is_image:
            said = f"{key} means something with code only; with an image it is kept, and nothing acts on it."
            self._complaints.warn(entry.key.place, said)

    def _value(self, key: str, entry: Entry) -> Any:
        if key == "env":
            return dict(self._variables(entry.value, "env"))
        if key in ("cmd", "command"):
            return _with_port(plain(entry.value))
        self._warn_of_late_names(entry.value)
        return plain(entry.value)

    def _variables(self, tree: Tree, where: str) -> Mapping[str, str]:
        """Values as they were written: `1.10` and `on` are texts."""
        found = dict[str, str]()
        for name, entry in self._entries(
            tree, f"{where} must map names to values, as in {{GREETING: hello}}."
        ):
            value = entry.value
            if not isinstance(value, Scalar):
                said = f"The value of {shown(name)} must be a text or a number."
                self._complaints.error(value.place, f"{said}{_brace_hint(value)}")
            elif value.value is None:
                self._complaints.error(
                    entry.key.place, f"{shown(name)} has no value: write {shown(name)}: '' for an empty one."
                )
            else:
                self._warn_of_late_names(value)
                found[name] = value.text
                self._check(_spot(entry), {"env": {name: value.text}})
        return found

    def _warn_of_late_names(self, tree: Tree) -> None:
        if isinstance(tree, Scalar) and (late := STARTED & braced_names(tree.text)):
            name = min(late)
            self._complaints.warn(
                tree.place,
                f"{{{name}}} is not known before an instance starts, and stays as it is outside of cmd.",
            )

    def _tell_what_is_kept(self, services: Mapping[str, Any]) -> None:
        for key, (first, *more) in self._kept.items():
            also = f" ({len(more)} more of it)" if more else ""
            self._complaints.warn(first, f"{key} {KEPT_TEXT}{also}.")
        for name, place in self._required:
            if name not in (*services, *self._commands, *self._resources) and (
                near := did_you_mean(name, services)
            ):
                self._complaints.warn(
                    place, f"{shown(name)} is required, and is no service of the file.{near}"
                )
        for name, keys in services.items():
            self._tell_of_exposed(name, keys, services)
        for name, place in self._exposed:
            if name not in services and (near := did_you_mean(name, services)):
                self._complaints.warn(
                    place, f"{shown(name)} is to be reached (expose), and is no service of the file.{near}"
                )

    def _tell_of_exposed(self, name: str, keys: Mapping[str, Any], services: Mapping[str, Any]) -> None:
        for variable, target in (keys.get("expose") or {}).items():
            place = self._places_of_exposed.get(name)
            if place is None:
                continue
            other, _, port = target.partition(":")
            known = (services.get(other) or {}).get("ports") or {}
            if port and "image" in (services.get(other) or {}) and port not in known:
                near = did_you_mean(port, known)
                self._complaints.warn(place, f"{other} has no port {shown(port)} in its ports.{near}")
            hidden = {variable, f"{variable}_HOST", f"{variable}_PORT"} & (keys.get("env") or {}).keys()
            if hidden:
                self._complaints.warn(
                    place, f"{min(hidden)} of env has no effect: expose gives that variable another value."
                )

    # Both

    def _entries(self, tree: Tree, wanted: str) -> Sequence[tuple[str, Entry]]:
        if isinstance(tree, Branch):
            return list(tree.entries.items())
        self._complaints.error(tree.place, wanted)
        return ()

    def _check(self, place: Place, keys: Mapping[str, Any], hint: str = "") -> Mapping[str, Any]:
        """The keys in their one form; complains, and gives none, where a definition can't have them."""
        try:
            found = canonical(keys)
            changed_definition(Definition(), found)
        except InvalidInput as error:
            self._complaints.error(place, f"{error}{hint}")
            return {}
        return found


def image_name(reference: str) -> str:
    """The name of the service that is made of an image: the last part of it, without tag and digest."""
    return reference.rpartition("/")[2].partition("@")[0].partition(":")[0]


def _spot(entry: Entry) -> Place:
    """Where to point at: the value where it is on the line of its key, else the key."""
    return entry.value.place if entry.value.place.line == entry.key.place.line else entry.key.place


def _within(entry: Entry, path: str) -> Entry:
    """What lies below it at `.data.backup`, or as much of that as there is."""
    for name in path.split("."):
        if isinstance(entry.value, Branch) and name in entry.value.entries:
            entry = entry.value.entries[name]
    return entry


def _options(tree: Tree) -> Any:
    """Of a domain, with passwords as they are written."""
    found = plain(tree)
    auth = tree.entries.get(AUTH) if isinstance(tree, Branch) else None
    if auth is not None and isinstance(auth.value, Branch):
        found[AUTH] = {name: _as_written(each.value) for name, each in auth.value.entries.items()}
    return found


def _as_written(tree: Tree) -> Any:
    return tree.text if isinstance(tree, Scalar) and tree.value is not None else plain(tree)


def _brace_hint(tree: Tree) -> str:
    """For `TAG: {TAG}`, which YAML takes for a mapping."""
    if isinstance(tree, Branch) and tree.flow and len(tree.entries) == 1:
        ((name, entry),) = tree.entries.items()
        if NAME.fullmatch(name) and isinstance(entry.value, Scalar) and entry.value.text == "":
            return f" In YAML {{{name}}} is a mapping: put it in quotes."
    return ""


def _password_hint(tree: Tree) -> str:
    auth = tree.entries.get(AUTH) if isinstance(tree, Branch) else None
    users = auth.value.entries.values() if auth is not None and isinstance(auth.value, Branch) else ()
    return next(filter(None, (_brace_hint(each.value) for each in users)), "")


def _with_port(value: Any) -> Any:
    """The command with `{PORT}` left to the shell, also in words that are quoted for it."""
    if isinstance(value, str):
        return replaced_text(value, {PORT: _SHELL_PORT})
    if isinstance(value, list) and any(
        isinstance(each, str) and PORT in braced_names(each) for each in value
    ):
        return " ".join(_quoted(each) if isinstance(each, str) else shlex.quote(str(each)) for each in value)
    return value


def _quoted(word: str) -> str:
    parts = replaced_text(word, {PORT: "\0"}).split("\0")
    return f'"{_SHELL_PORT}"'.join(shlex.quote(each) if each else "" for each in parts) or "''"
