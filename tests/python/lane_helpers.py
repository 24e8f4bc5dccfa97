"""What the tests of lanes share: gauges, waiting until something is so, workflows of one task."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import goclaw


def until(is_so: Callable[[], bool]) -> None:
    """Asks again until it is so; the bound is for a test that fails."""
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline, "it never comes"
        time.sleep(0.002)


class Gauge:
    """How many are inside at once, and the most there have been."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = self.most = 0

    @contextmanager
    def inside(self) -> Iterator[None]:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            yield
        finally:
            with self._lock:
                self.now -= 1


def flow(agent: Any, lane: str = "one", **options: Any) -> goclaw.Workflow:
    """A workflow of one task, `t`."""
    return goclaw.Workflow("flow").task("t", agent, lane=lane, **options)


def is_free(engine: goclaw.Engine, lane: str = "one") -> bool:
    """True where nobody has a permit of the lane, nor lent one."""
    stats = engine.lanes[lane].stats
    return (stats.running, stats.lent) == (0, 0)
