"""Keyword options that several calls share, each said once: type checkers and editors read the classes,
`inspect.signature`, and with it notebooks, what `spelled_out` makes of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar

from ._suggest import suggest

if TYPE_CHECKING:
    from ._options import Delivery, Durability, Isolation, RateKey, TaskMemory, Trigger, Unset
    from .durations import Duration
    from .lane import OnFull
    from .policy import MemoryAccess
    from .rate import Rate
    from .retry import Retry
    from .session import OnRetry, WhenBusy

F = TypeVar("F", bound=Callable[..., Any])
V = TypeVar("V")
OnConflict = Literal["error", "existing"]


class AgentWords(TypedDict, total=False):
    """How the tasks of an agent are run."""

    lane: str | None
    timeout: Duration | Unset | None
    queue_timeout: Duration | Unset | None
    idle_timeout: Duration | Unset | None
    total_timeout: Duration | Unset | None
    rate_key: RateKey | Unset | None
    cost: int | None
    retries: int | None
    retry: Retry | None
    priority: int | None
    delivery: Delivery | None
    isolation: Isolation | None
    memory: TaskMemory | Unset | None


class TaskWords(AgentWords, total=False):
    """How one task is run."""

    trigger: Trigger | None


class LaneWords(TypedDict, total=False):
    """What can be changed of a lane while the engine is open."""

    concurrency: int | Unset
    capacity: int | Unset
    rate: str | Rate | Unset | None
    burst: int | Unset | None
    rate_key: str | Unset | None
    budgets: Mapping[str, str | Rate] | Unset | None
    on_full: OnFull | Unset
    timeout: Duration | Unset | None
    threads: int | Unset | None
    isolation: Isolation | Unset | None
    fair: bool | Unset


class _PlainWords(TypedDict, total=False):
    priority: int
    tags: Sequence[str]
    when_busy: WhenBusy | None
    on_retry: OnRetry
    weight: int | None
    memory: MemoryAccess | None


class ManyWords(_PlainWords, total=False):
    """What is said of runs that are submitted together."""

    durability: Durability | None


class RunWords(_PlainWords, total=False):
    """What is said of a run that is waited for."""

    session: str | None


class SubmitWords(RunWords, total=False):
    """What is said of a run that is submitted."""

    run_id: str | None
    on_conflict: OnConflict
    durability: Durability | None


def only(words: type, given: Mapping[str, Any], caller: str) -> None:
    """Refuses a keyword that the call does not take, as Python does.

    Args:
        words: A typed dict of the options, or the dataclass that they become.
        given: What the call was given.
        caller: Its name.

    Raises:
        TypeError: it names the keyword, and the one that was probably meant.
    """
    known = [option.name for option in _options(words)]
    for name in given:
        if name not in known:
            raise TypeError(f"{caller}() got an unexpected keyword argument '{name}'; {suggest(name, known)}")


def value_of(caller: str, kind: type[V], given: Mapping[str, Any]) -> V:
    """The options as the value that checks them and has their defaults.

    Raises:
        TypeError: as `only`.
    """
    only(kind, given, caller)
    return kind(**given)


def spelled_out(words: type) -> Callable[[F], F]:
    """Shows ``**options`` of a function as the keywords that they are, as `help` and notebooks ask for them."""

    def spell(function: F) -> F:
        plain = inspect.signature(function)
        kept = [one for one in plain.parameters.values() if one.kind is not one.VAR_KEYWORD]
        options = [option for option in _options(words) if option.name not in plain.parameters]
        function.__signature__ = plain.replace(parameters=[*kept, *options])  # type: ignore[attr-defined]
        return function

    return spell


def _options(words: type) -> list[inspect.Parameter]:
    def option(name: str, default: Any, annotation: Any) -> inspect.Parameter:
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)

    if is_dataclass(words):
        empty = inspect.Parameter.empty
        all_of = fields(words)
        return [option(it.name, empty if it.default is MISSING else it.default, it.type) for it in all_of]
    return [option(name, ..., hint.__forward_arg__) for name, hint in words.__annotations__.items()]
