import asyncio
import threading

import pytest

from builder.threads import Stopped, completed, run_blocking


async def test_a_result_comes_back():
    assert await run_blocking(lambda _check: 7) == 7


async def test_an_error_comes_back():
    def fail(_check):
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        await run_blocking(fail)


async def test_a_cancelled_caller_waits_until_the_work_has_stopped():
    started, ended = threading.Event(), threading.Event()

    def work(check):
        started.set()
        try:
            while True:
                check()
        except Stopped:
            ended.set()
            raise

    task = asyncio.create_task(run_blocking(work))
    await asyncio.to_thread(started.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_what_must_complete_does_however_often_it_is_cancelled():
    release, done = asyncio.Event(), []

    async def work():
        await release.wait()
        done.append(True)

    task = asyncio.create_task(completed(work()))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [True]


async def test_an_error_of_what_must_complete_is_raised():
    async def work():
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        await completed(work())
