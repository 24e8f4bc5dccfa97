"""SIGTERM: what an orchestrator sends when the process is to go. Engines drain, then the process exits 0.

A handler is installed by the first engine that is opened in the main thread, where the program has
none of its own, and is taken away when the last of them closes.
"""

from __future__ import annotations

import os
import signal
import threading
import weakref
from types import FrameType
from typing import TYPE_CHECKING

from . import _goclaw
from ._wakeup import Waker

if TYPE_CHECKING:
    from .engine import Engine

_watched: weakref.WeakSet[Engine] = weakref.WeakSet()
_draining = False
_waker = Waker(signal.SIGTERM, lambda: _draining)


class Terminated(SystemExit):
    """Ends the main thread, and with it the process, with exit code 0."""


def watch(engine: Engine) -> None:
    """Has SIGTERM close this engine, where nobody else handles it."""
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, _on_term):
        return
    signal.signal(signal.SIGTERM, _on_term)
    _watched.add(engine)
    _waker.start()


def unwatch(engine: Engine) -> None:
    """The engine has closed; the last one restores what was there before."""
    _watched.discard(engine)
    main = threading.current_thread() is threading.main_thread()
    if not _watched and main and not _draining and signal.getsignal(signal.SIGTERM) is _on_term:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _waker.stop()


def forget() -> None:
    """In a forked child: the engines are the parent's, and SIGTERM ends the child at once."""
    global _draining
    _watched.clear()
    _draining = False
    _waker.forget()


def _on_term(signum: int, frame: FrameType | None) -> None:
    global _draining
    if not _watched and not _draining:
        # The last engine closed on another thread, which may not change handlers.
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)
        return
    again, _draining = _draining, True
    if not again and _helps():
        # The main thread is inside an agent that it helps with: the attempt is interrupted, at no
        # cost, and whoever opened the engine closes it on the way out.
        raise Terminated(0)
    for engine in list(_watched):
        engine._close(0 if again else engine._drain_ms)
    raise Terminated(0)


def _helps() -> bool:
    try:
        _goclaw.current()
    except RuntimeError:
        return False
    return True
