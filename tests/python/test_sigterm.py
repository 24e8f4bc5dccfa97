"""SIGTERM: engines drain, the process exits 0, reopening resumes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import goclaw
import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")

HEAD = """
import os, signal, sys, time, goclaw

def say(word):
    # One write: two threads say something at the same time.
    os.write(1, f"{word}\\n".encode())

@goclaw.agent(name="term.short", retries=0)
def short(n: int) -> int:
    say("begun")
    time.sleep(0.3)
    return n

@goclaw.agent(name="term.endless", retries=0)
def endless(n: int) -> int:
    say("begun")
    while True:
        time.sleep(0.005)

@goclaw.agent(name="term.later", retries=0)
async def later(n: int) -> int:
    return n + 1

path = sys.argv[1]
"""


def process(code: str, path: Path) -> subprocess.Popen[str]:
    source = HEAD + textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-c", source, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def line(of: subprocess.Popen[str]) -> str:
    assert of.stdout is not None
    return of.stdout.readline().strip()


def end(of: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        _, err = of.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        of.kill()
        raise
    return of.returncode, err


WAITS = """
flow = goclaw.Workflow("term").task("t", {agent}, timeout="1h")
flow.task("after", later, deps=["t"], args={{"n": 1}})
with goclaw.Engine(path, drain_timeout="{drain}") as engine:
    run = engine.submit(flow, {{"n": 1}})
    say(run.id)
    run.result()
    say("not reached")
"""


@pytest.mark.parametrize("agent", ["short", "endless"])
def test_work_under_way_drains_and_the_rest_is_resumed(agent: str, tmp_path: Path) -> None:
    drain = "30s" if agent == "short" else "200ms"
    child = process(WAITS.format(agent=agent, drain=drain), tmp_path)
    words = {line(child), line(child)}
    child.send_signal(signal.SIGTERM)
    code, err = end(child)
    assert (code, err) == (0, "")
    (run_id,) = words - {"begun"}

    @goclaw.agent(name="term.short", retries=0)
    def short(n: int) -> int:
        return n

    @goclaw.agent(name="term.endless", retries=0)
    def endless(n: int) -> int:
        return n

    @goclaw.agent(name="term.later", retries=0)
    async def later(n: int) -> int:
        return n + 1

    with goclaw.Engine(tmp_path) as engine:
        run = engine.get(run_id)
        assert run.wait(20)
        # The interrupted attempt cost no retry: there was none to spend.
        assert (run.state, run.error) == ("completed", None)
        assert run.tasks["t"].attempts == (1 if agent == "short" else 2)


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    code = """
    import threading
    flow = goclaw.Workflow("term").task("t", endless, timeout="1h")

    def watch():
        while not engine.health().closing:
            time.sleep(0.01)
        say("draining")

    with goclaw.Engine(path, drain_timeout="1h") as engine:
        threading.Thread(target=watch).start()
        engine.submit(flow, {"n": 1}).result()
    """
    child = process(code, tmp_path)
    assert line(child) == "begun"
    child.send_signal(signal.SIGTERM)
    assert line(child) == "draining"
    child.send_signal(signal.SIGTERM)
    assert end(child) == (0, "")


def test_a_thread_that_helps_with_an_agent_is_interrupted(tmp_path: Path) -> None:
    code = """
    flow = goclaw.Workflow("term").task("t", endless)
    with goclaw.Engine(path, drain_timeout=0) as engine:
        say("ready")
        engine.run(flow, {"n": 1})
    """
    child = process(code, tmp_path)
    assert [line(child), line(child)] == ["ready", "begun"]
    child.send_signal(signal.SIGTERM)
    assert end(child) == (0, "")


def test_an_engine_without_a_with_block_closes_too(tmp_path: Path) -> None:
    code = """
    engine = goclaw.Engine(path)
    say("ready")
    time.sleep(3600)
    """
    child = process(code, tmp_path)
    assert line(child) == "ready"
    child.send_signal(signal.SIGTERM)
    assert end(child) == (0, "")
    goclaw.Engine(tmp_path).close()


MISSED = """
import asyncio, threading

def terminate():
    # The system may give a signal to any thread: then the main thread is not interrupted, just as it is not
    # by one that comes in the instant in which it begins to block.
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

begun = []

@goclaw.agent(name="term.asleep", retries=0)
def asleep(n: int) -> int:
    # Once: an attempt that is interrupted begins again, and a thread that starts another at the moment in which
    # it is told to stop passes that on to the new one (docs/platforms.md).
    if not begun:
        begun.append(True)
        threading.Timer(0.1, terminate).start()
    time.sleep(3600)
    return n

@goclaw.agent(name="term.never")
async def never(n: int) -> int:
    await asyncio.sleep(3600)
    return n

flow = goclaw.Workflow("missed").task("t", asleep, args={"n": 1})
waits = goclaw.Workflow("waits").task("t", never, args={"n": 1})

async def await_it(engine):
    await engine.submit(waits)

with goclaw.Engine(path, drain_timeout=0) as engine:
"""


@pytest.mark.parametrize(
    "wait",
    [
        "engine.run(flow)",
        "threading.Timer(0.1, terminate).start(); time.sleep(3600)",
        "threading.Timer(0.1, terminate).start(); threading.Event().wait()",
        "threading.Timer(0.1, terminate).start(); engine.submit(waits).result()",
        "threading.Timer(0.1, terminate).start(); asyncio.run(await_it(engine))",
        "threading.Timer(0.1, terminate).start(); list(engine.submit(waits).events())",
    ],
)
def test_a_signal_that_does_not_wake_the_main_thread_ends_the_process_all_the_same(wait: str, tmp_path: Path) -> None:
    child = process(f"{MISSED}    {wait}", tmp_path)
    assert end(child) == (0, "")


def test_signals_of_a_forked_child_are_none_of_the_parents(tmp_path: Path) -> None:
    code = """
    with goclaw.Engine(path):
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(3600)
        _, status = os.waitpid(child, 0)
        say(os.waitstatus_to_exitcode(status))
        say(signal.set_wakeup_fd(-1) != -1)
    """
    child = process(code, tmp_path)
    assert [line(child), line(child)] == ["7", "True"]
    # Python 3.12 and newer warn of the fork.
    assert end(child)[0] == 0


def test_a_wakeup_descriptor_of_the_program_stays() -> None:
    ends = os.pipe()
    for one in ends:
        os.set_blocking(one, False)
    before = signal.set_wakeup_fd(ends[1])
    try:
        with goclaw.Engine():
            assert signal.getsignal(signal.SIGURG) is signal.SIG_DFL
        assert signal.set_wakeup_fd(ends[1]) == ends[1]
    finally:
        signal.set_wakeup_fd(before)
        for one in ends:
            os.close(one)


def test_what_wakes_the_main_thread_goes_with_the_last_engine() -> None:
    def listeners() -> int:
        return [thread.name for thread in threading.enumerate()].count("goclaw-signals")

    assert listeners() == 0
    with goclaw.Engine():
        with goclaw.Engine():
            assert listeners() == 1
        assert listeners() == 1
        assert signal.getsignal(signal.SIGURG) is not signal.SIG_DFL
    assert listeners() == 0
    assert signal.set_wakeup_fd(-1) == -1
    assert signal.getsignal(signal.SIGURG) is signal.SIG_DFL


@pytest.mark.parametrize(
    "code",
    [
        "engine = goclaw.Engine(path, handle_sigterm=False); say('ready'); time.sleep(3600)",
        "goclaw.Engine(path).close(); say('ready'); time.sleep(3600)",
        "goclaw.run(goclaw.Workflow('x').task('t', later), {'n': 1}); say('ready'); time.sleep(3600)",
    ],
)
def test_without_an_engine_that_watches_the_process_dies_of_it(code: str, tmp_path: Path) -> None:
    child = process(code, tmp_path)
    assert line(child) == "ready"
    child.send_signal(signal.SIGTERM)
    assert end(child)[0] == -signal.SIGTERM


def test_a_handler_of_the_program_stays() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        with goclaw.Engine() as engine:
            os.kill(os.getpid(), signal.SIGTERM)
            assert seen == [signal.SIGTERM]
            assert engine.health().closing is False
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_handler_is_there_while_an_engine_is_open() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with goclaw.Engine():
        with goclaw.Engine():
            inside = signal.getsignal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is inside
    assert inside is not before
    assert signal.getsignal(signal.SIGTERM) is before
