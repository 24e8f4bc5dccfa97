"""Memory: what was memorized is found, by its own session only, after a crash too, and forgotten on purpose."""

from __future__ import annotations

import asyncio
import inspect
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from array import array
from pathlib import Path
from typing import Any

import goclaw
import pytest
from goclaw.embedders import Embedding, Hashing


def code_of(call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(goclaw.GoclawError) as caught:
        call(*args, **kwargs)
    assert isinstance(caught.value, goclaw.RecallError)
    return caught.value.code


def test_what_was_memorized_is_found_by_the_next_retrieve() -> None:
    with goclaw.Engine() as engine:
        id = engine.memory.memorize("Ada prefers green tea", session="ada", metadata={"kind": "taste"})
        engine.memory.memorize("the invoice of May is paid", session="ada")
        hits = engine.memory.retrieve("tea", session="ada")
        assert [hit.entry.id for hit in hits] == [id]
        assert hits[0].text_rank == 1
        assert hits[0].vector_rank is None
        assert 0.99 < hits[0].strength <= 1.0
        entry = engine.memory.get(id)
        assert (entry.content, entry.session_id, entry.metadata) == ("Ada prefers green tea", "ada", {"kind": "taste"})
        assert engine.memory.count("ada") == engine.memory.count() == 2
        assert engine.memory.sessions() == {"ada": 2}


@pytest.mark.parametrize("path", [None, "store"])
def test_both_legs_work_offline_with_hashing(path: str | None, tmp_path: Path) -> None:
    where = None if path is None else tmp_path / path
    with goclaw.Memory(where, embedder=Hashing(64)) as memory:
        ids = memory.memorize_many(["the red house", "a blue boat", "红色的房子"], session="s")
        hits = memory.retrieve("houses that are red", session="s", top_k=3)
        assert hits[0].entry.id == ids[0]
        assert hits[0].vector_rank == 1
        assert memory.retrieve("房子", session="s")[0].entry.id == ids[2]
        assert len(memory.retrieve("boats", session="s", mode="vector", top_k=2)) == 2
        assert memory.stats() == goclaw.MemoryStats(3, 1, "goclaw.hashing-64", 64)
        vector = memory.get(ids[0]).vector
        assert vector is not None
        assert abs(sum(part * part for part in vector) - 1.0) < 1e-2


def test_memory_survives_closing_and_opening(tmp_path: Path) -> None:
    with goclaw.Memory(tmp_path, embedder=Hashing(64)) as memory:
        ids = memory.memorize_many([f"fact {n} about tea" for n in range(50)], session="s")
        memory.review(ids[0], "easy")
        memory.forget("s", ids=[ids[1]])
        before = [(hit.entry, hit.score) for hit in memory.retrieve("tea 7", session="s", top_k=10)]
    with goclaw.Memory(tmp_path, embedder=Hashing(64)) as memory:
        assert memory.count("s") == 49
        again = [(hit.entry, hit.score) for hit in memory.retrieve("tea 7", session="s", top_k=10)]
        assert [(e.id, e.stability, score) for e, score in again] == [(e.id, e.stability, score) for e, score in before]
        assert memory.get(ids[0]).stability > memory.get(ids[2]).stability
        assert code_of(memory.get, ids[1]) == "memory.unknown"


CHILD = """
    import sys, goclaw
    from goclaw.embedders import Hashing
    memory = goclaw.Memory(sys.argv[1], embedder=Hashing(32))
    n = 0
    while True:
        id = memory.memorize(f"fact number{n} of tea", session=f"s{n % 3}", metadata={"n": n})
        print(n, id, flush=True)
        if n % 5 == 4:
            gone = memory.forget(f"s{n % 3}", ids=[id])
            print("forgot", n, flush=True)
        n += 1
"""


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_kill_9_loses_nothing_that_was_acknowledged(seed: int, tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    kept: dict[int, str] = {}
    last, wanted = -1, 20 + random.Random(seed).randrange(80)
    for line in child.stdout:
        word, rest = line.split()
        if word == "forgot":
            del kept[int(rest)]
        else:
            last = int(word)
            kept[last] = rest
        if last >= wanted:
            break
    os.kill(child.pid, signal.SIGKILL)
    for line in child.stdout:
        word, rest = line.split() if line.endswith("\n") and len(line.split()) == 2 else ("", "")
        if word == "forgot":
            del kept[int(rest)]
        elif word:
            last = int(word)
            kept[last] = rest
    child.stdout.close()
    child.wait()
    with goclaw.Memory(tmp_path, embedder=Hashing(32)) as memory:
        # What was under way at the end may be there or not.
        under_way = {last, last + 1}
        found = {entry.metadata["n"]: entry.id for n in range(3) for entry in memory.list(f"s{n}", limit=10_000)}
        assert {n: id for n, id in found.items() if n not in under_way} == {
            n: id for n, id in kept.items() if n not in under_way
        }
        for n in list(kept)[:10]:
            hits = memory.retrieve(f"number{n}", session=f"s{n % 3}", mode="text")
            assert [hit.entry.id for hit in hits] == [kept[n]]


def test_sessions_never_see_each_other() -> None:
    names = ["a", "a:b", "a:", "b", "A", " a", "a\0b", "ä", "a" * 400]
    random_ = random.Random(7)
    with goclaw.Memory(embedder=Hashing(16)) as memory:
        owned: dict[str, set[str]] = {name: set() for name in names}
        for n in range(300):
            name = random_.choice(names)
            match random_.randrange(10):
                case 0 if owned[name]:
                    gone = random_.choice(sorted(owned[name]))
                    other = random_.choice(names)
                    # Asking the wrong session for it forgets nothing.
                    assert (len(memory.forget(other, ids=[gone])) == 1) == (other == name)
                    if other == name:
                        owned[name].discard(gone)
                case 1:
                    assert memory.delete_session(name) == len(owned[name])
                    owned[name].clear()
                case _:
                    owned[name].add(memory.memorize(f"tea and fact {n}", session=name))
            asked = random_.choice(names)
            hits = memory.retrieve("tea fact", session=asked, top_k=1000)
            assert {hit.entry.id for hit in hits} == owned[asked]
            assert {entry.id for entry in memory.recent(asked, 1000)} == owned[asked]
        assert memory.sessions() == {name: len(ids) for name, ids in owned.items() if ids}
        for name, ids in owned.items():
            for id in ids:
                other = next(other for other in names if other != name)
                assert code_of(memory.get, id, session=other) == "memory.unknown"
                assert code_of(memory.review, id, "good", session=other) == "memory.unknown"


def test_a_vector_is_kept_alike_in_whatever_form_it_comes() -> None:
    parts = [3.0, 0.0, -4.0]
    spread = memoryview(array("f", [3, 9, 0, 9, -4, 9]))[::2]
    forms: list[Any] = [parts, tuple(parts), array("f", parts), array("d", parts), spread, map(float, parts)]
    with goclaw.Memory() as memory:
        ids = memory.memorize_many(["x"] * len(forms), session="s", vectors=forms)
        vectors = {memory.get(id).vector for id in ids}
        (vector,) = vectors
        assert vector == pytest.approx((0.6, 0.0, -0.8), abs=1e-3)
        for form in [parts, array("f", parts), spread]:
            assert memory.retrieve(session="s", vector=form)[0].vector_score == pytest.approx(1.0, abs=1e-3)
        square = memoryview(array("f", [1, 2, 3, 4]).tobytes()).cast("f", (2, 2))
        assert code_of(memory.memorize, "x", session="s", vector=square) == "memory.vector"


def test_bad_input_is_refused_with_codes() -> None:
    with goclaw.Memory() as memory:
        nan = float("nan")
        assert code_of(memory.memorize, "x", session="") == "memory.session"
        assert code_of(memory.memorize, "x", session="s" * 401) == "memory.session"
        assert code_of(memory.memorize, "", session="s") == "memory.empty"
        assert code_of(memory.memorize, "x" * (2**20 + 1), session="s") == "memory.too_large"
        assert code_of(memory.memorize, object(), session="s") == "memory.content"
        assert code_of(memory.memorize, {"x": nan}, session="s") == "memory.content"
        assert code_of(memory.memorize, "x", session="s", metadata={"x": object()}) == "memory.metadata"
        assert code_of(memory.memorize, "x", session="s", vector=[]) == "memory.vector"
        assert code_of(memory.memorize, "x", session="s", vector=[1.0, nan]) == "memory.vector"
        assert code_of(memory.memorize, "x", session="s", vector=["a"]) == "memory.vector"
        assert code_of(memory.memorize, "x", session="s", vector=[0.0, 0.0]) == "memory.vector"
        assert memory.count() == 0
        memory.memorize("x", session="s", vector=[1.0, 2.0])
        assert code_of(memory.memorize, "x", session="s", vector=[1.0]) == "memory.dimension"
        assert code_of(memory.retrieve, session="s", vector=[1.0, 2.0, 3.0]) == "memory.dimension"
        assert code_of(memory.retrieve, session="s") == "memory.query"
        assert code_of(memory.retrieve, " ", session="s") == "memory.query"
        assert code_of(memory.retrieve, "x", session="s", mode="vector") == "memory.query"
        assert code_of(memory.retrieve, "x", session="s", top_k=0) == "memory.limit"
        assert code_of(memory.retrieve, "x", session="s", min_strength=2.0) == "memory.threshold"
        assert code_of(memory.forget, "s") == "memory.threshold"
        assert code_of(memory.forget, "s", below=1.5) == "memory.threshold"
        assert code_of(memory.get, "nonsense") == "memory.unknown"
        assert code_of(memory.review, "01ARZ3NDEKTSV4RRFFQ69G5FAV", "good") == "memory.unknown"
        assert code_of(memory.import_, ["{}"]) == "memory.import"
        with pytest.raises(goclaw.ConfigError):
            memory.retrieve("x", session="s", mode="psychic")  # type: ignore[arg-type]
    with pytest.raises(goclaw.EngineClosed):
        memory.memorize("x", session="s")
    with pytest.raises(goclaw.EngineClosed):
        memory.retrieve("x", session="s")


def test_every_option_is_seen_in_the_signature_and_a_misspelt_one_is_named() -> None:
    for memory in (goclaw.Memory, goclaw.SessionMemory):
        for verb, option in [("retrieve", "top_k"), ("memorize", "pinned"), ("forget", "dry_run")]:
            for name in (verb, f"a{verb}"):
                parameter = inspect.signature(getattr(memory, name)).parameters[option]
                assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
                assert parameter.default is not inspect.Parameter.empty
    with goclaw.Memory() as memory, pytest.raises(TypeError, match="'topk'; did you mean `top_k`"):
        memory.retrieve("x", session="s", topk=3)  # type: ignore[call-arg]


def test_contents_come_back_as_they_were() -> None:
    with goclaw.Memory() as memory:
        for content in ["text", b"\x00\xff", {"a": [1, 2.5, None, "x"]}, ["list"], 7, None, True]:
            assert memory.get(memory.memorize(content, session="s")).content == content
        assert memory.retrieve("list", session="s")[0].entry.content == ["list"]


def test_a_filter_goes_before_the_ranking() -> None:
    with goclaw.Memory(embedder=Hashing(32)) as memory:
        for n in range(200):
            memory.memorize(f"tea number {n}", session="s", metadata={"odd": n % 2 == 1, "n": n})
        hits = memory.retrieve("tea", session="s", filter={"odd": True}, top_k=100)
        assert len(hits) == 100
        assert all(hit.entry.metadata["odd"] for hit in hits)
        assert {hit.text_rank for hit in hits} == set(range(1, 101))
        assert [h.entry.metadata["n"] for h in memory.retrieve("tea", session="s", filter={"n": 150})] == [150]
        assert memory.retrieve("tea", session="s", filter={"n": 1000}) == []


def test_the_model_of_a_store_is_kept(tmp_path: Path) -> None:
    with goclaw.Memory(tmp_path, embedder=Hashing(32)) as memory:
        memory.memorize("x", session="s")
    with pytest.raises(goclaw.RecallError) as caught:
        goclaw.Memory(tmp_path, embedder=Hashing(64))
    assert caught.value.code == "memory.model"
    # The refusal left the store closed, and it opens without an embedder.
    with goclaw.Memory(tmp_path) as memory:
        assert memory.retrieve("x", session="s")[0].vector_rank is None


def test_async_embedders_and_callers() -> None:
    batches = []

    async def embed(texts: list[str]) -> list[list[float]]:
        batches.append(len(texts))
        await asyncio.sleep(0)
        return Hashing(16)(texts)

    async def main() -> None:
        async with goclaw.Memory(embedder=embed) as memory:
            await memory.amemorize_many([f"tea {n}" for n in range(300)], session="s", vectorize="now")
            assert batches == [256, 44]
            hits = await memory.aretrieve("tea 7", session="s")
            assert hits[0].entry.content == "tea 7"
            assert len(await memory.arecent("s", 3)) == 3

    asyncio.run(main())
    with goclaw.Memory(embedder=embed) as memory:
        memory.memorize("tea", session="s", vectorize="now")
        assert memory.retrieve("tea", session="s")[0].vector_rank == 1


def test_an_embedder_that_fails_loses_nothing() -> None:
    broken = False

    def embed(texts: list[str]) -> list[list[float]]:
        if broken:
            raise ConnectionError("no route")
        return Hashing(16)(texts)

    how = Embedding(embed, vectorize="now", retry=goclaw.Retry(retries=1, initial="1ms"))
    with goclaw.Memory(embedder=how) as memory:
        memory.memorize("tea", session="s")
        broken = True
        assert code_of(memory.memorize, "coffee", session="s") == "memory.embedder"
        with pytest.warns(RuntimeWarning, match="no route"):
            assert memory.retrieve("black tea", session="s")[0].text_rank == 1
        assert code_of(memory.retrieve, "green tea", session="s", mode="vector") == "memory.embedder"
        assert memory.count() == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert memory.retrieve("tea", session="s", mode="text")


def test_reviews_decide_what_is_forgotten() -> None:
    with goclaw.Memory() as memory:
        ids = memory.memorize_many(["a", "b", "c", "d"], session="s")
        pinned = memory.memorize("e", session="s", pinned=True)
        memory.feedback(ids[0], "used")
        memory.feedback([ids[1]], "useful")
        memory.feedback(ids[2], "wrong")
        a, b, c, d = (memory.get(id) for id in ids)
        assert b.stability > a.stability >= d.stability > c.stability
        time.sleep(0.02)
        would = memory.forget("s", below=1.0, dry_run=True, limit=2)
        assert (would.ids[0], len(would), would.left) == (ids[2], 2, 2)
        assert memory.count("s") == 5
        assert len(memory.forget("s", below=1.0, grace="1h")) == 0
        assert set(memory.forget("s", below=1.0).ids) == set(ids)
        assert [entry.id for entry in memory.list("s")] == [pinned]


def test_export_and_import_carry_everything(tmp_path: Path) -> None:
    with goclaw.Memory(embedder=Hashing(16)) as memory:
        memory.memorize_many(["one", {"two": 2}, b"three"], session="s", metadata=[{"n": 1}, None, {}])
        memory.memorize("four", session="t", pinned=True)
        memory.feedback(memory.recent("t", 1)[0].id, "useful")
        lines = list(memory.export())
        assert len(lines) == 4
        assert len(list(memory.export("t"))) == 1
        wanted = [entry for name in ("s", "t") for entry in memory.list(name)]
    with goclaw.Memory(tmp_path, embedder=Hashing(16)) as memory:
        assert memory.import_(lines) == 4
        assert memory.import_(lines) == 4
        found = [entry for name in ("s", "t") for entry in memory.list(name)]
        same = ("id", "content", "metadata", "stability", "difficulty", "last_review", "created", "pinned", "vector")
        for one, other in zip(found, wanted, strict=True):
            assert [getattr(one, name) for name in same] == [getattr(other, name) for name in same]
        assert memory.retrieve("four", session="t")[0].vector_rank == 1


@goclaw.agent(name="memory.lists")
def lists(ctx: goclaw.Context) -> list[Any]:
    tea, milk = ctx.memory.memorize_many(["tea", "milk"])
    ctx.memory.forget(ids=[milk])
    page = ctx.memory.list(limit=1)
    rest = ctx.memory.list(after=page[0].id)
    # Strengths are those of the moment of reading.
    assert [it.id for it in asyncio.run(ctx.memory.alist())] == [it.id for it in page + rest]
    assert rest[-1].id == tea
    granted = ctx.memory.of("team")
    return [[entry.content for entry in page + rest], ctx.memory.count(), granted.count(), len(granted.list())]


def test_a_task_lists_and_counts_its_own_session_as_it_has_made_it() -> None:
    flow = goclaw.Workflow("one").task("lists", lists)
    with goclaw.Engine() as engine:
        engine.memory.memorize("before", session="s")
        engine.memory.memorize_many(["not", "his"], session="t")
        engine.memory.memorize("shared", session="team")
        run = engine.submit(flow, session="s", memory=goclaw.MemoryAccess(read=["team"]))
        assert run.result() == [["before", "tea"], 2, 1, 1]
        assert engine.memory.count("s") == 2


@goclaw.agent
def remembers_nothing(ctx: goclaw.Context) -> str:
    try:
        ctx.memory.memorize("x")
    except goclaw.RecallError as error:
        return error.code
    return "no error"


def test_ctx_memory_needs_a_session() -> None:
    @goclaw.workflow
    def flow() -> str:
        return remembers_nothing()

    with goclaw.Engine() as engine:
        assert engine.run(flow) == "memory.no_session"


@goclaw.agent(retry=goclaw.Retry(retries=2, initial="1ms"))
def notes(fact: str, fails: int, ctx: goclaw.Context) -> list[str]:
    ctx.memory.memorize(f"{fact} in attempt {ctx.attempt}", metadata={"attempt": ctx.attempt})
    seen = [hit.entry.content for hit in ctx.memory.retrieve(fact, mode="text", top_k=10)]
    assert [entry.content for entry in ctx.memory.recent(1)] == [f"{fact} in attempt {ctx.attempt}"]
    if ctx.attempt <= fails:
        raise OSError("no luck")
    return seen


@goclaw.agent
async def notes_later(facts: list[str], ctx: goclaw.Context) -> str:
    await ctx.memory.amemorize(f"{facts[0]}, noted later")
    return ctx.memory.session


@goclaw.workflow
def noting(fact: str, fails: int) -> str:
    return notes_later(notes(fact, fails))


@pytest.mark.parametrize("path", [None, "store"])
def test_a_task_memorizes_with_its_completion(path: str | None, tmp_path: Path) -> None:
    where = None if path is None else tmp_path / path
    with goclaw.Engine(where, embedder=Hashing(32)) as engine:
        run = engine.submit(noting, {"fact": "tea", "fails": 1}, session="ada")
        assert run.result() == "ada"
        wanted = ["tea in attempt 2", "tea in attempt 2, noted later"]
        found = engine.memory.list("ada")
        assert [entry.content for entry in found] == wanted
        assert [entry.task_id for entry in found] == ["notes", "notes_later"]
        assert all(entry.vector for entry in found)
        failed = engine.submit(noting, {"fact": "milk", "fails": 9}, session="ada")
        with pytest.raises(goclaw.TaskFailed):
            failed.result()
        assert [entry.content for entry in engine.memory.list("ada")] == wanted
        assert engine.memory.count("bob") == 0
    if where is not None:
        with goclaw.Memory(where) as memory:
            assert [entry.content for entry in memory.list("ada")] == wanted


@goclaw.agent
def notes_a_child(item: int, ctx: goclaw.Context) -> int:
    ctx.memory.memorize(f"item{item}")
    if item == 3:
        raise ValueError("three")
    return item


@goclaw.workflow(on_failure="continue")
def noting_all(items: list[int]) -> list[int]:
    return notes_a_child.map(items)


def test_children_of_a_map_memorize_each_with_its_own_completion() -> None:
    with goclaw.Engine() as engine:
        run = engine.submit(noting_all, {"items": list(range(6))}, session="ada")
        with pytest.raises(goclaw.TaskFailed):
            run.result()
        found = {entry.content for entry in engine.memory.list("ada")}
        assert found == {f"item{n}" for n in (0, 1, 2, 4, 5)}


def test_filters_have_the_operators_of_vector_stores() -> None:
    with goclaw.Memory(embedder=Hashing(32)) as memory:
        for n in range(20):
            memory.memorize(f"tea {n}", session="s", metadata={"n": n, "kind": "even" if n % 2 == 0 else "odd"})

        def found(filter: dict[str, Any]) -> set[int]:
            return {hit.entry.metadata["n"] for hit in memory.retrieve("tea", session="s", top_k=100, filter=filter)}

        assert found({"n": {"$gte": 5, "$lt": 8}}) == {5, 6, 7}
        assert found({"kind": {"$in": ["even"]}, "n": {"$gt": 15}}) == {16, 18}
        assert found({"kind": {"$ne": "even"}, "n": {"$lte": 3}}) == {1, 3}
        assert found({"$or": [{"n": 1}, {"n": {"$gt": 18}}]}) == {1, 19}
        assert found({"who": {"$exists": True}}) == set()
        for filter in [{"n": {"$near": 3}}, {"$where": "1"}, {"n": {"$in": 3}}, {"n": {"$gt": None}}]:
            assert code_of(memory.retrieve, "tea", session="s", filter=filter) == "memory.filter"
        assert code_of(memory.retrieve, "tea", session="s", filter={"n": object()}) == "memory.filter"
        assert code_of(memory.retrieve, "tea", session="s", filter=["n"]) == "memory.filter"


def test_an_explanation_adds_up() -> None:
    with goclaw.Memory(embedder=Hashing(32)) as memory:
        memory.memorize_many(["green tea", "black tea", "a boat"], session="s")
        plain = memory.retrieve("green tea", session="s")
        assert all(hit.explanation is None for hit in plain)
        hits = memory.retrieve(
            "green tea", session="s", smoothing=0.3, strength_boost=0.5, recency_boost=1, explain=True
        )
        for place, hit in enumerate(hits, 1):
            why = hit.explanation
            assert why is not None
            assert why.place == place
            total = why.vector + why.text + why.smoothing + why.strength + why.recency
            assert abs(total - hit.score) < 1e-9
            assert (why.vector_rank, why.text_score) == (hit.vector_rank, hit.text_score)
            assert str(why).startswith(f"{hit.score:.3f} = ")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"weights": (0.0, 0.0)}, "memory.weights"),
        ({"weights": (-1.0, 1.0)}, "memory.weights"),
        ({"weights": (float("nan"), 1.0)}, "memory.weights"),
        ({"weights": (1.0,)}, "memory.weights"),
        ({"weights": ("a", "b")}, "memory.weights"),
        ({"weights": 0.7}, "memory.weights"),
        ({"smoothing": 1.5}, "memory.option"),
        ({"smoothing": "much"}, "memory.option"),
        ({"diversity": -0.1}, "memory.option"),
        ({"diversity": float("nan")}, "memory.option"),
        ({"strength_boost": 11}, "memory.option"),
        ({"recency_boost": float("inf")}, "memory.option"),
        ({"recency_half_life": 0}, "memory.option"),
        ({"min_strength": float("nan")}, "memory.threshold"),
        ({"min_strength": "x"}, "memory.threshold"),
        ({"top_k": 2.5}, "memory.limit"),
        ({"top_k": True}, "memory.limit"),
        ({"top_k": -1}, "memory.limit"),
        ({"top_k": 10_001}, "memory.limit"),
        ({"top_k": 201, "diversity": 0.5}, "memory.limit"),
        ({"context": 0}, "memory.limit"),
        ({"context": 51}, "memory.limit"),
        ({"context": -1}, "memory.limit"),
    ],
)
def test_options_of_a_search_that_make_no_sense_are_refused(options: dict[str, Any], code: str) -> None:
    with goclaw.Memory(embedder=Hashing(16)) as memory:
        memory.memorize("tea", session="s")
        assert code_of(memory.retrieve, "tea", session="s", **options) == code


def test_recent_turns_widen_the_query_and_are_not_answered() -> None:
    with goclaw.Memory() as memory:
        ada, bob = memory.memorize_many(["Ada likes green tea", "Bob likes coffee"], session="s")
        turn = memory.memorize("tell me about Ada", session="s")
        question = "what does she like to drink?"
        assert {hit.entry.id for hit in memory.retrieve(question, session="s")} == {ada, bob}
        hits = memory.retrieve(question, session="s", context=1)
        assert [hit.entry.id for hit in hits] == [ada, bob]
        assert turn not in {hit.entry.id for hit in memory.retrieve("Ada", session="s", context=1)}
        assert memory.retrieve(question, session="s", context="tell me about Ada")[0].entry.id == turn
        found = asyncio.run(memory.aretrieve(question, session="s", context=1))
        assert [hit.entry.id for hit in found] == [ada, bob]


def test_diversity_and_smoothing_change_the_order() -> None:
    with goclaw.Memory() as memory:
        memory.memorize_many(["tea green tea", "green tea tea", "tea from high mountains"], session="s")
        plain = memory.retrieve("green tea", session="s", top_k=2)
        diverse = memory.retrieve("green tea", session="s", top_k=2, diversity=0.8)
        assert all("green" in hit.entry.content for hit in plain)
        assert "mountains" in diverse[1].entry.content


def test_a_task_works_on_what_it_just_memorized() -> None:
    @goclaw.agent(retries=0)
    def notes(ctx: goclaw.Context) -> list[Any]:
        kept = ctx.memory.memorize("tea is green")
        dropped = ctx.memory.memorize("tea is blue")
        assert ctx.memory.get(kept).content == "tea is green"
        before = ctx.memory.get(kept).stability
        ctx.memory.feedback(kept, "useful")
        assert ctx.memory.get(kept).stability > before
        assert len(ctx.memory.retrieve("tea", review="good")) == 2
        assert ctx.memory.forget(ids=[dropped]).ids == (dropped,)
        return [hit.entry.content for hit in ctx.memory.retrieve("tea")]

    flow = goclaw.Workflow("notes").task("notes", notes)
    with goclaw.Engine() as engine:
        assert engine.submit(flow, session="s").result() == ["tea is green"]
        assert [entry.content for entry in engine.memory.recent("s")] == ["tea is green"]


def test_lines_are_not_taken_from_a_path(tmp_path: Path) -> None:
    with goclaw.Memory() as memory:
        for wrong in ("memories.jsonl", b"{}", tmp_path / "memories.jsonl"):
            with pytest.raises(goclaw.RecallError) as caught:
                memory.import_(wrong)  # type: ignore[arg-type]
            assert caught.value.code == "memory.import"


def test_a_half_life_that_cannot_be_had_is_refused() -> None:
    assert round(goclaw.Forgetting(half_life="1h").days_until(0.5) * 24, 6) == 1.0
    with pytest.raises(goclaw.RecallError, match="the nearest is") as caught:
        goclaw.Forgetting(half_life="1s")
    assert caught.value.code == "memory.forgetting"
