"""The process that is killed: a durable engine under load, which tells everything to a pipe.

Started by `driver.py`: ``python -m tests.crash.child STORE PIPE_FD SEED``, with one JSON line of
instructions on its standard input. A line on the pipe is one ``write`` of at most ``PIPE_BUF`` bytes,
so a kill leaves none half written.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
import sys
import threading
import time
from collections import deque
from typing import Any

import goclaw

from .audit import audit

SUBMITTERS = 4
UNDER_WAY_MAX = 6
"""Runs of one submitter that it does not yet wait for."""
WATCH_EVERY = 64
"""One event in so many is told to the driver."""
STUCK_S = 120.0
"""A run that takes longer than this to end is stuck."""
_BASE32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_pipe = -1

Results = list[list[str]]


def tell(*line: Any) -> None:
    """Tells the driver, and returns when the line is out of this process."""
    os.write(_pipe, json.dumps(line, separators=(",", ":")).encode() + b"\n")


# Agents: each tells what it was given and makes a token up, so that two executions never look alike.


def _work(context: goclaw.Context, before: Results) -> Results:
    token = secrets.token_hex(4)
    tell("exec", context.run_id, context.task_id, context.attempt, context.idempotency_key, token, before)
    return [*before, [context.task_id, token]]


@goclaw.agent(name="crash.quick")
def quick(before: Results, context: goclaw.Context) -> Results:
    return _work(context, before)


@goclaw.agent(name="crash.slow", lane="io")
def slow(before: Results, context: goclaw.Context) -> Results:
    done = _work(context, before)
    time.sleep(random.uniform(0.001, 0.006))
    return done


@goclaw.agent(name="crash.later")
async def later(before: Results, context: goclaw.Context) -> Results:
    done = _work(context, before)
    await asyncio.sleep(random.uniform(0.0, 0.004))
    return done


@goclaw.agent(name="crash.flaky", retry=goclaw.Retry(retries=3, initial="5ms"))
def flaky(before: Results, context: goclaw.Context) -> Results:
    done = _work(context, before)
    if context.attempt <= 2:
        tell("raise", context.run_id, context.task_id)
        raise OSError("no luck yet")
    return done


@goclaw.agent(name="crash.doomed", retries=0)
def doomed(before: Results, context: goclaw.Context) -> Results:
    _work(context, before)
    tell("raise", context.run_id, context.task_id)
    raise ValueError("never any luck")


@goclaw.agent(name="crash.leaf", lane="io")
def leaf(item: int, context: goclaw.Context) -> Results:
    if item % 7 == 0:
        time.sleep(0.002)
    return _work(context, [])


@goclaw.agent(name="crash.gather")
def gather(parts: list[Results], context: goclaw.Context) -> Results:
    return _work(context, [pair for part in parts for pair in part])


@goclaw.workflow
def chain(start: Results) -> Results:
    return slow(quick(later(slow(quick(start)))))


@goclaw.workflow
def fan(start: list[int]) -> Results:
    return gather(leaf.map(start))


@goclaw.workflow
def diamond(start: Results) -> Results:
    first = quick(start)
    return gather([slow(first), later(first)])


@goclaw.workflow(name="flaky")
def flaky_chain(start: Results) -> Results:
    return quick(flaky(start))


@goclaw.workflow(name="doomed")
def doomed_chain(start: Results) -> Results:
    return quick(doomed(quick(start)))


FLOWS = {"chain": chain, "fan": fan, "diamond": diamond, "flaky": flaky_chain, "doomed": doomed_chain}
KINDS = (*FLOWS, "called_off")


def _submit(engine: goclaw.Engine, id: str, kind: str, on_conflict: Any = "error") -> goclaw.Run[Any]:
    # The size follows from the id, so that a repeated submit is the same submit.
    start: list[Any] = list(range(1 + int(id[-1], 36))) if kind == "fan" else []
    tell("try", id, kind)
    run = engine.submit(FLOWS.get(kind, chain), {"start": start}, run_id=id, on_conflict=on_conflict)
    tell("ack", id)
    if kind == "called_off":
        run.cancel("the driver's dice")
    return run


def _outcome(run: goclaw.Run[Any]) -> None:
    """Waits for a run and tells how it ended."""
    if not run.wait(STUCK_S):
        return tell("stuck", run.id, run.state, {id: task.state for id, task in run.tasks.items()})
    try:
        results: Results = run.result()
        tell("out", run.id, run.state, "", results)
    except (goclaw.TaskFailed, goclaw.RunCancelled, goclaw.GoclawError) as error:
        tell("out", run.id, run.state, f"{type(error).__name__}: {error}"[:300], [])


def load(engine: goclaw.Engine, dice: random.Random, again: list[list[str]]) -> None:
    """Submits, for ever; waits for runs some time after it has submitted them."""
    under_way: deque[goclaw.Run[Any]] = deque()
    while True:
        if again:
            id, kind = again.pop()
            under_way.append(_submit(engine, id, kind, "existing"))
        else:
            under_way.append(_submit(engine, new_id(dice), dice.choice(KINDS)))
        if len(under_way) >= UNDER_WAY_MAX:
            _outcome(under_way.popleft())


def new_id(dice: random.Random) -> str:
    """A ULID: 48 bits of milliseconds, 80 bits of luck."""
    value = int(time.time() * 1_000) << 80 | dice.getrandbits(80)
    return "".join(_BASE32[value >> 5 * place & 31] for place in reversed(range(26)))


def look_up(engine: goclaw.Engine, ids: list[str]) -> None:
    """Asks for runs of earlier lives."""
    for id in ids:
        try:
            run = engine.get(id)
        except goclaw.UnknownRun:
            tell("missing", id)
        else:
            _outcome(run)


def watch(engine: goclaw.Engine, start: int) -> None:
    """Follows the stream from where an earlier life had got to; every number must be there."""
    due = max(start, 1)
    for event in engine.events(start=start):
        if event.seq != due:
            tell("history", event.run, f"the watch got event {event.seq} where {due} was due")
        due = event.seq + 1
        if event.seq % WATCH_EVERY == 0:
            tell("fact", event.seq, event.run, event.type, event.task, event.attempt)


def last_look(engine: goclaw.Engine) -> None:
    """The end: every event of the store, and every run that it lists."""
    runs, events = audit(engine.events(follow=False), lambda run, what: tell("history", run, what), complete=True)
    tell("audit", runs, events)
    after = None
    while page := engine.list(limit=1_000, after=after):
        for summary in page:
            tell("listed", summary.id)
        after = page[-1].id


def _guarded(work: Any, *arguments: Any) -> threading.Thread:
    def run() -> None:
        try:
            work(*arguments)
        except goclaw.EngineClosed:
            pass
        except BaseException as error:
            tell("oops", f"{type(error).__name__}: {error}"[:1_000])

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def main() -> None:
    global _pipe
    store, _pipe, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    order = json.loads(sys.stdin.readline())
    began = time.monotonic()
    try:
        engine = goclaw.Engine(store)
    except goclaw.GoclawError as error:
        return tell("oops", f"the store does not open: {error.code}: {error}")
    tell("open", engine.recovered, time.monotonic() - began)
    known = _guarded(look_up, engine, order["look_up"])
    _guarded(watch, engine, order["watch"])
    if order["load"]:
        for submitter in range(SUBMITTERS):
            again = order["again"][submitter::SUBMITTERS]
            _guarded(load, engine, random.Random(seed * SUBMITTERS + submitter), again)
        # An end in good order is asked for with a second line; most lives end before it comes.
        sys.stdin.readline()
    else:
        load_none(engine, order["again"])
        known.join()
        _guarded(last_look, engine).join()
    engine.close(drain_timeout=0)
    tell("bye")


def load_none(engine: goclaw.Engine, again: list[list[str]]) -> None:
    """Only what earlier lives left unanswered."""
    for run in [_submit(engine, id, kind, "existing") for id, kind in again]:
        _outcome(run)


if __name__ == "__main__":
    main()
