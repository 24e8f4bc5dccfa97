"""When and how often a failed attempt is repeated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .durations import Duration, to_ms, to_positive_ms, to_seconds
from .errors import ConfigError

_NEVER: tuple[type[BaseException], ...] = (TypeError, ValueError)
_RETRIES_MAX = 10_000


@dataclass(frozen=True, kw_only=True)
class Retry:
    """Exponential backoff with full jitter.

    Args:
        retries: Tries after the first.
        initial: Upper bound of the first pause.
        factor: Each bound is this many times the one before.
        max: Bound of every pause.
        jitter: Draw the pause evenly between 0 and its bound, so that many tasks do not come back at once.
        on: Exceptions that are retried; subclasses count.
        never: Exceptions that are not, even where `on` names a base of them. By default `TypeError`
            and `ValueError` (validation errors are `ValueError`), unless `on` names them or a subclass.

    Errors of goclaw's own that are not `transient`, such as `memory.filter` or `engine.own_session`, are never
    retried, whatever `on` says: they would be raised again.

    Raises:
        ConfigError: `config.retry`, `config.duration`.

    Example:
        >>> Retry(retries=5, initial="1s", on=(OSError,)).retries
        5
    """

    retries: int = 3
    initial: Duration = "500ms"
    factor: float = 2.0
    max: Duration = "60s"
    jitter: bool = True
    on: tuple[type[BaseException], ...] = (Exception,)
    never: tuple[type[BaseException], ...] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.retries, bool) or not isinstance(self.retries, int) or not 0 <= self.retries <= _RETRIES_MAX:
            raise _refuse(f"`retries` is {self.retries!r}", f"give a whole number from 0 to {_RETRIES_MAX}")
        if not isinstance(self.factor, (int, float)) or not 1.0 <= self.factor <= 1000.0:
            raise _refuse(f"`factor` is {self.factor!r}", "give a number from 1 to 1000")
        if to_ms(self.initial, what="initial") > to_positive_ms(self.max, what="max"):
            raise _refuse(f"`initial` ({self.initial}) is above `max` ({self.max})", "raise `max` or lower `initial`")
        on = _classes("on", self.on)
        if self.never is None:
            never = tuple(n for n in _NEVER if not any(issubclass(o, n) for o in on))
        else:
            never = _classes("never", self.never)
        for cls in set(on) & set(never):
            raise _refuse(f"`{_qualified(cls)}` is both in `on` and in `never`", "name it once")
        object.__setattr__(self, "on", on)
        object.__setattr__(self, "never", never)

    def _to_model(self) -> dict[str, Any]:
        return {
            "retries": self.retries,
            "initial_ms": to_ms(self.initial),
            "factor": float(self.factor),
            "max_ms": to_ms(self.max),
            "jitter": bool(self.jitter),
            "on": [_qualified(cls) for cls in self.on],
            "never": [_qualified(cls) for cls in self.never or ()],
        }


class RetryAfter(Exception):
    """An agent raises this to ask for a pause of its own choice before the next attempt.

    Args:
        delay: How long to wait: seconds, a `timedelta`, or text such as ``"2m"``.
        message: Why, for the record.

    Raises:
        ConfigError: `config.duration`.

    Example:
        >>> RetryAfter("2s").seconds
        2.0
    """

    seconds: float

    def __init__(self, delay: Duration, message: str = "") -> None:
        super().__init__(message or f"asked to be retried after {delay}")
        self.seconds = to_seconds(delay, what="delay")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.seconds, str(self))


def _classes(what: str, value: Any) -> tuple[type[BaseException], ...]:
    found: tuple[Any, ...] = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    for cls in found:
        if not (isinstance(cls, type) and issubclass(cls, BaseException)):
            raise _refuse(
                f"`{what}` holds {cls!r}, which is not an exception class", "give a tuple of exception classes"
            )
    return found


def _qualified(cls: type[BaseException]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _refuse(message: str, help: str) -> ConfigError:
    return ConfigError(message, code="config.retry", help=help)
