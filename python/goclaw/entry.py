"""Memories as they are read: entries, hits, and what was forgotten."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from .errors import RecallError

if TYPE_CHECKING:
    from . import _goclaw

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
        tier: Name of the cold tier where it lies; `None` for what is in the store.
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
    tier: str | None = None
    _halves: bytes | None = field(default=None, repr=False)

    @property
    def vector(self) -> tuple[float, ...] | None:
        """The vector, scaled to length 1 and rounded to 16 bits a part; `None` without one."""
        if self._halves is None:
            return None
        return struct.unpack(f"<{len(self._halves) // 2}e", self._halves)


@dataclass(frozen=True, slots=True)
class HitExplanation:
    """What a hit's score is the sum of, and how it got its place.

    Attributes:
        vector: What the vector leg gives.
        text: What the words give.
        smoothing: What the neighbours in time give, or take.
        strength: What ``strength_boost`` adds.
        recency: What ``recency_boost`` adds.
        score: The sum, which the hits are ordered by.
        place: Place by score, from 1 on, before ``diversity`` picked.
        vector_rank: Place in the vector leg; `None` where it is not among that leg's best.
        text_rank: Place by words.
        vector_score: Cosine with the query.
        text_score: BM25 of the query.
    """

    vector: float
    text: float
    smoothing: float
    strength: float
    recency: float
    score: float
    place: int
    vector_rank: int | None
    text_rank: int | None
    vector_score: float | None
    text_score: float | None

    def __str__(self) -> str:
        legs = [
            f"{part:.3f} {name}{'' if rank is None else f' (rank {rank}, {raw:.3f})'}"
            for name, part, rank, raw in (
                ("by vector", self.vector, self.vector_rank, self.vector_score or 0.0),
                ("by words", self.text, self.text_rank, self.text_score or 0.0),
            )
        ]
        others = [("smoothing", self.smoothing), ("strength", self.strength), ("recency", self.recency)]
        return f"{self.score:.3f} = {' + '.join([*legs, *(f'{part:.3f} {name}' for name, part in others if part)])}"


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
        explanation: What the score is made of; with ``explain=True``.
    """

    entry: Entry
    score: float
    vector_rank: int | None
    text_rank: int | None
    vector_score: float | None
    text_score: float | None
    explanation: HitExplanation | None = None

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
class Imported:
    """What importing notes has changed.

    Attributes:
        added: Memories that were made.
        moved: Memories whose text is the same and whose lines in their file are others.
        forgotten: Memories that their files say no more.
        unchanged: Memories that were left as they are.
    """

    added: int
    moved: int
    forgotten: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep forgot, or with ``dry_run`` would.

    Attributes:
        forgotten: How many memories.
        sessions: Sessions that were looked at.
        seconds: How long it took.
        more: The limit was reached, so there may be more.
    """

    forgotten: int
    sessions: int
    seconds: float
    more: bool


@dataclass(frozen=True, slots=True)
class MemoryStats:
    """Counts over all sessions.

    Attributes:
        entries: Memories.
        sessions: Sessions that remember something.
        embedder: Name of what makes the vectors, where it has one.
        dimension: Parts of a vector; `None` before the first.
        indexes_loaded: Sessions whose index was read from its file since the store was opened.
        indexes_rebuilt: Files of indexes that could not be used (damaged, of another version, far behind), so that
            the session was indexed again.
        indexes_written: Files of indexes that were written.
        indexes_grouped: Times that the vectors of a session of 200,000 and more were put in cells, of which a search
            reads some.
        unvectored: Texts that have no vector of that embedder (yet); they are found by words.
        failed: Of those, how many the embedder refuses. They are tried again when the store is opened.
        last_error: What the embedder said last that was no vector.
        cold: The cold tier by numbers, where there is one.
        sweeps: Sweeps since the memory was opened.
        swept: Memories that they forgot.
        sweep_seconds: Seconds that they took.
        duplicates: Repetitions that counted as reviews, since the memory was opened.
    """

    entries: int
    sessions: int
    embedder: str | None
    dimension: int | None
    indexes_loaded: int = 0
    indexes_rebuilt: int = 0
    indexes_written: int = 0
    indexes_grouped: int = 0
    sweeps: int = 0
    swept: int = 0
    sweep_seconds: float = 0.0
    duplicates: int = 0
    unvectored: int = 0
    failed: int = 0
    last_error: str | None = None
    cold: ColdStats | None = None


@dataclass(frozen=True, slots=True)
class ColdStats:
    """A cold tier by numbers.

    Attributes:
        tier: Its name.
        entries: Memories that lie there.
        bytes: Bytes of their contents.
        pending: Copies that are to be deleted there and that the tier has not confirmed yet.
        errors: Calls that failed since the engine was opened.
        last_error: What the last failure said.
    """

    tier: str
    entries: int
    bytes: int
    pending: int
    errors: int
    last_error: str | None


@dataclass(frozen=True, slots=True)
class Moved:
    """What moved to the cold tier, or with ``dry_run`` would.

    Attributes:
        ids: The memories.
        bytes: Bytes of their contents.
        left: How many more are cold, beyond the limit.
        refused: How many are cold and stay, since the tier has no room for something as large.
    """

    ids: tuple[str, ...]
    bytes: int
    left: int
    refused: int

    def __len__(self) -> int:
        return len(self.ids)


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
    id, task, session, content, (is_json, metadata), halves, curve, (reviewed, created), (pinned, tier) = row
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
        tier=tier,
        _halves=halves,
    )


def _hit(row: _goclaw._HitRow, explain: bool) -> Hit:
    entry, score, (vector_rank, vector_score), (text_rank, text_score), parts = row
    legs = vector_rank, text_rank, vector_score, text_score
    vector, text, smoothing, strength, recency, place = parts
    sum_of = HitExplanation(vector, text, smoothing, strength, recency, score, place, *legs) if explain else None
    return Hit(_entry(entry), score, *legs, sum_of)
