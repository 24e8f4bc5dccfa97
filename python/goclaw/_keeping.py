"""What keeps memories and lets them go: reviews, forgetting, sweeps, and how a session forgets."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from ._keywords import spelled_out, value_of
from ._recall import Feedback, Grade, _Recall
from ._threads import elsewhere as _elsewhere
from ._verbs import Dropping, ForgetOptions, Sweeping, SweepOptions
from .entry import Forgotten, Swept
from .errors import ConfigError
from .forgetting import Forgetting, _read

if TYPE_CHECKING:
    from typing import Unpack


class _Keeping(_Recall):
    """The verbs of `Memory` that change how long something is remembered."""

    def review(self, id: str | Iterable[str], grade: Grade, *, session: str | None = None) -> None:
        """Reviews memories: what was recalled well is kept longer.

        Args:
            id: One id, or several: all are reviewed or none.
            grade: ``"again"`` (it was wrong), ``"hard"``, ``"good"`` (it was used), ``"easy"``; or 1 to 4.
            session: Whose memories they must be, where that matters.

        Raises:
            RecallError: `memory.unknown`.
        """
        self._review(id, session, grade)

    def feedback(self, id: str | Iterable[str], feedback: Feedback, *, session: str | None = None) -> None:
        """Says what a recalled memory was good for.

        Args:
            id: One id, or several.
            feedback: ``"used"`` (graded good), ``"useful"`` (easy) or ``"wrong"`` (again).
            session: Whose memories they must be, where that matters.

        Raises:
            RecallError: `memory.unknown`.
        """
        self._feedback(id, session, feedback)

    @spelled_out(Dropping)
    def forget(self, session: str, **options: Unpack[ForgetOptions]) -> Forgotten:
        """Forgets memories of a session: these, or those that are nearly gone.

        Args:
            session: Whose memories.
            ids: Which; those that are not there are left out.
            below: All weaker than this, 0 to 1, weakest first, save pinned ones.
            limit: How many at most.
            grace: Memories younger than this stay (by strength only).
            dry_run: Only say what would go.

        Returns:
            What was forgotten, and how many more fit.

        Raises:
            RecallError: `memory.threshold`, `memory.session`.
        """
        return self._forget(session, value_of("forget", Dropping, options))

    @spelled_out(Dropping)
    async def aforget(self, session: str, **options: Unpack[ForgetOptions]) -> Forgotten:
        """`forget`, without blocking the event loop."""
        return await _elsewhere(partial(self._forget, session, value_of("aforget", Dropping, options)))

    def delete_session(self, session: str) -> int:
        """Forgets everything of a session, pinned or not.

        Args:
            session: Whose memory.

        Returns:
            How many memories were forgotten.
        """
        return self._native.delete_session(session)

    async def areview(self, id: str | Iterable[str], grade: Grade, *, session: str | None = None) -> None:
        """`review`, without blocking the event loop."""
        await _elsewhere(partial(self._review, id, session, grade))

    async def afeedback(self, id: str | Iterable[str], feedback: Feedback, *, session: str | None = None) -> None:
        """`feedback`, without blocking the event loop."""
        await _elsewhere(partial(self._feedback, id, session, feedback))

    async def adelete_session(self, session: str) -> int:
        """`delete_session`, without blocking the event loop."""
        return await _elsewhere(partial(self.delete_session, session))

    @spelled_out(Sweeping)
    def sweep(self, *, below: float, **options: Unpack[SweepOptions]) -> Swept:
        """Forgets what is weak in every session: the weakest of a session first, one commit for every 1,000.

        Args:
            below: All weaker than this, 0 to 1, save pinned ones.
            grace: Memories younger than this stay.
            limit: How many at most.
            dry_run: Only count what would go.

        Returns:
            How many were forgotten, and what that took.

        Raises:
            RecallError: `memory.threshold`, `memory.limit`.
        """
        return self._sweep(value_of("sweep", Sweeping, {"below": below, **options}))

    @spelled_out(Sweeping)
    async def asweep(self, *, below: float, **options: Unpack[SweepOptions]) -> Swept:
        """`sweep`, without blocking the event loop."""
        return await _elsewhere(partial(self._sweep, value_of("asweep", Sweeping, {"below": below, **options})))

    def _sweep(self, what: Sweeping) -> Swept:
        forgotten, sessions, took_ms, more = self._native.sweep(what)
        return Swept(forgotten, sessions, took_ms / 1000, more)

    def forgetting(self, session: str) -> Forgetting | None:
        """How a session was set to forget.

        Args:
            session: Whose memory.

        Returns:
            Its parameters; `None` where it forgets as its engine does.
        """
        row = self._native.forgetting(session)
        return None if row is None else _read(row)

    def set_forgetting(self, session: str, forgetting: Forgetting | None) -> None:
        """Sets how the memories of a session fade; it lasts, and goes with `delete_session`.

        Memories keep the stability that they have. How their strength falls from it, and what later reviews do, is new.

        Args:
            session: Whose memory.
            forgetting: Its parameters; `None`: as its engine does.

        Raises:
            RecallError: `memory.session`, `memory.forgetting`.
        """
        self._native.set_forgetting(session, None if forgetting is None else _checked(forgetting))


def _checked(forgetting: Forgetting) -> Forgetting:
    if not isinstance(forgetting, Forgetting):
        raise ConfigError(
            f"`forgetting` is {forgetting!r}", code="config.invalid", help='give goclaw.Forgetting("agent", ...)'
        )
    return forgetting
