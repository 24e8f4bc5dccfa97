"""Memory beside its peers: filling a store, one more entry, finding it, opening again, asking."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..harness import Figures, Scenario, Setting

if TYPE_CHECKING:
    from ..memory.collections import Collection
    from ..memory.peers import Peer

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = (
    *("p99", "cpu_p50", "cpu_p99", "found", "open_s", "grown_mb", "own_mb"),
    *("fill_rate", "insert_ms", "visible_ms", "churn_ms"),
)
BATCH = 5_000
SINGLE = 100
CHURNS, CHURNED = 10, 100
GOCLAW = "goclaw"
PEERS = {
    "SQLite FTS5 + sqlite-vec": ("apsw", "sqlite_vec"),
    "LanceDB": ("lancedb",),
    "Chroma": ("chromadb",),
    "tantivy": ("tantivy",),
}
NOTES = {"Chroma": "vectors only", "tantivy": "words only"}


def _measure(name: str, count: int) -> Callable[[Setting], Figures]:
    def measure(setting: Setting) -> Figures:
        from ..memory.collections import made_up
        from ..memory.peers import PEERS as OPENED

        size = setting.scaled(count)
        # One text more than are filled in, for each that is added alone.
        more = made_up(size + SINGLE, 1)
        assert more.vectors is not None
        peer = OPENED[name][0](setting.folder)
        began = time.perf_counter()
        for at in range(0, size, BATCH):
            part = slice(at, min(at + BATCH, size))
            peer.add(at, more.documents[part], more.vectors[part])
        figures: Figures = {"fill_rate": size / (time.perf_counter() - began)}
        peer.settle()
        inserts, visible = [], []
        mode = peer.modes[-1]
        peer.search(mode, more.documents[0][:60], more.vectors[0])
        for number in range(size, size + SINGLE):
            text, row = f"unique{number} {more.documents[number]}", more.vectors[number]
            began = time.perf_counter()
            peer.add(number, [text], row[None, :])
            inserts.append(time.perf_counter() - began)
            found = peer.search(mode, f"unique{number}", row)
            visible.append(time.perf_counter() - began)
            assert number in found, f"{name} does not find what was just added"
        figures["churn_ms"] = statistics.median(_churns(peer, more)) * 1e3
        peer.close()
        figures["insert_ms"] = statistics.median(inserts) * 1e3
        figures["visible_ms"] = statistics.median(visible) * 1e3
        command = [sys.executable, "-m", "benches.memory.reader", name, str(setting.folder), str(size + SINGLE)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        figures |= json.loads(done.stdout.strip().splitlines()[-1])
        return figures

    return measure


def _churns(peer: Peer, more: Collection) -> list[float]:
    """Seconds in which a hundred documents are deleted and added again, and one of them is found."""
    seconds = []
    assert more.vectors is not None
    for at in range(0, CHURNS * CHURNED, CHURNED):
        part = slice(at, at + CHURNED)
        began = time.perf_counter()
        peer.remove(at, CHURNED)
        peer.add(at, more.documents[part], more.vectors[part])
        found = peer.search(peer.modes[-1], more.documents[at], more.vectors[at])
        seconds.append(time.perf_counter() - began)
        assert at in found, f"{peer} does not find what was added again"
    return seconds


def _scenario(name: str, count: int) -> Scenario:
    scenario = Scenario(
        name,
        f"Memory: {count:,} entries of 60 words and 384 numbers; hybrid questions of 8 words after opening again",
        figure="p50",
        unit="ms",
        higher_is_better=False,
        columns=COLUMNS,
        rounds=3 if count <= 10_000 else 1,
    )
    scenario.contender(GOCLAW, needs=("numpy",))(_measure(GOCLAW, count))
    for peer, needs in PEERS.items():
        register = scenario.contender(peer, needs=("numpy", *needs), against=GOCLAW, note=NOTES.get(peer, ""))
        register(_measure(peer, count))

    @scenario.target("hybrid: P50 at most 4 ms and P99 at most 12 ms of processor time")
    def _quick(median: Callable[[str, str], float]) -> bool:
        return median(GOCLAW, "cpu_p50") <= 4 and median(GOCLAW, "cpu_p99") <= 12

    @scenario.target("memorize, with a sync: P50 at most 1.5 ms")
    def _durable(median: Callable[[str, str], float]) -> bool:
        return median(GOCLAW, "insert_ms") <= 1.5

    @scenario.target("durable batches: at least 40,000 entries a second")
    def _filled(median: Callable[[str, str], float]) -> bool:
        return median(GOCLAW, "fill_rate") >= 40_000

    @scenario.target("open and first question: at most 0.3 s")
    def _opened(median: Callable[[str, str], float]) -> bool:
        return median(GOCLAW, "open_s") <= 0.3

    @scenario.target("at most 150 MB more than the vectors take as halves")
    def _light(median: Callable[[str, str], float]) -> bool:
        return median(GOCLAW, "grown_mb") <= 150 + count * 384 * 2 / 1e6

    @scenario.target("ahead of every peer that does both, in hybrid questions and from writing to finding")
    def _ahead(median: Callable[[str, str], float]) -> bool:
        both = [peer for peer in PEERS if peer not in NOTES]
        return all(median(GOCLAW, key) <= median(peer, key) for peer in both for key in ("p50", "visible_ms"))

    return scenario


REMEMBER_10K = _scenario("remember-10k", 10_000)
REMEMBER_100K = _scenario("remember-100k", 100_000)
