"""Vectors that follow: what was memorized is durable and found by its words at once, by its vector soon."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import goclaw
import pytest
from goclaw.embedders import Embedding, Hashing

ONCE = goclaw.Retry(retries=0)
WAIT = "30s"


class Gate:
    """An embedder that makes nothing before it is let, and can be broken."""

    name = "gate"

    def __init__(self, open: bool = True) -> None:
        self.asked: list[list[str]] = []
        self.error: Exception | None = None
        self.poison: set[str] = set()
        self.called = threading.Event()
        self._open = threading.Event()
        if open:
            self._open.set()

    def open(self) -> None:
        self._open.set()

    def __call__(self, texts: list[str]) -> list[list[float]]:
        self.asked.append(texts)
        self.called.set()
        self._open.wait()
        if self.error is not None:
            raise self.error
        if self.poison & set(texts):
            raise goclaw.RecallError("too long", code="memory.embedder_input")
        return Hashing(8)(texts)


def by_vector(memory: goclaw.Memory, text: str, session: str = "s") -> bool:
    vector = Hashing(8)([text])[0]
    hits = memory.retrieve(session=session, vector=vector, mode="vector", top_k=1000)
    return text in [hit.entry.content for hit in hits]


@pytest.mark.parametrize("path", [None, "store"])
def test_a_text_is_found_by_words_at_once_and_by_vector_when_it_is_there(path: str | None, tmp_path: Path) -> None:
    gate = Gate(open=False)
    with goclaw.Memory(None if path is None else tmp_path / path, embedder=gate) as memory:
        id = memory.memorize("green tea", session="s")
        assert memory.retrieve("tea", session="s", mode="text")[0].entry.id == id
        assert memory.get(id).vector is None
        assert not memory.vectorized(0)
        assert memory.stats().unvectored == 1
        gate.open()
        assert memory.vectorized(WAIT)
        assert memory.get(id).vector is not None
        assert by_vector(memory, "green tea")
        assert (memory.stats().unvectored, memory.stats().embedder, memory.stats().dimension) == (0, "gate", 8)


def test_now_or_later_is_the_callers_choice() -> None:
    gate = Gate(open=False)
    with goclaw.Memory(embedder=gate) as memory:
        waiting = threading.Thread(target=memory.memorize, args=("tea",), kwargs={"session": "s", "vectorize": "now"})
        waiting.start()
        assert gate.called.wait(30)
        assert memory.count() == 0, "it waits for its vector"
        gate.open()
        waiting.join()
        assert by_vector(memory, "tea")
    with goclaw.Memory(embedder=Hashing(8)) as memory:
        memory.memorize("tea", session="s")
        assert by_vector(memory, "tea"), "what is local and quick is made at once"
        memory.memorize("milk", session="s", vectorize="later")
        assert memory.vectorized(WAIT)
        assert by_vector(memory, "milk")


def test_awaiting_works_as_well() -> None:
    async def embed(texts: list[str]) -> list[list[float]]:
        await asyncio.sleep(0)
        return Hashing(8)(texts)

    async def main() -> None:
        async with goclaw.Memory(embedder=embed) as memory:
            await memory.amemorize_many([f"fact {n}" for n in range(300)], session="s")
            assert await memory.avectorized(WAIT)
            hits = await memory.aretrieve("fact 7", session="s", mode="vector", top_k=300)
            assert len(hits) == 300

    asyncio.run(main())


@goclaw.agent(retries=0, name="test_vectorizing.notes")
def notes(fact: str, fails: bool, ctx: goclaw.Context) -> bool:
    id = ctx.memory.memorize(fact)
    assert ctx.memory.retrieve(fact, mode="text")[0].entry.id == id
    if fails:
        raise RuntimeError("no luck")
    return True


@goclaw.workflow
def noting(fact: str, fails: bool) -> bool:
    return notes(fact, fails)


@pytest.mark.parametrize("path", [None, "store"])
def test_what_a_task_memorizes_gets_its_vector_after_it_is_committed(path: str | None, tmp_path: Path) -> None:
    gate = Gate()
    with goclaw.Engine(None if path is None else tmp_path / path, embedder=gate) as engine:
        assert engine.submit(noting, {"fact": "tea", "fails": False}, session="s").result()
        with pytest.raises(goclaw.TaskFailed):
            engine.submit(noting, {"fact": "milk", "fails": True}, session="s").result()
        assert engine.memory.vectorized(WAIT)
        assert by_vector(engine.memory, "tea")
        assert gate.asked == [["tea"]], "what was dropped is not embedded"


def test_what_has_no_vector_when_the_store_is_closed_gets_it_when_it_is_opened(tmp_path: Path) -> None:
    with goclaw.Memory(tmp_path) as memory:
        memory.memorize("before there was an embedder", session="s")
        memory.memorize(b"bytes have none", session="s")
    closed = Gate(open=False)
    with goclaw.Memory(tmp_path, embedder=closed) as memory:
        memory.memorize("tea", session="t")
        assert closed.called.wait(30)
    closed.open()
    gate = Gate()
    with goclaw.Memory(tmp_path, embedder=gate) as memory:
        assert memory.vectorized(WAIT)
        assert sorted(text for texts in gate.asked for text in texts) == ["before there was an embedder", "tea"]
        assert by_vector(memory, "tea", "t")
        assert memory.stats().unvectored == 0


CHILD = """
    import sys, threading, goclaw
    from goclaw.embedders import Hashing
    made = 0
    def embed(texts):
        global made
        made += len(texts)
        if made > int(sys.argv[2]):
            threading.Event().wait()
        return Hashing(8)(texts)
    embed.name = "gate"
    memory = goclaw.Memory(sys.argv[1], embedder=goclaw.embedders.Embedding(embed, batch_max=3))
    n = 0
    while True:
        memory.memorize(f"fact {n}", session=f"s{n % 2}")
        print(n, flush=True)
        n += 1
"""


@pytest.mark.parametrize("limit", [0, 10, 40])
def test_kill_9_loses_no_text_and_its_vector_follows(limit: int, tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(tmp_path), str(limit)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    last = -1
    for line in child.stdout:
        last = int(line)
        if last >= 60:
            break
    os.kill(child.pid, signal.SIGKILL)
    child.stdout.close()
    child.wait()
    gate = Gate()
    with goclaw.Memory(tmp_path, embedder=gate) as memory:
        assert memory.vectorized(WAIT)
        for n in range(last + 1):
            assert by_vector(memory, f"fact {n}", f"s{n % 2}")
        assert memory.stats().unvectored == 0
        again = sum(len(texts) for texts in gate.asked)
        assert 0 < again <= memory.count(), "those that had theirs are not asked for again"


def test_an_embedder_that_fails_is_tried_again_and_health_says_so() -> None:
    gate = Gate()
    gate.error = ConnectionError("no route")
    how = Embedding(gate, retry=ONCE)
    with goclaw.Engine(embedder=how) as engine:
        engine.memory.memorize("green tea", session="s")
        assert gate.called.wait(30)
        while engine.health().embedder is None:
            pass
        health = engine.health()
        assert health.status == "degraded"
        assert "no route" in str(health)
        assert "no route" in str(engine.memory.stats().last_error)
        assert engine.memory.retrieve("tea", session="s", mode="text")
        assert not engine.memory.vectorized(0)
        gate.error = None
        assert engine.memory.vectorized(WAIT)
        assert by_vector(engine.memory, "green tea")
        assert engine.health().embedder is None


def test_one_text_that_is_refused_holds_up_no_other() -> None:
    gate = Gate(open=False)
    gate.poison = {"poison"}
    with goclaw.Memory(embedder=Embedding(gate, retry=ONCE)) as memory:
        memory.memorize_many(["tea", "poison", "milk"], session="s")
        gate.open()
        assert not memory.vectorized(WAIT), "one has none"
        stats = memory.stats()
        assert (stats.unvectored, stats.failed, stats.last_error) == (1, 1, "too long")
        assert by_vector(memory, "tea")
        assert by_vector(memory, "milk")
        assert memory.retrieve("poison", session="s", mode="text")
        memory.memorize("coffee", session="s")
        memory.forget("s", ids=[memory.retrieve("poison", session="s", mode="text")[0].entry.id])
        assert memory.vectorized(WAIT)


def test_an_embedder_that_makes_nonsense_of_everything_is_to_blame_and_no_text_is() -> None:
    broken = True
    called = threading.Event()

    def embed(texts: list[str]) -> list[list[float]]:
        called.set()
        return [[0.0] * 8 for _ in texts] if broken else Hashing(8)(texts)

    with goclaw.Engine(embedder=Embedding(embed, retry=ONCE, name="nonsense")) as engine:
        engine.memory.memorize_many(["a", "b"], session="s")
        while engine.health().embedder is None:
            pass
        assert engine.memory.stats().failed == 0
        broken = False
        assert engine.memory.vectorized(WAIT)


def test_many_batches_are_made_beside_each_other() -> None:
    lock, two = threading.Lock(), threading.Event()
    under_way = 0

    def embed(texts: list[str]) -> list[list[float]]:
        nonlocal under_way
        with lock:
            under_way += 1
            if under_way == 2:
                two.set()
        # None comes back before two are under way at once.
        two.wait()
        with lock:
            under_way -= 1
        return Hashing(8)(texts)

    how = Embedding(embed, batch_max=10, name="pairs", timeout=None)
    with goclaw.Memory(embedder=how) as memory:
        memory.memorize_many([f"fact {n}" for n in range(200)], session="s")
        assert memory.vectorized(WAIT)
        assert memory.stats().unvectored == 0


def test_what_was_forgotten_before_its_vector_came_stays_forgotten() -> None:
    gate = Gate(open=False)
    with goclaw.Memory(embedder=gate) as memory:
        id = memory.memorize("tea", session="s")
        assert gate.called.wait(30)
        memory.memorize("milk", session="t")
        memory.forget("s", ids=[id])
        memory.delete_session("t")
        gate.open()
        assert memory.vectorized(WAIT)
        assert memory.count() == 0
        assert memory.retrieve(session="s", vector=[1.0] * 8, mode="vector") == []


def test_closing_waits_for_no_embedder(tmp_path: Path) -> None:
    gate = Gate(open=False)
    engine = goclaw.Engine(tmp_path, embedder=gate)
    engine.memory.memorize("tea", session="s")
    assert gate.called.wait(30)
    engine.close()
    with pytest.raises(goclaw.EngineClosed):
        engine.memory.vectorized(1)
    gate.open()
    with goclaw.Memory(tmp_path) as memory:
        assert memory.stats().unvectored == 1
        assert not memory.vectorized(0), "nobody makes any"


def test_sigterm_waits_for_no_embedder(tmp_path: Path) -> None:
    code = """
        import sys, threading, goclaw
        def embed(texts):
            print("called", flush=True)
            threading.Event().wait()
        engine = goclaw.Engine(sys.argv[1], embedder=embed, drain_timeout="1s")
        engine.memory.memorize("tea", session="s")
        threading.Event().wait()
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "called\n"
    child.send_signal(signal.SIGTERM)
    assert child.wait(60) == 0
    child.stdout.close()
    with goclaw.Memory(tmp_path) as memory:
        assert memory.retrieve("tea", session="s")


def test_an_engine_that_is_let_go_ends_its_threads() -> None:
    import gc
    import weakref

    engine = goclaw.Engine(embedder=Hashing(8))
    thread: Any = next(it for it in threading.enumerate() if it.name == "goclaw-vectors")
    gone = weakref.ref(engine)
    del engine
    gc.collect()
    assert gone() is None
    thread.join(30)
    assert not thread.is_alive()


def test_what_follows_later_is_compared_by_its_words_alone() -> None:
    gate = Gate()
    with goclaw.Memory(embedder=gate) as memory:
        first = memory.memorize("Ada prefers green tea", session="s")
        assert memory.vectorized(WAIT)
        alike = "Ada  prefers green TEA!"
        # Its vector is alike, and is not there yet.
        later = memory.memorize(alike, session="s", duplicates="refuse", alike=0.9)
        assert later != first
        assert memory.memorize(alike, session="s", duplicates="review", alike=0.9) == later, "the same words"
        with pytest.raises(goclaw.RecallError) as refused:
            memory.memorize(alike, session="s", duplicates="refuse")
        assert refused.value.code == "memory.duplicate"
        # When it comes both stay: somebody may have been told of either.
        assert memory.vectorized(WAIT)
        assert memory.count("s") == 2
        assert memory.memorize(alike + "!", session="s", duplicates="review", alike=0.9, vectorize="now") in (
            first,
            later,
        )
        assert memory.count("s") == 2


def test_no_more_texts_wait_for_their_vectors_than_the_embedding_allows() -> None:
    gate = Gate(open=False)
    with goclaw.Engine(embedder=Embedding(gate, backlog_max=3)) as engine:
        engine.memory.memorize_many(["a", "b"], session="s")
        with pytest.raises(goclaw.RecallError) as refused:
            engine.memory.memorize_many(["c", "d"], session="s")
        assert refused.value.code == "memory.backlog"
        assert "backlog_max" in refused.value.help
        assert engine.memory.count("s") == 2

        @goclaw.agent(name="vectorizing.notes")
        def notes(ctx: goclaw.Context) -> str:
            ctx.memory.memorize_many(["c", "d"])
            return "noted"

        flow = goclaw.Workflow("one").task("notes", notes)
        with pytest.raises(goclaw.TaskFailed, match="wait for their vectors"):
            engine.run(flow, session="s")
        gate.open()
        assert engine.memory.vectorized(WAIT)
        assert engine.run(flow, session="s") == "noted"
    with pytest.raises(goclaw.ConfigError):
        Embedding(gate, backlog_max=0)
