"""Lengths of time as users write them: seconds, `timedelta`, or text such as ``"500ms"`` and ``"1h30m"``."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TypeAlias

from .errors import ConfigError

Duration: TypeAlias = float | timedelta | str
"""Seconds, a `timedelta`, or text with a unit: ``ms``, ``s``, ``m``, ``h``, ``d``."""

_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*")
_LONGEST_MS = 100 * 365 * _UNITS["d"]
_HELP = 'write seconds (0.5), a timedelta, or text such as "500ms", "5s", "2m", "1h", "1h30m"'


def to_ms(value: Duration, *, what: str = "duration") -> int:
    """Turns a length of time into whole milliseconds, rounding fractions up.

    Args:
        value: Seconds, a `timedelta`, or text such as ``"2m"``.
        what: The name that an error uses for the value.

    Returns:
        Milliseconds, 0 or more.

    Raises:
        ConfigError: `config.duration` where the value is no length of time.

    Example:
        >>> to_ms("1m30s"), to_ms(0.25)
        (90000, 250)
    """
    ms = _exact_ms(value)
    if ms is None or not 0 <= ms <= _LONGEST_MS:
        raise ConfigError(f"`{what}` is {value!r}, which is not a length of time", code="config.duration", help=_HELP)
    return -int(-ms // 1)


def to_positive_ms(value: Duration, *, what: str = "duration") -> int:
    """Like `to_ms`, and refuses zero.

    Args:
        value: Seconds, a `timedelta`, or text such as ``"2m"``.
        what: The name that an error uses for the value.

    Returns:
        Milliseconds, 1 or more.

    Raises:
        ConfigError: `config.duration` where the value is no length of time, or is zero.

    Example:
        >>> to_positive_ms("5s")
        5000
    """
    ms = to_ms(value, what=what)
    if ms == 0:
        raise ConfigError(f"`{what}` is zero", code="config.duration", help="give a length of time above zero")
    return ms


def to_seconds(value: Duration, *, what: str = "duration") -> float:
    """Turns a length of time into seconds.

    Args:
        value: Seconds, a `timedelta`, or text such as ``"2m"``.
        what: The name that an error uses for the value.

    Returns:
        Seconds, 0 or more.

    Raises:
        ConfigError: `config.duration` where the value is no length of time.

    Example:
        >>> to_seconds("500ms")
        0.5
    """
    return to_ms(value, what=what) / 1000


def to_text(ms: int) -> str:
    """The shortest text that `to_ms` reads as this many milliseconds."""
    for unit in ("h", "m", "s"):
        if ms % _UNITS[unit] == 0:
            return f"{ms // _UNITS[unit]}{unit}"
    return f"{ms}ms"


def _exact_ms(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return value * 1000 if value == value else None
    if isinstance(value, timedelta):
        return value / timedelta(milliseconds=1)
    if isinstance(value, str):
        return _parse(value.strip())
    return None


def _parse(text: str) -> float | None:
    at, total = 0, 0.0
    for part in _PART.finditer(text):
        if part.start() != at:
            return None
        total += float(part[1]) * _UNITS[part[2]]
        at = part.end()
    return total if text and at == len(text) else None
