"""What the memory refuses is refused before it costs anything, and says what to do."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import goclaw
import pytest
from goclaw.embedders import Embedding, Hashing


class Counting:
    """An embedder that counts its calls."""

    name = "counting"

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, texts: list[str]) -> list[list[float]]:
        self.calls += 1
        return Hashing(8)(texts)


def refused(call: Callable[[], Any]) -> goclaw.RecallError:
    with pytest.raises(goclaw.RecallError) as caught:
        call()
    return caught.value


def test_nothing_is_embedded_that_is_refused_anyway() -> None:
    embed = Counting()
    with goclaw.Memory(embedder=Embedding(embed, vectorize="now")) as memory:
        for code, call in {
            "memory.too_large": lambda: memory.memorize("x" * (2**20 + 1), session="s"),
            "memory.empty": lambda: memory.memorize_many(["tea", ""], session="s"),
            "memory.session": lambda: memory.memorize("tea", session=""),
            "memory.metadata": lambda: memory.memorize("tea", session="s", metadata={"x": object()}),
            "memory.filter": lambda: memory.retrieve("tea", session="s", filter={"year": {"$regex": "x"}}),
            "memory.limit": lambda: memory.retrieve("tea", session="s", top_k=0),
            "memory.threshold": lambda: memory.retrieve("tea", session="s", min_strength=2, mode="vector"),
            "memory.weights": lambda: memory.retrieve("tea", session="s", weights=(0, 0)),
        }.items():
            assert refused(call).code == code
        large = refused(lambda: memory.retrieve("x" * 2**17, session="s"))
        assert large.code == "memory.too_large" and "search by" in large.help
        assert embed.calls == 0
        assert memory.count() == 0
        memory.memorize("tea", session="s")
        assert embed.calls == 1


def test_a_task_without_a_grant_embeds_nothing() -> None:
    embed = Counting()

    @goclaw.agent(name="refusals.writes")
    def writes(ctx: goclaw.Context) -> str:
        return refused(lambda: ctx.memory.of("team").memorize("tea")).code

    flow = goclaw.Workflow("one").task("writes", writes)
    with goclaw.Engine(embedder=Embedding(embed, vectorize="now")) as engine:
        run = engine.submit(flow, session="s", memory=goclaw.MemoryAccess(read=["team"]))
        assert run.result() == "memory.no_grant"
    assert embed.calls == 0


def test_a_search_says_which_half_it_lacks() -> None:
    with goclaw.Memory() as memory:
        memory.memorize("tea", session="s", vector=[1.0, 0.0])
        by_vector = refused(lambda: memory.retrieve("tea", session="s", mode="vector"))
        assert by_vector.code == "memory.query"
        assert "no embedder" in str(by_vector) and "vector=" in by_vector.help
        by_words = refused(lambda: memory.retrieve(vector=[1.0, 0.0], session="s", mode="text"))
        assert by_words.code == "memory.query" and "pass a query" in by_words.help
        neither = refused(lambda: memory.retrieve(session="s"))
        assert neither.code == "memory.query" and "has neither" in str(neither)


@pytest.mark.parametrize("contents", [["tea"], ["tea", "milk"]])
def test_one_metadata_for_many_contents_is_told(contents: list[str]) -> None:
    with goclaw.Memory() as memory:
        wrongs: list[Any] = [{"kind": "fact"}, {"kind": "fact", "n": 1}, "fact"]
        for wrong in wrongs:
            error = refused(partial(memory.memorize_many, contents, session="s", metadata=wrong))
            assert error.code == "memory.metadata"
            assert "per content" in error.help
        texts: Any = ["fact"] * len(contents)
        error = refused(lambda: memory.memorize_many(contents, session="s", metadata=texts))
        assert error.code == "memory.metadata" and "no mapping" in str(error)
        assert refused(lambda: memory.memorize("tea", session="s", metadata="fact")).code == "memory.metadata"  # type: ignore[arg-type]
        assert memory.count() == 0


def test_a_search_whose_embedder_fails_is_told_what_to_do_about_the_search() -> None:
    def broken(texts: list[str]) -> list[list[float]]:
        raise ConnectionError("no route")

    how = Embedding(broken, retry=goclaw.Retry(retries=0), vectorize="now")
    with goclaw.Memory(embedder=how) as memory:
        search = refused(lambda: memory.retrieve("tea", session="s", mode="vector"))
        assert "searches by words" in search.help and "memorized" not in search.help
        assert "not memorized" in refused(lambda: memory.memorize("tea", session="s")).help


def test_a_search_does_not_wait_for_a_lane_that_is_paused() -> None:
    # Without a bound on its waiting, it would wait for ever.
    how = Embedding(Counting(), query_timeout=None)
    with goclaw.Engine(embedder=how) as engine:
        engine.memory.memorize("green tea", session="s")
        assert engine.memory.vectorized("60s")
        engine.lanes["embed"].pause()
        with pytest.warns(RuntimeWarning, match="lane `embed` is paused"):
            (hit,) = engine.memory.retrieve("tea", session="s")
        assert hit.text_rank == 1 and hit.vector_rank is None
        error = refused(lambda: engine.memory.retrieve("tea", session="s", mode="vector"))
        assert error.code == "memory.embedder_paused" and "resume" in error.help
        engine.memory.memorize("milk", session="s")
        assert engine.memory.stats().unvectored == 1, "what is memorized waits"
        engine.lanes["embed"].resume()
        assert engine.memory.vectorized("60s")
        assert engine.memory.retrieve("green tea", session="s", mode="vector")[0].entry.content == "green tea"


def test_a_filter_that_cannot_be_is_found_when_the_workflow_compiles() -> None:
    @goclaw.agent(name="refusals.answer")
    def answer(question: str) -> str:
        return question

    bad = goclaw.Retrieve("tea", filter={"year": {"$regex": "x"}})

    @goclaw.workflow
    def traced(question: str) -> Any:
        return answer(question).options(memory=bad)  # type: ignore[attr-defined]

    built = goclaw.Workflow("built").task("answer", answer, args={"question": "tea"}, memory=bad)
    document = """
name: written
tasks:
  - id: answer
    agent: refusals.answer
    with: {question: tea}
    memory:
      retrieve: {query: tea, filter: {kind: "{{ input.kind }}", year: {$regex: x}}}
"""
    with goclaw.Engine() as engine:
        for flow in (traced, built, goclaw.Workflow.from_yaml(document)):
            with pytest.raises(goclaw.WorkflowError) as caught:
                engine.submit(flow, {"question": "tea"} if flow is traced else None, session="s")
            assert "there is no operator `$regex`" in str(caught.value)


def test_a_query_by_the_item_of_a_map_says_where_to_search_instead() -> None:
    @goclaw.agent(name="refusals.each")
    def each(item: str) -> str:
        return item

    search = goclaw.Retrieve("{{ item }}")
    flow = goclaw.Workflow("map").task("each", each, for_each=["a", "b"], memory=search)
    with goclaw.Engine() as engine, pytest.raises(goclaw.WorkflowError) as caught:
        engine.submit(flow, session="s")
    (problem,) = caught.value.problems
    assert "share one look-up" in problem.message
    assert "ctx.memory.retrieve(item)" in problem.help
