"""What a running agent may ask: `Context`, and `current()` for where no parameter asks for it."""

from __future__ import annotations

import asyncio
import logging
from contextvars import ContextVar

from ._goclaw import Context, current
from .durations import Duration, to_seconds

__all__ = ["Context", "current"]

# In which call a coroutine runs; threads know it by themselves. Set by the native half.
_CURRENT: ContextVar[Context | None] = ContextVar("goclaw_current", default=None)

_LOGGER = logging.getLogger("goclaw.agent")


def _logger(context: Context) -> logging.LoggerAdapter[logging.Logger]:
    extra = {
        "run_id": context.run_id,
        "task_id": context.task_id,
        "attempt": context.attempt,
        "trace_id": context.trace_id,
    }
    return logging.LoggerAdapter(_LOGGER, extra)


def _seconds(length: Duration) -> float:
    return to_seconds(length, what="t")


async def _sleep(context: Context, seconds: float) -> None:
    context.checkpoint()
    await asyncio.sleep(seconds)
    context.checkpoint()
