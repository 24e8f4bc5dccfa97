"""A process that finds a store, opens it, asks and says what that cost: what a restart is like.

python -m benches.memory.reader PEER FOLDER COUNT
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from ..harness import Figures, own_mb, percentiles, resident_mb
from .collections import made_up
from .peers import PEERS

QUESTIONS = 200


def main() -> int:
    """Prints the figures as one line of JSON."""
    name, folder, count = sys.argv[1:]
    # The same texts and vectors as were filled in; only the questions are drawn after them.
    collection = made_up(int(count), QUESTIONS)
    assert collection.asked is not None
    opened, needs = PEERS[name]
    for module in needs:
        __import__(module)
    before, own_before = resident_mb(), own_mb()
    began = time.perf_counter()
    peer = opened(Path(folder))
    mode = peer.modes[-1]
    peer.search(mode, collection.questions[0], collection.asked[0])
    figures: Figures = {"open_s": time.perf_counter() - began}
    waits, work, found = [], [], 0
    for text, row, wanted in zip(collection.questions, collection.asked, collection.relevant, strict=True):
        began_ns, worked_ns = time.perf_counter_ns(), time.process_time_ns()
        keys = peer.search(mode, text, row)
        waits.append(time.perf_counter_ns() - began_ns)
        work.append(time.process_time_ns() - worked_ns)
        found += wanted[0] in keys
    figures |= {key: value / 1e3 for key, value in percentiles(waits).items() if key != "count"}
    cpu = percentiles(work)
    figures |= {"cpu_p50": cpu["p50"] / 1e3, "cpu_p99": cpu["p99"] / 1e3}
    grown, own = resident_mb() - before, own_mb() - own_before
    figures |= {"found": found / QUESTIONS, "grown_mb": grown, "own_mb": own}
    peer.close()
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
