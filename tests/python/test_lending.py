"""Async agents that wait for runs lend their permit, and take one again before they go on."""

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import goclaw
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from lane_helpers import Gauge, flow, is_free, until

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def narrow() -> Iterator[goclaw.Engine]:
    """An engine whose lane has one permit."""
    with goclaw.Engine(lanes=[goclaw.Lane("one", 1), goclaw.Lane("two", 2), goclaw.Lane("free", 9)]) as engine:
        yield engine


async def by_run(engine: goclaw.Engine, work: goclaw.Workflow, given: Any) -> Any:
    return await engine.submit(work, given, block=False)


async def by_asubmit(engine: goclaw.Engine, work: goclaw.Workflow, given: Any) -> Any:
    return await (await engine.asubmit(work, given))


async def by_arun(engine: goclaw.Engine, work: goclaw.Workflow, given: Any) -> Any:
    return await engine.arun(work, given)


async def by_events(engine: goclaw.Engine, work: goclaw.Workflow, given: Any) -> Any:
    run = engine.submit(work, given, block=False)
    async for event in run.events():
        assert event.run == run.id
    return await run


async def by_thread(engine: goclaw.Engine, work: goclaw.Workflow, given: Any) -> Any:
    return await asyncio.to_thread(engine.submit(work, given, block=False).result)


async def by_help(engine: goclaw.Engine, work: goclaw.Workflow, given: Any) -> Any:
    return await asyncio.to_thread(engine.run, work, given)


async def by_executor(engine: goclaw.Engine, work: goclaw.Workflow, given: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, engine.run, work, given)


async def by_pool(engine: goclaw.Engine, work: goclaw.Workflow, given: Any) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return await asyncio.get_running_loop().run_in_executor(pool, engine.submit(work, given, block=False).result)


async def by_gather(engine: goclaw.Engine, work: goclaw.Workflow, given: Any) -> Any:
    return (await asyncio.gather(*(engine.arun(work, given) for _ in range(3))))[0]


async def by_group(engine: goclaw.Engine, work: goclaw.Workflow, given: Any) -> Any:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(engine.arun(work, given)) for _ in range(2)]
    return tasks[1].result()


async def by_wait_for(engine: goclaw.Engine, work: goclaw.Workflow, given: Any) -> Any:
    return await asyncio.wait_for(engine.arun(work, given), 60)


WAYS = [
    by_run,
    by_asubmit,
    by_arun,
    by_events,
    by_thread,
    by_help,
    by_executor,
    by_pool,
    by_gather,
    by_group,
    by_wait_for,
]


@pytest.mark.parametrize("way", WAYS)
def test_a_lane_of_one_does_not_lock_an_async_parent_out(
    narrow: goclaw.Engine, way: Callable[..., Awaitable[Any]]
) -> None:
    @goclaw.agent(retries=0)
    async def parent(depth: int) -> int:
        if depth == 0:
            return 0
        below: int = await way(narrow, work, {"depth": depth - 1})
        return below + 1

    work = flow(parent)
    assert narrow.submit(work, {"depth": 3}).result(timeout=60) == 3
    until(lambda: is_free(narrow))


def test_thirty_parents_in_each_other_go_through_a_lane_of_one(narrow: goclaw.Engine) -> None:
    going = Gauge()

    @goclaw.agent(retries=0)
    async def parent(depth: int) -> int:
        with going.inside():
            await asyncio.sleep(0)
        below: int = 0 if depth == 0 else await narrow.arun(work, {"depth": depth - 1})
        with going.inside():
            await asyncio.sleep(0)
        return below + 1

    work = flow(parent)
    assert narrow.submit(work, {"depth": 29}).result(timeout=60) == 30
    assert going.most == 1
    until(lambda: is_free(narrow))


@pytest.mark.parametrize("lane", ["one", "two"])
def test_parents_that_come_in_one_batch_keep_to_the_bound(narrow: goclaw.Engine, lane: str) -> None:
    going = Gauge()

    @goclaw.agent(retries=0)
    async def child(n: int) -> int:
        with going.inside():
            await asyncio.sleep(0)
        return n

    @goclaw.agent(retries=0)
    async def parent(n: int) -> int:
        total = 0
        for _ in range(4):
            with going.inside():
                await asyncio.sleep(0)
            total += await narrow.arun(work, {"n": n})
        with going.inside():
            await asyncio.sleep(0)
        return total

    work = flow(child, lane)
    parents = goclaw.Workflow("parents").task("p", parent, lane=lane, for_each=list(range(20)))
    assert narrow.submit(parents).result(timeout=60) == [4 * n for n in range(20)]
    assert going.most <= narrow.lanes[lane].concurrency
    until(lambda: is_free(narrow, lane))


def test_tasks_of_one_agent_go_on_with_its_one_permit(narrow: goclaw.Engine) -> None:
    going = Gauge()

    @goclaw.agent(retries=0)
    async def child(n: int) -> int:
        with going.inside():
            await asyncio.sleep(0)
        return n

    @goclaw.agent(retries=0)
    async def parent(ns: list[int]) -> int:
        async def one(n: int) -> int:
            got: int = await narrow.arun(work, {"n": n})
            with going.inside():  # one step: what comes after the wait holds the permit
                time.sleep(0.001)  # noqa: ASYNC251
            return got

        return sum(await asyncio.gather(*map(one, ns)))

    work = flow(child)
    assert narrow.submit(flow(parent), {"ns": list(range(12))}).result(timeout=60) == sum(range(12))
    assert going.most == 1
    until(lambda: is_free(narrow))


def test_other_tasks_of_an_agent_go_on_without_a_permit_while_one_waits(narrow: goclaw.Engine) -> None:
    has_permit, may_end = threading.Event(), threading.Event()

    @goclaw.agent(retries=0)
    def child() -> str:
        has_permit.set()
        assert may_end.wait(60), "the sibling needs no permit to go on"
        return "child"

    @goclaw.agent(retries=0)
    async def parent() -> list[Any]:
        async def sibling() -> int:
            await asyncio.to_thread(has_permit.wait)
            running = narrow.lanes["one"].running
            may_end.set()
            return running

        return list(await asyncio.gather(narrow.arun(flow(child)), sibling()))

    assert narrow.submit(flow(parent)).result(timeout=60) == ["child", 1]
    until(lambda: is_free(narrow))


def test_more_agents_than_a_pool_has_threads_wait_in_threads(narrow: goclaw.Engine) -> None:
    child = flow(goclaw.agent(name="lending.leaf")(lambda: 1))

    @goclaw.agent(retries=0)
    async def parent() -> int:
        return await asyncio.to_thread(narrow.run, child)

    runs = narrow.submit_many(flow(parent), [{} for _ in range(60)])
    assert [run.result(timeout=60) for run in runs] == [1] * 60
    until(lambda: is_free(narrow))


def test_a_plain_agent_may_await_runs_on_a_loop_of_its_own(narrow: goclaw.Engine) -> None:
    @goclaw.agent(retries=0)
    def parent(depth: int) -> int:
        async def below() -> int:
            return sum(await asyncio.gather(*(narrow.arun(work, {"depth": depth - 1}) for _ in range(2))))

        return 1 if depth == 0 else asyncio.run(below())

    work = flow(parent)
    assert narrow.submit(work, {"depth": 3}).result(timeout=60) == 8
    until(lambda: is_free(narrow))


def test_a_parent_that_waits_for_a_place_in_its_own_lane_lends_its_permit() -> None:
    @goclaw.agent(retries=0)
    async def child(n: int) -> int:
        return n

    @goclaw.agent(retries=0)
    async def parent(n: int) -> int:
        runs = [await engine.asubmit(work, {"n": n}) for _ in range(5)]
        return sum([await run for run in runs])

    work = flow(child)
    with goclaw.Engine(lanes=[goclaw.Lane("one", 1, capacity=1)]) as engine:
        assert engine.submit(flow(parent), {"n": 3}).result(timeout=60) == 15


class Held:
    """A lane of one in which a parent waits to go on, while another agent has the permit."""

    def __init__(self, engine: goclaw.Engine, **options: Any) -> None:
        self.engine = engine
        self.order: list[str] = []
        self.may_end, self.holds = threading.Event(), threading.Event()
        child_may_end = threading.Event()

        @goclaw.agent(retries=0)
        def child() -> int:
            child_may_end.wait(60)
            return 1

        @goclaw.agent(retries=0)
        def other() -> None:
            self.holds.set()
            self.may_end.wait(60)
            self.order.append("other ended")

        @goclaw.agent(retries=0)
        async def parent() -> str:
            try:
                await self.wait(engine.submit(flow(child, "free"), block=False))
                self.order.append("parent went on")
            except asyncio.CancelledError:
                self.order.append("parent cleans up")
                raise
            except TimeoutError:
                self.order.append("parent is late")
            return "done"

        self.parent = engine.submit(flow(parent, **options))
        until(lambda: engine.lanes["one"].lent == 1)
        self.other = engine.submit(flow(other))
        assert self.holds.wait(60)
        child_may_end.set()

    async def wait(self, run: Any) -> None:
        await run


def test_before_it_goes_on_a_parent_waits_for_a_permit(narrow: goclaw.Engine) -> None:
    held = Held(narrow)
    until(lambda: "waits for a permit to go on" in str(narrow.explain(held.parent)))
    assert held.order == []
    held.may_end.set()
    assert held.parent.result(timeout=60) == "done"
    assert held.order == ["other ended", "parent went on"]


def test_a_parent_that_is_cancelled_while_it_waits_for_a_permit_cleans_up_with_one(narrow: goclaw.Engine) -> None:
    held = Held(narrow)
    held.parent.cancel("enough")
    assert not held.parent.wait(0.05), "somebody else has the permit"
    held.may_end.set()
    assert held.parent.wait(60)
    assert held.parent.state == "cancelled"
    assert held.order == ["other ended", "parent cleans up"]
    until(lambda: is_free(narrow))


def test_a_parent_that_gets_no_permit_in_its_grace_is_given_up() -> None:
    with goclaw.Engine(lanes=[goclaw.Lane("one", 1), goclaw.Lane("free", 9)], cancel_grace=0.1) as engine:
        held = Held(engine)
        held.parent.cancel("enough")
        assert held.parent.wait(60)
        assert held.order[:1] != ["other ended"], "it did not wait for the other"
        assert engine.lanes["one"].stats.lent == 0
        held.may_end.set()
        assert held.other.wait(60)
        until(lambda: is_free(engine))


def test_a_timeout_of_the_agent_s_own_takes_the_permit_first(narrow: goclaw.Engine) -> None:
    class Late(Held):
        async def wait(self, run: Any) -> None:
            async with asyncio.timeout(0.01):
                await run
                await asyncio.Event().wait()

    held = Late(narrow)
    held.may_end.set()
    assert held.parent.result(timeout=60) == "done"
    assert held.order == ["other ended", "parent is late"]


def test_a_parent_whose_attempt_times_out_leaves_nothing_lent(narrow: goclaw.Engine) -> None:
    held = Held(narrow, timeout=3)
    assert held.parent.wait(60)
    assert held.parent.state == "failed"
    assert narrow.lanes["one"].stats.lent == 0
    held.may_end.set()
    assert held.other.wait(60)
    until(lambda: is_free(narrow))


def test_one_of_a_batch_that_times_out_while_it_waits_leaves_the_others_their_permits() -> None:
    gate = threading.Event()

    @goclaw.agent(retries=0)
    def child() -> None:
        gate.wait(60)

    @goclaw.agent(retries=0, timeout=3)
    async def parent(n: int) -> int:
        if n == 1:
            await engine.submit(flow(child, "free"), block=False)
        return n

    lanes = [goclaw.Lane("three", 3), goclaw.Lane("free", 9)]
    work = goclaw.Workflow("work", on_failure="continue").task("p", parent, lane="three", for_each=list(range(6)))
    with goclaw.Engine(lanes=lanes) as engine:
        run = engine.submit(work)
        assert run.wait(60)
        states = [view.state for view in run.children("p")]
        assert states == ["completed", "failed", *["completed"] * 4]
        gate.set()
        until(lambda: is_free(engine, "three"))


def test_a_parent_that_is_killed_leaves_nothing_lent(narrow: goclaw.Engine) -> None:
    held = Held(narrow)
    held.parent.kill("enough")
    assert held.parent.wait(60)
    assert narrow.lanes["one"].stats.lent == 0
    held.may_end.set()
    assert held.other.wait(60)
    until(lambda: is_free(narrow))


def test_an_engine_that_closes_lets_parents_go() -> None:
    engine = goclaw.Engine(lanes=[goclaw.Lane("one", 1), goclaw.Lane("free", 9)], drain_timeout=0)
    held = Held(engine)
    closer = threading.Thread(target=engine.close)
    closer.start()
    until(lambda: "parent cleans up" in held.order or "parent went on" in held.order)
    held.may_end.set()
    closer.join(60)
    assert not closer.is_alive()


def test_a_drain_waits_for_agents_that_lent_their_permits(narrow: goclaw.Engine) -> None:
    held = Held(narrow)
    held.may_end.set()
    assert held.other.wait(60)
    assert held.parent.wait(60)
    gate = threading.Event()

    @goclaw.agent(retries=0)
    def child() -> None:
        gate.wait(60)

    @goclaw.agent(retries=0)
    async def parent() -> None:
        await narrow.submit(flow(child, "free"), block=False)

    run = narrow.submit(flow(parent))
    until(lambda: narrow.lanes["one"].lent == 1)
    assert narrow.lanes["one"].running == 0
    assert not narrow.lanes["one"].drain(0)
    said = str(narrow.explain(run))
    assert "waits for a run of its own, its permit lent meanwhile" in said
    gate.set()
    assert narrow.lanes["one"].drain(60)
    assert run.wait(60), "it went on, although the lane is paused"


def test_a_parent_whose_child_waits_in_the_drained_lane_goes_on_when_it_is_resumed(narrow: goclaw.Engine) -> None:
    begun = threading.Event()
    go = threading.Event()

    @goclaw.agent(retries=0)
    async def child() -> int:
        return 1

    @goclaw.agent(retries=0)
    async def parent() -> int:
        begun.set()
        await asyncio.to_thread(go.wait)
        return int(await narrow.arun(flow(child))) + 1

    run = narrow.submit(flow(parent))
    assert begun.wait(60)
    lane = narrow.lanes["one"]
    assert not lane.drain(0)
    go.set()
    until(lambda: lane.lent == 1 and lane.queued == 1)
    assert not lane.drain(0.02), "the parent will go on, so it counts"
    lane.resume()
    assert run.result(timeout=60) == 2


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_agent_cannot_wait_until_its_own_lane_is_drained(narrow: goclaw.Engine, kind: str) -> None:
    @goclaw.agent
    def plain() -> None:
        narrow.lanes["one"].drain()

    @goclaw.agent
    async def coroutine() -> None:
        await narrow.lanes["one"].adrain()

    run = narrow.submit(flow(plain if kind == "sync" else coroutine))
    with pytest.raises(goclaw.TaskFailed) as failed:
        run.result(timeout=60)
    assert isinstance(failed.value.__cause__, goclaw.WouldDeadlock)
    assert failed.value.__cause__.code == "engine.own_lane"
    assert not narrow.lanes["one"].paused


def test_what_an_agent_leaves_behind_lends_nothing(narrow: goclaw.Engine) -> None:
    gate = threading.Event()
    left: list[asyncio.Task[Any]] = []

    @goclaw.agent(retries=0)
    def child() -> int:
        gate.wait(60)
        return 1

    @goclaw.agent(retries=0)
    async def parent() -> str:
        left.append(asyncio.get_running_loop().create_task(narrow.arun(flow(child, "free"))))
        await asyncio.sleep(0)
        return "done"

    assert narrow.submit(flow(parent)).result(timeout=60) == "done"
    until(lambda: is_free(narrow))
    gate.set()
    until(lambda: left[0].done())
    assert left[0].result() == 1
    assert is_free(narrow)


async def events_of(run: goclaw.Run[Any]) -> AsyncIterator[goclaw.Event]:
    async for event in run.events():
        yield event


def test_waiting_outside_of_agents_lends_nothing(narrow: goclaw.Engine) -> None:
    @goclaw.agent
    async def child(n: int) -> int:
        return n

    async def main() -> list[int]:
        runs = [await narrow.asubmit(flow(child), {"n": n}) for n in range(3)]
        assert [event.type async for event in events_of(runs[0])][-1] == "run.completed"
        return list(await asyncio.gather(*runs))

    assert asyncio.run(main()) == [0, 1, 2]
