"""What moves to a cold tier and comes back: the verbs of `Memory` that need one."""

from __future__ import annotations

import builtins
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ._keywords import spelled_out, value_of
from ._recall import _Recall, _sessions_of
from ._threads import elsewhere as _elsewhere
from ._verbs import MoveOptions, Moving
from .entry import Moved
from .errors import RecallError

if TYPE_CHECKING:
    from typing import Unpack

    from .engine import Engine


class _Cold(_Recall):
    """The verbs of `Memory` about its cold tier."""

    _engine: Engine

    @spelled_out(Moving)
    def move_cold(self, session: str | None = None, **options: Unpack[MoveOptions]) -> Moved:
        """Moves memories to the cold tier, weakest first: those that any of the options names.

        Pinned ones stay, and those without a vector.

        Args:
            session: Whose memories; `None` for all sessions, one after the other.
            below: Those weaker than this, 0 to 1.
            unused_for: Those neither memorized nor reviewed for this long.
            keep_max: The weakest, where a session has more than this many in the store.
            limit: How many at most.
            dry_run: Only say what would move.

        Returns:
            What moved. Without any of the first three options, by what `move=` was given when it was opened.

        Raises:
            RecallError: `memory.tier` where there is no tier, or it fails: what moved until then has moved;
                `memory.tier_owner` where it is another store's.
        """
        asked = self._moving(value_of("move_cold", Moving, options))
        ids: builtins.list[str] = []
        size = left = refused = 0
        for name in _sessions_of(self._native) if session is None else [session]:
            some, more, beyond, large = self._native.move_cold(name, replace(asked, limit=asked.limit - len(ids)))
            ids += some
            size, left, refused = size + more, left + beyond, refused + large
        return Moved(tuple(ids), size, left, refused)

    @spelled_out(Moving)
    async def amove_cold(self, session: str | None = None, **options: Unpack[MoveOptions]) -> Moved:
        """`move_cold`, without blocking the event loop."""
        value_of("amove_cold", Moving, options)
        return await _elsewhere(lambda: self.move_cold(session, **options))

    def _moving(self, asked: Moving) -> Moving:
        if asked.below is asked.unused_for is asked.keep_max is None:
            usual = self._engine._move
            if usual is None:
                raise RecallError(
                    "move_cold() is not told what is cold",
                    code="memory.threshold",
                    help='move_cold(session, below=0.5), unused_for="30d" or keep_max=100_000',
                )
            return replace(asked, below=usual.below, unused_for=usual.unused_for, keep_max=usual.keep_max)
        return asked

    def bring_back(self, session: str, ids: str | Iterable[str]) -> int:
        """Brings memories back from the cold tier into the store.

        Args:
            session: Whose memories.
            ids: Which; those that do not lie in the tier stay as they are.

        Returns:
            How many came back.

        Raises:
            RecallError: `memory.tier`.
        """
        return self._native.bring_back(session, [ids] if isinstance(ids, str) else [*ids])

    async def abring_back(self, session: str, ids: str | Iterable[str]) -> int:
        """`bring_back`, without blocking the event loop."""
        return await _elsewhere(partial(self.bring_back, session, ids))

    def settle_cold(self) -> int:
        """Deletes from the cold tier what was forgotten, now; it happens by itself, too.

        Returns:
            How many copies went.

        Raises:
            RecallError: `memory.tier`; the deletions are kept and tried again.
        """
        return self._native.settle_cold()

    def check_cold(self) -> None:
        """Asks the cold tier whether it is there, and is this store's.

        Raises:
            RecallError: `memory.tier` where it is not there, `memory.tier_owner` where it is another store's.
        """
        self._native.cold_health()
