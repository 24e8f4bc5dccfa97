"""Starts the child, kills it, starts it again on the same store, and keeps the log."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .ledger import Ledger

ROOT = Path(__file__).resolve().parent.parent.parent
SAMPLE = 50
"""Runs that ended in an earlier life and are looked up again in each life."""
OPEN_S = 120.0
"""A store that takes longer than this to open does not open."""
LAST_LOOK_S = 1_800.0
IN_GOOD_ORDER = 0.1
"""Share of the lives that end by closing the engine."""
EARLY = 0.3
"""Share of the kills that may come before the store is open."""


class Life:
    """One child from its start to its end."""

    def __init__(
        self,
        store: Path,
        seed: int,
        order: dict[str, Any],
        take: Callable[[bytes], None],
        module: str = "tests.crash.child",
    ) -> None:
        read, write = os.pipe()
        command = [sys.executable, "-m", module, str(store), str(write), str(seed)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[write], cwd=ROOT)
        os.close(write)
        self._reader = threading.Thread(target=self._read, args=(read, take))
        self._reader.start()
        self.say(json.dumps(order))

    def _read(self, pipe: int, take: Callable[[bytes], None]) -> None:
        # The pipe keeps what was written before a kill; it ends when the child is gone.
        with open(pipe, "rb") as lines:
            for line in lines:
                take(line)

    def say(self, text: str) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(text.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass

    def end(self, how: Callable[[], None], within: float = 60.0) -> int:
        """Ends it and reads what it still had to say; answers its exit code."""
        how()
        try:
            code = self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self._reader.join()
        assert self.process.stdin is not None
        self.process.stdin.close()
        return code


class Driver:
    """A number of lives on one store."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.seed = seed
        self.dice = random.Random(seed)
        self.ledger = Ledger()
        self.log = (folder / "log.jsonl").open("ab")
        self.opened = threading.Event()
        self.kills = 0
        self.kills_before_open = 0
        self.closes = 0

    def _take(self, line: bytes) -> None:
        self.log.write(line)
        self.ledger.note(json.loads(line))
        if self.ledger.opened:
            self.opened.set()

    def _start(self, *, load: bool) -> Life:
        ledger = self.ledger
        order = {
            "look_up": ledger.unended() + ledger.ended(self.dice, SAMPLE if load else None),
            "again": ledger.unanswered(),
            "watch": ledger.watched,
            "load": load,
        }
        ledger.begin_life()
        self.opened.clear()
        return Life(self.folder / "store", self.dice.getrandbits(32), order, self._take)

    def one_life(self) -> None:
        """A child under load until a random moment."""
        life = self._start(load=True)
        if self.dice.random() < EARLY:
            time.sleep(self.dice.uniform(0.1, 0.9))
        elif self.opened.wait(OPEN_S):
            time.sleep(self.dice.expovariate(2.0) + 0.02)
        else:
            self.ledger.broken("", f"the store did not open within {OPEN_S} s in life {self.ledger.life}")
        if self.dice.random() < IN_GOOD_ORDER and self.opened.is_set():
            code = life.end(lambda: life.say("close"))
            self.closes += 1
            self.ledger.end_life(stopped_by_us=code == 0, code=code)
        else:
            self.kills += 1
            self.kills_before_open += not self.opened.is_set()
            code = life.end(lambda: life.process.send_signal(signal.SIGKILL))
            self.ledger.end_life(stopped_by_us=code == -signal.SIGKILL, code=code)

    def last_life(self) -> None:
        """A child without load: every run must be there and end, every event must be in order."""
        life = self._start(load=False)
        code = life.end(lambda: None, LAST_LOOK_S)
        self.ledger.end_life(stopped_by_us=code == 0, code=code)
        for id in self.ledger.unended():
            self.ledger.broken(id, "the run was not seen to end in the last life")
        self.log.close()

    def report(self) -> dict[str, Any]:
        ledger = self.ledger
        runs = ledger.runs.values()
        return {
            "seed": self.seed,
            "kills": self.kills,
            "kills_before_the_store_was_open": self.kills_before_open,
            "closes_in_good_order": self.closes,
            "runs_submitted": len(ledger.runs),
            "runs_acknowledged": sum(run.acknowledged for run in runs),
            "runs_checked": sum(run.outcome is not None for run in runs),
            "runs_quarantined": ledger.counts["quarantined"],
            "outcomes_told": ledger.counts["out"],
            "executions": ledger.counts["exec"],
            "executions_repeated": sum(
                sum(run.executions.values()) - sum(run.raised.values()) - len(run.executions)
                for run in runs
                if run.kind != "doomed"
            ),
            "events_audited": ledger.counts["audited_events"],
            "violations": [{"run": run, "what": what, "life": self.ledger.life} for run, what in ledger.violations],
        }

    def account(self, run: str) -> list[str]:
        """Every line of the log that names a run, for the report of a violation."""
        with open(self.folder / "log.jsonl", encoding="utf-8") as log:
            return [line.rstrip() for line in log if run and run in line][:200]
