"""Stopping what runs: the token, asyncio's cancellation, an exception in the thread, the fence."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import goclaw
import pytest

LONG = 20.0


@pytest.fixture
def engine() -> Iterator[goclaw.Engine]:
    with goclaw.Engine(lanes=[goclaw.Lane("one", 1)], cancel_grace="600ms", stuck_threads_max=2) as engine:
        yield engine


class Stage:
    """What a test and its agent tell each other."""

    def __init__(self) -> None:
        self.begun, self.seen, self.free = threading.Event(), threading.Event(), threading.Event()

    def flow(self, agent: goclaw.Agent[..., object], **options: object) -> goclaw.Workflow:
        flow = goclaw.Workflow("ladder")
        flow.task("t", agent, lane="one", **options)  # type: ignore[arg-type]
        return flow


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.free.set()


def free_again(engine: goclaw.Engine) -> None:
    """The lane's only permit is there."""

    @goclaw.agent(lane="one", name="ladder.next", isolation="loop")
    async def next_one() -> int:
        return 1

    assert engine.submit(goclaw.Workflow("next").task("t", next_one)).result(LONG) == 1


def test_an_agent_that_looks_at_the_token_ends_by_itself(engine: goclaw.Engine, stage: Stage) -> None:
    raised: list[BaseException] = []

    @goclaw.agent(name="ladder.looks")
    def looks(context: goclaw.Context) -> str:
        stage.begun.set()
        try:
            while not context.cancelled:
                stage.free.wait(0.001)
        except BaseException as error:
            raised.append(error)
            raise
        return "put away"

    run = engine.submit(stage.flow(looks))
    assert stage.begun.wait(LONG)
    run.cancel("enough")
    assert run.wait(LONG)
    # What it returned in time counts.
    assert (run.state, raised, run.results) == ("cancelled", [], {"t": "put away"})


@pytest.mark.parametrize("call", ["heartbeat", "checkpoint", "sleep"])
def test_the_token_is_raised_where_the_context_is_asked(engine: goclaw.Engine, stage: Stage, call: str) -> None:
    @goclaw.agent(name=f"ladder.asks.{call}")
    def asks(context: goclaw.Context) -> None:
        stage.begun.set()
        try:
            while True:
                context.sleep(0.001) if call == "sleep" else getattr(context, call)()
        except goclaw.Cancelled:
            stage.seen.set()
            raise

    run = engine.submit(stage.flow(asks))
    assert stage.begun.wait(LONG)
    run.cancel()
    assert stage.seen.wait(LONG)
    assert run.wait(LONG)
    assert run.state == "cancelled"


def test_an_except_exception_does_not_keep_an_agent_going(engine: goclaw.Engine, stage: Stage) -> None:
    @goclaw.agent(name="ladder.careless")
    def careless() -> None:
        stage.begun.set()
        while True:
            try:
                stage.free.wait(0.001)
            except Exception:
                continue

    run = engine.submit(stage.flow(careless))
    assert stage.begun.wait(LONG)
    run.cancel()
    with pytest.raises(goclaw.RunCancelled):
        run.result(LONG)
    assert engine.health().stuck == ()


def test_a_coroutine_is_cancelled_as_asyncio_does_it(engine: goclaw.Engine, stage: Stage) -> None:
    @goclaw.agent(name="ladder.awaits")
    async def awaits() -> None:
        stage.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stage.seen.set()
            raise

    run = engine.submit(stage.flow(awaits))
    assert stage.begun.wait(LONG)
    run.cancel()
    assert stage.seen.wait(LONG)
    assert run.wait(LONG)
    assert run.state == "cancelled"


def test_an_agent_that_swallows_everything_is_fenced(engine: goclaw.Engine, stage: Stage) -> None:
    @goclaw.agent(name="ladder.deaf")
    def deaf() -> str:
        stage.begun.set()
        while not stage.free.is_set():
            try:
                stage.free.wait(0.005)
            except BaseException:
                stage.seen.set()
        return "too late"

    run = engine.submit(stage.flow(deaf))
    assert stage.begun.wait(LONG)
    run.cancel()
    assert run.wait(LONG)
    assert stage.seen.is_set(), "the exception comes before the fence"
    assert (run.state, run.results) == ("cancelled", {})
    free_again(engine)
    (stuck,) = engine.health().stuck_threads
    assert (stuck.agent, stuck.task, stuck.run, stuck.lane) == ("ladder.deaf", "t", run.id, "one")
    assert engine.stats()["goclaw_threads_stuck"] == 1
    stage.free.set()
    until(lambda: engine.health().stuck == ())
    assert engine.stats()["goclaw_threads_stuck"] == 0
    assert run.results == {}, "a late result does not count"


def test_a_coroutine_that_swallows_its_cancellation_is_fenced(engine: goclaw.Engine, stage: Stage) -> None:
    @goclaw.agent(name="ladder.deaf.coroutine")
    async def deaf() -> None:
        stage.begun.set()
        while not stage.free.is_set():
            try:
                await asyncio.sleep(0.005)
            except asyncio.CancelledError:
                stage.seen.set()

    run = engine.submit(stage.flow(deaf))
    assert stage.begun.wait(LONG)
    run.cancel()
    assert run.wait(LONG)
    assert stage.seen.is_set()
    free_again(engine)
    (stuck,) = engine.health().stuck
    assert (stuck.agent, stuck.where, engine.health().stuck_threads) == ("ladder.deaf.coroutine", "loop", ())
    stage.free.set()
    until(lambda: engine.health().stuck == ())


def until(done: object) -> None:
    """Gives the engine as long as it needs; the bound is for a test that fails."""
    assert callable(done)
    tick = threading.Event()
    for _ in range(2_000):
        if done():
            return
        tick.wait(0.01)
    raise AssertionError("it never comes")


def hanging(stage: Stage, name: str, **options: object) -> goclaw.Agent[..., object]:
    @goclaw.agent(name=name, retries=0, **options)  # type: ignore[call-overload, untyped-decorator]
    def hangs() -> None:
        stage.begun.set()
        while not stage.free.is_set():
            try:
                stage.free.wait(0.005)
            except goclaw.Cancelled:
                stage.seen.set()

    return hangs  # type: ignore[no-any-return]


def test_a_lane_with_too_many_stuck_threads_starts_no_more(engine: goclaw.Engine, stage: Stage) -> None:
    flow = stage.flow(hanging(stage, "ladder.hangs", timeout="20ms"))
    for _ in range(2):
        with pytest.raises(goclaw.TaskFailed):
            engine.submit(flow).result(LONG)
    health = engine.health()
    assert (health.status, health.held_lanes, len(health.stuck_threads)) == ("degraded", {"one": 2}, 2)
    assert "lane one starts no more threads" in str(health)
    waiting = engine.submit(flow)
    # Coroutines of the lane, and every other lane, go on.
    free_again(engine)
    assert waiting.tasks["t"].state == "scheduled"
    stage.free.set()
    assert waiting.result(LONG) is None
    assert engine.health().held_lanes == {}


def test_a_killed_run_is_over_at_once(engine: goclaw.Engine, stage: Stage) -> None:
    run = engine.submit(stage.flow(hanging(stage, "ladder.killed")))
    assert stage.begun.wait(LONG)
    run.kill("no time")
    # No grace: it has ended when the call returns.
    assert run.state == "cancelled"
    with pytest.raises(goclaw.RunCancelled, match="no time") as raised:
        run.result(LONG)
    assert raised.value.code == "run.killed"
    free_again(engine)
    engine.kill(run.id)
    assert raised.value.code == "run.killed"


def test_a_run_that_is_being_cancelled_can_be_killed(stage: Stage) -> None:
    with goclaw.Engine(lanes=[goclaw.Lane("one", 1)], cancel_grace="1h") as engine:
        run = engine.submit(stage.flow(hanging(stage, "ladder.killed.late")))
        assert stage.begun.wait(LONG)
        run.cancel("asked")
        assert stage.seen.wait(LONG)
        assert run.state == "running"
        run.kill()
        with pytest.raises(goclaw.RunCancelled, match="asked"):
            run.result(LONG)
        stage.free.set()


def test_an_unknown_run_cannot_be_killed(engine: goclaw.Engine) -> None:
    with pytest.raises(goclaw.UnknownRun):
        engine.kill("01ARZ3NDEKTSV4RRFFQ69G5FAV")


def test_closing_twice_at_once_waits_for_the_same_end(stage: Stage, tmp_path: Path) -> None:
    engine = goclaw.Engine(tmp_path)
    engine.submit(goclaw.Workflow("closing").task("t", hanging(stage, "ladder.closing")))
    assert stage.begun.wait(LONG)
    counts: list[tuple[int, int, int]] = []
    closers = [threading.Thread(target=lambda: counts.append(engine._native.close(30_000))) for _ in range(3)]
    for closer in closers:
        closer.start()
    stage.free.set()
    for closer in closers:
        closer.join(LONG)
    counts.append(engine._native.close(0))
    assert len(counts) == 4
    assert all(one == other for one, other in pairwise(counts))


def test_a_call_that_would_wait_for_itself_is_not_repeated(engine: goclaw.Engine) -> None:
    tries: list[int] = []

    @goclaw.agent(name="ladder.deadlock", retries=5)
    async def waits_for_itself(context: goclaw.Context) -> None:
        tries.append(context.attempt)
        engine.run(goclaw.Workflow("inner").task("t", waits_for_itself))

    with pytest.raises(goclaw.TaskFailed) as raised:
        engine.submit(goclaw.Workflow("outer").task("t", waits_for_itself)).result(LONG)
    assert isinstance(raised.value.__cause__, goclaw.WouldDeadlock)
    assert tries == [1]
