"""Texts to remember: public collections with judgements, and made-up ones of any size."""

from __future__ import annotations

import gzip
import json
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
DIMENSION = 384


@dataclass(frozen=True)
class Collection:
    """Documents in order, questions, and which documents answer each.

    Attributes:
        vectors: One row a document, length 1; `None` where the collection has none.
        asked: One row a question.
    """

    name: str
    documents: list[str]
    questions: list[str]
    relevant: list[list[int]]
    vectors: np.ndarray | None = None
    asked: np.ndarray | None = None


def find(name: str) -> Path | None:
    """Where a file of the reference data is: beside the project, or where `GOCLAW_SHARED_DATA` says."""
    folders = [os.environ.get("GOCLAW_SHARED_DATA"), ROOT.parent / "shared" / "data"]
    found = [Path(folder) / name for folder in folders if folder and (Path(folder) / name).exists()]
    return found[0] if found else None


def read(name: str, texts: Path, arrays: Path | None = None) -> Collection:
    """Reads a collection: gzipped JSON Lines, and the vectors of an npz."""
    documents, questions, relevant = [], [], []
    with gzip.open(texts, "rt", encoding="utf-8") as lines:
        for line in lines:
            parts: dict[str, Any] = json.loads(line)
            if "doc" in parts:
                # Two abstracts of Cranfield are empty; nobody memorizes nothing.
                documents.append(parts["doc"]["text"] or "-")
            elif "query" in parts:
                questions.append(parts["query"]["q"])
                relevant.append(parts["query"]["rel"])
    if arrays is None:
        return Collection(name, documents, questions, relevant)
    with np.load(arrays) as found:
        vectors, asked = _unit(found["docs"]), _unit(found["queries"])
    return Collection(name, documents, questions, relevant, vectors, asked)


def made_up(count: int, questions: int, seed: int = 7) -> Collection:
    """As many texts of 60 words as wanted, by Zipf's law, with vectors in clusters.

    A question is 8 words of one text and a vector near its own; that text counts as the answer.
    """
    dice = np.random.default_rng(seed)
    words = np.array([_word(number) for number in range(50_000)])
    ranks = np.minimum(dice.zipf(1.15, size=(count, 60)) - 1, len(words) - 1)
    documents = [" ".join(row) for row in words[ranks]]
    centres = dice.standard_normal((256, DIMENSION), dtype=np.float32)
    near = centres[dice.integers(0, len(centres), count)]
    vectors = _unit(near + dice.standard_normal((count, DIMENSION), dtype=np.float32))
    chosen = dice.integers(0, count, questions)
    noise = dice.standard_normal((questions, DIMENSION), dtype=np.float32)
    asked = _unit(vectors[chosen] + 0.02 * noise)
    plain = random.Random(seed)
    texts = [" ".join(plain.sample(documents[at].split(), 8)) for at in chosen]
    return Collection(f"{count:,}", documents, texts, [[int(at)] for at in chosen], vectors, asked)


def _word(number: int) -> str:
    """A word of its own for each number, that looks like one."""
    consonants, vowels = "bcdfghklmnprstvz", "aeiou"
    word = ""
    while True:
        number, rest = divmod(number, 80)
        word += consonants[rest // 5] + vowels[rest % 5]
        if number == 0:
            return word + "n"


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
