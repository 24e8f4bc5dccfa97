"""How messages to a busy session become one: the default ways, and finding the user's own."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from .errors import ConfigError

# Characters of one message that a summary keeps, and messages that it names.
_LINE_MAX = 160
_LINES_MAX = 20


def merged(
    inputs: list[Any],
    cap: int,
    merge: Callable[[list[Any]], Any] | None,
    summarize: Callable[[list[Any]], Any] | None,
) -> Any:
    """Makes one input of many: what is above the cap is summarized, then all is merged."""
    over = len(inputs) - cap
    if over > 0:
        inputs = [(summarize or default_summarize)(inputs[:over]), *inputs[over:]]
    return (merge or default_merge)(inputs)


def default_merge(inputs: list[Any]) -> Any:
    """Joins texts by a blank line and lists end to end; what all say alike is said once; else the last one counts."""
    return _by_name(inputs, "\n\n".join)


def default_summarize(inputs: list[Any]) -> Any:
    """As `default_merge`, with texts cut to a line each."""
    return _by_name(inputs, _summary)


def _by_name(inputs: list[Any], join: Callable[[list[str]], str]) -> Any:
    if not all(isinstance(given, dict) for given in inputs):
        return _one(inputs, join)
    names = dict.fromkeys(name for given in inputs for name in given)
    return {name: _one([given[name] for given in inputs if name in given], join) for name in names}


def _one(values: list[Any], join: Callable[[list[str]], str]) -> Any:
    if all(isinstance(value, list) for value in values):
        return [part for value in values for part in value]
    if all(isinstance(value, str) for value in values):
        return values[0] if len(set(values)) == 1 else join(values)
    return values[-1]


def _summary(texts: list[str]) -> str:
    shown = texts[-_LINES_MAX:]
    lines = [" ".join(text.split()) for text in shown]
    cut = [line if len(line) <= _LINE_MAX else line[: _LINE_MAX - 1] + "…" for line in lines]
    more = f", the last {len(shown)}" if len(shown) < len(texts) else ""
    return "\n".join([f"[{len(texts)} earlier messages, shortened{more}]", *(f"- {line}" for line in cut)])


def found(path: str) -> Callable[[list[Any]], Any]:
    """Finds the function that a path leads to.

    Raises:
        LookupError: where there is none.
    """
    module, _, name = path.partition(":")
    try:
        target: Any = import_module(module)
        for part in name.split("."):
            target = getattr(target, part)
    except (ImportError, AttributeError) as missing:
        raise LookupError(f"there is no function `{path}`: {missing}") from missing
    if not callable(target):
        raise LookupError(f"`{path}` is no function")
    return target  # type: ignore[no-any-return]


def check(what: str, function: object) -> None:
    """Refuses what is no function.

    Raises:
        ConfigError: `config.function`.
    """
    if not callable(function):
        raise ConfigError(
            f"`{what}` is {function!r}", code="config.function", help="give a function: list of inputs -> one input"
        )


def path_of(what: str, function: Callable[[list[Any]], Any], *, memory: bool) -> str:
    """Where the function can be imported from, after a restart too.

    Raises:
        ConfigError: `config.function` where an engine with a path could not find it again.
    """
    check(what, function)
    named = getattr(function, "fn", function)
    path = f"{getattr(named, '__module__', '?')}:{getattr(named, '__qualname__', type(named).__qualname__)}"
    if memory:
        # Two lambdas have one name; while an engine in memory lives, so do they.
        return f"{path}@{id(function):x}"
    try:
        same = found(path) is function
    except LookupError:
        same = False
    if not same:
        raise ConfigError(
            f"`{what}` is `{path}`, which cannot be imported",
            code="config.function",
            help="an engine with a path calls it after a restart, too: define it with `def` at the top of a module",
        )
    return path
