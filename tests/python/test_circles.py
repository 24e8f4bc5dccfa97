"""Agents that would wait for themselves are told so, however long the way round is."""

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import goclaw
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from lane_helpers import flow, is_free, until

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def engine() -> Iterator[goclaw.Engine]:
    lanes = [goclaw.Lane("one", 9), goclaw.Lane("a", 1), goclaw.Lane("b", 1)]
    with goclaw.Engine(lanes=lanes) as engine:
        yield engine


def waits(engine: goclaw.Engine, way: str, name: str, work: goclaw.Workflow, **options: Any) -> Any:
    """An agent that waits for a run of its own."""

    def blocks() -> Any:
        if way == "result":
            return engine.submit(work, **options).result()
        return engine.run(work, **options)

    async def awaits() -> Any:
        if way == "await":
            return await (await engine.asubmit(work, **options))
        return await engine.arun(work, **options)

    body: Callable[[], Any] = blocks if way in ("result", "run") else awaits
    # It would be retried if waiting could help.
    return goclaw.agent(name=f"circles.{name}.{way}", retries=3)(body)


async def waiting(run: goclaw.Run[Any]) -> Any:
    return await run


def deadlock(run: goclaw.Run[Any], code: str) -> goclaw.WouldDeadlock:
    """What the innermost task of a run failed with."""
    error = run.error
    assert isinstance(error, goclaw.TaskFailed)
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    assert isinstance(cause, goclaw.WouldDeadlock)
    assert cause.code == code and cause.help
    return cause


@pytest.mark.parametrize("way", ["result", "run", "await", "arun"])
@pytest.mark.parametrize("between", [0, 1, 3])
def test_a_grandchild_cannot_wait_for_the_session_of_its_grandparent(
    engine: goclaw.Engine, way: str, between: int
) -> None:
    inner = flow(goclaw.agent(name="circles.inner")(lambda: "inner"))
    chain = flow(waits(engine, way, "last", inner, session="s"))
    for n in range(between):
        chain = flow(waits(engine, way, f"link{n}", chain))
    head = engine.submit(flow(waits(engine, way, "head", chain)), session="s")
    assert head.wait(60)
    cause = deadlock(head, "engine.own_session")
    assert f"session `s`, which run `{head.id}` holds" in str(cause)
    # What was submitted goes next, and nobody waits any more.
    (behind,) = [line.id for line in engine.list(session="s") if line.id != head.id]
    assert engine.get(behind).result(60) == "inner"
    until(lambda: is_free(engine))


@pytest.mark.parametrize("way", ["result", "await"])
def test_an_agent_cannot_wait_for_its_own_run(engine: goclaw.Engine, way: str) -> None:
    @goclaw.agent(name="circles.self", retries=3)
    def blocks(ctx: goclaw.Context) -> Any:
        return engine.get(ctx.run_id).result()

    @goclaw.agent(name="circles.aself", retries=3)
    async def awaits(ctx: goclaw.Context) -> Any:
        return await engine.get(ctx.run_id)

    run = engine.submit(flow(blocks if way == "result" else awaits))
    assert run.wait(60)
    deadlock(run, "engine.own_run")


def test_two_agents_cannot_wait_for_each_other(engine: goclaw.Engine) -> None:
    ids: dict[str, str] = {}
    known = threading.Barrier(3)

    @goclaw.agent(name="circles.each", retries=0)
    def each(me: str, other: str) -> str:
        known.wait(60)
        try:
            return str(engine.get(ids[other]).result())
        except goclaw.WouldDeadlock as refused:
            assert refused.code == "engine.own_run"
            return "refused"

    runs = {me: engine.submit(flow(each), {"me": me, "other": other}) for me, other in ("ab", "ba")}
    ids.update({me: run.id for me, run in runs.items()})
    known.wait(60)
    # Whoever comes second is refused, and its answer is what the first waited for.
    assert [run.result(60) for run in runs.values()] == ["refused", "refused"]


def test_a_wait_that_was_given_up_closes_no_circle(engine: goclaw.Engine) -> None:
    """The head looked after its child for a while only, so that may wait for the session."""
    asked, goes_on = threading.Event(), threading.Event()

    @goclaw.agent(name="circles.patient", retries=0)
    def child() -> str:
        asked.wait(60)
        run = engine.submit(inner, session="s")
        goes_on.set()
        return str(run.result())

    @goclaw.agent(name="circles.impatient", retries=0)
    def head() -> str:
        run = engine.submit(flow(child))
        assert not run.wait(0.01)
        asked.set()
        goes_on.wait(60)
        return run.id

    inner = flow(goclaw.agent(name="circles.inner2")(lambda: "inner"))
    below = engine.submit(flow(head), session="s").result(60)
    assert engine.get(below).result(60) == "inner"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_child_cannot_drain_the_lane_that_its_parent_waits_in(engine: goclaw.Engine, kind: str) -> None:
    @goclaw.agent(name="circles.drains", retries=3)
    def drains() -> bool:
        return engine.lanes["a"].drain()

    @goclaw.agent(name="circles.adrains", retries=3)
    async def adrains() -> bool:
        return await engine.lanes["a"].adrain()

    child = flow(drains if kind == "sync" else adrains, "b")
    run = engine.submit(flow(waits(engine, "result", "waits-in-a", child), "a"))
    assert run.wait(60)
    # Whoever begins to wait second is refused, the parent or the child.
    deadlock(run, "engine.own_lane")


def test_two_agents_cannot_drain_each_other_s_lanes(engine: goclaw.Engine) -> None:
    both = threading.Barrier(2)

    @goclaw.agent(name="circles.drains-other", retries=0)
    def drains(other: str) -> bool:
        both.wait(60)
        try:
            return engine.lanes[other].drain()
        except goclaw.WouldDeadlock as refused:
            assert refused.code == "engine.own_lane"
            return False

    first = engine.submit(flow(drains, "a"), {"other": "b"})
    second = engine.submit(flow(drains, "b"), {"other": "a"})
    assert sorted([first.result(60), second.result(60)]) == [False, True]


def test_explain_tells_which_run_an_agent_waits_for(engine: goclaw.Engine) -> None:
    gate, begun = threading.Event(), threading.Event()

    @goclaw.agent(name="circles.holds", retries=0)
    def child() -> None:
        begun.set()
        gate.wait(60)

    parent = engine.submit(flow(waits(engine, "arun", "told", flow(child))))
    assert begun.wait(60)
    (below,) = [line.id for line in engine.list() if line.id != parent.id]

    def told() -> tuple[str, ...]:
        running = engine.explain(parent).tasks[0].running
        return running.awaits if running is not None else ()

    until(lambda: told() == (below,))
    assert below in str(engine.explain(parent))
    gate.set()
    parent.result(60)


def test_siblings_that_wait_for_the_same_run_are_told_apart(engine: goclaw.Engine) -> None:
    """One of them gives up: the other waits on, and the circle is still seen."""
    gate = threading.Event()

    @goclaw.agent(name="circles.twice.child", retries=0)
    def child() -> str:
        gate.wait(60)
        try:
            return str(engine.run(inner, session="s"))
        except goclaw.WouldDeadlock as refused:
            return refused.code

    @goclaw.agent(name="circles.twice", retries=0)
    async def head() -> str:
        run = await engine.asubmit(flow(child))
        both = [asyncio.ensure_future(waiting(run)) for _ in range(2)]
        await asyncio.sleep(0)
        both[0].cancel()
        await asyncio.wait([both[0]])
        gate.set()
        return str(await both[1])

    inner = flow(goclaw.agent(name="circles.inner3")(lambda: "inner"))
    assert engine.submit(flow(head), session="s").result(60) == "engine.own_session"


def test_a_run_that_is_being_stopped_holds_nobody_up(engine: goclaw.Engine) -> None:
    """Who has the session waits for the one that interrupts it."""
    last = flow(goclaw.agent(name="circles.last")(lambda: "last"))

    @goclaw.agent(name="circles.interrupts", retries=0)
    def child() -> str:
        return str(engine.run(last, session="s", when_busy="interrupt"))

    child_runs: list[goclaw.Run[Any]] = []

    @goclaw.agent(name="circles.interrupted", retries=0)
    def head() -> str:
        child_runs.append(engine.submit(flow(child)))
        return str(child_runs[0].result())

    run = engine.submit(flow(head), session="s")
    run.wait(60)
    assert run.state == "cancelled"
    assert child_runs[0].result(60) == "last"


def test_an_agent_may_interrupt_its_own_session(engine: goclaw.Engine) -> None:
    """Its own cancellation reaches it while it submits: what it submitted goes on."""
    last = flow(goclaw.agent(name="circles.goes.on")(lambda: "last"))

    @goclaw.agent(name="circles.interrupts.itself", retries=0)
    async def head() -> None:
        await engine.asubmit(last, session="own", when_busy="interrupt")
        await asyncio.sleep(60)

    run = engine.submit(flow(head), session="own")
    run.wait(60)
    assert run.state == "cancelled"
    (other,) = (it for it in engine.list() if it.id != run.id)
    assert engine.get(other.id).result(60) == "last"
