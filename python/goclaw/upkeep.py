"""Work on stores that no engine has open."""

from __future__ import annotations

import os
from dataclasses import dataclass

from . import _goclaw


@dataclass(frozen=True, slots=True)
class Compacted:
    """What compacting a store came to.

    Attributes:
        before: Bytes of its files before.
        after: Bytes of its files after.
    """

    before: int
    after: int


def compact(path: str | os.PathLike[str]) -> Compacted:
    """Rewrites a store so that what was deleted is gone from its files: forgotten memories, purged runs.

    The store must not be open. A crash on the way leaves it whole: as it was, or compacted.

    Args:
        path: Directory of the store, ``~`` allowed.

    Returns:
        Its bytes before and after.

    Raises:
        StoreLocked: `store.locked` where an engine has it open.
        StoreError: `store.missing` where there is none; `store.corrupt`, `store.too_new`, `store.io`.

    Example:
        >>> import goclaw, tempfile
        >>> path = tempfile.mkdtemp()
        >>> with goclaw.Memory(path) as memory:
        ...     _ = memory.memorize("the gate code is 4711", session="ada")
        ...     _ = memory.delete_session("ada")
        >>> done = goclaw.compact(path)
        >>> done.after < done.before
        True
    """
    return Compacted(*_goclaw.compact_store(os.path.expanduser(os.fspath(path))))
