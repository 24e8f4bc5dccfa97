"""Ten thousand tasks in parallel and one that adds up what they answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..harness import Figures, Scenario, Setting, timed

FANOUT = Scenario(
    "fanout",
    "Fan-out of 10,000 and a join that adds up",
    figure="ms",
    unit="ms",
    higher_is_better=False,
)
WIDTH = 10_000
SYNC, ASYNC = "goclaw, memory, sync", "goclaw, memory, async"


def square_sync(x: int) -> int:
    return x * x


async def square_async(x: int) -> int:
    return x * x


def total(squares: list[int]) -> int:
    return sum(squares)


def _done(width: int, result: int, figures: Figures) -> Figures:
    assert result == sum(x * x for x in range(width))
    return {"ms": figures["seconds"] * 1e3, "count": width}


def _goclaw(square: Callable[..., Any], durability: str | None) -> Callable[[Setting], Figures]:
    def measure(setting: Setting) -> Figures:
        import goclaw

        squares = goclaw.agent(name="bench.square")(square)
        join = goclaw.agent(name="bench.total")(total)

        @goclaw.workflow
        def fan(xs: list[int]) -> int:
            return join(squares.map(xs))

        options = {} if durability is None else {"path": setting.folder / "store", "durability": durability}
        width, figures = setting.scaled(WIDTH), Figures()
        with goclaw.Engine(**options) as engine:
            engine.submit(fan, {"xs": list(range(100))}).result()
            with timed(figures):
                result = engine.submit(fan, {"xs": list(range(width))}).result()
        return _done(width, result, figures)

    return measure


for _name, _square, _durability in (
    (SYNC, square_sync, None),
    (ASYNC, square_async, None),
    ("goclaw, durable strict, sync", square_sync, "strict"),
    ("goclaw, durable strict, async", square_async, "strict"),
):
    FANOUT.contender(_name, needs=["goclaw"])(_goclaw(_square, _durability))


@FANOUT.contender("asyncio.gather + sum", against=ASYNC)
def gather(setting: Setting) -> Figures:
    width, figures = setting.scaled(WIDTH), Figures()

    async def fan() -> int:
        await asyncio.gather(*(square_async(x) for x in range(100)))
        with timed(figures):
            return total(await asyncio.gather(*(square_async(x) for x in range(width))))

    return _done(width, asyncio.run(fan()), figures)


@FANOUT.contender("ThreadPoolExecutor, map + sum", against=SYNC)
def pool(setting: Setting) -> Figures:
    width, figures = setting.scaled(WIDTH), Figures()
    with ThreadPoolExecutor() as threads:
        list(threads.map(square_sync, range(100)))
        with timed(figures):
            result = total(list(threads.map(square_sync, range(width))))
    return _done(width, result, figures)
