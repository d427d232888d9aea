"""The app.json of what is pushed: read before anything is built, and what it leads to."""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from builder.base import BuildFailed
from controller.client import Client
from controller.names import Address
from controller.servicefile.appjson import APP_JSON, MAX_SIZE, AppJson, Wish, read_app_json
from controller.servicefile.complaints import NotAServiceFile
from controller.types import Artifact
from controller.views import VariableSource
from gitreceive.quarantine import Quarantine
from gitreceive.record import Refusal

SECRET = 32
"""Bytes of a secret that is made; it is written in hex."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What the code wants set, and asks for."""

    variables: Mapping[str, str] = field(default_factory=dict)
    """Those that nobody has set yet."""
    app: AppJson = field(default_factory=AppJson)

    def of(self, artifact: Artifact) -> Artifact:
        """What was built, with what its code asks for."""
        return replace(artifact, manifest=self.app.manifest)


async def read_manifest(place: Quarantine, commit: str, folder: str) -> AppJson:
    """Of that folder of the commit; one that says nothing where there is none. Raises BuildFailed."""
    content = await place.file(commit, f"{folder}/{APP_JSON}" if folder else APP_JSON, MAX_SIZE)
    if content is None:
        return AppJson()
    try:
        return read_app_json(content.decode("utf-8-sig"))
    except NotAServiceFile as error:
        raise BuildFailed(str(error)) from error
    except UnicodeDecodeError as error:
        raise BuildFailed(f"{APP_JSON}: save the file as UTF-8 text.") from error


async def set_up(client: Client, address: Address, app: AppJson) -> Setup:
    """Raises Refusal where the code requires a variable that nobody has set."""
    there = await set_variables(client, address)
    new = {
        name: wish.value or ""
        for name, wish in app.env.items()
        if name not in there and wish.value is not None
    }
    for name, wish in app.env.items():
        if wish.secret and name not in there and name not in new:
            new[name] = secrets.token_hex(SECRET)
    missing = {
        name: wish
        for name, wish in app.env.items()
        if wish.required and name not in there and name not in new
    }
    if missing:
        raise Refusal("\n".join([*map(_told, missing, missing.values()), _way_out(address, missing)]))
    return Setup(variables=new, app=app)


async def set_variables(client: Client, address: Address) -> Mapping[str, str]:
    """What people set for the service, or for all of its deployment."""
    return {
        each.name: each.value
        for each in await client.environment(address)
        if each.source is not VariableSource.BUILDPACK
    }


def _told(name: str, wish: Wish) -> str:
    about = f" ({wish.description})" if wish.description else ""
    return f"{wish.place}: {name} is required, and nobody has set it{about}."


def _way_out(address: Address, missing: Iterable[str]) -> str:
    pairs = " ".join(f"{name}=…" for name in missing)
    return f"Set it, then push again: config:set -a {address} {pairs}"
