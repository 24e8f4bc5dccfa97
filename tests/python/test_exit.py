"""The process ends as its main thread says, whatever its agents are in the middle of."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import json, sys, threading, time
from goclaw import _goclaw

entered = threading.Event()

def sleeps():
    entered.set()
    time.sleep(3)

def spins():
    entered.set()
    while True:
        pass

def naps():
    entered.set()
    while True:
        time.sleep(0.0005)

async def sleeps_on_the_loop():
    sleeps()

async def spins_on_the_loop():
    spins()

agent = sys.argv[1]
info = json.dumps({"name": agent, "params": [], "isolation": "auto"})
_goclaw.register_agent(agent, globals()[agent], info, agent.endswith("loop"))
driver = _goclaw._selftest.Driver()
driver.run(json.dumps({"id": "t", "agent": agent}), wait=False)
assert entered.wait(30)
if sys.argv[2] == "exit":
    sys.exit(3)
if sys.argv[2] == "raise":
    raise LookupError("planned")
"""


@pytest.mark.parametrize("agent", ["sleeps", "spins", "naps", "sleeps_on_the_loop", "spins_on_the_loop"])
@pytest.mark.parametrize(("end", "code"), [("return", 0), ("exit", 3), ("raise", 1)])
def test_a_process_ends_cleanly_in_the_middle_of_an_agent(agent: str, end: str, code: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, agent, end], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == code, ended.stderr
    assert ended.stdout == ""
    if end == "raise":
        assert ended.stderr.rstrip().endswith("LookupError: planned")
        assert ended.stderr.count("\n") < 8
    else:
        assert ended.stderr == ""
