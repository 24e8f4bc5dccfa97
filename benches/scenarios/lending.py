"""What it costs that an agent waits for a run of its own: its permit is lent, and taken again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from ..harness import Figures, Scenario, Setting, percentiles

LENDING = Scenario(
    "lending",
    "A run whose agent waits for one run of its own, in a lane of one permit; and two runs, one after "
    "the other; 2,000 times",
    figure="p50",
    unit="µs",
    higher_is_better=False,
    columns=("p95", "p99", "per_pair"),
)
PAIRS = 2_000
WAITS_SYNC, WAITS_ASYNC = "goclaw, a parent that waits, sync", "goclaw, a parent that waits, async"
TWO_SYNC, TWO_ASYNC = "goclaw, two runs, sync", "goclaw, two runs, async"


def _figures(waits: list[int]) -> Figures:
    """`per_pair` is the mean, which a subtraction needs: of pairs with a parent, those without."""
    return {**percentiles(waits), "per_pair": sum(waits) / len(waits) / 1e3}


def _measure(setting: Setting, pair: Callable[[], Any]) -> Figures:
    for _ in range(100):
        pair()
    waits = []
    for _ in range(setting.scaled(PAIRS)):
        began = time.perf_counter_ns()
        pair()
        waits.append(time.perf_counter_ns() - began)
    return _figures(waits)


async def _ameasure(setting: Setting, pair: Callable[[], Awaitable[Any]]) -> Figures:
    for _ in range(100):
        await pair()
    waits = []
    for _ in range(setting.scaled(PAIRS)):
        began = time.perf_counter_ns()
        await pair()
        waits.append(time.perf_counter_ns() - began)
    return _figures(waits)


def _one(agent: Any) -> Any:
    import goclaw

    return goclaw.Workflow("one").task("t", agent, lane="one")


def _sync(with_parent: bool) -> Callable[[Setting], Figures]:
    def measure(setting: Setting) -> Figures:
        import goclaw

        @goclaw.agent(name="bench.child")
        def child() -> int:
            return 1

        @goclaw.agent(name="bench.parent")
        def parent() -> int:
            return int(engine.run(child_run)) + 1

        child_run, parent_run = _one(child), _one(parent)

        def two() -> None:
            engine.run(child_run)
            engine.run(child_run)

        with goclaw.Engine(lanes=[goclaw.Lane("one", 1)]) as engine:
            return _measure(setting, (lambda: engine.run(parent_run)) if with_parent else two)

    return measure


def _async(with_parent: bool) -> Callable[[Setting], Figures]:
    def measure(setting: Setting) -> Figures:
        import goclaw

        @goclaw.agent(name="bench.achild")
        async def child() -> int:
            return 1

        @goclaw.agent(name="bench.aparent")
        async def parent() -> int:
            return int(await engine.arun(child_run)) + 1

        child_run, parent_run = _one(child), _one(parent)

        async def two() -> None:
            await engine.arun(child_run)
            await engine.arun(child_run)

        with goclaw.Engine(lanes=[goclaw.Lane("one", 1)]) as engine:
            pair = (lambda: engine.arun(parent_run)) if with_parent else two
            return asyncio.run(_ameasure(setting, pair))

    return measure


for _name, _style, _with_parent in (
    (WAITS_SYNC, _sync, True),
    (TWO_SYNC, _sync, False),
    (WAITS_ASYNC, _async, True),
    (TWO_ASYNC, _async, False),
):
    LENDING.contender(_name, needs=["goclaw"])(_style(_with_parent))


@LENDING.contender("asyncio, a task that awaits a task", against=WAITS_ASYNC)
def tasks(setting: Setting) -> Figures:
    async def child() -> int:
        return 1

    async def parent() -> int:
        return await asyncio.create_task(child()) + 1

    async def pair() -> int:
        return await asyncio.create_task(parent())

    return asyncio.run(_ameasure(setting, pair))
