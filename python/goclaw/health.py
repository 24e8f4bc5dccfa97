"""How an engine is: `Engine.health` and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Status = Literal["ok", "degraded", "failing"]


@dataclass(frozen=True, slots=True)
class Incident:
    """Something held up everybody for the better part of a second, or longer.

    Attributes:
        kind: ``"loop_blocked"``: the event loop did not go round. ``"gil_held"``: nobody else got to run Python.
        agent: The guilty agent; `None` where it was no agent, as far as could be seen.
        task: Its task.
        run: Its run.
        seconds: How long it lasted, so far.
        place: Where it stood, as ``file:line in function``, where that could be seen.
        ongoing: It is not over.
    """

    kind: str
    agent: str | None
    task: str | None
    run: str | None
    seconds: float
    place: str | None
    ongoing: bool

    def __str__(self) -> str:
        who = "something other than an agent" if self.agent is None else f"{self.agent} (task {self.task})"
        what = "blocks the event loop" if self.kind == "loop_blocked" else "holds the GIL"
        where = "" if self.place is None else f" at {self.place}"
        return f"{who} {what} for {self.seconds:.1f} s{where}"


@dataclass(frozen=True, slots=True)
class StuckCall:
    """A call that was given up, by a timeout or a cancellation, and has not come back.

    Attributes:
        agent: Its agent.
        task: Its task.
        run: Its run.
        lane: Its lane.
        where: ``"thread"`` where it keeps a thread, ``"loop"`` where it is a coroutine,
            ``"process"`` where it keeps a worker process.
        since: When it was given up (UTC).
    """

    agent: str
    task: str
    run: str
    lane: str
    where: str
    since: datetime


@dataclass(frozen=True, slots=True)
class StuckMerge:
    """A merging of a session's messages that was given up, by its timeout, and has not come back.

    Attributes:
        session: The session; it has gone on.
        function: The functions that merge (`Collect.merge`, `Collect.summarize`), by path.
        since: When it began (UTC).
    """

    session: str
    function: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Health:
    """How an engine is, at one moment.

    The event loop and the interpreter are the whole process's: `loop_blocked`, `gil_held` and
    `incidents` may name agents of another engine in it.

    Attributes:
        status: ``"ok"``; ``"degraded"``: something needs a look, work goes on; ``"failing"``: nothing new is taken.
        loop_blocked: What blocks the event loop now.
        gil_held: What keeps the interpreter to itself now.
        stuck: Calls that were given up and have not come back, oldest first.
        stuck_merges: Mergings of sessions that were given up and have not come back, oldest first.
        held_lanes: Lanes that start no more threads, with how many of their threads are stuck.
        paused_lanes: Lanes that somebody has paused, by name; that alone is no bad health.
        store: Code of why the store takes nothing now, such as ``store.full``.
        embedder: What the embedder says while no vectors can be made; what is memorized is found by words.
        missing_agents: Agents that runs wait for and nobody has registered.
        incompatible_runs: How many runs wait for an agent or a lane that is not there.
        runs: How many runs are under way.
        workers: How many worker processes live.
        closing: The engine is closing.
        incidents: The latest incidents, oldest first, over or not.

    Example:
        >>> import goclaw
        >>> with goclaw.Engine() as engine:
        ...     engine.health().store is None
        True
    """

    status: Status
    loop_blocked: Incident | None
    gil_held: Incident | None
    stuck: tuple[StuckCall, ...]
    stuck_merges: tuple[StuckMerge, ...]
    held_lanes: dict[str, int]
    paused_lanes: tuple[str, ...]
    store: str | None
    embedder: str | None
    missing_agents: tuple[str, ...]
    incompatible_runs: int
    runs: int
    workers: int
    closing: bool
    incidents: tuple[Incident, ...]

    @property
    def stuck_threads(self) -> tuple[StuckCall, ...]:
        """The stuck calls that keep a thread each."""
        return tuple(call for call in self.stuck if call.where == "thread")

    def __str__(self) -> str:
        found = [str(incident) for incident in (self.loop_blocked, self.gil_held) if incident is not None]
        if self.store is not None:
            found.append(f"the store takes nothing ({self.store})")
        if self.embedder is not None:
            found.append(f"no vectors are made ({self.embedder})")
        if self.stuck:
            agents = ", ".join(sorted({call.agent for call in self.stuck}))
            found.append(f"{len(self.stuck)} calls do not come back ({agents})")
        found += [f"{merge.function} does not come back (session {merge.session})" for merge in self.stuck_merges]
        found += [f"lane {lane} starts no more threads ({stuck} are stuck)" for lane, stuck in self.held_lanes.items()]
        found += [f"lane {lane} is paused" for lane in self.paused_lanes]
        if self.missing_agents:
            found.append(f"agents are missing: {', '.join(self.missing_agents)}")
        if self.incompatible_runs:
            found.append(f"{self.incompatible_runs} runs wait for what is not there")
        if self.closing:
            found.append("closing")
        return f"{self.status}: " + ("; ".join(found) if found else f"{self.runs} runs under way")


def _stuck(agent: str, task: str, run: str, lane: str, where: str, since_ms: int) -> StuckCall:
    return StuckCall(agent, task, run, lane, where, _EPOCH + timedelta(milliseconds=since_ms))


def _health(row: dict[str, Any], embedder: str | None) -> Health:
    incidents = tuple(Incident(*incident) for incident in row["incidents"])
    now = {incident.kind: incident for incident in incidents if incident.ongoing}
    stuck = tuple(_stuck(*call) for call in row["stuck"])
    store = None if row["store"] is None else row["store"][0]
    merges = tuple(
        StuckMerge(session, function, _EPOCH + timedelta(milliseconds=since))
        for session, function, since in row["stuck_merges"]
    )
    status: Status = "ok"
    waits = row["held_lanes"] or row["missing_agents"] or row["incompatible_runs"]
    if now or stuck or merges or embedder is not None or waits:
        status = "degraded"
    if store is not None or row["closing"]:
        status = "failing"
    return Health(
        status=status,
        loop_blocked=now.get("loop_blocked"),
        gil_held=now.get("gil_held"),
        stuck=stuck,
        stuck_merges=merges,
        held_lanes=dict(row["held_lanes"]),
        paused_lanes=tuple(row["paused_lanes"]),
        store=store,
        embedder=embedder,
        missing_agents=tuple(row["missing_agents"]),
        incompatible_runs=row["incompatible_runs"],
        runs=row["runs"],
        workers=row["workers"],
        closing=row["closing"],
        incidents=incidents,
    )
