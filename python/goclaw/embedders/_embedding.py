"""How an engine uses an embedder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from .._options import one_of, whole_number
from ..durations import Duration, to_seconds
from ..errors import ConfigError
from ..retry import Retry
from ._protocol import Embedder, is_local, name_of, whole_of

Vectorize: TypeAlias = Literal["now", "later"]
"""Whether the vector of what is memorized is made before `memorize` returns, or follows."""

_BATCH = 256
_BATCH_MAX = 65_536
_BACKLOG_MAX = 10**12


@dataclass(frozen=True)
class Embedding:
    """How an engine uses an embedder: `Engine(embedder=Embedding(embed, timeout="5s"))`.

    Args:
        embedder: A callable of a list of texts, sync or async.
        name: What the store records of it; by default the embedder's own name.
        batch_max: Texts of one call; by default what the embedder says, else 256. One call has no more than
            1 MiB of text, unless a single text is longer.
        cache_bytes: Vectors of texts that came before are kept in RAM, up to so many bytes; 0 keeps none.
        retry: When a call that failed is repeated. `RetryAfter` says how long to wait; what the embedder
            refuses for good (`memory.embedder_input`, `memory.embedder_access`) is not repeated.
        timeout: Bound on one call; `None` removes it.
        query_timeout: Bound on all that a search waits for the vector of its query: its turn in the lane, every
            call, every pause. After that it goes by words.
        vectorize: ``"now"``: `memorize` returns when the vector is there, too, and fails where it cannot be made.
            ``"later"``: it returns when the text is durable and found by words; the vector follows. By
            default ``"now"`` for an embedder that says it is `local`, ``"later"`` for all others.
        backlog_max: How many texts may wait for their vectors at once. What would make them more is refused with
            `memory.backlog`: nothing of it is memorized.
        lane: The lane whose permits and rate the calls take; those of a `local` embedder take none.

    Raises:
        ConfigError: `config.invalid`, `config.choice`, `config.duration`.

    Example:
        >>> from goclaw.embedders import Hashing
        >>> Embedding(Hashing(64), vectorize="later").batch
        256
    """

    embedder: Embedder
    name: str | None = field(default=None, kw_only=True)
    batch_max: int | None = field(default=None, kw_only=True)
    cache_bytes: int = field(default=16 * 2**20, kw_only=True)
    retry: Retry = field(default_factory=Retry, kw_only=True)
    timeout: Duration | None = field(default="60s", kw_only=True)
    query_timeout: Duration | None = field(default="10s", kw_only=True)
    vectorize: Vectorize | None = field(default=None, kw_only=True)
    backlog_max: int = field(default=1_000_000, kw_only=True)
    lane: str = field(default="embed", kw_only=True)

    def __post_init__(self) -> None:
        if not callable(self.embedder) or isinstance(self.embedder, type):
            raise _refuse(f"the embedder is {self.embedder!r}", "give a callable of a list of texts")
        if self.name is not None and (not isinstance(self.name, str) or not self.name.strip()):
            raise _refuse(f"the embedder's name is {self.name!r}", "give a text, or leave it out")
        if self.batch_max is not None and whole_number("batch_max", self.batch_max, _BATCH_MAX) < 1:
            raise _refuse("`batch_max` is 0", "give a whole number, 1 or more")
        if whole_number("backlog_max", self.backlog_max, _BACKLOG_MAX) < 1:
            raise _refuse("`backlog_max` is 0", "give a whole number, 1 or more")
        if isinstance(self.cache_bytes, bool) or not isinstance(self.cache_bytes, int) or self.cache_bytes < 0:
            raise _refuse(f"`cache_bytes` is {self.cache_bytes!r}", "give a number of bytes, 0 for no cache")
        if not isinstance(self.retry, Retry):
            raise _refuse(f"`retry` is {self.retry!r}", "give goclaw.Retry(retries=3)")
        for what in ("timeout", "query_timeout"):
            value = getattr(self, what)
            if value is not None and to_seconds(value, what=what) <= 0:
                raise _refuse(f"`{what}` is {value!r}", "give a time above 0, or None for no bound")
        if self.vectorize is not None:
            one_of("vectorize", self.vectorize, ("now", "later"))
        if not isinstance(self.lane, str) or not self.lane.strip():
            raise _refuse(f"the embedder's lane is {self.lane!r}", "give the name of a lane")

    @property
    def model(self) -> str:
        """The name that the store records."""
        return self.name or name_of(self.embedder)

    @property
    def dim(self) -> int | None:
        """Parts of a vector, where the embedder says."""
        return whole_of(self.embedder, "dim")

    @property
    def batch(self) -> int:
        """Texts of one call."""
        return self.batch_max or min(whole_of(self.embedder, "batch_max") or _BATCH, _BATCH_MAX)

    @property
    def local(self) -> bool:
        """Whether the embedder says that it is quick, in this process, and does not fail."""
        return is_local(self.embedder)

    @property
    def asks_apart(self) -> bool:
        """Whether the embedder has another way for what is searched by."""
        return callable(getattr(self.embedder, "query", None))

    @property
    def when(self) -> Vectorize:
        """When vectors of what is memorized are made, unless a call says."""
        return self.vectorize or ("now" if self.local else "later")


def embedding_of(given: Embedder | Embedding) -> Embedding:
    """What was given, as an `Embedding`."""
    return given if isinstance(given, Embedding) else Embedding(given)


def _refuse(message: str, help: str) -> ConfigError:
    return ConfigError(message, code="config.invalid", help=help)
