"""Rates: so many units in so long."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .durations import Duration, to_positive_ms
from .errors import ConfigError

_MOST = 2**32 - 1
_TEXT = re.compile(r"\s*(\d[\d_]*)\s*/\s*(\d+(?:\.\d+)?)?\s*(ms|s|m|h|d)\s*")
_HELP = 'write "100/s", "90_000/m" or "5/2s", or give goclaw.Rate(90_000, "1m")'


@dataclass(frozen=True)
class Rate:
    """So many units in so long, such as requests per second or tokens per minute.

    Args:
        units: Units that may be taken in that time.
        per: The time: seconds, a `timedelta`, or text such as ``"1m"``.
        burst: Units that may be taken at once after a pause; as many as `units` by default. A burst of 1
            spaces them evenly.

    Raises:
        ConfigError: `config.rate`, `config.duration`.

    Example:
        >>> Rate(90_000, "1m").burst is None
        True
    """

    units: int
    per: Duration = "1s"
    burst: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for what in ("units", "burst"):
            value = getattr(self, what)
            if what == "burst" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST:
                raise _refuse(f"`{what}` of the rate is {value!r}", f"give a whole number from 1 to {_MOST}")
        to_positive_ms(self.per, what="per")

    def _to_model(self) -> dict[str, Any]:
        burst = self.units if self.burst is None else self.burst
        return {"units": self.units, "per_ms": to_positive_ms(self.per), "burst": burst}


def read(given: object, what: str) -> Rate:
    """A rate as users write it: itself, or a text such as ``"100/s"``.

    Raises:
        ConfigError: `config.rate`, `config.duration`.
    """
    if isinstance(given, Rate):
        return given
    if isinstance(given, Mapping) and {"rate"} <= set(given) <= {"rate", "burst"}:
        # As documents write a budget with a burst of its own.
        rate = read(given["rate"], what)
        return Rate(rate.units, rate.per, burst=given.get("burst"))
    found = _TEXT.fullmatch(given) if isinstance(given, str) else None
    if found is None:
        raise _refuse(f"{what} is {given!r}, which is no rate", _HELP)
    units, count, unit = found.groups()
    return Rate(int(units.replace("_", "")), f"{count or 1}{unit}")


def text(units: int, per_ms: int) -> str:
    """The text that `read` understands."""
    from .durations import to_text

    per = to_text(per_ms)
    return f"{units}/{per.removeprefix('1') if per[1:].isalpha() else per}"


def _refuse(message: str, help: str) -> ConfigError:
    return ConfigError(message, code="config.rate", help=help)
