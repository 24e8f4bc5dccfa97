"""What was looked up in memory for a task: `ctx.recalled`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .entry import Entry, Hit

if TYPE_CHECKING:
    from typing import Self


class Recalled(tuple[Entry, ...]):
    """The memories that a task was given before its attempt: those that were found, then the latest ones.

    A tuple of entries, each once. Templates call it `memory`: ``{% for m in memory %}{{ m.content }}{% endfor %}``.

    Attributes:
        found: What the task's `Retrieve` found, best first.
        latest: The latest memories of the session, latest first, where the workflow asks for them.
        warning: Why the search went by words alone, where the embedder failed; `None` otherwise.
    """

    found: tuple[Hit, ...]
    latest: tuple[Entry, ...]
    warning: str | None

    def __new__(cls, found: Iterable[Hit] = (), latest: Iterable[Entry] = (), warning: str | None = None) -> Self:
        hits, entries = tuple(found), tuple(latest)
        by_id = {entry.id: entry for entry in (*(hit.entry for hit in hits), *entries)}
        made = super().__new__(cls, by_id.values())
        made.found, made.latest, made.warning = hits, entries, warning
        return made

    @property
    def text(self) -> str:
        """The contents as text, one line each."""
        return "\n".join(str(entry.content) for entry in self)

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[type[Recalled], tuple[tuple[Hit, ...], tuple[Entry, ...], str | None]]:
        return Recalled, (self.found, self.latest, self.warning)
