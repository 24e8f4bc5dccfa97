"""The options that a task has, whoever declares it: the decorator, `.options(...)`, the builder, YAML."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias

from ._suggest import suggest
from .durations import Duration, to_positive_ms
from .errors import ConfigError
from .retry import Retry

Delivery: TypeAlias = Literal["at_least_once", "at_most_once"]
Isolation: TypeAlias = Literal["auto", "thread", "loop", "process"]
Trigger: TypeAlias = Literal["all_success", "all_done", "one_success", "none_failed"]
OnFailure: TypeAlias = Literal["fail_fast", "continue"]
Durability: TypeAlias = Literal["strict", "relaxed", "none"]

DELIVERIES = ("at_least_once", "at_most_once")
ISOLATIONS = ("auto", "thread", "loop", "process")
TRIGGERS = ("all_success", "all_done", "one_success", "none_failed")
ON_FAILURES = ("fail_fast", "continue")
DURABILITIES = ("strict", "relaxed", "none")
_PRIORITY_MAX = 2**31 - 1


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
    retry: Retry = field(default_factory=Retry)
    priority: int = 0
    delivery: str = "at_least_once"
    trigger: str = "all_success"

    def merged(
        self,
        *,
        lane: str | None = None,
        timeout: Duration | Unset | None = UNSET,
        retries: int | None = None,
        retry: Retry | None = None,
        priority: int | None = None,
        delivery: str | None = None,
        trigger: str | None = None,
    ) -> TaskOptions:
        """The same options with those given in their place.

        Raises:
            ConfigError: for values that make no sense.
        """
        changed: dict[str, Any] = {}
        if lane is not None:
            if not isinstance(lane, str) or not lane.strip():
                raise ConfigError(f"`lane` is {lane!r}", code="config.lane", help="give a lane's name")
            changed["lane"] = lane
        if timeout is None:
            changed["timeout_ms"] = None
        elif not isinstance(timeout, Unset):
            changed["timeout_ms"] = to_positive_ms(timeout, what="timeout")
        if retry is not None and not isinstance(retry, Retry):
            raise ConfigError(f"`retry` is {retry!r}", code="config.retry", help="give goclaw.Retry(...)")
        if retry is not None or retries is not None:
            changed["retry"] = _retry(retry or self.retry, retries, both=retry is not None and retries is not None)
        if priority is not None:
            changed["priority"] = _priority(priority)
        if delivery is not None:
            changed["delivery"] = one_of("delivery", delivery, DELIVERIES)
        if trigger is not None:
            changed["trigger"] = one_of("trigger", trigger, TRIGGERS)
        return replace(self, **changed)

    def to_model(self, isolation: str) -> dict[str, Any]:
        model: dict[str, Any] = {
            "lane": self.lane,
            "retry": self.retry._to_model(),
            "priority": self.priority,
            "delivery": self.delivery,
            "trigger": self.trigger,
            "isolation": isolation,
        }
        # Always there, so that an update of a task's model also removes a timeout.
        model["timeout_ms"] = self.timeout_ms
        return model


def _retry(base: Retry, retries: int | None, *, both: bool) -> Retry:
    if both:
        raise ConfigError(
            "both `retries` and `retry` are given",
            code="config.contradiction",
            help="give the number inside: retry=goclaw.Retry(retries=5, ...)",
        )
    return base if retries is None else replace(base, retries=retries)


def _priority(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -_PRIORITY_MAX <= value <= _PRIORITY_MAX:
        raise ConfigError(f"`priority` is {value!r}", code="config.priority", help="give a whole number")
    return value
