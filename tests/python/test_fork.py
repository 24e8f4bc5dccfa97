"""A forked child opens engines of its own, and keeps nothing of its parent's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import os, sys, warnings
import goclaw

warnings.simplefilter("ignore")

@goclaw.agent
async def add(x: int) -> int:
    return x + 1

@goclaw.workflow
def flow(x: int) -> int:
    return add(x)

engine = goclaw.Engine("state")
assert engine.run(flow, {"x": 1}) == 2
"""


def run(body: str, folder: Path) -> str:
    (folder / "script.py").write_text(SCRIPT + body)
    found = subprocess.run([sys.executable, "script.py"], cwd=folder, capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_coroutines_run_in_a_child_whose_parent_had_a_loop(tmp_path: Path) -> None:
    body = """
if (child := os.fork()) == 0:
    with goclaw.Engine() as own:
        print(own.submit(flow, {"x": 5}).result(20), add(7), flush=True)
    sys.exit(0)
print(os.waitpid(child, 0)[1], engine.run(flow, {"x": 9}))
"""
    assert run(body, tmp_path) == "6 8\n0 10\n"


def test_a_living_child_does_not_keep_the_parents_store_locked(tmp_path: Path) -> None:
    body = """
asleep, awake = os.pipe()
if (child := os.fork()) == 0:
    os.close(awake)
    os.read(asleep, 1)
    os._exit(0)
engine.close()
goclaw.Engine("state").close()
os.close(awake)
print(os.waitpid(child, 0)[1])
"""
    assert run(body, tmp_path) == "0\n"


def test_a_child_is_watched_and_does_not_answer_for_its_parents_loop(tmp_path: Path) -> None:
    body = """
import time

@goclaw.agent
def slow(x: int) -> int:
    time.sleep(1.5)
    return x

if (child := os.fork()) == 0:
    with goclaw.Engine() as own:
        plain = goclaw.Workflow("slow").task("t", slow)
        print(own.submit(plain, {"x": 5}).result(20), own.health().incidents, flush=True)
    sys.exit(0)
print(os.waitpid(child, 0)[1])
"""
    assert run(body, tmp_path) == "5 ()\n0\n"
