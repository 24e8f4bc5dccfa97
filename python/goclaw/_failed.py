"""Why a run failed, as an exception: of which task, after how many tries, because of what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._codes import class_of
from .errors import RemoteError, TaskFailed

if TYPE_CHECKING:
    from ._goclaw import _FailureRow


def task_failed(failure: _FailureRow) -> TaskFailed:
    """The exception for a run that failed, with what its agent raised as its cause.

    Args:
        failure: What the core knows of it.

    Returns:
        The exception, not yet raised.
    """
    task, attempts, kind, code, types, message, help, traceback, origin = failure
    cause: BaseException
    if isinstance(origin, BaseException):
        cause = origin
    elif kind in ("timeout", "dropped"):
        cause = class_of(code)(message, code=code)
    else:
        cause = RemoteError(message, types=types, traceback=traceback, code=code, help=help)
    name = types[0].removeprefix("builtins.") if types else code
    tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    error = TaskFailed(
        f"task `{task}` failed after {tries}: {name}: {message}",
        code=code,
        help=help
        or _HELP.get(code)
        or _HELP.get(kind)
        or "the cause is above; `run.tasks` and `run.events()` tell what led to it",
        task=task,
        attempts=attempts,
    )
    error.__cause__ = cause
    return error


_HELP = {
    "agent.process_main": 'put what the script does under `if __name__ == "__main__":`',
    "agent.not_importable": "define the agent at the top of an importable module, or `pip install cloudpickle`",
    "agent.isolation": 'leave isolation="auto", or run where there are worker processes',
    "agent.unknown": "import the module that registers the agent before the run is submitted",
    "task.queue_timeout": "give the lane more concurrency, or the task a longer `queue_timeout`",
    "task.idle_timeout": "call `ctx.heartbeat()` while the agent works, or raise the task's `idle_timeout`",
    "task.total_timeout": "raise the task's `total_timeout`, or allow fewer retries",
    "timeout": "raise the task's `timeout`, or make the agent faster",
    "payload": "give and return values that can be written down; as they are, objects pass only in an engine "
    "without a path, and not to worker processes",
    "dropped": "give the lane more capacity or concurrency, or another `on_full`",
    "binding": "check the agent's parameters and what the task gives them",
}
