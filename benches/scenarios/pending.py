"""What waits for its turn: what each costs in memory, and how fast it can be called off.

A million tasks of one map, and a hundred thousand runs of one task.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..harness import Figures, Scenario, Setting, peak_mb, resident_mb, timed

PENDING = Scenario(
    "pending",
    "1,000,000 pending tasks of one map (inputs included), then cancelled",
    figure="grown_mb",
    unit="MB",
    higher_is_better=False,
    columns=("bytes_each", "peak_mb", "submit_seconds", "cancel_seconds"),
    rounds=3,
)
COUNT = 1_000_000
MEMORY, DURABLE = "goclaw, memory", "goclaw, durable strict"


def _each(count: int, before: float, figures: Figures) -> None:
    figures["grown_mb"] = resident_mb() - before
    figures["bytes_each"] = figures["grown_mb"] * 1e6 / count


def _goclaw(setting: Setting, **options: Any) -> Figures:
    import goclaw

    count, figures, begun = setting.scaled(COUNT), Figures(), threading.Event()

    @goclaw.agent(name="bench.block", lane="one")
    def block(x: int, context: goclaw.Context) -> int:
        begun.set()
        while not context.cancelled:
            time.sleep(0.001)
        return x

    @goclaw.workflow
    def all_of(xs: list[int]) -> list[int]:
        return block.map(xs)

    with goclaw.Engine(lanes=[goclaw.Lane("one", 1, capacity=count)], **options) as engine:
        before = resident_mb()
        with timed(figures, "submit_seconds"):
            run = engine.submit(all_of, {"xs": list(range(count))})
            begun.wait()
        lane = engine.lanes["one"]
        assert lane.running + lane.queued + lane.waiting == count, lane
        _each(count, before, figures)
        figures["peak_mb"] = peak_mb() - before
        with timed(figures, "cancel_seconds"):
            run.cancel("measured")
            run.wait()
        assert run.state == "cancelled"
    return figures


@PENDING.contender(MEMORY, needs=["goclaw"])
def in_memory(setting: Setting) -> Figures:
    return _goclaw(setting)


@PENDING.contender(DURABLE, needs=["goclaw"])
def durable(setting: Setting) -> Figures:
    return _goclaw(setting, path=setting.folder / "store")


def _tasks(count: int) -> Figures:
    figures = Figures()

    async def all_of() -> None:
        one = asyncio.Semaphore(1)

        async def block(x: int) -> int:
            async with one:
                await asyncio.Event().wait()
            return x

        before = resident_mb()
        with timed(figures, "submit_seconds"):
            pending = [asyncio.create_task(block(x)) for x in list(range(count))]
            await asyncio.sleep(0)
        _each(count, before, figures)
        figures["peak_mb"] = peak_mb() - before
        with timed(figures, "cancel_seconds"):
            for task in pending:
                task.cancel()
            await asyncio.wait(pending)

    asyncio.run(all_of())
    return figures


@PENDING.contender("asyncio, one task each behind a semaphore", against=MEMORY)
def tasks(setting: Setting) -> Figures:
    return _tasks(setting.scaled(COUNT))


@PENDING.contender("ThreadPoolExecutor(1), one future each", against=MEMORY)
def futures(setting: Setting) -> Figures:
    count, figures, told = setting.scaled(COUNT), Figures(), threading.Event()

    def block(x: int) -> int:
        told.wait()
        return x

    with ThreadPoolExecutor(1) as threads:
        before = resident_mb()
        with timed(figures, "submit_seconds"):
            pending = [threads.submit(block, x) for x in list(range(count))]
        _each(count, before, figures)
        figures["peak_mb"] = peak_mb() - before
        with timed(figures, "cancel_seconds"):
            for future in pending:
                future.cancel()
            told.set()
            threads.shutdown()
    return figures


@PENDING.target("in memory: at most 400 MB for 1,000,000 pending tasks")
def _bound(median: Any) -> bool:
    return median(MEMORY, "bytes_each") <= 400


QUEUED = Scenario(
    "queued",
    "100,000 runs of one task, queued in a lane (inputs included)",
    figure="bytes_each",
    unit="bytes",
    higher_is_better=False,
    columns=("grown_mb", "peak_mb", "submit_seconds"),
    rounds=3,
)
RUNS = 100_000
HANDLES = "goclaw, memory, with their handles"


def _runs(setting: Setting, handles: bool, **options: Any) -> Figures:
    import goclaw

    count, figures, begun = setting.scaled(RUNS), Figures(), threading.Event()

    @goclaw.agent(name="bench.block", lane="one")
    def block(x: int, context: goclaw.Context) -> int:
        begun.set()
        while not context.cancelled:
            time.sleep(0.001)
        return x

    @goclaw.workflow
    def one_of(x: int) -> int:
        return block(x)

    with goclaw.Engine(lanes=[goclaw.Lane("one", 1, capacity=count)], drain_timeout=0, **options) as engine:
        first = engine.submit(one_of, {"x": 0})
        begun.wait()
        gc.collect()
        before = resident_mb()
        with timed(figures, "submit_seconds"):
            runs = engine.submit_many(one_of, [{"x": x} for x in range(count)])
        lane = engine.lanes["one"]
        assert lane.queued + lane.waiting == count, lane
        if not handles:
            del runs
        gc.collect()
        _each(count, before, figures)
        figures["peak_mb"] = peak_mb() - before
        first.cancel("measured")
    return figures


@QUEUED.contender(HANDLES, needs=["goclaw"])
def runs_with_handles(setting: Setting) -> Figures:
    return _runs(setting, handles=True)


@QUEUED.contender("goclaw, memory, handles dropped", needs=["goclaw"])
def runs_alone(setting: Setting) -> Figures:
    return _runs(setting, handles=False)


@QUEUED.contender("goclaw, durable strict, with their handles", needs=["goclaw"])
def runs_durable(setting: Setting) -> Figures:
    return _runs(setting, handles=True, path=setting.folder / "store")


@QUEUED.contender("asyncio, one task each behind a semaphore", against=HANDLES)
def tasks_queued(setting: Setting) -> Figures:
    return _tasks(setting.scaled(RUNS))
