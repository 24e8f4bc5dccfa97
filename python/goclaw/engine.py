"""The engine: runs workflows, in memory or on a durable store."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING

from . import _goclaw, _guard, _life, _sigterm
from . import config as _config
from ._embeddings import _Embeddings
from ._keeping import _checked as _checked_forgetting
from ._life import run as run
from ._options import DURABILITIES, Durability, one_of, whole_number
from ._submitting import Submitting
from .config import Config
from .durations import Duration, to_ms, to_positive_ms
from .errors import ConfigError
from .forgetting import Forgetting
from .lane import Lane, sized
from .memory import Memory
from .processes import Processes
from .session import WhenBusy, _mode

if TYPE_CHECKING:
    from typing import Self

    from .embedders import Embedder, Embedding
    from .tiers import Move, Tier

_PAYLOAD_MAX = 16 * 2**20


class Engine(Submitting):
    """Runs workflows; a context manager, sync and async.

    Args:
        path: Directory of the store, ``~`` allowed; `None` keeps everything in memory.
        lanes: Lanes beside the built-in ones (``default io cpu memory gpu embed``), or in their place.
        durability: How much a crash may cost: ``"strict"`` nothing (the default), ``"relaxed"`` the last few
            milliseconds, ``"none"`` for engines in memory.
        relaxed_window: How long a relaxed event waits for its commit; 10 ms by default.
        concurrency: Bound on everything that runs at once.
        drain_timeout: How long closing waits for running work; 10 s by default.
        payload_max: Bound of one encoded value, in bytes; 16 MiB by default.
        config: A file (``.yaml .toml .json``) or a mapping with the same options. The environment
            (``GOCLAW_LANES__CPU__CONCURRENCY=8``) outranks it, arguments outrank both.
        embedder: Makes the vectors of what is memorized: a callable of a list of texts, sync or async, or an
            `Embedding`, which says more of it (see `goclaw.embedders`).
        when_busy: What a submit does while its session is busy, unless it or the session says so itself;
            ``"followup"`` by default.
        cancel_grace: How long agents of a cancelled run get to stop before they are given up; 5 s by default.
        stuck_threads_max: Threads that may be stuck before their lane starts no more of them; 32 by default.
        handle_sigterm: SIGTERM closes the engine and ends the process with exit code 0; a second one
            does not wait for running work. Where the engine is opened outside the main thread, or
            the program handles SIGTERM itself, nothing is changed.
        processes: How worker processes are kept, for agents with `isolation="process"`.
        forgetting: How memories fade, where their session was not set to something else (`Memory.set_forgetting`);
            ``goclaw.Forgetting("agent")`` by default.
        cold: Where memories lie that are hardly asked for, see `goclaw.tiers`; needs a path.
        move: What moves there by itself, see `goclaw.tiers.Move`.

    Raises:
        RecallError: `memory.model` where the store was begun with another embedder.
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
        embedder: Embedder | Embedding | None = None,
        when_busy: WhenBusy | None = None,
        cancel_grace: Duration | None = None,
        stuck_threads_max: int | None = None,
        handle_sigterm: bool = True,
        processes: Processes | None = None,
        cold: Tier | None = None,
        move: Move | None = None,
        forgetting: Forgetting | None = None,
    ) -> None:
        _guard.refuse_main_replay()
        if forgetting is not None:
            _checked_forgetting(forgetting)
        given = {
            "durability": durability,
            "relaxed_window": relaxed_window,
            "concurrency": concurrency,
            "drain_timeout": drain_timeout,
            "payload_max": payload_max,
            "when_busy": when_busy,
            "cancel_grace": cancel_grace,
            "stuck_threads_max": stuck_threads_max,
        }
        settings = _config.read(config, lanes=lanes, arguments=given)
        told = settings.values
        # What a file or the environment says of durability is meant for engines that have a path.
        wanted = durability if path is None else told.get("durability")
        level = one_of("durability", "strict" if wanted is None else wanted, DURABILITIES)
        if path is None and durability in ("strict", "relaxed"):
            raise ConfigError(
                f'an engine in memory cannot have durability="{durability}"',
                code="config.contradiction",
                help="give the engine a path, or leave durability out",
            )
        if path is not None and level == "none":
            raise ConfigError(
                'an engine with a path cannot have durability="none"',
                code="config.contradiction",
                help='leave the path out, or use durability="relaxed"',
            )
        self._move = move
        cellar = None if cold is None and move is None else _cellar(cold, move, path)
        self._path = None if path is None else os.path.expanduser(os.fspath(path))
        self._drain_ms = to_ms(told.get("drain_timeout", "10s"), what="drain_timeout")
        self._pid = os.getpid()
        self._set_up = {}
        concurrency = told.get("concurrency")
        self._embeddings = _Embeddings(embedder)
        if self._path is not None:
            # A run of goclaw's own may go on in that store: its agent is known before.
            from . import _reembed  # noqa: F401
        self._native = _goclaw.Engine(
            self._path,
            json.dumps([sized(lane._to_model()) for lane in settings.lanes]),
            None if concurrency is None else whole_number("concurrency", concurrency, 2**31 - 1),
            level,
            to_positive_ms(told.get("relaxed_window", "10ms"), what="relaxed_window"),
            whole_number("payload_max", told.get("payload_max", _PAYLOAD_MAX), 2**31 - 1),
            _mode(told.get("when_busy", "followup"), memory=self._path is None),
            to_ms(told.get("cancel_grace", "5s"), what="cancel_grace"),
            whole_number("stuck_threads_max", told.get("stuck_threads_max", 32), 100_000),
            None if processes is None else json.dumps(_checked(processes)._to_model()),
            self._embeddings,
            cellar,
        )
        self._memory = Memory._of(self)
        if forgetting is not None:
            self._memory._native.set_usual(forgetting)
        try:
            self._embeddings.attach(self)
        except BaseException:
            self._close(0)
            raise
        _life.opened.add(self)
        if handle_sigterm:
            _sigterm.watch(self)

    @property
    def path(self) -> str | None:
        """Directory of the store; `None` in memory."""
        return self._path

    @property
    def recovered(self) -> int:
        """Unfinished runs that this opening resumed."""
        return self._alive().recovered

    @property
    def memory(self) -> Memory:
        """What agents remember in this engine's store."""
        self._alive()
        return self._memory

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

    def _close(self, drain_ms: int) -> None:
        self._embeddings.close()
        self._native.close(drain_ms)
        _life.opened.discard(self)
        _sigterm.unwatch(self)


def _checked(processes: Processes) -> Processes:
    if not isinstance(processes, Processes):
        raise ConfigError(
            f"`processes` is {processes!r}", code="config.invalid", help="give goclaw.Processes(max_tasks=1000, ...)"
        )
    return processes


def _cellar(cold: Tier | None, move: Move | None, path: object) -> str:
    from .tiers import _to_json

    if cold is None or path is None:
        raise ConfigError(
            "`move` needs a cold tier" if cold is None else "an engine in memory cannot have a cold tier",
            code="config.contradiction",
            help="give the tier, too: cold=goclaw.tiers.Files(...)" if cold is None else "give the engine a path",
        )
    return _to_json(cold, move)
