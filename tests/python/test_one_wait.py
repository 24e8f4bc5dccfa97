"""Submitting a run and waiting for it is one wait: the permit is lent once, and asked for when the run has ended."""

import asyncio
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import goclaw
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from lane_helpers import flow, is_free, until

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def narrow() -> Iterator[goclaw.Engine]:
    """An engine whose lane has one permit, and one place."""
    with goclaw.Engine(lanes=[goclaw.Lane("one", 1, capacity=1), goclaw.Lane("free", 9)]) as engine:
        yield engine


class Child:
    """A workflow in the lane of its parent that ends when it may."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()

        @goclaw.agent(retries=0)
        def child() -> int:
            self.begun.set()
            self.may_end.wait(60)
            return 1

        self.flow = flow(child)


def parents(engine: goclaw.Engine, child: goclaw.Workflow) -> dict[str, Any]:
    @goclaw.agent(retries=0)
    async def awaits() -> int:
        return int(await engine.arun(child))

    @goclaw.agent(retries=0)
    def blocks() -> int:
        return int(engine.run(child))

    @goclaw.agent(retries=0)
    async def in_a_thread() -> int:
        return int(await asyncio.to_thread(engine.run, child))

    return {"arun": awaits, "run": blocks, "to_thread": in_a_thread}


@pytest.mark.parametrize("way", ["arun", "run", "to_thread"])
def test_a_parent_asks_for_its_permit_when_its_run_has_ended_and_not_before(narrow: goclaw.Engine, way: str) -> None:
    child = Child()
    parent = narrow.submit(flow(parents(narrow, child.flow)[way]))
    assert child.begun.wait(60)
    # The engine has answered the submit; a parent that wanted its permit meanwhile would have said so.
    until(lambda: narrow.lanes["one"].lent == 1)
    said = {str(narrow.explain(parent)) for _ in range(50)}
    assert all("waits for a run of its own" in text for text in said), said
    assert not any("waits for a permit to go on" in text for text in said), said
    child.may_end.set()
    assert parent.result(timeout=60) == 1
    until(lambda: is_free(narrow))


def test_a_cancelled_arun_waits_for_a_permit_and_leaves_its_run_under_way(narrow: goclaw.Engine) -> None:
    child, cancels = Child(), threading.Event()

    @goclaw.agent(retries=0)
    async def parent() -> str:
        asked = asyncio.ensure_future(narrow.arun(child.flow))
        await asyncio.to_thread(cancels.wait)
        asked.cancel()
        try:
            await asked
        except asyncio.CancelledError:
            return "cancelled"
        return "went on"

    run = narrow.submit(flow(parent))
    assert child.begun.wait(60)
    until(lambda: narrow.lanes["one"].lent == 1)
    cancels.set()
    until(lambda: "waits for a permit to go on" in str(narrow.explain(run)))
    child.may_end.set()
    assert run.result(timeout=60) == "cancelled"
    (other,) = [line for line in narrow.list() if line.id != run.id]
    assert narrow.get(other.id).result(timeout=60) == 1


@pytest.mark.parametrize("how", ["arun", "asubmit"])
def test_cancelled_while_it_waits_for_a_place_it_withdraws_its_submit(narrow: goclaw.Engine, how: str) -> None:
    """The lane is held by others: the parent, elsewhere, gets its own permit back at once."""
    held = Child()
    holder = narrow.submit(held.flow)
    assert held.begun.wait(60)
    queued = narrow.submit(held.flow)
    waits, cancels = threading.Event(), threading.Event()

    @goclaw.agent(retries=0)
    async def parent() -> str:
        asked: asyncio.Future[Any] = asyncio.ensure_future(getattr(narrow, how)(held.flow))
        waits.set()
        await asyncio.to_thread(cancels.wait)
        asked.cancel()
        await asyncio.wait([asked])
        return "cancelled" if asked.cancelled() else "went on"

    run = narrow.submit(flow(parent, "free"))
    assert waits.wait(60)
    until(lambda: narrow.lanes["free"].lent == 1)
    cancels.set()
    assert run.result(timeout=60) == "cancelled", "while the lane is still full"
    held.may_end.set()
    assert [holder.result(timeout=60), queued.result(timeout=60)] == [1, 1]
    assert {line.id for line in narrow.list()} == {run.id, holder.id, queued.id}


def test_an_asubmit_that_is_cancelled_while_it_waits_for_its_permit_takes_its_run_back(narrow: goclaw.Engine) -> None:
    """Its run is accepted and has the permit that the parent needs: nobody would have a handle of it."""
    begun = threading.Event()

    @goclaw.agent(retries=0)
    async def child() -> None:
        begun.set()
        await asyncio.Event().wait()

    @goclaw.agent(retries=0)
    async def parent() -> str:
        asked = asyncio.ensure_future(narrow.asubmit(flow(child)))
        await asyncio.to_thread(begun.wait)
        asked.cancel()
        await asyncio.wait([asked])
        return "cancelled" if asked.cancelled() else "went on"

    run = narrow.submit(flow(parent))
    assert run.result(timeout=60) == "cancelled"
    (other,) = [line for line in narrow.list() if line.id != run.id]
    assert other.state == "cancelled"
    until(lambda: is_free(narrow))


@pytest.mark.parametrize("way", ["arun", "run"])
def test_a_run_that_is_refused_leaves_nothing_lent(narrow: goclaw.Engine, way: str) -> None:
    unknown = flow(goclaw.agent(retries=0)(lambda: 1), lane="nowhere")
    run = narrow.submit(flow(parents(narrow, unknown)[way]))
    with pytest.raises(goclaw.TaskFailed) as failed:
        run.result(timeout=60)
    assert isinstance(failed.value.__cause__, goclaw.GoclawError)
    assert failed.value.__cause__.code in ("workflow.unknown_lane", "lane.unknown")
    until(lambda: is_free(narrow))


@pytest.mark.parametrize("way", ["arun", "run"])
def test_a_parent_whose_message_another_run_takes_waits_once(narrow: goclaw.Engine, way: str) -> None:
    """What it waits for is the other run's result: it does not ask for its permit in between."""
    gate, reads = threading.Event(), threading.Event()

    @goclaw.agent(retries=0)
    def head(ctx: goclaw.Context, text: str) -> str:
        reads.set()
        gate.wait(60)
        return " ".join([text, *(signal.message["text"] for signal in ctx.poll_signals())])

    work = flow(head, "free")
    options: dict[str, Any] = {"session": "s", "when_busy": "steer"}

    @goclaw.agent(retries=0)
    async def awaits() -> Any:
        return await narrow.arun(work, {"text": "second"}, **options)

    @goclaw.agent(retries=0)
    def blocks() -> Any:
        return narrow.run(work, {"text": "second"}, **options)

    first = narrow.submit(work, {"text": "first"}, session="s")
    assert reads.wait(60)
    parent = narrow.submit(flow(awaits if way == "arun" else blocks))
    until(lambda: narrow.lanes["one"].lent == 1)
    gate.set()
    assert first.result(timeout=60) == "first second"
    assert parent.result(timeout=60) == "first second"
