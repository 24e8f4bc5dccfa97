"""Runs: handles on one execution of a workflow."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Unpack

from . import _goclaw, _guard
from ._codes import class_of
from ._failed import task_failed
from ._keywords import TaskWords, only, spelled_out
from ._stream import EventStream
from .durations import Duration, to_seconds
from .errors import GoclawError, IncompatibleRun, ResultTimeout
from .policy import MemoryAccess
from .views import ChildView, Heartbeat, TaskView

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._looking import Looking
    from .agent import Agent
    from .builder import Workflow

R_co = TypeVar("R_co", covariant=True)
TERMINAL = frozenset({"completed", "failed", "cancelled", "compensated", "quarantined"})


class Run(Generic[R_co]):
    """One execution of a workflow; awaitable in any asyncio loop.

    Made by `Engine.submit` and `Engine.get`. Dropping or cancelling whoever waits for a run does not
    stop it; `cancel` does.

    Example:
        >>> import goclaw
        >>> @goclaw.agent
        ... def add(a: int, b: int) -> int:
        ...     return a + b
        >>> @goclaw.workflow
        ... def total(a: int, b: int) -> int:
        ...     return add(a, b)
        >>> with goclaw.Engine() as engine:
        ...     engine.submit(total, {"a": 1, "b": 2}).result()
        3
    """

    __slots__ = ("__weakref__", "_engine", "_handle")

    def __init__(self, engine: Looking, handle: _goclaw.Run) -> None:
        self._engine = engine
        self._handle = handle

    @property
    def _native(self) -> _goclaw.Run:
        self._engine._check_fork()
        return self._handle

    @property
    def id(self) -> str:
        """The run's id, a ULID: sorts by time of submission."""
        return self._handle.id

    @property
    def state(self) -> str:
        """``pending running waiting compensating completed failed cancelled compensated quarantined incompatible``."""
        return self._native.state

    @property
    def durability(self) -> str:
        """``strict``, ``relaxed`` or ``none``: how much of it a crash may cost."""
        return self._native.durability

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that it was submitted with."""
        return tuple(self._native.tags())

    @property
    def workflow(self) -> str:
        """Name of the workflow that it runs."""
        return self._native.workflow()

    @property
    def session(self) -> str | None:
        """Key of its session; `None` where it has none."""
        return self._native.place()[0]

    @property
    def memory(self) -> MemoryAccess:
        """Sessions beside its own whose memory it was granted."""
        read, write = self._native.access()
        return MemoryAccess(read=read, write=write)

    @property
    def admission(self) -> str:
        """How its submit was met: ``started queued steered collected interrupting``."""
        return self._native.place()[1]

    @property
    def into(self) -> str | None:
        """Id of the run that took its message; `None` where it ran by itself, or will."""
        return self._native.place()[2]

    def wait(self, timeout: Duration | None = None) -> bool:
        """Waits for the end of the run.

        Args:
            timeout: How long at most; `None`: as long as it takes.

        Returns:
            True when the run has ended.

        Raises:
            EngineClosed: `engine.closed` when the engine closes first.
            WouldDeadlock: `engine.own_loop` on goclaw's own event loop; `engine.own_session` and `engine.own_run` in
                an agent that would wait for itself.
        """
        if self._native.wait(0.0):
            return True
        _guard.refuse_own_loop("wait for a run")
        deadline = None if timeout is None else time.monotonic() + to_seconds(timeout, what="timeout")
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if self._native.wait(left):
                return True
            if left is not None and deadline is not None and time.monotonic() >= deadline:
                return False

    def result(self, timeout: Duration | None = None) -> R_co:
        """Waits for the end of the run and returns what the workflow returns.

        Args:
            timeout: How long at most; `None`: as long as it takes.

        Returns:
            What the traced function returns; of a built workflow its `output`, else the single sink's
            result, else ``{sink id: result}``. Of a message that another run took (`into`) the result of
            that run.

        Raises:
            TaskFailed: with the agent's exception as `__cause__`.
            RunCancelled: `run.cancelled`.
            RunTimedOut: `run.timeout` when the workflow's own `timeout` was over.
            IncompatibleRun: `run.incompatible` where this version cannot take the run up.
            StoreError: `store.unwritable` where a value of the run could not be written down.
            ResultTimeout: `run.wait_timeout` when the time is over; the run goes on.
            EngineClosed: `engine.closed` when the engine closes first.
        """
        ended: Run[R_co] = _goclaw._one_wait(partial(self._until_ended, timeout))
        return ended._outcome()

    def _until_ended(self, timeout: Duration | None = None) -> Run[R_co]:
        """Waits for the run whose outcome is this one's: another one where that took its message."""
        deadline = None if timeout is None else time.monotonic() + to_seconds(timeout, what="timeout")
        run: Run[R_co] = self
        while True:
            if not run.wait(None if deadline is None else max(0.0, deadline - time.monotonic())):
                raise ResultTimeout(
                    f"run `{run.id}` is {run.state} and did not end within {timeout}",
                    help="wait longer, or look at run.tasks and run.events() to see where it stands",
                )
            into = run.into
            if into is None:
                return run
            run = self._engine.get(into)

    @property
    def results(self) -> dict[str, Any]:
        """Results of the tasks that completed so far, by id.

        A map completes with all its children; `children` has those of the good children of a failed one.
        """
        return self._native.results()

    def children(self, task: str) -> tuple[ChildView, ...]:
        """The children of a map, as they are now: also of one that failed, or is not done yet.

        Args:
            task: Id of the map.

        Returns:
            One view per item, in their order; nothing where the map does not know its items yet, or the task is no map.

        Raises:
            UnknownRun: `run.unknown` where the run was purged.
            GoclawError: `run.unknown_task` where the run has no such task.
        """
        rows = self._native.children(task)
        if rows is None:
            raise GoclawError(
                f"run `{self.id}` has no task `{task}`",
                code="run.unknown_task",
                help="look its tasks up with run.tasks",
            )
        return tuple(ChildView(index, *row) for index, row in enumerate(rows))

    @property
    def error(self) -> GoclawError | None:
        """What `result` would raise now without waiting, or `None`."""
        if self.state == "incompatible":
            try:
                self._native.wait(0.0)
            except IncompatibleRun as error:
                return error
        return self._error() if self.state in TERMINAL and self.state != "completed" else None

    @property
    def tasks(self) -> dict[str, TaskView]:
        """The run's tasks by id, as they are now."""
        native = self._native
        beats = {id: Heartbeat(*beat) for id, beat in native.beats().items()}
        return {row[0]: TaskView(*row, beats.get(row[0])) for row in native.tasks()}

    def events(self, *, follow: bool = True) -> EventStream:
        """The run's events from its first on.

        Args:
            follow: Wait for news until the run ends; otherwise stop with what is there.

        Returns:
            An iterator, for `for` and `async for`.

        Raises:
            UnknownRun: `run.unknown`, while it is read, where the run was purged.
        """
        pull = partial(self._engine._pull, self.id)
        return EventStream(pull, start=0, follow=follow, whole_run=True)

    def cancel(self, reason: str = "") -> None:
        """Asks the run to stop: what has not begun ends at once, what runs is told.

        Args:
            reason: Why, for the record.

        Raises:
            EngineClosed: `engine.closed`.
        """
        self._native.cancel(reason)

    def kill(self, reason: str = "") -> None:
        """Stops the run without waiting for anything of it: what runs is given up at once, nothing cleans up.

        The run ends ``cancelled``. A function that is in the middle of something goes on until it
        notices; what it does and returns counts no more.

        Args:
            reason: Why, for the record.

        Raises:
            EngineClosed: `engine.closed`.
        """
        self._native.kill(reason)

    @spelled_out(TaskWords)
    def add_task(
        self,
        id: str,
        agent: Agent[..., Any] | Callable[..., Any] | str,
        *,
        deps: Iterable[str] = (),
        args: Mapping[str, Any] | None = None,
        when: str | bool | None = None,
        for_each: Any = None,
        **options: Unpack[TaskWords],
    ) -> None:
        """Adds a task to the run while it runs; adding the same task again changes nothing.

        Args:
            id: Name of the task, unique in the run.
            agent: An agent, a function, or a name.
            deps: Ids of tasks that must end first.
            args: Arguments by parameter name, as for `Workflow.task`.
            when: A condition; the task is skipped where it is false.
            for_each: Makes the task a map.
            **options: As for `Workflow.task`.

        Raises:
            WorkflowError: `workflow.task_conflict` where a different task has the id, and what compiling raises.
            GoclawError: `run.sealed` where the run is over or being cancelled.
        """
        from .builder import Workflow

        only(TaskWords, options, "add_task")
        flow = Workflow("growth")
        flow.task(id, agent, deps=deps, args=args, when=when, for_each=for_each, **options)
        self.add_tasks(flow)

    def add_tasks(self, flow: Workflow) -> None:
        """Adds the tasks of a built workflow to the run while it runs, all or none.

        Each growth takes time in proportion to the whole run, so add many tasks at once rather than one by one.

        Args:
            flow: The tasks; they may depend on each other and on those of the run. Nothing else of it counts.

        Raises:
            WorkflowError: `workflow.task_conflict` where a different task has an id, and what compiling raises.
            GoclawError: `run.sealed` where the run is over or being cancelled.
        """
        import json

        model, constants = flow._model()
        self._native.add_tasks(json.dumps(model["tasks"]), constants)

    def __await__(self) -> Generator[Any, None, R_co]:
        return self._ended_result().__await__()

    async def _ended_result(self) -> R_co:
        from . import _lend

        if self._native.wait(0.0) and self.into is None:
            return self._outcome()
        return (await _lend.lent(self._ended()))._outcome()

    async def _ended(self) -> Run[R_co]:
        """`_until_ended` for coroutines."""
        import asyncio

        from . import _lend

        run: Run[R_co] = self
        while True:
            native = run._native
            if not native.wait(0.0):
                loop = asyncio.get_running_loop()
                ended: asyncio.Future[None] = loop.create_future()
                wake = _lend.waker(loop, ended)
                native.on_end(wake)
                with native.awaited(wake) as waiting:
                    await ended
                    waiting.check()
                native.wait(0.0)
            into = run.into
            if into is None:
                return run
            run = self._engine.get(into)

    def _outcome(self) -> R_co:
        error = None if self.state == "completed" else self._error()
        if error is not None:
            try:
                raise error
            finally:
                # The traceback refers to this frame; without this the exception would keep itself alive.
                del error
        result: R_co = self._native.result()
        return result

    def _error(self) -> GoclawError:
        try:
            reason = self._native.reason()
            code = self._native.code()
        except IncompatibleRun:
            # Cancelled, which takes no understanding of what it was.
            if self.state != "cancelled":
                raise
            reason, code = "", "run.cancelled"
        failure = self._native.failure() if code is None else None
        if failure is not None:
            return task_failed(failure)
        said = f"run `{self.id}` {_ENDED.get(self.state, self.state)}" + (f": {reason}" if reason else "")
        return class_of(code or "run.failed")(said, code=code or "run.failed")

    def __repr__(self) -> str:
        return f"<Run {self.id} {self._handle.state}>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from . import _notebook

        if isinstance(self.error, IncompatibleRun):
            return {"text/plain": repr(self)}
        return {"text/plain": repr(self), "text/html": _notebook.run_html(self)}


_ENDED = {"cancelled": "was cancelled", "quarantined": "was quarantined"}
