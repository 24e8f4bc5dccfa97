"""Going over to another embedder: a run that ends with every text in the new model, whatever happens on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import goclaw
import pytest
from goclaw.embedders import Embedding, Hashing

WAIT = "60s"


def named(name: str, dim: int, before: Callable[[list[str]], None] | None = None) -> Any:
    """An embedder with a name and a dimension of its own."""

    def embed(texts: list[str]) -> list[list[float]]:
        if before is not None:
            before(texts)
        return Hashing(dim)([f"{name} {text}" for text in texts])

    embed.name = name  # type: ignore[attr-defined]
    return embed


def fits(memory: goclaw.Memory, embedder: Any, session: str) -> bool:
    """Every text of a session has the vector that this embedder makes of it."""
    entries = [entry for entry in memory.list(session, limit=10_000) if isinstance(entry.content, str)]
    for entry, wanted in zip(entries, embedder([entry.content for entry in entries]), strict=True):
        if entry.vector is None or entry.vector != pytest.approx(wanted, abs=1e-2):
            return False
    return True


@pytest.mark.parametrize("path", [None, "store"])
@pytest.mark.parametrize("dim", [8, 12])
def test_a_store_goes_over_to_another_embedder(path: str | None, dim: int, tmp_path: Path) -> None:
    where = None if path is None else tmp_path / path
    old, new = named("old", 8), named("new", dim)
    with goclaw.Memory(where, embedder=Embedding(old, vectorize="now")) as memory:
        for session in ("s", "t"):
            memory.memorize_many([f"fact {n}" for n in range(40)], session=session)
        memory.memorize(b"bytes", session="s", vector=[1.0] * 8)
        run = memory.reembed(Embedding(new, batch_max=7))
        assert run.result(WAIT) == 0
        assert (memory.stats().embedder, memory.stats().dimension, memory.stats().unvectored) == ("new", dim, 0)
        assert fits(memory, new, "s")
        assert fits(memory, new, "t")
        hits = memory.retrieve("fact 7", session="s", mode="vector", top_k=100)
        assert len(hits) == 40, "of the bytes there is no text to embed"
        assert hits[0].entry.content == "fact 7"
        id = memory.memorize("later", session="s")
        assert memory.vectorized(WAIT)
        assert len(memory.get(id).vector or ()) == dim
    if where is not None:
        with pytest.raises(goclaw.RecallError) as caught:
            goclaw.Memory(where, embedder=old)
        assert caught.value.code == "memory.model"
        with goclaw.Memory(where, embedder=new) as memory:
            assert fits(memory, new, "s")
            assert fits(memory, new, "t")


def test_meanwhile_searches_go_by_words_and_what_is_memorized_is_of_the_new_model() -> None:
    gate, called = threading.Event(), threading.Event()

    def before(texts: list[str]) -> None:
        if texts != ["goclaw"] and threading.current_thread().name == "goclaw-embed" and "fact 0" in texts:
            called.set()
            gate.wait()

    new = named("new", 8, before)
    with goclaw.Memory(embedder=Embedding(named("old", 8), vectorize="now")) as memory:
        memory.memorize_many([f"fact {n}" for n in range(5)], session="s")
        run = memory.reembed(new)
        assert called.wait(30)
        assert memory.retrieve("fact 3", session="s", mode="text")[0].entry.content == "fact 3"
        hits = memory.retrieve("fact 3", session="s")
        assert hits
        assert all(hit.vector_rank is None for hit in hits), "vectors of the old model are void"
        memory.memorize("tea", session="s", vectorize="now")
        assert memory.retrieve("tea", session="s", mode="vector")[0].entry.content == "tea"
        gate.set()
        assert run.result(WAIT) == 0
        assert fits(memory, new, "s")


def test_notes_that_are_imported_meanwhile_are_of_the_new_model(tmp_path: Path) -> None:
    (tmp_path / "MEMORY.md").write_text("# Ada\n\nShe prefers green tea.\n\n# Bob\n\nHe prefers coffee.\n")
    gate, called = threading.Event(), threading.Event()

    def before(texts: list[str]) -> None:
        if any("green tea" in text for text in texts):
            called.set()
            gate.wait()

    new = named("new", 8)
    with goclaw.Memory(embedder=Embedding(named("old", 8, before), vectorize="now")) as memory:
        imports = threading.Thread(target=lambda: memory.import_markdown(tmp_path, session="s"))
        imports.start()
        assert called.wait(30)
        assert memory.reembed(Embedding(new, vectorize="now")).result(WAIT) == 0
        gate.set()
        imports.join()
        assert memory.count("s") == 2
        assert fits(memory, new, "s")


def test_an_embedder_that_does_not_work_changes_nothing() -> None:
    def broken(texts: list[str]) -> list[list[float]]:
        raise ConnectionError("no route")

    old = named("old", 8)
    with goclaw.Memory(embedder=Embedding(old, vectorize="now")) as memory:
        memory.memorize("tea", session="s")
        with pytest.raises(goclaw.RecallError) as caught:
            memory.reembed(Embedding(broken, retry=goclaw.Retry(retries=0)))
        assert caught.value.code == "memory.embedder"
        assert memory.stats().embedder == "old"
        assert fits(memory, old, "s")


def test_a_store_without_vectors_gets_them() -> None:
    with goclaw.Memory() as memory:
        memory.memorize_many(["tea", "milk"], session="s")
        assert memory.reembed(named("new", 8)).result(WAIT) == 0
        assert fits(memory, named("new", 8), "s")
        # By the embedder in use: what has a vector keeps it.
        asked: list[str] = []
        assert memory.reembed(named("new", 8, asked.extend)).result(WAIT) == 0
        assert asked == ["goclaw"]


def test_there_and_back_again() -> None:
    old, new = named("old", 8), named("new", 8)
    with goclaw.Memory(embedder=Embedding(old, vectorize="now")) as memory:
        memory.memorize_many([f"fact {n}" for n in range(20)], session="s")
        for embedder in (new, old, new):
            assert memory.reembed(embedder).result(WAIT) == 0
            assert fits(memory, embedder, "s")


def test_cancelling_leaves_the_store_with_the_new_embedder(tmp_path: Path) -> None:
    gate, called = threading.Event(), threading.Event()

    def before(texts: list[str]) -> None:
        if texts != ["goclaw"]:
            called.set()
            gate.wait()

    with goclaw.Memory(tmp_path, embedder=Embedding(named("old", 8), vectorize="now")) as memory:
        memory.memorize_many([f"fact {n}" for n in range(20)], session="s")
        run = memory.reembed(named("new", 8, before))
        assert called.wait(30)
        run.cancel()
        with pytest.raises(goclaw.RunCancelled):
            run.result(WAIT)
        assert memory.stats().embedder == "new"
        assert memory.count() == 20
        gate.set()
        assert memory.vectorized(WAIT)
        assert fits(memory, named("new", 8), "s")


CHILD = """
    import sys, threading, goclaw
    from goclaw.embedders import Embedding, Hashing
    path, limit = sys.argv[1], int(sys.argv[2])
    def named(name, dim, before=lambda texts: None):
        def embed(texts):
            before(texts)
            return Hashing(dim)([f"{name} {text}" for text in texts])
        embed.name = name
        return embed
    made = 0
    def stops(texts):
        global made
        made += len(texts)
        if made > limit:
            print("stopped", flush=True)
            threading.Event().wait()
    memory = goclaw.Memory(path, embedder=Embedding(named("old", 8), vectorize="now"))
    memory.memorize_many([f"fact {n} of s" for n in range(60)], session="s")
    memory.memorize_many([f"fact {n} of t" for n in range(60)], session="t")
    run = memory.reembed(Embedding(named("new", 12, stops), batch_max=5))
    threading.Event().wait()
"""


@pytest.mark.parametrize("limit", [1, 30, 90])
def test_kill_9_in_the_middle_and_it_goes_on(limit: int, tmp_path: Path) -> None:
    code = textwrap.dedent(CHILD)
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(limit)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "stopped\n"
    os.kill(child.pid, signal.SIGKILL)
    child.stdout.close()
    child.wait()
    with pytest.raises(goclaw.RecallError) as caught:
        goclaw.Memory(tmp_path, embedder=named("old", 8))
    assert caught.value.code == "memory.model"
    asked: list[str] = []
    new = named("new", 12, asked.extend)
    with goclaw.Engine(tmp_path, embedder=new) as engine:
        (summary,) = engine.list(workflow="goclaw.reembed")
        engine.get(summary.id).result(WAIT)
        assert len(asked) <= 120 - max(limit - 21, 0), "what was made before is not made again"
        for session in ("s", "t"):
            assert engine.memory.count(session) == 60
            assert fits(engine.memory, named("new", 12), session)


def test_opened_without_the_embedder_it_says_what_is_missing_and_goes_on_when_it_is_there(tmp_path: Path) -> None:
    code = textwrap.dedent(CHILD)
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), "30"], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "stopped\n"
    os.kill(child.pid, signal.SIGKILL)
    child.stdout.close()
    child.wait()
    with goclaw.Engine(tmp_path) as engine:
        (summary,) = engine.list(workflow="goclaw.reembed")
        with pytest.raises(goclaw.TaskFailed) as caught:
            engine.get(summary.id).result(WAIT)
        assert "new" in str(caught.value)
        assert engine.memory.retrieve("fact 7", session="s")[0].entry.content == "fact 7 of s"
        engine.memory.reembed(named("new", 12)).result(WAIT)
        assert fits(engine.memory, named("new", 12), "s")
        assert fits(engine.memory, named("new", 12), "t")
