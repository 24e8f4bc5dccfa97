"""Callers that wait: agents that wait for runs of their own, and callers that are interrupted."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import goclaw
import pytest


@goclaw.agent
def square(x: int) -> int:
    return x * x


@goclaw.workflow
def inner(x: int) -> int:
    return square(x)


@goclaw.agent
def ask(x: int) -> int:
    return goclaw.run(inner, {"x": x})


@goclaw.workflow
def outer(xs: list[int]) -> list[int]:
    return ask.map(xs)


@pytest.mark.timeout(60)
def test_agents_that_wait_for_runs_leave_their_permits_to_them() -> None:
    # More parents than the default lane has threads: each waits for a child in the same lane.
    xs = list(range(200))
    assert goclaw.run(outer, {"xs": xs}) == [x * x for x in xs]


@pytest.mark.timeout(60)
def test_a_lane_of_one_does_not_lock_a_parent_out() -> None:
    with goclaw.Engine(lanes=[goclaw.Lane("one", 1)]) as engine:
        child = goclaw.Workflow("child")
        child.task("square", square, lane="one")

        @goclaw.agent(lane="one")
        def parent(x: int) -> int:
            result: int = engine.submit(child, {"x": x}).result(timeout=30)
            return result

        flow = goclaw.Workflow("parent")
        flow.task("parent", parent, lane="one")
        assert engine.run(flow, {"x": 7}) == 49


sleeps = threading.Event()


@goclaw.agent(retries=0)
def nap(seconds: float) -> float:
    if not sleeps.is_set():
        time.sleep(seconds)
    return seconds


@goclaw.workflow
def long(seconds: list[float]) -> list[float]:
    return nap.map(seconds)


@pytest.mark.timeout(60)
def test_ctrl_c_in_a_helping_caller_interrupts_the_attempt_and_not_the_run(tmp_path: Path) -> None:
    sleeps.clear()
    with goclaw.Engine(tmp_path / "state", drain_timeout=0) as engine:
        timer = threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            engine.run(long, {"seconds": [20.0, 20.0, 20.0]})
        timer.join()
        (run,) = engine.list()
        assert run.state in ("running", "pending")
    sleeps.set()
    with goclaw.Engine(tmp_path / "state") as engine:
        again = engine.get(run.id)
        assert again.result(timeout=30) == [20.0, 20.0, 20.0]
        failed = [event for event in again.events(follow=False) if event.type == "task.failed"]
        assert not failed


def test_an_existing_run_answers_for_its_own_workflow_only() -> None:
    with goclaw.Engine() as engine:
        first = engine.submit(inner, {"x": 3})
        same = engine.submit(inner, {"x": 3}, run_id=first.id, on_conflict="existing")
        assert same.result() == 9
        with pytest.raises(goclaw.GoclawError) as refused:
            engine.submit(outer, {"xs": [1]}, run_id=first.id, on_conflict="existing")
        assert refused.value.code == "run.conflict"
        assert "inner" in str(refused.value)


def test_only_true_and_false_are_booleans_in_yaml() -> None:
    flow = goclaw.Workflow.from_yaml("name: y\ntasks: [{id: n, agent: no}]\n")
    assert flow.name == "y"
    assert [task["id"] for task in flow.to_dict()["tasks"]] == ["n"]


def test_an_engine_in_memory_refuses_a_durability_that_it_cannot_have() -> None:
    with pytest.raises(goclaw.ConfigError) as refused:
        goclaw.Engine(durability="relaxed")
    assert refused.value.code == "config.contradiction"


def test_a_map_says_what_its_first_failed_child_said() -> None:
    @goclaw.agent(retries=0)
    def odd(x: int) -> int:
        if x % 2:
            raise LookupError(f"{x} is odd")
        return x

    flow = goclaw.Workflow("odd", on_failure="continue")
    flow.task("odd", odd, for_each=[0, 2, 3, 5])
    with goclaw.Engine() as engine:
        run = engine.submit(flow)
        run.wait(30)
        assert run.tasks["odd"].error == "[2] 3 is odd"


def test_tags_are_words() -> None:
    with goclaw.Engine() as engine, pytest.raises(goclaw.ConfigError) as refused:
        engine.submit(inner, {"x": 1}, tags={"team": "x"})  # type: ignore[arg-type]
    assert refused.value.code == "config.tags"


def test_waiting_for_agents_on_threads_loads_no_asyncio() -> None:
    # A signal handler that waits must not be inside an import that a worker thread needs.
    code = """
import sys, goclaw

@goclaw.agent(name="waiting.plain")
def plain(n: int) -> int:
    return n

with goclaw.Engine() as engine:
    run = engine.submit(goclaw.Workflow("w").task("t", plain), {"n": 1})
    assert run.result() == 1
print("asyncio" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"
