"""Plain numbers and JSON out of what callers of the memory pass, or a refusal that says what is wrong."""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from typing import Any

from .errors import RecallError

# Made once: `json.dumps` with options makes one for each value.
_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def json_of(value: Any, what: str, code: str) -> str:
    try:
        return _JSON.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise RecallError(f"{what} is no JSON: {error}", code=code, help="use plain values") from error


def numbers(vector: Any) -> Sequence[float]:
    """A vector in a form that the core reads in one step: a row of 32-bit floats where it lies."""
    try:
        row = memoryview(vector)
        if row.ndim == 1 and row.format == "f":
            return row
    except (TypeError, BufferError):
        pass
    try:
        # In one step of C: a comprehension took most of the time of a large import.
        parts = vector.tolist() if hasattr(vector, "tolist") else vector
        return array("f", parts if isinstance(parts, list) else list(parts))
    except (TypeError, ValueError, OverflowError) as error:
        raise RecallError(
            f"the vector is no sequence of numbers: {error}", code="memory.vector", help="pass a list of floats"
        ) from error


def whole(what: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise RecallError(f"`{what}` is {value!r}", code="memory.limit", help="give a whole number, 1 or more")
    return value


def number(what: str, value: float, code: str = "memory.option") -> float:
    try:
        if not isinstance(value, (str, bytes, bool)):
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise RecallError(f"`{what}` is {value!r}, no number", code=code, help="give a number")


def pair(what: str, values: Any, code: str) -> tuple[float, float]:
    try:
        first, second = values
    except (TypeError, ValueError) as error:
        raise RecallError(f"`{what}` is {values!r}", code=code, help="give two numbers") from error
    return number(what, first, code), number(what, second, code)
