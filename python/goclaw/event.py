"""Events: facts of runs, in the past tense, numbered through the whole engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """One fact.

    Attributes:
        seq: Its number; grows through the whole engine, so it orders events of different runs.
        at: When it was decided (UTC).
        type: ``run.submitted``, ``task.completed``, …
        run: Id of the run.
        task: Id of the task (``notify[3]`` for a child of a map); `None` for facts about the run.
        attempt: Which try, counted from 1; 0 where no attempt is concerned.
        data: The rest, by type: ``error``, ``retry_at``, ``done``, ``total``, ``text``, ``reason``, ``count``.
    """

    seq: int
    at: datetime
    type: str
    run: str
    task: str | None = None
    attempt: int = 0
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ends_run(self) -> bool:
        """True for the last event of a run."""
        return self.type in _LAST


_LAST = frozenset({"run.completed", "run.failed", "run.cancelled", "run.compensated", "run.quarantined"})
