"""Why something is not running, in one answer."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .errors import GoclawError

if TYPE_CHECKING:
    from .run import Run
    from .views import TaskView


@dataclass(frozen=True, slots=True)
class LanePlace:
    """Where tasks stand in a lane.

    Attributes:
        lane: The lane.
        queued: They have a place in its queue; else the queue is full and they wait for one.
        tasks: How many they are.
        ahead: Tasks that are likely to go first.
        running: Permits of the lane that are taken.
        concurrency: Permits that it has.
        free: Permits that such a task could have now: of the lane, its threads and the whole engine.
        paused: The lane is paused.
        held: So many of its threads are stuck that it starts no more of them.
        ready_in: Seconds until the lane's rate, a budget or a pause that an agent asked for lets them begin.
        priority: Their priority.
        seconds: How long they have waited.
    """

    lane: str
    queued: bool
    tasks: int
    ahead: int
    running: int
    concurrency: int
    free: int
    paused: bool
    held: bool
    ready_in: float | None
    priority: int
    seconds: float

    def __str__(self) -> str:
        where = "waits in" if self.queued else "waits for a place in the full"
        if self.paused:
            why = "which is paused"
        elif self.held:
            why = "which starts no more threads, as too many are stuck"
        elif self.ready_in:
            why = f"whose limiter lets it begin in {_seconds(self.ready_in)}"
        elif self.running >= self.concurrency:
            why = f"where {self.running} of {self.concurrency} permits are taken"
        elif self.free == 0:
            why = "whose permits are free, but the engine's or its threads are not"
        else:
            why = "and is about to begin"
        ahead = "" if self.ahead == 0 else f", behind {_count(self.ahead, 'task')}"
        return f"{where} lane `{self.lane}`, {why}{ahead}"


@dataclass(frozen=True, slots=True)
class Told:
    """How calls that run were told to stop.

    Attributes:
        rung: The rung of the ladder that they are on: ``"token"`` (`ctx.cancelled` is true) or ``"exception"`` (raised
            in their thread or process); coroutines are ``"cancelled"``, then ``"cancelled again"``.
        seconds: How long they have been on it.
        given_up_in: Seconds until they are given up.
    """

    rung: str
    seconds: float
    given_up_in: float

    def __str__(self) -> str:
        how = {
            "token": "was told to stop by `ctx.cancelled`",
            "exception": "had an exception raised in it",
            "cancelled": "was cancelled",
            "cancelled again": "was cancelled twice",
        }[self.rung]
        return f"{how} {_seconds(self.seconds)} ago, has not stopped, and is given up in {_seconds(self.given_up_in)}"


@dataclass(frozen=True, slots=True)
class Stopping:
    """A run that is being stopped.

    Attributes:
        reason: Why.
        seconds: How long ago it was asked to stop.
    """

    reason: str
    seconds: float

    def __str__(self) -> str:
        return f"it has been stopping for {_seconds(self.seconds)}" + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True, slots=True)
class Running:
    """Attempts that are under way.

    Attributes:
        calls: How many.
        attempt: Which attempt it is.
        seconds: How long the oldest has run.
        worker: ``"thread"``, ``"loop"`` or ``"process"``.
        timeout: How long an attempt may take, in seconds.
        lent: How many wait for a run of their own, and have lent their permits.
        returning: Of those, how many have what they waited for, and go on when there is a permit again.
        awaits: Ids of the runs that they wait for; of many, some.
        names: Which calls they are; of many, some.
        told: How they were told to stop, where they were.
    """

    calls: int
    attempt: int
    seconds: float
    worker: str
    timeout: float | None
    lent: int = 0
    returning: int = 0
    awaits: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    told: Told | None = None

    def __str__(self) -> str:
        what = "runs" if self.calls == 1 else f"runs {self.calls} times"
        where = {"thread": "on a thread", "loop": "on the event loop", "process": "in a worker process"}[self.worker]
        said = f"{what} {where} for {_seconds(self.seconds)}" + (f", in attempt {self.attempt}" * (self.attempt > 1))
        waits = self.lent - self.returning
        if waits > 0:
            said += f", {self._of(waits)} for a run of its own, its permit lent meanwhile"
        if self.awaits:
            said += f" (for {', '.join(self.awaits)})"
        if self.returning > 0:
            said += f", {self._of(self.returning)} for a permit to go on"
        if self.told is not None:
            names = ", ".join(f"`{name}`" for name in self.names)
            said += f"; {names} {self.told}"
        return said

    def _of(self, n: int) -> str:
        return f"{'and' if n == self.calls else f'of which {n}'} {'waits' if n == 1 else 'wait'}"


@dataclass(frozen=True, slots=True)
class SessionPlace:
    """A run's place in its session.

    Attributes:
        key: The session.
        state: ``"holds"``, ``"waits"``, or ``"parked"``: it lets others go first until its retry is due.
        holder: Id of the run that has it; `None` where nobody has, as while messages are collected.
        ahead: Runs that go first, the holder included.
    """

    key: str
    state: str
    holder: str | None
    ahead: int

    def __str__(self) -> str:
        if self.state == "holds":
            return f"it has session `{self.key}`"
        what = "waits for" if self.state == "waits" else "has parked in"
        if self.holder is not None:
            others = self.ahead - 1
            who = f"run {self.holder} has" + (f", behind {_count(others, 'other run')}" if others > 0 else "")
            return f"it {what} session `{self.key}`, which {who}"
        if self.ahead:
            return f"it {what} session `{self.key}`, behind {_count(self.ahead, 'run')}"
        why = "messages are being collected, or it goes on in a moment"
        return f"it {what} session `{self.key}`, which nobody has: {why}"


@dataclass(frozen=True, slots=True)
class TaskExplanation:
    """Where one task is, and why.

    Attributes:
        task: Its id.
        agent: Its agent.
        lane: The lane that it names.
        state: Its state.
        children: Of a map that knows its items, how many there are.
        ended: Of these, how many have ended.
        waits_for: Ids of tasks that must end first; of many, some.
        waits_for_more: How many beside those.
        places: Where it stands in lanes.
        running: What of it is under way.
        retry_in: Seconds until its next attempt.
        missing: ``"agent"`` or ``"lane"``, where this process does not have it.
        resolving: Its condition, items or rate key are being worked out.
        session: It is ready, and waits until its run has its session.
        journal: It is ready, and waits for what comes before it to be durable.
        error: What its last failed attempt said.
    """

    task: str
    agent: str
    lane: str
    state: str
    children: int | None = None
    ended: int | None = None
    waits_for: tuple[str, ...] = ()
    waits_for_more: int = 0
    places: tuple[LanePlace, ...] = ()
    running: Running | None = None
    retry_in: float | None = None
    missing: str | None = None
    resolving: bool = False
    session: bool = False
    journal: bool = False
    error: str | None = None

    def __str__(self) -> str:
        reasons = list(self._reasons())
        said = f" ({self.error})" if self.error else ""
        return f"task `{self.task}` " + ("; ".join(reasons) if reasons else f"is {self.state}") + said

    def _reasons(self) -> list[str]:
        reasons = [] if self.running is None else [str(self.running)]
        reasons.extend(_clauses(self.places))
        if self.waits_for:
            names = ", ".join(f"`{name}`" for name in self.waits_for)
            more = f" and {self.waits_for_more} more" if self.waits_for_more else ""
            reasons.append(f"waits for {names}{more}")
        if self.retry_in is not None:
            reasons.append(f"is tried again in {_seconds(self.retry_in)}")
        if self.missing == "agent":
            reasons.append(f"waits for agent `{self.agent}`, which nobody has registered")
        elif self.missing == "lane":
            reasons.append(f"waits for lane `{self.lane}`, which this engine does not have")
        if self.resolving:
            reasons.append("has its condition, items or rate key worked out")
        if self.session:
            reasons.append("is ready and waits for the session of its run")
        if self.journal:
            reasons.append("is ready and waits for the journal")
        return reasons


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a run, or one task of it, is not running; `str` of it is a sentence or two.

    Attributes:
        run: The run's id.
        state: Its state.
        tasks: The task that was asked for, or the open ones that do not merely wait for others.
        more: How many other tasks are open.
        session: Its place in its session, where it has one.
        reason: Why it ended as it did, or stands still.
        stopping: Since when it is being stopped, and why.
        closing: The engine is closing: nothing begins any more.
        stalled: Why the store takes nothing; nothing begins until it does.
    """

    run: str
    state: str
    tasks: tuple[TaskExplanation, ...] = ()
    more: int = 0
    session: SessionPlace | None = None
    reason: str | None = None
    stopping: Stopping | None = None
    closing: bool = False
    stalled: str | None = None

    def __str__(self) -> str:
        said = [f"run {self.run} is {self.state}" + (f": {self.reason}" if self.reason else "")]
        if self.stopping is not None:
            said.append(str(self.stopping))
        if self.closing:
            said.append("the engine is closing, so nothing begins any more")
        if self.stalled:
            said.append(f"the store takes nothing: {self.stalled}")
        if self.session is not None and self.session.state != "holds":
            said.append(str(self.session))
        said.extend(map(str, self.tasks))
        if self.more:
            said.append(f"{_count(self.more, 'other task')} {'is' if self.more == 1 else 'are'} open")
        return ". ".join(text[0].upper() + text[1:] for text in said) + "."


def read(found_json: str) -> Explanation:
    """The explanation that the core wrote."""
    found = json.loads(found_json)
    session, stopping = found.pop("session"), found.pop("stopping")
    found["stopping"] = None if stopping is None else Stopping(**stopping)
    tasks = tuple(_task(task) for task in found.pop("tasks"))
    return Explanation(tasks=tasks, session=None if session is None else SessionPlace(**session), **found)


def of_ended(run: Run[Any], task: str | None) -> Explanation:
    """The explanation of a run that has ended.

    Raises:
        GoclawError: `run.unknown_task`.
    """
    tasks: tuple[TaskExplanation, ...] = ()
    if task is not None:
        views = run.tasks
        view = views.get(task) or views.get(task.partition("[")[0])
        if view is None:
            raise GoclawError(
                f"run `{run.id}` has no task `{task}`", code="run.unknown_task", help="run.tasks names them"
            )
        tasks = (_ended(view),)
    try:
        error = run.error
        if run.state == "incompatible":
            # A run that cannot be replayed answers every look at it with the reason.
            _ = run.tags
    except GoclawError as unreadable:
        error = unreadable
    return Explanation(run.id, run.state, tasks, reason=_reason(run, error))


def _clauses(places: tuple[LanePlace, ...]) -> list[str]:
    """What places say: of those that say the same but for who is ahead, the one with the fewest ahead."""
    said: dict[str, LanePlace] = {}
    for place in sorted(places, key=lambda place: place.ahead):
        said.setdefault(str(replace(place, ahead=0, ready_in=place.ready_in and round(place.ready_in, 1))), place)
    return [str(place) for place in said.values()]


def _reason(run: Run[Any], error: GoclawError | None) -> str | None:
    """What an error says beside that the run has ended."""
    if error is None:
        return None
    said = str(error)
    ended = said.startswith(f"run `{run.id}` ") and run.state != "incompatible"
    return (said.partition(": ")[2] or None) if ended else said


def _ended(view: TaskView) -> TaskExplanation:
    return TaskExplanation(view.id, view.agent, view.lane, view.state, view.children, view.children, error=view.error)


def _task(found: dict[str, Any]) -> TaskExplanation:
    told: dict[str, Any] = {key: found[key] for key in ("task", "agent", "lane", "state")}
    if found["children"] is not None:
        told["children"], told["ended"] = found["children"]
    places = []
    for why in found["why"]:
        kind = why.pop("kind")
        if kind == "tasks":
            told["waits_for"], told["waits_for_more"] = tuple(why["names"]), why["more"]
        elif kind == "queued":
            places.append(LanePlace(seconds=why.pop("for"), **why))
        elif kind == "running":
            names, awaits, stop = tuple(why.pop("names")), tuple(why.pop("awaits")), why.pop("told")
            stop = None if stop is None else Told(**stop)
            told["running"] = Running(seconds=why.pop("for"), names=names, awaits=awaits, told=stop, **why)
        elif kind == "retry":
            told["retry_in"], told["error"] = why["in"], why["error"]
        elif kind in ("agent", "lane"):
            told["missing"] = kind
        elif kind == "ended":
            told["error"] = why["error"]
        else:
            told[kind] = True
    return TaskExplanation(places=tuple(places), **told)


def _seconds(seconds: float) -> str:
    return f"{round(seconds * 1000)} ms" if seconds < 1 else f"{seconds:.1f} s"


def _count(n: int, what: str) -> str:
    return f"{n} {what}" + ("" if n == 1 else "s")
