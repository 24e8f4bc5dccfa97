"""kill -9 at random moments, on one store, judged by a log that another process keeps.

    python scripts/crash.py [--times 200] [--seed N] [--json FILE] [--folder DIR] [--memory]

Prints its seed first. Ends with exit code 1 and a precise account at the first promise that is not
kept: an acknowledged run that is gone or never ends, two outcomes of one task or run, an execution
after the outcome was told, an attempt number used twice, a store that does not open, events with a
gap. The log and the store are then left where they are, for study. With --memory the child memorizes, forgets
and sweeps instead, and exactly what was acknowledged must be there.
"""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.crash.driver import Driver
from tests.crash.memory import MemoryDriver


def main() -> int:
    parser = argparse.ArgumentParser(description="kill -9 at random moments, under load.")
    parser.add_argument("--times", type=int, default=200, help="how many lives to end before the last one")
    parser.add_argument("--seed", type=int, default=None, help="repeat the dice of an earlier run")
    parser.add_argument("--json", metavar="FILE", help="write the report here")
    parser.add_argument("--folder", help="where the store and the log are put; on a real disk")
    parser.add_argument("--memory", action="store_true", help="kill an agent that memorizes and forgets")
    options = parser.parse_args()
    seed = secrets.randbits(32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="goclaw-crash-", dir=options.folder))
    if options.memory:
        return memory(folder, seed, options.times, options.json)
    driver = Driver(folder, seed)
    began = time.monotonic()
    while driver.kills < options.times and not driver.ledger.violations:
        driver.one_life()
        if driver.kills % 20 == 0:
            print(f"{driver.kills} kills, {len(driver.ledger.runs)} runs, {time.monotonic() - began:.0f} s", flush=True)
    if not driver.ledger.violations:
        driver.last_life()
    report = {**driver.report(), "seconds": round(time.monotonic() - began, 1)}
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps({key: value for key, value in report.items() if key != "violations"}, indent=1))
    if not report["violations"]:
        shutil.rmtree(folder)
        print("every promise was kept")
        return 0
    for violation in report["violations"][:10]:
        print(f"\nVIOLATION {violation['run']}: {violation['what']}")
        print("\n".join(f"  {line}" for line in driver.account(violation["run"])))
    print(f"\nlog and store are in {folder}")
    return 1


def memory(folder: Path, seed: int, times: int, file: str | None) -> int:
    driver = MemoryDriver(folder, seed)
    while driver.kills < times and not driver.violations:
        driver.one_life()
    if not driver.violations:
        driver.last_life()
    report = driver.report()
    if file:
        Path(file).write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))
    if report["violations"]:
        print(f"\nthe store is in {folder}")
        return 1
    shutil.rmtree(folder)
    print("every promise was kept")
    return 0


if __name__ == "__main__":
    sys.exit(main())
