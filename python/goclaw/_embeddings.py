"""What makes an engine's vectors: one place for the cache, the calls, the model, and what follows later."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ._embedding_cache import _Cache
from ._embedding_calls import Kind, _Calls
from .durations import to_seconds
from .embedders._embedding import Embedding, Vectorize, embedding_of
from .errors import EngineClosed, RecallError

if TYPE_CHECKING:
    from . import _goclaw
    from ._vectorizing import _Vectorizing
    from .embedders import Embedder
    from .engine import Engine


T = TypeVar("T")


class Lacking(RecallError):
    """What a re-embedding needs is not there: trying again does not help."""

    code = "memory.reembed"


@dataclass(frozen=True, slots=True)
class _Maker:
    """An embedder in use: how it is called, and what it made before."""

    how: Embedding
    calls: _Calls
    cache: _Cache


class _Embeddings:
    """Makes vectors for the memory of one engine.

    Made before its engine is opened, which hands it to its agents; usable once it is attached.
    """

    def __init__(self, given: Embedder | Embedding | None) -> None:
        self._attached = threading.Event()
        self._refused = False
        self._lock = threading.Lock()
        # The engine holds the executor, which holds this.
        self._engine: Callable[[], Engine | None] = lambda: None
        self._native: _goclaw.Vectors
        self._maker = None if given is None else self._made(embedding_of(given))
        # Embedders that the store may go over to, by name.
        self._offered: dict[str, Embedding] = {}
        self._follows: _Vectorizing | None = None

    def attach(self, engine: Engine) -> None:
        """Begins to work.

        Raises:
            RecallError: `memory.model`, `memory.dimension` where the store was begun with another embedder.
        """
        self._engine = weakref.ref(engine)
        self._native = engine._native.vectors()
        try:
            if self._maker is not None:
                self._check(self._maker.how)
                self._follow()
        except BaseException:
            # Recovered runs may be under way already: their agents fail with it, and must not wait for ever.
            self._refused = True
            raise
        finally:
            self._attached.set()

    def _check(self, how: Embedding) -> None:
        self._native.check_model(how.model)
        if self._native.model()[1] is not None and how.dim is not None:
            self._native.settle_model(how.model, how.dim)

    def close(self) -> None:
        """Stops what follows later; what has no vector gets it when the store is opened again."""
        if self._follows is not None:
            self._follows.close()

    @property
    def when(self) -> Vectorize | None:
        """When vectors of what is memorized are made; `None` where nobody makes any."""
        maker = self._maker
        return None if maker is None else maker.how.when

    @property
    def model(self) -> str | None:
        """The name of the embedder in use; `None` without one."""
        maker = self._maker
        return None if maker is None else maker.how.model

    @property
    def failing(self) -> str | None:
        """Why no vectors are made at the moment."""
        return None if self._follows is None else self._follows.failing

    @property
    def last_error(self) -> str | None:
        """What the embedder said last that was no vector."""
        return None if self._follows is None else self._follows.last_error

    def make(self, texts: list[str]) -> tuple[int, list[list[float]]]:
        """Vectors of texts that are kept, and the generation they are of."""
        return self._of_one_model(lambda maker: self._vectors(maker, "text", texts, None))

    def make_query(self, text: str) -> list[float]:
        """The vector of a text that is searched by."""

        def make(maker: _Maker) -> list[float]:
            maker.calls.load()
            bound = maker.how.query_timeout
            deadline = None if bound is None else time.monotonic() + to_seconds(bound)
            # What a model embeds in one way only may have been kept before.
            kind: Kind = "query" if maker.how.asks_apart else "text"
            return self._vectors(maker, kind, [text], deadline, searches=True)[0]

        return self._of_one_model(make)[1]

    def batch(self) -> int:
        """Texts of one call. Where the store is just going over to another embedder, of that."""
        with self._lock:
            return 1 if self._maker is None else self._maker.how.batch

    def settled(self, timeout: float | None) -> bool:
        """Waits until every text has its vector."""
        self._attached.wait()
        return self._native.settled(timeout)

    def unvectored(self) -> tuple[int, int]:
        """How many texts have no vector, and how many of those the embedder refuses."""
        self._attached.wait()
        return self._native.unvectored()

    def generation(self) -> int:
        """Of which generation the store's vectors are."""
        self._attached.wait()
        return self._native.model()[2]

    def offer(self, how: Embedding) -> tuple[int, int]:
        """Has an embedder at hand for when the store goes over to it.

        Returns:
            Parts of its vectors, and the generation that they will be of.
        """
        self._attached.wait()
        vector = self._made(how).calls.call("text", ["goclaw"])[0]
        with self._lock:
            self._offered[how.model] = how
        name, dimension, generation = self._native.model()
        if name != how.model:
            self._native.check_whole()
            return len(vector), generation + 1
        if dimension != len(vector):
            self._native.settle_model(how.model, len(vector))
        return len(vector), generation

    def go_over(self, model: str, dimension: int, generation: int) -> None:
        """Makes the vectors of the store those of another embedder, unless that was done before.

        Raises:
            RecallError: `memory.reembed` where this process does not have the embedder.
        """
        self._attached.wait()
        if self._refused:
            raise EngineClosed("the engine is closed: its embedder is not the store's", code="engine.closed")
        with self._lock:
            how = self._offered.get(model)
            if self._native.model()[2] < generation:
                if how is None:
                    raise _lacks(model)
                self._native.remodel(model, dimension)
            if self._native.model()[0] != model:
                raise Lacking(
                    f"the store does not go over to `{model}`: it has gone over to another embedder since",
                    help="call memory.reembed(embedder) again, if it still should",
                )
            own = None if self._maker is None else self._maker.how.model
            if own != model:
                if how is None:
                    raise _lacks(model)
                self._maker = self._made(how)
            self._follow()

    def _of_one_model(self, make: Callable[[_Maker], T]) -> tuple[int, T]:
        while True:
            maker, generation = self._in_use()
            try:
                return generation, make(maker)
            except RecallError as error:
                # The store went over to another model meanwhile: once more, by that.
                if error.code != "memory.model" or self._maker is maker:
                    raise

    def _in_use(self) -> tuple[_Maker, int]:
        self._attached.wait()
        with self._lock:
            maker = self._maker
            if maker is None:
                raise RecallError(
                    "the engine has no embedder", code="memory.embedder", help="open it with embedder=..."
                )
            return maker, self._native.model()[2]

    def _vectors(
        self, maker: _Maker, kind: Kind, texts: list[str], deadline: float | None, *, searches: bool = False
    ) -> list[list[float]]:
        made = {text: vector for text in texts if (vector := maker.cache.get(kind, text)) is not None}
        missing = [text for text in dict.fromkeys(texts) if text not in made]
        for batch in maker.calls.batches(missing):
            vectors = maker.calls.call(kind, batch, deadline, searches=searches)
            self._native.settle_model(maker.how.model, len(vectors[0]))
            for text, vector in zip(batch, vectors, strict=True):
                made[text] = vector
                maker.cache.put(kind, text, vector)
        return [made[text] for text in texts]

    def _made(self, how: Embedding) -> _Maker:
        return _Maker(how, _Calls(how, self._open_engine), _Cache(how.cache_bytes))

    def _open_engine(self) -> Engine:
        engine = self._engine()
        if engine is None:
            raise EngineClosed("the engine of this memory is closed", code="engine.closed", help="open a new one")
        return engine

    def _follow(self) -> None:
        if self._maker is not None:
            self._native.watch(self._maker.how.backlog_max)
        if self._follows is None:
            from ._vectorizing import _Vectorizing

            self._follows = _Vectorizing(self, self._native)

    def _width(self) -> int:
        """Calls that may be under way at once."""
        engine, maker = self._engine(), self._maker
        if engine is None or maker is None or maker.how.local:
            return 1
        try:
            return engine.lanes[maker.how.lane].concurrency
        except Exception:
            # Whatever it is, the call itself will say so.
            return 1


def _lacks(model: str) -> Lacking:
    return Lacking(
        f"the store goes over to the embedder `{model}`, which this engine does not have",
        help="open the engine with it, or without one and call memory.reembed(embedder): it goes on where it was",
    )
