"""What agents remember: entries in sessions, found by words and by vector, forgotten by strength."""

from __future__ import annotations

import builtins
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

from . import _guard
from ._bound import SessionMemory, _of_task
from ._cold import _Cold
from ._keeping import _Keeping
from ._keywords import spelled_out, value_of
from ._options import Durability
from ._plain import whole
from ._recall import _draft, _drafts
from ._threads import elsewhere as _elsewhere
from ._transfer import _Transfer
from ._verbs import (
    MemorizeOptions,
    Memorizing,
    RetrieveOptions,
    Retrieving,
)
from .durations import Duration, to_seconds
from .entry import ColdStats, Entry, Hit, MemoryStats, _entry, _known

if TYPE_CHECKING:
    from typing import Self, Unpack

    from .embedders import Embedder, Embedding
    from .engine import Engine
    from .forgetting import Forgetting
    from .run import Run
    from .tiers import Move, Tier

__all__ = ["Memory", "SessionMemory", "_of_task"]


class Memory(_Keeping, _Cold, _Transfer):
    """The memory of an engine: `engine.memory`, or stand-alone with an engine of its own inside.

    Args:
        path: Directory of the store, which may be an engine's; `None` keeps everything in RAM.
        embedder: Makes vectors of texts: a callable of a list of texts, sync or async (see
            `goclaw.embedders`). Without one, search goes by words and by vectors that callers bring.
        durability: How much a crash may cost, as for `Engine`.
        cold: Where memories lie that are hardly asked for, see `goclaw.tiers`; needs a path.
        move: What moves there by itself.
        forgetting: How memories fade, where their session was not set to something else; as for `Engine`.

    Raises:
        RecallError: `memory.model` where the store was begun with another embedder.
        StoreError: as `Engine`.

    Example:
        >>> import goclaw
        >>> with goclaw.Memory() as memory:
        ...     _ = memory.memorize("Ada prefers tea", session="ada")
        ...     _ = memory.memorize("the invoice is paid", session="ada")
        ...     hits = memory.retrieve("what about tea?", session="ada")
        >>> hits[0].entry.content
        'Ada prefers tea'
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        embedder: Embedder | Embedding | None = None,
        durability: Durability | None = None,
        cold: Tier | None = None,
        move: Move | None = None,
        forgetting: Forgetting | None = None,
    ) -> None:
        from .engine import Engine

        engine = Engine(path, embedder=embedder, durability=durability, cold=cold, move=move, forgetting=forgetting)
        self._open(engine)

    @classmethod
    def _of(cls, engine: Engine) -> Memory:
        memory = cls.__new__(cls)
        memory._open(engine)
        return memory

    def _open(self, engine: Engine) -> None:
        self._engine = engine
        self._embeddings = engine._embeddings
        self._native = engine._alive().memory()

    @spelled_out(Memorizing)
    def memorize(
        self,
        content: Any,
        *,
        session: str,
        metadata: Mapping[str, Any] | None = None,
        vector: Sequence[float] | None = None,
        task: str | None = None,
        **options: Unpack[MemorizeOptions],
    ) -> str:
        """Memorizes one thing; returns when it is durable and found by the next search: by its words, and by its
        vector where that is made at once.

        Args:
            content: A text, bytes, or plain values (kept as JSON). Bytes are found by vector only.
            session: Whose memory it is: exactly this key, 1 to 400 bytes.
            metadata: Values by names, to filter by.
            vector: Its vector; by default the embedder makes it, if there is one.
            task: Name of the task that memorizes.
            pinned: It is not forgotten by strength.
            duplicates: What becomes of what is nearly there already, in the same words or with a vector alike:
                ``"keep"`` memorizes it, too; ``"review"`` reviews the other as good in its place and answers that one's
                id; ``"refuse"`` raises `memory.duplicate`.
            alike: Least cosine of vectors that are nearly the same; one that follows later is not compared.
            vectorize: ``"now"``: it returns when the vector is there, too. ``"later"``: when the text is durable and
                found by its words; the vector follows, after a crash as well. By default as the `Embedding`
                says: now for an embedder that is `local`, later for others.

        Returns:
            Its id.

        Raises:
            RecallError: `memory.session`, `memory.empty`, `memory.too_large`, `memory.content`, `memory.metadata`,
                `memory.vector`, `memory.dimension`, `memory.embedder`, `memory.duplicate`, `memory.option`.
            EngineClosed: `engine.closed`.
        """
        how = value_of("memorize", Memorizing, options)
        return self._memorize(session, [_draft(content, metadata, vector)], task, how)[0]

    @spelled_out(Memorizing)
    async def amemorize(
        self,
        content: Any,
        *,
        session: str,
        metadata: Mapping[str, Any] | None = None,
        vector: Sequence[float] | None = None,
        task: str | None = None,
        **options: Unpack[MemorizeOptions],
    ) -> str:
        """`memorize`, without blocking the event loop."""
        how = value_of("amemorize", Memorizing, options)
        return (await self._amemorize(session, [_draft(content, metadata, vector)], task, how))[0]

    @spelled_out(Memorizing)
    def memorize_many(
        self,
        contents: Iterable[Any],
        *,
        session: str,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
        vectors: Iterable[Sequence[float] | None] | None = None,
        task: str | None = None,
        **options: Unpack[MemorizeOptions],
    ) -> list[str]:
        """Memorizes many things with few commits: one for every 4,096 entries or 8 MiB.

        Args:
            contents: What to memorize.
            session: Whose memory it is.
            metadata: One mapping, or `None`, per content.
            vectors: One vector, or `None`, per content. Rows of 32-bit floats, such as those of a numpy array, are
                taken as they lie; lists of floats take Python most of the time of a large import.
            task: Name of the task that memorizes.
            pinned: They are not forgotten by strength.
            duplicates: What becomes of what is nearly there already; see `memorize`.
            alike: Least cosine of vectors that are nearly the same; one that follows later is not compared.
            vectorize: As for `memorize`.

        Returns:
            Their ids, in order.

        Raises:
            RecallError: as `memorize`; then nothing was memorized.
        """
        how = value_of("memorize_many", Memorizing, options)
        return self._memorize(session, _drafts(contents, metadata, vectors), task, how)

    @spelled_out(Memorizing)
    async def amemorize_many(
        self,
        contents: Iterable[Any],
        *,
        session: str,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
        vectors: Iterable[Sequence[float] | None] | None = None,
        task: str | None = None,
        **options: Unpack[MemorizeOptions],
    ) -> list[str]:
        """`memorize_many`, without blocking the event loop."""
        how = value_of("amemorize_many", Memorizing, options)
        return await self._amemorize(session, _drafts(contents, metadata, vectors), task, how)

    @spelled_out(Retrieving)
    def retrieve(
        self,
        query: str | None = None,
        *,
        session: str,
        **options: Unpack[RetrieveOptions],
    ) -> list[Hit]:
        """Finds the memories of a session that fit best.

        Args:
            query: A text. It is searched by words and, with an embedder, by vector.
            session: Whose memory: exactly this one and no other.
            vector: A vector to search by, in place of the query's own.
            top_k: How many hits at most.
            mode: ``"hybrid"`` by both, ``"vector"`` or ``"text"`` by one.
            filter: Only memories whose metadata has these values: ``{"kind": "fact"}``. Also with operators,
                ``{"year": {"$gte": 2020}, "kind": {"$in": ["fact", "taste"]}}``: ``$eq $ne $in $nin $gt $gte $lt
                $lte $exists``, and ``$and $or $not`` over filters.
            context: Texts, such as the latest turns, that widen the query; or a number: so many of the session's
                latest memories widen it and are not answered themselves.
            min_strength: Only memories at least this strong, 0 to 1.
            review: ``"good"`` counts every hit as reviewed with that grade; ``"auto"`` and ``"none"`` leave reviews to
                `feedback` and `review`. `True` means ``"auto"``, `False` ``"none"``.
            fusion: How both orders become one: ``"score"``, or ``"rrf"`` by ranks alone.
            weights: What the vector and the words count for.
            smoothing: How much a memory borrows from its neighbours in time, 0 to 1; 0.3 suits conversations.
            strength_boost: A share of its score that a memory gains for its strength, 0 to 10.
            recency_boost: A share of its score that a new memory gains, 0 to 10; half of it after
                ``recency_half_life``.
            recency_half_life: When a memory counts as half new.
            diversity: How much the hits are to differ from each other, 0 to 1.
            explain: Whether the hits have an `explanation`.
            tiers: ``"all"``, or only what is in the store (``"hot"``) or in the cold tier (``"cold"``). The cold
                tier is searched by vector.

        Returns:
            The hits, best first.

        Raises:
            RecallError: `memory.session`, `memory.query`, `memory.vector`, `memory.dimension`, `memory.limit`,
                `memory.filter`, `memory.weights`, `memory.option`, `memory.threshold`, `memory.embedder` (by
                vector alone; a hybrid search goes on by words and warns), `memory.tier` (by ``tiers="cold"``; a
                search of all tiers answers what is in the store and warns).
        """
        return self._retrieve(session, query, value_of("retrieve", Retrieving, options))

    @spelled_out(Retrieving)
    async def aretrieve(
        self,
        query: str | None = None,
        *,
        session: str,
        **options: Unpack[RetrieveOptions],
    ) -> list[Hit]:
        """`retrieve`, without blocking the event loop."""
        return await self._aretrieve(session, query, value_of("aretrieve", Retrieving, options))

    def recent(self, session: str, n: int = 10) -> list[Entry]:
        """The latest memories of a session, latest first.

        Args:
            session: Whose memory.
            n: How many at most.

        Returns:
            The entries.
        """
        return [_entry(row) for row in self._native.recent(session, whole("n", n))]

    async def arecent(self, session: str, n: int = 10) -> list[Entry]:
        """`recent`, without blocking the event loop."""
        return await _elsewhere(partial(self.recent, session, n))

    def get(self, id: str, *, session: str | None = None) -> Entry:
        """A memory by its id.

        Args:
            id: Its id.
            session: Whose memory it must be, where that matters.

        Returns:
            The entry.

        Raises:
            RecallError: `memory.unknown` where there is none, or it is another session's.
        """
        return _known(id, self._native.get(id, session))

    async def aget(self, id: str, *, session: str | None = None) -> Entry:
        """`get`, without blocking the event loop."""
        return await _elsewhere(partial(self.get, id, session=session))

    def list(self, session: str, *, limit: int = 50, after: str | None = None) -> builtins.list[Entry]:
        """Memories of a session, oldest first.

        Args:
            session: Whose memory.
            limit: How many at most.
            after: Id of the last one of the page before.

        Returns:
            The entries.
        """
        return [_entry(row) for row in self._native.list(session, after, whole("limit", limit))]

    async def alist(self, session: str, *, limit: int = 50, after: str | None = None) -> builtins.list[Entry]:
        """`list`, without blocking the event loop."""
        return await _elsewhere(partial(self.list, session, limit=limit, after=after))

    def count(self, session: str | None = None) -> int:
        """How many memories a session has.

        Args:
            session: Whose memory; `None` counts all.

        Returns:
            The number.
        """
        return self._native.count(session)

    def stats(self) -> MemoryStats:
        """Counts over all sessions.

        Returns:
            The counts.
        """
        unvectored, failed = self._embeddings.unvectored()
        cold = self._native.cold_stats()
        sweeps, swept, sweep_ms, duplicates = self._native.tally()
        return MemoryStats(
            *self._native.stats(),
            unvectored=unvectored,
            failed=failed,
            last_error=self._embeddings.last_error,
            cold=None if cold is None else ColdStats(*cold),
            sweeps=sweeps,
            swept=swept,
            sweep_seconds=sweep_ms / 1000,
            duplicates=duplicates,
        )

    def vectorized(self, timeout: Duration | None = None) -> bool:
        """Waits until every text that was memorized has its vector.

        Args:
            timeout: How long at most; `None`: as long as it takes.

        Returns:
            True where all have theirs. False where the time was over, the embedder refuses some texts (see `stats`), or
            there is no embedder to make them.

        Raises:
            EngineClosed: `engine.closed`.
            WouldDeadlock: `engine.own_loop` on goclaw's own event loop.
        """
        _guard.refuse_own_loop("wait for vectors")
        return self._embeddings.settled(None if timeout is None else to_seconds(timeout, what="timeout"))

    async def avectorized(self, timeout: Duration | None = None) -> bool:  # noqa: ASYNC109
        """`vectorized`, without blocking the event loop."""
        return await _elsewhere(partial(self.vectorized, timeout))

    def reembed(self, embedder: Embedder | Embedding) -> Run[int]:
        """Goes over to another embedder: a run that has every text of the store embedded again.

        From its first moment the store's vectors are of the new embedder, and the old ones void: searches go by words,
        and by vector as far as there are new ones. The run goes on after a crash, where the store is
        opened with the new embedder. Cancelling it leaves the store with the new embedder; call this again to
        go on, or with the old one to go back, which embeds everything once more.

        With the embedder in use, it makes the vectors of texts that have none.

        Args:
            embedder: The new embedder; its name is what makes it another. It is tried first: one that does not
                work changes nothing.

        Returns:
            The run; its result is how many texts the embedder refuses, 0 as a rule.

        Raises:
            RecallError: `memory.embedder` and what begins so, where it does not work.
            EngineClosed: `engine.closed`.
        """
        from ._reembed import start

        return start(self._engine, embedder)

    def sessions(self, *, limit: int = 100, after: str | None = None) -> dict[str, int]:
        """Sessions that remember something, by name.

        Args:
            limit: How many at most.
            after: Name of the last one of the page before.

        Returns:
            The number of memories by session.
        """
        return dict(self._native.sessions(after, whole("limit", limit)))

    def close(self) -> None:
        """Closes the engine inside."""
        self._engine.close()

    async def aclose(self) -> None:
        """`close`, without blocking the event loop."""
        await self._engine.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<Memory {self._engine.path or 'in RAM'}>"
