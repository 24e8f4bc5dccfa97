"""Why something is not running."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import goclaw
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import process_agents

_GATES: dict[str, threading.Event] = {}
_INSIDE: dict[str, threading.Event] = {}


@pytest.fixture
def gate(request: pytest.FixtureRequest) -> Iterator[str]:
    name = request.node.name
    _GATES[name], _INSIDE[name] = threading.Event(), threading.Event()
    yield name
    _GATES[name].set()


@goclaw.agent(name="explain.hold", retries=0)
def hold(gate: str = "") -> str:
    _INSIDE[gate].set()
    assert _GATES[gate].wait(20)
    return gate


@goclaw.agent(name="explain.free")
def free(gate: str = "") -> str:
    return gate


@goclaw.agent(name="explain.fail", retry=goclaw.Retry(retries=1, initial="60s", max="60s", jitter=False))
def fail(gate: str = "") -> None:
    raise OSError("no such host")


def until(done: Callable[[], object]) -> None:
    """Gives the engine as long as it needs; the bound is for a test that fails."""
    tick = threading.Event()
    for _ in range(2_000):
        if done():
            return
        tick.wait(0.01)
    raise AssertionError("it never comes")


def held(gate: str) -> goclaw.Workflow:
    return goclaw.Workflow("held").task("a", hold, lane="narrow", args={"gate": gate})


NARROW = goclaw.Lane("narrow", 1, capacity=1)


def test_what_runs_says_since_when_and_where(gate: str) -> None:
    with goclaw.Engine(lanes=[NARROW]) as engine:
        run = engine.submit(held(gate))
        assert _INSIDE[gate].wait(10)
        found = engine.explain(run)
        (task,) = found.tasks
        assert (found.state, task.state) == ("running", "running")
        assert task.running is not None and task.running.worker == "thread"
        assert "runs on a thread" in str(found)
        _GATES[gate].set()
        run.result(10)
        assert engine.explain(run).state == "completed"
        assert engine.explain(run.id, "a").tasks[0].state == "completed"


def test_a_queued_task_names_its_place(gate: str) -> None:
    with goclaw.Engine(lanes=[NARROW]) as engine:
        engine.submit(held(gate))
        assert _INSIDE[gate].wait(10)
        second = engine.submit(held(gate))
        (place,) = engine.explain(second, "a").tasks[0].places
        assert (place.lane, place.queued, place.running, place.concurrency) == ("narrow", True, 1, 1)
        assert "1 of 1 permits are taken" in str(engine.explain(second))
        engine.lanes["narrow"].pause()
        assert "paused" in str(engine.explain(second))
        engine.lanes["narrow"].resume()
        _GATES[gate].set()
        second.result(10)


def test_a_task_that_waits_for_others_names_them(gate: str) -> None:
    flow = held(gate).task("b", free, deps=["a"]).task("c", free, deps=["a", "b"])
    with goclaw.Engine(lanes=[NARROW]) as engine:
        run = engine.submit(flow)
        assert _INSIDE[gate].wait(10)
        (task,) = engine.explain(run, "c").tasks
        assert task.waits_for == ("a", "b")
        assert "waits for `a`, `b`" in str(task)
        whole = engine.explain(run)
        assert ([task.task for task in whole.tasks], whole.more) == (["a"], 2)
        assert "2 other tasks are open" in str(whole)
        _GATES[gate].set()
        run.result(10)


def test_a_limiter_says_when_it_refills(gate: str) -> None:
    lane = goclaw.Lane("slow", 8, rate=goclaw.Rate(1, "1h"))
    flow = goclaw.Workflow("limited").task("a", free, lane="slow")
    with goclaw.Engine(lanes=[lane]) as engine:
        engine.submit(flow).result(10)
        run = engine.submit(flow)
        (place,) = engine.explain(run, "a").tasks[0].places
        assert place.ready_in is not None and 3_000 < place.ready_in <= 3_600
        assert "limiter" in str(place)
        stats = engine.lanes["slow"].stats
        assert (stats.rate_free, stats.rate) == (0, goclaw.Rate(1, 3600.0, burst=1))
        run.cancel()


def test_a_retry_says_when_it_is_due() -> None:
    with goclaw.Engine() as engine:
        run = engine.submit(goclaw.Workflow("w").task("a", fail))
        for event in run.events():
            if event.type == "task.retrying":
                break
        (task,) = engine.explain(run).tasks
        assert task.retry_in is not None and 0 < task.retry_in <= 60
        assert "no such host" in str(task)
        run.cancel()


def test_children_of_a_map_are_asked_for_by_number(gate: str) -> None:
    flow = goclaw.Workflow("m").task("each", hold, lane="narrow", for_each={"as": "gate", "items": [gate, gate]})
    with goclaw.Engine(lanes=[goclaw.Lane("narrow", 1)]) as engine:
        run = engine.submit(flow)
        assert _INSIDE[gate].wait(10)
        assert engine.explain(run).tasks[0].children == 2
        assert engine.explain(run, "each[0]").tasks[0].running is not None
        for name in ("each[2]", "each[x]", "other"):
            with pytest.raises(goclaw.GoclawError) as refused:
                engine.explain(run, name)
            assert refused.value.code == "run.unknown_task"
        _GATES[gate].set()
        run.result(10)
        with pytest.raises(goclaw.GoclawError) as refused:
            engine.explain(run, "other")
        assert refused.value.code == "run.unknown_task"
        with pytest.raises(goclaw.UnknownRun):
            engine.explain("01ARZ3NDEKTSV4RRFFQ69G5FAV")


def test_a_lane_is_drained_and_changed_while_it_works(gate: str) -> None:
    with goclaw.Engine(lanes=[NARROW]) as engine:
        lane = engine.lanes["narrow"]
        first, second = engine.submit(held(gate)), engine.submit(held(gate))
        assert _INSIDE[gate].wait(10)
        assert (lane.running, lane.queued, lane.offered, lane.granted) == (1, 1, 2, 1)
        assert not lane.drain(0)
        assert lane.paused
        _GATES[gate].set()
        assert lane.drain(10)
        assert (lane.running, lane.queued) == (0, 1)
        assert asyncio.run(lane.adrain(10))
        lane.set(concurrency=3, rate="100/s", burst=7, capacity=20, on_full="drop_oldest")
        stats = lane.stats
        assert (stats.concurrency, stats.capacity, stats.on_full) == (3, 20, "drop_oldest")
        assert stats.rate == goclaw.Rate(100, 1.0, burst=7)
        lane.set(rate=None)
        assert lane.rate is None
        lane.resume()
        assert (first.result(10), second.result(10)) == (gate, gate)
        assert lane.offered == lane.accepted + lane.redirected + lane.dropped + lane.waiting
        assert repr(lane).startswith("<Lane narrow: 0/3 running, 0/20 queued")
        assert "narrow" in repr(engine.lanes) and "<table>" in engine.lanes._repr_html_()


def test_lanes_are_declared_at_run_time() -> None:
    with goclaw.Engine() as engine:
        flow = goclaw.Workflow("w").task("a", free, lane="late", args={"gate": "x"})
        with pytest.raises(goclaw.UnknownLane):
            engine.submit(flow)
        engine.lanes.declare(goclaw.Lane("late", 2))
        engine.lanes.declare(goclaw.Lane("late", 2))
        assert engine.submit(flow).result(10) == "x"
        assert "late" in engine.lanes and engine.lanes.get("nobody") is None and len(engine.lanes) == 7


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (lambda lanes: lanes["oi"], "lane.unknown"),
        (lambda lanes: lanes.declare(goclaw.Lane("io", 3)), "lane.declared"),
        (lambda lanes: lanes.declare("io"), "config.lane"),
        (lambda lanes: lanes.declare(goclaw.Lane("x", 1, on_full=goclaw.redirect("y"))), "lane.unknown"),
        (lambda lanes: lanes["io"].set(concurrency=0), "config.lane"),
        (lambda lanes: lanes["io"].set(burst=3), "config.contradiction"),
        (lambda lanes: lanes["io"].set(on_full=goclaw.redirect("nobody")), "lane.unknown"),
        (lambda lanes: lanes["io"].set(on_full="dorp"), "config.choice"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(act: Any, code: str) -> None:
    with goclaw.Engine() as engine:
        before = engine.lanes["io"].stats
        with pytest.raises(goclaw.GoclawError) as refused:
            act(engine.lanes)
        assert refused.value.code == code
        assert engine.lanes["io"].stats == before
        with pytest.raises(AttributeError, match="did you mean `running`"):
            _ = engine.lanes["io"].runing  # type: ignore[attr-defined]


def full(engine: goclaw.Engine, gate: str) -> goclaw.Run[Any]:
    """One runs, one waits: the lane is full."""
    engine.submit(held(gate))
    assert _INSIDE[gate].wait(10)
    return engine.submit(held(gate))


def test_a_full_lane_is_tried_without_waiting(gate: str) -> None:
    with goclaw.Engine(lanes=[NARROW]) as engine:
        last = full(engine, gate)
        assert engine.try_submit(held(gate)) is None
        for options in ({"block": False}, {"timeout": 0.05}):
            with pytest.raises(goclaw.LaneFull) as refused:
                engine.submit(held(gate), **options)  # type: ignore[arg-type]
            assert refused.value.code == "lane.full"
        assert engine.lanes["narrow"].rejected >= 2
        _GATES[gate].set()
        last.result(10)
        run = engine.try_submit(held(gate))
        assert run is not None and run.result(10) == gate


def test_an_awaited_submit_waits_and_can_be_cancelled(gate: str) -> None:
    async def go(engine: goclaw.Engine) -> None:
        with pytest.raises(goclaw.LaneFull):
            await engine.asubmit(held(gate), timeout="50ms")
        waiting = asyncio.create_task(engine.asubmit(held(gate)))
        await asyncio.sleep(0)
        patient = asyncio.create_task(engine.asubmit(held(gate)))
        await asyncio.wait([waiting, patient], timeout=0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        _GATES[gate].set()
        assert await (await patient) == gate

    with goclaw.Engine(lanes=[NARROW]) as engine:
        full(engine, gate)
        asyncio.run(go(engine))
        # The two that gave up left nothing that runs: the patient one and those that filled the lane did.
        done = [run for run in engine.list(limit=10) if run.state == "completed"]
        assert len(done) == 3


def test_a_run_that_waits_for_its_session_says_who_has_it(gate: str) -> None:
    with goclaw.Engine(lanes=[NARROW]) as engine:
        first = engine.submit(held(gate), session="user-42")
        assert _INSIDE[gate].wait(10)
        found = engine.explain(first).session
        assert found == goclaw.SessionPlace("user-42", "holds", first.id, 0)
        second, third = (engine.submit(held(gate), session="user-42") for _ in range(2))
        found = engine.explain(second).session
        assert found == goclaw.SessionPlace("user-42", "waits", first.id, 1)
        last = engine.explain(third)
        assert last.session == goclaw.SessionPlace("user-42", "waits", first.id, 2)
        assert last.tasks[0].session and not last.tasks[0].journal and not last.tasks[0].places
        assert f"It waits for session `user-42`, which run {first.id} has, behind 1 other run" in str(last)
        assert engine.explain(engine.submit(held(gate))).session is None
        _GATES[gate].set()
        assert third.result(10) == gate


def test_a_parked_run_says_that_it_has_let_go_of_its_session() -> None:
    flow = goclaw.Workflow("parks").task("a", fail)
    with goclaw.Engine(drain_timeout=0) as engine:
        run = engine.submit(flow, session="user-7", on_retry="park")
        until(lambda: engine.sessions["user-7"].parked)
        found = engine.explain(run)
        assert found.session == goclaw.SessionPlace("user-7", "parked", None, 0)
        assert found.tasks[0].retry_in is not None and not found.tasks[0].session
        assert "has parked in session `user-7`" in str(found)
        run.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="worker processes are there on Linux only")
def test_what_runs_in_a_worker_process_says_so(tmp_path: Path) -> None:
    with goclaw.Engine() as engine:
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        flow = goclaw.Workflow("apart").task("a", process_agents.wait_for_ever)
        run = engine.submit(flow, {"fifo": str(fifo)})
        until(lambda: engine.explain(run).tasks and engine.explain(run).tasks[0].running)
        found = engine.explain(run)
        assert found.tasks[0].running is not None and found.tasks[0].running.worker == "process"
        assert "in a worker process" in str(found)
        run.kill()


def test_a_paused_lane_is_in_the_health_and_no_bad_health() -> None:
    with goclaw.Engine() as engine:
        assert engine.health().paused_lanes == ()
        engine.lanes["io"].pause()
        found = engine.health()
        assert found.paused_lanes == ("io",) and "lane io is paused" in str(found)
        engine.lanes["io"].resume()
        assert engine.health().paused_lanes == ()


def test_spans_of_a_map_are_told_once(gate: str) -> None:
    place = goclaw.LanePlace(
        lane="x", queued=True, tasks=1, ahead=3, running=1, concurrency=1, free=0, paused=False, held=False,
        ready_in=None, priority=0, seconds=0.0,
    )  # fmt: skip
    behind = dataclasses.replace(place, ahead=9)
    told = goclaw.TaskExplanation("a", "agent", "x", "scheduled", places=(behind, place, place))
    assert str(told).count("waits in lane `x`") == 1 and str(told).endswith("behind 3 tasks")


def test_the_reason_of_an_ended_run_is_told_once(gate: str) -> None:
    with goclaw.Engine(lanes=[NARROW], drain_timeout=0) as engine:
        run = engine.submit(held(gate))
        assert _INSIDE[gate].wait(10)
        run.kill("enough of it")
        assert run.wait(10)
        assert str(engine.explain(run)) == f"Run {run.id} is cancelled: enough of it."


def _until(is_so: Callable[[], bool]) -> None:
    for _ in range(20_000):
        if is_so():
            return
        threading.Event().wait(0.002)
    raise AssertionError("it never comes")


def test_a_run_that_is_being_cancelled_tells_who_does_not_stop() -> None:
    inside = threading.Barrier(3)
    release = threading.Event()

    @goclaw.agent(name="explain.deaf", retries=0)
    def deaf(n: int) -> int:
        inside.wait(20)
        while not release.is_set():
            try:
                release.wait(20)
            except goclaw.Cancelled:
                pass
        return n

    flow = goclaw.Workflow("deaf").task("t", deaf, for_each=[0, 1])
    with goclaw.Engine(cancel_grace="10m") as engine:
        run = engine.submit(flow)
        inside.wait(20)
        assert engine.explain(run).stopping is None
        run.cancel("the user left")
        explained = engine.explain(run)
        assert explained.stopping is not None
        assert explained.stopping.reason == "the user left"
        (task,) = explained.tasks
        assert task.running is not None
        assert task.running.told is not None
        assert task.running.names == ("t[0]", "t[1]")
        assert 500 < task.running.told.given_up_in <= 600
        said = str(explained)
        assert "stopping for" in said
        assert "the user left" in said
        assert "`t[0]`, `t[1]`" in said

        def rung() -> str:
            running = engine.explain(run, "t[1]").tasks[0].running
            assert running is not None
            assert running.told is not None
            return running.told.rung

        _until(lambda: rung() == "exception")
        (one,) = engine.explain(run, "t[1]").tasks
        assert one.running is not None
        assert one.running.names == ("t[1]",)
        release.set()
        assert run.wait(20)
        assert engine.explain(run).stopping is None
        assert "the user left" in str(engine.explain(run))


def test_a_coroutine_that_is_being_cancelled_says_so() -> None:
    inside, release = threading.Event(), threading.Event()

    @goclaw.agent(name="explain.stubborn", retries=0)
    async def stubborn() -> None:
        inside.set()
        while not release.is_set():
            try:
                await asyncio.sleep(0.005)
            except asyncio.CancelledError:
                pass

    with goclaw.Engine(cancel_grace="10m") as engine:
        run = engine.submit(goclaw.Workflow("stubborn").task("t", stubborn))
        assert inside.wait(20)
        run.cancel()
        running = engine.explain(run).tasks[0].running
        assert running is not None
        assert running.told is not None
        assert running.told.rung in ("cancelled", "cancelled again")
        assert "was cancelled" in str(engine.explain(run))
        release.set()
        assert run.wait(20)
