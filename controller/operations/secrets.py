"""The keys that config values are sealed with."""

import asyncio

from controller.errors import Refused
from controller.operations.access import Actor
from controller.state import EventDraft, State
from controller.vault import Vault


class SecretOperations:
    def __init__(self, state: State, vault: Vault | None) -> None:
        """`vault` None: this server seals nothing."""
        self._state = state
        self._vault = vault
        self._rotating = asyncio.Lock()

    async def rotate(self, asker: Actor) -> None:
        """Seal every value with a new key and forget the old ones. Broken off, it is repeated from the start."""
        asker.require_admin("change the key that config values are sealed with")
        vault = self._vault
        if vault is None:
            raise Refused("This server seals nothing: there is no key to change.")
        async with self._rotating:
            await asyncio.to_thread(vault.begin_rotation)
            await self._state.seal_anew()
            await asyncio.to_thread(vault.end_rotation)
        event = EventDraft(kind="secrets.rotated", actor=asker.name, text="Config is sealed with a new key")
        await self._state.commit(events=[event])
