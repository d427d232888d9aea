"""What the tests of builders and buildpacks share: a data folder to build in."""

import asyncio
import os
import secrets
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.base import Builder
from builder.docker import DockerBuilder
from builder.host import HostBuilder
from builder.memory import MemoryBuilder
from builder.slugs import SlugStore
from builder.types import BuildRequest
from controller.engine import Engine
from tests.contracts.engine import builder_image, engine_url
from tests.unit.builder.printed import Printed

SAMPLES = Path(__file__).parents[2] / "contrib/samples"
UID = 50000 + os.getpid() % 10000 if os.getuid() == 0 else None
MARK = 10**9 + os.getpid() * 100
"""Seconds that processes of these tests sleep: tells them from those of any other run."""


@dataclass
class Place:
    """A data folder, and requests for builds in it."""

    folder: Path
    builder: Builder = field(default_factory=MemoryBuilder)
    slugs: SlugStore = field(init=False)
    count: int = 0

    def __post_init__(self):
        self.slugs = SlugStore(self.folder / "slugs", self.folder / "apps", limit=50 * 1024**2)

    def source(self, sample=None, **files) -> Path:
        self.count += 1
        root = self.folder / f"source{self.count}"
        if sample:
            shutil.copytree(SAMPLES / sample, root)
        else:
            root.mkdir()
        for name, content in files.items():
            path = root / name.replace("__", "/").replace("_txt", ".txt").replace("_sh", ".sh").replace(
                "_py", ".py"
            )
            path.parent.mkdir(exist_ok=True)
            path.write_text(content)
        return root

    def request(self, source, **changes) -> BuildRequest:
        values = {
            "id": f"build{self.count}",
            "deployment": "foo",
            "service": "app",
            "source": source,
            "commit": "a" * 40,
            "cache": self.folder / "caches/foo/app",
            "uid": UID,
            "timeout": 60.0,
        }
        return BuildRequest(**{**values, **changes})

    async def build(self, source, **changes):
        out = Printed()
        return await self.builder.build(self.request(source, **changes), out), out

    async def inspect(self, source, **changes):
        return await self.builder.inspect(self.request(source, **changes))

    async def tree(self, artifact) -> Path:
        return await self.slugs.ensure_unpacked("foo", "app", artifact, UID)

    def leftovers(self) -> list[str]:
        folders = [self.folder / "builds", *self.folder.glob("source*")]
        return [str(path) for folder in folders if folder.exists() for path in folder.rglob("*")]


def host_builder(place, **changes):
    values = {"builds": place.folder / "builds", "tools": place.folder / "tools", "slugs": place.slugs}
    return HostBuilder(**{**values, **changes})


async def run(tree: Path, command: str, **env) -> str:
    """Run a command as a backend does: in the tree, as its user, after `.profile.d`."""
    shell = f'for file in .profile.d/*.sh; do [ -r "$file" ] && . "./$file"; done; {command}'
    user: dict[str, Any] = {} if UID is None else {"user": UID, "group": UID, "extra_groups": []}
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", shell),
        cwd=tree,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        **user,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    return output.decode()


def docker_builder(place, **changes):
    """Builds in containers, under a realm of its own."""
    url = engine_url()
    values = {
        "builds": place.folder / "builds",
        "slugs": place.slugs,
        "engine": Engine(url),
        "realm": f"test{secrets.token_hex(4)}",
        "builder_image": builder_image(url),
    }
    return DockerBuilder(**{**values, **changes})
