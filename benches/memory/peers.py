"""One shape for everything that can remember and search: goclaw and its peers, each as its documents set it up.

Every peer keeps texts and vectors on disk and answers by words, by vector, or by both. What one cannot do
it does not have: tantivy knows no vectors.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Keys = list[int]
"""Numbers of documents, best first."""

K = 10


class Peer:
    """A store in a folder. Documents are numbered by whoever adds them."""

    modes: tuple[str, ...] = ("text", "vector", "hybrid")

    def __init__(self, folder: Path) -> None:
        raise NotImplementedError

    def add(self, first: int, texts: Sequence[str], vectors: np.ndarray) -> None:
        """Adds documents from number `first` on; returns when they are kept."""
        raise NotImplementedError

    def remove(self, first: int, count: int) -> None:
        """Deletes documents from number `first` on; returns when that is kept."""
        raise NotImplementedError

    def settle(self) -> None:
        """What its documents tell to do after a large import."""

    def search(self, mode: str, text: str, vector: np.ndarray | None) -> Keys:
        """The best `K`."""
        raise NotImplementedError

    def close(self) -> None:
        """Lets go of the folder."""


class Goclaw(Peer):
    """One session of `goclaw.Memory` with durability `strict`; vectors are brought, so nothing embeds."""

    fusion = "score"

    def __init__(self, folder: Path) -> None:
        import goclaw

        self.memory = goclaw.Memory(folder / "goclaw")
        self.ids: dict[int, str] = {}

    def add(self, first: int, texts: Sequence[str], vectors: np.ndarray) -> None:
        """Adds documents with their numbers as metadata."""
        numbers = [{"n": number} for number in range(first, first + len(texts))]
        ids = self.memory.memorize_many(texts, session="bench", metadata=numbers, vectors=vectors)
        self.ids.update(enumerate(ids, first))

    def remove(self, first: int, count: int) -> None:
        """Forgets them by their ids."""
        self.memory.forget("bench", ids=[self.ids.pop(number) for number in range(first, first + count)])

    def search(self, mode: str, text: str, vector: np.ndarray | None) -> Keys:
        """Searches in the mode."""
        rows = None if vector is None else vector.tolist()
        hits = self.memory.retrieve(
            text, session="bench", vector=rows, top_k=K, mode=mode, fusion=self.fusion, review="none"
        )
        return [hit.entry.metadata["n"] for hit in hits]

    def close(self) -> None:
        """Closes the store."""
        self.memory.close()


class GoclawRrf(Goclaw):
    """The same with reciprocal rank fusion, as the seeds have it."""

    modes = ("hybrid",)
    fusion = "rrf"


class Tantivy(Peer):
    """tantivy-py: one commit per batch, its English analyser."""

    modes = ("text",)

    def __init__(self, folder: Path) -> None:
        import tantivy

        path = folder / "tantivy"
        path.mkdir(exist_ok=True)
        fields = tantivy.SchemaBuilder()
        fields.add_text_field("body", stored=False, tokenizer_name="en_stem")
        fields.add_integer_field("n", stored=True, indexed=True)
        self.tantivy = tantivy
        self.index = tantivy.Index(fields.build(), path=str(path))

    def add(self, first: int, texts: Sequence[str], vectors: np.ndarray) -> None:
        """Writes, commits and reloads."""
        writer = self.index.writer(heap_size=64_000_000, num_threads=1)
        for number, text in enumerate(texts, first):
            writer.add_document(self.tantivy.Document(body=text, n=number))
        self._commit(writer)

    def remove(self, first: int, count: int) -> None:
        """One commit."""
        writer = self.index.writer(heap_size=64_000_000, num_threads=1)
        for number in range(first, first + count):
            writer.delete_documents("n", number)
        self._commit(writer)

    def _commit(self, writer: Any) -> None:
        writer.commit()
        writer.wait_merging_threads()
        self.index.reload()

    def search(self, mode: str, text: str, vector: np.ndarray | None) -> Keys:
        """Any of the words."""
        plain = "".join(char if char.isalnum() else " " for char in text)
        try:
            query = self.index.parse_query(" ".join(f'"{word}"' for word in plain.split()), ["body"])
        except ValueError:
            # No word is left: a Chinese sentence is one to its tokenizer, and longer than any that it keeps.
            return []
        searcher = self.index.searcher()
        return [searcher.doc(address)["n"][0] for _, address in searcher.search(query, K).hits]


class Sqlite(Peer):
    """SQLite with FTS5 (porter) and sqlite-vec (exact), `synchronous=FULL` with a write-ahead log; both legs by RRF."""

    def __init__(self, folder: Path) -> None:
        import apsw  # Python's own sqlite3 is often built without extensions
        import sqlite_vec

        self.db = apsw.Connection(str(folder / "memory.db"))
        self.db.enable_load_extension(True)
        self.db.load_extension(sqlite_vec.loadable_path())
        self.db.execute("pragma journal_mode=wal")
        self.db.execute("pragma synchronous=full")
        self.db.execute("create virtual table if not exists words using fts5(body, tokenize='porter unicode61')")
        self.db.execute("create virtual table if not exists near using vec0(v float[384] distance_metric=cosine)")

    def add(self, first: int, texts: Sequence[str], vectors: np.ndarray) -> None:
        """One transaction."""
        with self.db:
            numbers = range(first, first + len(texts))
            self.db.executemany("insert into words(rowid, body) values (?, ?)", zip(numbers, texts, strict=True))
            packed = (row.astype(np.float32).tobytes() for row in vectors)
            self.db.executemany("insert into near(rowid, v) values (?, ?)", zip(numbers, packed, strict=True))

    def remove(self, first: int, count: int) -> None:
        """One transaction."""
        with self.db:
            numbers = [(number,) for number in range(first, first + count)]
            self.db.executemany("delete from words where rowid = ?", numbers)
            self.db.executemany("delete from near where rowid = ?", numbers)

    def search(self, mode: str, text: str, vector: np.ndarray | None) -> Keys:
        """Both legs give 50; the sum of 1/(60 + rank) orders them."""
        legs: list[Keys] = []
        if mode != "vector":
            words = " OR ".join(f'"{word}"' for word in _words(text))
            sql = "select rowid from words where words match ? order by bm25(words) limit 50"
            legs.append([row[0] for row in self.db.execute(sql, (words,))])
        if mode != "text" and vector is not None:
            sql = "select rowid from near where v match ? and k = 50 order by distance"
            packed = vector.astype(np.float32).tobytes()
            legs.append([row[0] for row in self.db.execute(sql, (packed,))])
        return _by_ranks(legs)

    def close(self) -> None:
        """Closes the connection."""
        self.db.close()


class Lance(Peer):
    """LanceDB: its full-text index (stemmed, without stop words), its flat vector search, its own hybrid (RRF)."""

    def __init__(self, folder: Path) -> None:
        os.environ.setdefault("LANCEDB_LOG", "error")  # it warns at every question of what a later version does
        import lancedb
        import pyarrow as pa

        self.lancedb = lancedb
        self.db = lancedb.connect(folder / "lance")
        row = pa.list_(pa.float32(), 384)
        self.schema = pa.schema([("n", pa.int64()), ("body", pa.string()), ("vector", row)])
        names = self.db.table_names()
        self.table = self.db.open_table("t") if "t" in names else self.db.create_table("t", schema=self.schema)
        self.indexed = "t" in names

    def add(self, first: int, texts: Sequence[str], vectors: np.ndarray) -> None:
        """Appends; the first time it makes the full-text index."""
        rows = [
            {"n": number, "body": text, "vector": vector}
            for number, text, vector in zip(range(first, first + len(texts)), texts, vectors, strict=True)
        ]
        self.table.add(rows)
        if not self.indexed:
            self.table.create_fts_index(
                "body", use_tantivy=False, stem=True, remove_stop_words=True, language="English"
            )
            self.indexed = True

    def remove(self, first: int, count: int) -> None:
        """By a condition."""
        self.table.delete(f"n >= {first} and n < {first + count}")

    def settle(self) -> None:
        """Takes the new rows into the index and merges."""
        self.table.optimize()

    def search(self, mode: str, text: str, vector: np.ndarray | None) -> Keys:
        """Its own queries."""
        if mode == "text":
            query = self.table.search(text, query_type="fts")
        elif mode == "vector":
            query = self.table.search(vector, query_type="vector").distance_type("cosine")
        else:
            query = self.table.search(query_type="hybrid").vector(vector).text(text).distance_type("cosine")
        return [row["n"] for row in query.limit(K).select(["n"]).to_list()]


class Chroma(Peer):
    """Chroma on disk: HNSW by cosine; its words are a filter, not a ranking, so it has no hybrid here."""

    modes = ("vector",)
    at_once = 5_000

    def __init__(self, folder: Path) -> None:
        import chromadb
        from chromadb.config import Settings

        client = chromadb.PersistentClient(str(folder / "chroma"), Settings(anonymized_telemetry=False))
        self.table = client.get_or_create_collection(
            "bench", configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
        )

    def add(self, first: int, texts: Sequence[str], vectors: np.ndarray) -> None:
        """As many at once as it takes."""
        for at in range(0, len(texts), self.at_once):
            part = slice(at, at + self.at_once)
            ids = [str(first + at + number) for number in range(len(texts[part]))]
            self.table.add(ids=ids, documents=list(texts[part]), embeddings=vectors[part])

    def remove(self, first: int, count: int) -> None:
        """By their ids."""
        self.table.delete(ids=[str(number) for number in range(first, first + count)])

    def search(self, mode: str, text: str, vector: np.ndarray | None) -> Keys:
        """Its nearest."""
        found: Any = self.table.query(query_embeddings=[vector], n_results=K, include=[])
        return [int(id) for id in found["ids"][0]]


PEERS: dict[str, tuple[Callable[[Path], Peer], tuple[str, ...]]] = {
    "goclaw": (Goclaw, ("goclaw",)),
    "goclaw, rrf": (GoclawRrf, ("goclaw",)),
    "tantivy": (Tantivy, ("tantivy",)),
    "SQLite FTS5 + sqlite-vec": (Sqlite, ("apsw", "sqlite_vec")),
    "LanceDB": (Lance, ("lancedb",)),
    "Chroma": (Chroma, ("chromadb",)),
}
"""Name, how it is opened, and the modules it needs."""


def _words(text: str) -> list[str]:
    return ["".join(char for char in word if char.isalnum()) or "x" for word in text.split()]


def _by_ranks(legs: list[Keys]) -> Keys:
    scores: dict[int, float] = {}
    for leg in legs:
        for rank, key in enumerate(leg, 1):
            scores[key] = scores.get(key, 0.0) + 1 / (60 + rank)
    return sorted(scores, key=lambda key: -scores[key])[:K]
