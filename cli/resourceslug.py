"""What the servers of resources run in: an empty slug, as their programs are the machine's or an image's."""

import asyncio
import secrets
from pathlib import Path

from builder.slugs import SlugStore
from controller.config import DataFolder
from controller.types import Artifact, ArtifactKind


class EmptySlugs:
    def __init__(self, slugs: SlugStore, folders: DataFolder) -> None:
        self._slugs = slugs
        self._folders = folders

    async def make(self, deployment: str, service: str) -> Artifact:
        """That of the service. Raises BuilderUnavailable."""
        tree = self._folders.builds / f"{secrets.token_hex(8)}.tmp"
        await asyncio.to_thread(_fill, tree)
        slug = await self._slugs.keep(tree, deployment=deployment, service=service, uid=None)
        return Artifact(
            kind=ArtifactKind.SLUG, reference=slug.reference, size=slug.size, buildpack="resource"
        )


def _fill(tree: Path) -> None:
    tree.mkdir(parents=True)
    (tree / "README").write_text("The server of a resource: its programs are no part of it.\n")
