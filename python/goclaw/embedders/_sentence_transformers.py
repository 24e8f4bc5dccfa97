"""Models of sentence-transformers, in this process."""

from __future__ import annotations

import threading
from typing import Any

from ..errors import RecallError


class SentenceTransformers:
    """A model of the package sentence-transformers; it is loaded when the first text comes, or by `load`.

    Queries and what is kept are embedded each in its own way, where the model has two.

    Args:
        model: Name or directory of the model, or a `SentenceTransformer` that is loaded already.
        name: What the store records; by default the model's name. Needed for a loaded model.
        batch_max: Texts of one call.
        options: What `SentenceTransformer(...)` takes beside the name, such as ``{"device": "cpu"}``.

    Raises:
        RecallError: `memory.embedder_access`, when it is first used, where the package or the model is not there;
            at once for a loaded model without a name.

    Example:
        >>> SentenceTransformers("all-MiniLM-L6-v2").name
        'sentence-transformers:all-MiniLM-L6-v2'
    """

    def __init__(
        self, model: Any, *, name: str | None = None, batch_max: int = 64, options: dict[str, Any] | None = None
    ) -> None:
        if name is None and not isinstance(model, str):
            raise RecallError(
                "a model that is loaded already has no name",
                code="memory.embedder_access",
                help='say which it is: SentenceTransformers(model, name="all-MiniLM-L6-v2")',
            )
        self.name = name if name is not None else f"sentence-transformers:{model}"
        self.batch_max = batch_max
        self._source = model
        self._options = dict(options or {})
        self._lock = threading.Lock()
        self._model: Any = None if isinstance(model, str) else model

    def load(self) -> None:
        """Loads the model, which takes seconds; a search waits for it apart from its time limit.

        Raises:
            RecallError: `memory.embedder_access` where the package or the model is not there.
        """
        self._loaded()

    def __call__(self, texts: list[str]) -> Any:
        """Vectors of texts to be kept."""
        return self._encode("encode_document", texts)

    def query(self, texts: list[str]) -> Any:
        """Vectors of texts to search by."""
        return self._encode("encode_query", texts)

    def _encode(self, verb: str, texts: list[str]) -> Any:
        model = self._loaded()
        # Models of version 5 on; before that there was one way for both.
        encode = getattr(model, verb, None) or model.encode
        # One at a time: a model is no more thread-safe than its tokenizer.
        with self._lock:
            return encode(texts, convert_to_numpy=True, show_progress_bar=False)

    def _loaded(self) -> Any:
        with self._lock:
            if self._model is None:
                self._model = self._load()
            return self._model

    def _load(self) -> Any:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise RecallError(
                "the package sentence-transformers is not installed",
                code="memory.embedder_access",
                help="pip install sentence-transformers",
            ) from error
        try:
            return SentenceTransformer(self._source, **self._options)
        except Exception as error:
            raise RecallError(
                f"the model `{self._source}` cannot be loaded: {error}",
                code="memory.embedder_access",
                help="check its name, or give the directory where it lies",
            ) from error

    def __repr__(self) -> str:
        return f"SentenceTransformers({self.name!r})"
