"""Runs and tasks at one moment: plain data, made by `Run` and by `Engine.list`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The latest sign of life of a task that runs. Not journaled: it is of this moment.

    Attributes:
        ago: How many seconds ago it came.
        details: What `ctx.heartbeat` was told with it, as text.
    """

    ago: float
    details: str | None


@dataclass(frozen=True, slots=True)
class TaskView:
    """One task of a run at one moment.

    Attributes:
        id: The task's id.
        agent: Name of its agent.
        lane: Its lane.
        state: ``pending scheduled running retrying waiting completed failed cancelled skipped``.
        attempts: How often it was tried; of a map, 0.
        children: Of a map that knows its items, how many there are.
        error: What its last failed attempt said; of a map, what its first failed child said.
        heartbeat: The latest sign of life of the attempt under way; of a map, of any child.
    """

    id: str
    agent: str
    lane: str
    state: str
    attempts: int
    children: int | None
    error: str | None
    heartbeat: Heartbeat | None = None


@dataclass(frozen=True, slots=True)
class ChildView:
    """One child of a map at one moment.

    Attributes:
        index: The position of its item.
        state: As of a task.
        attempts: How often it was tried.
        result: What it returned, where it is ``completed``.
        error: What its last failed attempt said.
    """

    index: int
    state: str
    attempts: int
    result: Any
    error: str | None


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One line of a listing of runs.

    Attributes:
        id: The run's id.
        workflow: Name of its workflow.
        state: Its state.
        tags: Its tags.
        submitted: When it was submitted (UTC).
        ended: When it ended (UTC), if it has.
        session: Key of its session, if it has one.
    """

    id: str
    workflow: str
    state: str
    tags: tuple[str, ...]
    submitted: datetime
    ended: datetime | None
    session: str | None = None
