"""Sessions: a hundred thousand of them with three messages each, in order; what an idle one costs."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

from ..harness import Figures, Scenario, Setting, peak_mb, rate, resident_mb, timed

SESSIONS = Scenario(
    "sessions",
    "100,000 sessions × 3 messages, in order within each",
    figure="rate",
    unit="messages/s",
    higher_is_better=True,
    columns=("count", "seconds", "grown_mb", "peak_mb"),
    rounds=3,
)
COUNT, EACH = 100_000, 3
MEMORY, DURABLE = "goclaw, memory", "goclaw, durable strict"


class Ledger:
    """Notes the messages of each session as they are worked on."""

    def __init__(self, sessions: int) -> None:
        self.seen = [0] * sessions
        self.wrong = 0

    def note(self, session: int, turn: int) -> None:
        """Counts a message that came out of turn."""
        self.wrong += self.seen[session] != turn
        self.seen[session] += 1

    def check(self) -> None:
        """Everything came, in order."""
        assert self.wrong == 0, f"{self.wrong} out of order"
        assert set(self.seen) == {EACH}


def _goclaw(durability: str | None) -> Callable[[Setting], Figures]:
    def measure(setting: Setting) -> Figures:
        import goclaw

        sessions, figures = setting.scaled(COUNT), Figures()
        ledger = Ledger(sessions)

        @goclaw.agent(name="bench.turn")
        async def turn(session: int, turn: int) -> None:
            ledger.note(session, turn)

        @goclaw.workflow
        def message(session: int, turn: int) -> None:
            turn_of(session, turn)

        turn_of = turn
        options = {} if durability is None else {"path": setting.folder / "store", "durability": durability}
        inputs = [{"session": at, "turn": n} for n in range(EACH) for at in range(sessions)]
        keys = [f"s{given['session']}" for given in inputs]
        with goclaw.Engine(**options) as engine:
            engine.run(message, {"session": 0, "turn": 0})
            ledger.seen[0], ledger.wrong = 0, 0
            gc.collect()
            before = resident_mb()
            with timed(figures):
                runs = engine.submit_many(message, inputs, session=keys)
                for run in runs:
                    run.wait()
            figures["peak_mb"] = peak_mb() - before
            del runs
            engine.purge()
            gc.collect()
            figures["grown_mb"] = resident_mb() - before
        ledger.check()
        return rate(len(inputs), figures)

    return measure


SESSIONS.contender(MEMORY, needs=["goclaw"])(_goclaw(None))
SESSIONS.contender(DURABLE, needs=["goclaw"])(_goclaw("strict"))


@SESSIONS.contender("asyncio, a lock per session", against=MEMORY)
def locks(setting: Setting) -> Figures:
    sessions, figures = setting.scaled(COUNT), Figures()
    ledger = Ledger(sessions)

    async def all_of() -> None:
        held: dict[int, asyncio.Lock] = {}

        async def message(session: int, turn: int) -> None:
            async with held.setdefault(session, asyncio.Lock()):
                ledger.note(session, turn)

        before = resident_mb()
        with timed(figures):
            await asyncio.gather(*(message(at, n) for n in range(EACH) for at in range(sessions)))
        figures["peak_mb"] = peak_mb() - before
        gc.collect()
        figures["grown_mb"] = resident_mb() - before

    asyncio.run(all_of())
    ledger.check()
    return rate(sessions * EACH, figures)


@SESSIONS.contender("asyncio, a queue and a task per session", against=MEMORY)
def queues(setting: Setting) -> Figures:
    sessions, figures = setting.scaled(COUNT), Figures()
    ledger = Ledger(sessions)

    async def all_of() -> None:
        waiting: dict[int, asyncio.Queue[int | None]] = {}

        async def serve(session: int) -> None:
            while (turn := await waiting[session].get()) is not None:
                ledger.note(session, turn)

        before = resident_mb()
        with timed(figures):
            servers = []
            for n in range(EACH):
                for at in range(sessions):
                    if at not in waiting:
                        waiting[at] = asyncio.Queue()
                        servers.append(asyncio.create_task(serve(at)))
                    waiting[at].put_nowait(n)
            for at in range(sessions):
                waiting[at].put_nowait(None)
            await asyncio.gather(*servers)
        figures["peak_mb"] = peak_mb() - before
        gc.collect()
        figures["grown_mb"] = resident_mb() - before

    asyncio.run(all_of())
    ledger.check()
    return rate(sessions * EACH, figures)


IDLE = Scenario(
    "idle",
    "What stays of 200,000 sessions that were used once; the second 100,000 against the first",
    figure="bytes_each",
    unit="bytes",
    higher_is_better=False,
    columns=("first_mb", "second_mb"),
    rounds=3,
)
IDLE_COUNT = 100_000


@IDLE.contender("goclaw, per idle session", needs=["goclaw"])
def idle(setting: Setting) -> Figures:
    return _left(setting, lambda at: {"session": f"s{at}"})


@IDLE.contender("goclaw, the same runs without sessions", needs=["goclaw"])
def without(setting: Setting) -> Figures:
    return _left(setting, lambda at: {})


def _left(setting: Setting, how: Callable[[int], dict[str, Any]]) -> Figures:
    """Memory that is still taken when everything has ended and was purged."""
    import goclaw

    @goclaw.agent(name="bench.nothing")
    async def nothing(x: int) -> int:
        return x

    @goclaw.workflow
    def message(x: int) -> int:
        return nothing(x)

    count = setting.scaled(IDLE_COUNT)
    with goclaw.Engine() as engine:

        def some(first: int) -> float:
            # In parts, so that what a burst takes for a while is not what is measured.
            for lo in range(first, first + count, 1_000):
                keys = [how(at).get("session") for at in range(lo, lo + 1_000)]
                options = {"session": keys} if keys[0] is not None else {}
                for run in engine.submit_many(message, [{"x": 1}] * 1_000, **options):
                    run.wait()
                engine.purge()
            gc.collect()
            return resident_mb()

        before = some(0)
        first = some(count)
        second = some(2 * count)
    return {
        "first_mb": first - before,
        "second_mb": second - first,
        "bytes_each": max(0.0, second - first) * 1e6 / count,
    }


@IDLE.target("an idle session costs nothing: as much stays as without sessions, within 8 bytes")
def _nothing(median: Any) -> bool:
    idle, without = "goclaw, per idle session", "goclaw, the same runs without sessions"
    return median(idle, "bytes_each") <= median(without, "bytes_each") + 8
