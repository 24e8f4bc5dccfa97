"""How long from submit to the first line of the agent's body, one submit after the other."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..harness import Figures, Scenario, Setting, percentiles

LATENCY = Scenario(
    "latency",
    "Start latency: submit to the first line of the body, 2,000 submits one after the other",
    figure="p50",
    unit="µs",
    higher_is_better=False,
    columns=("p95", "p99", "max"),
)
SUBMITS = 2_000
SYNC, ASYNC, STRICT = "goclaw, memory, sync", "goclaw, memory, async", "goclaw, durable strict, sync"

# Bodies stamp the clock into here: one clock for all threads, and nothing travels back through the contender.
_stamps: list[int] = []


def stamp_sync(x: int) -> int:
    _stamps.append(time.perf_counter_ns())
    return x


async def stamp_async(x: int) -> int:
    _stamps.append(time.perf_counter_ns())
    return x


def _measure(setting: Setting, submit_and_wait: Callable[[int], Any]) -> Figures:
    for x in range(100):
        submit_and_wait(x)
    _stamps.clear()
    begins = []
    for x in range(setting.scaled(SUBMITS)):
        begins.append(time.perf_counter_ns())
        submit_and_wait(x)
    return percentiles([stamp - begin for begin, stamp in zip(begins, _stamps, strict=True)])


def _goclaw(body: Callable[..., Any], durability: str | None) -> Callable[[Setting], Figures]:
    def measure(setting: Setting) -> Figures:
        import goclaw

        agent = goclaw.agent(name="bench.stamp")(body)

        @goclaw.workflow
        def one_of(x: int) -> int:
            return agent(x)

        options = {} if durability is None else {"path": setting.folder / "store", "durability": durability}
        with goclaw.Engine(**options) as engine:
            return _measure(setting, lambda x: engine.submit(one_of, {"x": x}).result())

    return measure


for _name, _body, _durability in (
    (SYNC, stamp_sync, None),
    (ASYNC, stamp_async, None),
    (STRICT, stamp_sync, "strict"),
    ("goclaw, durable strict, async", stamp_async, "strict"),
    ("goclaw, durable relaxed, sync", stamp_sync, "relaxed"),
):
    LATENCY.contender(_name, needs=["goclaw"])(_goclaw(_body, _durability))


@LATENCY.contender("ThreadPoolExecutor.submit", against=SYNC)
def pool(setting: Setting) -> Figures:
    with ThreadPoolExecutor() as threads:
        return _measure(setting, lambda x: threads.submit(stamp_sync, x).result())


@LATENCY.contender("loop.call_soon_threadsafe", against=ASYNC)
def call_soon(setting: Setting) -> Figures:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    done = threading.Event()

    def body(x: int) -> None:
        stamp_sync(x)
        done.set()

    def submit_and_wait(x: int) -> None:
        loop.call_soon_threadsafe(body, x)
        done.wait()
        done.clear()

    try:
        return _measure(setting, submit_and_wait)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@LATENCY.contender("asyncio.run_coroutine_threadsafe", against=ASYNC)
def run_coroutine(setting: Setting) -> Figures:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        return _measure(setting, lambda x: asyncio.run_coroutine_threadsafe(stamp_async(x), loop).result())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@LATENCY.contender("raw: pwrite of 512 bytes + fdatasync", against=STRICT)
def raw_sync(setting: Setting) -> Figures:
    handle = os.open(setting.folder / "raw", os.O_RDWR | os.O_CREAT)
    os.write(handle, bytes(4 << 20))
    os.fsync(handle)
    block, waits = os.urandom(512), []
    for index in range(setting.scaled(SUBMITS)):
        began = time.perf_counter_ns()
        os.pwrite(handle, block, index * len(block))
        os.fdatasync(handle)
        waits.append(time.perf_counter_ns() - began)
    os.close(handle)
    return percentiles(waits)


@LATENCY.target("in memory: P99 under 1 ms, sync")
def _sync(median: Any) -> bool:
    return median(SYNC, "p99") < 1_000


@LATENCY.target("in memory: P99 under 1 ms, async")
def _async(median: Any) -> bool:
    return median(ASYNC, "p99") < 1_000


@LATENCY.target("durable strict: P99 under 5 ms")
def _strict(median: Any) -> bool:
    return median(STRICT, "p99") < 5_000
