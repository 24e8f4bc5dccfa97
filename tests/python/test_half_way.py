"""What goes only half-way: runs that miss an agent, batches refused in part, growth, maps that failed."""

import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import goclaw
import pytest

PLANT = """
    import sys
    import goclaw

    @goclaw.agent(name="care.known")
    def known() -> int:
        return 1

    @goclaw.agent(name="care.gone")
    def gone() -> None:
        print(goclaw.current().run_id, flush=True)
        sys.stdin.read()

    flow = goclaw.Workflow("flow").task("a", known).task("b", gone, deps=["a"])
    engine = goclaw.Engine(sys.argv[1], drain_timeout=0)
    engine.submit(flow).wait()
"""


def test_a_run_without_its_agent_is_incompatible_in_every_view(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PLANT), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    run_id = child.stdout.readline().strip()
    child.kill()
    child.communicate(timeout=20)
    with goclaw.Engine(tmp_path) as engine:
        run = engine.get(run_id)
        assert run.state == "incompatible"
        assert [found.id for found in engine.list(state="incompatible")] == [run_id]
        assert engine.list(state="running") == []
        assert engine.list()[0].state == "incompatible"
        assert engine.stats()["goclaw_runs_incompatible"] == 1
        assert run.error is None, "it may yet go on"
        assert run.results == {"a": 1}

        goclaw.agent(name="care.gone")(_seven)
        assert run.result("20s") == 7
        assert run.state == "completed"
        assert engine.list(state="incompatible") == []


def _seven() -> int:
    return 7


def test_a_batch_refused_half_way_tells_what_goes_on() -> None:
    gate = threading.Event()

    @goclaw.agent(lane="narrow")
    def wait(x: int) -> int:
        gate.wait(60)
        return x

    @goclaw.workflow
    def one(x: int) -> int:
        return wait(x)

    # A place is free for one run beside the one that runs; nobody waits longer than a moment.
    with goclaw.Engine(lanes=[goclaw.Lane("narrow", 1, capacity=2, timeout="10ms")]) as engine:
        with pytest.raises(goclaw.LaneFull) as refused:
            engine.submit_many(one, range(5))
        accepted = refused.value.accepted
        assert 0 < len(accepted) < 5
        assert "error.accepted" in refused.value.__notes__[-1]
        assert len(engine.list()) == len(accepted), "what was refused never was"
        gate.set()
        assert {at: run.result("20s") for at, run in accepted.items()} == {at: at for at in accepted}


def test_a_growth_of_many_tasks_is_one() -> None:
    gate = threading.Event()

    @goclaw.agent
    def number(x: int) -> int:
        gate.wait(60)
        return x

    more = goclaw.Workflow("more")
    for at in range(1000):
        more.task(f"n{at}", number, deps=["first"], args={"x": at})
    with goclaw.Engine() as engine:
        run = engine.submit(goclaw.Workflow("flow").task("first", number, args={"x": 7}))
        run.add_tasks(more)
        run.add_tasks(more)
        gate.set()
        assert run.wait("60s")
        assert run.results == {"first": 7, **{f"n{at}": at for at in range(1000)}}
        grown = [event for event in run.events() if event.type == "run.grown"]
        assert len(grown) == 1


def test_good_children_of_a_failed_map_keep_their_values() -> None:
    @goclaw.agent
    def invert(x: int) -> float:
        return 1 / x

    flow = goclaw.Workflow("flow", on_failure="continue").task("all", invert, for_each=[1, 0, 4])
    flow.task("alone", invert, args={"x": 1})
    with goclaw.Engine() as engine:
        run = engine.submit(flow)
        assert run.wait("20s")
        assert run.state == "failed"
        assert "all" not in run.results
        views = run.children("all")
        assert [(view.index, view.state, view.result) for view in views] == [
            (0, "completed", 1.0),
            (1, "failed", None),
            (2, "completed", 0.25),
        ]
        assert views[1].error is not None
        assert "division" in views[1].error
        assert run.children("alone") == ()
        with pytest.raises(goclaw.GoclawError) as unknown:
            run.children("nobody")
        assert unknown.value.code == "run.unknown_task"
