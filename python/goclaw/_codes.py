"""Which exception says a code of the Rust core."""

from __future__ import annotations

from collections.abc import Iterable

from .errors import (
    AgentError,
    BindingError,
    ChargeRefused,
    ConfigError,
    CycleError,
    DuplicateTask,
    EngineClosed,
    EngineForked,
    GoclawError,
    IdleTimedOut,
    IncompatibleRun,
    InputError,
    LaneDropped,
    LaneFull,
    LaneNotFound,
    MergeFailed,
    MessageDropped,
    NotYetSupported,
    PayloadError,
    Problem,
    QueueTimedOut,
    RecallError,
    ResultTimeout,
    RunCancelled,
    RunConflict,
    RunTimedOut,
    SessionBusy,
    SessionError,
    SessionFull,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreTooNew,
    TaskFailed,
    TaskTimedOut,
    TotalTimedOut,
    TracedValueError,
    UnknownAgent,
    UnknownDependency,
    UnknownLane,
    UnknownRun,
    WorkflowError,
    WouldDeadlock,
)

_CLASSES: tuple[type[GoclawError], ...] = (
    CycleError,
    DuplicateTask,
    UnknownDependency,
    UnknownAgent,
    UnknownLane,
    BindingError,
    InputError,
    TracedValueError,
    NotYetSupported,
    RunCancelled,
    UnknownRun,
    IncompatibleRun,
    RunConflict,
    ResultTimeout,
    RunTimedOut,
    TaskTimedOut,
    QueueTimedOut,
    IdleTimedOut,
    TotalTimedOut,
    LaneFull,
    LaneNotFound,
    ChargeRefused,
    LaneDropped,
    SessionBusy,
    SessionFull,
    MessageDropped,
    MergeFailed,
    StoreLocked,
    StoreFull,
    StoreCorrupt,
    StoreTooNew,
    EngineClosed,
    EngineForked,
    WouldDeadlock,
)
_BY_CODE: dict[str, type[GoclawError]] = {
    **{cls.code: cls for cls in _CLASSES},
    "lane.charge": ChargeRefused,
    "engine.own_run": WouldDeadlock,
    "engine.own_session": WouldDeadlock,
    "engine.own_lane": WouldDeadlock,
    "session.merge_timeout": MergeFailed,
    "run.killed": RunCancelled,
    "workflow.self_dependency": CycleError,
    "workflow.missing_parameter": BindingError,
    "workflow.unknown_parameter": BindingError,
}
_BY_AREA: dict[str, type[GoclawError]] = {
    "workflow": WorkflowError,
    "agent": AgentError,
    "task": TaskFailed,
    "session": SessionError,
    "store": StoreError,
    "payload": PayloadError,
    "memory": RecallError,
    "config": ConfigError,
}


def class_of(code: str) -> type[GoclawError]:
    """Finds the exception class of a code.

    Args:
        code: Stable name of a reason, ``area.reason``.

    Returns:
        The class of exactly that code, else of its area, else `GoclawError`.

    Example:
        >>> class_of("store.locked").__name__, class_of("store.io").__name__
        ('StoreLocked', 'StoreError')
    """
    return _BY_CODE.get(code) or _BY_AREA.get(code.partition(".")[0], GoclawError)


def from_code(code: str, message: str, help: str = "", problems: Iterable[Problem] = ()) -> GoclawError:
    """Makes the exception for a refusal of the Rust core.

    Args:
        code: Stable name of the reason.
        message: What went wrong.
        help: What to do about it.
        problems: Every finding, where a workflow was refused. Where all are of one kind, the
            exception is of that kind's class.

    Returns:
        The exception, not yet raised.

    Example:
        >>> from_code("run.unknown", "no run `x`")
        UnknownRun('no run `x`')
    """
    found = tuple(problems)
    if not found:
        return class_of(code)(message, code=code, help=help)
    kinds = {class_of(problem.code) for problem in found}
    cls = kinds.pop() if len(kinds) == 1 else WorkflowError
    if not issubclass(cls, WorkflowError):
        cls = WorkflowError
    if cls is not WorkflowError:
        code = found[0].code
    return cls(message, code=code, help=help, problems=found)
