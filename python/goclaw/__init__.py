"""goclaw: durable, fast, observable multi-agent runs.

Agents are functions; a workflow says who needs whose result; an engine runs it.

Example:
    >>> import goclaw
    >>> @goclaw.agent
    ... def greet(name: str) -> str:
    ...     return f"hello {name}"
    >>> @goclaw.workflow
    ... def hello(name: str) -> str:
    ...     return greet(name)
    >>> goclaw.run(hello, {"name": "Ada"})
    'hello Ada'
"""

from . import embedders, tiers
from ._goclaw import Context, __version__, current
from .agent import Agent, agent
from .builder import Workflow
from .definition import Definition
from .engine import Engine, run
from .entry import ColdStats, Entry, Forgotten, Hit, HitExplanation, Imported, MemoryStats, Moved, Swept
from .errors import (
    AgentError,
    BindingError,
    Cancelled,
    ChargeRefused,
    ConfigError,
    CycleError,
    DuplicateTask,
    EngineClosed,
    EngineForked,
    GoclawError,
    GoclawTimeout,
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
    RemoteError,
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
from .event import Event
from .explain import Explanation, LanePlace, Running, SessionPlace, Stopping, TaskExplanation, Told
from .forgetting import Forgetting
from .health import Health, Incident, StuckCall, StuckMerge
from .lane import Lane, Redirect, redirect
from .lanes import Lanes, LaneStats, LiveLane, WaitTimes
from .memory import Memory, SessionMemory
from .plan import Plan
from .policy import MemoryAccess, MemoryPolicy, Retrieve
from .processes import Processes
from .rate import Rate
from .recalled import Recalled
from .retry import Retry, RetryAfter
from .run import Run
from .session import Collect, Sessions, SessionView, Signal, Signals
from .upkeep import Compacted, compact
from .views import ChildView, Heartbeat, RunSummary, TaskView
from .workflow import Flow, otherwise, when, workflow

__all__ = [
    "Agent",
    "AgentError",
    "BindingError",
    "Cancelled",
    "ChargeRefused",
    "ChildView",
    "ColdStats",
    "Collect",
    "Compacted",
    "ConfigError",
    "Context",
    "CycleError",
    "Definition",
    "DuplicateTask",
    "Engine",
    "EngineClosed",
    "EngineForked",
    "Entry",
    "Event",
    "Explanation",
    "Flow",
    "Forgetting",
    "Forgotten",
    "GoclawError",
    "GoclawTimeout",
    "Health",
    "Heartbeat",
    "Hit",
    "HitExplanation",
    "IdleTimedOut",
    "Imported",
    "Incident",
    "IncompatibleRun",
    "InputError",
    "Lane",
    "LaneDropped",
    "LaneFull",
    "LaneNotFound",
    "LanePlace",
    "LaneStats",
    "Lanes",
    "LiveLane",
    "Memory",
    "MemoryAccess",
    "MemoryPolicy",
    "MemoryStats",
    "MergeFailed",
    "MessageDropped",
    "Moved",
    "NotYetSupported",
    "PayloadError",
    "Plan",
    "Problem",
    "Processes",
    "QueueTimedOut",
    "Rate",
    "RecallError",
    "Recalled",
    "Redirect",
    "RemoteError",
    "ResultTimeout",
    "Retrieve",
    "Retry",
    "RetryAfter",
    "Run",
    "RunCancelled",
    "RunConflict",
    "RunSummary",
    "RunTimedOut",
    "Running",
    "SessionBusy",
    "SessionError",
    "SessionFull",
    "SessionMemory",
    "SessionPlace",
    "SessionView",
    "Sessions",
    "Signal",
    "Signals",
    "Stopping",
    "StoreCorrupt",
    "StoreError",
    "StoreFull",
    "StoreLocked",
    "StoreTooNew",
    "StuckCall",
    "StuckMerge",
    "Swept",
    "TaskExplanation",
    "TaskFailed",
    "TaskTimedOut",
    "TaskView",
    "Told",
    "TotalTimedOut",
    "TracedValueError",
    "UnknownAgent",
    "UnknownDependency",
    "UnknownLane",
    "UnknownRun",
    "WaitTimes",
    "Workflow",
    "WorkflowError",
    "WouldDeadlock",
    "__version__",
    "agent",
    "compact",
    "current",
    "embedders",
    "otherwise",
    "redirect",
    "run",
    "tiers",
    "when",
    "workflow",
]
