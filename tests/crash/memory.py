"""kill -9 while an agent memorizes, forgets, sweeps, and while indexes are written: a ledger of its own.

The child tells what it is about to do and what was acknowledged; the driver keeps the books and kills it. In
its next life the child lists everything and searches for words that only one memory has. What was
acknowledged must be there, what was forgotten must not, and of the one operation that was under way all or nothing.
"""

from __future__ import annotations

import json
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
    for session in memory.sessions():
        after = None
        while page := memory.list(session, limit=1_000, after=after):
            known[session].extend(entry.id for entry in page)
            after = page[-1].id
    found = []
    for session, word in order["words"]:
        hits = memory.retrieve(word, session=session, mode="text", top_k=3)
        found.append([session, word, [hit.entry.id for hit in hits]])
    rows = [0.0] * 16
    for session in SESSIONS:
        rows = [dice.uniform(-1, 1) for _ in rows]
        near = memory.retrieve(session=session, vector=rows, top_k=5, mode="vector") if known[session] else []
        if not {hit.entry.id for hit in near} <= set(known[session]):
            tell("stray", session)
    stats = memory.stats()
    tell("opened", known, found, [stats.indexes_loaded, stats.indexes_rebuilt])
    if not order["load"]:
        memory.close()
        return
    while True:
        session = dice.choice(SESSIONS)
        own = known[session]
        match dice.randrange(40):
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


@dataclass
class MemoryDriver:
    """A number of lives on one store."""

    folder: Path
    seed: int
    kills: int = 0
    acknowledged: int = 0
    searched: int = 0
    indexes: list[int] = field(default_factory=lambda: [0, 0])
    violations: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.book: Book = {session: {} for session in SESSIONS}
        self.under_way: list[Any] | None = None
        self.opened = threading.Event()

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
        elif kind == "done":
            self._book(rest[0])
            self.acknowledged += 1
        elif kind == "stray":
            self._broken(f"a search in {rest[0]} found what is not there")
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
        else:
            for id in rest[0] if what == "forget" else ids:
                own.pop(id, None)
        self.under_way = None

    def _compare(self, known: dict[str, list[str]], found: list[Any], indexes: list[int]) -> None:
        for session, own in self.book.items():
            there = set(known.get(session, []))
            lost, more = set(own) - there, there - set(own)
            what, of, *rest = self.under_way or [None, None]
            if of != session:
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
        order = {"words": self.dice.sample(words, min(len(words), LOOKED_UP)), "load": load}
        self.opened.clear()
        return Life(self.folder / "store", self.dice.getrandbits(32), order, self.take, module="tests.crash.memory")

    def one_life(self) -> None:
        """A child under load until a random moment."""
        life = self._start(load=True)
        if self.dice.random() > 0.2:
            if not self.opened.wait(OPEN_S):
                self._broken(f"the store did not open within {OPEN_S} s")
            time.sleep(self.dice.expovariate(1.0) + 0.05)
        else:
            time.sleep(self.dice.uniform(0.1, 0.9))
        self.kills += 1
        code = life.end(lambda: life.process.send_signal(signal.SIGKILL))
        if code != -signal.SIGKILL:
            self._broken(f"the child ended by itself with {code}")

    def last_life(self) -> None:
        """A child that only looks."""
        code = self._start(load=False).end(lambda: None, OPEN_S)
        if code != 0 or not self.opened.is_set():
            self._broken(f"the last child ended with {code}")

    def report(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "kills": self.kills,
            "operations_acknowledged": self.acknowledged,
            "memories_at_the_end": sum(len(own) for own in self.book.values()),
            "searches_checked": self.searched,
            "indexes_loaded": self.indexes[0],
            "indexes_rebuilt": self.indexes[1],
            "violations": self.violations,
        }


if __name__ == "__main__":
    _child(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
