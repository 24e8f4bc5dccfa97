"""Options of the worker processes that run agents with `isolation="process"`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from .durations import Duration, to_ms, to_positive_ms
from .errors import ConfigError

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """How an engine keeps its worker processes.

    Attributes:
        max_workers: Processes that live at once; twice the cores, at least 4, by default.
        max_tasks: Calls after which a worker is replaced; `None`: never.
        max_rss: Resident memory above which a worker is replaced once its calls are done: bytes, or text
            such as ``"1GiB"``; `None`: never.
        idle_timeout: How long a worker may rest before it retires.
        kill_grace: How long an agent that was told to stop gets before its process is killed.

    Raises:
        ConfigError: `config.invalid`, `config.duration`.

    Example:
        >>> import goclaw
        >>> goclaw.Processes(max_tasks=1_000, max_rss="1GiB").max_rss
        '1GiB'
    """

    max_workers: int | None = None
    max_tasks: int | None = None
    max_rss: int | str | None = None
    idle_timeout: Duration = "60s"
    kill_grace: Duration = "2s"

    def __post_init__(self) -> None:
        self._to_model()

    def _to_model(self) -> dict[str, Any]:
        return {
            "max_workers": _whole("max_workers", self.max_workers),
            "max_tasks": _whole("max_tasks", self.max_tasks),
            "max_rss": _bytes(self.max_rss),
            "idle_ms": to_positive_ms(self.idle_timeout, what="idle_timeout"),
            "grace_ms": to_ms(self.kill_grace, what="kill_grace"),
        }


def _whole(what: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
        raise ConfigError(
            f"`{what}` is {value!r}", code="config.invalid", help="give a whole number from 1 on, or None"
        )
    return value


def _bytes(value: object) -> int | None:
    if isinstance(value, str):
        found = _SIZE.fullmatch(value)
        if found is not None:
            base = 1024 if found[3] or not found[2] else 1000
            value = int(float(found[1]) * base ** _POWERS[found[2].lower()])
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise ConfigError(f"`max_rss` is {value!r}", code="config.invalid", help='give bytes, or text such as "1GiB"')
