"""How long Redis may take, and what a process that stood still makes of it."""

from __future__ import annotations

import asyncio
import socket

import pytest

from proxy.store.patience import LATE, Patience
from tests.clock import forward


async def test_it_ends_what_takes_too_long() -> None:
    """As `asyncio.timeout` does: the task goes on afterwards, and may be bounded again."""
    loop = asyncio.get_running_loop()
    for _ in range(2):
        loop.call_soon(loop.call_soon, forward, 5 + LATE / 4)
        with pytest.raises(TimeoutError):
            async with Patience(5):
                await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert 0 == task.cancelling()
    async with Patience(5):
        pass
    forward(60)
    for _ in range(3):
        await asyncio.sleep(0)


async def test_what_came_while_the_process_stood_still_is_taken() -> None:
    """The answer lies in the socket when the loop turns again, and the time is long over."""
    mine, peer = socket.socketpair()
    with mine, peer:
        mine.setblocking(False)
        async with Patience(0.01):
            asking = asyncio.ensure_future(asyncio.get_running_loop().sock_recv(mine, 9))
            await asyncio.sleep(0)
            peer.send(b"answer")
            forward(60)
            assert b"answer" == await asking


async def test_it_gives_the_time_once_more_and_no_oftener() -> None:
    """A process that stands still again and again is no reason to wait for ever."""

    async def bounded() -> None:
        async with Patience(5):
            await asyncio.Event().wait()

    task = asyncio.ensure_future(bounded())
    await asyncio.sleep(0)
    forward(60)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()
    forward(60)
    for _ in range(3):
        await asyncio.sleep(0)
    assert task.done()
    with pytest.raises(TimeoutError):
        await task


async def test_a_timer_that_is_a_little_late_is_none() -> None:
    """Loops are busy; that is no stand-still."""

    async def bounded() -> None:
        async with Patience(5):
            await asyncio.Event().wait()

    task = asyncio.ensure_future(bounded())
    await asyncio.sleep(0)
    forward(5 + LATE / 4)
    with pytest.raises(TimeoutError):
        await task


async def test_a_task_that_is_cancelled_ends_as_such() -> None:
    """Also where its time is over in the same moment."""
    for late in (False, True):

        async def bounded() -> None:
            async with Patience(5):
                await asyncio.Event().wait()

        task = asyncio.ensure_future(bounded())
        await asyncio.sleep(0)
        if late:
            forward(5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
