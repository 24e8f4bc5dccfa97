"""Expressions in the form that the Rust core reads: where a value comes from, as plain JSON.

Values beyond JSON become constants: the expression names their position in a list.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any, TypeAlias

Expr: TypeAlias = dict[str, Any]

# The compiler refuses more than 64; a deeper value travels as a constant.
_DEPTH_MAX = 48
_OPAQUE = (type, FunctionType, ModuleType)
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1


def value(plain: Any) -> Expr:
    """A JSON value as it stands."""
    return {"value": plain}


def task(id: str, path: list[dict[str, Any]] | None = None) -> Expr:
    """The result of a task, or a part of it."""
    return {"task": {"id": id, "path": path} if path else {"id": id}}


def input(path: list[dict[str, Any]] | None = None) -> Expr:
    """The run's input, or a part of it."""
    return {"input": {"path": path} if path else {}}


def build(
    given: Any, constants: list[Any], leaf: Callable[[Any], Expr | None], refuse: Callable[[str], Exception]
) -> Expr:
    """Turns an argument into an expression.

    Args:
        given: The argument: plain values, with leaves anywhere in lists, tuples and dicts.
        constants: Where values beyond JSON go.
        leaf: Answers the expression of a leaf (a traced handle, a template), `None` for anything else.
        refuse: Makes the exception for a leaf in a place where it cannot be found again.
    """
    found = leaf(given)
    if found is not None:
        return found
    if is_json(given, _DEPTH_MAX) and not _holds(given, leaf, _DEPTH_MAX):
        return value(given)
    if _holds(given, leaf, _DEPTH_MAX):
        return _open(given, constants, leaf, refuse)
    constants.append(given)
    return {"const": len(constants) - 1}


def _open(
    given: Any, constants: list[Any], leaf: Callable[[Any], Expr | None], refuse: Callable[[str], Exception]
) -> Expr:
    if type(given) in (list, tuple):
        return {type(given).__name__: [build(part, constants, leaf, refuse) for part in given]}
    if type(given) is dict:
        for key in given:
            if not isinstance(key, str):
                raise refuse(f"the dict key {type(key).__name__}")
        return {"dict": [[key, build(part, constants, leaf, refuse)] for key, part in given.items()]}
    raise refuse(f"a {type(given).__name__}")


def _holds(given: Any, leaf: Callable[[Any], Expr | None], depth: int) -> bool:
    """True where a leaf lies somewhere inside, in whatever kind of collection."""
    if isinstance(given, (str, bytes, int, float, type(None))):
        return leaf(given) is not None
    if depth == 0:
        return False
    if isinstance(given, dict):
        parts: Any = (part for pair in given.items() for part in pair)
    elif isinstance(given, (list, tuple, set, frozenset)):
        parts = given
    elif dataclasses.is_dataclass(given) and not isinstance(given, type):
        parts = (getattr(given, field.name, None) for field in dataclasses.fields(given))
    elif leaf(given) is not None:
        return True
    else:
        # An object of the user's: one look at its fields, where a model may carry a handle.
        parts, depth = getattr(given, "__dict__", {}).values() if not isinstance(given, _OPAQUE) else (), 1
    return any(_holds(part, leaf, depth - 1) for part in parts)


def is_json(given: Any, depth: int = _DEPTH_MAX) -> bool:
    """True where JSON says exactly this value: no subclasses, no NaN, no huge integers, no tuples."""
    kind = type(given)
    if given is None or kind is bool:
        return True
    if kind is str:
        return bool(given.isascii()) or not any("\ud800" <= char <= "\udfff" for char in given)
    if kind is int:
        return bool(_INT_MIN <= given <= _INT_MAX)
    if kind is float:
        return bool(math.isfinite(given))
    if depth == 0:
        return False
    if kind is list:
        return all(is_json(part, depth - 1) for part in given)
    if kind is dict:
        return all(type(key) is str and is_json(key) and is_json(part, depth - 1) for key, part in given.items())
    return False
