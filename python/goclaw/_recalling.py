"""What is looked up in memory before a task starts. The native half calls these; see `src/py/recall.rs`."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ._codes import from_code
from ._threads import elsewhere
from .entry import Hit
from .errors import RecallError
from .recalled import Recalled

if TYPE_CHECKING:
    from . import _goclaw
    from .memory import SessionMemory


def look_up(memory: SessionMemory, wanted: Mapping[str, Any], last: int | None) -> Recalled:
    """Searches for what a task asked for, and takes the latest `last` memories. Blocks; on a thread."""
    hits, warning = _found(memory, wanted) if wanted else ([], None)
    latest = memory.recent(last) if last else []
    return Recalled(hits, latest, warning)


def _found(memory: SessionMemory, wanted: Mapping[str, Any]) -> tuple[list[Hit], str | None]:
    by_vector = "vector_query" in wanted
    asked = wanted["vector_query" if by_vector else "query"]
    options: dict[str, Any] = {
        "top_k": wanted["top_k"],
        "filter": wanted.get("filter"),
        "min_strength": wanted["min_strength"],
    }
    if by_vector and not isinstance(asked, str) and asked is not None and hasattr(asked, "__len__"):
        return memory.retrieve(vector=asked, mode="vector", **options), None
    text = _text(asked)
    if text is None:
        return [], None
    vector, warning = _vector(memory, text, by_vector)
    if vector is None:
        return memory.retrieve(text, mode="text", **options), warning
    if by_vector:
        return memory.retrieve(vector=vector, mode="vector", **options), None
    return memory.retrieve(text, vector=vector, **options), None


def _text(asked: object) -> str | None:
    """The query's text; `None` for one that comes to nothing."""
    if asked is None:
        return None
    text = asked if isinstance(asked, str) else str(asked)
    return text if text.strip() else None


def _vector(memory: SessionMemory, text: str, by_vector: bool) -> tuple[list[float] | None, str | None]:
    """The query's vector, or why there is none."""
    if memory._embeddings.when is None:
        return None, "searched by words alone: the engine has no embedder" if by_vector else None
    try:
        return memory._embeddings.make_query(text), None
    except RecallError as error:
        return None, f"searched by words alone: {error}"


async def begin(call: _goclaw._Deferred) -> Any:
    """A coroutine's call whose batch looks something up first."""
    task = call.task
    if task is None:
        task = asyncio.ensure_future(elsewhere(call.look_up))
        task.add_done_callback(_looked_at)
        call.share(task)
    # One call that is cancelled must not take the look-up from the others.
    await asyncio.shield(task)
    return await call.start()


def _looked_at(task: asyncio.Future[Any]) -> None:
    # All who waited for it may have been cancelled: then nobody looks at what it raised.
    if not task.cancelled():
        task.exception()


def refusal(kind: str, code: str, said: tuple[str, str]) -> BaseException:
    """What the engine raised for a worker process, as far as it can be told."""
    message, help = said
    if code:
        return from_code(code, message, help)
    module, _, name = kind.rpartition(".")
    found = getattr(builtins, name, None) if module == "builtins" else None
    if isinstance(found, type) and issubclass(found, Exception):
        return found(message)
    return RuntimeError(f"{kind}: {message}")
