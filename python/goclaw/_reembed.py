"""Going over to another embedder, as a run: durable, with progress, resumed after a crash.

The store goes over at once, and all its vectors are void from then on: every text is one that has none. What makes
the vectors of new memories (`_vectorizing`) makes these, too. The run goes over, waits, and tells how far it got.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _goclaw
from ._embeddings import Lacking
from .agent import agent
from .embedders._embedding import Embedding, embedding_of
from .retry import Retry
from .workflow import workflow

if TYPE_CHECKING:
    from .embedders import Embedder
    from .engine import Engine
    from .run import Run

# How often progress is told, in seconds.
_TELL_EVERY = 0.25


@agent(
    name="goclaw._reembed.reembed",
    retry=Retry(retries=10_000, initial="1s", max="30s", on=(Exception,), never=(Lacking,)),
)
def reembed(model: str, dimension: int, generation: int, ctx: _goclaw.Context) -> int:
    """Makes the vectors of a store those of another embedder; answers how many texts it refuses."""
    embeddings = ctx._embeddings
    embeddings.go_over(model, dimension, generation)
    native = embeddings._native
    left, refused = native.unvectored()
    total = left
    while left > refused:
        ctx.checkpoint()
        total = max(total, left)
        ctx.progress(total - left, total, "vectors are made")
        native.settled(_TELL_EVERY)
        left, refused = native.unvectored()
    ctx.progress(total - refused, total, "vectors are made")
    return refused


@workflow(name="goclaw.reembed")
def _reembedding(model: str, dimension: int, generation: int) -> int:
    return reembed(model, dimension, generation)  # type: ignore[call-arg]


def start(engine: Engine, embedder: Embedder | Embedding) -> Run[int]:
    """Starts the run; the embedder has made a vector before, so one that does not work changes nothing."""
    how = embedding_of(embedder)
    dimension, generation = engine._embeddings.offer(how)
    return engine.submit(_reembedding, {"model": how.model, "dimension": dimension, "generation": generation})
