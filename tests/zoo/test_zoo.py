"""Each hostile agent, again and again: the engine survives, every run ends right, neighbours notice nothing but time.

``make zoo`` keeps each animal 50 times; the number is in the environment variable ``GOCLAW_ZOO``.
"""

from __future__ import annotations

import os

import pytest

from tests.zoo.animals import ANIMALS, LEAK_BYTES
from tests.zoo.keeper import RSS_MAX, STICKS_AT_ONCE, Visit, keep

TIMES = int(os.environ.get("GOCLAW_ZOO", "3"))


@pytest.mark.timeout(120 + 10 * TIMES)
@pytest.mark.parametrize("name", list(ANIMALS))
def test_the_engine_survives(name: str, visits: list[Visit]) -> None:
    animal = ANIMALS[name]
    visit = keep(animal, TIMES)
    visits.append(visit)

    assert set(visit.ends) <= animal.ends, f"runs ended as {visit.ends}"
    assert visit.ends.total() == TIMES
    assert [stream.wrong for stream in visit.streams] == [[], []]
    assert all(len(stream.waits_ns) >= 5 for stream in visit.streams), "healthy runs went on"
    assert visit.running == {}, "every permit came back"
    assert visit.stuck[0] <= STICKS_AT_ONCE
    assert visit.stuck[1] == 0, "threads came back when they could"
    assert visit.left == {}, "nothing is left behind"
    assert visit.stats["goclaw_workers_crashed_total"] == animal.crashes * TIMES
    if name == "leaks" and TIMES * LEAK_BYTES > 4 * RSS_MAX:
        assert len(set(visit.results)) > 2, "workers that grew were replaced"


def test_there_are_at_least_twelve() -> None:
    assert len(ANIMALS) >= 12
