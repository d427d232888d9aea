"""The folder that `moor` was called in: its git remotes and the files named on the command line."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from controller.errors import InvalidInput, MooringError
from controller.names import parse_address

if TYPE_CHECKING:
    from subprocess import CompletedProcess

DEFAULT_REMOTE = "deploy"
PIECE = 256 * 1024
"""Bytes of an archive that are read at once."""
_URL = re.compile(r"[a-z+]+://[^/]+/(?P<path>.+)")
_SCP = re.compile(r"[^/]+?:(?P<path>[^/].*|/.+)")


@dataclass(frozen=True)
class Folder:
    path: Path = Path()
    environ: Mapping[str, str] = field(default_factory=dict)

    def read(self, name: str) -> str:
        """A file's text; raises InvalidInput when it can't be read as such."""
        try:
            return (self.path / Path(name).expanduser()).read_text(encoding="utf-8")
        except OSError as error:
            raise InvalidInput("file", f"{name} can't be read: {error.strerror}.") from error
        except UnicodeDecodeError as error:
            raise InvalidInput("file", f"{name} is no text file.") from error

    def pieces(self, name: str, size: int) -> Iterator[bytes]:
        """A file's bytes, so many at a time; raises InvalidInput when it can't be read."""
        try:
            with (self.path / Path(name).expanduser()).open("rb") as file:
                while piece := file.read(size):
                    yield piece
        except OSError as error:
            raise InvalidInput("file", f"{name} can't be read: {error.strerror}.") from error

    def remote_app(self, remote: str = DEFAULT_REMOTE) -> str | None:
        """The app that the git remote of that name points at; None when there is none."""
        url = self.remote_url(remote)
        return app_of(url) if url else None

    def remote_url(self, remote: str) -> str | None:
        found = self._git("config", "--get", f"remote.{remote}.url")
        return found.stdout.strip() or None if found and found.returncode == 0 else None

    def set_remote(self, remote: str, url: str) -> None:
        """Add the remote, or point it at `url`; raises InvalidInput where the folder is no repository."""
        verb = "set-url" if self.remote_url(remote) else "add"
        done = self._git("remote", verb, "--", remote, url)
        if done is None:
            raise InvalidInput("folder", "git is not installed, or did not answer in 10 seconds.")
        if done.returncode:
            raise InvalidInput("folder", done.stderr.strip() or f"git remote {verb} failed.")

    def commit(self) -> str:
        """The commit that is checked out; raises InvalidInput where there is none."""
        found = self._git("rev-parse", "HEAD")
        if found is None or found.returncode:
            raise InvalidInput(
                "git", f"{self.path} is no git repository with a commit in it: commit something there first."
            )
        return found.stdout.strip()

    def tree(self, commit: str, subfolder: str = "") -> str | None:
        """What is in that folder of the commit, by its id; None where one of them is not there."""
        found = self._git("rev-parse", "--verify", "--quiet", f"{commit}:{subfolder}")
        return found.stdout.strip() if found and found.returncode == 0 else None

    def is_ancestor(self, older: str, newer: str) -> bool:
        """Whether `newer` has all that `older` has; not where one of them is not there."""
        found = self._git("merge-base", "--is-ancestor", older, newer)
        return found is not None and found.returncode == 0

    def archive(self, subfolder: str = "") -> Iterator[bytes]:
        """What is committed in the folder, or below it, as a tar; raises InvalidInput."""
        import subprocess

        wanted = f"HEAD:{subfolder}" if subfolder else "HEAD"
        with subprocess.Popen(
            ["git", "archive", "--format=tar", wanted],
            cwd=self.path,
            env=self._git_env(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as running:
            assert running.stdout is not None
            assert running.stderr is not None
            try:
                while piece := running.stdout.read(PIECE):
                    yield piece
                said = running.stderr.read().decode(errors="replace").strip()
            finally:
                running.kill()  # where the reader left in the middle
        if running.returncode > 0:
            raise InvalidInput("git", f"git archive {wanted} failed: {said or running.returncode}")

    def _git_env(self) -> dict[str, str]:
        kept = ("PATH", "HOME", "XDG_CONFIG_HOME")
        return {"LC_ALL": "C", **{name: self.environ[name] for name in kept if name in self.environ}}

    def _git(self, *arguments: str) -> "CompletedProcess[str] | None":
        import subprocess  # costs a tenth of the time that `moor --help` may take

        try:
            return subprocess.run(
                ["git", *arguments],
                cwd=self.path,
                env=self._git_env(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=10,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None


def app_of(url: str) -> str | None:
    """The app that a push URL names (`ssh://deploy@host:2222/foo/website.git`, `deploy@host:foo`)."""
    match = _URL.fullmatch(url) or _SCP.fullmatch(url)
    if not match:
        return None
    text = match["path"].strip("/").removesuffix(".git")
    try:
        return str(parse_address(text))
    except MooringError:
        return None
