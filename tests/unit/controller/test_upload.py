"""Sending a file over a line that breaks."""

import io
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from controller import upload as module
from controller.client import Client
from controller.deliveries import UploadState
from controller.errors import Conflict, Forbidden, NotFound, Unavailable
from controller.names import Address
from controller.upload import send_file

CONTENT = bytes(range(256)) * 40


class Line:
    """A server behind a line that takes so many bytes each time, then breaks (None: it holds)."""

    def __init__(self, *takes: int | None, forgets: bool = False) -> None:
        self.takes = list(takes)
        self.forgets = forgets
        self.kept = dict[str, bytes]()
        self.sent = 0

    async def begin_upload(self, _address: Address) -> UploadState:
        self.kept[f"u{len(self.kept)}"] = b""
        return UploadState(id=f"u{len(self.kept) - 1}", offset=0)

    async def upload_state(self, _address: Address, upload: str) -> UploadState:
        if self.forgets:
            self.forgets = False
            raise NotFound("There is no such upload.")
        return UploadState(id=upload, offset=len(self.kept[upload]))

    async def append_upload(
        self, _address: Address, upload: str, offset: int, content: AsyncIterator[bytes]
    ) -> UploadState:
        if offset != len(self.kept[upload]):
            raise Conflict("It goes on from elsewhere.")
        left = self.takes.pop(0) if self.takes else None
        async for piece in content:
            taken = piece if left is None else piece[:left]
            self.kept[upload] += taken
            self.sent += len(piece)
            if left is not None and (left := left - len(taken)) <= 0:
                raise Unavailable("The connection was lost.")
        return UploadState(id=upload, offset=len(self.kept[upload]))


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE", 1000)
    monkeypatch.setattr(module, "CHUNK", 100)


async def sent(line: Line) -> str:
    return await send_file(cast(Client, line), Address("foo"), io.BytesIO(CONTENT), pause=0)


async def test_it_goes_on_from_what_has_arrived() -> None:
    line = Line(250, None, 10, 990, None, 1)
    upload = await sent(line)
    assert line.kept[upload] == CONTENT
    assert line.sent < len(CONTENT) + 6 * 100


async def test_a_server_that_was_started_anew_gets_all_of_it_once_more() -> None:
    line = Line(None, 500, forgets=True)
    upload = await sent(line)
    assert (upload, line.kept[upload]) == ("u1", CONTENT)


async def test_a_line_over_which_nothing_comes_is_given_up_with_the_way_out() -> None:
    line = Line(None, *([0] * 20))
    with pytest.raises(Unavailable, match=r"0\.0 MiB have arrived, and then nothing more: send it again"):
        await sent(line)


async def test_what_a_server_refuses_is_not_tried_again() -> None:
    line = Line()

    async def refuse(*_given: Any) -> UploadState:
        raise Forbidden("no")

    cast(Any, line).append_upload = refuse
    with pytest.raises(Forbidden):
        await sent(line)


async def test_nothing_is_sent_of_an_empty_file() -> None:
    line = Line()
    assert line.kept[await send_file(cast(Client, line), Address("foo"), io.BytesIO())] == b""
