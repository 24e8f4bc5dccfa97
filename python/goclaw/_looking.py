"""Looking at an engine's runs: one, many, their events, counters, and why something is not running."""

from __future__ import annotations

import builtins
import os
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from . import explain as _explain
from ._options import whole_number
from ._stream import EventStream, Fact
from .durations import Duration, to_ms
from .errors import EngineForked
from .explain import Explanation
from .health import Health, _health
from .lanes import Lanes
from .run import Run
from .session import Sessions
from .views import RunSummary

if TYPE_CHECKING:
    from . import _goclaw
    from ._embeddings import _Embeddings

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Looking:
    """What an engine answers about its runs and lanes."""

    _native: _goclaw.Engine
    _embeddings: _Embeddings
    _path: str | None
    # What `sessions.configure` was told, by key: the mode and the weight.
    _set_up: dict[str, tuple[_goclaw._ModeRow | None, int | None]]
    _pid: int

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
        session: str | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> builtins.list[RunSummary]:
        """Runs, newest first.

        Args:
            state: Only runs in this state.
            workflow: Only runs of the workflow of this name.
            tag: Only runs with this tag.
            session: Only runs of the session with this key.
            limit: How many at most.
            after: Id of the last run of the page before.

        Returns:
            One summary per run.

        Raises:
            ConfigError: `config.choice` for a state that does not exist.
        """
        rows = self._alive().list(state, workflow, tag, session, after, whole_number("limit", limit, 100_000))
        return [
            RunSummary(id, name, found, tuple(tags), _at(submitted), None if ended is None else _at(ended), key)
            for id, name, found, tags, submitted, ended, key in rows
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

    def kill(self, run_id: str, reason: str = "") -> None:
        """Stops a run without waiting for anything of it.

        Args:
            run_id: Its id.
            reason: Why, for the record.

        Raises:
            UnknownRun: `run.unknown`.
        """
        self.get(run_id).kill(reason)

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

    def explain(self, run: Run[Any] | str, task: str | None = None) -> Explanation:
        """Tells why a run, or one task of it, is not running.

        Args:
            run: The run, or its id.
            task: A task's id, ``"each[3]"`` for a child of a map; `None`: the whole run.

        Returns:
            The answer; `str` of it is a sentence or two.

        Raises:
            UnknownRun: `run.unknown`.
            GoclawError: `run.unknown_task`.

        Example:
            >>> import goclaw
            >>> @goclaw.agent
            ... def ping() -> str:
            ...     return "pong"
            >>> with goclaw.Engine() as engine:
            ...     run = engine.submit(goclaw.Workflow("one").task("ping", ping))
            ...     _ = run.wait()
            ...     engine.explain(run).state
            'completed'
        """
        id = run if isinstance(run, str) else run.id
        found = self._alive().explain(id, task)
        return _explain.read(found) if found is not None else _explain.of_ended(self.get(id), task)

    @property
    def lanes(self) -> Lanes:
        """The lanes by name, live: each tells what goes on in it, and can be paused, drained and changed."""
        return Lanes(self)

    @property
    def sessions(self) -> Sessions:
        """The sessions by key: who holds each, who waits, and how it is configured."""
        return Sessions(self)

    def stats(self) -> dict[str, int]:
        """The engine's counters since it was opened, under the names that metrics have.

        Returns:
            Counts by name.
        """
        return self._alive().stats()

    def health(self) -> Health:
        """How the engine is: what is stuck, who holds up everybody, what is missing.

        Returns:
            What was found; ``str()`` of it is one readable line.

        Raises:
            EngineClosed: `engine.closed`.
        """
        return _health(self._alive().health(), self._embeddings.failing)

    def events(self, *, follow: bool = True, start: int = 0) -> EventStream:
        """Events of all runs.

        Args:
            follow: Wait for news until the engine closes; otherwise stop with what is there.
            start: First sequence number of interest.

        Returns:
            An iterator, for `for` and `async for`.
        """
        return EventStream(partial(self._pull, None), start=start, follow=follow, whole_run=False)

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


def _at(ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=ms)
