"""Agents in worker processes: parallel, crash-proof, killed when they do not stop."""

from __future__ import annotations

import logging
import os
import select
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import goclaw
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import process_agents as agents

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="worker processes are there on Linux only")


@pytest.fixture(params=["memory", "store"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[goclaw.Engine]:
    path = tmp_path / "store" if request.param == "store" else None
    with goclaw.Engine(path, lanes=[goclaw.Lane("cpu", 4)], processes=goclaw.Processes(kill_grace=0.2)) as opened:
        yield opened


@pytest.fixture
def memory() -> Iterator[goclaw.Engine]:
    with goclaw.Engine(lanes=[goclaw.Lane("cpu", 4)], processes=goclaw.Processes(kill_grace=0.2)) as opened:
        yield opened


def one(agent: Any, **args: Any) -> Any:
    @goclaw.workflow
    def flow() -> Any:
        return agent(**args)

    return flow


def many(agent: Any, items: list[Any], **constants: Any) -> Any:
    @goclaw.workflow
    def flow() -> Any:
        return agent.map(items, **constants)

    return flow


def interruptions(run: goclaw.Run[Any]) -> list[tuple[str | None, dict[str, Any]]]:
    return [(event.task, event.data) for event in run.events(follow=False) if event.type == "task.interrupted"]


def is_gone(pid: int) -> bool:
    """True once the process has ended; it was told to before."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ended, _, _ = select.select([watched], [], [], 10)
    os.close(watched)
    return bool(ended)


def test_agents_run_at_the_same_time_in_other_processes(engine: goclaw.Engine, tmp_path: Path) -> None:
    for turn in (0, 1):
        os.mkfifo(tmp_path / str(turn))
    pids = engine.run(many(agents.meet, [0, 1], folder=str(tmp_path)))
    assert len({*pids, os.getpid()}) == 3


def test_a_worker_is_used_again(memory: goclaw.Engine) -> None:
    first = memory.run(one(agents.pid))
    assert [memory.run(one(agents.pid)) for _ in range(3)] == [first] * 3


def test_a_large_map_comes_back_in_order(engine: goclaw.Engine) -> None:
    assert engine.run(many(agents.double, list(range(10_000)))) == list(range(0, 20_000, 2))


def test_coroutines_run_on_the_workers_own_loop(engine: goclaw.Engine) -> None:
    found = engine.run(many(agents.adouble, list(range(50))))
    assert [value for value, _ in found] == list(range(0, 100, 2))
    assert os.getpid() not in {pid for _, pid in found}


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("segfault", "signal 11 (SIGSEGV)"),
        ("exit", "exited with status 7; its last words:\nabout to leave"),
        ("kill", "signal 9 (SIGKILL)"),
        ("abort", "signal 6 (SIGABRT)"),
        ("close", "socket to the engine"),
    ],
)
def test_a_crash_costs_one_attempt(engine: goclaw.Engine, how: str, words: str) -> None:
    run = engine.submit(one(agents.crash_once, how=how))
    assert run.result() == 2
    [(_, data)] = interruptions(run)
    assert data["error"]["code"] == "task.crash"
    assert words in data["error"]["message"]


def test_last_words_are_those_of_the_call_under_way(memory: goclaw.Engine) -> None:
    assert memory.run(one(agents.mutter, text="all is well")) == "all is well"
    run = memory.submit(one(agents.crash_once, how="exit"))
    assert run.result() == 2
    [(_, data)] = interruptions(run)
    assert "about to leave" in data["error"]["message"]
    assert "all is well" not in data["error"]["message"]


def test_only_the_call_under_way_pays_for_a_crash(engine: goclaw.Engine, tmp_path: Path) -> None:
    run = engine.submit(many(agents.crash_at, list(range(400)), at=237, folder=str(tmp_path)))
    assert run.result() == list(range(400))
    crashes = [task for task, data in interruptions(run) if "error" in data]
    assert crashes == ["crash_at[237]"]


def test_what_waits_gets_a_worker_when_all_die_at_once() -> None:
    with goclaw.Engine(lanes=[goclaw.Lane("cpu", 6)], processes=goclaw.Processes(max_workers=1)) as engine:
        runs = [engine.submit(one(agents.crash_at_most_once)) for _ in range(6)]
        for run in runs:
            with pytest.raises(goclaw.TaskFailed, match="exited with status 3"):
                run.result(30)


def test_five_crashes_put_the_run_aside(engine: goclaw.Engine) -> None:
    run = engine.submit(one(agents.crash_always))
    with pytest.raises(goclaw.GoclawError, match="exited with status 3") as raised:
        run.result()
    assert raised.value.code == "run.quarantined"
    assert len(interruptions(run)) == 5


def test_an_at_most_once_call_is_not_repeated_after_a_crash(engine: goclaw.Engine) -> None:
    with pytest.raises(goclaw.TaskFailed, match="exited with status 3") as raised:
        engine.run(one(agents.crash_at_most_once))
    assert raised.value.code == "task.interrupted"


@pytest.mark.parametrize("how", ["python", "c"])
def test_an_attempt_that_took_too_long_is_really_gone(engine: goclaw.Engine, tmp_path: Path, how: str) -> None:
    file = tmp_path / "pid"
    with pytest.raises(goclaw.TaskFailed, match="took longer than 300 ms"):
        engine.run(one(agents.hang, how=how, file=str(file)))
    engine.close()
    assert is_gone(int(file.read_text()))
    assert engine.stats()["goclaw_threads_stuck"] == 0


@pytest.mark.parametrize("agent", [agents.wait_for_ever, agents.await_for_ever])
def test_an_agent_is_asked_before_it_is_killed(engine: goclaw.Engine, tmp_path: Path, agent: Any) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    run = engine.submit(one(agent, fifo=str(fifo)))
    pid = int(fifo.read_text())
    run.cancel()
    with pytest.raises(goclaw.RunCancelled):
        run.result()
    assert engine.run(one(agents.pid)) == pid


def test_silence_ends_an_attempt(engine: goclaw.Engine) -> None:
    with pytest.raises(goclaw.TaskFailed) as raised:
        engine.run(one(agents.fall_silent))
    assert raised.value.code == "task.idle_timeout"


def test_signs_of_life_cross_over(memory: goclaw.Engine, tmp_path: Path) -> None:
    ready, go = tmp_path / "ready", tmp_path / "go"
    for fifo in (ready, go):
        os.mkfifo(fifo)
    run = memory.submit(one(agents.tell, ready=str(ready), go=str(go)))
    ready.read_text()
    heartbeat = run.tasks["tell"].heartbeat
    assert heartbeat is not None
    assert heartbeat.details == "half way"
    go.write_text("go")
    assert run.result() == 2


def test_a_flood_of_output_is_cut(memory: goclaw.Engine, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "goclaw.agent"):
        assert memory.run(one(agents.flood)) == 1
        memory.close()
        settle_log()
    out = [record for record in caplog.records if record.name == "goclaw.agent.stdout"]
    assert max(len(record.getMessage()) for record in out) < 9_000
    assert len(out) < 5_000
    assert any("lines were left out" in record.getMessage() for record in out)
    assert any(record.name == "goclaw.agent.stderr" and record.getMessage() == "last" for record in caplog.records)
    assert all(record.__dict__["goclaw_pid"].isdigit() for record in out)


def settle_log() -> None:
    """Waits until the thread that writes the log has written what was said before."""
    seen = logging.getLogger("goclaw.engine")
    done = os.pipe()

    class Bell(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            os.write(done[1], b"x")

    bell = Bell()
    seen.addHandler(bell)
    try:
        with goclaw.Engine(lanes=[goclaw.Lane("cpu", 1)]) as other:
            other.run(one(agents.crash_once, how="exit"))
        os.read(done[0], 1)
    finally:
        seen.removeHandler(bell)
        for end in done:
            os.close(end)


def test_workers_are_replaced_after_their_share(tmp_path: Path) -> None:
    with goclaw.Engine(lanes=[goclaw.Lane("cpu", 1)], processes=goclaw.Processes(max_tasks=2)) as engine:
        pids = [engine.run(one(agents.pid)) for _ in range(6)]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [2, 2, 2]


def test_a_worker_that_grew_too_fat_is_replaced() -> None:
    with goclaw.Engine(lanes=[goclaw.Lane("cpu", 1)], processes=goclaw.Processes(max_rss="300MiB")) as engine:
        thin = engine.run(one(agents.grow, n=1))
        assert engine.run(one(agents.grow, n=400 * 2**20)) == thin
        assert engine.run(one(agents.pid)) != thin


def test_a_forked_child_that_comes_back_does_not_speak(engine: goclaw.Engine) -> None:
    assert engine.run(one(agents.fork_and_come_back)) == "parent"


def test_forked_children_do_not_outlive_the_worker(memory: goclaw.Engine) -> None:
    child = memory.run(one(agents.fork_a_sleeper, x=1))
    memory.close()
    assert is_gone(child)


def test_a_child_that_holds_the_socket_does_not_hide_a_death(memory: goclaw.Engine) -> None:
    memory.run(one(agents.fork_a_sleeper, x=1))
    assert memory.run(one(agents.crash_once, how="exit")) == 2


def test_closed_descriptors_do_not_hang_anybody(engine: goclaw.Engine) -> None:
    assert engine.run(one(agents.close_many)) != os.getpid()


def test_exceptions_arrive_with_traceback_and_cause(engine: goclaw.Engine) -> None:
    with pytest.raises(goclaw.TaskFailed, match="no 5") as raised:
        engine.run(one(agents.fail, x=5))
    cause = raised.value.__cause__
    assert isinstance(cause, goclaw.RemoteError)
    assert "KeyError: 'deep down'" in str(cause.traceback)
    assert "process_agents.py" in str(cause.traceback)


def test_values_keep_their_types(engine: goclaw.Engine) -> None:
    moved = engine.run(one(agents.move, point=agents.Point(1, 2), by=3))
    assert moved == agents.Point(4, 2)
    assert type(moved) is agents.Point


def test_the_context_works_as_anywhere(engine: goclaw.Engine, caplog: pytest.LogCaptureFixture) -> None:
    @goclaw.workflow
    def flow(x: int) -> Any:
        return agents.ask(x=x)

    run = engine.submit(flow, {"x": 7})
    said = run.result()
    assert said["run"] == run.id
    assert said["task"] == said["same"] == "ask"
    assert said["input"] == {"x": 7}
    assert said["attempt"] == 1
    [progress] = [event.data for event in run.events(follow=False) if event.type == "task.progress"]
    assert progress == {"done": 1.0, "total": 2.0, "text": "half"}
    engine.close()
    settle_log()
    logged = {(record.name, record.getMessage()) for record in caplog.records}
    assert ("somebody.else", "hello 7") in logged
    assert any(name.startswith("goclaw.agent") and text == "from afar" for name, text in logged)


def begun(run: goclaw.Run[Any]) -> None:
    for event in run.events():
        if event.type == "task.started":
            return


@pytest.mark.parametrize("agent", [agents.listen, agents.listen_plainly])
def test_messages_reach_an_agent_in_a_worker(engine: goclaw.Engine, agent: Any) -> None:
    @goclaw.workflow
    def talk(text: str) -> Any:
        return agents.reread(text, agent(text))

    head = engine.submit(talk, "listen", session="u", when_busy="steer")
    begun(head)
    messages = [engine.submit(talk, text, session="u", when_busy="steer") for text in ("a", "b", "stop")]
    heard = ["listen", "a", "b", "stop"]
    assert head.result(30) == [heard, heard[1:], "stop", "u"]
    assert [message.into for message in messages] == [head.id] * 3
    received = [event.data for event in head.events() if event.type == "signal.received"]
    assert received == [{"from": message.id} for message in messages]


def test_a_message_that_the_worker_did_not_read_runs_by_itself(engine: goclaw.Engine, tmp_path: Path) -> None:
    ready, go = tmp_path / "ready", tmp_path / "go"
    os.mkfifo(ready)
    os.mkfifo(go)

    @goclaw.workflow
    def talk(text: str) -> Any:
        return agents.deaf(text, ready=str(ready), go=str(go))

    head = engine.submit(talk, "listen", session="u", when_busy="steer")
    begun(head)
    first, second = (engine.submit(talk, text, session="u", when_busy="steer") for text in ("a", "b"))
    ready.read_text()
    go.write_text("")
    assert head.result(30) == "listen"
    assert (first.result(30), first.into) == ("listen", head.id)
    assert (second.result(30), second.into) == ("b", None)


@pytest.mark.parametrize("agent", [agents.spend, agents.aspend])
def test_a_worker_charges_the_budget_of_its_lane(agent: Any) -> None:
    lane = goclaw.Lane("cpu", 2, budgets={"tokens": "1/h"})
    with goclaw.Engine(lanes=[lane]) as engine:
        agent = agent.options(lane="cpu")
        assert engine.run(one(agent, unit="pages", n=1)) == "lane.budget"
        assert engine.run(one(agent, unit="tokens", n=1_000)) == "charged"
        with pytest.raises(goclaw.TaskFailed, match="waited for its lane"):
            engine.run(one(agent.options(queue_timeout=0.05), unit="tokens", n=1))


def test_rate_keys_hold_for_workers() -> None:
    lane = goclaw.Lane("cpu", 2, rate="1/h", rate_key="{{ input.who }}")
    with goclaw.Engine(lanes=[lane]) as engine:

        @goclaw.workflow
        def flow(who: str) -> Any:
            return agents.double.options(queue_timeout=0.05)(x=4)

        assert [engine.run(flow, {"who": who}) for who in ("a", "b")] == [8, 8]
        with pytest.raises(goclaw.TaskFailed, match="waited for its lane"):
            engine.run(flow, {"who": "a"})


def test_an_agent_in_a_worker_waits_for_an_engine_of_its_own() -> None:
    with goclaw.Engine(lanes=[goclaw.Lane("cpu", 1)]) as engine:
        assert engine.run(many(agents.nest, [1, 2, 3])) == [12, 24, 36]
        assert engine.run(many(agents.nest_and_wait, [1, 2])) == [4, 8]


def test_workers_are_counted(tmp_path: Path) -> None:
    options = goclaw.Processes(max_workers=1, max_tasks=2, kill_grace=0.05)
    names = ("live", "started_total", "crashed_total", "killed_total", "recycled_total")
    with goclaw.Engine(lanes=[goclaw.Lane("cpu", 1)], processes=options) as engine:

        def counts() -> list[int]:
            return [engine.stats()[f"goclaw_workers_{name}"] for name in names]

        assert (counts(), engine.health().workers) == ([0] * 5, 0)
        engine.run(one(agents.pid))
        assert (counts(), engine.health().workers) == ([1, 1, 0, 0, 0], 1)
        with pytest.raises(goclaw.TaskFailed):
            engine.run(one(agents.crash_at_most_once))
        assert counts() == [0, 1, 1, 0, 0]
        assert engine.run(one(agents.pid)) == engine.run(one(agents.pid))
        with pytest.raises(goclaw.TaskFailed, match="took longer"):
            engine.run(one(agents.hang, how="c", file=str(tmp_path / "pid")))
    live, started, crashed, killed, recycled = counts()
    assert (live, started, crashed, recycled) == (0, 3, 1, 1)
    assert killed in (1, 2), "the one that hung; the one that was replaced too, if it was slow to end"


def test_what_cannot_be_encoded_is_refused_by_name(memory: goclaw.Engine) -> None:
    @goclaw.workflow
    def flow() -> Any:
        return agents.size(agents.make_lock())

    with pytest.raises(goclaw.TaskFailed, match="task `size`, `x`: it cannot be sent to a worker process") as raised:
        memory.run(flow)
    assert raised.value.code == "payload.unsupported"


def test_an_item_that_cannot_be_encoded_fails_alone(memory: goclaw.Engine) -> None:
    @goclaw.workflow(on_failure="continue")
    def flow() -> Any:
        return agents.size.map(agents.make_mixed())

    run = memory.submit(flow)
    with pytest.raises(goclaw.GoclawError):
        run.result()
    ended = {(e.task, e.type) for e in run.events(follow=False) if e.type in ("task.completed", "task.failed")}
    assert ("size[1]", "task.failed") in ended
    assert ("size[0]", "task.failed") not in ended
    assert ("size[2]", "task.failed") not in ended


def test_a_closed_engine_leaves_nothing_behind() -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    with goclaw.Engine() as warm:
        warm.run(one(agents.pid))
    before = descriptors()
    with goclaw.Engine(lanes=[goclaw.Lane("cpu", 2)]) as engine:
        pids = engine.run(many(agents.pid, [1, 2, 3]))
        engine.run(one(agents.crash_once, how="exit"))
    assert descriptors() == before
    assert all(is_gone(pid) and not Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.parametrize(
    "options",
    [{"max_tasks": 0}, {"max_rss": "much"}, {"max_rss": -1}, {"max_workers": 0}, {"kill_grace": "soon"}],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(goclaw.ConfigError):
        goclaw.Processes(**options)


def test_engines_take_processes_only() -> None:
    with pytest.raises(goclaw.ConfigError):
        goclaw.Engine(processes={"max_tasks": 1})  # type: ignore[arg-type]


def script(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "script.py"
    file.write_text(textwrap.dedent(text))
    return file


def python(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, timeout=60, check=False, **options)


SCRIPT = """
    import dataclasses, os, sys
    import goclaw

    @dataclasses.dataclass
    class Box:
        x: int

    class Boom(Exception):
        pass

    @goclaw.agent(isolation="process", retry=goclaw.Retry(retries=1, on=(Boom,), initial=0.001))
    def inc(box: Box, ctx: goclaw.Context) -> Box:
        if ctx.attempt == 1:
            raise Boom
        return Box(box.x + 1)

    @goclaw.workflow
    def flow():
        return inc(Box(1))

    {guard}
        with goclaw.Engine() as engine:
            print(engine.run(flow))
"""


def test_functions_of_the_main_script_work(tmp_path: Path) -> None:
    file = script(tmp_path, SCRIPT.format(guard='if __name__ == "__main__":'))
    done = python(str(file))
    assert (done.returncode, done.stdout) == (0, "Box(x=2)\n"), done.stderr


def test_a_script_without_its_guard_is_told(tmp_path: Path) -> None:
    file = script(tmp_path, SCRIPT.format(guard="if True:"))
    done = python(str(file))
    assert done.returncode == 1
    assert 'if __name__ == "__main__"' in done.stderr
    assert "agent.process_main" in done.stderr


PROMPT = """
import sys
{before}
import goclaw
namespace = {{"__name__": "__main__"}}
factor = 3
@goclaw.agent(isolation="process")
def triple(x: int) -> int:
    return factor * x
@goclaw.workflow
def flow():
    return triple(2)
with goclaw.Engine() as engine:
    print(engine.run(flow))
"""


def test_functions_of_a_prompt_travel_by_cloudpickle() -> None:
    pytest.importorskip("cloudpickle")
    done = python("-c", PROMPT.format(before=""))
    assert (done.returncode, done.stdout) == (0, "6\n"), done.stderr


def test_functions_of_a_prompt_are_refused_without_cloudpickle() -> None:
    done = python("-c", PROMPT.format(before="sys.modules['cloudpickle'] = None"))
    assert done.returncode == 1
    assert "agent.not_importable" in done.stderr
    assert "pip install cloudpickle" in done.stderr


def test_a_function_in_a_function_is_no_import_path(memory: goclaw.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)

    @goclaw.agent(isolation="process", name="local.add")
    def add(x: int) -> int:
        return x + 1

    with pytest.raises(goclaw.GoclawError, match="inside a function") as raised:
        memory.run(one(add, x=1))
    assert raised.value.code == "agent.not_importable"


ORPHAN = """
    import ctypes, os, signal, subprocess, sys
    import goclaw

    @goclaw.agent(isolation="process")
    def hold() -> None:
        forked = os.fork()
        if forked == 0:
            signal.pause()
        started = subprocess.Popen(["sleep", "1000"])
        with open(sys.argv[1], "w") as fifo:
            fifo.write(f"{os.getpid()} {forked} {started.pid}")
        if sys.argv[2] == "stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        while sys.argv[2] == "talks":
            goclaw.current().heartbeat(1)
        ctypes.PyDLL(None).pause()

    @goclaw.workflow
    def flow():
        hold()

    if __name__ == "__main__":
        goclaw.run(flow)
"""


@pytest.mark.parametrize("worker", ["busy", "stopped", "talks"])
def test_workers_and_what_they_start_die_with_the_engine_even_when_it_is_killed(tmp_path: Path, worker: str) -> None:
    """The agent keeps the GIL, or its whole process is stopped: neither can be asked. Who talks meets a broken pipe."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with subprocess.Popen([sys.executable, str(script(tmp_path, ORPHAN)), str(fifo), worker]) as engine:
        pids = [int(pid) for pid in fifo.read_text().split()]
        engine.kill()
    assert [is_gone(pid) for pid in pids] == [True] * 3
