"""goclaw's own event loop: one daemon thread of the process, started when the first coroutine comes.

The native half feeds it through a socket (`_Feeder`) and runs every coroutine's first step at once;
here is what makes and stops the loop, and `run_coroutine` for callers on other threads.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import os
import sys
import threading
import types
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from ._goclaw import _Feeder

T = TypeVar("T")

# How long the end of the process waits for coroutines to end, in seconds.
_STOP_WAIT = 1.0
# Calls of `to_thread` that run at once. Many, as a call that waits for a run needs others to begin.
_THREADS_MAX = 1_024

_lock = threading.Lock()
_running: _Loop | None = None


class _Asyncio(asyncio.SelectorEventLoop):
    """asyncio's loop, as a class of ours so that instances take attributes."""


def _new_loop() -> asyncio.AbstractEventLoop:
    if os.environ.get("GOCLAW_UVLOOP") != "0":
        try:
            import uvloop
        except ImportError:
            pass
        else:

            class _Uvloop(uvloop.Loop):
                pass

            return _Uvloop()
    return _Asyncio()


def _carrying(
    run: Callable[..., asyncio.Future[T]], executor: Executor | None, func: Callable[..., T], *args: Any
) -> asyncio.Future[T]:
    """`run_in_executor` of our loop: it takes the context along to threads, as `asyncio.to_thread` does.

    What an agent has done for it in a thread is the agent's: it finds `goclaw.current()` there, and its permit is lent
    while that waits for a run. Other processes get what they always get.
    """
    # Exactly: pools of interpreters are a kind of thread pool, and no context crosses to another interpreter.
    if executor is None or type(executor) is ThreadPoolExecutor:
        return run(executor, contextvars.copy_context().run, func, *args)
    return run(executor, func, *args)


async def _awaiting(awaitable: Awaitable[T]) -> T:
    return await awaitable


def _on_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # SystemExit and KeyboardInterrupt pass through a task; their outcome has been reported.
    if not isinstance(context.get("exception"), (SystemExit, KeyboardInterrupt)):
        loop.default_exception_handler(context)


class _Loop:
    """The loop, its thread, and the tools that the native half makes tasks with."""

    def __init__(self) -> None:
        self.loop = _new_loop()
        self.loop.set_exception_handler(_on_exception)
        self.loop.set_default_executor(ThreadPoolExecutor(_THREADS_MAX, thread_name_prefix="goclaw-aside"))
        self.loop.run_in_executor = partial(_carrying, self.loop.run_in_executor)  # type: ignore[assignment, method-assign]
        self.call_soon = self.loop.call_soon
        self.task = asyncio.Task
        self.current_task = asyncio.current_task
        self.copy_context = contextvars.copy_context
        self.coroutine = types.CoroutineType
        self.awaiting = _awaiting
        self.steps: list[Callable[[], None]] = []
        self.capture = None if sys.version_info >= (3, 12) else self._capture()
        self._feeder = _Feeder()
        self.done = self._done_callback()
        self._stopping = False
        self.thread = threading.Thread(target=self._main, name="goclaw-loop", daemon=True)
        self.thread.start()

    def _capture(self) -> Callable[..., Any]:
        keep, call_soon = self.steps.append, self.loop.call_soon

        def capture(callback: Callable[..., None], *args: Any, context: Any = None) -> Any:
            if args:
                # No task's step: the finaliser of something that was collected just now.
                return call_soon(callback, *args, context=context)
            keep(callback)
            return None

        return capture

    def _done_callback(self) -> Callable[[asyncio.Task[Any]], None]:
        done: list[asyncio.Task[Any]] = []
        call_soon, feeder = self.loop.call_soon, self._feeder

        def on_done(task: asyncio.Task[Any]) -> None:
            if not done:
                call_soon(feeder.flush, done)
            done.append(task)

        return on_done

    def _main(self) -> None:
        asyncio.set_event_loop(self.loop)
        self._feeder.equip(self)
        self.loop.add_reader(self._feeder.fileno(), self._feeder.drain)
        while not self._stopping:
            try:
                self.loop.run_forever()
            except (SystemExit, KeyboardInterrupt):
                # Raised by an agent, and the outcome of its task: the loop goes on without it.
                continue
        self._wind_up()

    def _wind_up(self) -> None:
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            try:
                self.loop.run_until_complete(asyncio.wait(tasks, timeout=_STOP_WAIT / 2))
            except (SystemExit, KeyboardInterrupt):
                pass
        for task in tasks:
            # Whoever ignores its cancellation now ends with the process; nobody needs to read that.
            task._log_destroy_pending = False  # type: ignore[attr-defined]

    def stop(self) -> None:
        """Cancels what runs and ends the thread, waiting a bounded time."""
        self._stopping = True
        try:
            self.loop.call_soon_threadsafe(self.loop.stop)
        except RuntimeError:
            return
        self.thread.join(_STOP_WAIT)


def ensure() -> _Loop:
    """The loop, started unless it runs already."""
    global _running
    running = _running
    if running is None:
        with _lock:
            if _running is None:
                _running = _Loop()
            running = _running
    return running


def run_coroutine(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine on goclaw's loop and waits for its result; for callers on other threads.

    Args:
        coroutine: What to run.

    Returns:
        Its result.

    Raises:
        RuntimeError: The caller is on the loop itself and would wait for ever; await instead.
    """
    running = ensure()
    if threading.current_thread() is running.thread:
        coroutine.close()
        raise RuntimeError("called from goclaw's event loop: await the agent's .fn instead")
    future = asyncio.run_coroutine_threadsafe(coroutine, running.loop)
    try:
        return future.result()
    except BaseException:
        if not future.done():
            future.cancel()
        raise


def forget() -> None:
    """In a forked child: the loop and its thread are the parent's."""
    global _running, _lock
    _running = None
    _lock = threading.Lock()


@atexit.register
def _at_exit() -> None:
    if _running is not None:
        _running.stop()
