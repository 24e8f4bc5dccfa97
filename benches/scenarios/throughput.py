"""How many tasks that do nothing get through in a second."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, TypedDict

from ..harness import Figures, Scenario, Setting, rate, raw_journal, timed

THROUGHPUT = Scenario(
    "throughput",
    "Throughput: 100,000 tasks that return their argument",
    figure="rate",
    unit="tasks/s",
    higher_is_better=True,
    columns=("count", "seconds", "disk_bytes", "syncs", "disk_seconds"),
)
TASKS, RUNS = 100_000, 20_000
SYNC, ASYNC = "goclaw, memory, map, sync", "goclaw, memory, map, async"
STRICT, RELAXED = "goclaw, durable strict, map, sync", "goclaw, durable relaxed, map, sync"
RUNS_SYNC, RUNS_STRICT = "goclaw, memory, runs of one task, sync", "goclaw, durable strict, runs of one task, sync"
GATHER, POOL, POOL_MAP = "asyncio.gather", "ThreadPoolExecutor, submit + result", "ThreadPoolExecutor, map"


def echo_sync(x: int) -> int:
    return x


async def echo_async(x: int) -> int:
    return x


# Raw limit.


@THROUGHPUT.contender("raw: bare Python calls")
def bare(setting: Setting) -> Figures:
    count, figures = setting.scaled(1_000_000), Figures()
    with timed(figures):
        for x in range(count):
            echo_sync(x)
    return rate(count, figures)


# goclaw.


def _goclaw(echo: Callable[..., Any], durability: str | None, many_runs: bool) -> Callable[[Setting], Figures]:
    def measure(setting: Setting) -> Figures:
        import goclaw

        agent = goclaw.agent(name="bench.echo")(echo)

        @goclaw.workflow
        def all_of(xs: list[int]) -> list[int]:
            return agent.map(xs)

        @goclaw.workflow
        def one_of(x: int) -> int:
            return agent(x)

        def maps(engine: goclaw.Engine, count: int) -> list[int]:
            return engine.submit(all_of, {"xs": list(range(count))}).result()

        def runs(engine: goclaw.Engine, count: int) -> list[int]:
            return [run.result() for run in engine.submit_many(one_of, [{"x": x} for x in range(count)])]

        options = {} if durability is None else {"path": setting.folder / "store", "durability": durability}
        count, figures = setting.scaled(RUNS if many_runs else TASKS), Figures()
        work = runs if many_runs else maps
        with goclaw.Engine(**options) as engine:
            work(engine, 1_000)
            before = engine.stats()
            with timed(figures):
                results = work(engine, count)
            after = engine.stats()
        assert results == list(range(count))
        if durability is not None:
            written, synced = "goclaw_journal_bytes_total", "goclaw_journal_syncs_total"
            figures["disk_bytes"] = after[written] - before[written]
            figures["syncs"] = after[synced] - before[synced]
            figures["disk_seconds"] = raw_journal(setting.folder, figures["disk_bytes"], figures["syncs"])
        return rate(count, figures)

    return measure


for _name, _echo, _durability, _many_runs in (
    (SYNC, echo_sync, None, False),
    (ASYNC, echo_async, None, False),
    (RUNS_SYNC, echo_sync, None, True),
    ("goclaw, memory, runs of one task, async", echo_async, None, True),
    (STRICT, echo_sync, "strict", False),
    ("goclaw, durable strict, map, async", echo_async, "strict", False),
    (RELAXED, echo_sync, "relaxed", False),
    (RUNS_STRICT, echo_sync, "strict", True),
    ("goclaw, durable strict, runs of one task, async", echo_async, "strict", True),
    ("goclaw, durable relaxed, runs of one task, sync", echo_sync, "relaxed", True),
):
    THROUGHPUT.contender(_name, needs=["goclaw"])(_goclaw(_echo, _durability, _many_runs))


# Peers.


@THROUGHPUT.contender(POOL, against=SYNC)
def pool(setting: Setting) -> Figures:
    count, figures = setting.scaled(TASKS), Figures()
    with ThreadPoolExecutor() as threads:
        list(threads.map(echo_sync, range(1_000)))
        with timed(figures):
            results = [future.result() for future in [threads.submit(echo_sync, x) for x in range(count)]]
    assert results == list(range(count))
    return rate(count, figures)


@THROUGHPUT.contender(POOL_MAP, against=SYNC)
def pool_map(setting: Setting) -> Figures:
    count, figures = setting.scaled(TASKS), Figures()
    with ThreadPoolExecutor() as threads:
        list(threads.map(echo_sync, range(1_000)))
        with timed(figures):
            results = list(threads.map(echo_sync, range(count)))
    assert results == list(range(count))
    return rate(count, figures)


async def _gather(count: int) -> Figures:
    figures = Figures()
    await asyncio.gather(*(echo_async(x) for x in range(1_000)))
    with timed(figures):
        results = await asyncio.gather(*(echo_async(x) for x in range(count)))
    assert results == list(range(count))
    return rate(count, figures)


@THROUGHPUT.contender(GATHER, against=ASYNC)
def gather(setting: Setting) -> Figures:
    return asyncio.run(_gather(setting.scaled(TASKS)))


@THROUGHPUT.contender("uvloop, gather", needs=["uvloop"], against=ASYNC)
def uvloop_gather(setting: Setting) -> Figures:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_gather(setting.scaled(TASKS)))


async def _queue_lane(count: int, workers: int) -> Figures:
    queue: asyncio.Queue[tuple[int, asyncio.Future[int]]] = asyncio.Queue(maxsize=1_024)

    async def work() -> None:
        while True:
            x, answer = await queue.get()
            answer.set_result(await echo_async(x))

    async def submit(some: int) -> list[int]:
        loop = asyncio.get_running_loop()
        answers = []
        for x in range(some):
            answer: asyncio.Future[int] = loop.create_future()
            await queue.put((x, answer))
            answers.append(answer)
        return [await answer for answer in answers]

    lane = [asyncio.create_task(work()) for _ in range(workers)]
    await submit(1_000)
    figures = Figures()
    with timed(figures):
        results = await submit(count)
    for worker in lane:
        worker.cancel()
    assert results == list(range(count))
    return rate(count, figures)


@THROUGHPUT.contender("asyncio.Queue lane, 64 workers", against=ASYNC)
def queue_lane(setting: Setting) -> Figures:
    return asyncio.run(_queue_lane(setting.scaled(TASKS), 64))


class State(TypedDict):
    """LangGraph's: what goes in, and where the answers are gathered."""

    xs: list[int]
    out: Annotated[list[int], operator.add]


def _langgraph(echo: Callable[[dict[str, int]], Any]) -> Any:
    from langgraph.graph import END, START, StateGraph
    from langgraph.types import Send

    graph = StateGraph(State)
    graph.add_node("echo", echo)
    graph.add_conditional_edges(START, lambda state: [Send("echo", {"x": x}) for x in state["xs"]], ["echo"])
    graph.add_edge("echo", END)
    return graph.compile()


@THROUGHPUT.contender("LangGraph, Send, sync", needs=["langgraph"], against=SYNC, note="2,000 tasks")
def langgraph_sync(setting: Setting) -> Figures:
    graph = _langgraph(lambda given: {"out": [given["x"]]})
    count, figures = setting.scaled(2_000), Figures()
    graph.invoke({"xs": list(range(50)), "out": []})
    with timed(figures):
        results = graph.invoke({"xs": list(range(count)), "out": []})
    assert results["out"] == list(range(count))
    return rate(count, figures)


@THROUGHPUT.contender("LangGraph, Send, async", needs=["langgraph"], against=ASYNC, note="2,000 tasks")
def langgraph_async(setting: Setting) -> Figures:
    async def echo(given: dict[str, int]) -> dict[str, list[int]]:
        return {"out": [given["x"]]}

    graph = _langgraph(echo)
    count, figures = setting.scaled(2_000), Figures()

    async def all_of() -> Any:
        await graph.ainvoke({"xs": list(range(50)), "out": []})
        with timed(figures):
            return await graph.ainvoke({"xs": list(range(count)), "out": []})

    results = asyncio.run(all_of())
    assert results["out"] == list(range(count))
    return rate(count, figures)


def _dbos(setting: Setting) -> Any:
    from dbos import DBOS

    database = f"sqlite:///{setting.folder / 'dbos.sqlite'}"
    DBOS(config={"name": "bench", "system_database_url": database, "log_level": "ERROR", "run_admin_server": False})
    return DBOS


@THROUGHPUT.contender("DBOS on SQLite, steps of one workflow", needs=["dbos"], against=STRICT, note="500 tasks")
def dbos_steps(setting: Setting) -> Figures:
    dbos = _dbos(setting)
    echo = dbos.step()(echo_sync)

    @dbos.workflow()
    def all_of(count: int) -> list[int]:
        return [echo(x) for x in range(count)]

    dbos.launch()
    count, figures = setting.scaled(500), Figures()
    all_of(10)
    with timed(figures):
        results = all_of(count)
    dbos.destroy()
    assert results == list(range(count))
    return rate(count, figures)


@THROUGHPUT.contender("DBOS on SQLite, workflows of one step", needs=["dbos"], against=RUNS_STRICT, note="200 tasks")
def dbos_workflows(setting: Setting) -> Figures:
    dbos = _dbos(setting)
    echo = dbos.step()(echo_sync)

    @dbos.workflow()
    def one_of(x: int) -> int:
        return echo(x)

    dbos.launch()
    count, figures = setting.scaled(200), Figures()
    one_of(0)
    with timed(figures):
        results = [handle.get_result() for handle in [dbos.start_workflow(one_of, x) for x in range(count)]]
    dbos.destroy()
    assert results == list(range(count))
    return rate(count, figures)


@THROUGHPUT.target("in memory, sync: at least 200,000 tasks/s, or 10 × ThreadPoolExecutor")
def _sync(median: Any) -> bool:
    return median(SYNC, "rate") >= min(200_000, 10 * median(POOL, "rate"))


@THROUGHPUT.target("in memory, async: at least 150,000 tasks/s, or 5 × asyncio.gather")
def _async(median: Any) -> bool:
    return median(ASYNC, "rate") >= min(150_000, 5 * median(GATHER, "rate"))


@THROUGHPUT.target("durable strict: at least 20,000 tasks/s")
def _strict(median: Any) -> bool:
    return median(STRICT, "rate") >= 20_000


@THROUGHPUT.target("durable strict: at least 100 × DBOS on SQLite (steps)")
def _dbos_steps(median: Any) -> bool:
    return median(STRICT, "rate") >= 100 * median("DBOS on SQLite, steps of one workflow", "rate")


@THROUGHPUT.target("durable strict runs: at least 100 × DBOS on SQLite (workflows)")
def _dbos_workflows(median: Any) -> bool:
    return median(RUNS_STRICT, "rate") >= 100 * median("DBOS on SQLite, workflows of one step", "rate")
