"""What makes vectors of texts: any callable of a list of texts; adapters, and one that works offline.

An embedder is a callable, sync or async, that takes a list of texts and returns one vector each. It may have
`name` (what a store records; else its qualified name), `dim` (parts of a vector), `batch_max` (texts that it takes at
once), `local` (quick, in this process, cannot fail), and `query`, a callable like itself for what is searched
by, where the model embeds queries otherwise than what is kept. `Embedding` says how an engine uses one.
"""

from __future__ import annotations

from ._embedding import Embedding, Vectorize
from ._hashing import Hashing
from ._openai import OpenAI
from ._protocol import Embedded, Embedder, Vectors, name_of
from ._sentence_transformers import SentenceTransformers

__all__ = [
    "Embedded",
    "Embedder",
    "Embedding",
    "Hashing",
    "OpenAI",
    "SentenceTransformers",
    "Vectorize",
    "Vectors",
    "name_of",
]
