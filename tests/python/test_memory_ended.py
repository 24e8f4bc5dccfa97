"""A call's memory ends with the call: what is written later is refused, and never lost in silence."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import goclaw
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import recall_agents as agents

KEPT: list[goclaw.Context] = []
RELEASED = threading.Event()
LATE: list[Future[str]] = []


def code_of(call: Callable[[], Any]) -> str:
    try:
        call()
    except goclaw.GoclawError as error:
        assert "await or join" in error.help
        return error.code
    return "none"


def verbs(memory: Any, id: str) -> dict[str, Callable[[], Any]]:
    return {
        "memorize": lambda: memory.memorize("late"),
        "memorize_many": lambda: memory.memorize_many(["late", "later"]),
        "review": lambda: memory.review(id, "good"),
        "feedback": lambda: memory.feedback(id, "used"),
        "forget": lambda: memory.forget(ids=[id]),
        "retrieve": lambda: memory.retrieve("tea"),
        "recent": lambda: memory.recent(),
        "get": lambda: memory.get(id),
        "of": lambda: memory.of("team"),
    }


@goclaw.agent(name="ended.keep", retry=goclaw.Retry(retries=1, initial="1ms"))
def keep(fact: str, ctx: goclaw.Context) -> str:
    KEPT.append(ctx)
    ctx.memory.memorize(fact)
    if fact == "fails once" and ctx.attempt == 1:
        raise ConnectionError("once")
    return fact


@goclaw.agent(name="ended.keep_later")
async def keep_later(fact: str, ctx: goclaw.Context) -> str:
    KEPT.append(ctx)
    await ctx.memory.amemorize(fact)
    return fact


@goclaw.workflow
def kept(fact: str) -> str:
    return keep(fact)


@goclaw.workflow
def kept_later(fact: str) -> str:
    return keep_later(fact)


@pytest.fixture(autouse=True)
def fresh() -> None:
    KEPT.clear()
    LATE.clear()
    RELEASED.clear()


@pytest.mark.parametrize("flow", [kept, kept_later])
def test_a_kept_memory_is_refused_once_its_call_is_over(flow: Any) -> None:
    with goclaw.Engine() as engine:
        tea = engine.memory.memorize("tea", session="s")
        assert engine.run(flow, {"fact": "fact"}, session="s") == "fact"
        (ctx,) = KEPT
        for name, call in verbs(ctx.memory, tea).items():
            assert code_of(call) == "memory.ended", name
        assert code_of(lambda: asyncio.run(ctx.memory.amemorize("late"))) == "memory.ended"
        assert sorted(entry.content for entry in engine.memory.recent("s")) == ["fact", "tea"]


def test_an_attempt_that_failed_has_no_memory_any_more(tmp_path: Path) -> None:
    with goclaw.Engine(tmp_path) as engine:
        assert engine.run(kept, {"fact": "fails once"}, session="s") == "fails once"
        first, second = KEPT
        assert (first.attempt, second.attempt) == (1, 2)
        assert [code_of(partial(ctx.memory.memorize, "late")) for ctx in KEPT] == ["memory.ended"] * 2
        assert engine.memory.count("s") == 1


def test_of_a_map_each_child_has_its_own_end() -> None:
    @goclaw.agent(name="ended.child")
    def child(n: int, ctx: goclaw.Context) -> list[str]:
        codes = [code_of(partial(ctx.memory.memorize, "late")) for ctx in KEPT]
        KEPT.append(ctx)
        ctx.memory.memorize(f"of {n}")
        return codes

    @goclaw.workflow
    def mapped() -> list[list[str]]:
        return child.map([0, 1, 2, 3])

    with goclaw.Engine(lanes=[goclaw.Lane("default", 1)]) as engine:
        assert engine.run(mapped, session="s") == [["memory.ended"] * n for n in range(4)]
        assert engine.memory.count("s") == 4


def late(call: Callable[[], Any]) -> None:
    """Calls once the test says so, in a thread that the agent leaves behind."""
    said: Future[str] = Future()
    LATE.append(said)

    def wait() -> None:
        RELEASED.wait(60)
        said.set_result(code_of(call))

    threading.Thread(target=wait, daemon=True).start()


def test_a_thread_that_the_agent_left_behind_is_refused() -> None:
    @goclaw.agent(name="ended.leaves")
    def leaves(ctx: goclaw.Context) -> None:
        memory = ctx.memory
        late(lambda: memory.memorize("late"))

    with goclaw.Engine() as engine:
        engine.run(goclaw.Workflow("one").task("leaves", leaves), session="s")
        RELEASED.set()
        assert [said.result(60) for said in LATE] == ["memory.ended"]
        assert engine.memory.count("s") == 0


def test_a_task_that_a_coroutine_left_behind_is_refused() -> None:
    @goclaw.agent(name="ended.spawns")
    async def spawns(ctx: goclaw.Context) -> None:
        said: Future[str] = Future()
        LATE.append(said)

        async def write() -> None:
            await asyncio.to_thread(RELEASED.wait, 60)
            try:
                said.set_result(await ctx.memory.amemorize("late"))
            except goclaw.RecallError as error:
                said.set_result(error.code)

        ctx.log.debug("%s", asyncio.create_task(write()))

    with goclaw.Engine() as engine:
        engine.run(goclaw.Workflow("one").task("spawns", spawns), session="s")
        RELEASED.set()
        assert LATE[0].result(60) == "memory.ended"
        assert engine.memory.count("s") == 0


@pytest.mark.parametrize("style", ["thread", "loop"])
def test_an_attempt_that_was_given_up_is_refused(style: str) -> None:
    said: Future[str] = Future()

    @goclaw.agent(name="ended.slow", retries=0)
    def slow(ctx: goclaw.Context) -> None:
        memory = ctx.memory
        # What is raised into the thread meanwhile is not its end.
        while not RELEASED.is_set():
            try:
                RELEASED.wait(60)
            except goclaw.Cancelled:
                pass
        said.set_result(code_of(lambda: memory.memorize("late")))

    @goclaw.agent(name="ended.slow_later", retries=0)
    async def slow_later(ctx: goclaw.Context) -> None:
        while not RELEASED.is_set():
            try:
                await asyncio.to_thread(RELEASED.wait, 60)
            except asyncio.CancelledError:
                pass
        try:
            said.set_result(await ctx.memory.amemorize("late"))
        except goclaw.RecallError as error:
            said.set_result(error.code)

    agent = slow if style == "thread" else slow_later
    with goclaw.Engine(cancel_grace="1ms") as engine:
        flow = goclaw.Workflow("one").task("slow", agent, timeout="10ms")
        with pytest.raises(goclaw.TaskFailed):
            engine.run(flow, session="s")
        RELEASED.set()
        assert said.result(60) == "memory.ended"
        assert engine.memory.count("s") == 0


@pytest.mark.skipif(sys.platform != "linux", reason="worker processes are there on Linux only")
def test_a_worker_process_is_refused_as_well() -> None:
    with goclaw.Engine() as engine:
        keeps = goclaw.Workflow("keeps").task("keep", agents.keep_memory)
        uses = goclaw.Workflow("uses").task("use", agents.use_kept_memory)
        worker = engine.run(keeps, session="s")
        assert engine.run(uses, session="s") == [worker, ["memory.ended"] * 3]
        assert [entry.content for entry in engine.memory.recent("s")] == ["kept"]
