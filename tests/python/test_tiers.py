"""Cold tiers through public names: what moved is as before, and what is down is told."""

import asyncio
import json
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import goclaw
import pytest
from goclaw import tiers
from goclaw.embedders import Hashing

FACTS = [f"fact {n} of tea and boats" for n in range(30)]


def opened(root: Path, **options: Any) -> goclaw.Memory:
    cold = options.pop("cold", None) or tiers.Files(root / "cold")
    return goclaw.Memory(root / "store", embedder=Hashing(64), cold=cold, **options)


def test_what_moved_is_found_fetched_and_brought_back(tmp_path: Path) -> None:
    with opened(tmp_path) as memory:
        ids = memory.memorize_many(FACTS, session="ada", metadata=[{"n": n} for n in range(30)])
        memory.memorize("fact of tea and boats of Bob", session="bob")
        before = [hit.entry.id for hit in memory.retrieve("tea", session="ada", top_k=99, mode="vector")]
        would = memory.move_cold("ada", keep_max=10, dry_run=True)
        assert (len(would), would.left, memory.stats().cold) == (20, 0, goclaw.ColdStats("files", 0, 0, 0, 0, None))
        moved = memory.move_cold("ada", keep_max=10, limit=15)
        assert (len(moved), moved.left, moved.bytes) == (15, 5, sum(len(fact) for fact in FACTS[:15]))
        assert moved.ids == tuple(ids[:15])
        hits = memory.retrieve("tea", session="ada", top_k=99, mode="vector")
        assert sorted(hit.entry.id for hit in hits) == sorted(before)
        assert {hit.entry.tier for hit in hits} == {None, "files"}
        assert all(hit.entry.content in FACTS and hit.entry.vector for hit in hits)
        assert [hit.entry.metadata["n"] for hit in memory.retrieve("tea", session="ada", filter={"n": 3})] == [3]
        assert len(memory.retrieve("tea", session="ada", top_k=99, tiers="hot")) == 15
        assert len(memory.retrieve("tea", session="ada", top_k=99, tiers="cold")) == 15
        assert [entry.content for entry in memory.list("ada", limit=99)] == FACTS
        assert memory.get(ids[0]).content == FACTS[0]
        assert memory.count("ada") == 30
    with opened(tmp_path) as memory:
        memory.feedback(ids[0], "used")
        assert memory.bring_back("ada", [ids[0], ids[20]]) == 1
        assert memory.get(ids[0]).tier is None
        assert memory.move_cold(keep_max=0).ids == tuple(ids[15:] + ids[:1]) + tuple(
            entry.id for entry in memory.list("bob")
        )
        memory.forget("ada", ids=ids[:5])
        assert memory.delete_session("bob") == 1
        memory.settle_cold()
        cold = memory.stats().cold
        assert cold is not None
        assert (cold.entries, cold.pending, cold.errors) == (25, 0, 0)
        memory.check_cold()


def test_a_tier_without_its_options_is_refused(tmp_path: Path) -> None:
    for options in ({"cold": tiers.Files(tmp_path)}, {"move": tiers.Move(below=0.5)}):
        with pytest.raises(goclaw.ConfigError) as refused:
            goclaw.Memory(**options)
        assert refused.value.code == "config.contradiction"
    with pytest.raises(goclaw.ConfigError):
        tiers.Move()
    with pytest.raises(goclaw.ConfigError, match="from 0 to 1"):
        tiers.Move(below=3)
    with pytest.raises(goclaw.ConfigError):
        goclaw.Memory(tmp_path / "x", cold="qdrant")  # type: ignore[arg-type]
    with goclaw.Memory(tmp_path / "store") as memory:
        memory.memorize("tea", session="a")
        assert memory.stats().cold is None
        for call in (
            lambda: memory.move_cold("a", below=0.5),
            lambda: memory.bring_back("a", []),
            memory.check_cold,
            lambda: memory.retrieve(vector=[1.0], session="a", tiers="cold"),
        ):
            with pytest.raises(goclaw.RecallError) as error:
                call()
            assert error.value.code == "memory.tier"
    with opened(tmp_path) as memory:
        with pytest.raises(goclaw.RecallError) as error:
            memory.move_cold("a")
        assert error.value.code == "memory.threshold"
        with pytest.raises(goclaw.RecallError) as error:
            memory.retrieve("tea", session="a", tiers="cold", mode="text")
        assert error.value.code == "memory.query"
        with pytest.raises(ValueError):
            memory.retrieve("tea", session="a", tiers="warm")  # type: ignore[arg-type]


def test_a_directory_of_cold_memories_is_one_stores_own(tmp_path: Path) -> None:
    cold = tiers.Files(tmp_path / "cold")
    with goclaw.Memory(tmp_path / "first", cold=cold) as memory:
        tea = memory.memorize("Ada prefers tea", session="ada", vector=[0.6, 0.8])
        memory.move_cold("ada", keep_max=0)
    with pytest.raises(goclaw.RecallError) as refused:
        goclaw.Memory(tmp_path / "second", cold=cold)
    assert refused.value.code == "memory.tier_owner"
    assert str(tmp_path / "first") in str(refused.value) and str(tmp_path / "second") in str(refused.value)
    assert "of its own" in refused.value.help
    with goclaw.Memory(tmp_path / "second", cold=tiers.Files(tmp_path / "other")) as memory:
        memory.memorize("Ada prefers milk", session="ada", vector=[0.6, 0.8])
        assert len(memory.move_cold("ada", keep_max=0)) == 1
    with goclaw.Memory(tmp_path / "first", cold=cold) as memory:
        assert memory.get(tea).content == "Ada prefers tea"


def test_a_collection_is_one_stores_own(tmp_path: Path) -> None:
    with qdrant() as (kind, url):
        cold = tiers.Qdrant(url, api_key="s3cret", timeout="30s")
        with opened(tmp_path / "first", cold=cold) as memory:
            memory.memorize_many(FACTS, session="ada")
            memory.move_cold("ada", keep_max=20)
        kept = dict(kind.points)
        with opened(tmp_path / "second", cold=cold) as memory:
            memory.memorize_many(FACTS, session="ada")
            for call in (lambda: memory.move_cold("ada", keep_max=0), memory.check_cold):
                with pytest.raises(goclaw.RecallError) as refused:
                    call()
                assert refused.value.code == "memory.tier_owner"
            cold_stats = memory.stats().cold
            assert cold_stats is not None and "belongs to" in str(cold_stats.last_error)
            assert memory.delete_session("ada") == 30
            assert memory.settle_cold() == 0
        assert kind.points == kept


def test_a_search_warns_of_what_the_tier_has_lost(tmp_path: Path) -> None:
    with opened(tmp_path) as memory:
        memory.memorize_many(FACTS, session="ada")
        memory.move_cold("ada", keep_max=10)
    (log,) = [file for file in (tmp_path / "cold").glob("*.cold") if b"tea and boats" in file.read_bytes()]
    log.unlink()
    with opened(tmp_path) as memory:
        with pytest.warns(RuntimeWarning, match="lacks 20 memories of session `ada`"):
            assert len(memory.retrieve("tea", session="ada", top_k=99)) == 10
        with pytest.raises(goclaw.RecallError) as refused:
            memory.list("ada", limit=99)
        assert refused.value.code == "memory.tier"


class Qdrant(BaseHTTPRequestHandler):
    """As much of Qdrant as one put, one look and one search need; `down` answers 503 to all of it."""

    protocol_version = "HTTP/1.1"
    points: ClassVar[dict[str, Any]] = {}
    made = False
    down = False

    def log_message(self, *_: object) -> None: ...

    def _answer(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or "null")
        kind, path = type(self), self.path.split("?")[0].removeprefix("/collections/goclaw")
        status = 200
        result: Any = None
        if kind.down or self.headers["api-key"] != "s3cret":
            status = 503 if kind.down else 401
        elif path == "" and self.command == "PUT":
            kind.made = True
        elif not kind.made:
            status = 404
        elif path == "":
            result = {"config": {"params": {"vectors": {"size": 64, "distance": "Cosine"}}}}
        elif path == "/points" and self.command == "PUT":
            kind.points.update({point["id"]: point for point in body["points"]})
        elif path == "/points":
            result = [kind.points[id] for id in body["ids"] if id in kind.points]
        elif path == "/points/query":
            session = body["filter"]["must"][0]["match"]["value"]
            own = [it for it in kind.points.values() if it["payload"]["session_key"] == session]

            def score(it: Any) -> float:
                return float(sum(a * b for a, b in zip(it["vector"], body["query"], strict=True)))

            found = sorted(({**it, "score": score(it)} for it in own), key=score, reverse=True)
            result = {"points": found[: body["limit"]]}
        elif path == "/points/count":
            session = body["filter"]["must"][0]["match"]["value"]
            result = {"count": sum(it["payload"]["session_key"] == session for it in kind.points.values())}
        elif path == "/points/delete":
            for id in body["points"]:
                kind.points.pop(id, None)
        said = json.dumps({"result": result}).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_GET = do_PUT = do_POST = _answer


@contextmanager
def qdrant() -> Iterator[tuple[type[Qdrant], str]]:
    kind = type("Own", (Qdrant,), {"points": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield kind, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_database_that_is_down_is_told_and_catches_up(tmp_path: Path) -> None:
    with qdrant() as (kind, url):
        cold = tiers.Qdrant(url, api_key="s3cret", timeout="1ms")
        assert "s3cret" not in repr(cold)
        # A millisecond is for the retries below; a busy machine needs longer for an answer.
        with opened(tmp_path, cold=tiers.Qdrant(url, api_key="s3cret", timeout="30s")) as memory:
            ids = memory.memorize_many(FACTS, session="ada")
            assert len(memory.move_cold("ada", keep_max=20)) == 10
            # Beside the memories the claim of the store.
            assert sorted(point["payload"]["session"] for point in kind.points.values()) == ["", "", *["ada"] * 10]
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                assert len(memory.retrieve("tea", session="ada", top_k=99)) == 30
        with opened(tmp_path, cold=cold) as memory:
            kind.down = True
            with pytest.warns(RuntimeWarning, match="without all of the cold tier"):
                assert len(memory.retrieve("tea", session="ada", top_k=99)) == 20
            for call in (lambda: memory.retrieve("tea", session="ada", tiers="cold"), lambda: memory.get(ids[0])):
                with pytest.raises(goclaw.RecallError) as error:
                    call()
                assert error.value.code == "memory.tier"
                assert "s3cret" not in str(error.value)
            assert len(memory.forget("ada", ids=ids[:3])) == 3
            with pytest.raises(goclaw.RecallError):
                memory.settle_cold()
            stats = memory.stats().cold
            assert stats is not None
            assert (stats.entries, stats.pending) == (7, 3)
            assert stats.errors >= 3 and stats.last_error is not None and "s3cret" not in stats.last_error
        kind.down = False
        with opened(tmp_path, cold=tiers.Qdrant(url, api_key="s3cret", timeout="30s")) as memory:
            memory.settle_cold()
            assert len(kind.points) == 2 + 7
            assert len(memory.retrieve("tea", session="ada", top_k=99)) == 27


def test_agents_search_over_both_tiers(tmp_path: Path) -> None:
    @goclaw.agent
    def recall(question: str, ctx: goclaw.Context) -> list[str]:
        return [hit.entry.content for hit in ctx.memory.retrieve(question, top_k=99)]

    @goclaw.workflow
    def ask(question: str) -> list[str]:
        return recall(question)

    with goclaw.Engine(tmp_path / "store", embedder=Hashing(64), cold=tiers.Files(tmp_path / "cold")) as engine:
        engine.memory.memorize_many(FACTS, session="ada")
        engine.memory.move_cold("ada", keep_max=5)
        assert sorted(engine.run(ask, {"question": "tea"}, session="ada")) == sorted(FACTS)
        assert engine.run(ask, {"question": "tea"}, session="bob") == []


def test_the_waiting_verbs_have_twins(tmp_path: Path) -> None:
    async def use() -> None:
        async with opened(tmp_path, move=tiers.Move(keep_max=3)) as memory:
            ids = await memory.amemorize_many(FACTS, session="ada")
            moved = await memory.amove_cold("ada")
            assert len(moved) == 27
            assert await memory.abring_back("ada", ids[0]) == 1
            assert len(await memory.aretrieve("tea", session="ada", top_k=99)) == 30

    asyncio.run(use())
