"""A hundred thousand agents that wait at the same time, as agents do for models and web pages."""

from __future__ import annotations

import asyncio

from ..harness import Figures, Scenario, Setting, peak_mb, resident_mb, timed

SLEEPERS = Scenario(
    "sleepers",
    "100,000 agents in asyncio.sleep(1) at once",
    figure="seconds",
    unit="s",
    higher_is_better=False,
    columns=("grown_mb", "bytes_each"),
    rounds=3,
)
COUNT = 100_000
GOCLAW, GATHER = "goclaw, memory", "asyncio.gather"


async def doze(x: int) -> int:
    await asyncio.sleep(1)
    return x


def _grown(count: int, before: float, figures: Figures) -> Figures:
    figures["grown_mb"] = peak_mb() - before
    figures["bytes_each"] = figures["grown_mb"] * 1e6 / count
    return figures


@SLEEPERS.contender(GOCLAW, needs=["goclaw"])
def goclaw_sleepers(setting: Setting) -> Figures:
    import goclaw

    count, figures = setting.scaled(COUNT), Figures()
    agent = goclaw.agent(name="bench.doze", lane="wide")(doze)

    @goclaw.workflow
    def all_of(xs: list[int]) -> list[int]:
        return agent.map(xs)

    with goclaw.Engine(lanes=[goclaw.Lane("wide", count, capacity=count)]) as engine:
        engine.submit(all_of, {"xs": [0]}).result()
        before = resident_mb()
        with timed(figures):
            results = engine.submit(all_of, {"xs": list(range(count))}).result()
    assert results == list(range(count))
    return _grown(count, before, figures)


async def _gather(count: int) -> Figures:
    figures = Figures()
    await asyncio.gather(doze(0))
    before = resident_mb()
    with timed(figures):
        results = await asyncio.gather(*(doze(x) for x in range(count)))
    assert results == list(range(count))
    return _grown(count, before, figures)


@SLEEPERS.contender(GATHER, against=GOCLAW)
def gather(setting: Setting) -> Figures:
    return asyncio.run(_gather(setting.scaled(COUNT)))


@SLEEPERS.contender("uvloop, gather", needs=["uvloop"], against=GOCLAW)
def uvloop_gather(setting: Setting) -> Figures:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_gather(setting.scaled(COUNT)))
