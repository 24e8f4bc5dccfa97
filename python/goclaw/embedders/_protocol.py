"""What an embedder is, and what may be known of one."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Vectors: TypeAlias = Sequence[Sequence[float]]


@dataclass(frozen=True, slots=True)
class Embedded:
    """What an embedder may return in place of bare vectors, where it knows what they cost.

    Attributes:
        vectors: One for each text.
        tokens: Tokens that were used. They are charged to the budget ``tokens`` of the lane, if it has one; where
            nobody says, one for every four bytes of text.

    Example:
        >>> Embedded([[0.6, 0.8]], tokens=3).tokens
        3
    """

    vectors: Vectors
    tokens: int | None = None


Embedder: TypeAlias = Callable[[list[str]], Vectors | Embedded] | Callable[[list[str]], Awaitable[Vectors | Embedded]]
"""Takes texts, returns (or awaits) one vector for each."""


def name_of(embedder: object) -> str:
    """The name under which a store records an embedder.

    Args:
        embedder: The callable.

    Returns:
        Its `name`, else its qualified name.

    Example:
        >>> from goclaw.embedders import Hashing
        >>> name_of(Hashing(64))
        'goclaw.hashing-64'
    """
    name = getattr(embedder, "name", None)
    if isinstance(name, str) and name:
        return name
    if isinstance(embedder, functools.partial):
        return name_of(embedder.func)
    thing: Any = embedder if hasattr(embedder, "__qualname__") else type(embedder)
    return f"{thing.__module__}:{thing.__qualname__}"


def whole_of(embedder: object, what: str) -> int | None:
    """A number that an embedder says of itself; `None` where it does not."""
    value = getattr(embedder, what, None)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def is_local(embedder: object) -> bool:
    """Whether an embedder says that it is quick, works in this process, and does not fail."""
    return getattr(embedder, "local", False) is True
