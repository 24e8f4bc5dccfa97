"""How good the answers are, on public collections, beside peers: `make quality`.

    python -m benches.memory.quality [--json FILE]

Every peer is filled with the documents and asked every question, for ten answers. English questions come with
vectors (all-MiniLM-L6-v2); Chinese ones without, so there words decide, and `goclaw, hashing` shows what
its offline embedder adds. The collections lie beside the project (`../shared/data`, or GOCLAW_SHARED_DATA); a
collection that is not there, and a peer that is not installed, is left out, visibly.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .collections import Collection, find, read
from .peers import PEERS, K, Keys, Peer

Row = dict[str, str | float]


def main() -> int:
    """Prints a table for each collection."""
    parser = argparse.ArgumentParser(description="How good the answers of the memory are.")
    parser.add_argument("--json", metavar="FILE", help="write the rows here, too")
    options = parser.parse_args()
    report: dict[str, list[Row]] = {}
    for name, texts, arrays in (
        ("Cranfield, English", "cranfield.jsonl.gz", "cranfield_minilm.npz"),
        ("CMRC 2018 (half), Chinese", "cmrc2018_half.jsonl.gz", None),
    ):
        paths = [find(file) for file in (texts, arrays) if file]
        if None in paths:
            print(f"### {name}\n\nskipped: it is not in ../shared/data, nor where GOCLAW_SHARED_DATA points\n")
            continue
        collection = read(name, *[path for path in paths if path])
        report[name] = _judge_all(collection)
        print(_table(collection, report[name]), flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n")
    return 0


def _judge_all(collection: Collection) -> list[Row]:
    rows: list[Row] = []
    for name, (opened, needs) in PEERS.items():
        missing = [module for module in needs if importlib.util.find_spec(module) is None]
        if missing:
            rows.append({"peer": name, "mode": f"skipped: {', '.join(missing)} not installed"})
            continue
        with tempfile.TemporaryDirectory() as folder:
            peer = opened(Path(folder))
            rows += _judge(name, peer, collection)
            peer.close()
    return rows


def _judge(name: str, peer: Peer, collection: Collection) -> list[Row]:
    hashed = collection.vectors is None
    # A peer that insists on vectors gets some; where the collection has none, by words only is asked.
    documents, asked = _hashed(collection) if hashed else (collection.vectors, collection.asked)
    assert documents is not None
    assert asked is not None
    peer.add(0, collection.documents, documents)
    peer.settle()
    rows = []
    for mode in peer.modes:
        answers = [peer.search(mode, text, row) for text, row in zip(collection.questions, asked, strict=True)]
        label = f"{mode}, hashed vectors" if hashed and mode != "text" else mode
        rows.append({"peer": name, "mode": label, **_means(answers, collection.relevant)})
    return rows


def _hashed(collection: Collection) -> tuple[np.ndarray, np.ndarray]:
    from goclaw.embedders import Hashing

    embed = Hashing(384)
    return (
        np.array(embed(collection.documents), dtype=np.float32),
        np.array(embed(collection.questions), dtype=np.float32),
    )


def _means(answers: Sequence[Keys], relevant: Sequence[Sequence[int]]) -> dict[str, float]:
    """nDCG@10, MRR@10 and recall@10; a document is relevant or not."""
    ndcg = mrr = recall = 0.0
    for found, wanted in zip(answers, relevant, strict=True):
        ranks = [rank for rank, key in enumerate(found[:K]) if key in set(wanted)]
        ideal = sum(1 / math.log2(rank + 2) for rank in range(min(len(wanted), K)))
        ndcg += sum(1 / math.log2(rank + 2) for rank in ranks) / ideal
        mrr += 1 / (ranks[0] + 1) if ranks else 0.0
        recall += len(ranks) / len(wanted)
    count = len(answers)
    return {"ndcg": ndcg / count, "mrr": mrr / count, "recall": recall / count}


def _table(collection: Collection, rows: list[Row]) -> str:
    size = f"{len(collection.documents):,} documents, {len(collection.questions):,} questions"
    lines = [
        f"### {collection.name}: {size}",
        "",
        "| | mode | nDCG@10 | MRR@10 | recall@10 |",
        "|---|---|---:|---:|---:|",
    ]
    for row in rows:
        figures = [f"{row[key]:.4f}" if key in row else "" for key in ("ndcg", "mrr", "recall")]
        lines.append(f"| {row['peer']} | {row['mode']} | {' | '.join(figures)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
