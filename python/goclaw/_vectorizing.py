"""Vectors that follow: threads that take what has none, have it embedded, and commit what came of it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeAlias

from .errors import GoclawError

if TYPE_CHECKING:
    from . import _goclaw
    from ._embeddings import _Embeddings

_Row: TypeAlias = tuple[str, str, str]
"""Id, session, text."""

_THREADS_MAX = 8
_BATCH_BYTES = 1 << 20
# Pauses after calls that failed with all their retries, in seconds: twice as long each time.
_PAUSE_FIRST, _PAUSE_MAX = 1.0, 60.0
# How long closing waits for a call under way, in seconds.
_CLOSE_WAIT = 0.5
# A text is to blame for these, perhaps; for all else the embedder is.
_OF_TEXTS = ("memory.embedder_input", "memory.embedder_vectors", "memory.vector")


class _Vectorizing:
    """Follows a store for as long as its engine is open."""

    def __init__(self, embeddings: _Embeddings, native: _goclaw.Vectors) -> None:
        self.failing: str | None = None
        self.last_error: str | None = None
        self._embeddings = embeddings
        self._native = native
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._helpers = 0
        self._thread = threading.Thread(target=self._main, name="goclaw-vectors", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops, waiting a little for what is under way."""
        self._closing.set()
        self._native.close()
        if threading.current_thread() is not self._thread:
            self._thread.join(_CLOSE_WAIT)

    def _main(self) -> None:
        self._embeddings._attached.wait()
        failures = 0
        while not self._closing.is_set():
            done = self._turn(patience=3_600.0)
            if done is None:
                return
            failures = 0 if done else failures + 1
            if failures:
                self._closing.wait(min(_PAUSE_FIRST * 2 ** min(failures - 1, 10), _PAUSE_MAX))

    def _help(self) -> None:
        """Another thread for as long as there is much to do and all goes well."""
        while not self._closing.is_set() and self._turn(patience=0.0):
            pass
        with self._lock:
            self._helpers -= 1

    def _turn(self, patience: float) -> bool | None:
        """Makes vectors of one batch. False where none could be made, `None` where there is no more."""
        limit = self._embeddings.batch()
        try:
            work = self._native.work(limit, _BATCH_BYTES, patience)
        except GoclawError as error:
            return self._failed(error)
        if work is None:
            return None
        generation, rows = work
        if not rows:
            return None if patience == 0.0 else True
        if len(rows) == limit:
            self._call_help()
        # The embedder may be another by now, which takes fewer at once.
        size = self._embeddings.batch()
        for at in range(0, len(rows), size):
            made = self._make(generation, rows[at : at + size])
            if not made:
                self._native.put_back([id for id, _, _ in rows[at + size :]])
                return made
        return True

    def _call_help(self) -> None:
        with self._lock:
            if self._closing.is_set() or 1 + self._helpers >= min(self._embeddings._width(), _THREADS_MAX):
                return
            self._helpers += 1
        threading.Thread(target=self._help, name="goclaw-vectors", daemon=True).start()

    def _make(self, generation: int, rows: list[_Row]) -> bool | None:
        try:
            self._embed(generation, rows)
        except Exception as error:
            if getattr(error, "code", "") not in _OF_TEXTS:
                self._native.put_back([id for id, _, _ in rows])
                return self._failed(error)
            return self._one_by_one(generation, rows, error)
        return True

    def _embed(self, generation: int, rows: list[_Row]) -> None:
        made_of, vectors = self._embeddings.make([text for _, _, text in rows])
        # Before anybody can see the vectors: whoever waited for them may ask.
        self.failing = None
        if made_of != generation:
            # The store went over to another model meanwhile.
            self._native.put_back([id for id, _, _ in rows])
            return
        made = [(id, session, vector) for (id, session, _), vector in zip(rows, vectors, strict=True)]
        self._native.put(generation, made)

    def _one_by_one(self, generation: int, rows: list[_Row], error: Exception) -> bool | None:
        """Finds the texts that are refused, and sets them aside; the others get their vectors."""
        refused: list[tuple[_Row, Exception]] = []
        for at, row in enumerate(rows):
            try:
                if self._closing.is_set():
                    raise error
                self._embed(generation, [row])
            except Exception as single:
                if self._closing.is_set() or getattr(single, "code", "") not in _OF_TEXTS:
                    self._native.put_back([id for id, _, _ in rows[at:]] + [id for (id, _, _), _ in refused])
                    return self._failed(single)
                refused.append((row, single))
        codes = {getattr(blame, "code", "") for _, blame in refused}
        if len(refused) == len(rows) and codes != {"memory.embedder_input"}:
            # Not one good vector: the embedder is to blame, and no text.
            self._native.put_back([id for id, _, _ in rows])
            return self._failed(error)
        for (id, session, _), blame in refused:
            self.last_error = str(blame)
            self._native.refuse(id, session)
        self.failing = None
        return True

    def _failed(self, error: Exception) -> bool | None:
        if getattr(error, "code", "") == "engine.closed":
            return None
        self.failing = self.last_error = str(error)
        return False
