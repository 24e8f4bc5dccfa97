"""kill -9 while an agent memorizes, forgets, sweeps, and while indexes are written: a ledger of its own.

The child tells what it is about to do and what was acknowledged; the driver keeps the books and kills it, in turns
at a random moment and in the middle of what it aims at. In its next life the child lists everything, searches for
words that only one memory has, and holds searches by vector against all vectors. What was acknowledged must be there,
what was forgotten must not, and of the one operation that was under way all or nothing (of a sweep over all sessions,
which is many commits, a part).
"""

from __future__ import annotations

import heapq
import json
import math
import os
import random
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .driver import Life

SESSIONS = ("ada", "ada:b", "bob")
BATCH = 400
SWEPT = 50
SWEPT_EVERYWHERE = 2_500
"""Of a sweep over all sessions, which commits every 1,000."""
AIMS = ("sweep everywhere", "delete", "index", "sweep", None)
"""What is under way when a life ends, in turns; `None`: whatever it is."""
AIMED_S = 20.0
"""A life that does not come to its aim within this ends at a random moment."""
OPEN_S = 120.0
LOOKED_UP = 40
"""Memories that are searched for in each life."""

Book = dict[str, dict[str, str | None]]
"""Session, id, and the word that only this memory has; `None` where the driver never heard it."""


def _child(store: str, pipe: int, seed: int) -> None:
    import goclaw

    def tell(*line: Any) -> None:
        data = memoryview(json.dumps(line).encode() + b"\n")
        while data:
            data = data[os.write(pipe, data) :]

    dice = random.Random(seed)
    order = json.loads(sys.stdin.readline())
    memory = goclaw.Memory(store)
    known: dict[str, list[str]] = {session: [] for session in SESSIONS}
    rows: dict[str, dict[str, list[float]]] = {session: {} for session in SESSIONS}
    for session in memory.sessions():
        after = None
        while page := memory.list(session, limit=1_000, after=after):
            known[session].extend(entry.id for entry in page)
            rows[session].update((entry.id, list(entry.vector or ())) for entry in page)
            after = page[-1].id
    found = []
    for session, word in order["words"]:
        hits = memory.retrieve(word, session=session, mode="text", top_k=3)
        found.append([session, word, [hit.entry.id for hit in hits]])
    for session in SESSIONS:
        asked = [dice.uniform(-1, 1) for _ in range(16)]
        near = memory.retrieve(session=session, vector=asked, top_k=5, mode="vector") if known[session] else []
        cosines = {id: _cosine(asked, row) for id, row in rows[session].items()}
        wanted = heapq.nlargest(5, cosines, key=cosines.__getitem__)
        pairs = zip((cosines.get(hit.entry.id, -2.0) for hit in near), wanted, strict=False)
        # Two that are as near as rounding can tell may stand in any order.
        if len(near) != len(wanted) or any(abs(one - cosines[id]) > 1e-5 for one, id in pairs):
            tell("stray", session, wanted, [hit.entry.id for hit in near])
    rows.clear()
    stats = memory.stats()
    tell("opened", known, found, [stats.indexes_loaded, stats.indexes_rebuilt])
    if not order["load"]:
        memory.close()
        return
    aim = order["aim"]
    while True:
        session = dice.choice(SESSIONS)
        own = known[session]
        roll = dice.randrange(40)
        if aim == "index" and roll < 7:
            roll = 40
        elif own and dice.random() < 0.1:
            roll = {"delete": 0, "sweep": 5, "sweep everywhere": 9}.get(aim, roll)
        match roll:
            case 0:
                tell("begin", "delete", session)
                memory.delete_session(session)
                own.clear()
                tell("done", [])
            case 1 | 2 | 3 | 4 if own:
                gone = dice.sample(own, min(len(own), dice.randrange(1, 30)))
                tell("begin", "forget", session, gone)
                memory.forget(session, ids=gone)
                known[session] = [id for id in own if id not in set(gone)]
                tell("done", [])
            case 5 | 6 if own:
                tell("begin", "sweep", session)
                ids = memory.forget(session, below=1.0, limit=SWEPT).ids
                known[session] = [id for id in own if id not in set(ids)]
                tell("done", list(ids))
            case 9 if aim == "sweep everywhere":
                tell("begin", "sweep everywhere", session)
                memory.sweep(below=1.0, limit=SWEPT_EVERYWHERE)
                there = {name: _ids(memory, name) for name in SESSIONS}
                gone = [id for name in SESSIONS for id in known[name] if id not in there[name]]
                known = {name: [id for id in known[name] if id in there[name]] for name in SESSIONS}
                tell("done", gone)
            case 7 | 8 if own:
                memory.feedback(dice.choice(own), "used")
            case _:
                words = [f"w{dice.getrandbits(60):x}q" for _ in range(dice.randrange(1, BATCH))]
                tell("begin", "put", session, words)
                texts = [f"{word} tea with milk number {number}" for number, word in enumerate(words)]
                vectors = [[dice.uniform(-1, 1) for _ in range(16)] for _ in words]
                ids = memory.memorize_many(texts, session=session, vectors=vectors)
                own.extend(ids)
                tell("done", ids)


def _cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / math.sqrt(sum(b * b for b in other))


def _ids(memory: Any, session: str) -> set[str]:
    ids: set[str] = set()
    after = None
    while page := memory.list(session, limit=1_000, after=after):
        ids.update(entry.id for entry in page)
        after = page[-1].id
    return ids


@dataclass
class MemoryDriver:
    """A number of lives on one store."""

    folder: Path
    seed: int
    kills: int = 0
    acknowledged: int = 0
    searched: int = 0
    indexes: list[int] = field(default_factory=lambda: [0, 0])
    hits: dict[str, int] = field(default_factory=dict)
    """Kills in the middle of what was aimed at."""
    violations: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.book: Book = {session: {} for session in SESSIONS}
        self.under_way: list[Any] | None = None
        self.opened = threading.Event()
        self.aim: str | None = None
        self.aimed = threading.Event()

    def _broken(self, what: str) -> None:
        self.violations.append(f"life {self.kills}: {what}")

    def take(self, line: bytes) -> None:
        """Books a line of the child; one that was cut by a kill says nothing."""
        try:
            kind, *rest = json.loads(line)
        except ValueError:
            return
        if kind == "begin":
            self.under_way = rest
            if rest[0] == self.aim:
                self.aimed.set()
        elif kind == "done":
            self._book(rest[0])
            self.acknowledged += 1
        elif kind == "stray":
            self._broken(f"a search by vector in {rest[0]} found {rest[2]}, and the nearest are {rest[1]}")
        elif kind == "opened":
            self._compare(*rest)
            self.opened.set()

    def _book(self, ids: list[str]) -> None:
        assert self.under_way is not None
        what, session, *rest = self.under_way
        own = self.book[session]
        if what == "put":
            own.update(zip(ids, rest[0], strict=True))
        elif what == "delete":
            own.clear()
        elif what == "sweep everywhere":
            for all_of in self.book.values():
                for id in ids:
                    all_of.pop(id, None)
        else:
            for id in rest[0] if what == "forget" else ids:
                own.pop(id, None)
        self.under_way = None

    def _compare(self, known: dict[str, list[str]], found: list[Any], indexes: list[int]) -> None:
        swept = 0
        for session, own in self.book.items():
            there = set(known.get(session, []))
            lost, more = set(own) - there, there - set(own)
            what, of, *rest = self.under_way or [None, None]
            if what == "sweep everywhere":
                swept += len(lost)
                allowed = not more and swept <= SWEPT_EVERYWHERE
            elif of != session:
                allowed = not lost and not more
            elif what == "put":
                allowed = not lost and len(more) in (0, len(rest[0]))
            elif what == "delete":
                allowed = not more and len(lost) in (0, len(own))
            elif what == "forget":
                allowed = not more and lost in (set(), set(rest[0]) & set(own))
            else:
                allowed = not more and len(lost) <= SWEPT
            if not allowed:
                self._broken(f"{session} lost {len(lost)} and has {len(more)} more; under way: {what} of {of}")
            self.book[session] = {id: own.get(id) for id in there}
        self.under_way = None
        for session, word, ids in found:
            wanted = [id for id, own_word in self.book[session].items() if own_word == word]
            self.searched += 1
            if ids != wanted:
                self._broken(f"a search for {word} in {session} found {ids}, not {wanted}")
        self.indexes = [a + b for a, b in zip(self.indexes, indexes, strict=True)]

    def _start(self, *, load: bool) -> Life:
        words = [(session, word) for session, own in self.book.items() for word in own.values() if word]
        self.aim = AIMS[self.kills % len(AIMS)] if load else None
        order = {"words": self.dice.sample(words, min(len(words), LOOKED_UP)), "load": load, "aim": self.aim}
        self.opened.clear()
        self.aimed.clear()
        return Life(self.folder / "store", self.dice.getrandbits(32), order, self.take, module="tests.crash.memory")

    def one_life(self) -> None:
        """A child under load until a random moment, or one in the middle of what is aimed at."""
        life = self._start(load=True)
        if self.aim is not None and self._comes_to_its_aim():
            # Some way into it: what is written first, and what comes after.
            time.sleep(self.dice.choice([0.0, 0.0005, 0.002, 0.008]))
        elif self.dice.random() > 0.2:
            if not self.opened.wait(OPEN_S):
                self._broken(f"the store did not open within {OPEN_S} s")
            time.sleep(self.dice.expovariate(1.0) + 0.05)
        else:
            time.sleep(self.dice.uniform(0.1, 0.9))
        self.kills += 1
        code = life.end(lambda: life.process.send_signal(signal.SIGKILL))
        was_in = bool(self._half_written()) if self.aim == "index" else (self.under_way or [None])[0] == self.aim
        if self.aim is not None and was_in:
            self.hits[self.aim] = self.hits.get(self.aim, 0) + 1
        if code != -signal.SIGKILL:
            self._broken(f"the child ended by itself with {code}")

    def _comes_to_its_aim(self) -> bool:
        if not self.opened.wait(OPEN_S):
            return False
        if self.aim != "index":
            return self.aimed.wait(AIMED_S)
        until = time.monotonic() + AIMED_S
        # Without a pause: the file is there for some milliseconds.
        while time.monotonic() < until:
            if self._half_written():
                return True
        return False

    def _half_written(self) -> list[Path]:
        """Files of indexes that have their temporary name."""
        return list((self.folder / "store" / "indexes").glob("*.tmp"))

    def last_life(self) -> None:
        """A child that only looks."""
        code = self._start(load=False).end(lambda: None, OPEN_S)
        if code != 0 or not self.opened.is_set():
            self._broken(f"the last child ended with {code}")

    def report(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "kills": self.kills,
            "kills_in_the_middle_of": self.hits,
            "operations_acknowledged": self.acknowledged,
            "memories_at_the_end": sum(len(own) for own in self.book.values()),
            "searches_checked": self.searched,
            "indexes_loaded": self.indexes[0],
            "indexes_rebuilt": self.indexes[1],
            "violations": self.violations,
        }


if __name__ == "__main__":
    _child(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
