"""The app.json of what is pushed: read before anything is built, and what it leads to."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from builder.base import BuildFailed
from controller.client import Client
from controller.names import Address
from controller.operations.beginning import fresh_secret, missing, wanted, way_out
from controller.servicefile.appjson import APP_JSON, MAX_SIZE, AppJson, read_app_json
from controller.servicefile.complaints import NotAServiceFile
from controller.types import Artifact, Wish
from controller.views import VariableSource
from gitreceive.quarantine import Quarantine
from gitreceive.record import Refusal


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
    if lacking := missing(app.manifest, there):
        told = [_told(name, wish, app) for name, wish in lacking.items()]
        raise Refusal("\n".join([*told, f"Set it, then push again: {way_out(address, lacking)}"]))
    return Setup(variables=wanted(app.manifest, there, fresh_secret), app=app)


async def set_variables(client: Client, address: Address) -> Mapping[str, str]:
    """What people set for the service, or for all of its deployment."""
    return {
        each.name: each.value
        for each in await client.environment(address)
        if each.source is not VariableSource.BUILDPACK
    }


def _told(name: str, wish: Wish, app: AppJson) -> str:
    about = f" ({wish.description})" if wish.description else ""
    return f"{app.places[name]}: {name} is required, and nobody has set it{about}."
