"""Lanes: bounded queues in front of a bounded number of permits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .durations import Duration, to_positive_ms
from .errors import ConfigError

_MOST = 1_000_000


@dataclass(frozen=True)
class Lane:
    """A named resource class: so many tasks may run at once, so many may queue.

    Args:
        name: What tasks call it (``lane="io"``).
        concurrency: Tasks that may run at once.
        capacity: Tasks that may wait in the queue.
        timeout: How long a submit waits for a place before it is refused; `None`: as long as it takes.

    Raises:
        ConfigError: `config.lane`, `config.duration`.

    Example:
        >>> Lane("io", 64).capacity
        10000
    """

    name: str
    concurrency: int
    capacity: int = field(default=10_000, kw_only=True)
    timeout: Duration | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise ConfigError("a lane has no name", code="config.lane", help='name it: Lane("io", 64)')
        for what in ("concurrency", "capacity"):
            value = getattr(self, what)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST:
                raise ConfigError(
                    f"`{what}` of lane `{self.name}` is {value!r}",
                    code="config.lane",
                    help=f"give a whole number from 1 to {_MOST}",
                )
        if self.timeout is not None:
            to_positive_ms(self.timeout, what=f"timeout of lane {self.name}")

    def _to_model(self) -> dict[str, Any]:
        model: dict[str, Any] = {"name": self.name, "concurrency": self.concurrency, "capacity": self.capacity}
        if self.timeout is not None:
            model["timeout_ms"] = to_positive_ms(self.timeout)
        return model


@dataclass(frozen=True, slots=True)
class LaneStats:
    """A lane at one moment.

    Attributes:
        name: The lane.
        concurrency: Tasks that may run at once.
        capacity: Tasks that may wait in its queue.
        running: Tasks that hold a permit.
        queued: Tasks that have a place in the queue.
        waiting: Tasks that wait for a place in the queue.
    """

    name: str
    concurrency: int
    capacity: int
    running: int
    queued: int
    waiting: int
