"""Where a blocking call would wait for itself."""

from __future__ import annotations

import sys
import threading
from typing import NoReturn

from .errors import AgentError, WouldDeadlock


def refuse_own_loop(what: str) -> None:
    """Refuses to block goclaw's own event loop; any other loop may wait, since goclaw runs elsewhere.

    Raises:
        WouldDeadlock: `engine.own_loop`.
    """
    if in_own_loop():
        refuse(what)


def refuse(what: str) -> NoReturn:
    """Refuses, whoever asks; where it is known that the loop waits.

    Raises:
        WouldDeadlock: `engine.own_loop`.
    """
    raise WouldDeadlock(
        f"an async agent cannot block to {what}: it would stop the event loop that it waits for",
        help="use `await`: `await run`, `await engine.arun(...)`, `await agent.fn(...)`; in memories "
        "`await memory.aretrieve(...)`",
    )


def refuse_main_replay() -> None:
    """Refuses to open an engine while a worker process runs the main script again to find its agents.

    Raises:
        AgentError: `agent.process_main`.
    """
    worker = sys.modules.get("goclaw._worker")
    if worker is not None and worker.replaying():
        raise AgentError(
            "the script opens an engine while a worker process loads it to find its agents",
            code="agent.process_main",
            help='put what the script does under `if __name__ == "__main__":`',
        )


def in_own_loop() -> bool:
    """True on the thread of goclaw's own event loop, while it runs."""
    own = sys.modules.get("goclaw._loop")
    # Its import may be under way in another thread.
    running = getattr(own, "_running", None)
    return running is not None and threading.current_thread() is running.thread


def in_loop() -> bool:
    """True where an event loop runs in this thread."""
    asyncio = sys.modules.get("asyncio")
    # Another thread may be importing it this very moment: then nothing of it runs here.
    running = getattr(asyncio, "_get_running_loop", None)
    return running is not None and running() is not None
