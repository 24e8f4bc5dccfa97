"""`ctx.memory` in worker processes: the same verbs, carried out by the engine that has the memory."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

from ._threads import elsewhere as _elsewhere
from .memory import SessionMemory

if TYPE_CHECKING:
    from . import _goclaw

# Verbs that answer something which cannot be sent.
_OWN = frozenset({"of"})


class _DistantMemory(SessionMemory):
    """A session's memory in another process. Texts are embedded there; what is written is kept there."""

    def __init__(self, native: _goclaw._DistantMemory, session: str) -> None:
        super().__init__(native, session, None)  # type: ignore[arg-type]
        self._way = native

    def of(self, session: str) -> SessionMemory:
        self._way.ask(self._session, "_check_grant", {"session": session})
        return _DistantMemory(self._way, session)


def _verbs() -> list[str]:
    public = (name for name in dir(SessionMemory) if not name.startswith("_"))
    return [name for name in public if inspect.isfunction(getattr(SessionMemory, name)) and name not in _OWN]


def _forwarded(name: str) -> Callable[..., Any]:
    template = getattr(SessionMemory, name)
    signature = inspect.signature(template)
    twin = name[1:] if inspect.iscoroutinefunction(template) else name

    def arguments(self: _DistantMemory, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        bound = signature.bind(self, *args, **kwargs).arguments
        return {key: _plain(value) for key, value in bound.items() if key != "self"}

    if inspect.iscoroutinefunction(template):

        @wraps(template)
        async def averb(self: _DistantMemory, *args: Any, **kwargs: Any) -> Any:
            return await _elsewhere(partial(self._way.ask, self._session, twin, arguments(self, args, kwargs)))

        return averb

    @wraps(template)
    def verb(self: _DistantMemory, *args: Any, **kwargs: Any) -> Any:
        return self._way.ask(self._session, twin, arguments(self, args, kwargs))

    return verb


def _plain(value: Any) -> Any:
    """Generators and the like as lists, which can be sent."""
    known = isinstance(value, (str, bytes, bytearray, memoryview, Mapping, Sequence)) or hasattr(value, "__array__")
    return list(value) if isinstance(value, Iterable) and not known else value


_VERBS = frozenset(_verbs())
for _name in _VERBS:
    setattr(_DistantMemory, _name, _forwarded(_name))


def of_worker(native: _goclaw._DistantMemory, session: str) -> SessionMemory:
    """The memory of a call in a worker process."""
    return _DistantMemory(native, session)


def answer(memory: SessionMemory, named: tuple[str, str], arguments: Mapping[str, Any]) -> Any:
    """Carries out a worker's verb in the engine's process; `memory` is its call's own."""
    session, verb = named
    if verb == "_check_grant":
        memory.of(arguments["session"])
        return None
    if verb not in _VERBS:
        raise AttributeError(f"a session's memory has no verb `{verb}`")
    # Whose memory it may be is checked where the call's grants are known.
    chosen = memory if session == memory.session else memory.of(session)
    return getattr(chosen, verb)(**arguments)
