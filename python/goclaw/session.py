"""Sessions: runs with one key go one at a time, and what a message to a busy one does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from . import _merge
from ._options import UNSET, Unset, one_of
from .durations import Duration, to_ms
from .errors import Cancelled, ConfigError
from .policy import MemoryAccess

if TYPE_CHECKING:
    import asyncio

    from . import _goclaw
    from ._looking import Looking

Merge: TypeAlias = Callable[[list[Any]], Any]
Overflow: TypeAlias = Literal["old", "new", "summarize"]
BusyMode: TypeAlias = Literal["followup", "reject", "interrupt", "steer", "collect"]
OnRetry: TypeAlias = Literal["hold", "park"]
Admission: TypeAlias = Literal["started", "queued", "steered", "collected", "interrupting"]

MODES = ("followup", "reject", "interrupt", "steer", "collect")
OVERFLOWS = ("old", "new", "summarize")
ON_RETRIES = ("hold", "park")
_KEY_BYTES_MAX = 512
_WEIGHT_MAX = 1_000
_CAP_MAX = 10_000
# How often a thread that waits for a message looks whether it should stop.
_SLICE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Collect:
    """Messages to a busy session become one follow-up.

    Neighbours in the queue that are of one workflow and collected alike are merged once the session
    is free and no more came for `debounce`. The first one's run goes on with the merged input; the
    others end ``completed``, and their `Run.into` names it.

    Args:
        debounce: The pause after the last message.
        cap: Messages that one follow-up takes whole.
        overflow: What happens above the cap: ``"old"`` drops the oldest (its run ends cancelled, with
            `session.dropped`), ``"new"`` refuses the newest (`session.full`), ``"summarize"`` makes one
            of the oldest.
        merge: Makes one input of a list of inputs. By default texts are joined by a blank line, lists
            end to end, what all say alike is said once, and of anything else the last one counts.
        summarize: As `merge`, for what is above the cap. By default texts are cut to a line each.
        timeout: How long merging may take. Then its runs fail with `session.merge_timeout`, and the session goes on.

    Raises:
        ConfigError: for options that make no sense.

    Example:
        >>> Collect(debounce="1s", overflow="old").cap
        20
    """

    debounce: Duration = "500ms"
    cap: int = 20
    overflow: Overflow = "summarize"
    merge: Merge | None = None
    summarize: Merge | None = None
    timeout: Duration = "30s"

    def __post_init__(self) -> None:
        to_ms(self.debounce, what="debounce")
        if to_ms(self.timeout, what="timeout") == 0:
            raise ConfigError("`timeout` is 0", code="config.invalid", help='give merging some time, such as "30s"')
        _whole("cap", self.cap, _CAP_MAX)
        one_of("overflow", self.overflow, OVERFLOWS)
        for what, function in (("merge", self.merge), ("summarize", self.summarize)):
            if function is not None:
                _merge.check(what, function)
        if self.summarize is not None and self.overflow != "summarize":
            raise ConfigError(
                f'`summarize` does nothing with overflow="{self.overflow}"',
                code="config.contradiction",
                help='leave one of them out, or use overflow="summarize"',
            )


WhenBusy: TypeAlias = BusyMode | Collect


@dataclass(frozen=True, slots=True)
class Signal:
    """A message to the session of a running agent.

    Attributes:
        message: What was submitted.
        run_id: The run that brought it; it ends ``completed``, and its `Run.into` is the reader's run.
    """

    message: Any
    run_id: str


class Signals:
    """Messages to the session of a running agent, as they come; `Context.signals` makes it.

    Ends only with the attempt: read it in a task of its own, or leave the loop.
    """

    __slots__ = ("_bell", "_letters", "_read", "_rings")

    def __init__(self, letters: _goclaw._Letters) -> None:
        self._letters = letters
        self._read = 0
        self._bell: asyncio.Event | None = None
        self._rings = False

    def poll(self) -> list[Signal]:
        """What came since the last look; waits for nothing."""
        return self._take(2**31)

    def _take(self, limit: int) -> list[Signal]:
        found = self._letters.read(self._read, limit)
        self._read += len(found)
        return [Signal(message, run_id) for run_id, message in found]

    def _params(self) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for _, message in self._letters.read(0, 2**31):
            if isinstance(message, Mapping):
                merged.update(message)
        return merged

    def _check(self) -> None:
        if self._letters.stopped:
            raise Cancelled("the agent was cancelled while it waited for messages")

    def __iter__(self) -> Iterator[Signal]:
        return self

    def __next__(self) -> Signal:
        while True:
            self._check()
            found = self._take(1)
            if found:
                return found[0]
            self._letters.wait(self._read, _SLICE)

    def __aiter__(self) -> AsyncIterator[Signal]:
        return self

    async def __anext__(self) -> Signal:
        while True:
            self._check()
            found = self._take(1)
            if found:
                return found[0]
            await self._rung()

    async def _rung(self) -> None:
        import asyncio

        if self._bell is None:
            self._bell = asyncio.Event()
        bell, loop = self._bell, asyncio.get_running_loop()
        bell.clear()
        if not self._rings:
            # One call at most is outstanding, however often a waiter gives up.
            self._rings = True
            self._letters.on_letter(self._read, lambda: self._ring(loop, bell))
        await bell.wait()

    def _ring(self, loop: asyncio.AbstractEventLoop, bell: asyncio.Event) -> None:
        self._rings = False
        try:
            loop.call_soon_threadsafe(bell.set)
        except RuntimeError:
            # The loop is closed: nobody waits any more.
            pass


@dataclass(frozen=True, slots=True)
class SessionView:
    """A session as it is now.

    Attributes:
        key: Its key.
        holder: Id of the run that holds it; `None` while it is free.
        waiting: Runs that wait for their turn.
        parked: Runs that let others go first while they wait for their retry.
        when_busy: What a submit does that does not say it itself.
        weight: Turns that it gets where others get one.
    """

    key: str
    holder: str | None
    waiting: int
    parked: int
    when_busy: str
    weight: int

    @property
    def busy(self) -> bool:
        """True where a new message has to wait."""
        return self.holder is not None or self.waiting > 0


class Sessions(Mapping[str, SessionView]):
    """The sessions of an engine, by key.

    Every key has a session: looking one up that nobody uses answers an idle one, and costs nothing.
    Iterating names those that are busy or configured.
    """

    __slots__ = ("_engine",)

    def __init__(self, engine: Looking) -> None:
        self._engine = engine

    def __getitem__(self, key: str) -> SessionView:
        return SessionView(key, *self._engine._alive().session(_key(key)))

    def __iter__(self) -> Iterator[str]:
        return iter(self._engine._alive().session_keys())

    def __len__(self) -> int:
        return len(self._engine._alive().session_keys())

    def __contains__(self, key: object) -> bool:
        return key in self._engine._alive().session_keys()

    def configure(
        self, key: str, *, when_busy: WhenBusy | Unset | None = UNSET, weight: int | Unset | None = UNSET
    ) -> None:
        """Says what submits to the session do that do not say it themselves.

        It belongs to the open engine, as `Engine(when_busy=…)` does. What is left out stays as it is.

        Args:
            key: The session.
            when_busy: What a message does while the session is busy; `None`: as the engine says.
            weight: Turns that the session gets where others get one; `None`: one.

        Raises:
            ConfigError: for options that make no sense.
        """
        key, native = _key(key), self._engine._alive()
        mode, turns = self._engine._set_up.get(key, (None, None))
        if not isinstance(when_busy, Unset):
            mode = None if when_busy is None else _mode(when_busy, memory=self._engine._path is None)
        if not isinstance(weight, Unset):
            turns = _weight(weight)
        native.set_up_session(key, mode, turns)
        self._engine._set_up[key] = (mode, turns)

    def __repr__(self) -> str:
        return f"<Sessions of {self._engine!r}>"


def _mode(when_busy: WhenBusy, *, memory: bool) -> _goclaw._ModeRow:
    if when_busy == "collect":
        when_busy = Collect()
    if not isinstance(when_busy, Collect):
        return one_of("when_busy", when_busy, MODES), None
    own = [("merge", when_busy.merge), ("summarize", when_busy.summarize)]
    rows = [None if f is None else (_merge.path_of(what, f, memory=memory), f) for what, f in own]
    debounce = to_ms(when_busy.debounce, what="debounce")
    timeout = to_ms(when_busy.timeout, what="timeout")
    return "collect", (debounce, when_busy.cap, when_busy.overflow, rows[0], rows[1], timeout)


def _place(
    session: str | list[str] | tuple[str, ...] | None,
    when_busy: WhenBusy | None,
    on_retry: OnRetry,
    weight: int | None,
    memory: MemoryAccess | None,
    *,
    inputs: int | None,
    in_memory: bool,
) -> _goclaw._PlaceRow:
    one_of("on_retry", on_retry, ON_RETRIES)
    if session is None:
        if when_busy is not None or on_retry != "hold":
            option = "when_busy" if when_busy is not None else "on_retry"
            raise ConfigError(
                f"`{option}` says what happens in a session, and the run has none",
                code="config.session",
                help='give it one: submit(…, session="user-42")',
            )
        keys = None
    elif inputs is None or not isinstance(session, (list, tuple)):
        keys = [_key(session)]
    else:
        keys = [_key(key) for key in session]
        if len(keys) != inputs:
            raise ConfigError(
                f"there are {len(keys)} sessions for {inputs} inputs",
                code="config.session",
                help="give one key for all, or one key per input",
            )
    mode = None if when_busy is None else _mode(when_busy, memory=in_memory)
    if memory is not None and not isinstance(memory, MemoryAccess):
        raise ConfigError(
            f"`memory` is {memory!r}", code="config.memory", help='give goclaw.MemoryAccess(read=["team"])'
        )
    access = None if memory is None else (list(memory.read), list(memory.write))
    return keys or None, mode, on_retry == "park", _weight(weight), access


def _key(key: object) -> str:
    if not isinstance(key, str) or not key or len(key.encode(errors="replace")) > _KEY_BYTES_MAX:
        raise ConfigError(
            f"`session` is {key!r}" if not isinstance(key, str) or len(key) < 80 else "`session` is too long",
            code="config.session",
            help=f"a session's key is a text of 1 to {_KEY_BYTES_MAX} bytes, such as a user's id",
        )
    return key


def _weight(weight: int | None) -> int | None:
    return None if weight is None else _whole("weight", weight, _WEIGHT_MAX)


def _whole(what: str, value: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ConfigError(f"`{what}` is {value!r}", code="config.invalid", help=f"give a whole number from 1 to {most}")
    return value
