"""What was acknowledged survives kill -9: a short slice of `make crash`, and the judge on trial."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from tests.crash.audit import audit  # noqa: E402
from tests.crash.ledger import Ledger  # noqa: E402
from tests.crash.memory import MemoryDriver  # noqa: E402

HONEST: list[list[Any]] = [
    ["try", "R1", "chain"],
    ["ack", "R1"],
    ["exec", "R1", "a", 1, "R1/a", "t1", []],
    ["exec", "R1", "b", 1, "R1/b", "t2", [["a", "t1"]]],
    ["out", "R1", "completed", "", [["a", "t1"], ["b", "t2"]]],
]


@pytest.mark.timeout(600)
def test_five_kills_break_no_promise(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [sys.executable, "scripts/crash.py", "--times", "5", "--seed", str(random.getrandbits(32))]
    command += ["--json", str(report), "--folder", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(report.read_text())
    assert found["kills"] == 5 and found["violations"] == []
    assert found["runs_checked"] >= found["runs_acknowledged"] > 0
    assert found["events_audited"] > found["executions"] > 0


@pytest.mark.timeout(600)
def test_five_kills_of_one_who_memorizes_lose_and_keep_nothing_they_should_not(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [sys.executable, "scripts/crash.py", "--memory", "--times", "5"]
    command += ["--seed", str(random.getrandbits(32)), "--json", str(report), "--folder", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(report.read_text())
    assert found["kills"] == 5 and found["violations"] == []
    # One kill each in a sweep over all sessions, a delete, the writing of an index file, a sweep, anywhere.
    assert sum(found["kills_in_the_middle_of"].values()) >= 2, found
    assert found["operations_acknowledged"] > 0


def test_the_bookkeeper_of_memories_sees_what_is_lost_kept_and_half_done(tmp_path: Path) -> None:
    def after(*lines: Any) -> list[str]:
        driver = MemoryDriver(tmp_path, 1)
        for line in lines:
            driver.take(json.dumps(line).encode())
        return driver.violations

    put = [["begin", "put", "bob", ["wa", "wb"]], ["done", ["A", "B"]]]
    forget = ["begin", "forget", "bob", ["A"]]
    there = lambda *ids: ["opened", {"bob": list(ids)}, [], [0, 0]]  # noqa: E731
    assert after(*put, there("A", "B")) == []
    assert after(*put, there("A")) != [], "one is lost"
    assert after(*put, there("A", "B", "C")) != [], "one came from nowhere"
    assert after(put[0], there()) == after(put[0], there("A", "B")) == []
    assert after(put[0], there("A")) != [], "half of a batch"
    assert after(*put, forget, there("B")) == after(*put, forget, there("A", "B")) == []
    assert after(*put, forget, ["done", []], there("A", "B")) != [], "what was forgotten came back"
    assert after(*put, ["opened", {"bob": ["A", "B"]}, [["bob", "wa", []]], [0, 0]]) != [], "not found any more"
    sweep = ["begin", "sweep everywhere", "ada"]
    assert after(*put, sweep, there("A")) == after(*put, sweep, there()) == [], "a part of it"
    assert after(*put, sweep, ["done", ["A"]], there()) != [], "more than it said"
    assert after(*put, sweep, ["done", ["A"]], there("A", "B")) != [], "what was swept came back"
    assert after(*put, ["stray", "bob", ["A"], ["B"]]) != [], "not the nearest"


def test_the_judge_accepts_an_honest_log() -> None:
    ledger = Ledger()
    ledger.begin_life()
    for line in HONEST:
        ledger.note(line)
    assert ledger.violations == [] and ledger.unended() == []


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (["missing", "R1"], "does not exist"),
        (["exec", "R1", "a", 2, "R1/a", "t9", []], "after the run's outcome"),
        (["out", "R1", "failed", "x", []], "two outcomes"),
        (["out", "R1", "completed", "", [["a", "t9"]]], "none of its executions made"),
        (["exec", "R2", "a", 1, "R2/a", "t9", []], "nobody submitted"),
        (["stuck", "R1", "running", {"a": "running"}], "stuck"),
        (["listed", "R3"], "nobody submitted"),
        (["history", "R1", "a gap"], "a gap"),
    ],
)
def test_the_judge_sees_each_lie(lie: list[Any], words: str) -> None:
    ledger = Ledger()
    ledger.begin_life()
    for line in [*HONEST, lie]:
        ledger.note(line)
    assert any(words in what for _, what in ledger.violations), ledger.violations


def test_the_judge_sees_an_attempt_number_used_twice_and_too_many_executions() -> None:
    ledger = Ledger()
    ledger.begin_life()
    for line in [*HONEST[:3], ["exec", "R1", "a", 1, "R1/a", "t3", []]]:
        ledger.note(line)
    text = " ".join(what for _, what in ledger.violations)
    assert "executed twice" in text and "can be accounted for" in text


def test_the_judge_allows_one_repetition_per_crash() -> None:
    ledger = Ledger()
    ledger.begin_life()
    for line in HONEST[:3]:
        ledger.note(line)
    ledger.begin_life()
    ledger.note(["exec", "R1", "a", 2, "R1/a", "t3", []])
    assert ledger.violations == []
    ledger.note(["exec", "R1", "b", 1, "R1/b", "t2", [["a", "t1"]]])
    assert ledger.violations == []
    ledger.note(["exec", "R1", "c", 1, "R1/c", "t4", [["a", "t3"]]])
    assert "two outcomes" in ledger.violations[0][1]


def _event(seq: int, type: str, task: str | None = None, attempt: int = 0) -> SimpleNamespace:
    return SimpleNamespace(seq=seq, run="R1", type=type, task=task, attempt=attempt)


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([_event(1, "run.submitted"), _event(3, "run.completed")], "where 2 was due"),
        ([_event(1, "run.started"), _event(2, "run.completed")], "begins with"),
        ([_event(1, "run.submitted"), _event(2, "run.completed"), _event(3, "task.started", "a", 1)], "after the run"),
        ([_event(1, "run.submitted")], "never ends"),
        (
            [_event(1, "run.submitted"), _event(2, "task.completed", "a"), _event(3, "task.failed", "a")],
            "ended twice",
        ),
        (
            [_event(1, "run.submitted"), _event(2, "task.started", "a", 1), _event(3, "task.started", "a", 1)],
            "began after attempt 1",
        ),
    ],
)
def test_the_audit_sees_an_impossible_history(events: list[Any], words: str) -> None:
    complaints: list[str] = []
    audit(events, lambda _, what: complaints.append(what), complete=True)
    assert any(words in what for what in complaints), complaints
