"""Runs: results, failures, cancellation, events, recovery, and how processes end."""

import asyncio
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import goclaw
import pytest


@goclaw.agent(retries=0)
def double(x: int) -> int:
    return 2 * x


@goclaw.agent
async def later(x: int) -> int:
    await asyncio.sleep(0.001)
    return x + 1


class Broken(RuntimeError): ...


@goclaw.agent(retries=0)
def breaks(x: int = 0) -> int:
    raise Broken(f"at {x}")


@goclaw.agent(retries=2, retry=None)
def flaky(ctx: goclaw.Context) -> int:
    return ctx.attempt


@goclaw.agent
def pair(a: Any, b: Any) -> Any:
    return [a, b]


@goclaw.workflow
def chain(x: int) -> int:
    return later(double(x))


@goclaw.workflow
def fails(x: int) -> int:
    return double(breaks(x))


@pytest.fixture(params=["memory", "disk"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    path = None if request.param == "memory" else tmp_path / "state"
    with goclaw.Engine(path, drain_timeout="5s") as engine:
        yield engine


def test_the_result_is_what_the_function_returns(engine: goclaw.Engine) -> None:
    assert engine.submit(chain, {"x": 4}).result(10) == 9
    assert engine.run(chain, {"x": 4}) == 9
    assert engine.run(chain, 4) == 9


def test_many_runs_in_one_go(engine: goclaw.Engine) -> None:
    runs = engine.submit_many(chain, [{"x": n} for n in range(50)])
    assert [run.result(10) for run in runs] == [2 * n + 1 for n in range(50)]


def test_nested_results_and_maps(engine: goclaw.Engine) -> None:
    @goclaw.workflow
    def flow(n: int) -> Any:
        return {"all": later.map([1, 2, n]), "one": [double(n)], "n": n}

    assert engine.run(flow, {"n": 5}) == {"all": [2, 3, 6], "one": [10], "n": 5}


def test_a_skipped_branch_is_none(engine: goclaw.Engine) -> None:
    @goclaw.workflow
    def flow(x: int) -> Any:
        with goclaw.when(double(x)):
            yes = later(1)
        with goclaw.otherwise():
            no = later(2)
        return {"yes": yes, "no": no}

    assert engine.run(flow, {"x": 1}) == {"yes": 2, "no": None}
    assert engine.run(flow, {"x": 0}) == {"yes": None, "no": 3}


def test_an_engine_in_memory_passes_the_very_objects() -> None:
    thing = object()

    @goclaw.agent
    def same(x: Any) -> Any:
        return x

    @goclaw.workflow
    def flow(x: Any) -> Any:
        return [same(x)]

    with goclaw.Engine() as engine:
        assert engine.run(flow, {"x": thing})[0] is thing


def test_a_failed_run_raises_with_the_agents_own_exception_as_cause(engine: goclaw.Engine) -> None:
    run = engine.submit(fails, {"x": 3})
    with pytest.raises(goclaw.TaskFailed) as failed:
        run.result(10)
    error = failed.value
    assert (error.task, error.attempts, error.code) == ("breaks", 1, "task.exception")
    assert isinstance(error.__cause__, Broken)
    assert error.__cause__.__traceback__ is not None
    assert run.state == "failed"
    assert type(run.error) is goclaw.TaskFailed
    assert run.tasks["breaks"].state == "failed"
    assert run.tasks["double"].state in ("cancelled", "skipped")


def test_a_failed_run_of_another_life_tells_types_and_traceback(tmp_path: Path) -> None:
    with goclaw.Engine(tmp_path) as engine:
        id = engine.submit(fails, {"x": 3}).id
        with pytest.raises(goclaw.TaskFailed):
            engine.get(id).result(10)
    with goclaw.Engine(tmp_path) as engine, pytest.raises(goclaw.TaskFailed) as failed:
        engine.get(id).result(10)
    cause = failed.value.__cause__
    assert isinstance(cause, goclaw.RemoteError)
    assert cause.types[0].endswith("Broken")
    assert "breaks" in (cause.traceback or "")


@pytest.mark.parametrize("raised", ["SystemExit(3)", "KeyboardInterrupt()", "BaseException('x')", "GeneratorExit()"])
def test_an_agent_that_leaves_takes_nobody_along(engine: goclaw.Engine, raised: str) -> None:
    @goclaw.agent(name=f"leaves-{raised}-{id(engine)}", retries=0)
    def leaves() -> None:
        raise eval(raised)

    @goclaw.workflow
    def flow() -> Any:
        return leaves()

    with pytest.raises(goclaw.TaskFailed):
        engine.submit(flow).result(10)
    assert engine.submit(chain, {"x": 1}).result(10) == 3


def test_junk_is_refused_at_the_producing_task_and_not_retried(tmp_path: Path) -> None:
    @goclaw.agent
    def junk() -> Any:
        return {"lock": threading.Lock()}

    @goclaw.workflow
    def flow() -> Any:
        return junk()

    with goclaw.Engine(tmp_path) as engine:
        with pytest.raises(goclaw.TaskFailed) as failed:
            engine.submit(flow).result(10)
        assert failed.value.code.startswith("payload.")
        assert failed.value.attempts == 1
        assert "lock" in str(failed.value)
        with pytest.raises(goclaw.PayloadError):
            engine.submit(chain, {"x": threading.Lock()})


def test_a_payload_above_the_bound_is_refused(tmp_path: Path) -> None:
    with goclaw.Engine(tmp_path, payload_max=1000) as engine, pytest.raises(goclaw.PayloadError) as refused:
        engine.submit(chain, {"x": "x" * 2000})
    assert refused.value.code == "payload.too_large"


def test_waiting_has_an_end_and_the_run_goes_on(engine: goclaw.Engine) -> None:
    go = threading.Event()

    @goclaw.agent(name=f"waits-{id(engine)}")
    def waits() -> int:
        go.wait(10)
        return 1

    @goclaw.workflow
    def flow() -> int:
        return waits()

    run = engine.submit(flow)
    with pytest.raises(goclaw.ResultTimeout):
        run.result(0.05)
    assert run.wait("10ms") is False
    go.set()
    assert run.result(10) == 1


def test_a_cancelled_run_says_so(engine: goclaw.Engine) -> None:
    @goclaw.agent(name=f"sleeps-{id(engine)}")
    async def sleeps() -> None:
        await asyncio.sleep(60)

    @goclaw.workflow
    def flow() -> None:
        return sleeps()

    run = engine.submit(flow)
    run.cancel("no longer wanted")
    with pytest.raises(goclaw.RunCancelled, match="no longer wanted"):
        run.result(10)
    assert run.state == "cancelled"
    engine.cancel(run.id)


def test_a_cancelled_sync_agent_is_stopped_in_its_thread(engine: goclaw.Engine) -> None:
    begun, stopped = threading.Event(), threading.Event()

    @goclaw.agent(name=f"spins-{id(engine)}")
    def spins() -> None:
        begun.set()
        try:
            while True:
                begun.wait(0.001)
        except goclaw.Cancelled:
            stopped.set()
            raise

    @goclaw.workflow
    def flow() -> None:
        return spins()

    run = engine.submit(flow)
    assert begun.wait(10)
    run.cancel()
    with pytest.raises(goclaw.RunCancelled):
        run.result(10)
    assert stopped.wait(10)


def test_late_readers_replay_every_event(engine: goclaw.Engine) -> None:
    @goclaw.workflow
    def flow(n: int) -> Any:
        return later.map([1, 2, n])

    run = engine.submit(flow, {"n": 3})
    run.result(10)
    first, second = list(run.events()), list(run.events(follow=False))
    assert first == second
    assert [event.seq for event in first] == sorted({event.seq for event in first})
    assert first[0].type == "run.submitted"
    assert first[-1].type == "run.completed"
    done = [event.task for event in first if event.type == "task.completed"]
    assert sorted(str(task) for task in done) == ["later", "later[0]", "later[1]", "later[2]"]
    everything = list(engine.events(follow=False))
    assert all(event in everything for event in first)


async def test_runs_are_awaitable_in_any_loop() -> None:
    async with goclaw.Engine() as engine:
        assert await engine.submit(chain, {"x": 1}) == 3
        assert await engine.arun(chain, {"x": 2}) == 5
        runs = engine.submit_many(chain, range(20))
        assert await asyncio.gather(*runs) == [2 * n + 1 for n in range(20)]
        assert engine.submit(chain, {"x": 3}).result(10) == 7
        types = [event.type async for event in engine.submit(chain, {"x": 3}).events()]
        assert types[-1] == "run.completed"
        with pytest.raises(goclaw.TaskFailed):
            await engine.submit(fails, {"x": 1})


async def test_cancelling_the_awaiting_task_does_not_cancel_the_run() -> None:
    go = threading.Event()

    @goclaw.agent
    def waits() -> int:
        go.wait(10)
        return 5

    @goclaw.workflow
    def flow() -> int:
        return waits()

    async with goclaw.Engine() as engine:
        run = engine.submit(flow)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(run, 0.05)
        go.set()
        assert await run == 5


def test_an_async_agent_must_await_a_run(engine: goclaw.Engine) -> None:
    @goclaw.agent(name=f"nested-{id(engine)}", retries=0)
    async def nested() -> Any:
        run = engine.submit(chain, {"x": 1})
        try:
            engine.run(chain, {"x": 1})
        except goclaw.WouldDeadlock:
            return await run
        return None

    @goclaw.workflow
    def flow() -> Any:
        return nested()

    assert engine.submit(flow).result(10) == 3


def test_runs_can_grow(engine: goclaw.Engine) -> None:
    go = threading.Event()

    @goclaw.agent(name=f"holds-{id(engine)}")
    def holds() -> int:
        go.wait(10)
        return 1

    flow = goclaw.Workflow("grows").task("holds", holds)
    run = engine.submit(flow)
    for _ in range(2):
        run.add_task("more", double, args={"x": "{{ holds + 20 }}"})
    with pytest.raises(goclaw.WorkflowError) as refused:
        run.add_task("more", double, args={"x": 5})
    assert refused.value.code == "workflow.task_conflict"
    go.set()
    assert run.result(10) == 42


def test_submitting_the_same_id_again_is_recognised(engine: goclaw.Engine) -> None:
    id = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
    run = engine.submit(chain, {"x": 1}, run_id=id)
    assert run.id == id
    with pytest.raises(goclaw.RunConflict):
        engine.submit(chain, {"x": 2}, run_id=id)
    assert engine.submit(chain, {"x": 2}, run_id=id, on_conflict="existing").result(10) == 3
    with pytest.raises(goclaw.UnknownRun):
        engine.get("01ARZ3NDEKTSV4RRFFQ69G5FA0")
    with pytest.raises(goclaw.ConfigError):
        engine.get("nonsense")


def test_runs_are_listed_by_state_workflow_and_tag(engine: goclaw.Engine) -> None:
    a = engine.submit(chain, {"x": 1}, tags=["one"])
    b = engine.submit(fails, {"x": 1}, tags=["two"])
    a.wait(10)
    b.wait(10)
    assert [row.id for row in engine.list()] == [b.id, a.id]
    assert [row.id for row in engine.list(state="failed")] == [b.id]
    assert [row.id for row in engine.list(workflow="chain")] == [a.id]
    assert [row.tags for row in engine.list(tag="two")] == [("two",)]
    assert [row.id for row in engine.list(after=b.id)] == [a.id]
    with pytest.raises(goclaw.ConfigError):
        engine.list(state="nonsense")
    assert engine.purge(a.id) == 1
    assert [row.id for row in engine.list()] == [b.id]
    assert engine.purge() == 1
    with pytest.raises(goclaw.UnknownRun):
        engine.get(b.id)
    with pytest.raises(goclaw.UnknownRun):
        list(b.events())


@goclaw.agent
async def sleeps(seconds: float) -> None:
    await asyncio.sleep(seconds)


@goclaw.workflow(timeout="50ms")
def too_long() -> None:
    sleeps(30.0)


def test_a_run_over_its_workflows_timeout_says_so(engine: goclaw.Engine) -> None:
    with pytest.raises(goclaw.RunTimedOut, match="longer than 50 ms") as caught:
        engine.run(too_long)
    assert caught.value.code == "run.timeout"


def test_a_thread_that_does_not_come_back_is_counted() -> None:
    free = threading.Event()

    @goclaw.agent(retries=0, timeout="50ms")
    def hangs() -> None:
        while not free.is_set():
            try:
                free.wait(30)
            except goclaw.Cancelled:
                pass

    @goclaw.workflow
    def hanging() -> None:
        hangs()

    with goclaw.Engine() as engine:
        with pytest.raises(goclaw.TaskFailed):
            engine.run(hanging)
        assert engine.stats()["goclaw_threads_stuck"] == 1
        free.set()


def test_stats_and_lanes(engine: goclaw.Engine) -> None:
    engine.run(chain, {"x": 1})
    assert engine.stats()["goclaw_runs_completed_total"] == 1
    assert {"default", "io", "cpu", "memory", "gpu"} <= set(engine.lanes)


def test_a_closed_engine_says_so(tmp_path: Path) -> None:
    engine = goclaw.Engine(tmp_path)
    run = engine.submit(chain, {"x": 1})
    assert run.result(10) == 3
    engine.close()
    engine.close()
    with pytest.raises(goclaw.EngineClosed):
        engine.submit(chain, {"x": 1})


def test_a_store_has_one_owner(tmp_path: Path) -> None:
    with goclaw.Engine(tmp_path), pytest.raises(goclaw.StoreLocked):
        goclaw.Engine(tmp_path)


def test_contradictions_are_refused(tmp_path: Path) -> None:
    for make in (
        lambda: goclaw.Engine(tmp_path, durability="none"),
        lambda: goclaw.Engine(durability="maybe"),  # type: ignore[arg-type]
        lambda: goclaw.Engine(concurrency=0),
        lambda: goclaw.Engine(lanes=["io"]),  # type: ignore[list-item]
    ):
        with pytest.raises(goclaw.ConfigError):
            make()


SCRIPT = """
import asyncio, goclaw, os, signal, sys, threading, time

@goclaw.agent(lane="io", timeout=30, retries=3)
async def fetch(url: str) -> str:
    return f"page of {url}"

@goclaw.agent(lane="cpu")
def analyze(page: str) -> dict:
    return {"length": len(page)}

@goclaw.workflow
def pipeline(url: str) -> dict:
    page = fetch(url)
    return analyze(page)

@goclaw.agent
def sleeps(seconds: float = 60.0) -> None:
    time.sleep(seconds)

@goclaw.workflow
def long(seconds: float = 60.0) -> None:
    return sleeps(seconds)
"""


def script(body: str, folder: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(SCRIPT + textwrap.dedent(body))
    return subprocess.run(
        [sys.executable, "-W", "error", "script.py"], cwd=folder, capture_output=True, text=True, timeout=60, **options
    )


def test_sixty_seconds_as_a_script(tmp_path: Path) -> None:
    found = script(
        """
        with goclaw.Engine("state/") as engine:
            run = engine.submit(pipeline, {"url": "https://example.org"})
            print(run.result())
        """,
        tmp_path,
    )
    assert (found.stdout, found.stderr, found.returncode) == ("{'length': 27}\n", "", 0)


def test_sixty_seconds_in_asyncio(tmp_path: Path) -> None:
    found = script(
        """
        async def main():
            async with goclaw.Engine("state/") as engine:
                print(await engine.submit(pipeline, {"url": "https://example.org"}))
        asyncio.run(main())
        """,
        tmp_path,
    )
    assert (found.stdout, found.stderr, found.returncode) == ("{'length': 27}\n", "", 0)


def test_sixty_seconds_in_a_notebook(tmp_path: Path) -> None:
    import nbclient
    import nbformat

    cells = [
        SCRIPT,
        'engine = goclaw.Engine("state/")\nrun = engine.submit(pipeline, {"url": "https://example.org"})',
        "print(run.result())",
        "print(await run)",
        "run",
        "pipeline",
        "engine.close()",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "python3"}
    nbclient.NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()
    texts = ["".join(output.get("text", "") for output in cell.outputs) for cell in notebook.cells]
    assert texts[2] == texts[3] == "{'length': 27}\n"
    assert "completed" in notebook.cells[4].outputs[0].data["text/html"]
    assert "image/svg+xml" in notebook.cells[5].outputs[0].data


@pytest.mark.parametrize(
    "ending",
    [
        "",
        "sys.exit(0)",
        "engine.submit(long, {'seconds': 0.2})",
        "run = goclaw.run(pipeline, {'url': 'x'})",
        "threading.Thread(target=engine.close).start()",
        "fetch('x')",
    ],
)
@pytest.mark.parametrize("path", ["None", "'state'"])
def test_a_script_that_forgets_to_close_ends_well(tmp_path: Path, ending: str, path: str) -> None:
    found = script(f"engine = goclaw.Engine({path})\nprint(engine.run(pipeline, {{'url': 'x'}}))\n{ending}\n", tmp_path)
    assert (found.stdout, found.stderr, found.returncode) == ("{'length': 9}\n", "", 0)


@pytest.mark.parametrize("wait", ["engine.run(long)", "engine.submit(long).result()", "list(engine.events())"])
def test_ctrl_c_ends_a_wait_promptly(tmp_path: Path, wait: str) -> None:
    found = script(
        f"""
        engine = goclaw.Engine(drain_timeout=0)
        threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        started = time.monotonic()
        try:
            {wait}
        except KeyboardInterrupt:
            print("interrupted", time.monotonic() - started < 5)
        """,
        tmp_path,
    )
    assert found.stdout == "interrupted True\n", found.stderr
    assert found.returncode == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_is_told_and_ends_well(tmp_path: Path) -> None:
    found = script(
        """
        import warnings
        warnings.simplefilter("ignore")
        engine = goclaw.Engine("state")
        run = engine.submit(pipeline, {"url": "x"})
        run.result()
        child = os.fork()
        if child == 0:
            submit = lambda: engine.submit(pipeline, {"url": "x"})
            for call in (submit, run.result, engine.stats, engine.close, lambda: run.state):
                try:
                    call()
                except goclaw.EngineForked as error:
                    assert error.help
                else:
                    sys.exit(9)
            print("forked", flush=True)
            sys.exit(0)
        print(os.waitpid(child, 0)[1], engine.run(pipeline, {"url": "x"}))
        """,
        tmp_path,
    )
    assert found.stdout == "forked\n0 {'length': 9}\n", found.stderr
    assert found.returncode == 0


def test_a_killed_process_goes_on_where_it_was(tmp_path: Path) -> None:
    body = """
        @goclaw.agent(name="step")
        def step(n: int) -> int:
            with open("log", "a") as log:
                print(n, file=log)
            if n == 2 and not os.path.exists("second"):
                open("second", "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
            return n + 1

        @goclaw.workflow
        def steps(n: int) -> int:
            return step(step(step(n)))

        with goclaw.Engine("state") as engine:
            runs = engine.list()
            run = engine.get(runs[0].id) if runs else engine.submit(steps, {"n": 1})
            print(engine.recovered, run.result(20))
        """
    assert script(body, tmp_path).returncode == -signal.SIGKILL
    found = script(body, tmp_path)
    assert found.stdout == "1 4\n", found.stderr
    assert (tmp_path / "log").read_text().split() == ["1", "2", "2", "3"]


def test_the_cores_log_goes_to_logging_without_payloads(tmp_path: Path) -> None:
    found = script(
        """
        import logging

        ended, lines = threading.Event(), []

        class Listens(logging.Handler):
            def emit(self, record):
                lines.append(f"{record.name} {record.getMessage()} {vars(record)}")
                if "run ended" in lines[-1]:
                    print(record.name, record.goclaw_run == run.id)
                    ended.set()

        logging.getLogger("goclaw").setLevel(logging.DEBUG)
        logging.getLogger("goclaw").addHandler(Listens())
        with goclaw.Engine("state") as engine:
            run = engine.submit(pipeline, {"url": "secret-url"})
            run.result()
            ended.wait(20)
        print("secret-url" in "".join(lines))
        """,
        tmp_path,
    )
    assert found.stdout == "goclaw.engine True\nFalse\n", found.stderr


def test_a_closed_engine_lets_its_objects_go() -> None:
    import gc
    import weakref

    class Thing: ...

    @goclaw.agent
    def keep(x: Any) -> Any:
        return x

    @goclaw.workflow
    def flow(x: Any) -> Any:
        return keep(x)

    thing = Thing()
    gone = weakref.ref(thing)
    with goclaw.Engine() as engine:
        assert engine.run(flow, {"x": thing}) is thing
    del thing, engine
    goclaw.run(chain, {"x": 1})
    gc.collect()
    assert gone() is None
