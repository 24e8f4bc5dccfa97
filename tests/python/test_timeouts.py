"""Time that is over: of attempts, of runs, of engines."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from pathlib import Path

import goclaw
import pytest


@goclaw.agent(retries=0)
async def forever(x: int, context: goclaw.Context) -> int:
    await asyncio.Event().wait()
    return x


@goclaw.workflow(timeout="50ms")
def overdue(x: int) -> int:
    return forever(x)


@goclaw.workflow
def given_up(x: int) -> int:
    return forever(x)


def test_a_run_over_its_timeout_says_so() -> None:
    with goclaw.Engine() as engine:
        run = engine.submit(overdue, {"x": 1})
        with pytest.raises(goclaw.RunTimedOut, match="took longer than 50 ms") as raised:
            run.result()
    assert (raised.value.code, run.state) == ("run.timeout", "failed")
    assert isinstance(raised.value, TimeoutError)


@pytest.mark.parametrize(
    ("policy", "attempts"),
    [
        (goclaw.Retry(retries=1, initial="1ms", on=(goclaw.TaskTimedOut,)), 2),
        (goclaw.Retry(retries=1, initial="1ms", on=(TimeoutError,)), 2),
        (goclaw.Retry(retries=1, initial="1ms", never=(TimeoutError,)), 1),
        (goclaw.Retry(retries=1, initial="1ms", on=(LookupError,)), 1),
    ],
)
def test_a_policy_names_timeouts_by_their_class(policy: goclaw.Retry, attempts: int) -> None:
    flow = goclaw.Workflow("impatient")
    flow.task("forever", forever, timeout="20ms", retry=policy)
    with goclaw.Engine() as engine, pytest.raises(goclaw.TaskFailed) as raised:
        engine.run(flow, {"x": 1})
    assert (raised.value.code, raised.value.attempts) == ("task.timeout", attempts)
    assert isinstance(raised.value.__cause__, goclaw.TaskTimedOut)


TRACED_AFTER_A_STOP = """
import sys, time, goclaw

@goclaw.agent(timeout="30ms", retries=0)
def dawdle(x: int) -> int:
    while True:
        time.sleep(0.005)

@goclaw.workflow
def slow(x: int) -> int:
    return dawdle(x)

with goclaw.Engine() as engine:
    run = engine.submit(slow, {"x": 1})
    run.wait()
    while engine.stats()["goclaw_threads_stuck"]:
        time.sleep(0.01)

def traced() -> int:
    return 1

sys.settrace(lambda *_: None)
traced()
sys.settrace(None)
print(run.error.code)
"""


def test_a_stopped_thread_leaves_nothing_behind_for_debuggers() -> None:
    """Python 3.11 spins in traced functions when an exception for another thread is taken back."""
    command = [sys.executable, "-c", TRACED_AFTER_A_STOP]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.returncode) == ("task.timeout\n", 0), done.stderr


@goclaw.agent
async def nap(length: float | str, context: goclaw.Context) -> str:
    await context.sleep(length)
    return "awake"


@goclaw.workflow
def napping(length: float | str) -> str:
    return nap(length)


@pytest.mark.parametrize("length", [0.001, "1ms"])
def test_an_agent_sleeps_for_any_length_of_time(length: float | str) -> None:
    assert goclaw.run(napping, {"length": length}) == "awake"


@pytest.mark.parametrize("durable", [True, False])
def test_a_closed_engine_says_so_whatever_it_is_asked(durable: bool, tmp_path: Path) -> None:
    with goclaw.Engine(tmp_path if durable else None) as engine:
        run = engine.submit(napping, {"length": 0.0})
        assert run.result() == "awake"
    questions = [engine.list, lambda: engine.get(run.id), lambda: list(run.events()), engine.purge]
    for question in questions:
        with pytest.raises(goclaw.EngineClosed):
            question()
    assert list(engine.events()) == []  # follows until the engine closes: it has


def family(code: str) -> type[goclaw.GoclawTimeout]:
    return {
        "task.queue_timeout": goclaw.QueueTimedOut,
        "task.idle_timeout": goclaw.IdleTimedOut,
        "task.total_timeout": goclaw.TotalTimedOut,
    }[code]


def refused(run: goclaw.Run[object], code: str) -> goclaw.TaskFailed:
    with pytest.raises(goclaw.TaskFailed) as raised:
        run.result(20)
    cause = raised.value.__cause__
    assert raised.value.code == code
    assert isinstance(cause, family(code))
    assert isinstance(cause, goclaw.TaskTimedOut)
    assert isinstance(cause, TimeoutError)
    return raised.value


@pytest.mark.parametrize("isolation", ["thread", "loop"])
def test_a_task_that_waits_too_long_for_its_lane_fails(isolation: str) -> None:
    free, begun = threading.Event(), threading.Event()

    @goclaw.agent(lane="narrow", name=f"timeouts.holds.{isolation}")
    def holds() -> None:
        begun.set()
        free.wait(20)

    @goclaw.agent(name=f"timeouts.waits.{isolation}", retries=3)
    def waits() -> int:
        return 1

    @goclaw.agent(name=f"timeouts.waits.{isolation}.loop", retries=3)
    async def waits_on_the_loop() -> int:
        return 1

    flow = goclaw.Workflow("waits")
    flow.task("t", waits if isolation == "thread" else waits_on_the_loop, lane="narrow", queue_timeout="30ms")
    with goclaw.Engine(lanes=[goclaw.Lane("narrow", 1)]) as engine:
        engine.submit(goclaw.Workflow("holds").task("t", holds))
        assert begun.wait(20)
        run = engine.submit(flow)
        failed = refused(run, "task.queue_timeout")
        assert failed.attempts == 0
        assert engine.lanes["narrow"].queued == 0, "it has left its lane"
        free.set()
        assert engine.submit(flow).result(20) == 1


def test_a_silent_attempt_is_given_up_and_repeated() -> None:
    @goclaw.agent(name="timeouts.silent", idle_timeout="60ms", retries=1, retry=None)
    async def silent(context: goclaw.Context) -> int:
        if context.attempt == 1:
            await asyncio.Event().wait()
        return context.attempt

    @goclaw.agent(name="timeouts.silent.thread", idle_timeout="60ms", retries=0)
    def silent_thread(context: goclaw.Context) -> None:
        while True:
            time.sleep(0.001)

    with goclaw.Engine() as engine:
        assert engine.submit(goclaw.Workflow("silent").task("t", silent)).result(20) == 2
        refused(engine.submit(goclaw.Workflow("quiet").task("t", silent_thread)), "task.idle_timeout")


@pytest.mark.parametrize("sign", ["heartbeat", "progress", "checkpoint"])
@pytest.mark.parametrize("isolation", ["thread", "loop"])
def test_signs_of_life_hold_off_the_idle_timeout(sign: str, isolation: str) -> None:
    def live(context: goclaw.Context) -> None:
        context.progress(1.0) if sign == "progress" else getattr(context, sign)()

    # Far more work than one silence lasts; a sign comes every few milliseconds.
    @goclaw.agent(name=f"timeouts.lively.{sign}", idle_timeout="1s", retries=0)
    def lively(context: goclaw.Context) -> str:
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            live(context)
            time.sleep(0.005)
        return "done"

    @goclaw.agent(name=f"timeouts.lively.{sign}.loop", idle_timeout="1s", retries=0)
    async def lively_on_the_loop(context: goclaw.Context) -> str:
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            live(context)
            await asyncio.sleep(0.005)
        return "done"

    agent = lively if isolation == "thread" else lively_on_the_loop
    with goclaw.Engine() as engine:
        assert engine.submit(goclaw.Workflow("lively").task("t", agent)).result(20) == "done"


def test_one_silent_coroutine_of_many_is_given_up_alone() -> None:
    @goclaw.agent(name="timeouts.some", idle_timeout="300ms", retries=0)
    async def some(n: int, context: goclaw.Context) -> int:
        if n == 3:
            await asyncio.Event().wait()
        until = time.monotonic() + 0.8
        while time.monotonic() < until:
            context.heartbeat()
            await asyncio.sleep(0.005)
        return n

    flow = goclaw.Workflow("some", on_failure="continue")
    flow.task("t", some, for_each="{{ input.ns }}", args={})
    with goclaw.Engine() as engine:
        run = engine.submit(flow, {"ns": list(range(6))})
        run.wait(20)
        states = [event.task for event in run.events() if event.type == "task.completed"]
        assert sorted(map(str, states)) == ["t[0]", "t[1]", "t[2]", "t[4]", "t[5]"]
        assert "t[3]" in [event.task for event in run.events() if event.type == "task.failed"]


def test_heartbeats_tell_what_an_agent_is_at() -> None:
    told, free = threading.Event(), threading.Event()

    @goclaw.agent(name="timeouts.tells")
    def tells(context: goclaw.Context) -> None:
        context.heartbeat({"page": 3})
        told.set()
        free.wait(20)

    with goclaw.Engine() as engine:
        run = engine.submit(goclaw.Workflow("tells").task("t", tells))
        assert told.wait(20)
        beat = run.tasks["t"].heartbeat
        assert beat is not None
        assert (beat.details, beat.ago >= 0) == ("{'page': 3}", True)
        assert engine.stats()["goclaw_heartbeats_total"] == 1
        free.set()
        run.result(20)
        assert run.tasks["t"].heartbeat is None


@pytest.mark.parametrize("waits", ["running", "retrying", "queued"])
def test_a_task_gets_so_much_time_altogether(waits: str) -> None:
    free, begun = threading.Event(), threading.Event()

    @goclaw.agent(lane="narrow", name=f"timeouts.blocks.{waits}")
    def blocks() -> None:
        begun.set()
        free.wait(20)

    @goclaw.agent(name=f"timeouts.total.{waits}", retry=goclaw.Retry(retries=100, initial="10s", jitter=False))
    async def total() -> None:
        if waits == "retrying":
            raise OSError("again")
        await asyncio.Event().wait()

    flow = goclaw.Workflow("total").task("t", total, lane="narrow", total_timeout="50ms")
    with goclaw.Engine(lanes=[goclaw.Lane("narrow", 1)]) as engine:
        if waits == "queued":
            engine.submit(goclaw.Workflow("blocks").task("t", blocks))
            assert begun.wait(20)
        failed = refused(engine.submit(flow), "task.total_timeout")
        assert failed.attempts == (0 if waits == "queued" else 1)
        free.set()


def test_deadlines_are_not_begun_anew_by_a_restart(tmp_path: Path) -> None:
    @goclaw.agent(name="timeouts.restarted", retries=0)
    async def restarted() -> None:
        await asyncio.Event().wait()

    # The lane is missing in the first life of the process, so the tasks wait.
    flow = goclaw.Workflow("restarted", on_failure="continue", timeout="1h")
    flow.task("total", restarted, total_timeout="1s")
    flow.task("other", restarted, timeout="1h")
    slow = goclaw.Workflow("slow", timeout="1s").task("t", restarted)
    with goclaw.Engine(tmp_path, drain_timeout=0) as engine:
        ids = [engine.submit(flow).id, engine.submit(slow).id]
    time.sleep(1.1)
    with goclaw.Engine(tmp_path, drain_timeout=0) as engine:
        first, second = (engine.get(id) for id in ids)
        failed = next(event for event in first.events() if event.type == "task.failed")
        resumed = next(e.at for e in first.events(follow=False) if e.type == "task.interrupted")
        # A second that began anew would end a second after the opening.
        assert (failed.at - resumed).total_seconds() < 5
        assert failed.task == "total"
        with pytest.raises(goclaw.RunTimedOut):
            second.result(20)
        started = [event for event in second.events() if event.type == "task.started"]
        assert len(started) <= 2
