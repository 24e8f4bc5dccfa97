"""How long healthy runs take beside each hostile agent; `tests/zoo` has the agents, and judges everything else."""

from __future__ import annotations

from collections.abc import Callable

from tests.zoo.animals import ANIMALS, Animal
from tests.zoo.keeper import keep

from ..harness import Figures, Scenario, Setting

ZOO = Scenario(
    "zoo",
    "Healthy runs beside each hostile agent (20 visits and 5 s, at least): submit to result, one after the other",
    figure="p50",
    unit="ms",
    higher_is_better=False,
    columns=("p99", "max", "runs", "async_p50", "async_p99", "async_max"),
    rounds=1,
)
VISITS, SECONDS = 20, 5.0
ALONE = "nobody"


def _figures(animal: Animal, visits: int, seconds: float) -> Figures:
    visit = keep(animal, visits, seconds)
    assert set(visit.ends) <= animal.ends, visit.ends
    sync, coro = visit.streams
    assert sync.wrong + coro.wrong == []
    return {
        "p50": sync.quantile(0.5),
        "p99": sync.quantile(0.99),
        "max": sync.quantile(1.0),
        "runs": len(sync.waits_ns),
        "async_p50": coro.quantile(0.5),
        "async_p99": coro.quantile(0.99),
        "async_max": coro.quantile(1.0),
    }


def _beside(animal: Animal) -> Callable[[Setting], Figures]:
    return lambda setting: _figures(animal, max(2, setting.scaled(VISITS)), SECONDS / 10 if setting.quick else SECONDS)


def _nobody(x: int) -> int:
    return x


ZOO.contender(ALONE, needs=["goclaw"])(_beside(Animal("nobody", _nobody, frozenset({("completed", None)}))))
for _animal in ANIMALS.values():
    # A panic takes the debug build's own way to panic.
    if _animal.name != "panics":
        ZOO.contender(_animal.name, needs=["goclaw"])(_beside(_animal))
