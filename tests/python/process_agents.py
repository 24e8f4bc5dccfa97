"""Agents that the worker processes of `test_processes.py` import."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import goclaw

process = goclaw.agent(isolation="process", lane="cpu", retries=0)


@dataclass
class Point:
    x: int
    y: int


@process
def pid(x: int = 0) -> int:
    return os.getpid()


@process
def double(x: int) -> int:
    return 2 * x


@process
async def adouble(x: int) -> tuple[int, int]:
    await asyncio.sleep(0)
    return 2 * x, os.getpid()


@process
def meet(i: int, folder: str) -> int:
    """Two of these end only if they run at the same time: opening a pipe waits for the other end."""
    for turn in (0, 1):
        mode = "w" if i == turn else "r"
        with open(f"{folder}/{turn}", mode):
            pass
    return os.getpid()


def crash(how: str) -> None:
    if how == "segfault":
        ctypes.string_at(0)
    elif how == "exit":
        print("about to leave", file=sys.stderr)
        os._exit(7)
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "abort":
        os.abort()
    elif how == "close":
        os.closerange(3, 70_000)
        ctypes.PyDLL(None).pause()


@process
def crash_once(how: str, ctx: goclaw.Context) -> int:
    if ctx.attempt == 1:
        crash(how)
    return ctx.attempt


@process
def crash_always() -> None:
    os._exit(3)


@goclaw.agent(isolation="process", lane="cpu", delivery="at_most_once")
def crash_at_most_once() -> None:
    os._exit(3)


@process
def crash_at(x: int, at: int, folder: str) -> int:
    # Not by the attempt's number: a call that is handed back before it began has a second one, too.
    crashed = Path(folder, "crashed")
    if x == at and not crashed.exists():
        crashed.touch()
        os._exit(1)
    with open(f"{folder}/{x}", "a") as file:
        file.write("*")
    return x


@goclaw.agent(isolation="process", lane="cpu", retries=0, timeout=0.3)
def hang(how: str, file: str) -> None:
    Path(file).write_text(str(os.getpid()))
    if how == "c":
        # Holds the interpreter's lock for ever.
        ctypes.PyDLL(None).pause()
    while True:
        try:
            while True:
                time.sleep(0.001)
        except BaseException:
            continue


def note_pid(file: str) -> None:
    Path(file).write_text(str(os.getpid()))


@process
def wait_for_ever(fifo: str, ctx: goclaw.Context) -> None:
    Path(fifo).write_text(str(os.getpid()))
    ctx.sleep(3600)


@process
async def await_for_ever(fifo: str) -> None:
    note_pid(fifo)
    await asyncio.sleep(3600)


@process
def flood() -> int:
    for _ in range(64):
        os.write(1, b"x" * 65_536)
    os.write(1, b"\n")
    for i in range(5_000):
        print("line", i)
    print("last", file=sys.stderr)
    return 1


@process
def fork_and_come_back() -> str:
    if os.fork() == 0:
        return "child"
    os.wait()
    return "parent"


@process
def fork_a_sleeper(x: int) -> int:
    child = os.fork()
    if child == 0:
        signal.pause()
    return child


@process
def close_many() -> int:
    os.closerange(3, 256)
    return os.getpid()


@process
def fail(x: int) -> int:
    try:
        raise KeyError("deep down")
    except KeyError as error:
        raise RuntimeError(f"no {x}") from error


@process
def move(point: Point, by: int) -> Point:
    return Point(point.x + by, point.y)


@process
def ask(ctx: goclaw.Context, x: int) -> dict[str, Any]:
    ctx.progress(1, 2, "half")
    ctx.log.warning("from afar")
    logging.getLogger("somebody.else").error("hello %s", x)
    return {
        "run": ctx.run_id,
        "task": ctx.task_id,
        "attempt": ctx.attempt,
        "input": ctx.input,
        "deadline": ctx.deadline,
        "same": goclaw.current().task_id,
    }


@process
def size(x: Any) -> int:
    return len(repr(x))


@process
def grow(n: int) -> int:
    global _kept
    _kept = bytearray(n)
    return os.getpid()


_kept = bytearray()


@goclaw.agent
def make_lock() -> Any:
    import threading

    return threading.Lock()


@goclaw.agent
def make_mixed() -> list[Any]:
    return [1, object(), 3]


@goclaw.agent(isolation="process", lane="cpu", retries=0, idle_timeout=0.2)
def fall_silent(ctx: goclaw.Context) -> None:
    ctx.heartbeat("still here")
    ctypes.PyDLL(None).pause()


@goclaw.agent(isolation="process", lane="cpu", retries=0)
def tell(ready: str, go: str, ctx: goclaw.Context) -> int:
    ctx.heartbeat("half way")
    note_pid(ready)
    return len(Path(go).read_text())


@process
def listen_plainly(text: str, ctx: goclaw.Context) -> list[str]:
    heard = [text]
    for signal_ in ctx.signals():
        heard.append(signal_.message["text"])
        if heard[-1] == "stop":
            break
    return heard


@process
async def listen(text: str, ctx: goclaw.Context) -> list[str]:
    heard = [text]
    async for signal_ in ctx.signals():
        heard.append(signal_.message["text"])
        if heard[-1] == "stop":
            break
    return heard


@process
def reread(text: str, heard: list[str], ctx: goclaw.Context) -> list[Any]:
    """What a later call of the run finds: all that an earlier one has read, and what nobody has."""
    return [heard, [signal_.message["text"] for signal_ in ctx.poll_signals()], ctx.params["text"], ctx.session]


@process
def deaf(text: str, ready: str, go: str, ctx: goclaw.Context) -> str:
    """Reads no message but the first."""
    if text == "listen":
        next(iter(ctx.signals()))
        note_pid(ready)
        Path(go).read_text()
    return text


@goclaw.agent
def inner_double(x: int) -> int:
    return 2 * x


@process
def nest(x: int) -> int:
    """Runs an engine of its own, and waits for it."""

    @goclaw.workflow
    def flow(x: int) -> int:
        return inner_double(inner_double(x))

    with goclaw.Engine() as engine:
        return sum(engine.run(flow, x) for _ in range(3))


@process
def nest_and_wait(x: int) -> int:
    """As `nest`, in the other ways to wait."""

    @goclaw.workflow
    def flow(x: int) -> int:
        return inner_double(x)

    with goclaw.Engine() as engine:
        run = engine.submit(flow, x)
        waited = run.wait("20s") and run.result(timeout=20)
        assert waited == goclaw.run(flow, x)
        lane = goclaw.Lane("shut", 1)
        engine.lanes.declare(lane)
        engine.lanes["shut"].pause()
        never = engine.submit(goclaw.Workflow("never").task("a", inner_double, args={"x": x}, lane="shut"))
        try:
            never.result(timeout="10ms")
        except goclaw.ResultTimeout:
            never.kill()
            return 2 * waited
    raise AssertionError("a paused lane lets nothing pass")


@goclaw.agent(isolation="process", retries=0)
def spend(unit: str, n: int, ctx: goclaw.Context) -> str:
    """Charges its lane; answers with what refused it."""
    try:
        ctx.charge(unit, n)
    except goclaw.GoclawError as refused:
        return refused.code
    return "charged"


@goclaw.agent(isolation="process", retries=0)
async def aspend(unit: str, n: int, ctx: goclaw.Context) -> str:
    try:
        ctx.charge(unit, n)
    except goclaw.GoclawError as refused:
        return refused.code
    return "charged"


@process
def mutter(text: str) -> str:
    print(text, file=sys.stderr, flush=True)
    return text
