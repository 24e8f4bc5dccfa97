"""The healthy ones: streams of small runs whose results must be right, whoever lives next door."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import goclaw


def double(x: int) -> int:
    return 2 * x


async def triple(x: int) -> int:
    return 3 * x


@dataclass
class Stream:
    """What one neighbour saw: how long each of its runs took, and what was wrong."""

    name: str
    waits_ns: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        """In milliseconds."""
        ranked = sorted(self.waits_ns)
        return ranked[min(len(ranked) - 1, int(share * len(ranked)))] / 1e6 if ranked else 0.0


@contextmanager
def neighbours(engine: goclaw.Engine, at_least: int = 5) -> Iterator[list[Stream]]:
    """Two streams of runs, one sync and one async, for as long as the block lasts and `at_least` so many."""
    over = threading.Event()
    streams = [Stream("sync"), Stream("async")]
    kinds: list[tuple[Callable[..., Any], Callable[[int], int]]] = [
        (double, lambda x: 2 * x),
        (triple, lambda x: 3 * x),
    ]
    threads = []
    for stream, (body, right) in zip(streams, kinds, strict=True):
        flow = goclaw.Workflow(f"healthy {stream.name}")
        flow.task("only", goclaw.agent(name=f"zoo.healthy.{stream.name}", lane="healthy")(body))
        work = threading.Thread(target=_stream, args=(engine, flow, stream, right, over, at_least))
        threads.append(work)
        work.start()
    try:
        yield streams
    finally:
        over.set()
        for work in threads:
            work.join(60)
            assert not work.is_alive(), "a healthy run never ended"


def _stream(
    engine: goclaw.Engine,
    flow: goclaw.Workflow,
    stream: Stream,
    right: Callable[[int], int],
    over: threading.Event,
    at_least: int,
) -> None:
    x = 0
    while x < at_least or not over.wait(0.002):
        began = time.perf_counter_ns()
        try:
            found = engine.submit(flow, {"x": x}, session=f"healthy {stream.name}").result("60s")
        except Exception as error:
            stream.wrong.append(f"{x}: {error!r}")
            return
        stream.waits_ns.append(time.perf_counter_ns() - began)
        if found != right(x):
            stream.wrong.append(f"{x}: {found}")
        x += 1
