"""Embedders: what makes vectors, what is checked of them, and what is said of those that fail."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
import types
from pathlib import Path
from typing import Any

import goclaw
import pytest
from goclaw.embedders import Embedded, Embedding, Hashing, OpenAI, SentenceTransformers, name_of

sys.path.insert(0, str(Path(__file__).parent))
import embedding_server as server

QUICK = goclaw.Retry(retries=3, initial="1ms", max="2ms")
ONCE = goclaw.Retry(retries=0)


def memory_of(embedder: Any, **options: Any) -> goclaw.Memory:
    options = {"retry": QUICK, "vectorize": "now", **options}
    return goclaw.Memory(embedder=Embedding(embedder, **options))


def refusal(call: Any, *args: Any, **kwargs: Any) -> goclaw.RecallError:
    with pytest.raises(goclaw.RecallError) as caught:
        call(*args, **kwargs)
    return caught.value


# ---- OpenAI's protocol


def test_openai_asks_as_its_own_client_does() -> None:
    with server.Server() as there:
        embed = OpenAI("small", base_url=there.url, api_key=server.KEY, dimensions=8)
        found = embed(["tea", "milk"])
        assert found.tokens == 7
        assert [len(vector) for vector in found.vectors] == [8, 8]
        assert found.vectors[0] == pytest.approx(Hashing(8)(["tea"])[0], abs=1e-6)
        body = {"model": "small", "input": ["tea", "milk"], "encoding_format": "base64", "dimensions": 8}
        assert there.requests == [body]
        assert embed.name == "openai:small-8"
        # A server that ignores the format answers numbers.
        there.faults.append(server.said(lambda answer: {"data": [{"embedding": [0.5, 1.5], "index": 0}]}))
        assert embed(["x"]) == Embedded([[0.5, 1.5]], tokens=None)


def test_openai_fills_a_memory_in_batches() -> None:
    with server.Server() as there:
        embed = OpenAI("small", base_url=there.url, api_key=server.KEY, batch_max=2, query_prefix="query: ")
        with memory_of(embed) as memory:
            memory.memorize_many(["a", "b", "c", "b", "d", "e"], session="s")
            assert [body["input"] for body in there.requests] == [["a", "b"], ["c", "d"], ["e"]]
            assert memory.retrieve("b", session="s")[0].vector_rank is not None
            assert there.requests[-1]["input"] == ["query: b"]
            assert memory.stats().embedder == "openai:small"


def test_too_many_requests_are_repeated_after_the_pause_that_is_asked_for() -> None:
    from goclaw._embedding_calls import _Calls

    with server.Server() as there, goclaw.Engine() as engine:
        embed = OpenAI("small", base_url=there.url, api_key=server.KEY)
        slept: list[float] = []
        calls = _Calls(Embedding(embed, retry=QUICK), lambda: engine, slept.append)
        there.faults += [server.fault(429, Retry_After="0"), server.fault(500), server.fault(503, Retry_After="0.25")]
        assert len(calls.call("text", ["tea"])) == 1
        assert slept[0] == 0
        assert slept[1] <= 0.002
        assert slept[2] == 0.25
        assert len(there.requests) == 4
        # Everybody who asks that server waits, not only whoever was told.
        there.faults += [server.fault(429, Retry_After="3600")]
        with pytest.raises(goclaw.RecallError):
            _Calls(Embedding(embed, retry=ONCE), lambda: engine).call("text", ["tea"])
        held = engine.lanes["embed"].held_for
        assert held is not None
        assert held > 3000


@pytest.mark.parametrize(
    ("fault", "code", "tries"),
    [
        (server.fault(500), "memory.embedder", 4),
        (server.fault(429), "memory.embedder", 4),
        (server.reset, "memory.embedder", 4),
        (server.fault(400, "too long"), "memory.embedder_input", 1),
        (server.fault(401), "memory.embedder_access", 1),
        (server.fault(404), "memory.embedder_access", 1),
        (server.fault(307, Location="http://elsewhere.invalid/"), "memory.embedder_access", 1),
        (server.said(b"<html>"), "memory.embedder_vectors", 1),
        (server.said({"data": []}), "memory.embedder_vectors", 1),
        (server.said(lambda answer: {**answer, "data": answer["data"] * 2}), "memory.embedder_vectors", 1),
        (server.said({"data": [{"index": 0, "embedding": "###"}]}), "memory.embedder_vectors", 1),
        (server.said({"data": [{"index": 0, "embedding": [1.0] * 7}]}), "memory.embedder_vectors", 1),
        (server.said({"data": [{"index": 0, "embedding": [1e999] * 8}]}), "memory.embedder_vectors", 1),
    ],
)
def test_what_an_endpoint_does_wrong_has_a_code(fault: Any, code: str, tries: int) -> None:
    with server.Server() as there:
        embed = OpenAI("small", base_url=there.url, api_key=server.KEY, dimensions=8)
        with memory_of(embed) as memory:
            there.faults += [fault] * tries
            assert refusal(memory.memorize, "tea", session="s").code == code
            assert len(there.requests) == tries
            assert memory.count() == 0, "nothing was memorized"
            memory.memorize("tea", session="s")
            assert memory.retrieve("tea", session="s", mode="vector")[0].vector_rank == 1


def test_a_server_that_is_not_there_is_an_error_with_its_address() -> None:
    embed = OpenAI("small", base_url="http://127.0.0.1:9/v1", api_key=server.KEY)
    error = refusal(embed, ["x"])
    assert error.code == "memory.embedder"
    assert "http://127.0.0.1:9/v1" in str(error)


def test_the_key_is_shown_to_nobody(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    from pydantic import SecretStr

    wrong = "sk-wrong-but-secret"
    caplog.set_level(logging.DEBUG)
    with server.Server() as there:
        for embed in (OpenAI("m", base_url=there.url, api_key=wrong), Embedding(OpenAI("m", api_key=SecretStr(wrong)))):
            assert wrong not in repr(embed)
            assert wrong not in str(vars(embed))
        with memory_of(OpenAI("m", base_url=there.url, api_key=SecretStr(wrong))) as memory:
            error = refusal(memory.memorize, "tea", session="s")
            assert error.code == "memory.embedder_access"
            assert "Incorrect API key provided: Bearer ***" in str(error), "the server repeats it, we do not"
            shown = "".join(traceback.format_exception(error)) + caplog.text + repr(memory.stats())
            assert wrong not in shown
        with pytest.raises(TypeError):
            __import__("pickle").dumps(OpenAI("m", api_key=wrong))
        # From the environment, read when it is used.
        embed = OpenAI("m", base_url=there.url)
        monkeypatch.setenv("OPENAI_API_KEY", server.KEY)
        assert len(embed(["x"]).vectors) == 1
        monkeypatch.delenv("OPENAI_API_KEY")
        assert refusal(embed, ["x"]).code == "memory.embedder_access"
        assert "Authorization" not in there.headers[-1]
    with pytest.raises(goclaw.ConfigError):
        OpenAI("m", base_url="https://user:password@example.org/v1")
    with pytest.raises(goclaw.ConfigError):
        OpenAI("m", base_url="file:///etc/passwd")


# ---- sentence-transformers


class FakeModel:
    """What is used of a `SentenceTransformer`."""

    loaded: list[Any] = []  # noqa: RUF012

    def __init__(self, name: str, **options: Any) -> None:
        if name == "missing":
            raise OSError("missing is not a local folder")
        self.loaded.append((name, options))

    def encode_query(self, texts: list[str], **how: Any) -> Any:
        return Hashing(8)([f"query {text}" for text in texts])

    def encode_document(self, texts: list[str], **how: Any) -> Any:
        assert how == {"convert_to_numpy": True, "show_progress_bar": False}
        return Hashing(8)(texts)


def test_sentence_transformers_load_when_the_first_text_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("sentence_transformers")
    module.SentenceTransformer = FakeModel  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
    monkeypatch.setattr(FakeModel, "loaded", [])
    embed = SentenceTransformers("mini", options={"device": "cpu"})
    assert embed.name == "sentence-transformers:mini"
    assert FakeModel.loaded == []
    assert embed(["tea"]) == Hashing(8)(["tea"])
    assert embed.query(["tea"]) == Hashing(8)(["query tea"])
    assert FakeModel.loaded == [("mini", {"device": "cpu"})]
    assert SentenceTransformers(FakeModel("own"), name="own")(["x"]) == Hashing(8)(["x"])
    assert refusal(SentenceTransformers, FakeModel("own")).code == "memory.embedder_access"
    assert refusal(SentenceTransformers("missing"), ["x"]).code == "memory.embedder_access"


class Heavy(Hashing):
    """An embedder that has something to load, for longer than a search waits for a call."""

    local = False
    failure: Exception | None = None
    loads = 0

    def load(self) -> None:
        self.loads += 1
        if self.failure is not None:
            raise self.failure
        threading.Event().wait(2.2)


def test_a_search_waits_for_a_model_to_load_apart_from_its_time(tmp_path: Path) -> None:
    heavy = Heavy(64)
    with goclaw.Memory(tmp_path / "store", embedder=Embedding(heavy, query_timeout="2s", vectorize="later")) as memory:
        memory.memorize("green tea", session="ada", vector=Hashing(64)(["green tea"])[0])
        for _ in range(2):
            assert memory.retrieve("green tea", session="ada", mode="vector")[0].entry.content == "green tea"
        assert heavy.loads == 1


def test_a_model_that_cannot_be_loaded_leaves_the_words(tmp_path: Path) -> None:
    heavy = Heavy(64)
    heavy.failure = OSError("no such model")
    with goclaw.Memory(tmp_path / "store", embedder=heavy) as memory:
        memory.memorize("green tea", session="ada", vector=Hashing(64)(["green tea"])[0])
        error = refusal(memory.retrieve, "tea", session="ada", mode="vector")
        assert error.code == "memory.embedder"
        assert "no such model" in str(error)
        with pytest.warns(RuntimeWarning, match="by words alone.*no such model"):
            hits = memory.retrieve("tea", session="ada")
        assert [hit.entry.content for hit in hits] == ["green tea"]


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    error = refusal(SentenceTransformers("mini"), ["x"])
    assert error.code == "memory.embedder_access"
    assert "pip install" in error.help


# ---- any callable


def test_queries_are_embedded_in_their_own_way_where_a_model_has_one() -> None:
    class TwoWays:
        name = "two-ways"
        kinds: list[str] = []  # noqa: RUF012

        def __call__(self, texts: list[str]) -> list[list[float]]:
            self.kinds.append("text")
            return Hashing(8)(texts)

        def query(self, texts: list[str]) -> list[list[float]]:
            self.kinds.append("query")
            return Hashing(8)(texts)

    with memory_of(TwoWays()) as memory:
        memory.memorize("tea", session="s")
        assert memory.retrieve("tea", session="s", mode="vector")[0].vector_rank == 1
        # The same text as a query is another text: what one way made is not used for the other.
        assert TwoWays.kinds == ["text", "query"]


def test_what_was_embedded_before_is_not_asked_for_again() -> None:
    asked: list[list[str]] = []

    def embed(texts: list[str]) -> list[list[float]]:
        asked.append(texts)
        return Hashing(8)(texts)

    with memory_of(embed) as memory:
        memory.memorize_many(["a", "b", "a"], session="s")
        memory.memorize_many(["b", "c"], session="t")
        assert asked == [["a", "b"], ["c"]]
    asked.clear()
    # A vector of 8 parts takes 232 bytes: there is room for one.
    with memory_of(embed, cache_bytes=300) as memory:
        for text in ("a", "b", "b", "a"):
            memory.memorize(text, session="s")
        assert asked == [["a"], ["b"], ["a"]]
    asked.clear()
    with memory_of(embed, cache_bytes=0) as memory:
        memory.memorize_many(["a", "a"], session="s")
        memory.memorize("a", session="s")
        assert asked == [["a"], ["a"]]


@pytest.mark.parametrize(
    "made",
    [
        [],
        [[1.0], [1.0]],
        [[]],
        [[float("nan"), 1.0]],
        [[float("inf"), 1.0]],
        [[0.0, 0.0]],
        ["no"],
        None,
        7,
    ],
)
def test_what_is_no_vector_is_refused(made: Any) -> None:
    with memory_of(lambda texts: made) as memory:
        assert refusal(memory.memorize, "tea", session="s").code == "memory.embedder_vectors"
        assert memory.count() == 0


def test_an_embedder_keeps_to_the_dimension_that_it_says() -> None:
    class Says:
        name = "says"
        dim = 4

        def __call__(self, texts: list[str]) -> list[list[float]]:
            return [[1.0] * 5 for _ in texts]

    with memory_of(Says()) as memory:
        assert refusal(memory.memorize, "tea", session="s").code == "memory.embedder_vectors"


def test_a_store_keeps_to_the_dimension_of_its_embedder(tmp_path: Path) -> None:
    class Resized:
        name = "resized"

        def __init__(self, dim: int) -> None:
            self.dim = dim

        def __call__(self, texts: list[str]) -> list[list[float]]:
            return Hashing(self.dim)(texts)

    with goclaw.Memory(tmp_path, embedder=Embedding(Resized(8), vectorize="now")) as memory:
        memory.memorize("tea", session="s")
    error = refusal(goclaw.Memory, tmp_path, embedder=Resized(16))
    assert error.code == "memory.dimension"
    with goclaw.Memory(tmp_path, embedder=Resized(8)) as memory:
        assert memory.count() == 1


def test_a_call_that_takes_too_long_is_given_up_and_keeps_its_place_in_the_lane() -> None:
    hangs, begun = threading.Event(), threading.Event()

    def embed(texts: list[str]) -> list[list[float]]:
        if texts == ["hang"]:
            begun.set()
            hangs.wait()
        return Hashing(8)(texts)

    how = Embedding(embed, timeout="50ms", query_timeout="50ms", retry=ONCE, vectorize="now")
    with goclaw.Engine(lanes=[goclaw.Lane("embed", 1)], embedder=how) as engine:
        memory = engine.memory
        assert refusal(memory.memorize, "hang", session="s").code == "memory.embedder_timeout"
        assert begun.is_set()
        assert engine.lanes["embed"].running == 1, "what hangs takes a place until it comes back"
        memory.memorize("tea", session="s", vector=[1.0] * 8)
        with pytest.warns(RuntimeWarning, match="no turn in lane `embed`"):
            assert memory.retrieve("tea", session="s")[0].text_rank == 1
        hangs.set()
        memory.memorize("milk", session="s")
        assert memory.retrieve("milk", session="s", mode="vector")


def test_an_async_embedder_that_takes_too_long_is_cancelled() -> None:
    cancelled = threading.Event()

    async def embed(texts: list[str]) -> list[list[float]]:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return []

    with memory_of(embed, timeout="20ms", retry=ONCE) as memory:
        assert refusal(memory.memorize, "tea", session="s").code == "memory.embedder_timeout"
        assert cancelled.wait(10)


def test_no_more_calls_are_under_way_than_the_lane_lets_in() -> None:
    lock, two = threading.Lock(), threading.Barrier(2)
    under_way = most = 0

    def embed(texts: list[str]) -> list[list[float]]:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        # Both places are taken before either is given back.
        two.wait(30)
        with lock:
            under_way -= 1
        return Hashing(8)(texts)

    how = Embedding(embed, vectorize="now")
    with goclaw.Engine(lanes=[goclaw.Lane("embed", 2)], concurrency=1, embedder=how) as engine:
        threads = [
            threading.Thread(target=engine.memory.memorize, args=(f"fact {n}",), kwargs={"session": "s"})
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert engine.memory.count() == 8
        assert most == 2
        stats = engine.lanes["embed"].stats
        assert (stats.granted, stats.offered, stats.accepted, stats.running) == (8, 8, 8, 0)


def test_a_budget_of_tokens_holds_embedders_up() -> None:
    def embed(texts: list[str]) -> Embedded:
        return Embedded(Hashing(8)(texts), tokens=50)

    lane = goclaw.Lane("embed", 4, budgets={"tokens": goclaw.Rate(100, "1h")})
    how = Embedding(embed, vectorize="now", query_timeout="10ms")
    with goclaw.Engine(lanes=[lane], embedder=how) as engine:
        for text in ("tea", "milk"):
            engine.memory.memorize(text, session="s")
        # The hour's tokens are used: a search for which there is no turn goes by words.
        with pytest.warns(RuntimeWarning, match="no turn in lane"):
            assert engine.memory.retrieve("green tea", session="s")[0].text_rank == 1
        # What was embedded before costs nothing.
        engine.memory.memorize("tea", session="s")
        assert engine.memory.retrieve("milk", session="s", mode="vector")[0].entry.content == "milk"


def test_a_paused_lane_stops_embedders_and_closing_frees_who_waits() -> None:
    engine = goclaw.Engine(embedder=Embedding(lambda texts: Hashing(8)(texts), vectorize="now", name="plain"))
    engine.lanes["embed"].pause()
    raised: list[BaseException] = []

    def memorize() -> None:
        try:
            engine.memory.memorize("tea", session="s")
        except goclaw.GoclawError as error:
            raised.append(error)

    thread = threading.Thread(target=memorize)
    thread.start()
    engine.close()
    thread.join(30)
    assert [type(error) for error in raised] == [goclaw.EngineClosed]


def test_an_agent_in_the_lane_of_embedders_does_not_wait_for_itself() -> None:
    @goclaw.agent(lane="embed", name="test_embedders.notes")
    def notes(ctx: goclaw.Context) -> str:
        ctx.memory.memorize("tea", vectorize="now")
        return ctx.memory.retrieve("tea", mode="vector")[0].entry.content

    @goclaw.workflow
    def noting() -> str:
        return notes()

    how = Embedding(lambda texts: Hashing(8)(texts), name="plain")
    with goclaw.Engine(lanes=[goclaw.Lane("embed", 1)], embedder=how) as engine:
        assert engine.submit(noting, session="s").result("30s") == "tea"


def test_an_async_agent_awaits_an_async_embedder_and_cannot_block_for_it() -> None:
    async def embed(texts: list[str]) -> list[list[float]]:
        await asyncio.sleep(0)
        return Hashing(8)(texts)

    @goclaw.agent(name="test_embedders.notes_async")
    async def notes(ctx: goclaw.Context) -> str:
        await ctx.memory.amemorize("tea", vectorize="now")
        hits = await ctx.memory.aretrieve("tea", mode="vector")
        try:
            ctx.memory.memorize("milk", vectorize="now")
        except goclaw.WouldDeadlock as error:
            return f"{hits[0].entry.content} {error.code}"
        return "it blocked"

    @goclaw.workflow
    def noting() -> str:
        return notes()

    with goclaw.Engine(embedder=embed) as engine:
        assert engine.submit(noting, session="s").result("30s") == "tea engine.own_loop"


def test_what_an_embedding_is_given_is_checked() -> None:
    embed = Hashing(8)
    for wrong in (
        lambda: Embedding("no"),  # type: ignore[arg-type]
        lambda: Embedding(Hashing),  # type: ignore[arg-type]
        lambda: Embedding(embed, name=" "),
        lambda: Embedding(embed, batch_max=0),
        lambda: Embedding(embed, cache_bytes=-1),
        lambda: Embedding(embed, timeout=0),
        lambda: Embedding(embed, vectorize="soon"),  # type: ignore[arg-type]
        lambda: Embedding(embed, lane=""),
        lambda: goclaw.Engine(embedder="no"),  # type: ignore[arg-type]
    ):
        with pytest.raises(goclaw.ConfigError):
            wrong()
    with goclaw.Memory() as memory:
        with pytest.raises(goclaw.ConfigError):
            memory.memorize("x", session="s", vectorize="soon")  # type: ignore[arg-type]
        assert refusal(memory.memorize, "x", session="s", vectorize="now").code == "memory.embedder"
    with (
        memory_of(lambda texts: Hashing(8)(texts), lane="nowhere") as memory,
        pytest.raises(goclaw.GoclawError) as caught,
    ):
        memory.memorize("x", session="s")
    assert caught.value.code == "lane.unknown"


def test_names() -> None:
    import functools

    def embed(texts: list[str]) -> list[list[float]]:
        return []

    assert name_of(embed).endswith("test_names.<locals>.embed")
    assert name_of(functools.partial(embed)) == name_of(embed)
    assert Embedding(embed, name="mine").model == "mine"
    assert (Embedding(Hashing(8)).when, Embedding(embed).when) == ("now", "later")


def test_the_loop_is_not_held_up_by_a_wait_for_its_own_embedder(tmp_path: Path) -> None:
    asked = []

    async def embed(texts: list[str]) -> list[list[float]]:
        asked.append(texts)
        return Hashing(8)(texts)

    @goclaw.agent(retries=0)
    async def blocks(context: goclaw.Context) -> list[str]:
        codes = []
        for call in (lambda: context.memory.retrieve("tea", mode="vector"), engine.memory.vectorized):
            with pytest.raises(goclaw.WouldDeadlock) as refused:
                call()
            codes.append(refused.value.code)
        return codes

    how = Embedding(embed, retry=goclaw.Retry(retries=3, initial="10m", max="10m"))
    with goclaw.Engine(path=tmp_path / "store", embedder=how) as engine:
        run = engine.submit(goclaw.Workflow("w").task("t", blocks), session="ada")
        assert run.result(60) == ["engine.own_loop"] * 2
    assert asked == []
