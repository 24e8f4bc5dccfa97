"""The engine: runs workflows, in memory or on a durable store."""

from __future__ import annotations

import atexit
import builtins
import json
import os
import sys
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from . import _goclaw, _guard, _registry
from . import config as _config
from ._options import DURABILITIES, Durability, _priority, one_of
from ._stream import EventStream, Fact
from .config import Config
from .definition import Definition
from .durations import Duration, to_ms, to_positive_ms
from .errors import ConfigError, EngineForked
from .lane import Lane, LaneStats, sized
from .run import Run, RunSummary

if TYPE_CHECKING:
    from typing import Self

R = TypeVar("R")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PAYLOAD_MAX = 16 * 2**20
_CONFLICTS = ("error", "existing")
_open: weakref.WeakSet[Engine] = weakref.WeakSet()


class Engine:
    """Runs workflows; a context manager, sync and async.

    Args:
        path: Directory of the store, ``~`` allowed; `None` keeps everything in memory.
        lanes: Lanes beside the built-in ones (``default io cpu memory gpu``), or in their place.
        durability: How much a crash may cost: ``"strict"`` nothing (the default), ``"relaxed"`` the last few
            milliseconds, ``"none"`` for engines in memory.
        relaxed_window: How long a relaxed event waits for its commit; 10 ms by default.
        concurrency: Bound on everything that runs at once.
        drain_timeout: How long closing waits for running work; 10 s by default.
        payload_max: Bound of one encoded value, in bytes; 16 MiB by default.
        config: A file (``.yaml .toml .json``) or a mapping with the same options. The environment
            (``GOCLAW_LANES__CPU__CONCURRENCY=8``) outranks it, arguments outrank both.

    Raises:
        StoreLocked: `store.locked` where another process has the store open.
        StoreError: `store.corrupt`, `store.too_new`, `store.io`.
        ConfigError: for options that make no sense.

    Example:
        >>> import goclaw
        >>> @goclaw.agent
        ... def double(x: int) -> int:
        ...     return 2 * x
        >>> @goclaw.workflow
        ... def quadruple(x: int) -> int:
        ...     return double(double(x))
        >>> with goclaw.Engine() as engine:
        ...     engine.run(quadruple, {"x": 10})
        40
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        lanes: Iterable[Lane] = (),
        durability: Durability | None = None,
        relaxed_window: Duration | None = None,
        concurrency: int | None = None,
        drain_timeout: Duration | None = None,
        payload_max: int | None = None,
        config: Config | None = None,
    ) -> None:
        given = {
            "durability": durability,
            "relaxed_window": relaxed_window,
            "concurrency": concurrency,
            "drain_timeout": drain_timeout,
            "payload_max": payload_max,
        }
        settings = _config.read(config, lanes=lanes, arguments=given)
        told = settings.values
        # What a file or the environment says of durability is meant for engines that have a path.
        wanted = durability if path is None else told.get("durability")
        level = one_of("durability", "strict" if wanted is None else wanted, DURABILITIES)
        if path is None and level == "relaxed":
            raise ConfigError(
                'an engine in memory cannot have durability="relaxed"',
                code="config.contradiction",
                help="give the engine a path, or leave durability out",
            )
        if path is not None and level == "none":
            raise ConfigError(
                'an engine with a path cannot have durability="none"',
                code="config.contradiction",
                help='leave the path out, or use durability="relaxed"',
            )
        self._path = None if path is None else os.path.expanduser(os.fspath(path))
        self._drain_ms = to_ms(told.get("drain_timeout", "10s"), what="drain_timeout")
        self._pid = os.getpid()
        concurrency = told.get("concurrency")
        self._native = _goclaw.Engine(
            self._path,
            json.dumps([sized(lane._to_model()) for lane in settings.lanes]),
            None if concurrency is None else _bound("concurrency", concurrency, 2**31 - 1),
            level,
            to_positive_ms(told.get("relaxed_window", "10ms"), what="relaxed_window"),
            _bound("payload_max", told.get("payload_max", _PAYLOAD_MAX), 2**31 - 1),
        )
        _open.add(self)

    @property
    def path(self) -> str | None:
        """Directory of the store; `None` in memory."""
        return self._path

    @property
    def recovered(self) -> int:
        """Unfinished runs that this opening resumed."""
        return self._alive().recovered

    def submit(
        self,
        flow: Definition[R],
        input: Any = None,
        *,
        run_id: str | None = None,
        on_conflict: Literal["error", "existing"] = "error",
        priority: int = 0,
        tags: Sequence[str] = (),
        durability: Durability | None = None,
    ) -> Run[R]:
        """Starts a run.

        Args:
            flow: The workflow.
            input: Its input, a dict by names; a workflow with one parameter also takes the value alone.
            run_id: A ULID of your own, so that submitting again is recognised.
            on_conflict: What happens where a run has that id: ``"error"``, or ``"existing"`` for a handle of it.
            priority: Higher runs first.
            tags: Words to find the run by.
            durability: The level of this run, where it differs from the engine's.

        Returns:
            A handle, as soon as the run is durable at its level.

        Raises:
            WorkflowError: where the workflow is refused.
            InputError: `workflow.input` where the input does not fit.
            PayloadError: where the input cannot be encoded.
            LaneFull: `lane.full`.
            RunConflict: `run.conflict`.
            EngineClosed: `engine.closed`.
        """
        return self._submit(flow, [input], run_id, on_conflict, priority, tags, durability, not _guard.in_loop())[0]

    def submit_many(
        self,
        flow: Definition[R],
        inputs: Iterable[Any],
        *,
        priority: int = 0,
        tags: Sequence[str] = (),
        durability: Durability | None = None,
    ) -> builtins.list[Run[R]]:
        """Starts one run per input, with one message and one commit.

        Args:
            flow: The workflow.
            inputs: The inputs.
            priority: Higher runs first.
            tags: Words to find the runs by.
            durability: The level of these runs, where it differs from the engine's.

        Returns:
            The handles in the order of the inputs.

        Raises:
            GoclawError: as `submit`.
        """
        return self._submit(flow, list(inputs), None, "error", priority, tags, durability, not _guard.in_loop())

    def run(self, flow: Definition[R], input: Any = None, *, priority: int = 0, tags: Sequence[str] = ()) -> R:
        """Submits a run and waits for its result.

        Args:
            flow: The workflow.
            input: Its input.
            priority: Higher runs first.
            tags: Words to find the run by.

        Returns:
            What `Run.result` returns.

        Raises:
            GoclawError: as `submit` and `Run.result`.
        """
        _guard.refuse_own_loop("run a workflow")
        started = self.submit(flow, input, priority=priority, tags=tags)
        # This thread has nothing to do until the run ends, so it works on the run's tasks.
        self._native.help(started._handle)
        return started.result()

    async def arun(self, flow: Definition[R], input: Any = None, *, priority: int = 0, tags: Sequence[str] = ()) -> R:
        """Submits a run and awaits its result, in any asyncio loop.

        Args:
            flow: The workflow.
            input: Its input.
            priority: Higher runs first.
            tags: Words to find the run by.

        Returns:
            What `Run.result` returns. Cancelling the awaiting task does not cancel the run.

        Raises:
            GoclawError: as `submit` and `Run.result`.
        """
        import asyncio

        started = partial(self._submit, flow, [input], None, "error", priority, tags, None, True)
        return await (await asyncio.to_thread(started))[0]

    def get(self, run_id: str) -> Run[Any]:
        """A handle of a run that the engine knows.

        Args:
            run_id: Its id.

        Returns:
            The handle.

        Raises:
            UnknownRun: `run.unknown`.
        """
        return Run(self, self._alive().get(run_id))

    def list(
        self,
        *,
        state: str | None = None,
        workflow: str | None = None,
        tag: str | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> builtins.list[RunSummary]:
        """Runs, newest first.

        Args:
            state: Only runs in this state.
            workflow: Only runs of the workflow of this name.
            tag: Only runs with this tag.
            limit: How many at most.
            after: Id of the last run of the page before.

        Returns:
            One summary per run.

        Raises:
            ConfigError: `config.choice` for a state that does not exist.
        """
        rows = self._alive().list(state, workflow, tag, after, _bound("limit", limit, 100_000))
        return [
            RunSummary(id, name, found, tuple(tags), _at(submitted), None if ended is None else _at(ended))
            for id, name, found, tags, submitted, ended in rows
        ]

    def cancel(self, run_id: str, reason: str = "") -> None:
        """Cancels a run.

        Args:
            run_id: Its id.
            reason: Why, for the record.

        Raises:
            UnknownRun: `run.unknown`.
        """
        self.get(run_id).cancel(reason)

    def purge(self, run_id: str | None = None, *, older_than: Duration = 0.0) -> int:
        """Forgets finished runs.

        Args:
            run_id: Only this run; `None`: all finished ones.
            older_than: Only runs that ended at least so long ago.

        Returns:
            How many were forgotten.
        """
        before = datetime.now(UTC) - timedelta(milliseconds=to_ms(older_than, what="older_than"))
        return self._alive().purge(run_id, (before - _EPOCH) // timedelta(milliseconds=1) + 1)

    @property
    def lanes(self) -> dict[str, LaneStats]:
        """The lanes by name, as they are now."""
        return {row[0]: LaneStats(*row) for row in self._alive().lanes()}

    def stats(self) -> dict[str, int]:
        """The engine's counters since it was opened, under the names that metrics have.

        Returns:
            Counts by name.
        """
        return self._alive().stats()

    def events(self, *, follow: bool = True, start: int = 0) -> EventStream:
        """Events of all runs.

        Args:
            follow: Wait for news until the engine closes; otherwise stop with what is there.
            start: First sequence number of interest.

        Returns:
            An iterator, for `for` and `async for`.
        """
        return EventStream(partial(self._pull, None), start=start, follow=follow, whole_run=False)

    def close(self, *, drain_timeout: Duration | None = None) -> None:
        """Refuses new work, lets running work finish, interrupts the rest (it costs no retry). Again: does nothing.

        Args:
            drain_timeout: How long to wait for running work; the engine's own by default.
        """
        self._check_fork()
        _guard.refuse_own_loop("close its engine")
        self._close(self._drain_ms if drain_timeout is None else to_ms(drain_timeout, what="drain_timeout"))

    async def aclose(self) -> None:
        """`close`, without blocking the event loop."""
        import asyncio

        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        self._alive()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        self.close(drain_timeout=0 if interrupted else None)

    async def __aenter__(self) -> Self:
        self._alive()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<Engine {self._path or 'in memory'}>"

    def _submit(
        self,
        flow: Definition[R],
        inputs: builtins.list[Any],
        run_id: str | None,
        on_conflict: str,
        priority: int,
        tags: Sequence[str],
        durability: str | None,
        block: bool,
    ) -> builtins.list[Run[R]]:
        native = self._alive()
        if not isinstance(flow, Definition):
            raise ConfigError(
                f"{flow!r} is no workflow", code="config.flow", help="submit a @goclaw.workflow or a goclaw.Workflow"
            )
        one_of("on_conflict", on_conflict, _CONFLICTS)
        if durability is not None:
            one_of("durability", durability, DURABILITIES)
        if isinstance(tags, str):
            raise ConfigError("`tags` is a text", code="config.tags", help=f'write tags=["{tags}"]')
        if isinstance(tags, Mapping):
            raise ConfigError("`tags` is a mapping", code="config.tags", help="write words, such as tags=['team:x']")
        plan = flow._compile(native.lane_specs(), memory=self._path is None)
        handles = native.submit(
            plan,
            [flow._input(given) for given in inputs],
            run_id,
            on_conflict == "existing",
            _priority(priority),
            list(tags),
            durability,
            block,
        )
        return [Run(self, handle) for handle in handles]

    def _pull(self, run_id: str | None, start: int, limit: int, wait: float) -> builtins.list[Fact]:
        return self._alive().facts(run_id, start, limit, wait)

    def _check_fork(self) -> None:
        if self._pid != os.getpid():
            raise EngineForked(
                f"{self!r} belongs to process {self._pid}; this is a forked child",
                help='open an engine in the child, or start children with the "spawn" method',
            )

    def _alive(self) -> _goclaw.Engine:
        self._check_fork()
        return self._native

    def _close(self, drain_ms: int) -> None:
        self._native.close(drain_ms)
        _open.discard(self)


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
    global _shared_engine
    with _shared_lock:
        if _shared_engine is None or _shared_engine not in _open:
            _shared_engine = Engine(drain_timeout=0)
        return _shared_engine


def _bound(what: str, value: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ConfigError(f"`{what}` is {value!r}", code="config.invalid", help=f"give a whole number from 1 to {most}")
    return value


def _at(ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=ms)


def _wake_all() -> None:
    for engine in list(_open):
        engine._native.wake()


def _close_all() -> None:
    for engine in list(_open):
        if engine._pid == os.getpid():
            engine._close(engine._drain_ms)


def _after_fork() -> None:
    global _shared_engine, _shared_lock
    # The child has none of the threads: nothing of the parent's engines may be touched or dropped.
    for engine in list(_open):
        engine._native.leak()
    _open.clear()
    _goclaw._Feeder.forked()
    loop = sys.modules.get("goclaw._loop")
    if loop is not None:
        loop.forget()
    _shared_engine = None
    _shared_lock = threading.Lock()


_registry.listeners.append(_wake_all)
atexit.register(_close_all)
os.register_at_fork(after_in_child=_after_fork)
