"""Following events: pulled from the engine by sequence number, so late readers replay and none is lost."""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from .errors import EngineClosed
from .event import Event

if TYPE_CHECKING:
    import asyncio

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BATCH = 256
_WAIT_S = 0.5

Fact = tuple[int, int, str, str, str | None, int | None, int, int, dict[str, Any] | None]
Pull = Callable[[int, int, float], list[Fact]]
"""`(from seq, at most so many, seconds to wait)` → facts, none where there is no news."""


class EventStream(Iterator[Event], AsyncIterator[Event]):
    """Events as they happen, after those that already have; read it with `for` or `async for`.

    Args:
        pull: Where facts come from.
        start: First sequence number of interest.
        follow: Wait for news; otherwise the stream ends with what is there.
        whole_run: The stream is about one run and ends with it.
    """

    def __init__(self, pull: Pull, *, start: int, follow: bool, whole_run: bool) -> None:
        self._pull = pull
        self._next = start
        self._follow = follow
        self._whole_run = whole_run
        self._events: Iterator[Event] = iter(())
        self._facts: deque[Fact] = deque()
        self._over = False

    def __next__(self) -> Event:
        while True:
            event = self._buffered()
            if event is not None:
                return event
            if self._over or not self._fetch(_WAIT_S if self._follow else 0):
                raise StopIteration

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> Event:
        from . import _lend

        while True:
            event = self._buffered()
            if event is not None:
                return event
            going = not self._over and await self._fetching(0)
            if going and not self._facts:
                # No news: now it is a wait.
                going = await _lend.lent(self._fetching(_WAIT_S))
            if not going:
                raise StopAsyncIteration

    def _fetching(self, wait: float) -> asyncio.Future[bool]:
        import asyncio

        # In a thread and a context that are no part of the agent: what waits is the coroutine.
        apart = partial(contextvars.Context().run, self._fetch, wait)
        return asyncio.get_running_loop().run_in_executor(None, apart)

    def _buffered(self) -> Event | None:
        while True:
            event = next(self._events, None)
            if event is not None:
                if self._whole_run and event.ends_run:
                    self._over = True
                return event
            if self._over or not self._facts:
                return None
            self._events = expand(self._facts.popleft())

    def _fetch(self, wait: float) -> bool:
        """Gets more facts; false where the stream is over."""
        try:
            facts = self._pull(self._next, _BATCH, wait)
        except EngineClosed:
            if self._whole_run:
                raise
            return False
        if facts:
            last = facts[-1]
            self._next = last[0] + max(last[6], 1)
        self._facts.extend(facts)
        return bool(facts) or self._follow


def expand(fact: Fact) -> Iterator[Event]:
    """One event per task of a fact's span."""
    seq, at_ms, type, run, node, lo, length, attempt, data = fact
    at = _EPOCH + timedelta(milliseconds=at_ms)
    if data and "retry_at" in data:
        data["retry_at"] = _EPOCH + timedelta(seconds=data["retry_at"])
    for child in range(max(length, 1)):
        task = node if lo is None else f"{node}[{lo + child}]"
        yield Event(seq + child, at, type, run, task, attempt, data or {})
