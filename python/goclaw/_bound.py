"""The memory of a task: the verbs of `goclaw.memory`, bound to the run's session."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from . import _goclaw
from ._keywords import spelled_out, value_of
from ._plain import whole
from ._recall import Feedback, Grade, _draft, _drafts, _Recall
from ._threads import elsewhere as _elsewhere
from ._verbs import (
    Dropping,
    ForgetOptions,
    MemorizeOptions,
    Memorizing,
    RetrieveOptions,
    Retrieving,
)
from .entry import Entry, Forgotten, Hit, _entry, _known
from .errors import RecallError

if TYPE_CHECKING:
    from typing import Unpack

    from ._embeddings import _Embeddings


class SessionMemory(_Recall):
    """What a task's session remembers: `ctx.memory`.

    What the task writes is seen by its own searches at once, by others when the task has completed, in the same
    commit; if the attempt fails it is dropped.
    """

    def __init__(self, native: _goclaw.Memory, session: str, embeddings: _Embeddings) -> None:
        self._native = native
        self._session = session
        self._embeddings = embeddings

    @property
    def session(self) -> str:
        """Whose memory it is: the run's session."""
        return self._session

    def of(self, session: str) -> SessionMemory:
        """The memory of another session that the run was granted: `MemoryAccess` of its submit.

        What the task writes there lasts with its completion, as in its own session.

        Args:
            session: Whose memory.

        Returns:
            It, bound to that session.

        Raises:
            RecallError: `memory.no_grant` where the run was not granted it; writing where only reading was granted
                raises the same.
        """
        self._native.check_grant(session)
        return SessionMemory(self._native, session, self._embeddings)

    @spelled_out(Memorizing)
    def memorize(
        self,
        content: Any,
        *,
        metadata: Mapping[str, Any] | None = None,
        vector: Sequence[float] | None = None,
        **options: Unpack[MemorizeOptions],
    ) -> str:
        """Memorizes one thing with the task's completion; see `Memory.memorize`."""
        how = value_of("memorize", Memorizing, options)
        return self._memorize(self._session, [_draft(content, metadata, vector)], None, how)[0]

    @spelled_out(Memorizing)
    async def amemorize(
        self,
        content: Any,
        *,
        metadata: Mapping[str, Any] | None = None,
        vector: Sequence[float] | None = None,
        **options: Unpack[MemorizeOptions],
    ) -> str:
        """`memorize`, without blocking the event loop."""
        how = value_of("amemorize", Memorizing, options)
        return (await self._amemorize(self._session, [_draft(content, metadata, vector)], None, how))[0]

    @spelled_out(Memorizing)
    def memorize_many(
        self,
        contents: Iterable[Any],
        *,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
        vectors: Iterable[Sequence[float] | None] | None = None,
        **options: Unpack[MemorizeOptions],
    ) -> builtins.list[str]:
        """Memorizes many things with the task's completion; see `Memory.memorize_many`."""
        how = value_of("memorize_many", Memorizing, options)
        return self._memorize(self._session, _drafts(contents, metadata, vectors), None, how)

    @spelled_out(Memorizing)
    async def amemorize_many(
        self,
        contents: Iterable[Any],
        *,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
        vectors: Iterable[Sequence[float] | None] | None = None,
        **options: Unpack[MemorizeOptions],
    ) -> builtins.list[str]:
        """`memorize_many`, without blocking the event loop."""
        how = value_of("amemorize_many", Memorizing, options)
        return await self._amemorize(self._session, _drafts(contents, metadata, vectors), None, how)

    @spelled_out(Retrieving)
    def retrieve(self, query: str | None = None, **options: Unpack[RetrieveOptions]) -> builtins.list[Hit]:
        """Finds the memories that fit best; see `Memory.retrieve`."""
        return self._retrieve(self._session, query, value_of("retrieve", Retrieving, options))

    @spelled_out(Retrieving)
    async def aretrieve(self, query: str | None = None, **options: Unpack[RetrieveOptions]) -> builtins.list[Hit]:
        """`retrieve`, without blocking the event loop."""
        return await self._aretrieve(self._session, query, value_of("aretrieve", Retrieving, options))

    @spelled_out(Retrieving)
    def retrieve_across(
        self, sessions: Iterable[str], query: str | None = None, **options: Unpack[RetrieveOptions]
    ) -> builtins.list[Hit]:
        """Finds the memories of several sessions that fit best, each searched by itself, in one order by score.

        Args:
            sessions: Whose memories: the run's own session, and those that it was granted.
            query: A text.
            **options: What `Memory.retrieve` takes.

        Returns:
            The hits of all, best first; `Hit.entry.session_id` says whose.

        Raises:
            RecallError: `memory.no_grant`, `memory.session` where none is named, and what `retrieve` raises.
        """
        if isinstance(sessions, str):
            raise RecallError(
                "`sessions` is a text", code="memory.session", help=f'write retrieve_across(["{sessions}"], ...)'
            )
        search = value_of("retrieve_across", Retrieving, options)
        chosen = {name: self if name == self._session else self.of(name) for name in sessions}
        if not chosen:
            raise RecallError("no session is named", code="memory.session", help="name one or more")
        each = replace(search, review="none")
        hits = [hit for name, memory in chosen.items() for hit in memory._retrieve(name, query, each)]
        best = sorted(hits, key=lambda hit: (-hit.score, hit.entry.id))[: search.top_k]
        for name, memory in chosen.items():
            used = [hit.entry.id for hit in best if hit.entry.session_id == name]
            if search.review == "good" and used:
                memory.feedback(used, "used")
        return best

    @spelled_out(Retrieving)
    async def aretrieve_across(
        self, sessions: Iterable[str], query: str | None = None, **options: Unpack[RetrieveOptions]
    ) -> builtins.list[Hit]:
        """`retrieve_across`, without blocking the event loop."""
        return await _elsewhere(partial(self.retrieve_across, sessions, query, **options))

    def recent(self, n: int = 10) -> builtins.list[Entry]:
        """The latest memories, latest first; see `Memory.recent`."""
        return [_entry(row) for row in self._native.recent(self._session, whole("n", n))]

    async def arecent(self, n: int = 10) -> builtins.list[Entry]:
        """`recent`, without blocking the event loop."""
        return await _elsewhere(partial(self.recent, n))

    def get(self, id: str) -> Entry:
        """A memory by its id, once it is committed; see `Memory.get`."""
        return _known(id, self._native.get(id, self._session))

    async def aget(self, id: str) -> Entry:
        """`get`, without blocking the event loop."""
        return await _elsewhere(partial(self.get, id))

    def list(self, *, limit: int = 50, after: str | None = None) -> builtins.list[Entry]:
        """Memories, oldest first; see `Memory.list`."""
        return [_entry(row) for row in self._native.list(self._session, after, whole("limit", limit))]

    async def alist(self, *, limit: int = 50, after: str | None = None) -> builtins.list[Entry]:
        """`list`, without blocking the event loop."""
        return await _elsewhere(partial(self.list, limit=limit, after=after))

    def count(self) -> int:
        """How many memories there are, with what the task has memorized so far; see `Memory.count`."""
        return self._native.count(self._session)

    def review(self, id: str | Iterable[str], grade: Grade) -> None:
        """Reviews memories with the task's completion; see `Memory.review`."""
        self._review(id, self._session, grade)

    def feedback(self, id: str | Iterable[str], feedback: Feedback) -> None:
        """Says what recalled memories were good for, with the task's completion; see `Memory.feedback`."""
        self._feedback(id, self._session, feedback)

    async def areview(self, id: str | Iterable[str], grade: Grade) -> None:
        """`review`, without blocking the event loop."""
        await _elsewhere(partial(self.review, id, grade))

    async def afeedback(self, id: str | Iterable[str], feedback: Feedback) -> None:
        """`feedback`, without blocking the event loop."""
        await _elsewhere(partial(self.feedback, id, feedback))

    @spelled_out(Dropping)
    def forget(self, **options: Unpack[ForgetOptions]) -> Forgotten:
        """Forgets memories with the task's completion; see `Memory.forget`."""
        return self._forget(self._session, value_of("forget", Dropping, options))

    @spelled_out(Dropping)
    async def aforget(self, **options: Unpack[ForgetOptions]) -> Forgotten:
        """`forget`, without blocking the event loop."""
        return await _elsewhere(partial(self._forget, self._session, value_of("aforget", Dropping, options)))

    def __repr__(self) -> str:
        return f"<SessionMemory {self._session!r}>"


def _of_task(native: _goclaw.Memory, session: str, embeddings: _Embeddings) -> SessionMemory:
    return SessionMemory(native, session, embeddings)
