"""What an engine's memory and a task's have in common: drafts, vectors, searches."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from . import _goclaw
from ._options import one_of
from ._plain import json_of, numbers
from ._threads import elsewhere as _elsewhere
from ._verbs import Dropping, Memorizing, Retrieving
from .entry import Forgotten, Hit, _hit
from .errors import RecallError

if TYPE_CHECKING:
    from ._embeddings import _Embeddings

T = TypeVar("T")
Grade: TypeAlias = Literal["again", "hard", "good", "easy", 1, 2, 3, 4]
Feedback: TypeAlias = Literal["used", "useful", "wrong"]

_GRADES: dict[object, int] = {"again": 1, "hard": 2, "good": 3, "easy": 4, 1: 1, 2: 2, 3: 3, 4: 4}
_FEEDBACK = {"used": 3, "useful": 4, "wrong": 1}
PAGE = 1_000
"""Entries, or names of sessions, that are read at once."""
# Characters of a turn that widen a query.
_TURN_MAX = 1_000


@dataclass(slots=True)
class _Draft:
    """One thing to memorize, as the core reads it."""

    content: str | bytes
    is_json: bool
    metadata: str | None
    vector: Sequence[float] | None


@dataclass(slots=True)
class _Asked:
    """A query on its way: the text to search by, the text to embed, the vector, the memories not to answer."""

    text: str | None
    vector: Sequence[float] | None
    to_embed: str | None = None
    without: list[str] = field(default_factory=list)


class _Recall:
    """What an engine's memory and a task's have in common."""

    _native: _goclaw.Memory
    _embeddings: _Embeddings

    def _memorize(self, session: str, drafts: list[_Draft], task: str | None, how: Memorizing) -> list[str]:
        missing = self._missing(drafts, how)
        if missing:
            self._native.check_drafts(session, drafts)
        while missing:
            generation, made = self._embeddings.make([text for _, text in missing])
            for (draft, _), vector in zip(missing, made, strict=True):
                draft.vector = vector
            try:
                return self._native.memorize(session, drafts, task, how, generation)
            except RecallError as error:
                # The store went over to another model between the two: once more, by that.
                if error.code != "memory.model" or self._embeddings.generation() == generation:
                    raise
        return self._native.memorize(session, drafts, task, how, None)

    async def _amemorize(self, session: str, drafts: list[_Draft], task: str | None, how: Memorizing) -> list[str]:
        return await _elsewhere(partial(self._memorize, session, drafts, task, how))

    def _missing(self, drafts: list[_Draft], how: Memorizing) -> list[tuple[_Draft, str]]:
        """Drafts that get their vector now, with their texts; those of the others follow."""
        if (how.vectorize or self._embeddings.when) != "now":
            return []
        return [(it, it.content) for it in drafts if it.vector is None and isinstance(it.content, str)]

    def _asked(self, session: str, query: str | None, search: Retrieving) -> _Asked:
        if query is not None and not isinstance(query, str):
            raise RecallError(f"the query is {query!r}, no text", code="memory.query", help="pass a text")
        asked = _Asked(query, vector=None if search.vector is None else numbers(search.vector))
        if query is not None and query.strip() and search.context:
            turns, asked.without = self._turns(session, search.context)
            asked.text = "\n".join([*turns, query])
        wanted = asked.text is not None and asked.text.strip() and asked.vector is None and search.mode != "text"
        asked.to_embed = asked.text if wanted and self._embeddings.when is not None else None
        if asked.to_embed is not None:
            self._native.check_search(session, asked.to_embed, search)
        return asked

    def _turns(self, session: str, context: str | Sequence[str] | int) -> tuple[Sequence[str], list[str]]:
        """What widens a query; of the session's own latest turns the ids, too."""
        if isinstance(context, str):
            return [context], []
        if not isinstance(context, int):
            return context, []
        rows = self._native.recent(session, context)[::-1]
        return [row[3][:_TURN_MAX] for row in rows if isinstance(row[3], str)], [row[0] for row in rows]

    def _without_vector(self, mode: str, error: RecallError) -> None:
        """A search by both legs goes on by words; one by vector cannot."""
        if mode == "vector":
            raise error
        warnings.warn(f"searched by words alone: {error}", RuntimeWarning, stacklevel=4)

    def _found(self, session: str, asked: _Asked, search: Retrieving) -> list[Hit]:
        rows, warning = self._native.retrieve(session, asked.text, asked.vector, asked.without, search)
        if warning is not None:
            warnings.warn(f"searched without all of the cold tier: {warning}", RuntimeWarning, stacklevel=4)
        hits = [_hit(row, search.explain) for row in rows]
        if search.review == "good" and hits:
            self._native.review([hit.entry.id for hit in hits], session, _FEEDBACK["used"])
        return hits

    def _retrieve(self, session: str, query: str | None, search: Retrieving) -> list[Hit]:
        asked = self._asked(session, query, search)
        if asked.to_embed is not None:
            try:
                asked.vector = self._embeddings.make_query(asked.to_embed)
            except RecallError as error:
                self._without_vector(search.mode, error)
        return self._found(session, asked, search)

    async def _aretrieve(self, session: str, query: str | None, search: Retrieving) -> list[Hit]:
        asked = await _elsewhere(partial(self._asked, session, query, search))
        if asked.to_embed is not None:
            try:
                asked.vector = await _elsewhere(partial(self._embeddings.make_query, asked.to_embed))
            except RecallError as error:
                self._without_vector(search.mode, error)
        return await _elsewhere(partial(self._found, session, asked, search))

    def _forget(self, session: str, what: Dropping) -> Forgotten:
        gone, left = self._native.forget(session, what)
        return Forgotten(tuple(gone), left)

    def _review(self, id: str | Iterable[str], session: str | None, grade: Grade) -> None:
        self._native.review([id] if isinstance(id, str) else list(id), session, _grade(grade))

    def _feedback(self, id: str | Iterable[str], session: str | None, feedback: Feedback) -> None:
        number = _FEEDBACK[one_of("feedback", feedback, tuple(_FEEDBACK))]
        self._native.review([id] if isinstance(id, str) else list(id), session, number)


def _sessions_of(native: _goclaw.Memory) -> Iterator[str]:
    after: str | None = None
    while True:
        names = native.sessions(after, PAGE)
        yield from (name for name, _ in names)
        if len(names) < PAGE:
            return
        after = names[-1][0]


def _grade(grade: Grade) -> int:
    number = None if isinstance(grade, bool) else _GRADES.get(grade)
    if number is None:
        one_of("grade", grade, ("again", "hard", "good", "easy"))
    return number or 3


def _drafts(
    contents: Iterable[Any],
    metadata: Iterable[Mapping[str, Any] | None] | None,
    vectors: Iterable[Sequence[float] | None] | None,
) -> list[_Draft]:
    if isinstance(contents, (str, bytes)):
        raise RecallError("`contents` is one thing", code="memory.content", help="write [content], or use memorize()")
    if isinstance(metadata, (str, Mapping)):
        raise RecallError(
            "`metadata` is one thing, and each content has its own",
            code="memory.metadata",
            help="give one mapping, or None, per content: metadata=[{...}, None]; for all the same [{...}] * n",
        )
    all_contents = list(contents)
    all_metadata = [None] * len(all_contents) if metadata is None else list(metadata)
    all_vectors = [None] * len(all_contents) if vectors is None else list(vectors)
    if not len(all_contents) == len(all_metadata) == len(all_vectors):
        raise RecallError(
            f"{len(all_contents)} contents, {len(all_metadata)} metadata, {len(all_vectors)} vectors",
            code="memory.content",
            help="give one of each, or None, per content",
        )
    return [_draft(*parts) for parts in zip(all_contents, all_metadata, all_vectors, strict=True)]


def _draft(content: Any, metadata: Mapping[str, Any] | None, vector: Sequence[float] | None) -> _Draft:
    if metadata is not None and not isinstance(metadata, Mapping):
        raise RecallError(
            f"the metadata is {metadata!r:.80}, no mapping",
            code="memory.metadata",
            help='give plain values by names: {"kind": "fact"}',
        )
    kept = None if not metadata else json_of(dict(metadata), "the metadata", "memory.metadata")
    parts = None if vector is None else numbers(vector)
    if isinstance(content, str):
        return _Draft(content, False, kept, parts)
    if isinstance(content, (bytes, bytearray, memoryview)):
        return _Draft(bytes(content), False, kept, parts)
    return _Draft(json_of(content, "the content", "memory.content"), True, kept, parts)
