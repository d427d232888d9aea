"""git's own fetch from somebody else's server: nothing of ours is sent along, nothing is obeyed, and it ends."""

import asyncio
import re
import shlex
import shutil
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from controller.config import Settings
from controller.errors import InvalidInput, Refused
from gitreceive.download import whereabouts
from gitreceive.git import Git, end
from gitreceive.keys import ensure_key
from gitreceive.remote import Remote, addresses_of

ASK_TIMEOUT, FETCH_TIMEOUT = 60.0, 900.0
"""Seconds for what a remote has, and for what is fetched of it."""
MAX_OUTPUT = 4 * 1024**2
TOLD_EVERY = 3.0
"""Seconds between two lines of git's progress that are passed on."""
SSH_PORT = 22
_MOVED = "returned error: 30"
_WATCH_INTERVAL = 0.5
_LET_IN = "give the key that `git:public-key` shows the right to read it"
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_ABBREVIATED = re.compile(r"[0-9a-f]{7,39}")
_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+@#-]*")
_OLD_FAULTS = ("zeroPaddedFilemode", "badTimezone", "missingSpaceBeforeDate")
"""That many an old history has, and that harm nobody."""
_SETTINGS = (
    *("protocol.version=2", "core.hooksPath=/dev/null", "credential.helper=", "gc.auto=0"),
    *(
        "maintenance.auto=false",
        "fetch.unpackLimit=1",
        "transfer.fsckObjects=true",
        "submodule.recurse=false",
    ),
    *(f"fetch.fsck.{each}=ignore" for each in _OLD_FAULTS),
    *("http.followRedirects=false", "http.lowSpeedLimit=1", "http.lowSpeedTime=60"),
)


@dataclass(frozen=True)
class Found:
    """What a remote has under a name."""

    commit: str
    ref: str
    """Its full name there; the commit again where that was named."""

    @property
    def name(self) -> str:
        """As people call it."""
        return self.ref.removeprefix("refs/heads/").removeprefix("refs/tags/")


def is_commit(text: str) -> bool:
    return _COMMIT.fullmatch(text) is not None


def check_ref(text: str) -> str:
    """The name of a branch or tag, or a commit's full id. Raises InvalidInput."""
    if text and (
        not _REF.fullmatch(text) or ".." in text or "//" in text or text.endswith(("/", ".", ".lock"))
    ):
        raise InvalidInput("ref", f"{text[:80]!a} is no name of a branch or tag, and no commit.")
    return text


def parse_listing(text: str, ref: str, remote: str) -> Found:
    """What `ls-remote --symref` found under that name, a branch before a tag. Raises Refused."""
    lines = [line.partition("\t") for line in text.splitlines()]
    ids = {name: left for left, _, name in lines if is_commit(left)}
    heads = [left.removeprefix("ref: ") for left, _, name in lines if name == "HEAD" and left[:5] == "ref: "]
    if not ref:
        if "HEAD" not in ids:
            raise Refused(f"{remote} has no commits, or names no branch of its own: name one.")
        return Found(ids["HEAD"], heads[0] if heads else "HEAD")
    for name in (f"refs/heads/{ref}", f"refs/tags/{ref}", ref if ref.startswith("refs/") else ""):
        if name in ids:
            return Found(ids.get(f"{name}^{{}}", ids[name]), name)
    hint = " A commit is named by all of its 40 characters." if _ABBREVIATED.fullmatch(ref) else ""
    raise Refused(f"{remote} has no branch and no tag {ref!r}.{hint}")


def in_words(remote: Remote, said: str) -> str:
    """Why git failed, with the way out, from what it printed."""
    host = remote.host if remote.port == SSH_PORT else f"{remote.host}:{remote.port}"
    reasons = {
        "REMOTE HOST IDENTIFICATION HAS CHANGED": f"{remote.host} shows another key than the one that was made known; "
        f"if that is right, an admin says so with `git:allow-host {host}`",
        "Host key verification failed": f"the server does not know {remote.host} yet: an admin makes it known with "
        f"`git:allow-host {host}`",
        "Permission denied": f"it does not let this server in: {_LET_IN}",
        "could not read Username": f"it is not there, or private: then use its ssh URL, and {_LET_IN}",
        "Authentication failed": f"it is private: use its ssh URL, and {_LET_IN}",
        _MOVED: "it has moved: name the URL that it leads to",
        "returned error: 404": "it is not there",
        "not found": "it is not there",
        "not our ref": "it has no such commit any more",
    }
    words = next((words for mark, words in reasons.items() if mark in said), None)
    return f"{remote} can't be fetched: {words or _last_line(said)}."


def host_alias(host: str, port: int) -> str:
    """A host as it stands among the known ones."""
    return host if port == SSH_PORT else f"[{host}]:{port}"


class Fetcher:
    """Asks remotes, with the server's own key where that is by ssh."""

    def __init__(self, settings: Settings, git: Git) -> None:
        self._settings = settings
        self._git = git

    async def find(self, remote: Remote, ref: str, repository: Path) -> Found:
        """What a branch, tag or commit is now; "": the remote's own branch. Raises Refused.

        `repository`: one of ours, to ask from.
        """
        if is_commit(ref):
            return Found(ref, ref)
        names = [f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/tags/{ref}^{{}}", ref] if ref else ["HEAD"]
        listing = await self._run(remote, repository, ("ls-remote", "--symref"), names, ASK_TIMEOUT)
        return parse_listing(listing, ref, str(remote))

    async def fetch(
        self,
        remote: Remote,
        wanted: Sequence[str],
        repository: Path,
        *,
        into: Path,
        env: Mapping[str, str] | None = None,
        shallow: bool = False,
        say: Callable[[str], None] = lambda _: None,
        limit: int | None = None,
    ) -> None:
        """Fetch these refs, ref specifications or commits into the object folder `into` of a repository.

        `limit`: bytes that may come (else as many as a push may have). Raises Refused. Cancelled: git is killed.
        """
        options = ("--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--progress")
        depth = ("--depth=1",) if shallow else ()
        await self._run(
            remote,
            repository,
            ("fetch", *options, *depth),
            wanted,
            FETCH_TIMEOUT,
            env=env,
            say=say,
            watched=(into, limit or self._settings.push_limit),
        )

    async def _run(
        self,
        remote: Remote,
        repository: Path,
        command: Sequence[str],
        names: Sequence[str],
        timeout: float,
        *,
        env: Mapping[str, str] | None = None,
        say: Callable[[str], None] = lambda _: None,
        watched: tuple[Path, int] | None = None,
    ) -> str:
        """What `git COMMAND -- REMOTE NAMES` prints. Raises Refused."""
        for last in (False, True):
            addresses = await addresses_of(remote, private=self._settings.fetch_private)
            settings = [*_SETTINGS, f"http.curloptResolve={remote.host}:{remote.port}:{addresses[0]}"]
            process = await self._git.start(
                repository,
                *(word for each in settings for word in ("-c", each)),
                *(*command, "--", remote.url, *names),
                env={**(env or {}), **await asyncio.to_thread(self._environment, remote, addresses[0])},
            )
            output, said, status = await self._watched(process, remote, timeout, say, watched)
            if not status:
                return output.decode(errors="replace")
            if _MOVED not in said or last:
                break
            # git itself follows nothing: it would not ask us first whether it may go there.
            remote = await whereabouts(remote, "/info/refs?service=git-upload-pack", self._settings)
        raise Refused(in_words(remote, said))

    async def _watched(
        self,
        process: Process,
        remote: Remote,
        timeout: float,
        say: Callable[[str], None],
        watched: tuple[Path, int] | None,
    ) -> tuple[bytes, str, int]:
        """Output, errors and status of a git that may not take too much, nor too long. Raises Refused."""
        watching = asyncio.create_task(_overfull(watched, self._settings))
        working = asyncio.create_task(_outcome(process, say))
        try:
            async with asyncio.timeout(timeout):
                await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise Refused(f"{remote}: {watching.result()}")
            return working.result()
        except TimeoutError as error:
            raise Refused(f"{remote} did not give it within {timeout:.0f} seconds.") from error
        finally:
            watching.cancel()
            await end(process)
            await asyncio.gather(working, watching, return_exceptions=True)

    def _environment(self, remote: Remote, address: str) -> Mapping[str, str]:
        """For a git that asks that remote at that address."""
        bundle = self._settings.build_ca_bundle
        trusted = {"GIT_SSL_CAINFO": str(bundle)} if bundle and bundle.is_file() else {}
        if remote.scheme != "ssh":
            return {"GIT_ALLOW_PROTOCOL": "http:https", **trusted}
        key = self._settings.folders.git / "id_ed25519"
        ensure_key(key, comment=f"mooring@{self._settings.domain}")
        options = {
            "HostName": address,
            "HostKeyAlias": host_alias(remote.host, remote.port),
            "UserKnownHostsFile": str(key.with_name("known_hosts")),
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "BatchMode": "yes",
            "ConnectTimeout": "15",
            "ServerAliveInterval": "15",
            "ClearAllForwardings": "yes",
        }
        words = ["ssh", "-F", "none", "-i", str(key)]
        words += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return {"GIT_ALLOW_PROTOCOL": "ssh", "GIT_SSH_COMMAND": shlex.join(words), "GIT_SSH_VARIANT": "ssh"}


async def _overfull(watched: tuple[Path, int] | None, settings: Settings) -> str:
    """Wait until more has come than may, or the disk is full; why it ends then."""
    while True:
        await asyncio.sleep(_WATCH_INTERVAL)
        if watched is None:
            continue
        folder, limit = watched
        if await asyncio.to_thread(_size, folder) > limit:
            return f"it is larger than the {limit / 1024**2:.0f} MiB that may be fetched (the setting push_limit)."
        if shutil.disk_usage(settings.data).free < settings.disk_reserve:
            return "the server's disk is full: its administrator must make room."


def _size(folder: Path) -> int:
    size = 0
    with suppress(OSError):
        for each in folder.rglob("*"):
            with suppress(OSError):
                size += each.lstat().st_size
    return size


async def _outcome(process: Process, say: Callable[[str], None]) -> tuple[bytes, str, int]:
    assert process.stdout is not None
    assert process.stderr is not None
    output, said = await asyncio.gather(_beginning(process.stdout), _told(process.stderr, say))
    return output, said, await process.wait()


async def _beginning(stream: asyncio.StreamReader) -> bytes:
    """What it says, up to what is still sensible; the rest is read and dropped."""
    output = b""
    while chunk := await stream.read(65536):
        output += chunk[: max(0, MAX_OUTPUT - len(output))]
    return output


async def _told(stream: asyncio.StreamReader, say: Callable[[str], None]) -> str:
    """Pass git's progress on, now and then; all else that it said."""
    loop = asyncio.get_running_loop()
    said, kept, told = "", b"", loop.time()
    while chunk := await stream.read(65536):
        *lines, kept = re.split(rb"[\r\n]", (kept + chunk)[-100_000:])
        for line in (each.decode(errors="replace").strip() for each in lines):
            if re.match(r"(remote: )?[A-Z][a-z]+ [a-z]+: +\d+%", line):
                if loop.time() - told > TOLD_EVERY:
                    told = loop.time()
                    say(line)
            elif line:
                said = f"{said}{line}\n"[-8000:]
    return said + kept.decode(errors="replace")


def _last_line(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith(("fatal:", "error:"))]
    chosen = (fatal or lines or ["git gave no reason."])[0 if fatal else -1]
    return chosen.removeprefix("fatal: ").removeprefix("error: ")[:300].rstrip(".")
