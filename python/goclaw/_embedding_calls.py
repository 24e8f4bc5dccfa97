"""One call of an embedder: its turn in the lane, its time, and what is checked of the answer."""

from __future__ import annotations

import contextvars
import inspect
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from . import _guard
from .durations import to_seconds
from .embedders import Embedded, Embedding
from .errors import RecallError, WouldDeadlock
from .retry import RetryAfter

if TYPE_CHECKING:
    from . import _goclaw
    from .engine import Engine

Kind: TypeAlias = Literal["text", "query"]

_BATCH_BYTES = 1 << 20
# A thread that waits looks this often whether it is wanted elsewhere (a signal, a cancellation), in seconds.
_SLICE = 0.05
_NEVER_AGAIN = (
    "memory.embedder_input",
    "memory.embedder_access",
    "memory.embedder_vectors",
    "memory.embedder_paused",
    "memory.model",
)
_TOKEN_BYTES = 4


class _Calls:
    """Calls an embedder as an `Embedding` says.

    Args:
        embedding: How.
        engine: Answers the engine, whose lane the calls go through.
        sleep: Waits so many seconds; tests have another.
    """

    def __init__(
        self, embedding: Embedding, engine: Callable[[], Engine], sleep: Callable[[float], None] | None = None
    ) -> None:
        self._how = embedding
        self._engine = engine
        self._sleep = sleep or _pause
        self._timeout = None if embedding.timeout is None else to_seconds(embedding.timeout)
        self._is_loaded = embedding.local or not hasattr(embedding.embedder, "load")

    def load(self) -> None:
        """Waits for an embedder that has something to load, before a clock runs that is meant for calls.

        Raises:
            RecallError: `memory.embedder` and what begins so.
        """
        if self._is_loaded:
            return
        embedder: Any = self._how.embedder
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        call = _Call(embedder.load, self._enter(deadline, searches=True))
        try:
            call.wait(self._left(deadline))
            self._is_loaded = True
        except Exception as error:
            told = _told(error, searches=True)
            if told is error:
                raise
            raise told from error
        finally:
            call.leave()

    def batches(self, texts: list[str]) -> Iterator[list[str]]:
        """Texts in parts that one call takes."""
        batch: list[str] = []
        size = 0
        for text in texts:
            length = len(text.encode("utf-8", "surrogatepass"))
            if batch and (len(batch) >= self._how.batch or size + length > _BATCH_BYTES):
                yield batch
                batch, size = [], 0
            batch.append(text)
            size += length
        if batch:
            yield batch

    def call(
        self, kind: Kind, texts: list[str], deadline: float | None = None, *, searches: bool = False
    ) -> list[list[float]]:
        """Vectors of one batch; calls that fail are repeated. Who `searches` does not wait for a lane that is paused.

        Raises:
            RecallError: `memory.embedder` and what begins so.
            EngineClosed: `engine.closed`.
        """
        failures = 0
        while True:
            try:
                return self._once(kind, texts, deadline, searches)
            except Exception as error:
                pause = self._retry_after(error, failures)
                if pause is None or (deadline is not None and time.monotonic() + pause >= deadline):
                    told = _told(error, searches)
                    if told is error:
                        raise
                    raise told from error
                failures += 1
                self._sleep(pause)

    def _retry_after(self, error: Exception, failures: int) -> float | None:
        """How long to wait before the next try; `None`: no more tries."""
        retry = self._how.retry
        code = getattr(error, "code", "")
        if self._how.local or failures >= retry.retries or code in _NEVER_AGAIN or code == "engine.closed":
            return None
        if isinstance(error, RetryAfter):
            return error.seconds
        if isinstance(error, WouldDeadlock):
            return None
        if not isinstance(error, retry.on) or isinstance(error, retry.never or ()):
            return None
        bound = min(to_seconds(retry.initial) * retry.factor**failures, to_seconds(retry.max))
        return bound * _dice() if retry.jitter else bound

    def _once(self, kind: Kind, texts: list[str], deadline: float | None, searches: bool) -> list[list[float]]:
        in_loop = _guard.in_own_loop()
        if self._how.local:
            return self._read(self._ask(kind, texts, in_loop, None), texts)[0]
        held = self._enter(deadline, searches)
        context = contextvars.copy_context()
        call = _Call(lambda: context.run(self._ask, kind, texts, in_loop, self._left(deadline)), held)
        try:
            found = call.wait(self._left(deadline))
            vectors, tokens = self._read(found, texts)
        except RetryAfter as error:
            # Whoever serves us asks all of us for a pause.
            held.hold(math.ceil(error.seconds * 1000))
            raise
        else:
            held.charge("tokens", _guessed(texts) if tokens is None else tokens)
            return vectors
        finally:
            call.leave()

    def _enter(self, deadline: float | None, searches: bool) -> _goclaw.Pass:
        left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        held = self._engine()._native.enter_lane(self._how.lane, 1, left, not searches)
        if held is None and searches and self._engine().lanes[self._how.lane].paused:
            raise RecallError(
                f"lane `{self._how.lane}` is paused, so the query gets no vector",
                code="memory.embedder_paused",
                help=f'resume it, engine.lanes["{self._how.lane}"].resume(), or search by words: mode="text"',
            )
        if held is None:
            raise _late(f"there was no turn in lane `{self._how.lane}` in time, or too many wait for theirs")
        return held

    def _left(self, deadline: float | None) -> float | None:
        left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        return min((it for it in (self._timeout, left) if it is not None), default=None)

    def _ask(self, kind: Kind, texts: list[str], in_loop: bool, timeout: float | None) -> Any:
        embedder: Any = self._how.embedder
        found = (embedder.query if kind == "query" else embedder)(list(texts))
        if inspect.isawaitable(found):
            if in_loop:
                getattr(found, "close", lambda: None)()
                _guard.refuse("wait for its embedder")
            from ._loop import _awaiting, run_coroutine

            found = run_coroutine(_within(_awaiting(found), timeout))
        return found

    def _read(self, found: Any, texts: list[str]) -> tuple[list[list[float]], int | None]:
        tokens = found.tokens if isinstance(found, Embedded) else None
        return _checked(found.vectors if isinstance(found, Embedded) else found, texts, self._how.dim), tokens


class _Call:
    """A call on a thread of its own, so that whoever waits for it can stop waiting.

    The lane's permit is held until the thread has come back: what hangs takes a place, and never more than
    there are.
    """

    def __init__(self, ask: Callable[[], Any], held: _goclaw.Pass) -> None:
        self._ask = ask
        self._held = held
        self._lock = threading.Lock()
        self._parts = 2
        self._done = threading.Event()
        self._found: Any = None
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name="goclaw-embed", daemon=True).start()

    def _run(self) -> None:
        try:
            self._found = self._ask()
        except BaseException as error:
            self._error = error
        finally:
            self._done.set()
            self.leave()

    def wait(self, seconds: float | None) -> Any:
        deadline = None if seconds is None else time.monotonic() + seconds
        while not self._done.wait(_SLICE if deadline is None else min(_SLICE, max(deadline - time.monotonic(), 0))):
            if deadline is not None and time.monotonic() >= deadline:
                raise _late(f"the embedder took longer than {seconds:g} s")
        if self._error is not None:
            raise self._error
        return self._found

    def leave(self) -> None:
        """The last of both, thread and waiter, gives the permit back."""
        with self._lock:
            self._parts -= 1
            last = self._parts == 0
        if last:
            self._held.leave()


async def _within(awaitable: Any, timeout: float | None) -> Any:  # noqa: ASYNC109 - its own is what it bounds
    if timeout is None:
        return await awaitable
    import asyncio

    try:
        return await asyncio.wait_for(awaitable, timeout)
    except TimeoutError:
        raise _late(f"the embedder took longer than {timeout:g} s") from None


def _checked(found: Any, texts: list[str], dim: int | None) -> list[list[float]]:
    """The vectors as lists, one a text, of one length, with finite parts that are not all 0."""
    try:
        rows = found.tolist() if hasattr(found, "tolist") else found
        vectors = [[float(part) for part in (row.tolist() if hasattr(row, "tolist") else row)] for row in rows]
    except (TypeError, ValueError, OverflowError) as error:
        raise _bad(f"the embedder made what are no vectors: {error}") from error
    lengths = {len(vector) for vector in vectors}
    if len(vectors) != len(texts) or len(lengths) != 1:
        raise _bad(f"the embedder made {len(vectors)} vectors of lengths {sorted(lengths)} from {len(texts)} texts")
    if dim is not None and lengths != {dim}:
        raise _bad(f"the embedder made vectors of {lengths.pop()} parts, and says that they have {dim}")
    for at, vector in enumerate(vectors):
        # The sum is finite where every part is; an overflow of doubles takes parts that are no embedding's.
        if not math.isfinite(sum(vector)) or not any(vector):
            raise _bad(f"vector {at} of the embedder has parts that are no finite numbers, or nothing but zeros")
    return vectors


def _guessed(texts: list[str]) -> int:
    """Tokens of texts, where nobody counts them."""
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts) // _TOKEN_BYTES + 1


def _dice() -> float:
    import random

    return random.random()  # noqa: S311 - a pause, no secret


def _pause(seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(_SLICE, left))


def _bad(message: str) -> RecallError:
    return RecallError(
        message,
        code="memory.embedder_vectors",
        help="an embedder returns one vector per text, all of one length, of finite numbers",
    )


def _late(message: str) -> RecallError:
    return RecallError(
        message,
        code="memory.embedder_timeout",
        help="allow more: Embedding(embedder, timeout='120s') for each call, query_timeout='20s' for all of a search",
    )


def _told(error: Exception, searches: bool) -> Exception:
    """The error as callers get it; what the embedder itself raised is its cause."""
    code = getattr(error, "code", "")
    if isinstance(error, RecallError) and (code.startswith("memory.embedder") or code == "memory.model"):
        return error
    if code == "engine.closed" or code.startswith(("lane.", "engine.")):
        return error
    return RecallError(
        f"the embedder failed: {type(error).__name__}: {error}",
        code="memory.embedder",
        help="see to the embedder; "
        + (
            'meanwhile mode="text" searches by words'
            if searches
            else "what needed its vector at once was not memorized"
        ),
    )
