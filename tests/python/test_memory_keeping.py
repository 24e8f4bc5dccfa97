"""Memory: how it fades, what is kept, and what is gone for good."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import goclaw
import pytest
from goclaw.embedders import Embedding, Hashing


def code_of(call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(goclaw.GoclawError) as caught:
        call(*args, **kwargs)
    return caught.value.code


def test_a_session_forgets_by_its_own_parameters_also_after_a_restart(tmp_path: Path) -> None:
    brief = goclaw.Forgetting("anki", time_scale=24, half_life="2d")
    with goclaw.Memory(tmp_path) as memory:
        usual = memory.memorize("tea", session="usual")
        memory.set_forgetting("brief", brief)
        own = memory.memorize("tea", session="brief")
        assert memory.forgetting("brief") == brief
        assert memory.forgetting("usual") is None
        assert memory.get(own).stability != memory.get(usual).stability
    with goclaw.Memory(tmp_path) as memory:
        assert memory.forgetting("brief") == brief
        assert memory.get(own).stability == memory.get(memory.memorize("milk", session="brief")).stability
        memory.set_forgetting("brief", None)
        assert memory.forgetting("brief") is None
        memory.set_forgetting("brief", brief)
        memory.delete_session("brief")
        assert memory.forgetting("brief") is None
        assert code_of(memory.set_forgetting, "", brief) == "memory.session"
        assert code_of(memory.set_forgetting, "s", "anki") == "config.invalid"


def test_an_engine_forgets_as_it_was_told() -> None:
    slow = goclaw.Forgetting(half_life="365d")
    with goclaw.Memory(forgetting=slow) as memory, goclaw.Memory() as usual:
        one, other = memory.memorize("tea", session="s"), usual.memorize("tea", session="s")
        assert memory.get(one).stability / usual.get(other).stability == pytest.approx(365 / 29.5, rel=0.01)
    with pytest.raises(goclaw.ConfigError):
        goclaw.Engine(forgetting="slow")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"time_scale": 0},
        {"time_scale": float("nan")},
        {"time_scale": "fast"},
        {"half_life": 0},
        {"parameters": [0.5] * 20},
        {"parameters": [0.5] * 20 + [0.9]},
        {"parameters": 7},
        {"parameters": ["a"] * 21},
    ],
)
def test_parameters_outside_of_their_bounds_are_refused(options: dict[str, Any]) -> None:
    assert code_of(goclaw.Forgetting, **options) == "memory.forgetting"


def test_a_preset_is_known_and_its_curve_can_be_asked() -> None:
    agent = goclaw.Forgetting()
    assert agent == goclaw.Forgetting("agent", parameters=None)
    assert agent.strength(0.0) == 1.0
    assert agent.strength(agent.days_until(0.3)) == pytest.approx(0.3)
    assert agent.days_until(0.3, grade="easy") > agent.days_until(0.3) > agent.days_until(0.3, grade="again")
    assert agent.days_until(0.0) == float("inf")
    assert goclaw.Forgetting(parameters=agent.w).days_until(0.3) == agent.days_until(0.3)
    with pytest.raises(goclaw.ConfigError):
        goclaw.Forgetting("elephant")  # type: ignore[arg-type]


def test_what_is_said_twice_is_kept_reviewed_or_refused() -> None:
    with goclaw.Memory(embedder=Hashing(64)) as memory:
        first = memory.memorize("Ada prefers green tea", session="s")
        stable = memory.get(first).stability
        assert memory.memorize("Ada prefers green tea", session="s", duplicates="review") == first
        assert memory.memorize("Ada  prefers green TEA!", session="s", duplicates="review", alike=0.9) == first
        assert memory.get(first).stability >= stable
        assert memory.count("s") == 1
        assert memory.stats().duplicates == 2
        ids = memory.memorize_many(["Ada prefers green tea", "new", "new"], session="s", duplicates="review")
        assert ids[0] == first
        assert ids[1] == ids[2] != first
        with pytest.raises(goclaw.RecallError, match=first) as caught:
            memory.memorize_many(["a new thing", "Ada prefers green tea"], session="s", duplicates="refuse")
        assert caught.value.code == "memory.duplicate"
        assert memory.count("s") == 2, "nothing of that call was memorized"
        assert memory.memorize("Ada prefers green tea", session="t", duplicates="refuse")
        assert memory.memorize("Ada prefers green tea", session="s") != first
        assert code_of(memory.memorize, "x", session="s", duplicates="review", alike=2.0) == "memory.option"
        assert code_of(memory.memorize, "x", session="s", alike="much") == "memory.option"
        with pytest.raises(goclaw.ConfigError):
            memory.memorize("x", session="s", duplicates="maybe")  # type: ignore[arg-type]


def test_a_sweep_is_bounded_counted_and_spares_the_pinned() -> None:
    with goclaw.Engine() as engine:
        memory = engine.memory
        for session in ("a", "b"):
            memory.memorize_many([f"fact {n}" for n in range(5)], session=session)
            memory.memorize("pinned", session=session, pinned=True)
        # Everything is weaker than 1 from the millisecond after it was memorized on.
        while (would := memory.sweep(below=1.0, dry_run=True)).forgotten < 10:
            pass
        assert (would.forgotten, would.sessions, would.more) == (10, 2, False)
        assert memory.count() == 12
        assert memory.sweep(below=1.0, grace="1h").forgotten == 0
        swept = memory.sweep(below=1.0, limit=7)
        assert (swept.forgotten, swept.more) == (7, True)
        assert asyncio.run(memory.asweep(below=1.0)).forgotten == 3
        assert {entry.content for name in ("a", "b") for entry in memory.list(name)} == {"pinned"}
        stats = memory.stats()
        assert (stats.sweeps, stats.swept) == (3, 10)
        memory.review(memory.recent("a", 1)[0].id, "good")
        memory.delete_session("b")
        counted = engine.stats()
        assert counted["goclaw_memories_written_total"] == 12
        assert counted["goclaw_memories_forgotten_total"] == 10
        assert counted["goclaw_memories_reviewed_total"] == 1
        assert counted["goclaw_memory_sessions_deleted_total"] == 1
        assert counted["goclaw_memory_sweeps_total"] == 3
        assert code_of(memory.sweep, below=1.5) == "memory.threshold"
        assert code_of(memory.sweep, below="weak") == "memory.threshold"


@goclaw.agent(retries=0)
def uses_memory(fails: bool, ctx: goclaw.Context) -> str:
    used, other = ctx.memory.retrieve("tea", top_k=2)
    ctx.memory.feedback(used.entry.id, "useful")
    if fails:
        raise ValueError("no luck")
    return used.entry.id + " " + other.entry.id


@goclaw.workflow
def recalling(fails: bool) -> str:
    return uses_memory(fails)


def test_what_a_task_used_is_graded_when_it_completes_and_not_when_it_fails() -> None:
    with goclaw.Engine() as engine:
        engine.memory.memorize_many(["green tea", "black tea"], session="ada")
        before = {entry.id: entry for entry in engine.memory.list("ada")}
        with pytest.raises(goclaw.TaskFailed):
            engine.submit(recalling, {"fails": True}, session="ada").result()
        assert [entry.stability for entry in engine.memory.list("ada")] == [it.stability for it in before.values()]
        used, other = engine.submit(recalling, {"fails": False}, session="ada").result().split()
        assert engine.memory.get(used).stability > before[used].stability
        assert engine.memory.get(other).stability == before[other].stability, "what was only found is not graded"


def times(path: Path, needle: bytes) -> int:
    return sum(file.read_bytes().count(needle) for file in path.rglob("*") if file.is_file())


def test_what_was_deleted_is_gone_from_the_disk_after_compacting(tmp_path: Path) -> None:
    secret = "the-gate-code-is-4711"
    with goclaw.Memory(tmp_path, embedder=Hashing(32)) as memory:
        memory.memorize_many([f"{secret} {n}" for n in range(50)], session="patient-zero")
        kept = memory.memorize("tea", session="ada")
        assert memory.delete_session("patient-zero") == 50
        with pytest.raises(goclaw.StoreLocked):
            goclaw.compact(tmp_path)
    assert times(tmp_path, secret.encode()) > 0
    done = goclaw.compact(tmp_path)
    assert done.after < done.before
    assert times(tmp_path, secret.encode()) == 0
    assert times(tmp_path, b"patient-zero") == 0
    with goclaw.Memory(tmp_path, embedder=Hashing(32)) as memory:
        assert [hit.entry.id for hit in memory.retrieve("tea", session="ada")] == [kept]
        assert memory.sessions() == {"ada": 1}
    with pytest.raises(goclaw.StoreError) as caught:
        goclaw.compact(tmp_path / "nothing")
    assert caught.value.code == "store.missing"
    assert not (tmp_path / "nothing").exists()


def test_an_export_carries_how_a_session_forgets(tmp_path: Path) -> None:
    brief, own = goclaw.Forgetting(time_scale=24), goclaw.Forgetting("anki", half_life="7d")
    with goclaw.Memory() as memory:
        for session, forgetting in {"brief": brief, "own": own, "usual": None}.items():
            memory.memorize_many(["tea", "milk"], session=session)
            memory.set_forgetting(session, forgetting)
        memory.set_forgetting("silent", brief)
        lines = list(memory.export())
        assert len(lines) == 2 * 3 + 3, "also of a session that remembers nothing"
        one = list(memory.export("brief"))
        assert len(one) == 3
    with goclaw.Memory(tmp_path) as memory:
        memory.set_forgetting("usual", brief)
        assert memory.import_(lines) == 6
        assert (memory.forgetting("brief"), memory.forgetting("own")) == (brief, own)
        assert memory.forgetting("silent") == brief
        assert memory.forgetting("usual") == brief, "a line says nothing of what was not set"
        assert sorted(memory.export()) == sorted([*lines, *list(memory.export("usual"))[:1]])
        broken = one[0].replace('"time_scale":24', '"time_scale":-1')
        for wrong, code in {one[0].replace('"brief"', '""'): "memory.session", broken: "memory.forgetting"}.items():
            with pytest.raises(goclaw.RecallError, match="line 1") as caught:
                memory.import_([wrong])
            assert caught.value.code == code
    with goclaw.Memory(tmp_path) as memory:
        assert memory.forgetting("brief") == brief


def test_an_import_does_not_mix_the_vectors_of_two_models(tmp_path: Path) -> None:
    other = Embedding(Hashing(16), name="another")
    with goclaw.Memory(embedder=Hashing(16)) as memory:
        memory.memorize("tea", session="s")
        memory.memorize("milk", session="s")
        lines = list(memory.export())
    with goclaw.Memory(tmp_path / "other", embedder=other) as memory:
        with pytest.raises(goclaw.RecallError, match="line 1") as caught:
            memory.import_(lines)
        assert caught.value.code == "memory.model"
        assert "reembed" in caught.value.help
        assert memory.count() == 0
        memory.memorize("tea", session="s")
    with goclaw.Memory(tmp_path / "bare") as memory:
        assert memory.import_(lines) == 2
        assert memory.stats().embedder == Hashing(16).name
        assert memory.reembed(other).result("60s") == 0
        assert memory.stats().embedder == "another"


API = """
memorize memorize_many retrieve recent get list count stats review feedback forget delete_session sessions export
import_ sweep forgetting set_forgetting close
""".split()  # noqa: SIM905
ASYNC = """
amemorize amemorize_many aretrieve arecent aget alist areview afeedback aforget adelete_session asweep aclose
""".split()  # noqa: SIM905
BOUND = "memorize memorize_many retrieve recent get list count review feedback forget session".split()  # noqa: SIM905
BOUND_ASYNC = "amemorize amemorize_many aretrieve arecent alist aforget aget areview afeedback".split()  # noqa: SIM905


def test_every_promised_name_is_there_and_async_ones_are_async() -> None:
    assert [name for name in [*API, *ASYNC] if not hasattr(goclaw.Memory, name)] == []
    assert [name for name in [*BOUND, *BOUND_ASYNC] if not hasattr(goclaw.SessionMemory, name)] == []
    for kind, names in ((goclaw.Memory, ASYNC), (goclaw.SessionMemory, BOUND_ASYNC)):
        assert [name for name in names if not asyncio.iscoroutinefunction(getattr(kind, name))] == []


def test_the_async_twins_do_what_the_others_do() -> None:
    async def main() -> None:
        async with goclaw.Memory() as memory:
            id = await memory.amemorize("tea", session="s")
            assert (await memory.aget(id)).content == "tea"
            assert [entry.id for entry in await memory.alist("s")] == [id]
            await memory.areview(id, "good", session="s")
            await memory.afeedback([id], "useful")
            assert (await memory.aforget("s", ids=[id])).ids == (id,)
            await memory.amemorize("milk", session="s")
            assert await memory.adelete_session("s") == 1

    asyncio.run(main())


SWEEPER = """
    import sys, goclaw
    memory = goclaw.Memory(sys.argv[1])
    while memory.sweep(below=1.0, limit=300).forgotten:
        print(memory.count(), flush=True)
"""


@pytest.mark.parametrize("batches", [1, 4])
def test_kill_9_during_a_sweep_loses_nothing_that_was_to_stay(batches: int, tmp_path: Path) -> None:
    with goclaw.Memory(tmp_path) as memory:
        memory.memorize_many([f"fact {n}" for n in range(6_000)], session="s")
        kept = memory.memorize_many([f"kept {n}" for n in range(20)], session="s", pinned=True)
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SWEEPER), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    left = 0
    for _ in range(batches):
        left = int(child.stdout.readline())
    os.kill(child.pid, signal.SIGKILL)
    child.stdout.close()
    child.wait()
    with goclaw.Memory(tmp_path) as memory:
        count = memory.count("s")
        assert 20 <= count <= left, "what was forgotten stays forgotten"
        entries = memory.list("s", limit=10_000)
        assert len(entries) == count
        assert [entry.id for entry in entries if entry.pinned] == kept
        assert {hit.entry.id for hit in memory.retrieve("kept", session="s", top_k=100)} == set(kept)
        assert memory.sweep(below=1.0).forgotten == count - 20
