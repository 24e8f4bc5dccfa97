"""Agents outside of runs: what may be one, and what calling it does."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import goclaw
import pytest
import typing_extensions
from goclaw import _adapt, _signature

if TYPE_CHECKING:
    from collections.abc import Callable


def fresh(fn: Callable[..., Any], **options: Any) -> goclaw.Agent[..., Any]:
    fn.__qualname__ = f"{fn.__qualname__}.{threading.get_ident()}.{len(fn.__qualname__)}.{id(fn)}"
    made: goclaw.Agent[..., Any] = goclaw.agent(**options)(fn) if options else goclaw.agent(fn)
    return made


def test_a_sync_agent_called_outside_a_workflow_just_runs() -> None:
    @goclaw.agent
    def twice(x: int) -> int:
        return 2 * x

    assert twice(4) == 8
    assert twice.map([1, 2]) == [2, 4]
    assert twice.fn(4) == 8


def test_an_async_agent_called_outside_a_workflow_is_driven_to_its_end() -> None:
    @goclaw.agent
    async def later(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    assert later(1) == 2


async def test_an_async_agent_can_be_called_from_a_users_loop() -> None:
    @goclaw.agent
    async def later2(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    assert later2(1) == 2
    assert await later2.fn(1) == 2


def test_a_blocking_call_on_goclaws_own_loop_is_refused() -> None:
    @goclaw.agent
    async def inner() -> int:
        return 1

    @goclaw.agent
    async def outer() -> int:
        return inner()

    with pytest.raises(goclaw.WouldDeadlock) as refused:
        outer()
    assert "await" in refused.value.help


def test_a_class_is_instantiated_once_and_late() -> None:
    made: list[object] = []

    @goclaw.agent
    class Counts:
        def __init__(self) -> None:
            made.append(self)

        def run(self, step: int = 1) -> int:
            return step

    assert made == []
    assert Counts(step=2) == 2  # type: ignore[call-arg]
    assert Counts() == 1  # type: ignore[comparison-overlap]
    assert len(made) == 1


def test_a_class_with_call_is_an_agent() -> None:
    @goclaw.agent
    class Calls:
        async def __call__(self, x: int) -> int:
            return x

    assert Calls(3) == 3  # type: ignore[call-arg, comparison-overlap]


def positional(x: int, /) -> None: ...
def stars(*items: int) -> None: ...
def generator() -> Any:
    yield 1


async def stream() -> Any:
    yield 1


class Empty: ...


@pytest.mark.parametrize(
    ("target", "code", "words"),
    [
        (positional, "agent.signature", "positional-only parameter `x`"),
        (stars, "agent.signature", "*items"),
        (generator, "agent.kind", "generator"),
        (stream, "agent.kind", "generator"),
        (Empty, "agent.kind", "neither `run` nor `__call__`"),
        (3, "agent.kind", "3"),
    ],
)
def test_what_cannot_be_bound_by_name_is_refused_at_decoration(target: Any, code: str, words: str) -> None:
    with pytest.raises(goclaw.AgentError) as refused:
        goclaw.agent(target)
    assert refused.value.code == code
    assert words in str(refused.value)
    assert refused.value.help


def test_options_that_do_nothing_are_not_accepted() -> None:
    for option in ("compensate", "version"):
        with pytest.raises(TypeError):
            goclaw.agent(**{option: None})  # type: ignore[call-overload]
    with pytest.raises(goclaw.ConfigError):
        goclaw.agent(isolation="moon")  # type: ignore[call-overload]


def test_isolation_must_fit_the_function() -> None:
    with pytest.raises(goclaw.AgentError):
        goclaw.agent(isolation="loop")(lambda: None)


def test_a_name_belongs_to_one_function() -> None:
    def one() -> None: ...
    def two() -> None: ...

    goclaw.agent(name="taken")(one)
    goclaw.agent(name="taken")(one)
    with pytest.raises(goclaw.AgentError) as refused:
        goclaw.agent(name="taken")(two)
    assert refused.value.code == "agent.duplicate"


def test_the_context_is_found_by_annotation() -> None:
    def plain(ctx: goclaw.Context, x: int) -> None: ...
    def optional(x: int, ctx: goclaw.Context | None = None) -> None: ...
    def text(x: int, ctx: "goclaw.Context") -> None: ...  # noqa: UP037
    def later(x: int, ctx: "Unknown.Context") -> None: ...  # type: ignore[name-defined]  # noqa: F821, UP037
    def other(x: int, context: int) -> None: ...

    found = [_signature.read(fn, "f").context for fn in (plain, optional, text, later, other)]
    assert [param and param.name for param in found] == ["ctx", "ctx", "ctx", "ctx", None]


def test_an_agent_that_asks_for_the_context_says_so_outside_a_run() -> None:
    @goclaw.agent
    def asks(ctx: goclaw.Context) -> str:
        return ctx.run_id

    with pytest.raises(goclaw.AgentError) as refused:
        asks()  # type: ignore[call-arg]
    assert refused.value.code == "agent.no_context"


@dataclass
class Point:
    x: int
    y: int = 0


class Ticket(typing_extensions.TypedDict):
    id: int
    at: datetime


def takes(
    p: Point, many: list[Point], maybe: Point | None, t: Ticket, when: datetime, n: int, s: str, free: Any
) -> None: ...


def test_only_hints_beyond_json_get_an_adapter() -> None:
    found = _adapt.adapters(_signature.read(takes, "takes"), takes)
    assert set(found) == {"p", "many", "maybe", "t", "when"}


def test_an_adapter_builds_what_the_hint_asks_for_and_leaves_instances_alone() -> None:
    found = _adapt.adapters(_signature.read(takes, "takes"), takes)
    point, points = Point(1), [Point(1)]
    assert found["p"](point) is point
    assert found["many"](points) is points
    assert found["maybe"](None) is None
    assert found["p"]({"x": 1}) == Point(1)
    assert found["many"]([{"x": 1}, Point(2)]) == [Point(1), Point(2)]
    now = datetime(2026, 1, 1)
    assert found["when"](now) is now
    assert found["when"]("2026-01-01T00:00:00") == now
    ticket = {"id": 1, "at": now}
    assert found["t"](ticket) is ticket
    assert found["t"]({"id": 1, "at": "2026-01-01T00:00:00"}) == ticket
    with pytest.raises(ValueError, match="x"):
        found["p"]({"y": 1})


def test_a_typing_typed_dict_is_coerced_on_every_python() -> None:
    import typing

    Old = typing.TypedDict("Old", {"at": datetime})  # noqa: UP013
    assert _adapt.Adapter(list[Old], {})([{"at": "2026-01-01T00:00:00"}]) == [{"at": datetime(2026, 1, 1)}]
