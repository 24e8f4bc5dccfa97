"""Vectors of texts that came before, by a hash of the text, bounded by bytes."""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict
from hashlib import blake2b

# What an entry takes beside its numbers, roughly, in bytes.
_ENTRY_BYTES = 200


class _Cache:
    """Forgets what was used longest ago. Of one model: another gets another cache."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._vectors: OrderedDict[bytes, array[float]] = OrderedDict()
        self._bytes = 0

    def get(self, kind: str, text: str) -> list[float] | None:
        if self._bytes_max == 0:
            return None
        key = _key(kind, text)
        with self._lock:
            found = self._vectors.get(key)
            if found is None:
                return None
            self._vectors.move_to_end(key)
        return found.tolist()

    def put(self, kind: str, text: str, vector: list[float]) -> None:
        if self._bytes_max == 0:
            return
        kept = array("f", vector)
        size = _ENTRY_BYTES + 4 * len(kept)
        with self._lock:
            old = self._vectors.pop(key := _key(kind, text), None)
            if old is not None:
                self._bytes -= _ENTRY_BYTES + 4 * len(old)
            if size > self._bytes_max:
                return
            self._vectors[key] = kept
            self._bytes += size
            while self._bytes > self._bytes_max:
                _, gone = self._vectors.popitem(last=False)
                self._bytes -= _ENTRY_BYTES + 4 * len(gone)


def _key(kind: str, text: str) -> bytes:
    # 16 bytes: two texts of one hash are not to be met by chance.
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, person=kind.encode()[:16]).digest()
