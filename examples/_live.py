"""A live view of a run for the terminal, made from its events; plain lines where there is no terminal."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import goclaw

_WIDTH = 24
_REDRAW_S = 0.08
_TERMINAL = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
_COLOUR = _TERMINAL and "NO_COLOR" not in os.environ
_UNICODE = (sys.stdout.encoding or "").lower().startswith("utf")
_ENDED = ("task.completed", "task.failed", "task.cancelled", "task.skipped")


def strong(text: str) -> str:
    return _painted("1", text)


def _painted(code: str, text: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if _COLOUR else text


@dataclass
class _Row:
    """How far one task of the workflow is; a map counts its children."""

    lane: str
    # Not known of a map before it has its items.
    total: int | None = None
    is_map: bool = False
    ended: int = 0
    failed: int = 0
    running: int = 0
    retried: int = 0


class Live:
    """Counts what a run's events say, and draws it.

    Args:
        run: The run.
        began: When this process took it up: what ended before is history.
    """

    def __init__(self, run: goclaw.Run[Any], began: datetime) -> None:
        self._run = run
        self._began = began
        self._rows = {task.id: _Row(task.lane) for task in run.tasks.values()}
        self._start = time.monotonic()
        self._drawn = 0
        # What was done in this process.
        self._fresh = 0
        self._retried = 0
        # Agent calls that are on record, before this process and in it.
        self.seen = _calls(event for event in run.events(follow=False) if event.at < began)
        self._reader = threading.Thread(target=self._read, name="live", daemon=True)

    def show(self) -> None:
        """Draws until the run has ended."""
        self._reader.start()
        told: set[str] = set()
        while not self._run.wait(_REDRAW_S):
            self._draw(told)
        self._reader.join()
        self._draw(told)
        self._seconds = time.monotonic() - self._start

    def summary(self) -> str:
        """What was done in this process, in a few words."""
        if not self._fresh:
            return f"{self.seen} agent calls on record, none repeated"
        retried = f", {self._retried} retried" if self._retried else ""
        return f"{self._fresh} agent calls in {self._seconds:.1f} s ({self._fresh / self._seconds:.0f}/s{retried})"

    def _read(self) -> None:
        try:
            for event in self._run.events():
                self._note(event)
        except goclaw.EngineClosed:
            pass

    def _note(self, event: goclaw.Event) -> None:
        if event.task is None:
            return
        name, child, _ = event.task.partition("[")
        row = self._rows[name]
        if event.type == "task.expanded":
            row.total, row.is_map = event.data["count"], True
        if row.is_map and not child:
            return  # about the map as a whole: its children have been counted
        row.total = row.total or 1
        if event.type == "task.started":
            row.running += 1
        elif event.type in ("task.retrying", "task.interrupted"):
            row.running -= 1
            if event.type == "task.retrying":
                row.retried += 1
                self._retried += event.at >= self._began
        elif event.type in _ENDED:
            row.running -= event.attempt > 0
            row.ended += 1
            row.failed += event.type != "task.completed"
            if event.type == "task.completed" and event.at >= self._began:
                self._fresh += 1
                self.seen += 1

    def _draw(self, told: set[str]) -> None:
        if not _TERMINAL:
            for name, row in self._rows.items():
                if row.total is not None and row.ended >= row.total and name not in told:
                    told.add(name)
                    print(f"  {name:<14} {row.ended}/{row.total}", flush=True)
            return
        columns = shutil.get_terminal_size().columns
        lines = [self._line(name, row)[: columns + 40] for name, row in self._rows.items()]
        up = f"\x1b[{self._drawn}F" if self._drawn else ""
        sys.stdout.write(up + "".join(f"\x1b[2K{line}\n" for line in lines))
        sys.stdout.flush()
        self._drawn = len(lines)

    def _line(self, name: str, row: _Row) -> str:
        share = row.ended / row.total if row.total else 0.0
        full = round(share * _WIDTH)
        block, empty = ("█", "░") if _UNICODE else ("#", ".")
        bar = _painted("32" if share == 1 else "36", block * full) + _painted("2", empty * (_WIDTH - full))
        count = "" if row.total is None else f"{row.ended}/{row.total}"
        now = [f"{row.running} running" if row.running > 0 else "", f"{row.retried} retried" if row.retried else ""]
        rest = ", ".join(part for part in now if part)
        return f"  {name:<14} {bar} {count:>8}  {_painted('2', f'{row.lane:<7}')} {rest}"


def _calls(events: Iterable[goclaw.Event]) -> int:
    """How many agent calls completed. A map tells of its own end, too: that is no call."""
    maps, calls = set(), 0
    for event in events:
        if event.type == "task.expanded":
            maps.add(event.task)
        calls += event.type == "task.completed" and event.task not in maps
    return calls
