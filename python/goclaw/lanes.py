"""An engine's lanes while it works: looked at, paused, drained, changed, declared."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Unpack

from . import _document
from ._keywords import LaneWords, only, spelled_out
from ._options import Unset
from ._suggest import suggest
from .durations import Duration, to_seconds
from .errors import ConfigError, LaneNotFound
from .lane import Lane, OnFull, Redirect, sized
from .rate import Rate

if TYPE_CHECKING:
    from . import _goclaw
    from ._looking import Looking

# Two that change one lane at once would each write over the other's limits.
_changing = threading.Lock()


@dataclass(frozen=True, slots=True)
class WaitTimes:
    """How long tasks waited in a lane before they began, in seconds; at most a sixteenth too high.

    Attributes:
        p50: Half of them waited no longer.
        p90: 90 % of them waited no longer.
        p99: 99 % of them waited no longer.
        max: The longest wait.
    """

    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class LaneStats:
    """A lane at one moment.

    ``offered == accepted + redirected + dropped + waiting`` at any moment.

    Attributes:
        name: The lane.
        concurrency: Tasks that may run at once.
        threads: Of these, how many may be plain functions; `None`: all.
        capacity: Tasks that may wait in its queue.
        on_full: What happens to the next task when the queue is full.
        timeout: How long a submit waits for a place, in seconds.
        rate: Units that may begin per time.
        fair: Sessions take turns.
        running: Permits that are taken.
        lent: Agents that wait for a run of their own: they have lent their permits, and take them again.
        queued: Tasks that have a place in the queue.
        waiting: Tasks of accepted runs that wait for a place in the queue.
        paused: Nothing begins until it is resumed.
        held_for: Seconds until something begins again, where an agent asked for a pause (`RetryAfter`).
        offered: Tasks that came so far; a retry comes again.
        accepted: Tasks that got a place, and were not dropped from it.
        redirected: Tasks that went to another lane.
        dropped: Tasks that were refused or lost their place.
        rejected: Submits that were refused because the lane was full.
        granted: Tasks that began.
        rate_free: Units of the rate that are free now, for tasks without a key; `None`: no rate.
        rate_next: Seconds until the next unit is there, where none is now.
        keys: Keys that the limiter remembers.
        waits: How long tasks waited.
    """

    name: str
    concurrency: int
    threads: int | None
    capacity: int
    on_full: OnFull
    timeout: float | None
    rate: Rate | None
    fair: bool
    running: int
    lent: int
    queued: int
    waiting: int
    paused: bool
    held_for: float | None
    offered: int
    accepted: int
    redirected: int
    dropped: int
    rejected: int
    granted: int
    rate_free: int | None
    rate_next: float | None
    keys: int
    waits: WaitTimes


# To type checkers and editors; it asks the engine for each of them anew.
if TYPE_CHECKING:
    _LooksLike = LaneStats
else:
    _LooksLike = object


class LiveLane(_LooksLike):
    """One lane of an open engine.

    Every attribute of `LaneStats` is one of it too, as it is at that moment; `stats` has all of one moment.

    Example:
        >>> import goclaw
        >>> with goclaw.Engine(lanes=[goclaw.Lane("llm", 4)]) as engine:
        ...     lane = engine.lanes["llm"]
        ...     lane.set(concurrency=8)
        ...     lane.concurrency, lane.paused
        (8, False)
    """

    __slots__ = ("_lanes", "_name")

    def __init__(self, lanes: Lanes, name: str) -> None:
        self._lanes = lanes
        self._name = name

    @property
    def stats(self) -> LaneStats:
        """Everything about the lane at one moment."""
        return self._lanes._stats()[self._name]

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name == "name":
                return self._name
            if name not in _FIELDS:
                raise AttributeError(f"a lane has no `{name}`: {suggest(name, (*_FIELDS, *_VERBS))}")
            return getattr(self.stats, name)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *_FIELDS]

    def pause(self) -> None:
        """Lets nothing begin until `resume`. What runs goes on, tasks queue up, the lane's policy holds.

        Raises:
            EngineClosed: `engine.closed`.
        """
        self._lanes._native.pause(self._name, True)

    def resume(self) -> None:
        """Lets tasks begin again.

        Raises:
            EngineClosed: `engine.closed`.
        """
        self._lanes._native.pause(self._name, False)

    def drain(self, timeout: Duration | None = None) -> bool:
        """Pauses the lane and waits until nothing of it runs: what is behind it may be taken away then.

        An agent that waits for a run of its own counts as running, for it will go on. Where what it waits for stands
        in this very lane, both wait until the lane is resumed.

        Args:
            timeout: How long at most; `None`: as long as it takes.

        Returns:
            True when nothing of it runs. The lane stays paused either way, until `resume`.

        Raises:
            EngineClosed: `engine.closed`.
            WouldDeadlock: `engine.own_loop` on goclaw's own event loop; `engine.own_lane` in an agent that would wait
                for itself.
        """
        from . import _guard

        _guard.refuse_own_loop("drain a lane")
        return self._lanes._native.drain(self._name, None if timeout is None else to_seconds(timeout, what="timeout"))

    async def adrain(self, timeout: Duration | None = None) -> bool:  # noqa: ASYNC109
        """`drain`, without blocking the event loop.

        It looks again and again, so an agent that begins to wait meanwhile may have this refused instead of
        itself; the lane stays paused then.

        Args:
            timeout: How long at most; `None`: as long as it takes.

        Returns:
            True when nothing of it runs.

        Raises:
            EngineClosed: `engine.closed`.
            WouldDeadlock: `engine.own_lane` in an agent that would wait for itself.
        """
        import asyncio

        pause = 0.001
        until = None if timeout is None else time.monotonic() + to_seconds(timeout, what="timeout")
        native = self._lanes._native
        # In short looks, so that cancelling this task leaves no thread behind that waits.
        while not await asyncio.to_thread(native.drain, self._name, 0.0):
            if until is not None and time.monotonic() >= until:
                return False
            await asyncio.sleep(pause)
            pause = min(2 * pause, 0.05)
        return True

    @spelled_out(LaneWords)
    def set(self, **options: Unpack[LaneWords]) -> None:
        """Gives the lane other limits, at once and for as long as the engine is open.

        What runs above a new concurrency goes on, what has a place in the queue keeps it.

        Args:
            **options: What follows; what is left out stays.

        Keyword Args:
            concurrency: Tasks that may run at once.
            capacity: Tasks that may wait in the queue.
            rate: Units that may begin per time; `None` removes the limit.
            burst: Units that may begin at once after a pause; a new `rate` without one forgets the old.
            rate_key: Template of the key by which the rate is counted apart; for runs submitted from now on.
            budgets: Rates of what agents charge afterwards, all of them anew.
            on_full: What happens to the next task when the queue is full.
            timeout: How long a submit waits for a place.
            threads: Of the concurrency, how many may be plain functions.
            isolation: Where the lane's agents run; for runs submitted from now on.
            fair: Sessions take turns.

        Raises:
            ConfigError: as `Lane`.
            GoclawError: `lane.unknown`, `lane.redirect_cycle` for a redirect that does not end.
        """
        only(LaneWords, options, "set")
        changed = {key: value for key, value in options.items() if not isinstance(value, Unset)}
        self._lanes._change(self._name, changed)

    def __repr__(self) -> str:
        return f"<Lane {_line(self.stats)}>"

    def _repr_html_(self) -> str:
        return _table([self.stats])


class Lanes(Mapping[str, LiveLane]):
    """The lanes of an open engine by name.

    Example:
        >>> import goclaw
        >>> with goclaw.Engine() as engine:
        ...     engine.lanes.declare(goclaw.Lane("llm", 4, rate="60/m"))
        ...     "llm" in engine.lanes, engine.lanes["llm"].rate_free
        (True, 60)
    """

    __slots__ = ("_engine",)

    def __init__(self, engine: Looking) -> None:
        self._engine = engine

    def __getitem__(self, name: str) -> LiveLane:
        known = self._stats()
        if name not in known:
            # A KeyError would show its message in quotes, and `get` and `in` are answered below.
            raise LaneNotFound(f"this engine has no lane `{name}`", help=suggest(str(name), known))
        return LiveLane(self, name)

    def __contains__(self, name: object) -> bool:
        return name in self._stats()

    def get(self, name: str, default: Any = None) -> Any:
        """The lane of that name.

        Args:
            name: The lane's name.
            default: What to return where there is none.

        Returns:
            The lane, or the default.
        """
        return LiveLane(self, name) if name in self else default

    def __iter__(self) -> Iterator[str]:
        return iter(self._stats())

    def __len__(self) -> int:
        return len(self._stats())

    def declare(self, lane: Lane) -> None:
        """Adds a lane to the open engine; declaring it again in the same words changes nothing.

        Args:
            lane: The lane.

        Raises:
            ConfigError: `config.lane` for something that is no lane.
            GoclawError: `lane.declared` where another lane has the name, `lane.unknown` and
                `lane.redirect_cycle` for a redirect that does not end.
        """
        if not isinstance(lane, Lane):
            raise ConfigError(f"{lane!r} is no lane", code="config.lane", help='give goclaw.Lane("io", 64)')
        self._native.declare(json.dumps(sized(lane._to_model())))

    def __repr__(self) -> str:
        lines = "\n".join(f"  {_line(stats)}" for stats in self._stats().values())
        return f"<Lanes\n{lines}>"

    def _repr_html_(self) -> str:
        return _table(list(self._stats().values()))

    @property
    def _native(self) -> _goclaw.Lanes:
        return self._engine._alive().lanes()

    def _stats(self) -> dict[str, LaneStats]:
        return {row["name"]: _read(row) for row in self._native.stats()}

    def _change(self, name: str, changed: dict[str, Any]) -> None:
        with _changing:
            told = _document.lane_options(json.loads(self._native.spec(name)))
            if "rate" in changed and "burst" not in changed:
                told.pop("burst", None)
            on_full = changed.get("on_full")
            if isinstance(on_full, Redirect):
                changed["on_full"] = {"redirect": on_full.to}
            lane = _document.lane_of(name, {**told, **changed})
            self._native.change(json.dumps(sized(lane._to_model())))


_FIELDS = tuple(field.name for field in fields(LaneStats))
_VERBS = ("pause", "resume", "drain", "adrain", "set", "stats")


def _read(row: dict[str, Any]) -> LaneStats:
    row = dict(row)
    policy, to = row.pop("on_full")
    rate = row.pop("rate")
    timeout = row.pop("timeout_ms")
    held, following, waits = (row.pop(key) for key in ("held_until_ms", "rate_next_ms", "waits_ms"))
    return LaneStats(
        on_full=policy if to is None else Redirect(to),
        rate=None if rate is None else Rate(rate[0], rate[1] / 1000, burst=rate[2]),
        timeout=None if timeout is None else timeout / 1000,
        held_for=_until(held),
        rate_next=_until(following),
        waits=WaitTimes(*(ms / 1000 for ms in waits)),
        **row,
    )


def _until(at_ms: int | None) -> float | None:
    return None if at_ms is None else max(0.0, at_ms / 1000 - time.time())


def _line(lane: LaneStats) -> str:
    parts = [
        f"{lane.name}: {lane.running}/{lane.concurrency} running, {lane.queued}/{lane.capacity} queued",
        f"{lane.lent} waiting for runs of their own" if lane.lent else "",
        f"{lane.waiting} waiting for a place" if lane.waiting else "",
        "paused" if lane.paused else "",
        f"held for {lane.held_for:.1f} s" if lane.held_for else "",
        f"next unit in {lane.rate_next:.1f} s" if lane.rate_next else "",
        f"{lane.dropped} dropped" if lane.dropped else "",
        f"{lane.redirected} redirected" if lane.redirected else "",
        f"{lane.rejected} rejected" if lane.rejected else "",
    ]
    return ", ".join(part for part in parts if part)


def _table(lanes: list[LaneStats]) -> str:
    from html import escape

    heads = ("lane", "running", "queued", "waiting", "began", "dropped", "redirected", "wait p50", "wait p99", "")
    rows = [
        (
            lane.name,
            f"{lane.running} / {lane.concurrency}",
            f"{lane.queued} / {lane.capacity}",
            str(lane.waiting),
            str(lane.granted),
            str(lane.dropped),
            str(lane.redirected),
            f"{lane.waits.p50:.3f} s",
            f"{lane.waits.p99:.3f} s",
            "paused" if lane.paused else "",
        )
        for lane in lanes
    ]
    head = "".join(f"<th>{name}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
