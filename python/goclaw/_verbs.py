"""The options of the memory's verbs, each said once.

A verb has up to four faces: sync and async, of an engine and of a task. All take `**options: Unpack[...]`; the
value class beside the typed dict has the defaults, checks them, and is what the core reads. So a new option is a line
in the typed dict, a line in the value, and a line in the core's `Asked…` (`src/py/memory.rs`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, TypeVar

from ._options import one_of
from ._plain import json_of, whole
from ._suggest import suggest
from .durations import Duration, to_ms
from .errors import RecallError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    V = TypeVar("V", bound=DataclassInstance)

F = TypeVar("F", bound=Callable[..., Any])
Mode: TypeAlias = Literal["hybrid", "vector", "text"]
Fusion: TypeAlias = Literal["score", "rrf"]
Review: TypeAlias = Literal["auto", "good", "none"] | bool


class MemorizeOptions(TypedDict, total=False):
    """Options of `memorize` and `memorize_many`."""

    pinned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Memorizing:
    """How things are memorized."""

    pinned: bool = False


class RetrieveOptions(TypedDict, total=False):
    """Options of `retrieve`."""

    vector: Sequence[float] | None
    top_k: int
    mode: Mode
    filter: Mapping[str, Any] | None
    context: str | Sequence[str] | None
    min_strength: float | None
    review: Review
    fusion: Fusion


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieving:
    """What to look for, and how."""

    vector: Sequence[float] | None = None
    top_k: int = 5
    mode: Mode = "hybrid"
    filter: Mapping[str, Any] | None = None
    context: str | Sequence[str] | None = None
    min_strength: float | None = None
    review: Review = "auto"
    fusion: Fusion = "score"

    def __post_init__(self) -> None:
        whole("top_k", self.top_k)
        one_of("mode", self.mode, ("hybrid", "vector", "text"))
        one_of("fusion", self.fusion, ("score", "rrf"))
        if self.review is not True and self.review is not False:
            one_of("review", self.review, ("auto", "good", "none"))

    @property
    def filter_json(self) -> str | None:
        return json_of(dict(self.filter), "the filter", "memory.metadata") if self.filter else None


class ForgetOptions(TypedDict, total=False):
    """Options of `forget`."""

    ids: Iterable[str] | None
    below: float | None
    limit: int
    grace: Duration
    dry_run: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgetting:
    """What is to go."""

    ids: Iterable[str] | None = None
    below: float | None = None
    limit: int = 1_000
    grace: Duration = 0.0
    dry_run: bool = False

    def __post_init__(self) -> None:
        whole("limit", self.limit)
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


def value_of(verb: str, kind: type[V], options: Mapping[str, Any]) -> V:
    """The options as a value.

    Raises:
        TypeError: for an option that the verb does not have, as a call would.
    """
    known = [field.name for field in fields(kind)]
    for name in options:
        if name not in known:
            raise TypeError(f"{verb}() got an unexpected keyword argument `{name}`: {suggest(name, known)}")
    return kind(**options)


def spelled(kind: type[DataclassInstance]) -> Callable[[F], F]:
    """Spells the options out where the signature is asked for at run time, as `help` and notebooks do."""

    def spell(method: F) -> F:
        signature = inspect.signature(method)
        own = [it for it in signature.parameters.values() if it.kind is not inspect.Parameter.VAR_KEYWORD]
        options = [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if field.default is MISSING else field.default,
                annotation=field.type,
            )
            for field in fields(kind)
        ]
        spelled_out = signature.replace(parameters=[*own, *options])
        method.__signature__ = spelled_out  # type: ignore[attr-defined]
        return method

    return spell
