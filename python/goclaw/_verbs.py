"""The options of the memory's verbs, each said once.

A verb has up to four faces: sync and async, of an engine and of a task. All take `**options: Unpack[...]`; the
value class beside the typed dict has the defaults, checks them, and is what the core reads. So a new option is a line
in the typed dict, a line in the value, and a line in the core's `Asked…` (`src/py/memory.rs`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict

from ._options import one_of
from ._plain import json_of, number, pair, whole
from .durations import Duration, to_ms
from .errors import RecallError

if TYPE_CHECKING:
    from .embedders import Vectorize

Duplicates: TypeAlias = Literal["keep", "review", "refuse"]
Mode: TypeAlias = Literal["hybrid", "vector", "text"]
Fusion: TypeAlias = Literal["score", "rrf"]
Review: TypeAlias = Literal["auto", "good", "none"] | bool
Tiers: TypeAlias = Literal["all", "hot", "cold"]

TURNS_MAX = 50
"""Most recent turns that widen a query."""


class MemorizeOptions(TypedDict, total=False):
    """Options of `memorize` and `memorize_many`."""

    pinned: bool
    duplicates: Duplicates
    alike: float
    vectorize: Vectorize | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Memorizing:
    """How things are memorized."""

    pinned: bool = False
    duplicates: Duplicates = "keep"
    alike: float = 0.97

    vectorize: Vectorize | None = None

    def __post_init__(self) -> None:
        one_of("duplicates", self.duplicates, ("keep", "review", "refuse"))
        number("alike", self.alike)
        if self.vectorize is not None:
            one_of("vectorize", self.vectorize, ("now", "later"))


class RetrieveOptions(TypedDict, total=False):
    """Options of `retrieve`."""

    vector: Sequence[float] | None
    top_k: int
    mode: Mode
    filter: Mapping[str, Any] | None
    context: str | Sequence[str] | int | None
    min_strength: float | None
    review: Review
    fusion: Fusion
    weights: tuple[float, float]
    smoothing: float
    strength_boost: float
    recency_boost: float
    recency_half_life: Duration
    diversity: float
    explain: bool
    tiers: Tiers


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieving:
    """What to look for, and how."""

    vector: Sequence[float] | None = None
    top_k: int = 5
    mode: Mode = "hybrid"
    filter: Mapping[str, Any] | None = None
    context: str | Sequence[str] | int | None = None
    min_strength: float | None = None
    review: Review = "auto"
    fusion: Fusion = "score"
    weights: tuple[float, float] = (0.7, 0.3)
    smoothing: float = 0.0
    strength_boost: float = 0.0
    recency_boost: float = 0.0
    recency_half_life: Duration = "30d"
    diversity: float = 0.0
    explain: bool = False
    tiers: Tiers = "all"

    def __post_init__(self) -> None:
        whole("top_k", self.top_k)
        one_of("tiers", self.tiers, ("all", "hot", "cold"))
        one_of("mode", self.mode, ("hybrid", "vector", "text"))
        one_of("fusion", self.fusion, ("score", "rrf"))
        if self.review is not True and self.review is not False:
            one_of("review", self.review, ("auto", "good", "none"))
        self.both_weights  # noqa: B018 - it refuses what is no pair
        if self.min_strength is not None:
            number("min_strength", self.min_strength, "memory.threshold")
        for name in ("smoothing", "strength_boost", "recency_boost", "diversity"):
            number(name, getattr(self, name))
        if self.half_life_days <= 0.0:
            raise RecallError(
                "`recency_half_life` is 0", code="memory.option", help="recency_boost=0 leaves the age out"
            )
        if isinstance(self.context, int) and not 0 < whole("context", self.context) <= TURNS_MAX:
            raise RecallError(
                f"`context` is {self.context} turns", code="memory.limit", help=f"1 to {TURNS_MAX} turns are allowed"
            )

    @property
    def both_weights(self) -> tuple[float, float]:
        return pair("weights", self.weights, "memory.weights")

    @property
    def filter_json(self) -> str | None:
        if self.filter is None:
            return None
        if not isinstance(self.filter, Mapping):
            raise RecallError(f"the filter is {self.filter!r}", code="memory.filter", help="pass a dict")
        return json_of(dict(self.filter), "the filter", "memory.filter")

    @property
    def half_life_days(self) -> float:
        return to_ms(self.recency_half_life, what="recency_half_life") / 86_400_000


class ForgetOptions(TypedDict, total=False):
    """Options of `forget`."""

    ids: Iterable[str] | None
    below: float | None
    limit: int
    grace: Duration
    dry_run: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropping:
    """What is to go."""

    ids: Iterable[str] | None = None
    below: float | None = None
    limit: int = 1_000
    grace: Duration = 0.0
    dry_run: bool = False

    def __post_init__(self) -> None:
        whole("limit", self.limit)
        if self.below is not None:
            number("below", self.below, "memory.threshold")
        if (self.ids is None) == (self.below is None):
            raise RecallError(
                "forget() takes either ids or a threshold",
                code="memory.threshold",
                help="forget(session, ids=[...]) or forget(session, below=0.3); delete_session(session) forgets all",
            )

    @property
    def chosen(self) -> list[str] | None:
        return [self.ids] if isinstance(self.ids, str) else None if self.ids is None else list(self.ids)

    @property
    def grace_ms(self) -> int:
        return to_ms(self.grace, what="grace")


class MoveOptions(TypedDict, total=False):
    """Options of `move_cold`."""

    below: float | None
    unused_for: Duration | None
    keep_max: int | None
    limit: int
    dry_run: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Moving:
    """What is to move to the cold tier."""

    below: float | None = None
    unused_for: Duration | None = None
    keep_max: int | None = None
    limit: int = 1_000
    dry_run: bool = False

    def __post_init__(self) -> None:
        whole("limit", self.limit)
        if self.below is not None:
            number("below", self.below, "memory.threshold")
        if self.keep_max is not None:
            whole("keep_max", self.keep_max)

    @property
    def unused_ms(self) -> int | None:
        return None if self.unused_for is None else to_ms(self.unused_for, what="unused_for")


class SweepOptions(TypedDict, total=False):
    """Options of `sweep`."""

    grace: Duration
    limit: int
    dry_run: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweeping:
    """What is to go from every session."""

    below: float
    grace: Duration = 0.0
    limit: int = 100_000
    dry_run: bool = False

    def __post_init__(self) -> None:
        whole("limit", self.limit)
        number("below", self.below, "memory.threshold")

    @property
    def grace_ms(self) -> int:
        return to_ms(self.grace, what="grace")
