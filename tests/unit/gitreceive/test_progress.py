import asyncio

import pytest

from gitreceive.progress import KEEP_ALIVE, MAX_BAND, MAX_LINE, Progress, harmless, packets


class Channel:
    def __init__(self) -> None:
        self.out: list[bytes] = []
        self.err: list[bytes] = []
        self.waiting = 0
        self.progress = Progress(write=self.out.append, stderr=self.err.append, waiting=lambda: self.waiting)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\n", "plain"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]52;c;ZXZpbA==\x1b\\text", "text"),
        ("10%\r50%\r100%\r\n", "100%"),
        ("be\x07ll\x00", "bell"),
        ("tab\tstays", "tab\tstays"),
        ("\x9b31mraw", "31mraw"),
        ("right\u202eleft", "rightleft"),
        ("two\nlines", "twolines"),
    ],
)
def test_output_can_not_steer_a_terminal(text: str, shown: str) -> None:
    assert harmless(text) == shown


def test_long_line_is_cut() -> None:
    assert len(harmless("x" * 100_000)) == MAX_LINE + 1


def test_large_payload_is_split_to_the_size_of_a_band() -> None:
    data = packets(2, b"x" * (MAX_BAND + 10))
    assert data[:5] == b"fff0\x02"
    assert data[0xFFF0 : 0xFFF0 + 5] == b"000f\x02"
    assert len(data) == MAX_BAND + 10 + 2 * 5


def test_lines_go_to_side_band_two_once_the_client_takes_it() -> None:
    channel = Channel()
    channel.progress.step("before")
    channel.progress.use_side_band()
    channel.progress.step("Title")
    channel.progress.line("detail")
    channel.progress.section("Done")
    channel.progress.warn("one\ntwo")

    assert channel.err == [b"-----> before\n"]
    assert [each[5:] for each in channel.out] == [
        b"-----> Title\n",
        b"       detail\n",
        b"=====> Done\n",
        b" !     one\n",
        b" !     two\n",
    ]
    assert all(each[4] == 2 and int(each[:4], 16) == len(each) for each in channel.out)


def test_client_that_reads_nothing_is_not_queued_for_without_end() -> None:
    channel = Channel()
    channel.progress.use_side_band()
    channel.waiting = 2 * 1024**2
    for _ in range(500):
        channel.progress.line("chatter")
    channel.waiting = 0
    channel.progress.line("last")

    assert len(channel.out) == 1
    assert b"500 lines were left out" in channel.out[0]
    assert channel.out[0].endswith(b"last\n")


async def test_sign_of_life_comes_only_in_silence_and_only_on_a_band(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += seconds
        if now == 5.0:
            channel.progress.line("words")
        if now > 40:
            raise asyncio.CancelledError

    monkeypatch.setattr("gitreceive.progress.time.monotonic", lambda: now)
    monkeypatch.setattr("gitreceive.progress.asyncio.sleep", sleep)
    channel = Channel()
    with pytest.raises(asyncio.CancelledError):
        await channel.progress.keep_alive(15)
    assert channel.out == []

    now = 0.0
    slept.clear()
    channel.progress.use_side_band()
    now = 5.0
    channel.progress.line("words")
    with pytest.raises(asyncio.CancelledError):
        await channel.progress.keep_alive(15)
    assert slept == [15, 15, 15]
    assert channel.out[1:] == [KEEP_ALIVE, KEEP_ALIVE]
