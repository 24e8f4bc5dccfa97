"""A coroutine of an agent that waits for a run: its permit is lent meanwhile, and taken again before it goes on.

A call has one permit, however many tasks it is made of. It is lent once a turn of the loop in which one of them waits
is over, and comes back before any of those that waited goes on; others ready in the same turn go on with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from . import _goclaw

if TYPE_CHECKING:
    from ._goclaw import _Loan

T = TypeVar("T")


async def lent(waiting: Awaitable[T], *, withdraw: Callable[[], None] | None = None) -> T:
    """Awaits what the engine settles, which may take several steps. Outside of agents it is awaited and no more.

    Cancelled, too, the coroutine takes its permit before it goes on; where its attempt has been given up it goes on
    without.

    Args:
        waiting: What to wait for.
        withdraw: Called where it is cancelled while it waits for its permit, before it waits on.

    Returns:
        What it results in.
    """
    loan = _goclaw._loan()
    if loan is None:
        return await waiting
    loop = asyncio.get_running_loop()
    loan.waits()
    loop.call_soon(loan.look)
    try:
        result = await waiting
    except GeneratorExit:
        loan.gives_up(False)
        raise
    except BaseException:
        await _take_again(loan, loop, None)
        raise
    await _take_again(loan, loop, withdraw)
    return result


async def _take_again(loan: _Loan, loop: asyncio.AbstractEventLoop, withdraw: Callable[[], None] | None) -> None:
    loan.returns()
    cancelled: asyncio.CancelledError | None = None
    while not loan.may_go_on():
        given: asyncio.Future[None] = loop.create_future()
        loan.on_go_on(waker(loop, given))
        try:
            await given
        except asyncio.CancelledError as error:
            # Cleaning up is going on, too: first the permit.
            cancelled = error
            if withdraw is not None:
                withdraw()
        except GeneratorExit:
            loan.gives_up(True)
            raise
    # Others of the agent may wait on: after this turn they need the permit lent again.
    loop.call_soon(loan.look)
    if cancelled is not None:
        try:
            raise cancelled
        finally:
            # The traceback refers to this frame; without this the exception would keep itself alive.
            del cancelled


def waker(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> Callable[[], None]:
    """What settles a future of a loop, to be called from any thread.

    Args:
        loop: The loop.
        future: The future.

    Returns:
        A function without arguments.
    """
    return partial(_wake, loop, future)


def _wake(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    try:
        loop.call_soon_threadsafe(_settle, future)
    except RuntimeError:
        # The loop is closed: nobody waits any more.
        pass


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
