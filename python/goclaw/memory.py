"""What agents remember: entries in sessions, found by words and by vector, forgotten by strength."""

from __future__ import annotations

import builtins
import inspect
import json
import os
import struct
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from . import _goclaw, _guard
from ._options import Durability, one_of
from .durations import Duration, to_ms
from .errors import RecallError

if TYPE_CHECKING:
    from typing import Self

    from .embedders import Embedder
    from .engine import Engine

T = TypeVar("T")
Mode: TypeAlias = Literal["hybrid", "vector", "text"]
Fusion: TypeAlias = Literal["score", "rrf"]
Grade: TypeAlias = Literal["again", "hard", "good", "easy", 1, 2, 3, 4]
Feedback: TypeAlias = Literal["used", "useful", "wrong"]
Review: TypeAlias = Literal["auto", "good", "none"] | bool

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_GRADES: dict[object, int] = {"again": 1, "hard": 2, "good": 3, "easy": 4, 1: 1, 2: 2, 3: 3, 4: 4}
_FEEDBACK = {"used": 3, "useful": 4, "wrong": 1}
_PAGE = 1_000
_EMBED_BATCH = 256

_Draft: TypeAlias = tuple[str | bytes, bool, str | None, list[float] | None, bool]


@dataclass(frozen=True, slots=True)
class Entry:
    """One memory.

    Attributes:
        id: A ULID; ids sort by the time of memorizing.
        task_id: The task that memorized it, if one did.
        session_id: Whose memory it is.
        content: What was memorized: text, bytes, or plain values.
        metadata: Values by names, to filter by.
        strength: How well it is still there, 0 to 1, when it was read.
        stability: Days until the strength has fallen from 1 to 0.9.
        difficulty: How hard it is to keep, 1 to 10.
        last_review: When it was last reviewed.
        created: When it was memorized.
        pinned: It is not forgotten by strength.
    """

    id: str
    task_id: str | None
    session_id: str
    content: Any
    metadata: Mapping[str, Any]
    strength: float
    stability: float
    difficulty: float
    last_review: datetime
    created: datetime
    pinned: bool
    _halves: bytes | None = field(default=None, repr=False)

    @property
    def vector(self) -> tuple[float, ...] | None:
        """The vector, scaled to length 1 and rounded to 16 bits a part; `None` without one."""
        if self._halves is None:
            return None
        return struct.unpack(f"<{len(self._halves) // 2}e", self._halves)


@dataclass(frozen=True, slots=True)
class Hit:
    """A memory that was found.

    Attributes:
        entry: The memory.
        score: What the hits are ordered by.
        vector_rank: Place among all by vector, from 1 on; `None` where it is not among that leg's best.
        text_rank: Place among all by words.
        vector_score: Cosine with the query.
        text_score: BM25 of the query.
    """

    entry: Entry
    score: float
    vector_rank: int | None
    text_rank: int | None
    vector_score: float | None
    text_score: float | None

    @property
    def strength(self) -> float:
        """How well the memory is still there, 0 to 1."""
        return self.entry.strength


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was forgotten, or with ``dry_run`` would be.

    Attributes:
        ids: The memories.
        left: How many more fit, beyond the limit.
    """

    ids: tuple[str, ...]
    left: int

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class MemoryStats:
    """Counts over all sessions.

    Attributes:
        entries: Memories.
        sessions: Sessions that remember something.
        embedder: Name of what makes the vectors, where it has one.
        dimension: Parts of a vector; `None` before the first.
    """

    entries: int
    sessions: int
    embedder: str | None
    dimension: int | None


class _Recall:
    """What an engine's memory and a task's have in common."""

    _native: _goclaw.Memory
    _embedder: Embedder | None

    def _memorize(
        self,
        contents: Iterable[Any],
        session: str,
        metadata: Iterable[Mapping[str, Any] | None] | None,
        vectors: Iterable[Sequence[float] | None] | None,
        task: str | None,
        pinned: bool,
    ) -> list[str]:
        drafts = _drafts(contents, metadata, vectors, pinned)
        self._fill(drafts, self._embed([text for _, text in self._missing(drafts)]))
        return self._native.memorize(session, drafts, task)

    async def _amemorize(
        self,
        contents: Iterable[Any],
        session: str,
        metadata: Iterable[Mapping[str, Any] | None] | None,
        vectors: Iterable[Sequence[float] | None] | None,
        task: str | None,
        pinned: bool,
    ) -> list[str]:
        drafts = _drafts(contents, metadata, vectors, pinned)
        self._fill(drafts, await self._aembed([text for _, text in self._missing(drafts)]))
        return await _elsewhere(partial(self._native.memorize, session, drafts, task))

    def _missing(self, drafts: list[_Draft]) -> list[tuple[int, str]]:
        """Drafts that the embedder is to make a vector for."""
        if self._embedder is None:
            return []
        return [
            (at, content)
            for at, (content, _, _, vector, _) in enumerate(drafts)
            if vector is None and isinstance(content, str)
        ]

    def _fill(self, drafts: list[_Draft], made: list[list[float]]) -> None:
        for (at, _), vector in zip(self._missing(drafts), made, strict=True):
            content, is_json, metadata, _, pinned = drafts[at]
            drafts[at] = (content, is_json, metadata, vector, pinned)

    def _embed(self, texts: list[str]) -> list[list[float]]:
        """Vectors of texts; an async embedder runs on goclaw's own loop."""
        made: list[list[float]] = []
        for at in range(0, len(texts), _EMBED_BATCH):
            batch = texts[at : at + _EMBED_BATCH]
            with _Embedding():
                found: Any = self._embedder(batch)  # type: ignore[misc]
                if inspect.isawaitable(found):
                    _guard.refuse_own_loop("wait for its embedder")
                    from ._loop import _awaiting, run_coroutine

                    found = run_coroutine(_awaiting(found))
            made.extend(self._checked(batch, found))
        return made

    async def _aembed(self, texts: list[str]) -> list[list[float]]:
        made: list[list[float]] = []
        for at in range(0, len(texts), _EMBED_BATCH):
            batch = texts[at : at + _EMBED_BATCH]
            with _Embedding():
                found: Any = await _elsewhere(partial(self._embedder, batch))  # type: ignore[misc]
                if inspect.isawaitable(found):
                    found = await found
            made.extend(await _elsewhere(partial(self._checked, batch, found)))
        return made

    def _checked(self, texts: list[str], found: Any) -> list[list[float]]:
        vectors = [_numbers(vector) for vector in found]
        lengths = {len(vector) for vector in vectors}
        if len(vectors) != len(texts) or len(lengths) != 1:
            raise RecallError(
                f"the embedder made {len(vectors)} vectors of lengths {sorted(lengths)} from {len(texts)} texts",
                code="memory.embedder",
                help="an embedder returns one vector per text, all of one length",
            )
        self._native.settle_model(name_of(self._embedder), lengths.pop())
        return vectors

    def _query(
        self, query: str | None, vector: Sequence[float] | None, mode: str, context: str | Sequence[str] | None
    ) -> tuple[str | None, str | None, list[float] | None]:
        """The text to search by, the text to embed, the vector."""
        one_of("mode", mode, ("hybrid", "vector", "text"))
        if query is not None and not isinstance(query, str):
            raise RecallError(f"the query is {query!r}, no text", code="memory.query", help="pass a text")
        text = query
        if query is not None and query.strip() and context:
            text = "\n".join([*([context] if isinstance(context, str) else context), query])
        numbers = None if vector is None else _numbers(vector)
        wanted = text is not None and text.strip() and numbers is None and mode != "text"
        return text, text if wanted and self._embedder is not None else None, numbers

    def _without_vector(self, mode: str, error: RecallError) -> None:
        """A search by both legs goes on by words; one by vector cannot."""
        if mode == "vector":
            raise error
        warnings.warn(f"searched by words alone: {error}", RuntimeWarning, stacklevel=4)

    def _found(
        self,
        session: str,
        text: str | None,
        vector: list[float] | None,
        top_k: int,
        mode: str,
        fusion: str,
        filter: Mapping[str, Any] | None,
        min_strength: float | None,
        review: Review,
    ) -> list[Hit]:
        one_of("fusion", fusion, ("score", "rrf"))
        kept = None if not filter else _json(dict(filter), "the filter", "memory.metadata")
        rows = self._native.retrieve(session, text, vector, _whole("top_k", top_k), mode, fusion, kept, min_strength)
        hits = [_hit(row) for row in rows]
        if review is not True and review is not False:
            one_of("review", review, ("auto", "good", "none"))
        if review == "good" and hits:
            self._native.review([hit.entry.id for hit in hits], session, _FEEDBACK["used"])
        return hits

    def _retrieve(
        self,
        query: str | None,
        session: str,
        vector: Sequence[float] | None,
        top_k: int,
        mode: str,
        filter: Mapping[str, Any] | None,
        context: str | Sequence[str] | None,
        min_strength: float | None,
        review: Review,
        fusion: str,
    ) -> list[Hit]:
        text, to_embed, numbers = self._query(query, vector, mode, context)
        if to_embed is not None:
            try:
                numbers = self._embed([to_embed])[0]
            except RecallError as error:
                self._without_vector(mode, error)
        return self._found(session, text, numbers, top_k, mode, fusion, filter, min_strength, review)

    async def _aretrieve(
        self,
        query: str | None,
        session: str,
        vector: Sequence[float] | None,
        top_k: int,
        mode: str,
        filter: Mapping[str, Any] | None,
        context: str | Sequence[str] | None,
        min_strength: float | None,
        review: Review,
        fusion: str,
    ) -> list[Hit]:
        text, to_embed, numbers = self._query(query, vector, mode, context)
        if to_embed is not None:
            try:
                numbers = (await self._aembed([to_embed]))[0]
            except RecallError as error:
                self._without_vector(mode, error)
        return await _elsewhere(
            partial(self._found, session, text, numbers, top_k, mode, fusion, filter, min_strength, review)
        )

    def _forget(
        self,
        session: str,
        ids: Iterable[str] | None,
        below: float | None,
        limit: int,
        grace: Duration,
        dry_run: bool,
    ) -> Forgotten:
        if (ids is None) == (below is None):
            raise RecallError(
                "forget() takes either ids or a threshold",
                code="memory.threshold",
                help="forget(session, ids=[...]) or forget(session, below=0.3); delete_session(session) forgets all",
            )
        if isinstance(ids, str):
            ids = [ids]
        chosen = None if ids is None else list(ids)
        grace_ms = to_ms(grace, what="grace")
        gone, left = self._native.forget(
            session, chosen, 0.0 if below is None else float(below), grace_ms, _whole("limit", limit), dry_run
        )
        return Forgotten(tuple(gone), left)

    def _review(self, id: str | Iterable[str], session: str | None, grade: Grade) -> None:
        number = _GRADES.get(grade)
        if number is None:
            one_of("grade", grade, ("again", "hard", "good", "easy"))
        self._native.review([id] if isinstance(id, str) else list(id), session, number or 3)

    def _feedback(self, id: str | Iterable[str], session: str | None, feedback: Feedback) -> None:
        number = _FEEDBACK[one_of("feedback", feedback, tuple(_FEEDBACK))]
        self._native.review([id] if isinstance(id, str) else list(id), session, number)


class Memory(_Recall):
    """The memory of an engine: `engine.memory`, or stand-alone with an engine of its own inside.

    Args:
        path: Directory of the store, which may be an engine's; `None` keeps everything in RAM.
        embedder: Makes vectors of texts: a callable of a list of texts, sync or async (see
            `goclaw.embedders`). Without one, search goes by words and by vectors that callers bring.
        durability: How much a crash may cost, as for `Engine`.

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
        embedder: Embedder | None = None,
        durability: Durability = "strict",
    ) -> None:
        from .engine import Engine

        self._open(Engine(path, embedder=embedder, durability=durability), embedder)

    @classmethod
    def _of(cls, engine: Engine, embedder: Embedder | None) -> Memory:
        memory = cls.__new__(cls)
        memory._open(engine, embedder)
        return memory

    def _open(self, engine: Engine, embedder: Embedder | None) -> None:
        self._engine = engine
        self._embedder = embedder
        self._native = engine._alive().memory()

    def memorize(
        self,
        content: Any,
        *,
        session: str,
        metadata: Mapping[str, Any] | None = None,
        vector: Sequence[float] | None = None,
        task: str | None = None,
        pinned: bool = False,
    ) -> str:
        """Memorizes one thing; returns when it is durable and found by the next search.

        Args:
            content: A text, bytes, or plain values (kept as JSON). Bytes are found by vector only.
            session: Whose memory it is: exactly this key, 1 to 400 bytes.
            metadata: Values by names, to filter by.
            vector: Its vector; by default the embedder makes it, if there is one.
            task: Name of the task that memorizes.
            pinned: It is not forgotten by strength.

        Returns:
            Its id.

        Raises:
            RecallError: `memory.session`, `memory.empty`, `memory.too_large`, `memory.content`, `memory.metadata`,
                `memory.vector`, `memory.dimension`, `memory.embedder`.
            EngineClosed: `engine.closed`.
        """
        return self._memorize([content], session, [metadata], [vector], task, pinned)[0]

    async def amemorize(
        self,
        content: Any,
        *,
        session: str,
        metadata: Mapping[str, Any] | None = None,
        vector: Sequence[float] | None = None,
        task: str | None = None,
        pinned: bool = False,
    ) -> str:
        """`memorize`, without blocking the event loop."""
        return (await self._amemorize([content], session, [metadata], [vector], task, pinned))[0]

    def memorize_many(
        self,
        contents: Iterable[Any],
        *,
        session: str,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
        vectors: Iterable[Sequence[float] | None] | None = None,
        task: str | None = None,
        pinned: bool = False,
    ) -> list[str]:
        """Memorizes many things with few commits: one for every 4,096 entries or 8 MiB.

        Args:
            contents: What to memorize.
            session: Whose memory it is.
            metadata: One mapping, or `None`, per content.
            vectors: One vector, or `None`, per content.
            task: Name of the task that memorizes.
            pinned: They are not forgotten by strength.

        Returns:
            Their ids, in order.

        Raises:
            RecallError: as `memorize`; then nothing was memorized.
        """
        return self._memorize(contents, session, metadata, vectors, task, pinned)

    async def amemorize_many(
        self,
        contents: Iterable[Any],
        *,
        session: str,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
        vectors: Iterable[Sequence[float] | None] | None = None,
        task: str | None = None,
        pinned: bool = False,
    ) -> list[str]:
        """`memorize_many`, without blocking the event loop."""
        return await self._amemorize(contents, session, metadata, vectors, task, pinned)

    def retrieve(
        self,
        query: str | None = None,
        *,
        session: str,
        vector: Sequence[float] | None = None,
        top_k: int = 5,
        mode: Mode = "hybrid",
        filter: Mapping[str, Any] | None = None,
        context: str | Sequence[str] | None = None,
        min_strength: float | None = None,
        review: Review = "auto",
        fusion: Fusion = "score",
    ) -> list[Hit]:
        """Finds the memories of a session that fit best.

        Args:
            query: A text. It is searched by words and, with an embedder, by vector.
            session: Whose memory: exactly this one and no other.
            vector: A vector to search by, in place of the query's own.
            top_k: How many hits at most.
            mode: ``"hybrid"`` by both, ``"vector"`` or ``"text"`` by one.
            filter: Only memories whose metadata has these values.
            context: Texts, such as the latest turns, that widen the query.
            min_strength: Only memories at least this strong, 0 to 1.
            review: ``"good"`` counts every hit as reviewed with that grade; ``"auto"`` and ``"none"`` leave reviews to
                `feedback` and `review`. `True` means ``"auto"``, `False` ``"none"``.
            fusion: How both orders become one: ``"score"``, or ``"rrf"`` by ranks alone.

        Returns:
            The hits, best first.

        Raises:
            RecallError: `memory.session`, `memory.query`, `memory.vector`, `memory.dimension`, `memory.limit`,
                `memory.embedder` (by vector alone; a hybrid search goes on by words and warns).
        """
        return self._retrieve(query, session, vector, top_k, mode, filter, context, min_strength, review, fusion)

    async def aretrieve(
        self,
        query: str | None = None,
        *,
        session: str,
        vector: Sequence[float] | None = None,
        top_k: int = 5,
        mode: Mode = "hybrid",
        filter: Mapping[str, Any] | None = None,
        context: str | Sequence[str] | None = None,
        min_strength: float | None = None,
        review: Review = "auto",
        fusion: Fusion = "score",
    ) -> list[Hit]:
        """`retrieve`, without blocking the event loop."""
        return await self._aretrieve(query, session, vector, top_k, mode, filter, context, min_strength, review, fusion)

    def recent(self, session: str, n: int = 10) -> list[Entry]:
        """The latest memories of a session, latest first.

        Args:
            session: Whose memory.
            n: How many at most.

        Returns:
            The entries.
        """
        return [_entry(row) for row in self._native.recent(session, _whole("n", n))]

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

    def list(self, session: str, *, limit: int = 50, after: str | None = None) -> builtins.list[Entry]:
        """Memories of a session, oldest first.

        Args:
            session: Whose memory.
            limit: How many at most.
            after: Id of the last one of the page before.

        Returns:
            The entries.
        """
        return [_entry(row) for row in self._native.list(session, after, _whole("limit", limit))]

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
        return MemoryStats(*self._native.stats())

    def sessions(self, *, limit: int = 100, after: str | None = None) -> dict[str, int]:
        """Sessions that remember something, by name.

        Args:
            limit: How many at most.
            after: Name of the last one of the page before.

        Returns:
            The number of memories by session.
        """
        return dict(self._native.sessions(after, _whole("limit", limit)))

    def review(self, id: str | Iterable[str], grade: Grade, *, session: str | None = None) -> None:
        """Reviews memories: what was recalled well is kept longer.

        Args:
            id: One id, or several: all are reviewed or none.
            grade: ``"again"`` (it was wrong), ``"hard"``, ``"good"`` (it was used), ``"easy"``; or 1 to 4.
            session: Whose memories they must be, where that matters.

        Raises:
            RecallError: `memory.unknown`.
        """
        self._review(id, session, grade)

    def feedback(self, id: str | Iterable[str], feedback: Feedback, *, session: str | None = None) -> None:
        """Says what a recalled memory was good for.

        Args:
            id: One id, or several.
            feedback: ``"used"`` (graded good), ``"useful"`` (easy) or ``"wrong"`` (again).
            session: Whose memories they must be, where that matters.

        Raises:
            RecallError: `memory.unknown`.
        """
        self._feedback(id, session, feedback)

    def forget(
        self,
        session: str,
        *,
        ids: Iterable[str] | None = None,
        below: float | None = None,
        limit: int = 1_000,
        grace: Duration = 0.0,
        dry_run: bool = False,
    ) -> Forgotten:
        """Forgets memories of a session: these, or those that are nearly gone.

        Args:
            session: Whose memories.
            ids: Which; those that are not there are left out.
            below: All weaker than this, 0 to 1, weakest first, save pinned ones.
            limit: How many at most.
            grace: Memories younger than this stay (by strength only).
            dry_run: Only say what would go.

        Returns:
            What was forgotten, and how many more fit.

        Raises:
            RecallError: `memory.threshold`, `memory.session`.
        """
        return self._forget(session, ids, below, limit, grace, dry_run)

    async def aforget(
        self,
        session: str,
        *,
        ids: Iterable[str] | None = None,
        below: float | None = None,
        limit: int = 1_000,
        grace: Duration = 0.0,
        dry_run: bool = False,
    ) -> Forgotten:
        """`forget`, without blocking the event loop."""
        return await _elsewhere(partial(self._forget, session, ids, below, limit, grace, dry_run))

    def delete_session(self, session: str) -> int:
        """Forgets everything of a session, pinned or not.

        Args:
            session: Whose memory.

        Returns:
            How many memories were forgotten.
        """
        return self._native.delete_session(session)

    def export(self, session: str | None = None) -> Iterator[str]:
        """Memories as JSON Lines, without line ends.

        Args:
            session: Whose memory; `None` for all sessions, one after the other.

        Yields:
            One line per memory, for `import_`.
        """
        for name in self._names() if session is None else [session]:
            after: str | None = None
            while True:
                lines, after = self._native.export(name, after, _PAGE)
                yield from lines
                if len(lines) < _PAGE:
                    break

    def import_(self, lines: Iterable[str]) -> int:
        """Memorizes lines that `export` wrote, under their own ids: importing again changes nothing.

        Args:
            lines: The lines; an open file will do.

        Returns:
            How many were memorized.

        Raises:
            RecallError: `memory.import` naming the line; the thousand lines around it were not memorized.
        """
        count = 0
        batch: builtins.list[str] = []
        for line in lines:
            batch.append(line)
            if len(batch) >= _PAGE:
                count += self._native.import_lines(batch)
                batch.clear()
        return count + self._native.import_lines(batch)

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

    def _names(self) -> Iterator[str]:
        after: str | None = None
        while True:
            names = self._native.sessions(after, _PAGE)
            yield from (name for name, _ in names)
            if len(names) < _PAGE:
                return
            after = names[-1][0]


class SessionMemory(_Recall):
    """What a task's session remembers: `ctx.memory`.

    What the task writes is seen by its own searches at once, by others when the task has completed, in the same
    commit; if the attempt fails it is dropped.
    """

    def __init__(self, native: _goclaw.Memory, session: str, embedder: Embedder | None) -> None:
        self._native = native
        self._session = session
        self._embedder = embedder

    @property
    def session(self) -> str:
        """Whose memory it is: the run's session."""
        return self._session

    def memorize(
        self,
        content: Any,
        *,
        metadata: Mapping[str, Any] | None = None,
        vector: Sequence[float] | None = None,
        pinned: bool = False,
    ) -> str:
        """Memorizes one thing with the task's completion; see `Memory.memorize`."""
        return self._memorize([content], self._session, [metadata], [vector], None, pinned)[0]

    async def amemorize(
        self,
        content: Any,
        *,
        metadata: Mapping[str, Any] | None = None,
        vector: Sequence[float] | None = None,
        pinned: bool = False,
    ) -> str:
        """`memorize`, without blocking the event loop."""
        return (await self._amemorize([content], self._session, [metadata], [vector], None, pinned))[0]

    def memorize_many(
        self,
        contents: Iterable[Any],
        *,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
        vectors: Iterable[Sequence[float] | None] | None = None,
        pinned: bool = False,
    ) -> list[str]:
        """Memorizes many things with the task's completion; see `Memory.memorize_many`."""
        return self._memorize(contents, self._session, metadata, vectors, None, pinned)

    def retrieve(
        self,
        query: str | None = None,
        *,
        vector: Sequence[float] | None = None,
        top_k: int = 5,
        mode: Mode = "hybrid",
        filter: Mapping[str, Any] | None = None,
        context: str | Sequence[str] | None = None,
        min_strength: float | None = None,
        review: Review = "auto",
        fusion: Fusion = "score",
    ) -> list[Hit]:
        """Finds the memories that fit best; see `Memory.retrieve`."""
        return self._retrieve(query, self._session, vector, top_k, mode, filter, context, min_strength, review, fusion)

    async def aretrieve(
        self,
        query: str | None = None,
        *,
        vector: Sequence[float] | None = None,
        top_k: int = 5,
        mode: Mode = "hybrid",
        filter: Mapping[str, Any] | None = None,
        context: str | Sequence[str] | None = None,
        min_strength: float | None = None,
        review: Review = "auto",
        fusion: Fusion = "score",
    ) -> list[Hit]:
        """`retrieve`, without blocking the event loop."""
        return await self._aretrieve(
            query, self._session, vector, top_k, mode, filter, context, min_strength, review, fusion
        )

    def recent(self, n: int = 10) -> list[Entry]:
        """The latest memories, latest first; see `Memory.recent`."""
        return [_entry(row) for row in self._native.recent(self._session, _whole("n", n))]

    def get(self, id: str) -> Entry:
        """A memory by its id, once it is committed; see `Memory.get`."""
        return _known(id, self._native.get(id, self._session))

    def review(self, id: str | Iterable[str], grade: Grade) -> None:
        """Reviews memories with the task's completion; see `Memory.review`."""
        self._review(id, self._session, grade)

    def feedback(self, id: str | Iterable[str], feedback: Feedback) -> None:
        """Says what recalled memories were good for, with the task's completion; see `Memory.feedback`."""
        self._feedback(id, self._session, feedback)

    def forget(
        self,
        *,
        ids: Iterable[str] | None = None,
        below: float | None = None,
        limit: int = 1_000,
        grace: Duration = 0.0,
        dry_run: bool = False,
    ) -> Forgotten:
        """Forgets memories with the task's completion; see `Memory.forget`."""
        return self._forget(self._session, ids, below, limit, grace, dry_run)

    def __repr__(self) -> str:
        return f"<SessionMemory {self._session!r}>"


def _of_task(native: _goclaw.Memory, session: str, embedder: Embedder | None) -> SessionMemory:
    return SessionMemory(native, session, embedder)


def name_of(embedder: object) -> str:
    """The name under which a store records an embedder.

    Args:
        embedder: The callable.

    Returns:
        Its `name`, else its qualified name.

    Example:
        >>> from goclaw.embedders import Hashing
        >>> name_of(Hashing(64))
        'goclaw.hashing-64'
    """
    name = getattr(embedder, "name", None)
    if isinstance(name, str) and name:
        return name
    thing = embedder if hasattr(embedder, "__qualname__") else type(embedder)
    return f"{thing.__module__}:{thing.__qualname__}"


class _Embedding:
    """Names what an embedder raises after it."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, RecallError):
            raise RecallError(
                f"the embedder failed: {type(error).__name__}: {error}",
                code="memory.embedder",
                help="see to the embedder; nothing was memorized",
            ) from error


async def _elsewhere(call: Callable[[], T]) -> T:
    import asyncio

    return await asyncio.to_thread(call)


def _drafts(
    contents: Iterable[Any],
    metadata: Iterable[Mapping[str, Any] | None] | None,
    vectors: Iterable[Sequence[float] | None] | None,
    pinned: bool,
) -> list[_Draft]:
    if isinstance(contents, (str, bytes)):
        raise RecallError("`contents` is one thing", code="memory.content", help="write [content], or use memorize()")
    all_contents = list(contents)
    all_metadata = [None] * len(all_contents) if metadata is None else list(metadata)
    all_vectors = [None] * len(all_contents) if vectors is None else list(vectors)
    if not len(all_contents) == len(all_metadata) == len(all_vectors):
        raise RecallError(
            f"{len(all_contents)} contents, {len(all_metadata)} metadata, {len(all_vectors)} vectors",
            code="memory.content",
            help="give one of each, or None, per content",
        )
    return [_draft(*parts, pinned) for parts in zip(all_contents, all_metadata, all_vectors, strict=True)]


def _draft(content: Any, metadata: Mapping[str, Any] | None, vector: Sequence[float] | None, pinned: bool) -> _Draft:
    kept = None if not metadata else _json(dict(metadata), "the metadata", "memory.metadata")
    numbers = None if vector is None else _numbers(vector)
    if isinstance(content, str):
        return content, False, kept, numbers, pinned
    if isinstance(content, (bytes, bytearray, memoryview)):
        return bytes(content), False, kept, numbers, pinned
    return _json(content, "the content", "memory.content"), True, kept, numbers, pinned


def _json(value: Any, what: str, code: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise RecallError(f"{what} is no JSON: {error}", code=code, help="use plain values") from error


def _numbers(vector: Any) -> list[float]:
    try:
        return [float(part) for part in (vector.tolist() if hasattr(vector, "tolist") else vector)]
    except (TypeError, ValueError, OverflowError) as error:
        raise RecallError(
            f"the vector is no sequence of numbers: {error}", code="memory.vector", help="pass a list of floats"
        ) from error


def _whole(what: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise RecallError(f"`{what}` is {value!r}", code="memory.limit", help="give a whole number, 1 or more")
    return value


def _known(id: str, row: _goclaw._MemoryRow | None) -> Entry:
    if row is None:
        raise RecallError(
            f"there is no memory `{id}`",
            code="memory.unknown",
            help="it was forgotten, or is another session's; look it up with list(session)",
        )
    return _entry(row)


def _at(ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=ms)


def _entry(row: _goclaw._MemoryRow) -> Entry:
    id, task, session, content, (is_json, metadata), halves, curve, (reviewed, created), pinned = row
    strength, stability, difficulty = curve
    return Entry(
        id=id,
        task_id=task,
        session_id=session,
        content=json.loads(content) if is_json else content,
        metadata={} if metadata is None else json.loads(metadata),
        strength=strength,
        stability=stability,
        difficulty=difficulty,
        last_review=_at(reviewed),
        created=_at(created),
        pinned=pinned,
        _halves=halves,
    )


def _hit(row: _goclaw._HitRow) -> Hit:
    entry, score, (vector_rank, vector_score), (text_rank, text_score) = row
    return Hit(_entry(entry), score, vector_rank, text_rank, vector_score, text_score)
