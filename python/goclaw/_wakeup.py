"""Wakes the main thread for a signal that came in the instant in which it began to block.

Python notes a signal, and runs its handler when the main thread comes back to Python code. One that comes
when this thread is already on its way into a system call stays a note until something else wakes it,
and so does one that the system gives to another thread. Here a thread hears of every signal, through
Python's wakeup descriptor, and interrupts the main thread until the handler has run.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable

_PATIENCE_S = 0.02
"""How long the main thread gets to run the handler before it is interrupted; then again and again."""
_TRIES_MAX = 50
"""A main thread that is busy in C code for longer notices by itself when it comes back."""


class Waker:
    """One thread and one pipe, while the handler of `signum` is installed. Made in the main thread."""

    def __init__(self, signum: int, has_run: Callable[[], bool]) -> None:
        self._signum = signum
        self._has_run = has_run
        self._ends: tuple[int, int] | None = None
        self._thread: threading.Thread | None = None
        self._borrowed = False

    def start(self) -> None:
        """Begins to listen, unless it does, or somebody else has the descriptor: an event loop that wakes itself."""
        if sys.platform == "win32" or self._thread is not None:
            return
        ends = os.pipe()
        for end in ends:
            os.set_blocking(end, end == ends[0])
        before = signal.set_wakeup_fd(ends[1], warn_on_full_buffer=False)
        if before != -1:
            signal.set_wakeup_fd(before)
            _close(ends)
            return
        # Means nothing by default, and may come at any time to those who use it: safe to send.
        self._borrowed = signal.getsignal(signal.SIGURG) is signal.SIG_DFL
        if self._borrowed:
            signal.signal(signal.SIGURG, _nothing)
        self._ends = ends
        self._thread = threading.Thread(target=self._listen, args=(ends[0],), name="goclaw-signals", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stops listening; what was there before is there again."""
        if sys.platform == "win32" or self._thread is None or self._ends is None:
            return
        self._let_go()
        os.write(self._ends[1], b"\0")
        self._thread.join()
        _close(self._ends)
        self._thread = self._ends = None

    def forget(self) -> None:
        """In a forked child: the thread is the parent's, which must not hear of the child's signals."""
        if sys.platform == "win32" or self._ends is None:
            return
        self._let_go()
        _close(self._ends)
        self._thread = self._ends = None

    def _let_go(self) -> None:
        if sys.platform == "win32" or self._ends is None:
            return
        now = signal.set_wakeup_fd(-1)
        if now != self._ends[1]:
            signal.set_wakeup_fd(now)
        if self._borrowed and signal.getsignal(signal.SIGURG) is _nothing:
            signal.signal(signal.SIGURG, signal.SIG_DFL)

    def _listen(self, end: int) -> None:
        while (came := os.read(end, 64)) and 0 not in came:
            if self._signum in came:
                self._insist()

    def _insist(self) -> None:
        if sys.platform == "win32":
            return
        main = threading.main_thread().ident
        pause = threading.Event()
        for _ in range(_TRIES_MAX):
            pause.wait(_PATIENCE_S)
            if main is None or self._has_run():
                return
            signal.pthread_kill(main, signal.SIGURG)


def _nothing(_signum: int, _frame: object) -> None:
    return


def _close(ends: tuple[int, int]) -> None:
    for end in ends:
        os.close(end)
