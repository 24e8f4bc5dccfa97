"""Time that is over: of attempts, of runs, of engines."""

from __future__ import annotations

import asyncio
import subprocess
import sys
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
