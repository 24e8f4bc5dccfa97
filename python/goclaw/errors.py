"""Everything goclaw raises: one tree under `GoclawError`, each with a stable code and a cure.

`Cancelled`, raised inside agents, is the one that stands beside it. Codes are ``area.reason``.
The Rust core speaks in codes; `_codes` turns one into its class.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ._transient import passes

if TYPE_CHECKING:
    from .run import Run


class GoclawError(Exception):
    """The base of everything goclaw raises.

    Args:
        message: What went wrong, naming the guilty thing.
        code: Stable name of the reason, ``area.reason``; the class has a default.
        help: What to do about it; shown below the message in a traceback.

    Attributes:
        accepted: Where `Engine.submit_many` was refused half-way, the runs that go on nevertheless, by the
            position of their input.

    Example:
        >>> GoclawError("lane `gpu` is full", code="lane.full").code
        'lane.full'
    """

    code: str = "goclaw.error"
    help: str = ""
    accepted: Mapping[int, Run[Any]] = MappingProxyType({})

    def __init__(self, message: str, *, code: str | None = None, help: str = "") -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        if help:
            self.help = help
            self.add_note(f"help: {help}")

    @property
    def transient(self) -> bool:
        """True where trying again can help; by its `code`. An agent that fails with another one is not retried."""
        return passes(self.code)


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding about a workflow.

    Attributes:
        code: Stable name of the kind of finding, such as ``workflow.cycle``.
        task: Id of the guilty task, where one task is to blame.
        message: What is wrong.
        help: What to do about it.
    """

    code: str
    task: str | None
    message: str
    help: str

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]"


class WorkflowError(GoclawError):
    """A workflow was refused; `problems` lists every finding.

    Args:
        message: What is wrong with the workflow.
        code: Stable name of the reason.
        help: What to do about it.
        problems: Every finding, where there are several.
    """

    code = "workflow.invalid"
    problems: tuple[Problem, ...] = ()

    def __init__(
        self, message: str, *, code: str | None = None, help: str = "", problems: Iterable[Problem] = ()
    ) -> None:
        super().__init__(message, code=code, help=help)
        self.problems = tuple(problems)


class CycleError(WorkflowError):
    """Tasks wait for each other in a circle (`workflow.cycle`)."""

    code = "workflow.cycle"


class DuplicateTask(WorkflowError):
    """Two tasks have the same id (`workflow.duplicate_task`)."""

    code = "workflow.duplicate_task"


class UnknownDependency(WorkflowError):
    """A task waits for a task that does not exist (`workflow.unknown_dependency`)."""

    code = "workflow.unknown_dependency"


class UnknownAgent(WorkflowError):
    """A task names an agent that is not registered (`workflow.unknown_agent`)."""

    code = "workflow.unknown_agent"


class UnknownLane(WorkflowError):
    """A task names a lane that does not exist (`workflow.unknown_lane`)."""

    code = "workflow.unknown_lane"


class BindingError(WorkflowError, TypeError):
    """Arguments do not fit an agent's parameters (`workflow.arguments` and its relatives)."""

    code = "workflow.arguments"


class InputError(WorkflowError):
    """The input of a run does not fit its workflow (`workflow.input`)."""

    code = "workflow.input"


class TracedValueError(WorkflowError):
    """The body of a workflow looked at a result that is not there yet (`workflow.traced_value`)."""

    code = "workflow.traced_value"


class NotYetSupported(WorkflowError):
    """A document uses a key that this version does not carry out (`workflow.not_yet`)."""

    code = "workflow.not_yet"


class AgentError(GoclawError):
    """A function or class cannot be an agent as it is (`agent.signature`, `agent.duplicate`, …)."""

    code = "agent.signature"


class TaskFailed(GoclawError):
    """A run failed because one of its tasks did; the agent's own exception is the `__cause__`.

    Args:
        message: What happened, naming the task.
        code: Stable name of the reason, such as ``task.exception``; where the agent failed with an error of goclaw's
            own, the code of that.
        help: What to do about it; of an error of goclaw's own, the help of that.
        task: Id of the task.
        attempts: How often it was tried.
    """

    code = "task.exception"
    task: str = ""
    attempts: int = 0

    def __init__(
        self, message: str, *, code: str | None = None, help: str = "", task: str = "", attempts: int = 0
    ) -> None:
        super().__init__(message, code=code, help=help)
        self.task = task
        self.attempts = attempts


class RemoteError(GoclawError):
    """Stands for an agent's exception that is no longer alive: it was raised in another process.

    Args:
        message: The exception's text.
        types: Qualified class names, most derived first.
        traceback: The traceback as text, where it was kept.
        code: Stable name of the reason, where it is one of goclaw's.
        help: What to do about it, where that is known.
    """

    code = "task.exception"
    types: tuple[str, ...] = ()
    traceback: str | None = None

    def __init__(
        self,
        message: str,
        *,
        types: Iterable[str] = (),
        traceback: str | None = None,
        code: str | None = None,
        help: str = "",
    ) -> None:
        super().__init__(message, code=code, help=help)
        self.types = tuple(types)
        self.traceback = traceback
        if traceback:
            self.add_note(traceback.rstrip())

    def __str__(self) -> str:
        text = super().__str__()
        return f"{self.types[0]}: {text}" if self.types else text


class RunCancelled(GoclawError):
    """The run was cancelled (`run.cancelled`), or killed (`run.killed`)."""

    code = "run.cancelled"


class Cancelled(BaseException):
    """Raised inside an agent whose run was cancelled, at its next safe point (`task.cancelled`).

    Like `asyncio.CancelledError` it is no `Exception`: an ``except Exception`` around a part of the
    work must not keep the agent going. Clean up with ``finally``, or catch it and raise it again.

    Args:
        message: What was cancelled.
    """

    code: str = "task.cancelled"

    # The interpreter raises it in an agent's thread by its class alone.
    def __init__(self, message: str = "the run was cancelled") -> None:
        super().__init__(message)


class UnknownRun(GoclawError, LookupError):
    """The engine knows no run with that id (`run.unknown`)."""

    code = "run.unknown"


class IncompatibleRun(GoclawError):
    """This version of goclaw cannot take the run up; it can be cancelled or purged (`run.incompatible`)."""

    code = "run.incompatible"


class RunConflict(GoclawError):
    """A run with that id exists already (`run.conflict`)."""

    code = "run.conflict"


class GoclawTimeout(GoclawError, TimeoutError):
    """The base of everything that took too long; a `TimeoutError`."""

    code = "goclaw.timeout"


class ResultTimeout(GoclawTimeout):
    """The run had not ended when the wait was over; it goes on (`run.wait_timeout`)."""

    code = "run.wait_timeout"


class RunTimedOut(GoclawTimeout):
    """The run did not end within its workflow's `timeout` (`run.timeout`)."""

    code = "run.timeout"


class TaskTimedOut(GoclawTimeout):
    """A task's time was over: an attempt ran longer than its `timeout` (`task.timeout`), or a relative."""

    code = "task.timeout"


class QueueTimedOut(TaskTimedOut):
    """A task waited for its lane longer than its `queue_timeout` (`task.queue_timeout`)."""

    code = "task.queue_timeout"


class IdleTimedOut(TaskTimedOut):
    """An attempt gave no sign of life for as long as its `idle_timeout` (`task.idle_timeout`)."""

    code = "task.idle_timeout"


class TotalTimedOut(TaskTimedOut):
    """A task took longer than its `total_timeout`, with all waits and attempts (`task.total_timeout`)."""

    code = "task.total_timeout"


class LaneFull(GoclawError):
    """A lane's queue has no place left (`lane.full`)."""

    code = "lane.full"


class LaneNotFound(GoclawError, LookupError):
    """The engine has no lane of that name (`lane.unknown`)."""

    code = "lane.unknown"


class ChargeRefused(GoclawError, ValueError):
    """`ctx.charge` was given a unit that its lane has no budget of (`lane.budget`), or no number (`lane.charge`)."""

    code = "lane.budget"


class LaneDropped(GoclawError):
    """A full lane dropped the task: the cause of its failure (`lane.dropped`)."""

    code = "lane.dropped"


class SessionError(GoclawError):
    """What has to do with the order of runs in a session (`session.busy` and its relatives)."""

    code = "session.busy"


class SessionBusy(SessionError):
    """The session is busy, and the submit was not to wait (`session.busy`)."""

    code = "session.busy"


class SessionFull(SessionError):
    """Too many messages wait in the session (`session.full`)."""

    code = "session.full"


class MessageDropped(SessionError):
    """Newer messages took the place of this one before it was read (`session.dropped`)."""

    code = "session.dropped"


class MergeFailed(SessionError):
    """The messages of a session could not be merged (`session.merge`), or not in time (`session.merge_timeout`)."""

    code = "session.merge"


class StoreError(GoclawError):
    """The store could not do its work (`store.io` and its relatives)."""

    code = "store.io"


class StoreLocked(StoreError):
    """Another process, or this one, has the store open (`store.locked`)."""

    code = "store.locked"


class StoreFull(StoreError):
    """The disk, or the store's bound, is full (`store.full`)."""

    code = "store.full"


class StoreCorrupt(StoreError):
    """The store's files are damaged (`store.corrupt`)."""

    code = "store.corrupt"


class StoreTooNew(StoreError):
    """The store was written by a newer goclaw (`store.too_new`)."""

    code = "store.too_new"


class PayloadError(GoclawError):
    """A value cannot travel: it cannot be encoded, decoded, or is too large (`payload.unsupported`, …)."""

    code = "payload.unsupported"


class RecallError(GoclawError):
    """Something cannot be memorized, retrieved or forgotten (`memory.session`, `memory.query`, …)."""

    code = "memory.query"


class ConfigError(GoclawError, ValueError):
    """An option has a value that makes no sense (`config.invalid` and its relatives)."""

    code = "config.invalid"


class EngineClosed(GoclawError):
    """The engine is closed, or is closing (`engine.closed`)."""

    code = "engine.closed"


class EngineForked(GoclawError):
    """The engine belongs to the parent process (`engine.forked`)."""

    code = "engine.forked"


class WouldDeadlock(GoclawError):
    """A call would wait for itself: `engine.own_loop`, `engine.own_run`, `engine.own_session`, `engine.own_lane`."""

    code = "engine.own_loop"
