"""An embedder that works offline: hashes of words and their parts."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator
from hashlib import blake2b


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

    local = True
    """It is quick and cannot fail, so vectors are made at once."""

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
