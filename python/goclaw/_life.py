"""Engines of this process: the shared one, and what happens to all at exit and in a forked child."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

from . import _goclaw, _registry, _sigterm

if TYPE_CHECKING:
    from .definition import Definition
    from .engine import Engine

R = TypeVar("R")
opened: weakref.WeakSet[Engine] = weakref.WeakSet()


def run(flow: Definition[R], input: Any = None) -> R:
    """Runs a workflow on the process's in-memory engine and returns its result.

    Args:
        flow: The workflow.
        input: Its input.

    Returns:
        What `Run.result` returns.

    Raises:
        GoclawError: as `Engine.run`.

    Example:
        >>> import goclaw
        >>> @goclaw.agent
        ... def double(x: int) -> int:
        ...     return 2 * x
        >>> @goclaw.workflow
        ... def once(x: int) -> int:
        ...     return double(x)
        >>> goclaw.run(once, {"x": 4})
        8
    """
    return _shared().run(flow, input)


_shared_lock = threading.Lock()
_shared_engine: Engine | None = None


def _shared() -> Engine:
    from .engine import Engine

    global _shared_engine
    with _shared_lock:
        if _shared_engine is None or _shared_engine not in opened:
            # Nothing of it lasts, so SIGTERM may end it as it ends any program.
            _shared_engine = Engine(drain_timeout=0, handle_sigterm=False)
        return _shared_engine


def _wake_all() -> None:
    for engine in list(opened):
        engine._native.wake()


def _close_all() -> None:
    for engine in list(opened):
        if engine._pid == os.getpid():
            engine._close(engine._drain_ms)


def _after_fork() -> None:
    global _shared_engine, _shared_lock
    # The child has none of the threads: nothing of the parent's engines may be touched or dropped.
    for engine in list(opened):
        engine._native.leak()
    opened.clear()
    _sigterm.forget()
    _goclaw._Feeder.forked()
    loop = sys.modules.get("goclaw._loop")
    if loop is not None:
        loop.forget()
    _shared_engine = None
    _shared_lock = threading.Lock()


_registry.listeners.append(_wake_all)
atexit.register(_close_all)
if sys.platform != "win32":
    os.register_at_fork(after_in_child=_after_fork)
