"""A coroutine of an agent that waits for a run: its permit is lent meanwhile, and taken again before it goes on.

A call has one permit, however many tasks it is made of. It is lent once a turn of the loop in which one of them waits
is over, and comes back before any of those that waited goes on; others ready in the same turn go on with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from . import _goclaw

if TYPE_CHECKING:
    from ._goclaw import _Loan

T = TypeVar("T")


async def lent(future: asyncio.Future[T], *, withdraw: Callable[[], None] | None = None) -> T:
    """Awaits a future of this loop that the engine settles. Outside of agents it is awaited and no more.

    Cancelled, too, the coroutine takes its permit before it goes on; where its attempt has been given up it goes on
    without.

    Args:
        future: What to wait for.
        withdraw: Called where the wait is cancelled, before anything else is waited for.

    Returns:
        What it is settled with.
    """
    loan = None if future.done() else _goclaw._loan()
    if loan is None:
        return await _withdrawing(future, withdraw)
    loop = asyncio.get_running_loop()
    loan.waits()
    loop.call_soon(loan.look)
    try:
        result = await _withdrawing(future, withdraw)
    except GeneratorExit:
        loan.gives_up(False)
        raise
    except BaseException:
        await _take_again(loan, loop)
        raise
    await _take_again(loan, loop)
    return result


async def _withdrawing(future: asyncio.Future[T], withdraw: Callable[[], None] | None) -> T:
    try:
        return await future
    except asyncio.CancelledError:
        if withdraw is not None:
            withdraw()
        raise


async def _take_again(loan: _Loan, loop: asyncio.AbstractEventLoop) -> None:
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
