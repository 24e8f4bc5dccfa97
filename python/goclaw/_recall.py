"""What an engine's memory and a task's have in common: drafts, vectors, searches."""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from . import _goclaw, _guard
from ._options import one_of
from .durations import Duration, to_ms
from .embedders import name_of
from .entry import Forgotten, Hit, _hit
from .errors import RecallError

if TYPE_CHECKING:
    from .embedders import Embedder

T = TypeVar("T")
Mode: TypeAlias = Literal["hybrid", "vector", "text"]
Fusion: TypeAlias = Literal["score", "rrf"]
Grade: TypeAlias = Literal["again", "hard", "good", "easy", 1, 2, 3, 4]
Feedback: TypeAlias = Literal["used", "useful", "wrong"]
Review: TypeAlias = Literal["auto", "good", "none"] | bool

_GRADES: dict[object, int] = {"again": 1, "hard": 2, "good": 3, "easy": 4, 1: 1, 2: 2, 3: 3, 4: 4}
_FEEDBACK = {"used": 3, "useful": 4, "wrong": 1}
_EMBED_BATCH = 256

_Draft: TypeAlias = tuple[str | bytes, bool, str | None, list[float] | None, bool]


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
        embedder: Any = self._embedder
        for at in range(0, len(texts), _EMBED_BATCH):
            batch = texts[at : at + _EMBED_BATCH]
            with _Embedding():
                found = embedder(batch)
                if inspect.isawaitable(found):
                    _guard.refuse_own_loop("wait for its embedder")
                    from ._loop import _awaiting, run_coroutine

                    found = run_coroutine(_awaiting(found))
            made.extend(self._checked(batch, found))
        return made

    async def _aembed(self, texts: list[str]) -> list[list[float]]:
        made: list[list[float]] = []
        embedder: Any = self._embedder
        for at in range(0, len(texts), _EMBED_BATCH):
            batch = texts[at : at + _EMBED_BATCH]
            with _Embedding():
                found = await _elsewhere(partial(embedder, batch))
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
