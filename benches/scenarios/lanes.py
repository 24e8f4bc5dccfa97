"""Lanes: what passing one costs, whether everybody gets a turn, and how well a rate is kept."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

from ..harness import Figures, Scenario, Setting, percentiles, rate, timed

LANES = Scenario(
    "lanes",
    "Lane throughput: 100,000 tasks through a bounded queue (1,024) and a bound on what runs (64; threads: 8)",
    figure="rate",
    unit="tasks/s",
    higher_is_better=True,
    columns=("count", "seconds"),
)
TASKS, RUNS, RUNNING, THREADS, CAPACITY = 100_000, 20_000, 64, 8, 1_024
MAP_SYNC, MAP_ASYNC = "goclaw lane, map, sync", "goclaw lane, map, async"
RUNS_SYNC, RUNS_ASYNC = "goclaw lane, runs of one task, sync", "goclaw lane, runs of one task, async"


def echo_sync(x: int) -> int:
    return x


async def echo_async(x: int) -> int:
    return x


@LANES.contender("raw: bare Python calls")
def bare(setting: Setting) -> Figures:
    count, figures = setting.scaled(TASKS), Figures()
    with timed(figures):
        for x in range(count):
            echo_sync(x)
    return rate(count, figures)


def _goclaw(echo: Callable[..., Any], many_runs: bool) -> Callable[[Setting], Figures]:
    def measure(setting: Setting) -> Figures:
        import goclaw

        agent = goclaw.agent(name="bench.echo", lane="lane")(echo)

        @goclaw.workflow
        def all_of(xs: list[int]) -> list[int]:
            return agent.map(xs)

        @goclaw.workflow
        def one_of(x: int) -> int:
            return agent(x)

        def work(engine: goclaw.Engine, count: int) -> list[int]:
            if many_runs:
                return [run.result() for run in engine.submit_many(one_of, [{"x": x} for x in range(count)])]
            return engine.submit(all_of, {"xs": list(range(count))}).result()

        count, figures = setting.scaled(RUNS if many_runs else TASKS), Figures()
        with goclaw.Engine(lanes=[goclaw.Lane("lane", RUNNING, threads=THREADS, capacity=CAPACITY)]) as engine:
            work(engine, 1_000)
            with timed(figures):
                results = work(engine, count)
        assert results == list(range(count))
        return rate(count, figures)

    return measure


for _name, _echo, _many_runs in (
    (MAP_SYNC, echo_sync, False),
    (MAP_ASYNC, echo_async, False),
    (RUNS_SYNC, echo_sync, True),
    (RUNS_ASYNC, echo_async, True),
):
    LANES.contender(_name, needs=["goclaw"])(_goclaw(_echo, _many_runs))


def _queue_workers(setting: Setting, tasks: int) -> Figures:
    """Threads that take calls from a bounded queue and put results where they belong."""
    waiting: queue.Queue[tuple[int, list[int], threading.Semaphore] | None] = queue.Queue(CAPACITY)

    def work() -> None:
        while (taken := waiting.get()) is not None:
            x, results, done = taken
            results[x] = echo_sync(x)
            done.release()

    def submit(some: int) -> list[int]:
        results, done = [-1] * some, threading.Semaphore(0)
        for x in range(some):
            waiting.put((x, results, done))
        for _ in range(some):
            done.acquire()
        return results

    workers = [threading.Thread(target=work) for _ in range(THREADS)]
    for worker in workers:
        worker.start()
    submit(1_000)
    count, figures = setting.scaled(tasks), Figures()
    with timed(figures):
        results = submit(count)
    for _ in workers:
        waiting.put(None)
    for worker in workers:
        worker.join()
    assert results == list(range(count))
    return rate(count, figures)


async def _asyncio_workers(count: int) -> Figures:
    waiting: asyncio.Queue[tuple[int, asyncio.Future[int]]] = asyncio.Queue(CAPACITY)

    async def work() -> None:
        while True:
            x, answer = await waiting.get()
            answer.set_result(await echo_async(x))

    async def submit(some: int) -> list[int]:
        loop, answers = asyncio.get_running_loop(), []
        for x in range(some):
            answer: asyncio.Future[int] = loop.create_future()
            await waiting.put((x, answer))
            answers.append(answer)
        return [await answer for answer in answers]

    workers = [asyncio.create_task(work()) for _ in range(RUNNING)]
    await submit(1_000)
    figures = Figures()
    with timed(figures):
        results = await submit(count)
    for worker in workers:
        worker.cancel()
    assert results == list(range(count))
    return rate(count, figures)


for _against, _tasks in ((MAP_SYNC, TASKS), (RUNS_SYNC, RUNS)):
    LANES.contender(f"queue.Queue, {THREADS} threads, {_tasks:,}", against=_against)(
        lambda setting, tasks=_tasks: _queue_workers(setting, tasks)
    )
for _against, _tasks in ((MAP_ASYNC, TASKS), (RUNS_ASYNC, RUNS)):
    LANES.contender(f"asyncio.Queue, {RUNNING} workers, {_tasks:,}", against=_against)(
        lambda setting, tasks=_tasks: asyncio.run(_asyncio_workers(setting.scaled(tasks)))
    )


FAIRNESS = Scenario(
    "fairness",
    "A noisy session (1,000 tasks of 1 ms, again and again) and 99 quiet ones (20 messages of 1 ms each, one after "
    "the other), 4 at once",
    figure="p50",
    unit="µs",
    higher_is_better=False,
    columns=("p99", "max", "quiet_seconds", "noisy_share"),
    rounds=3,
)
NOISE, QUIET, MESSAGES, WORK_S = 1_000, 99, 20, 0.001
FAIR, FIRST_COME = "goclaw lane, fair", "goclaw lane, fair=False"


async def _pause(x: int) -> int:
    await asyncio.sleep(WORK_S)
    return x


async def _talk_beside_noise(
    messages: int, noise: Callable[[], Awaitable[Any]], message: Callable[[int, int], Awaitable[int]]
) -> Figures:
    """What the quiet ones wait, and which part of all work was the noisy one's."""
    waits: list[int] = []
    noisy = 0

    async def be_noisy() -> None:
        nonlocal noisy
        while True:
            await noise()
            noisy += NOISE

    async def talk(session: int) -> None:
        for x in range(messages):
            began = time.perf_counter_ns()
            assert await message(session, x) == x
            waits.append(time.perf_counter_ns() - began)

    # Two, so that there is always more noise waiting.
    noises = [asyncio.create_task(be_noisy()) for _ in range(2)]
    await asyncio.sleep(0.05)
    began = time.perf_counter()
    await asyncio.gather(*(talk(session) for session in range(QUIET)))
    spent = time.perf_counter() - began
    for task in noises:
        task.cancel()
    share = noisy / (noisy + len(waits))
    return {**percentiles(waits), "quiet_seconds": spent, "noisy_share": share}


def _sessions(fair: bool) -> Callable[[Setting], Figures]:
    def measure(setting: Setting) -> Figures:
        import goclaw

        agent = goclaw.agent(name="bench.pause", lane="lane")(_pause)

        @goclaw.workflow
        def many(xs: list[int]) -> list[int]:
            return agent.map(xs)

        @goclaw.workflow
        def one(x: int) -> int:
            return agent(x)

        lane = goclaw.Lane("lane", 4, capacity=10 * NOISE, fair=fair)
        with goclaw.Engine(lanes=[lane], drain_timeout=0) as engine:
            engine.run(one, {"x": 0})

            async def noise() -> None:
                await engine.submit(many, {"xs": list(range(NOISE))}, session="noisy")

            async def message(session: int, x: int) -> int:
                return await engine.submit(one, {"x": x}, session=f"quiet {session}")

            return asyncio.run(_talk_beside_noise(max(2, setting.scaled(MESSAGES)), noise, message))

    return measure


FAIRNESS.contender(FAIR, needs=["goclaw"])(_sessions(True))
FAIRNESS.contender(FIRST_COME, needs=["goclaw"], against=FAIR)(_sessions(False))


@FAIRNESS.contender("asyncio.Queue, 4 workers", against=FAIR)
def one_queue(setting: Setting) -> Figures:
    async def all_of() -> Figures:
        waiting: asyncio.Queue[tuple[int, asyncio.Future[int]]] = asyncio.Queue()

        async def work() -> None:
            while True:
                x, answer = await waiting.get()
                answer.set_result(await _pause(x))

        def put(x: int) -> asyncio.Future[int]:
            answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            waiting.put_nowait((x, answer))
            return answer

        async def noise() -> None:
            for answer in [put(x) for x in range(NOISE)]:
                await answer

        async def message(_: int, x: int) -> int:
            return await put(x)

        workers = [asyncio.create_task(work()) for _ in range(4)]
        figures = await _talk_beside_noise(max(2, setting.scaled(MESSAGES)), noise, message)
        for worker in workers:
            worker.cancel()
        return figures

    return asyncio.run(all_of())


@FAIRNESS.target("quiet sessions wait at most a tenth of what they wait first come, first served (P50)")
def _quiet(median: Any) -> bool:
    return median(FAIR, "p50") <= median(FIRST_COME, "p50") / 10


RATE = Scenario(
    "rate",
    "Rate accuracy: 1,000 a second for 5 s, evenly; how far off",
    figure="error_percent",
    unit="%",
    higher_is_better=False,
    columns=("begun", "most_in_100_ms", "late_p99_us"),
    rounds=3,
)
PER_SECOND, SECONDS = 1_000, 5
LANE, SLOTS = "goclaw lane, rate=1000/s, burst=1", "asyncio, sleep until the next slot"


def _judged(stamps: list[int]) -> Figures:
    """Counts what began within the time, and how late the n-th was against an even pace."""
    first = stamps[0]
    within = [stamp for stamp in stamps if stamp - first < SECONDS * 1_000_000_000]
    most, lo = 0, 0
    for hi, stamp in enumerate(within):
        while stamp - within[lo] >= 100_000_000:
            lo += 1
        most = max(most, hi - lo + 1)
    late = [max(0, stamp - first - n * 1_000_000_000 // PER_SECOND) for n, stamp in enumerate(within)]
    return {
        "error_percent": abs(len(within) / (PER_SECOND * SECONDS) - 1) * 100,
        "begun": len(within),
        "most_in_100_ms": most,
        "late_p99_us": percentiles(late)["p99"],
    }


@RATE.contender(LANE, needs=["goclaw"])
def lane_rate(setting: Setting) -> Figures:
    import goclaw

    stamps: list[int] = []

    @goclaw.agent(name="bench.stamp", lane="paced")
    async def stamp(x: int) -> int:
        stamps.append(time.perf_counter_ns())
        return x

    @goclaw.agent(name="bench.warm")
    async def warm(x: int) -> int:
        return x

    @goclaw.workflow
    def all_of(xs: list[int]) -> list[int]:
        return stamp.map(xs)

    @goclaw.workflow
    def warming(xs: list[int]) -> list[int]:
        return warm.map(xs)

    lane = goclaw.Lane("paced", RUNNING, rate=f"{PER_SECOND}/s", burst=1)
    with goclaw.Engine(lanes=[lane]) as engine:
        # Starts the loop: else the first body is late by that, and all others seem early.
        engine.run(warming, {"xs": [0]})
        engine.run(all_of, {"xs": list(range(PER_SECOND * SECONDS + PER_SECOND // 2))})
    return _judged(sorted(stamps))


@RATE.contender("asyncio, sleep(1/1000) between two")
def naive(setting: Setting) -> Figures:
    async def pace() -> list[int]:
        stamps = [time.perf_counter_ns()]
        while stamps[-1] - stamps[0] < (SECONDS + 0.5) * 1e9:
            await asyncio.sleep(1 / PER_SECOND)
            stamps.append(time.perf_counter_ns())
        return stamps

    return _judged(asyncio.run(pace()))


@RATE.contender(SLOTS)
def slots(setting: Setting) -> Figures:
    async def pace() -> list[int]:
        loop = asyncio.get_running_loop()
        began, stamps = loop.time(), []
        for n in range(PER_SECOND * SECONDS + PER_SECOND // 2):
            await asyncio.sleep(began + n / PER_SECOND - loop.time())
            stamps.append(time.perf_counter_ns())
        return stamps

    return _judged(asyncio.run(pace()))


@RATE.target("never more than 1 % off")
def _accurate(median: Any) -> bool:
    return median(LANE, "error_percent") <= 1


@RATE.target("no burst in any 100 ms that is larger than with the better of the peers")
def _bounded(median: Any) -> bool:
    # Bodies are stamped, not permits: what the machine held up begins together, with peers as well.
    return median(LANE, "most_in_100_ms") <= 1.1 * median(SLOTS, "most_in_100_ms")
