"""Calling the commands as their two doors do, with everything they print kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from cli.context import Context
from cli.folder import Folder
from cli.main import run_words
from cli.output import Output
from controller.client import Client
from tests.unit.cli.fake_client import FakeClient


class Text:
    """A Sink that keeps what is written; with `broken` its reader has gone."""

    def __init__(self, *, broken: bool = False) -> None:
        self.text = ""
        self.broken = broken

    def write(self, text: str) -> None:
        if self.broken:
            raise BrokenPipeError(32, "Broken pipe")
        self.text += text

    async def drain(self) -> None:
        """Always room for more."""


@dataclass
class Typed:
    """An Input of prepared text."""

    text: str = ""
    terminal: bool = False

    async def line(self, *, hidden: bool = False) -> str:
        line, _, self.text = self.text.partition("\n")
        return line

    async def everything(self) -> str:
        text, self.text = self.text, ""
        return text


class FakeFolder(Folder):
    """A folder whose git remote is known without git."""

    def __init__(
        self, remotes: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None
    ) -> None:
        super().__init__()
        object.__setattr__(self, "remotes", dict(remotes or {}))
        object.__setattr__(self, "files", dict(files or {}))

    def remote_url(self, remote: str) -> str | None:
        found: str | None = cast(Any, self).remotes.get(remote)
        return found

    def set_remote(self, remote: str, url: str) -> None:
        cast(Any, self).remotes[remote] = url

    def read(self, name: str) -> str:
        return str(cast(Any, self).files[name])


@dataclass(frozen=True)
class Result:
    status: int
    out: str
    err: str


@dataclass
class Door:
    """`folder` None: over SSH."""

    client: FakeClient = field(default_factory=FakeClient)
    folder: Folder | None = None
    terminal: bool = False
    broken: bool = False
    environ: Mapping[str, str] = field(default_factory=dict)

    async def __call__(self, *argv: str, typed: str = "", asked: bool = False) -> Result:
        out, err = Text(broken=self.broken), Text()
        context = Context(
            output=Output(out, err, terminal=self.terminal, width=100),
            input=Typed(typed, terminal=asked),
            connect=lambda _: cast(Client, self.client),
            folder=self.folder,
            environ=self.environ,
        )
        status = await run_words(list(argv), context)
        return Result(status, out.text, err.text)


def local(client: FakeClient | None = None, *, remote: str | None = None, **settings: Any) -> Door:
    """`moor` on somebody's machine; `remote`: the URL of the folder's git remote `deploy`."""
    folder = FakeFolder({"deploy": remote} if remote else {}, settings.pop("files", None))
    return Door(client or FakeClient(), folder=folder, **settings)


def ssh(client: FakeClient | None = None, **settings: Any) -> Door:
    return Door(client or FakeClient(), **settings)


def both(words: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Words in the local grammar, `VERB -a foo …`, and the same over SSH, `VERB foo …`."""
    words = list(words)
    if "-a" not in words:
        return words, words
    at = words.index("-a")
    return words, [words[0], words[at + 1], *words[1:at], *words[at + 2 :]]
