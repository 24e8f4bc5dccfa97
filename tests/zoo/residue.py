"""What an engine may leave behind: nothing. Open files, children, threads of this process."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

SETTLE_S = 20.0


@dataclass(frozen=True)
class Residue:
    """Counts at one moment."""

    files: int
    children: int
    threads: int

    def beyond(self, before: Residue) -> dict[str, int]:
        """What is there now and was not before."""
        pairs = {name: (getattr(self, name), getattr(before, name)) for name in ("files", "children", "threads")}
        return {name: now - then for name, (now, then) in pairs.items() if now > then}


def residue() -> Residue:
    """Counts what this process has now; children include zombies."""
    children = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            children.update((task / "children").read_text().split())
        except OSError:
            continue
    return Residue(len(os.listdir("/proc/self/fd")), len(children), len(os.listdir("/proc/self/task")))


def settled(before: Residue) -> dict[str, int]:
    """What is left once everything had time to go; empty as soon as nothing is."""
    deadline, pause = time.monotonic() + SETTLE_S, threading.Event()
    while (left := residue().beyond(before)) and time.monotonic() < deadline:
        pause.wait(0.02)
    return left
