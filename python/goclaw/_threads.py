"""Threads for what blocks: the memory's verbs, awaited."""

from __future__ import annotations

import contextvars
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

# Calls that wait for an embedder or the disk at once; more wait for their turn.
_THREADS_MAX = 64

# By process: a forked child has none of its parent's threads.
_pools: dict[int, ThreadPoolExecutor] = {}


async def elsewhere(call: Callable[[], T]) -> T:
    """Runs a call on a thread of goclaw's own.

    Not on the loop's default ones, which the call itself may need: an async embedder looks up its host there.
    """
    import asyncio

    pool = _pools.get(os.getpid())
    if pool is None:
        fresh = ThreadPoolExecutor(_THREADS_MAX, thread_name_prefix="goclaw-memory")
        pool = _pools.setdefault(os.getpid(), fresh)
    return await asyncio.get_running_loop().run_in_executor(pool, contextvars.copy_context().run, call)
