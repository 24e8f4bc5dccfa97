"""Keeps one animal beside healthy neighbours and writes down what happened. The tests judge it, the bench times it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import goclaw

from .animals import Animal, lock_up, release
from .neighbours import Stream, neighbours
from .residue import residue, settled

# Attempts that stick keep a thread each; so many at once are within the bound of every machine.
STICKS_AT_ONCE = 2
# Above this much memory a worker is replaced, in bytes.
RSS_MAX = 160 << 20
SOON_S = 30.0
CAGE = 4


@dataclass(frozen=True)
class Visit:
    """What keeping an animal for a while was like.

    Attributes:
        animal: Which.
        ends: How its runs ended: state and code, and how often.
        streams: What the neighbours saw.
        running: Permits that did not come back, by lane.
        stuck: The most threads that were stuck, and how many still were in the end.
        left: Files, children and threads that the engine left behind.
        results: What its completed runs returned.
        stats: The engine's counters.
    """

    animal: str
    ends: Counter[tuple[str, str | None]]
    streams: list[Stream]
    running: dict[str, int]
    stuck: tuple[int, int]
    left: dict[str, int]
    results: list[Any]
    stats: dict[str, int]


def keep(animal: Animal, times: int, seconds: float = 0.0) -> Visit:
    """Runs an animal `times` times or more, for so many `seconds` or longer, in an engine of its own."""
    lanes = [goclaw.Lane("cage", CAGE), goclaw.Lane("healthy", 8)]
    options: dict[str, Any] = {}
    if animal.process:
        options["processes"] = goclaw.Processes(max_workers=2, max_rss=RSS_MAX, kill_grace="100ms")
    # What the process keeps for good, such as its event loop, is there from now on.
    with goclaw.Engine(lanes=lanes, drain_timeout="5s") as first, neighbours(first):
        pass
    before = residue()
    lock_up()
    engine = goclaw.Engine(lanes=lanes, drain_timeout="5s", **options)
    try:
        flow = goclaw.Workflow(animal.name).task("only", animal.agent())
        with neighbours(engine) as streams:
            runs, most_stuck = _visit(engine, flow, animal, times, seconds)
        release()
        running = _until_none(lambda: {name: lane.running for name, lane in engine.lanes.items() if lane.running})
        stuck = _until_none(lambda: {"stuck": found} if (found := _stuck(engine)) else {})
        ends = Counter(_end(run) for run in runs)
        results = [run.result() for run in runs if run.state == "completed"]
        stats = engine.stats()
    finally:
        release()
        engine.close()
    left = settled(before)
    return Visit(animal.name, ends, streams, running, (most_stuck, stuck.get("stuck", 0)), left, results, stats)


def _visit(
    engine: goclaw.Engine, flow: goclaw.Workflow, animal: Animal, times: int, seconds: float
) -> tuple[list[goclaw.Run[Any]], int]:
    runs: list[goclaw.Run[Any]] = []
    most_stuck = 0
    at_once = STICKS_AT_ONCE if animal.sticks else CAGE if animal.cancels or seconds else times
    began = time.monotonic()
    while (least := times - len(runs)) > 0 or time.monotonic() - began < seconds:
        count = min(at_once, least) if least > 0 else at_once
        some = engine.submit_many(flow, [{"x": len(runs) + at} for at in range(count)])
        if animal.cancels:
            for run in some:
                next(event for event in run.events() if event.type == "task.started")
                run.cancel("out")
        for run in some:
            run.wait("100s")
        runs += some
        if animal.sticks:
            most_stuck = max(most_stuck, _stuck(engine))
            release()
            _until_none(lambda: {"stuck": found} if (found := _stuck(engine)) else {})
            lock_up()
    return runs, most_stuck


def _stuck(engine: goclaw.Engine) -> int:
    return engine.stats()["goclaw_threads_stuck"]


def _end(run: goclaw.Run[Any]) -> tuple[str, str | None]:
    error = run.error
    return run.state, None if error is None else error.code


def _until_none(look: Any) -> dict[str, int]:
    """What is left of something that must go away, once it had its time."""
    deadline, pause = time.monotonic() + SOON_S, threading.Event()
    while (left := look()) and time.monotonic() < deadline:
        pause.wait(0.01)
    return dict(left)
