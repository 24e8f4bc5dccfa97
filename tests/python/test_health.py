"""Who holds up everybody is found and named, and the engine goes on meanwhile."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime

import goclaw
import pytest

LONG = 20.0
needs_gil = pytest.mark.skipif(
    sys.platform == "win32" or not getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="there is no GIL to hold, or no C library to hold it with",
)


def hold(seconds: int) -> None:
    """Sleeps with the GIL held: that is how the Python API's own handle of the C library calls."""
    ctypes.PyDLL(None).sleep(seconds)


def run_one(engine: goclaw.Engine, agent: goclaw.Agent[..., object], **options: object) -> goclaw.Run[object]:
    return engine.submit(goclaw.Workflow("one").task("t", agent, **options))  # type: ignore[arg-type]


def newest(engine: goclaw.Engine, run: goclaw.Run[object]) -> goclaw.Incident:
    found = [incident for incident in engine.health().incidents if incident.run == run.id]
    assert found, engine.health()
    return found[-1]


def until(done: Callable[[], object]) -> None:
    for _ in range(1_000):
        if done():
            return
        time.sleep(0.02)
    raise AssertionError("it never comes")


@goclaw.agent(name="health.blocks")
async def blocks(later: bool) -> str:
    if later:
        await asyncio.sleep(0.001)
    time.sleep(2)  # noqa: ASYNC251
    return "done"


@pytest.mark.parametrize("later", [False, True])
def test_a_blocked_event_loop_is_found_and_the_agent_named(later: bool, caplog: pytest.LogCaptureFixture) -> None:
    with goclaw.Engine() as engine, caplog.at_level(logging.WARNING, logger="goclaw.health"):
        before = engine.stats()["goclaw_loop_blocked_total"]
        run = engine.submit(goclaw.Workflow("one").task("t", blocks), {"later": later})
        until(lambda: engine.health().loop_blocked)
        health = engine.health()
        assert health.status == "degraded"
        assert health.loop_blocked is not None
        assert (health.loop_blocked.agent, health.loop_blocked.task) == ("health.blocks", "t")
        assert health.loop_blocked.run == run.id
        assert "test_health.py" in str(health.loop_blocked.place)
        assert "in blocks" in str(health)
        assert run.result(LONG) == "done", "nobody stops it"
        until(lambda: engine.health().loop_blocked is None)
        assert not newest(engine, run).ongoing
        assert engine.stats()["goclaw_loop_blocked_total"] == before + 1
        (event,) = [event for event in run.events() if event.type == "task.blocking"]
        assert event.task == "t"
        until(lambda: "over after" in caplog.text)
    lines = [record.getMessage() for record in caplog.records if record.name == "goclaw.health"]
    assert [line for line in lines if "health.blocks" in line and "blocks the event loop at" in line]
    assert sum("health.blocks" in line for line in lines) == 2, "once when it begins, once when it is over"


@needs_gil
@pytest.mark.parametrize("isolation", ["thread", "loop"])
def test_whoever_keeps_the_interpreter_is_found_and_named(isolation: str) -> None:
    @goclaw.agent(name=f"health.hogs.{isolation}.thread")
    def hogs() -> str:
        hold(2)
        return "done"

    @goclaw.agent(name=f"health.hogs.{isolation}.loop")
    async def hogs_on_the_loop() -> str:
        hold(2)
        return "done"

    @goclaw.agent(name="health.innocent")
    def innocent(free: threading.Event) -> None:
        free.wait(LONG)

    free = threading.Event()
    with goclaw.Engine() as engine:
        others = engine.submit_many(goclaw.Workflow("others").task("t", innocent), [{"free": free}] * 3)
        run = run_one(engine, hogs if isolation == "thread" else hogs_on_the_loop)
        assert run.result(LONG) == "done"
        until(lambda: [i for i in engine.health().incidents if i.run == run.id and not i.ongoing])
        incident = newest(engine, run)
        assert (incident.kind, incident.agent) == ("gil_held", f"health.hogs.{isolation}.{isolation}")
        assert engine.stats()["goclaw_gil_hogs_total"] >= 1
        assert [event.task for event in run.events() if event.type == "task.blocking"] == ["t"]
        free.set()
        assert all(other.wait(LONG) for other in others)


@needs_gil
def test_the_engine_needs_no_interpreter_for_timeouts_and_timers() -> None:
    began: list[datetime] = []
    entered = threading.Event()

    @goclaw.agent(name="health.keeps")
    def keeps() -> None:
        began.append(datetime.now().astimezone())
        entered.set()
        hold(3)
        began.append(datetime.now().astimezone())

    @goclaw.agent(name="health.dawdles", retries=0)
    def dawdles(started: threading.Event, free: threading.Event) -> None:
        started.set()
        free.wait(LONG)

    started, free = threading.Event(), threading.Event()
    flow = goclaw.Workflow("dawdles").task("t", dawdles, lane="io", timeout="1s")
    overdue = goclaw.Workflow("overdue", timeout="1s").task("t", dawdles, lane="io")
    with goclaw.Engine() as engine:
        given = {"started": started, "free": free}
        late = engine.submit(flow, given)
        assert started.wait(LONG)
        started.clear()
        stopped = engine.submit(overdue, given)
        assert started.wait(LONG)
        hog = run_one(engine, keeps)
        assert entered.wait(LONG)
        assert hog.wait(LONG)
        failed = next(event for event in late.events() if event.type == "task.failed")
        cancelling = next(event for event in stopped.events() if event.type == "run.cancelling")
        free.set()
    # Both fell due while nobody could run Python, and neither waited for it.
    assert began[0] < failed.at.astimezone() < began[1]
    assert began[0] < cancelling.at.astimezone() < began[1]


def test_a_healthy_engine_says_so() -> None:
    with goclaw.Engine() as engine:
        health = engine.health()
        assert (health.stuck, health.held_lanes, health.store, health.missing_agents) == ((), {}, None, ())
        assert (health.incompatible_runs, health.runs, health.closing) == (0, 0, False)
        assert str(health).startswith(health.status)
    with pytest.raises(goclaw.EngineClosed):
        engine.health()
