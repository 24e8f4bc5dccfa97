"""What makes vectors of texts: any callable of a list of texts; here is one that works offline.

An embedder is a callable, sync or async, that takes a list of texts and returns one vector each. Its
`name` (else its qualified name) is recorded in the store with the first vector; a store keeps to it.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Awaitable, Callable, Iterator, Sequence
from hashlib import blake2b
from typing import TypeAlias

Vectors: TypeAlias = Sequence[Sequence[float]]
Embedder: TypeAlias = Callable[[list[str]], Vectors] | Callable[[list[str]], Awaitable[Vectors]]
"""Takes texts, returns (or awaits) one vector for each."""


class Hashing:
    """Hashes words and their parts into a vector: the same everywhere, always, without a model.

    Texts that share words, stems or characters are near each other; it knows no synonyms. Good for tests,
    for typos and inflections, and to have both legs of a search offline.

    Args:
        dim: Parts of a vector.

    Example:
        >>> embed = Hashing(dim=64)
        >>> near, far = embed(["the red house", "unpaid invoices"])
        >>> query = embed(["red houses"])[0]
        >>> dot = lambda a, b: sum(x * y for x, y in zip(a, b))
        >>> dot(query, near) > dot(query, far)
        True
    """

    def __init__(self, dim: int = 384) -> None:
        if not 8 <= dim <= 8192:
            raise ValueError(f"dim is {dim}, and 8 to 8192 are allowed")
        self.dim = dim
        self.name = f"goclaw.hashing-{dim}"

    def __call__(self, texts: list[str]) -> list[list[float]]:
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> list[float]:
        parts = [0.0] * self.dim
        for feature, weight in _features(unicodedata.normalize("NFKC", text).lower()):
            digest = int.from_bytes(blake2b(feature.encode(), digest_size=8).digest(), "little")
            parts[digest % self.dim] += weight if digest >> 63 else -weight
        length = math.sqrt(sum(part * part for part in parts))
        if length == 0.0:
            # A text without a letter or digit: the same direction for all of them.
            parts[0] = length = 1.0
        return [part / length for part in parts]

    def __repr__(self) -> str:
        return f"Hashing(dim={self.dim})"


def _features(text: str) -> Iterator[tuple[str, float]]:
    """Words with weight 1, and their inner threes of characters with less."""
    word = ""
    for char in text + " ":
        if char.isalnum():
            word += char
            continue
        if word:
            yield word, 1.0
            padded = f"^{word}$"
            for at in range(len(padded) - 2):
                yield padded[at : at + 3], 0.5
            if not word.isascii():
                for at, one in enumerate(word):
                    yield one, 0.3
                    yield word[at : at + 2], 0.5
        word = ""


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
    thing = embedder if hasattr(embedder, "__qualname__") else type(embedder)
    return f"{thing.__module__}:{thing.__qualname__}"
