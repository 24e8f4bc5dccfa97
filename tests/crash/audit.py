"""Are the events of a store a possible history? Numbers without gap or duplicate, each end once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

ENDS = {"run.completed", "run.failed", "run.cancelled", "run.compensated", "run.quarantined"}
TASK_ENDS = {"task.completed", "task.failed", "task.cancelled", "task.skipped"}


class History:
    """One run's events so far."""

    __slots__ = ("attempts", "ended", "ends", "first")

    def __init__(self, first: str) -> None:
        self.first = first
        self.ended = False
        self.ends: Counter[str] = Counter()
        self.attempts: dict[str, int] = {}


def audit(events: Iterable[Any], complain: Callable[[str, str], None], *, complete: bool) -> tuple[int, int]:
    """Reads every event of a store and complains of what cannot be; answers how many runs and events.

    With `complete` every run must have ended.
    """
    histories: dict[str, History] = {}
    seen, due = 0, 1
    for event in events:
        seen += 1
        if event.seq != due:
            complain(event.run, f"event {event.seq} ({event.type}) came where {due} was due")
        due = event.seq + 1
        history = histories.get(event.run)
        if history is None:
            history = histories[event.run] = History(event.type)
            if event.type != "run.submitted":
                complain(event.run, f"begins with {event.type}")
        _follow(history, event, complain)
    for run, history in histories.items():
        if complete and not history.ended:
            complain(run, "never ends")
    return len(histories), seen


def _follow(history: History, event: Any, complain: Callable[[str, str], None]) -> None:
    if history.ended:
        complain(event.run, f"{event.type} (event {event.seq}) after the run's end")
    if event.type in ENDS:
        history.ended = True
    if event.type in TASK_ENDS:
        history.ends[event.task] += 1
        if history.ends[event.task] > 1:
            complain(event.run, f"task {event.task} ended twice, again at event {event.seq}")
    if event.type == "task.started":
        before = history.attempts.get(event.task, 0)
        if event.attempt <= before:
            complain(event.run, f"attempt {event.attempt} of {event.task} began after attempt {before}")
        history.attempts[event.task] = event.attempt
