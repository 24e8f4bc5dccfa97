"""What the driver knows, from a log of its own, and what that forbids.

Lines come through one pipe, in the order in which the child wrote them, and outlive the child. The
ledger believes nothing that goclaw stored: it compares what goclaw says after a crash with what
agents did and what waiters were told before it.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

CRASHES_MAX = 5
"""So many deaths of the process under one task may end its run as `quarantined`."""

EXPECTED = {
    "chain": {"completed"},
    "fan": {"completed"},
    "diamond": {"completed"},
    "flaky": {"completed"},
    "doomed": {"failed"},
    "called_off": {"cancelled", "completed"},
}


@dataclass(slots=True)
class Known:
    """One run, as far as the driver was told."""

    kind: str
    life: int
    acknowledged: bool = False
    outcome: tuple[str, str] | None = None
    tokens: dict[str, str] = field(default_factory=dict)
    """By task: the token in its recorded result, known because a later task or a waiter was given it."""
    executions: Counter[str] = field(default_factory=Counter)
    raised: Counter[str] = field(default_factory=Counter)
    made: dict[str, set[str]] = field(default_factory=dict)
    """By task: the tokens that its executions made up."""
    attempts: set[tuple[str, int]] = field(default_factory=set)
    keys: dict[str, str] = field(default_factory=dict)


class Ledger:
    """Takes the child's lines; `violations` lists broken promises, one precise sentence each."""

    def __init__(self) -> None:
        self.runs: dict[str, Known] = {}
        self.facts: dict[int, list[Any]] = {}
        self.key_of: dict[str, tuple[str, str]] = {}
        self.violations: list[tuple[str, str]] = []
        self.counts: Counter[str] = Counter()
        self.life = 0
        self.opened = False
        self.watched = 0

    # Lives of the child.

    def begin_life(self) -> None:
        self.life += 1
        self.opened = False

    def end_life(self, *, stopped_by_us: bool, code: int) -> None:
        """The child is gone: by our hand, or it failed us."""
        if not stopped_by_us:
            self.broken("", f"the child ended by itself in life {self.life} with code {code}")

    def broken(self, run: str, what: str) -> None:
        self.violations.append((run, what))

    # What to ask the next child.

    def unended(self) -> list[str]:
        return [id for id, run in self.runs.items() if run.outcome is None and (run.acknowledged or run.executions)]

    def unanswered(self) -> list[list[str]]:
        """Submits that were never acknowledged: the next child repeats them under their id."""
        return [[id, run.kind] for id, run in self.runs.items() if not run.acknowledged]

    def ended(self, dice: random.Random, sample: int | None) -> list[str]:
        ended = [id for id, run in self.runs.items() if run.outcome is not None]
        return ended if sample is None or len(ended) <= sample else dice.sample(ended, sample)

    # Lines.

    def note(self, line: list[Any]) -> None:
        """Takes one line of the child."""
        what, *rest = line
        self.counts[what] += 1
        getattr(self, f"_{what}")(*rest)

    def _open(self, _recovered: int, _seconds: float) -> None:
        self.opened = True

    def _try(self, run: str, kind: str) -> None:
        self.runs.setdefault(run, Known(kind, self.life))

    def _ack(self, run: str) -> None:
        self.runs[run].acknowledged = True

    def _exec(self, run: str, task: str, attempt: int, key: str, token: str, inputs: list[list[str]]) -> None:
        known = self.runs.get(run)
        if known is None:
            return self.broken(run, f"task {task} was executed of a run that nobody submitted")
        if known.outcome is not None:
            self.broken(run, f"task {task} attempt {attempt} was executed after the run's outcome {known.outcome}")
        if task in known.tokens:
            self.broken(run, f"task {task} attempt {attempt} was executed after its recorded result was passed on")
        if (task, attempt) in known.attempts:
            self.broken(run, f"attempt {attempt} of task {task} was executed twice: attempts do not tell tries apart")
        if known.keys.setdefault(task, key) != key:
            self.broken(run, f"the idempotency key of task {task} changed from {known.keys[task]} to {key}")
        if self.key_of.setdefault(key, (run, task)) != (run, task):
            self.broken(run, f"tasks {self.key_of[key]} and {(run, task)} share the idempotency key {key}")
        known.attempts.add((task, attempt))
        known.executions[task] += 1
        known.made.setdefault(task, set()).add(token)
        bound = 1 + known.raised[task] + (self.life - known.life)
        if known.executions[task] > bound:
            self.broken(run, f"task {task} was executed {known.executions[task]} times; {bound} can be accounted for")
        self._settle(run, known, inputs)

    def _raise(self, run: str, task: str) -> None:
        self.runs[run].raised[task] += 1

    def _settle(self, run: str, known: Known, results: list[list[str]]) -> None:
        """Results that were passed on are final."""
        for task, token in results:
            if token not in known.made.get(task, ()):
                self.broken(run, f"task {task} has the result {token}, which none of its executions made")
            if known.tokens.setdefault(task, token) != token:
                self.broken(run, f"task {task} has two outcomes: {known.tokens[task]} and {token}")

    def _out(self, run: str, state: str, text: str, results: list[list[str]]) -> None:
        """A waiter, or somebody who looked the run up, was told how it ended."""
        known = self.runs[run]
        allowed = EXPECTED[known.kind]
        quarantined = state == "quarantined" and self.life - known.life >= CRASHES_MAX
        if state not in allowed and not quarantined:
            self.broken(run, f"a {known.kind} run ended as {state} ({text}), not as {' or '.join(sorted(allowed))}")
        self.counts["quarantined"] += quarantined and known.outcome is None
        if known.outcome not in (None, (state, text)):
            self.broken(run, f"the run has two outcomes: {known.outcome} and {(state, text)}")
        known.outcome = (state, text)
        self._settle(run, known, results)

    def _missing(self, run: str) -> None:
        known = self.runs[run]
        why = "was acknowledged" if known.acknowledged else "had an agent at work"
        self.broken(run, f"the run {why} in life {known.life} and does not exist in life {self.life}")

    def _stuck(self, run: str, state: str, tasks: dict[str, str]) -> None:
        self.broken(run, f"the run is stuck: {state}, tasks {tasks}")

    def _fact(self, seq: int, *fact: Any) -> None:
        """A sample of the event stream: what was seen once stays as it was."""
        known = self.facts.setdefault(seq, list(fact))
        if known != list(fact):
            self.broken(fact[0], f"event {seq} was {known} and is {list(fact)}")
        self.watched = max(self.watched, seq)

    def _history(self, run: str, problem: str) -> None:
        self.broken(run, f"its events are wrong: {problem}")

    def _audit(self, runs: int, events: int) -> None:
        self.counts["audited_runs"] += runs
        self.counts["audited_events"] += events

    def _listed(self, run: str) -> None:
        if run not in self.runs:
            self.broken(run, "the store lists a run that nobody submitted")

    def _oops(self, text: str) -> None:
        self.broken("", f"the child raised in life {self.life}: {text}")

    def _bye(self) -> None:
        pass
