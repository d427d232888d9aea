"""Answers that are not as they should be. The server here is a socket that says what it is told to."""

import asyncio
from pathlib import Path

import pytest

from router.base import RouterError
from router.runtime_api import Command, NotRunning, RuntimeApi


async def answering(path: Path, answer: bytes) -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"\n> ")
        await reader.readline()
        writer.write(answer)
        if not answer.endswith(b"> "):
            writer.close()

    return await asyncio.start_unix_server(serve, str(path))


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("s")


async def test_unexpected_answer_is_an_error_that_names_both(path: Path) -> None:
    server = await answering(path, b"No such server.\n\n> ")
    async with server, RuntimeApi(path).session() as session:
        with pytest.raises(RouterError, match=r"'set server a/b state drain' with 'No such server\."):
            await session.tell([Command("set server a/b state drain")])


async def test_expected_answer_passes(path: Path) -> None:
    server = await answering(path, b"New server registered.\n\n> ")
    async with server, RuntimeApi(path).session() as session:
        await session.tell([Command("add server a/b 127.0.0.1:80", ("New server registered",))])


async def test_silence_ends_at_the_time_limit(path: Path) -> None:
    server = await answering(path, b"half an answer> ")
    async with server, RuntimeApi(path, time_limit=0.01).session() as session:
        with pytest.raises(RouterError, match=r"did not answer 'show info' within 0.01 s"):
            await session.ask("show info")


async def test_hanging_up_means_not_running(path: Path) -> None:
    server = await answering(path, b"half an answer")
    async with server, RuntimeApi(path).session() as session:
        with pytest.raises(NotRunning):
            await session.ask("show info")


async def test_nobody_there_means_not_running(path: Path) -> None:
    with pytest.raises(NotRunning):
        async with RuntimeApi(path).session():
            pass


@pytest.mark.parametrize(
    "command", ["show info;shutdown frontend web", "a\nb", "add map x <<", "a\\ b", "é", ""]
)
async def test_command_that_holds_more_than_words_is_never_sent(path: Path, command: str) -> None:
    server = await answering(path, b"\n> ")
    async with server, RuntimeApi(path).session() as session:
        with pytest.raises(RouterError, match="no command to HAProxy may hold"):
            await session.ask(command)
