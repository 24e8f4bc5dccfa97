"""Cold tiers: where memories lie that are hardly asked for. `goclaw.Memory(path, cold=tiers.Files("cold/"))`.

A memory that moved keeps its id, its metadata, its strength and its reviews in the store; its content and its vector
lie in the tier and are fetched when they are asked for. One directory, collection or index belongs to one store: the
first that moves something there; others are refused (`memory.tier_owner`).
"""

from __future__ import annotations

import json
import os
from dataclasses import KW_ONLY, asdict, dataclass, field
from typing import Any, TypeAlias

from ._plain import number, whole
from .durations import Duration, to_ms, to_positive_ms
from .errors import ConfigError


@dataclass(frozen=True, slots=True)
class Files:
    """A directory, one file a session: for a large, slow disk. One process at a time.

    Args:
        path: The directory, ``~`` allowed; made if it is not there.
        name: Name of the tier, which the store notes with every memory that lies there.

    Example:
        >>> import goclaw, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with goclaw.Memory(folder + "/store", cold=Files(folder + "/cold")) as memory:
        ...         id = memory.memorize("Ada prefers tea", session="ada", vector=[0.6, 0.8])
        ...         moved = memory.move_cold("ada", keep_max=0)
        ...         hits = memory.retrieve(vector=[0.6, 0.8], session="ada")
        >>> hits[0].entry.content, hits[0].entry.tier
        ('Ada prefers tea', 'files')
    """

    path: str | os.PathLike[str]
    _: KW_ONLY
    name: str = "files"

    def _place(self) -> dict[str, Any]:
        return {"kind": "files", "path": os.path.abspath(os.path.expanduser(os.fspath(self.path)))}


@dataclass(frozen=True, slots=True)
class Qdrant:
    """A collection of a Qdrant server (1.10 or later), made when something first moves there.

    Args:
        url: Where the server is, ``http://host:6333``.
        collection: Its name.
        api_key: The key, which shows nowhere.
        timeout: Longest wait for an answer; writes are tried again for three times as long.
        name: Name of the tier, which the store notes with every memory that lies there.

    Example:
        >>> Qdrant("http://localhost:6333", api_key="secret")
        Qdrant(url='http://localhost:6333', collection='goclaw', timeout='10s', name='qdrant')
    """

    url: str
    _: KW_ONLY
    collection: str = "goclaw"
    api_key: str | None = field(default=None, repr=False)
    timeout: Duration = "10s"
    name: str = "qdrant"

    def _place(self) -> dict[str, Any]:
        return {"kind": "qdrant", **_remote(self)}


@dataclass(frozen=True, slots=True)
class Weaviate:
    """A collection of a Weaviate server (1.23 or later), made when something first moves there.

    Searches need the server's GraphQL interface, which Weaviate has deprecated: its cloud makes new clusters
    without it, and a search there raises `memory.tier`.

    Args:
        url: Where the server is, ``http://host:8080``.
        collection: Its name, which begins with a capital letter.
        api_key: The key, which shows nowhere.
        timeout: Longest wait for an answer; writes are tried again for three times as long.
        name: Name of the tier, which the store notes with every memory that lies there.

    Example:
        >>> Weaviate("http://localhost:8080").collection
        'Goclaw'
    """

    url: str
    _: KW_ONLY
    collection: str = "Goclaw"
    api_key: str | None = field(default=None, repr=False)
    timeout: Duration = "10s"
    name: str = "weaviate"

    def _place(self) -> dict[str, Any]:
        return {"kind": "weaviate", **_remote(self)}


@dataclass(frozen=True, slots=True)
class Pinecone:
    """An index of Pinecone: dense, by cosine, with as many dimensions as the store's vectors. You make it yourself.

    A session is a namespace. What has moved is searched a few seconds later. Memories larger than 40 KB stay in
    the store.

    Args:
        host: The index's host, as Pinecone's console shows it.
        api_key: The key, which shows nowhere.
        timeout: Longest wait for an answer; writes are tried again for three times as long.
        name: Name of the tier, which the store notes with every memory that lies there.

    Example:
        >>> Pinecone("https://memories-abc123.svc.pinecone.io", api_key="secret").name
        'pinecone'
    """

    host: str
    _: KW_ONLY
    api_key: str = field(repr=False)
    timeout: Duration = "10s"
    name: str = "pinecone"

    def _place(self) -> dict[str, Any]:
        host = self.host if "://" in self.host else f"https://{self.host}"
        return {"kind": "pinecone", **_remote(self), "url": host}


Tier: TypeAlias = Files | Qdrant | Weaviate | Pinecone
"""Any of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What moves to the cold tier by itself: the memories that any of these names.

    What was reviewed as good or easy since it went comes back. Pinned memories stay, and those without a vector.

    Args:
        below: Those weaker than this, 0 to 1.
        unused_for: Those neither memorized nor reviewed for this long.
        keep_max: The weakest, where a session has more than this many in the store.
        every: How often it is looked for.

    Example:
        >>> Move(below=0.5, unused_for="30d")
        Move(below=0.5, unused_for='30d', keep_max=None, every='1h')
    """

    below: float | None = None
    unused_for: Duration | None = None
    keep_max: int | None = None
    every: Duration = "1h"

    def __post_init__(self) -> None:
        if self.below is self.unused_for is self.keep_max is None:
            raise ConfigError(
                "`move` names nothing", code="config.contradiction", help="give below=, unused_for= or keep_max="
            )
        if self.below is not None and not 0 <= self.below <= 1:
            raise ConfigError(
                f"`below` is {self.below!r}, and strengths are from 0 to 1",
                code="config.memory",
                help="write below=0.3",
            )


def _remote(tier: Qdrant | Weaviate | Pinecone) -> dict[str, Any]:
    told = asdict(tier)
    return {
        "url": told.get("url"),
        "collection": told.get("collection"),
        "api_key": tier.api_key,
        "timeout_ms": to_positive_ms(tier.timeout, what="timeout"),
    }


def _to_json(tier: Tier, move: Move | None) -> str:
    if not isinstance(tier, (Files, Qdrant, Weaviate, Pinecone)):
        raise ConfigError(
            f"`cold` is {tier!r}, no tier", code="config.choice", help="give one of goclaw.tiers: Files, Qdrant, …"
        )
    moves = None
    if move is not None:
        moves = {
            "below": None if move.below is None else number("below", move.below, "memory.threshold"),
            "unused_ms": None if move.unused_for is None else to_ms(move.unused_for, what="unused_for"),
            "keep_max": None if move.keep_max is None else whole("keep_max", move.keep_max),
        }
    every = 3_600_000 if move is None else to_positive_ms(move.every, what="every")
    return json.dumps({"name": tier.name, "place": tier._place(), "moves": moves, "every_ms": every})
