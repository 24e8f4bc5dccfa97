"""The options that a task has, whoever declares it: the decorator, `.options(...)`, the builder, YAML."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Literal, TypeAlias, Unpack, cast

from . import _expr, _trace
from ._keywords import TaskWords
from ._suggest import suggest
from .durations import to_positive_ms
from .errors import ConfigError
from .policy import Retrieve, retrieve_of
from .retry import Retry

Delivery: TypeAlias = Literal["at_least_once", "at_most_once"]
Isolation: TypeAlias = Literal["auto", "thread", "loop", "process"]
Trigger: TypeAlias = Literal["all_success", "all_done", "one_success", "none_failed"]
# A text, or in a traced workflow a handle: what tells callers of one lane apart.
RateKey: TypeAlias = Any
# What is looked up before a task: a `Retrieve`, or the form that documents use.
TaskMemory: TypeAlias = Retrieve | Mapping[str, Any]
OnFailure: TypeAlias = Literal["fail_fast", "continue"]
Durability: TypeAlias = Literal["strict", "relaxed", "none"]

DELIVERIES = ("at_least_once", "at_most_once")
ISOLATIONS = ("auto", "thread", "loop", "process")
TRIGGERS = ("all_success", "all_done", "one_success", "none_failed")
ON_FAILURES = ("fail_fast", "continue")
DURABILITIES = ("strict", "relaxed", "none")
_PRIORITY_MAX = 2**31 - 1
_COST_MAX = 2**32 - 1
# Bounds in time: the name that users write, and the one that the core reads.
_TIMES = ("timeout", "queue_timeout", "idle_timeout", "total_timeout")


class Unset(enum.Enum):
    """Stands for an option that was not given, where `None` means something."""

    UNSET = enum.auto()

    def __repr__(self) -> str:
        return "unset"


UNSET: Final = Unset.UNSET


def one_of(what: str, value: object, known: tuple[str, ...]) -> str:
    """Checks a choice.

    Raises:
        ConfigError: `config.choice` with a suggestion.
    """
    if not isinstance(value, str) or value not in known:
        raise ConfigError(
            f"`{what}` is {value!r}",
            code="config.choice",
            help=suggest(str(value), known),
        )
    return value


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """How a task is run."""

    lane: str = "default"
    timeout_ms: int | None = None
    queue_timeout_ms: int | None = None
    idle_timeout_ms: int | None = None
    total_timeout_ms: int | None = None
    rate_key: _expr.Expr | None = None
    cost: int = 1
    retry: Retry = field(default_factory=Retry)
    priority: int = 0
    delivery: str = "at_least_once"
    trigger: str = "all_success"
    isolation: str = "auto"
    # A search in the core's form.
    retrieve: Mapping[str, Any] | None = None

    def merged(self, **given: Unpack[TaskWords]) -> TaskOptions:
        """The same options with those given in their place.

        Raises:
            ConfigError: for values that make no sense.
        """
        changed: dict[str, Any] = {}
        lane, retry, retries = given.get("lane"), given.get("retry"), given.get("retries")
        if lane is not None:
            if not isinstance(lane, str) or not lane.strip():
                raise ConfigError(f"`lane` is {lane!r}", code="config.lane", help="give a lane's name")
            changed["lane"] = lane
        bounds = cast("dict[str, Any]", given)
        for what in _TIMES:
            if not isinstance(bound := bounds.get(what, UNSET), Unset):
                changed[f"{what}_ms"] = None if bound is None else to_positive_ms(bound, what=what)
        if not isinstance(rate_key := given.get("rate_key", UNSET), Unset):
            changed["rate_key"] = None if rate_key is None else _rate_key(rate_key)
        if not isinstance(memory := given.get("memory", UNSET), Unset):
            search = retrieve_of(memory)
            changed["retrieve"] = None if search is None else search._to_model()
        if retry is not None and not isinstance(retry, Retry):
            raise ConfigError(f"`retry` is {retry!r}", code="config.retry", help="give goclaw.Retry(...)")
        if retry is not None or retries is not None:
            changed["retry"] = _retry(retry or self.retry, retries, both=retry is not None and retries is not None)
        for what, check in _CHECKS.items():
            if (value := bounds.get(what)) is not None:
                changed[what] = check(value)
        return replace(self, **changed)

    def to_model(self) -> dict[str, Any]:
        # Every key is always there, so that an update of a task's model also removes what was set before.
        return {
            "lane": self.lane,
            **{f"{what}_ms": getattr(self, f"{what}_ms") for what in _TIMES},
            "rate_key": self.rate_key,
            "cost": self.cost,
            "retry": self.retry._to_model(),
            "priority": self.priority,
            "delivery": self.delivery,
            "trigger": self.trigger,
            "isolation": self.isolation,
            "memory": None if self.retrieve is None else {"retrieve": self.retrieve},
        }


def _retry(base: Retry, retries: int | None, *, both: bool) -> Retry:
    if both:
        raise ConfigError(
            "both `retries` and `retry` are given",
            code="config.contradiction",
            help="give the number inside: retry=goclaw.Retry(retries=5, ...)",
        )
    return base if retries is None else replace(base, retries=retries)


def _rate_key(given: object) -> _expr.Expr:
    if isinstance(given, _trace.Traced):
        return given._goclaw_tracer.expr(given, "`rate_key` was given")
    if not isinstance(given, str) or not given.strip():
        raise ConfigError(
            f"`rate_key` is {given!r}",
            code="config.rate_key",
            help='give a text, such as "{{ input.tenant }}", or in a traced workflow a handle',
        )
    return {"template": given} if "{{" in given or "{%" in given else _expr.value(given)


def _cost(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _COST_MAX:
        raise ConfigError(f"`cost` is {value!r}", code="config.cost", help="give a whole number of units, 1 or more")
    return value


def _priority(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -_PRIORITY_MAX <= value <= _PRIORITY_MAX:
        raise ConfigError(f"`priority` is {value!r}", code="config.priority", help="give a whole number")
    return value


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "cost": _cost,
    "priority": _priority,
    "delivery": partial(one_of, "delivery", known=DELIVERIES),
    "trigger": partial(one_of, "trigger", known=TRIGGERS),
    "isolation": partial(one_of, "isolation", known=ISOLATIONS),
}


def whole_number(what: str, value: int, most: int) -> int:
    """Checks a bound.

    Raises:
        ConfigError: `config.invalid`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ConfigError(f"`{what}` is {value!r}", code="config.invalid", help=f"give a whole number from 1 to {most}")
    return value
