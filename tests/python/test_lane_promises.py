"""Sentences of the promises about lanes, each with a test that fails where it is broken."""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import goclaw
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from lane_helpers import Gauge, until

pytestmark = pytest.mark.timeout(120)


def test_the_engine_s_own_bound_holds_over_all_lanes_and_styles() -> None:
    gauge = Gauge()

    @goclaw.agent(retries=0)
    def plain(n: int) -> int:
        with gauge.inside():
            time.sleep(0.001)
        return n

    @goclaw.agent(retries=0)
    async def coroutine(n: int) -> int:
        with gauge.inside():
            await asyncio.sleep(0.001)
        return n

    flow = goclaw.Workflow("both")
    for lane in ("a", "b"):
        flow.task(f"plain-{lane}", plain, lane=lane, for_each=list(range(40)))
        flow.task(f"coroutine-{lane}", coroutine, lane=lane, for_each=list(range(40)))
    lanes = [goclaw.Lane("a", 8), goclaw.Lane("b", 8)]
    with goclaw.Engine(lanes=lanes, concurrency=3) as engine:
        engine.submit(flow).result(timeout=60)
    assert gauge.most <= 3


@pytest.mark.parametrize("style", ["thread", "loop"])
def test_a_task_that_waits_for_its_retry_holds_no_permit(style: str) -> None:
    @goclaw.agent(name=f"promises.fails.{style}", retry=goclaw.Retry(retries=3, initial="1h", max="1h", jitter=False))
    def plain() -> None:
        raise OSError("not now")

    @goclaw.agent(name=f"promises.afails.{style}", retry=goclaw.Retry(retries=3, initial="1h", max="1h", jitter=False))
    async def coroutine() -> None:
        raise OSError("not now")

    @goclaw.agent
    def works() -> int:
        return 1

    with goclaw.Engine(lanes=[goclaw.Lane("one", 1)], drain_timeout=0) as engine:
        failing = goclaw.Workflow("fails").task("t", plain if style == "thread" else coroutine, lane="one")
        run = engine.submit(failing)
        until(lambda: run.tasks["t"].state == "retrying")
        assert engine.submit(goclaw.Workflow("w").task("t", works, lane="one")).result(timeout=60) == 1
        assert engine.lanes["one"].running == 0


def test_a_head_that_waits_for_its_retry_holds_its_session() -> None:
    begun: list[str] = []

    @goclaw.agent(retry=goclaw.Retry(retries=3, initial="1h", max="1h", jitter=False))
    def note(text: str) -> None:
        begun.append(text)
        raise OSError("not now")

    flow = goclaw.Workflow("note").task("t", note)
    with goclaw.Engine(drain_timeout=0) as engine:
        first = engine.submit(flow, {"text": "first"}, session="u")
        until(lambda: first.tasks["t"].state == "retrying")
        second = engine.submit(flow, {"text": "second"}, session="u")
        assert second.admission == "queued"
        assert engine.sessions["u"].holder == first.id
        first.cancel()
        until(lambda: begun == ["first", "second"])
        assert engine.sessions["u"].holder == second.id


def test_the_longest_remaining_path_goes_first() -> None:
    order: list[str] = []
    gate, inside = threading.Event(), threading.Event()

    @goclaw.agent(retries=0)
    def hold() -> None:
        inside.set()
        gate.wait(60)

    @goclaw.agent(retries=0)
    def note(ctx: goclaw.Context) -> None:
        order.append(ctx.task_id)

    flow = goclaw.Workflow("paths")
    flow.task("leaf", note, lane="one")
    flow.task("head", note, lane="one")
    flow.task("middle", note, lane="one", deps=["head"])
    flow.task("end", note, lane="one", deps=["middle"])
    with goclaw.Engine(lanes=[goclaw.Lane("one", 1)]) as engine:
        engine.submit(goclaw.Workflow("hold").task("t", hold, lane="one"))
        assert inside.wait(60)
        run = engine.submit(flow)
        until(lambda: engine.lanes["one"].queued == 2)
        gate.set()
        run.result(timeout=60)
    assert order.index("head") < order.index("leaf")


def test_ctrl_c_withdraws_a_submit_that_waits_for_a_place() -> None:
    gate = threading.Event()

    @goclaw.agent(retries=0)
    def hold(n: int) -> int:
        gate.wait(60)
        return n

    flow = goclaw.Workflow("hold").task("t", hold, lane="one")
    with goclaw.Engine(lanes=[goclaw.Lane("one", 1, capacity=1)]) as engine:
        there = [engine.submit(flow, {"n": 0})]
        until(lambda: engine.lanes["one"].running == 1)
        there.append(engine.submit(flow, {"n": 1}))
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            engine.submit(flow, {"n": 2})
        timer.join()
        gate.set()
        assert [run.result(timeout=60) for run in there] == [0, 1]
        assert {run.id for run in engine.list()} == {run.id for run in there}
        assert engine.lanes["one"].offered == 2


def test_a_submit_that_waits_for_a_place_lets_a_plain_agent_s_permit_go() -> None:
    @goclaw.agent(retries=0)
    def child(n: int) -> int:
        return n

    @goclaw.agent(retries=0)
    def parent(n: int) -> int:
        runs = [engine.submit(work, {"n": n}) for _ in range(5)]
        return sum(run.result(timeout=60) for run in runs)

    work = goclaw.Workflow("child").task("t", child, lane="one")
    with goclaw.Engine(lanes=[goclaw.Lane("one", 1, capacity=1)]) as engine:
        assert engine.submit(goclaw.Workflow("p").task("t", parent, lane="one"), {"n": 2}).result(timeout=60) == 10


def by_events(run: goclaw.Run[int]) -> int:
    assert [event.type for event in run.events()][-1] == "run.completed"
    return run.result()


def by_wait(run: goclaw.Run[int]) -> int:
    while not run.wait(0.01):
        pass
    return run.result()


@pytest.mark.parametrize("way", [by_events, by_wait, goclaw.Run.result])
def test_however_a_plain_agent_waits_for_its_run_it_lends_its_permit(way: Callable[[goclaw.Run[int]], int]) -> None:
    @goclaw.agent(retries=0)
    def parent(depth: int) -> int:
        return 0 if depth == 0 else way(engine.submit(work, {"depth": depth - 1})) + 1

    work: goclaw.Workflow = goclaw.Workflow("parent").task("t", parent, lane="one")
    with goclaw.Engine(lanes=[goclaw.Lane("one", 1)]) as engine:
        assert engine.submit(work, {"depth": 5}).result(timeout=60) == 5
        until(lambda: (engine.lanes["one"].running, engine.lanes["one"].lent) == (0, 0))


def test_collect_begins_with_the_defaults_of_openclaw() -> None:
    usual = goclaw.Collect()
    assert (usual.debounce, usual.cap, usual.overflow) == ("500ms", 20, "summarize")
