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

from . import embedders
from ._goclaw import Context, __version__, current
from .agent import Agent, agent
from .builder import Workflow
from .definition import Definition
from .engine import Engine, run
from .entry import Entry, Forgotten, Hit, MemoryStats
from .errors import (
    AgentError,
    BindingError,
    Cancelled,
    ConfigError,
    CycleError,
    DuplicateTask,
    EngineClosed,
    EngineForked,
    GoclawError,
    GoclawTimeout,
    InputError,
    LaneFull,
    NotYetSupported,
    PayloadError,
    Problem,
    RecallError,
    RemoteError,
    ResultTimeout,
    RunCancelled,
    RunConflict,
    RunTimedOut,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreTooNew,
    TaskFailed,
    TaskTimedOut,
    TracedValueError,
    UnknownAgent,
    UnknownDependency,
    UnknownLane,
    UnknownRun,
    WorkflowError,
    WouldDeadlock,
)
from .event import Event
from .lane import Lane, LaneStats
from .memory import Memory, SessionMemory
from .plan import Plan
from .retry import Retry, RetryAfter
from .run import Run, RunSummary, TaskView
from .workflow import Flow, otherwise, when, workflow

__all__ = [
    "Agent",
    "AgentError",
    "BindingError",
    "Cancelled",
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
    "Flow",
    "Forgotten",
    "GoclawError",
    "GoclawTimeout",
    "Hit",
    "InputError",
    "Lane",
    "LaneFull",
    "LaneStats",
    "Memory",
    "MemoryStats",
    "NotYetSupported",
    "PayloadError",
    "Plan",
    "Problem",
    "RecallError",
    "RemoteError",
    "ResultTimeout",
    "Retry",
    "RetryAfter",
    "Run",
    "RunCancelled",
    "RunConflict",
    "RunSummary",
    "RunTimedOut",
    "SessionMemory",
    "StoreCorrupt",
    "StoreError",
    "StoreFull",
    "StoreLocked",
    "StoreTooNew",
    "TaskFailed",
    "TaskTimedOut",
    "TaskView",
    "TracedValueError",
    "UnknownAgent",
    "UnknownDependency",
    "UnknownLane",
    "UnknownRun",
    "Workflow",
    "WorkflowError",
    "WouldDeadlock",
    "__version__",
    "agent",
    "current",
    "embedders",
    "otherwise",
    "run",
    "when",
    "workflow",
]
