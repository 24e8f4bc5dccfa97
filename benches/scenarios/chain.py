"""What one step of a long chain costs: nothing can be grouped, every step waits for the one before."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypedDict

from ..harness import Figures, Scenario, Setting

CHAIN = Scenario(
    "chain",
    "A chain of 100 steps, one run after the other",
    figure="p50",
    unit="µs per step",
    higher_is_better=False,
    columns=("best", "worst"),
)
STEPS, RUNS = 100, 50
SYNC, ASYNC, STRICT = "goclaw, memory, sync", "goclaw, memory, async", "goclaw, durable strict, sync"


def step_sync(x: int) -> int:
    return x + 1


async def step_async(x: int) -> int:
    return x + 1


def _measure(runs: int, once: Callable[[], int]) -> Figures:
    """Microseconds per step over some runs; each ends with the number of steps."""
    assert once() == STEPS
    waits = []
    for _ in range(runs):
        began = time.perf_counter()
        once()
        waits.append((time.perf_counter() - began) / STEPS * 1e6)
    return {"p50": statistics.median(waits), "best": min(waits), "worst": max(waits), "count": runs}


def _goclaw(step: Callable[..., Any], durability: str | None) -> Callable[[Setting], Figures]:
    def measure(setting: Setting) -> Figures:
        import goclaw

        agent = goclaw.agent(name="bench.step")(step)

        @goclaw.workflow
        def steps(x: int) -> int:
            for _ in range(STEPS):
                x = agent(x)
            return x

        options = {} if durability is None else {"path": setting.folder / "store", "durability": durability}
        with goclaw.Engine(**options) as engine:
            return _measure(setting.scaled(RUNS), lambda: engine.submit(steps, {"x": 0}).result())

    return measure


for _name, _step, _durability in (
    (SYNC, step_sync, None),
    (ASYNC, step_async, None),
    (STRICT, step_sync, "strict"),
    ("goclaw, durable strict, async", step_async, "strict"),
    ("goclaw, durable relaxed, sync", step_sync, "relaxed"),
):
    CHAIN.contender(_name, needs=["goclaw"])(_goclaw(_step, _durability))


@CHAIN.contender("raw: await, step by step", against=ASYNC)
def awaits(setting: Setting) -> Figures:
    async def steps() -> int:
        x = 0
        for _ in range(STEPS):
            x = await step_async(x)
        return x

    with asyncio.Runner() as runner:
        return _measure(setting.scaled(RUNS), lambda: runner.run(steps()))


@CHAIN.contender("asyncio.create_task, step by step", against=ASYNC)
def tasks(setting: Setting) -> Figures:
    async def steps() -> int:
        x = 0
        for _ in range(STEPS):
            x = await asyncio.create_task(step_async(x))
        return x

    with asyncio.Runner() as runner:
        return _measure(setting.scaled(RUNS), lambda: runner.run(steps()))


@CHAIN.contender("ThreadPoolExecutor, step by step", against=SYNC)
def pool(setting: Setting) -> Figures:
    with ThreadPoolExecutor() as threads:

        def steps() -> int:
            x = 0
            for _ in range(STEPS):
                x = threads.submit(step_sync, x).result()
            return x

        return _measure(setting.scaled(RUNS), steps)


class State(TypedDict):
    """LangGraph's."""

    x: int


@CHAIN.contender("LangGraph, sync", needs=["langgraph"], against=SYNC)
def langgraph(setting: Setting) -> Figures:
    from langgraph.graph import END, START, StateGraph

    graph = StateGraph(State)
    names = [START, *(f"step-{index}" for index in range(STEPS)), END]
    for name in names[1:-1]:
        graph.add_node(name, lambda state: {"x": state["x"] + 1})
    for before, after in itertools.pairwise(names):
        graph.add_edge(before, after)
    compiled = graph.compile()
    limit: Any = {"recursion_limit": 2 * STEPS}
    return _measure(setting.scaled(RUNS), lambda: compiled.invoke({"x": 0}, limit)["x"])


@CHAIN.contender("DBOS on SQLite, steps of one workflow", needs=["dbos"], against=STRICT, note="5 runs")
def dbos(setting: Setting) -> Figures:
    from .throughput import _dbos

    library = _dbos(setting)
    step = library.step()(step_sync)

    @library.workflow()
    def steps(x: int) -> int:
        for _ in range(STEPS):
            x = step(x)
        return x

    library.launch()
    try:
        return _measure(1 if setting.quick else 5, lambda: steps(0))
    finally:
        library.destroy()
