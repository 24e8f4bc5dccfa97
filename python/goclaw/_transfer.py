"""Memories out of one store and into another: JSON Lines, and the Markdown of workspaces."""

from __future__ import annotations

import builtins
import os
from collections.abc import Iterable, Iterator
from functools import partial

from ._recall import PAGE, _Recall, _sessions_of
from ._threads import elsewhere as _elsewhere
from .entry import Imported
from .errors import RecallError


class _Transfer(_Recall):
    """The verbs of `Memory` that carry memories in and out."""

    def export(self, session: str | None = None) -> Iterator[str]:
        """Memories as JSON Lines, without line ends; before those of a session how it forgets, where that was set.

        Args:
            session: Whose memory; `None` for all sessions, one after the other.

        Yields:
            One line per memory, and one per session with `set_forgetting`, for `import_`.
        """
        if session is not None:
            yield from self._lines(session)
            return
        silent = set(self._native.set_apart())
        for name in _sessions_of(self._native):
            silent.discard(name)
            yield from self._lines(name)
        for name in sorted(silent):
            yield from self._lines(name)

    def _lines(self, session: str) -> Iterator[str]:
        after: str | None = None
        while True:
            lines, after = self._native.export(session, after, PAGE)
            yield from lines
            if len(lines) < PAGE:
                break

    def import_(self, lines: Iterable[str]) -> int:
        """Memorizes lines that `export` wrote, under their own ids: importing again changes nothing.

        Args:
            lines: The lines; an open file will do.

        Returns:
            How many were memorized.

        Raises:
            RecallError: `memory.import` naming the line; the thousand lines around it were not memorized. So
                with `memory.model`, where its vector is of another embedder than this store's.
        """
        if isinstance(lines, (str, bytes, os.PathLike)):
            raise RecallError(
                f"{lines!r} is not lines but one thing",
                code="memory.import",
                help="pass the lines: with open(path) as lines: memory.import_(lines)",
            )
        count = 0
        batch: builtins.list[str] = []
        for line in lines:
            batch.append(line)
            if len(batch) >= PAGE:
                count += self._native.import_lines(batch, self._embeddings.model)
                batch.clear()
        return count + self._native.import_lines(batch, self._embeddings.model)

    def import_markdown(self, folder: str | os.PathLike[str], *, session: str) -> Imported:
        """Memorizes the Markdown memory of an OpenClaw workspace: ``MEMORY.md`` and ``memory/**/*.md``.

        Each heading makes a memory, a longer section several of about 400 tokens. Its metadata names `file`, `heading`,
        `lines` and, where the file's name says one, `date`, which is also when it was created. Importing again changes
        nothing; of a file that has changed, what it says no more is forgotten, and the rest stays as it is.

        Args:
            folder: The workspace.
            session: Whose memory it becomes.

        Returns:
            What was changed.

        Raises:
            RecallError: `memory.markdown` naming the file that is no UTF-8, larger than 4 MiB, unreadable, or reached
                by a link that leads out of the workspace; nothing was memorized then. `memory.embedder`.
        """
        while True:
            plan = self._native.plan_import(session, os.fspath(folder))
            made = self._embeddings.make(plan.texts()) if self._embeddings.when == "now" else None
            try:
                return Imported(*self._native.carry_out(plan, made))
            except RecallError as error:
                # The store went over to another model between the two: once more, by that.
                if made is None or error.code != "memory.model" or self._embeddings.generation() == made[0]:
                    raise

    async def aimport_markdown(self, folder: str | os.PathLike[str], *, session: str) -> Imported:
        """`import_markdown`, without blocking the event loop."""
        return await _elsewhere(partial(self.import_markdown, folder, session=session))

    def export_markdown(self, folder: str | os.PathLike[str], *, session: str) -> int:
        """Writes a session as the Markdown memory of an OpenClaw workspace.

        What was imported goes back into its files; other texts and values go into the notes of the days that they were
        memorized on. Bytes and vectors stay behind; `export` takes everything.

        Args:
            folder: The workspace, which is made where there is none.
            session: Whose memory.

        Returns:
            How many memories were written.

        Raises:
            RecallError: `memory.markdown` where one of the files is there already: none was written then.
        """
        return self._native.export_notes(session, os.fspath(folder))
