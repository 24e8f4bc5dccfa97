"""Worker processes: what a call through one costs, and what two cores are worth."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

from ..harness import Figures, Scenario, Setting, rate, timed

CPU = Scenario(
    "process-cpu",
    "Pure Python on two cores: 400 tasks of some 10 ms",
    figure="rate",
    unit="tasks/s",
    higher_is_better=True,
    columns=("seconds",),
    rounds=3,
)
CALLS = Scenario(
    "process-calls",
    "Calls into worker processes: 20,000 tasks that return their argument, two workers",
    figure="rate",
    unit="tasks/s",
    higher_is_better=True,
    columns=("seconds",),
    rounds=3,
)
TASKS, STEPS, ECHOES = 400, 150_000, 20_000
ONE, TWO, MAP = "goclaw, 1 process", "goclaw, 2 processes", "goclaw, map, 2 processes"


def burn(x: int) -> int:
    total = 0
    for n in range(STEPS):
        total += n ^ x
    return total


def echo(x: int) -> int:
    return x


def _goclaw(body: Callable[[int], int], tasks: int, workers: int) -> Callable[[Setting], Figures]:
    def measure(setting: Setting) -> Figures:
        import goclaw

        agent = goclaw.agent(name=f"bench.{body.__name__}", lane="cores", isolation="process")(body)

        @goclaw.workflow
        def all_of(xs: list[int]) -> list[int]:
            return agent.map(xs)

        count, figures = setting.scaled(tasks), Figures()
        options: dict[str, Any] = {"processes": goclaw.Processes(max_workers=workers)}
        with goclaw.Engine(lanes=[goclaw.Lane("cores", workers)], **options) as engine:
            # Workers start when there is work.
            engine.run(all_of, {"xs": list(range(16 * workers))})
            with timed(figures):
                results = engine.run(all_of, {"xs": list(range(count))})
        assert results == [body(x) for x in range(count)]
        return rate(count, figures)

    return measure


def _pool(body: Callable[[int], int], tasks: int, workers: int, chunk: int) -> Callable[[Setting], Figures]:
    def measure(setting: Setting) -> Figures:
        count, figures = setting.scaled(tasks), Figures()
        # Started cleanly, as goclaw's are.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            list(pool.map(body, range(16 * workers)))
            with timed(figures):
                results = list(pool.map(body, range(count), chunksize=chunk))
        assert results == [body(x) for x in range(count)]
        return rate(count, figures)

    return measure


@CPU.contender("raw: one after the other")
def bare(setting: Setting) -> Figures:
    count, figures = setting.scaled(TASKS), Figures()
    with timed(figures):
        for x in range(count):
            burn(x)
    return rate(count, figures)


CPU.contender(ONE, needs=["goclaw"])(_goclaw(burn, TASKS, 1))
CPU.contender(TWO, needs=["goclaw"])(_goclaw(burn, TASKS, 2))
CPU.contender("ProcessPoolExecutor(1)", against=ONE)(_pool(burn, TASKS, 1, 1))
CPU.contender("ProcessPoolExecutor(2)", against=TWO)(_pool(burn, TASKS, 2, 1))


@CPU.contender("ThreadPoolExecutor(2), one GIL", against=TWO)
def threads(setting: Setting) -> Figures:
    count, figures = setting.scaled(TASKS), Figures()
    with ThreadPoolExecutor(2) as pool, timed(figures):
        list(pool.map(burn, range(count)))
    return rate(count, figures)


@CPU.target("two processes do at least 1.6 times what one does, or as much as ProcessPoolExecutor gains")
def _scaling(median: Any) -> bool:
    ours = median(TWO, "rate") / median(ONE, "rate")
    theirs = median("ProcessPoolExecutor(2)", "rate") / median("ProcessPoolExecutor(1)", "rate")
    return ours >= min(1.6, theirs)


CALLS.contender(MAP, needs=["goclaw"])(_goclaw(echo, ECHOES, 2))
CALLS.contender("ProcessPoolExecutor(2), map", against=MAP)(_pool(echo, ECHOES, 2, 1))
CALLS.contender("ProcessPoolExecutor(2), map, chunksize=64", against=MAP)(_pool(echo, ECHOES, 2, 64))


@CALLS.target("at least as many calls as ProcessPoolExecutor.map")
def _calls(median: Any) -> bool:
    return median(MAP, "rate") >= median("ProcessPoolExecutor(2), map", "rate")
