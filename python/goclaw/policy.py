"""What workflows say of memory: what tasks are given, what is forgotten, whose memory a run may use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import _expr, _trace
from ._suggest import suggest
from .errors import ConfigError

_RECALLED_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPolicy:
    """What a workflow does with the memory of its runs' sessions.

    Its runs need a session.

    Args:
        retrieve_last: Every task is given so many of the session's latest memories: `ctx.recalled.latest`, and
            `memory` in templates of its arguments.
        forget_below: When a run has completed or failed, its session forgets what is weaker than this, 0 to 1, save
            pinned memories: up to 10,000, the weakest first, in the same commit as the run's end.

    Raises:
        ConfigError: `config.memory` for values that make no sense.

    Example:
        >>> import goclaw
        >>> @goclaw.agent
        ... def answer(question: str, ctx: goclaw.Context) -> str:
        ...     return f"{question} (I remember {len(ctx.recalled)})"
        >>> @goclaw.workflow(memory=goclaw.MemoryPolicy(retrieve_last=3, forget_below=0.3))
        ... def support(question: str) -> str:
        ...     return answer(question)
        >>> with goclaw.Engine() as engine:
        ...     _ = engine.memory.memorize("Ada prefers tea", session="ada")
        ...     engine.run(support, {"question": "tea?"}, session="ada")
        'tea? (I remember 1)'
    """

    retrieve_last: int | None = None
    forget_below: float | None = None

    def __post_init__(self) -> None:
        if self.retrieve_last is not None:
            _count("retrieve_last", self.retrieve_last)
        if self.forget_below is not None:
            _strength("forget_below", self.forget_below)

    def _to_model(self) -> dict[str, Any]:
        given = {"retrieve_last": self.retrieve_last, "forget_below": self.forget_below}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Retrieve:
    """What is looked up in the session's memory before each attempt of a task.

    What was found is in `ctx.recalled`, and in templates of the task's arguments it is called `memory`. The runs need
    a session.

    Args:
        query: A text, searched by words and by vector: a template over input and results, or in a traced workflow a
            handle. One that comes to nothing finds nothing.
        vector_query: The same, searched by vector alone; it may also come to a vector itself.
        top_k: How many memories at most.
        filter: Only memories whose metadata has these values; templates may stand in it.
        min_strength: Only memories at least this strong, 0 to 1.

    Raises:
        ConfigError: `config.memory` for values that make no sense.

    Example:
        >>> import goclaw
        >>> @goclaw.agent(memory=goclaw.Retrieve("{{ input.question }}", top_k=2))
        ... def answer(question: str, ctx: goclaw.Context) -> list[str]:
        ...     return [memory.content for memory in ctx.recalled]
        >>> @goclaw.workflow
        ... def support(question: str) -> list[str]:
        ...     return answer(question)
        >>> with goclaw.Engine() as engine:
        ...     _ = engine.memory.memorize("Ada prefers green tea", session="ada")
        ...     engine.run(support, {"question": "which tea?"}, session="ada")
        ['Ada prefers green tea']
    """

    query: Any = None
    vector_query: Any = None
    top_k: int = 5
    filter: Mapping[str, Any] | None = None
    min_strength: float | None = None

    def __post_init__(self) -> None:
        if (self.query is None) == (self.vector_query is None):
            what = "neither `query` nor" if self.query is None else "both `query` and"
            raise _bad(f"a task retrieves by {what} `vector_query`", "give one of them")
        _count("top_k", self.top_k)
        _asked("query", self.query, vector=False)
        _asked("vector_query", self.vector_query, vector=True)
        if self.filter is not None and not isinstance(self.filter, Mapping):
            raise _bad(f"`filter` is {self.filter!r}", "give values by names, as metadata has them")
        if self.min_strength is not None:
            _strength("min_strength", self.min_strength)

    def _to_model(self) -> dict[str, Any]:
        """The search in the core's form; it holds no constants, since options are declared before there are any."""
        asked = {"query": self.query, "vector_query": self.vector_query, "filter": self.filter}
        model: dict[str, Any] = {name: _part(name, value) for name, value in asked.items() if value is not None}
        model["top_k"] = self.top_k
        if self.min_strength is not None:
            model["min_strength"] = self.min_strength
        return model


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryAccess:
    """Sessions beside its own whose memory a run may use: granted to this run, handed on to no other.

    Args:
        read: Sessions that its agents may search.
        write: Sessions that they may also memorize in, review and forget.

    Raises:
        ConfigError: `config.memory` for what is no list of sessions.

    Example:
        >>> import goclaw
        >>> @goclaw.agent
        ... def ask(ctx: goclaw.Context) -> list[str]:
        ...     return [hit.entry.content for hit in ctx.memory.of("team").retrieve("tea")]
        >>> @goclaw.workflow
        ... def flow() -> list[str]:
        ...     return ask()
        >>> with goclaw.Engine() as engine:
        ...     _ = engine.memory.memorize("the tea is in the kitchen", session="team")
        ...     engine.submit(flow, session="ada", memory=goclaw.MemoryAccess(read=["team"])).result()
        ['the tea is in the kitchen']
    """

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()

    def __init__(self, *, read: Iterable[str] = (), write: Iterable[str] = ()) -> None:
        object.__setattr__(self, "read", _sessions("read", read))
        object.__setattr__(self, "write", _sessions("write", write))

    def __bool__(self) -> bool:
        return bool(self.read or self.write)


def retrieve_of(given: object) -> Retrieve | None:
    """What a task's option `memory` says: a `Retrieve`, or the form that documents use."""
    if given is None or isinstance(given, Retrieve):
        return given
    if not isinstance(given, Mapping):
        raise _bad(f"`memory` is {given!r}", 'give goclaw.Retrieve(...), or {"retrieve": {"query": ...}}')
    _keys(given, ("retrieve",), "`memory`")
    search = given.get("retrieve")
    if isinstance(search, Retrieve) or search is None:
        return search
    if not isinstance(search, Mapping):
        raise _bad(f"`retrieve` is {search!r}", 'write {"query": "{{ task.field }}", "top_k": 5}')
    _keys(search, RETRIEVE_KEYS, "`retrieve`")
    return Retrieve(**search)


def policy_of(given: object) -> MemoryPolicy | None:
    """What a workflow's option `memory` says: a `MemoryPolicy`, or the form that documents use."""
    if given is None or isinstance(given, MemoryPolicy):
        return given
    if not isinstance(given, Mapping):
        raise _bad(f"`memory` is {given!r}", "give goclaw.MemoryPolicy(...), or {'retrieve_last': 3}")
    _keys(given, POLICY_KEYS, "`memory`")
    return MemoryPolicy(**given)


RETRIEVE_KEYS = ("query", "vector_query", "top_k", "filter", "min_strength")
POLICY_KEYS = ("retrieve_last", "forget_below")


def _keys(given: Mapping[Any, Any], known: Sequence[str], what: str) -> None:
    for key in given:
        if key not in known:
            raise _bad(f"{what} has the unknown key `{key}`", suggest(str(key), known))


def _part(name: str, given: Any) -> _expr.Expr:
    if type(given) is _trace.Traced:
        return given._goclaw_tracer.expr(given, f"`{name}` was given")

    def leaf(part: Any) -> _expr.Expr | None:
        if type(part) is str and ("{{" in part or "{%" in part):
            return {"template": part}
        if type(part) is _trace.Traced:
            return part._goclaw_tracer.expr(part, f"`{name}` was given")
        return None

    constants: list[Any] = []
    found = _expr.build(list(given) if isinstance(given, tuple) else given, constants, leaf, _refuse)
    if constants:
        raise _bad(f"`{name}` holds a value that JSON cannot say", "use plain values")
    return found


def _refuse(where: str) -> ConfigError:
    return _bad(f"a template or a result lies inside {where}", "use plain lists and dicts")


def _asked(name: str, given: object, *, vector: bool) -> None:
    if given is None or type(given) is _trace.Traced:
        return
    if isinstance(given, str) and given.strip():
        return
    if vector and isinstance(given, (list, tuple)) and given and all(type(part) in (int, float) for part in given):
        return
    raise _bad(f"`{name}` is {given!r}", "give a text, such as a template, or in a traced workflow a handle")


def _count(name: str, given: object) -> None:
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= _RECALLED_MAX:
        raise _bad(f"`{name}` is {given!r}", f"give a whole number from 1 to {_RECALLED_MAX}")


def _strength(name: str, given: object) -> None:
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not 0 <= given <= 1:
        raise _bad(f"`{name}` is {given!r}", "give a strength from 0 to 1")


def _sessions(name: str, given: Iterable[str]) -> tuple[str, ...]:
    if isinstance(given, str):
        raise _bad(f"`{name}` is a text", f'write {name}=["{given}"]')
    try:
        keys = tuple(given)
    except TypeError:
        raise _bad(f"`{name}` is {given!r}", "give a list of sessions") from None
    for key in keys:
        if not isinstance(key, str):
            raise _bad(f"`{name}` names {key!r}", "sessions are texts")
    return keys


def _bad(message: str, help: str) -> ConfigError:
    return ConfigError(message, code="config.memory", help=help)
