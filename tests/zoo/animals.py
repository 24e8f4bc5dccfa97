"""The animals: what each does, how it is kept, and which ends of its runs are right.

Imported by worker processes too, so nothing here does anything but define.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import goclaw
from goclaw import _goclaw

# Long enough to hurt, short enough for a test.
HOLD_S = 0.05
# Bytes that one flood prints, and that one leak keeps.
FLOOD_BYTES = 4 << 20
LEAK_BYTES = 48 << 20
# A timeout of attempts that would never end by themselves.
PATIENCE = "300ms"


@dataclass(frozen=True)
class Animal:
    """One way to be hostile.

    Attributes:
        name: What the report calls it.
        body: The agent's function.
        ends: Ends of its runs that are right: state, and code of the error where there is one.
        process: It is kept in worker processes; in the engine's own it would be the end.
        options: Options of the agent.
        sticks: Attempts do not come back by themselves: they keep a thread until `release` says so.
        cancels: Runs are cancelled once their agent has begun.
        crashes: Workers that die of one run, and are counted as crashed.
    """

    name: str
    body: Callable[..., Any]
    ends: frozenset[tuple[str, str | None]]
    process: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    sticks: bool = False
    cancels: bool = False
    crashes: int = 0

    def agent(self) -> goclaw.Agent[..., Any]:
        """The function as an agent, in the lane of its kind."""
        kept = {"isolation": "process", "lane": "cage"} if self.process else {"lane": "cage"}
        return goclaw.agent(name=f"zoo.{self.name}", **{"retries": 0, **kept, **self.options})(self.body)


ANIMALS: dict[str, Animal] = {}
COMPLETED = ("completed", None)
EXCEPTION = ("failed", "task.exception")
TIMED_OUT = ("failed", "task.timeout")
QUARANTINED = ("quarantined", "run.quarantined")
# At most once: a crash is the end of it.
CRASHED = ("failed", "task.interrupted")
ONCE = {"delivery": "at_most_once"}
# Crashes after which a run is put aside.
PATIENT_FOR = 5


def _animal(*ends: tuple[str, str | None], **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def keep(body: Callable[..., Any]) -> Callable[..., Any]:
        name = body.__name__
        ANIMALS[name] = Animal(name, body, frozenset(ends), **options)
        return body

    return keep


@_animal(EXCEPTION)
def raises(x: int) -> int:
    raise RuntimeError(f"no luck with {x}")


@_animal(("failed", "task.panic"))
def panics(x: int) -> int:
    _goclaw._selftest.panic()
    return x


@_animal(("failed", "task.exit"))
def exits(x: int) -> int:
    sys.exit(x + 1)


@_animal(QUARANTINED, process=True, crashes=PATIENT_FOR)
def exits_the_process(x: int) -> int:
    os._exit(x % 200 + 1)


@_animal(CRASHED, process=True, options=ONCE, crashes=1)
def segfaults(x: int) -> int:
    ctypes.string_at(0)
    return x


@_animal(QUARANTINED, process=True, crashes=PATIENT_FOR)
def is_killed(x: int) -> int:
    # As the kernel does with what takes all the memory: no word, no clean-up.
    os.kill(os.getpid(), signal.SIGKILL)
    return x


@_animal(TIMED_OUT, options={"timeout": PATIENCE})
def loops_in_python(x: int) -> int:
    while True:
        x += 1


@_animal(TIMED_OUT, process=True, options={"timeout": PATIENCE})
def loops_in_python_in_a_process(x: int) -> int:
    while True:
        x += 1


def _hold_the_gil(seconds: float) -> None:
    """Sleeps in C without letting go of the interpreter."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))


@_animal(COMPLETED)
def holds_the_gil(x: int) -> int:
    _hold_the_gil(HOLD_S)
    return x


@_animal(TIMED_OUT, process=True, options={"timeout": PATIENCE})
def holds_the_gil_for_ever(x: int) -> int:
    # A regular expression that backtracks until the end of the world, in C, with the GIL.
    re.match(r"(a+)+$", "a" * 64 + "b")
    return x


@_animal(COMPLETED)
async def blocks_the_loop(x: int) -> int:
    time.sleep(HOLD_S)  # noqa: ASYNC251
    return x


@_animal(TIMED_OUT, process=True, options={"timeout": PATIENCE})
async def blocks_its_loop_for_ever(x: int) -> int:
    time.sleep(3600)  # noqa: ASYNC251
    return x


@_animal(COMPLETED, process=True)
def floods(x: int) -> int:
    line = "water " * 20 + "\n"
    for _ in range(FLOOD_BYTES // len(line)):
        sys.stdout.write(line)
        sys.stderr.write(line)
    return x


_hoard: list[bytearray] = []


@_animal(COMPLETED, process=True)
def leaks(x: int) -> int:
    _hoard.append(bytearray(LEAK_BYTES))
    # Memory counts as resident once it is written to.
    _hoard[-1][:: os.sysconf("SC_PAGESIZE")] = bytes([x % 256]) * len(range(0, LEAK_BYTES, os.sysconf("SC_PAGESIZE")))
    return os.getpid()


_gate: Any = None


def release() -> None:
    """Lets the animals go that would stay for ever."""
    if _gate is not None:
        _gate.set()


def lock_up() -> None:
    """Makes the animals that ignore everything stay until `release`."""
    import threading

    global _gate
    _gate = threading.Event()


@_animal(TIMED_OUT, options={"timeout": PATIENCE}, sticks=True)
def ignores_its_timeout(x: int) -> int:
    while not _gate.is_set():
        try:
            _gate.wait(0.01)
        except BaseException:
            continue
    return x


@_animal(("cancelled", "run.cancelled"), process=True, cancels=True)
def ignores_its_cancellation(x: int) -> int:
    began = time.monotonic()
    while time.monotonic() - began < 3600:
        try:
            time.sleep(0.01)
        except BaseException:
            continue
    return x


@_animal(("cancelled", "run.cancelled"), cancels=True)
async def swallows_its_cancellation(x: int) -> int:
    for _ in range(20):
        try:
            await asyncio.sleep(HOLD_S)
        except asyncio.CancelledError:
            continue
    return x


@_animal(COMPLETED)
def forks(x: int) -> int:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return x


@_animal(COMPLETED, process=True)
def forks_and_both_return(x: int) -> int:
    # The child goes on in the middle of the worker's machinery, and may not do any harm there.
    os.fork()
    return x


@_animal(CRASHED, process=True, options=ONCE, crashes=1)
def closes_files(x: int) -> int:
    os.closerange(3, 1024)
    return x
