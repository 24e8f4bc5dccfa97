"""Lanes at work: rates, keys, budgets, pauses, full queues, order, permits, as agents and callers see them."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import goclaw
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import process_agents

WAIT = 20
LANE = "narrow"

_gates: dict[str, threading.Event] = defaultdict(threading.Event)
_inside: dict[str, threading.Event] = defaultdict(threading.Event)
_order: list[str] = []


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    yield
    for gate in _gates.values():
        gate.set()
    _gates.clear()
    _inside.clear()
    _order.clear()


@goclaw.agent(name="limits.note", retries=0)
def note(text: str = "") -> str:
    _order.append(text)
    return text


@goclaw.agent(name="limits.anote", retries=0)
async def anote(text: str) -> str:
    _order.append(text)
    await asyncio.sleep(0)
    return text


@goclaw.agent(name="limits.hold", retries=0)
def hold(text: str = "hold") -> str:
    _inside[text].set()
    assert _gates[text].wait(WAIT)
    return text


@goclaw.agent(name="limits.spend", retries=0)
def spend(unit: str, n: int, ctx: goclaw.Context) -> str:
    try:
        ctx.charge(unit, n)
    except goclaw.GoclawError as refused:
        return refused.code
    return "charged"


def one(agent: Any, lane: str = LANE, **options: Any) -> goclaw.Workflow:
    """A workflow of one task that takes its arguments from the input."""
    return goclaw.Workflow(f"one.{agent.name}").task("a", agent, lane=lane, **options)


def held(engine: goclaw.Engine, text: str = "hold") -> goclaw.Run[Any]:
    """Takes one permit of the lane, until its gate opens."""
    run = engine.submit(one(hold), {"text": text})
    assert _inside[text].wait(WAIT)
    return run


def types(run: goclaw.Run[Any]) -> list[str]:
    return [event.type for event in run.events(follow=False)]


def waits_in_queue(engine: goclaw.Engine, run: goclaw.Run[Any], queued: int = 1, lane: str = LANE) -> None:
    """It has a place, permits are free, and it does not begin: its limiter holds it back."""
    for event in run.events():
        if event.type == "task.scheduled":
            break
    row = engine.lanes[lane]
    assert (row.running, row.queued, row.waiting) == (0, queued, 0)
    assert "task.started" not in types(run)


# Rates


def test_a_burst_goes_at_once_and_the_next_waits() -> None:
    with goclaw.Engine(lanes=[goclaw.Lane(LANE, 8, rate="2/h", burst=2)]) as engine:
        first, second, third = engine.submit_many(one(note), [{"text": text} for text in "abc"])
        assert (first.result(WAIT), second.result(WAIT)) == ("a", "b")
        waits_in_queue(engine, third)
        third.cancel()
        assert engine.lanes[LANE].queued == 0


@pytest.mark.parametrize("agent", [note, anote])
def test_a_rate_holds_in_every_window(agent: Any) -> None:
    """In every window of the events' own times: at most a burst, and what refills meanwhile."""
    period, burst, n = 20, 3, 15
    lane = goclaw.Lane(LANE, 64, rate=f"1/{period}ms", burst=burst)
    flow = goclaw.Workflow("many").task("a", agent, lane=LANE, for_each={"as": "text", "items": [*map(str, range(n))]})
    with goclaw.Engine(lanes=[lane]) as engine:
        run = engine.submit(flow)
        run.result(WAIT)
        began = [event.at for event in run.events(follow=False) if event.type == "task.started"]
    assert len(began) == n
    for lo in range(n):
        for hi in range(lo, n):
            window = (began[hi] - began[lo]).total_seconds() * 1_000
            # A grant is stamped with the millisecond in which it was decided.
            assert hi - lo + 1 <= burst + (window + 1) / period


def test_tenants_are_counted_apart() -> None:
    lane = goclaw.Lane(LANE, 8, rate="1/h", rate_key="{{ input.text }}")
    with goclaw.Engine(lanes=[lane]) as engine:
        runs = engine.submit_many(one(note), [{"text": text} for text in "abac"])
        assert [runs[at].result(WAIT) for at in (0, 1, 3)] == ["a", "b", "c"]
        waits_in_queue(engine, runs[2])


def test_a_key_can_be_what_another_task_answered() -> None:
    @goclaw.workflow
    def keyed(tenant: str) -> str:
        whose = note(tenant)
        return note.options(lane=LANE, rate_key=whose)("x")

    with goclaw.Engine(lanes=[goclaw.Lane(LANE, 8, rate="1/h")]) as engine:
        assert [engine.submit(keyed, {"tenant": tenant}).result(WAIT) for tenant in "ab"] == ["x", "x"]
        third = engine.submit(keyed, {"tenant": "a"})
        for event in third.events():
            if event.type == "task.scheduled" and event.task != "note":
                break
        assert (engine.lanes[LANE].running, engine.lanes[LANE].queued) == (0, 1)


def test_a_cost_takes_as_many_units() -> None:
    with goclaw.Engine(lanes=[goclaw.Lane(LANE, 8, rate="10/h")]) as engine:
        for cost in (6, 4):
            engine.submit(one(note, cost=cost), {"text": "x"}).result(WAIT)
        waits_in_queue(engine, engine.submit(one(note, cost=1), {"text": "x"}))
        with pytest.raises(goclaw.WorkflowError, match="cost"):
            engine.submit(one(note, cost=11), {"text": "x"})


# Budgets


@pytest.mark.parametrize("style", ["thread", "process", "coroutine in a process"])
def test_a_budget_is_charged_afterwards(style: str) -> None:
    if style != "thread" and sys.platform != "linux":
        pytest.skip("worker processes are there on Linux only")
    agents = {"thread": spend, "process": process_agents.spend}
    flow = one(agents.get(style, process_agents.aspend))
    lane = goclaw.Lane(LANE, 8, budgets={"tokens": "100/h"})
    with goclaw.Engine(lanes=[lane]) as engine:
        assert engine.submit(flow, {"unit": "token", "n": 1}).result(WAIT) == "lane.budget"
        assert engine.submit(flow, {"unit": "tokens", "n": 60}).result(WAIT) == "charged"
        assert engine.submit(flow, {"unit": "tokens", "n": 600}).result(WAIT) == "charged"
        waits_in_queue(engine, engine.submit(flow, {"unit": "tokens", "n": 1}))


@pytest.mark.parametrize(("n", "code"), [(5, "lane.budget"), (-1, "lane.charge"), (1.5, "lane.charge")])
def test_a_charge_that_makes_no_sense_is_final(n: Any, code: str) -> None:
    @goclaw.agent(name="limits.mischarge", retry=goclaw.Retry(retries=5, initial="10ms", on=(Exception,), never=()))
    def mischarge(ctx: goclaw.Context) -> None:
        ctx.charge("words" if code == "lane.budget" else "tokens", n)

    with goclaw.Engine(lanes=[goclaw.Lane(LANE, 1, budgets={"tokens": "100/h"})]) as engine:
        run = engine.submit(goclaw.Workflow("mischarge").task("a", mischarge, lane=LANE))
        with pytest.raises(goclaw.TaskFailed) as failed:
            run.result(WAIT)
        cause = failed.value.__cause__
        assert isinstance(cause, goclaw.ChargeRefused)
        assert cause.code == code and cause.help
        assert failed.value.attempts == 1


def test_a_batch_does_not_outrun_a_budget() -> None:
    @goclaw.agent(name="limits.each", retries=0)
    def each(x: int, ctx: goclaw.Context) -> int:
        ctx.charge("tokens", 0 if x < 64 else 60)
        if x == 65:
            _inside["second"].set()
        return x

    flow = goclaw.Workflow("each").task("a", each, for_each="{{ input }}", lane=LANE)
    with goclaw.Engine(lanes=[goclaw.Lane(LANE, 1, budgets={"tokens": "100/h"})], drain_timeout=0) as engine:
        # The engine learns that the calls are short, and would hand out many at once.
        assert len(engine.submit(flow, list(range(64))).result(WAIT)) == 64
        run = engine.submit(flow, list(range(64, 84)))
        assert _inside["second"].wait(WAIT)
        end = time.monotonic() + WAIT
        while (row := engine.lanes[LANE].stats).running and time.monotonic() < end:
            pass
        assert (row.running, row.queued, row.granted) == (0, 18, 66)
        run.kill()


def test_a_redirected_task_charges_the_lane_that_has_the_budget() -> None:
    lanes = [
        goclaw.Lane(LANE, 1, capacity=1, on_full=goclaw.redirect("second"), budgets={"tokens": "100/h"}),
        goclaw.Lane("second", 4, budgets={"pages": "100/h"}),
    ]
    with goclaw.Engine(lanes=lanes, drain_timeout=0) as engine:
        held(engine)
        engine.submit(one(note), {"text": "queued"})
        for unit, answer in (("tokens", "charged"), ("words", "lane.budget"), ("pages", "charged")):
            run = engine.submit(one(spend), {"unit": unit, "n": 500})
            assert run.result(WAIT) == answer
            assert types(run).count("lane.redirected") == 1
            if unit == "tokens":
                # The debt is of the lane that the task was for: the other one goes on.
                assert engine.lanes[LANE].stats.rate_next is not None
        waits_in_queue(engine, engine.submit(one(spend, "second"), {"unit": "pages", "n": 1}), lane="second")


def test_a_budget_has_keys_as_well() -> None:
    lane = goclaw.Lane(LANE, 8, budgets={"tokens": "100/h"}, rate_key="{{ input.unit }}/{{ input.n > 1000 }}")
    with goclaw.Engine(lanes=[lane]) as engine:
        engine.submit(one(spend), {"unit": "tokens", "n": 5_000}).result(WAIT)
        engine.submit(one(spend), {"unit": "tokens", "n": 5}).result(WAIT)
        waits_in_queue(engine, engine.submit(one(spend), {"unit": "tokens", "n": 2_000}))


def test_what_an_agent_charges_after_it_was_given_up_counts() -> None:
    charged = threading.Event()

    @goclaw.agent(name="limits.late", retries=0)
    def late(ctx: goclaw.Context) -> None:
        try:
            assert _gates["late"].wait(WAIT)
        finally:
            ctx.charge("tokens", 500)
            charged.set()

    flow = goclaw.Workflow("late").task("a", late, lane=LANE, timeout="20ms")
    with goclaw.Engine(lanes=[goclaw.Lane(LANE, 8, budgets={"tokens": "100/h"})]) as engine:
        with pytest.raises(goclaw.TaskFailed):
            engine.submit(flow).result(WAIT)
        _gates["late"].set()
        assert charged.wait(WAIT)
        waits_in_queue(engine, engine.submit(one(note), {"text": "x"}))


# Pauses that agents ask for


def test_an_agent_that_is_told_to_wait_burns_no_retry_and_holds_its_key_alone() -> None:
    asked = Counter[str]()

    @goclaw.agent(name="limits.throttled", retries=0)
    def throttled(text: str) -> str:
        asked[text] += 1
        if text == "slow" and asked[text] <= 3:
            raise goclaw.RetryAfter("10ms")
        if text == "down":
            raise goclaw.RetryAfter("1h")
        return text

    lane = goclaw.Lane(LANE, 8, rate="1000/s", rate_key="{{ input.text }}")
    with goclaw.Engine(lanes=[lane]) as engine:
        slow = engine.submit(one(throttled), {"text": "slow"})
        assert slow.result(WAIT) == "slow"
        assert asked["slow"] == 4
        assert types(slow).count("task.retrying") == 3
        down = engine.submit(one(throttled), {"text": "down"})
        for event in down.events():
            if event.type == "task.retrying":
                break
        assert engine.submit(one(throttled), {"text": "up"}).result(WAIT) == "up"
        waits_in_queue(engine, engine.submit(one(throttled), {"text": "down"}))
        assert asked["down"] == 1


def test_a_lane_without_limits_is_not_held() -> None:
    @goclaw.agent(name="limits.down", retries=0)
    def down() -> None:
        raise goclaw.RetryAfter("1h")

    with goclaw.Engine(lanes=[goclaw.Lane(LANE, 1)]) as engine:
        run = engine.submit(goclaw.Workflow("down").task("a", down, lane=LANE))
        for event in run.events():
            if event.type == "task.retrying":
                break
        assert engine.submit(one(note), {"text": "x"}).result(WAIT) == "x"


# Full lanes


def dropped(run: goclaw.Run[Any]) -> None:
    with pytest.raises(goclaw.TaskFailed) as failed:
        run.result(WAIT)
    cause = failed.value.__cause__
    assert isinstance(cause, goclaw.LaneDropped)
    assert (failed.value.code, cause.code) == ("lane.dropped", "lane.dropped")
    assert failed.value.attempts == 0
    kinds = types(run)
    assert "task.started" not in kinds
    assert kinds.index("lane.dropped") < kinds.index("task.failed") < kinds.index("run.failed")


@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.parametrize("policy", ["drop_newest", "drop_oldest"])
def test_a_full_lane_drops(policy: Any, memory: bool, tmp_path: Path) -> None:
    lane = goclaw.Lane(LANE, 1, capacity=1, on_full=policy)
    with goclaw.Engine(None if memory else tmp_path / "s", lanes=[lane], drain_timeout=0) as engine:
        first = held(engine)
        second, third = (engine.submit(one(note), {"text": text}) for text in "ab")
        stays, goes = (second, third) if policy == "drop_newest" else (third, second)
        dropped(goes)
        _gates["hold"].set()
        assert (first.result(WAIT), stays.result(WAIT)) == ("hold", "a" if stays is second else "b")
        assert len(_order) == 1


def test_the_first_of_many_takes_the_free_permit_before_anything_is_dropped() -> None:
    lane = goclaw.Lane(LANE, 1, capacity=5, on_full="drop_oldest")
    flow = goclaw.Workflow("many").task("a", hold, for_each="{{ input }}", lane=LANE)
    with goclaw.Engine(lanes=[lane], drain_timeout=0) as engine:
        run = engine.submit(flow, [str(n) for n in range(20)])
        # A child that is dropped ends the others, so nobody may have begun.
        assert run.wait(WAIT)
        children = run.children("a")
        assert children[0].error is None and children[1].error is not None
        row = engine.lanes[LANE].stats
        assert row.granted == 1 and row.dropped > 0


def test_a_dropped_task_is_a_failure_like_any_other() -> None:
    """A trigger that takes failures goes on after it."""
    lane = goclaw.Lane(LANE, 1, capacity=1, on_full="drop_newest")
    flow = goclaw.Workflow("w", on_failure="continue").task("a", note, lane=LANE, args={"text": "a"})
    flow.task("b", note, deps=["a"], trigger="all_done", args={"text": "b"})
    with goclaw.Engine(lanes=[lane], drain_timeout=0) as engine:
        held(engine)
        engine.submit(one(note), {"text": "queued"})
        run = engine.submit(flow)
        with pytest.raises(goclaw.TaskFailed):
            run.result(WAIT)
        assert _order == ["b"]


def test_a_full_lane_redirects() -> None:
    lanes = [
        goclaw.Lane(LANE, 1, capacity=1, on_full=goclaw.redirect("second")),
        goclaw.Lane("second", 1, capacity=1, on_full=goclaw.redirect("third")),
        goclaw.Lane("third", 4),
    ]
    with goclaw.Engine(lanes=lanes, drain_timeout=0) as engine:
        held(engine)
        engine.submit(one(note), {"text": "queued"})
        engine.submit(one(hold), {"text": "second"})
        assert _inside["second"].wait(WAIT)
        engine.submit(one(note), {"text": "queued, too"})
        far = engine.submit(one(note), {"text": "far"})
        assert far.result(WAIT) == "far"
        assert types(far).count("lane.redirected") == 2
        assert [engine.lanes[name].queued for name in (LANE, "second", "third")] == [1, 1, 0]


@pytest.mark.parametrize(
    ("targets", "code"),
    [
        ({"x": "y", "y": "x"}, "lane.redirect_cycle"),
        ({"x": "y", "y": "z", "z": "x"}, "lane.redirect_cycle"),
        ({"x": "nowhere"}, "lane.unknown"),
    ],
)
def test_redirects_that_lead_nowhere_are_refused(targets: dict[str, str], code: str) -> None:
    lanes = [goclaw.Lane(name, 1, on_full=goclaw.redirect(to)) for name, to in targets.items()]
    with pytest.raises(goclaw.GoclawError) as refused:
        goclaw.Engine(lanes=lanes)
    assert refused.value.code == code


def test_every_task_that_came_is_accounted_for() -> None:
    lanes = [
        goclaw.Lane(LANE, 1, capacity=2, on_full=goclaw.redirect("newest")),
        goclaw.Lane("newest", 1, capacity=2, on_full="drop_newest"),
        goclaw.Lane("oldest", 1, capacity=2, on_full="drop_oldest"),
        goclaw.Lane("block", 1, capacity=2, timeout="1ms"),
    ]
    names = [lane.name for lane in lanes]
    with goclaw.Engine(lanes=lanes, drain_timeout=0) as engine:
        for name in names:
            engine.submit(one(hold, lane=name), {"text": name})
            assert _inside[name].wait(WAIT)
        for name in names[:3]:
            engine.submit_many(one(note, lane=name), [{"text": "x"}] * 10)
        engine.submit_many(one(note, lane="block"), [{"text": "x"}] * 2)
        with pytest.raises(goclaw.LaneFull):
            engine.submit(one(note, lane="block"), {"text": "x"})
        rows = [engine.lanes[name].stats for name in names]
        for row in rows:
            assert row.offered == row.accepted + row.redirected + row.dropped + row.waiting, row
        told = [(row.offered, row.redirected, row.dropped, row.rejected, row.queued, row.granted) for row in rows]
        assert told == [(11, 8, 0, 0, 2, 1), (19, 0, 16, 0, 2, 1), (11, 0, 8, 0, 2, 1), (3, 0, 0, 1, 2, 1)]


# Order


def test_a_higher_priority_goes_first() -> None:
    with goclaw.Engine(lanes=[goclaw.Lane(LANE, 1)]) as engine:
        held(engine)
        wanted = [("c", 0), ("a", 5), ("d", 0), ("b", 5), ("e", -5)]
        runs = [engine.submit(one(note), {"text": text}, priority=priority) for text, priority in wanted]
        _gates["hold"].set()
        for run in runs:
            run.result(WAIT)
        assert "".join(_order) == "abcde"


@pytest.mark.parametrize(
    ("fair", "weight", "order"),
    [(True, 1, "babababa"), (True, 2, "bbabbaaa"), (False, 1, "bbbbaaaa")],
)
def test_sessions_take_turns(fair: bool, weight: int, order: str) -> None:
    flow = goclaw.Workflow("four").task("a", anote, lane=LANE, for_each={"as": "text", "items": "{{ input.texts }}"})
    with goclaw.Engine(lanes=[goclaw.Lane(LANE, 1, fair=fair)]) as engine:
        held(engine)
        weights = {"b": weight, "a": 1}
        runs = [
            engine.submit(flow, {"texts": [key] * 4}, session=key, weight=weight) for key, weight in weights.items()
        ]
        for run in runs:
            for event in run.events():
                if event.type == "task.scheduled":
                    break
        _gates["hold"].set()
        for run in runs:
            run.result(WAIT)
        assert "".join(_order) == order


# Permits


class Meter:
    """How many are inside at once."""

    def __init__(self) -> None:
        self.now = self.most = self.total = 0
        self.lock = threading.Lock()

    def __enter__(self) -> None:
        with self.lock:
            self.now += 1
            self.total += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.now -= 1


def test_parents_wait_for_children_in_a_lane_of_one_and_never_two_work_at_once() -> None:
    meter = Meter()

    @goclaw.agent(name="limits.child", retries=0)
    def child(text: str) -> str:
        with meter:
            return text

    @goclaw.agent(name="limits.parent", retries=0)
    def parent(text: str) -> str:
        with meter:
            pass
        # Both lend the permit, since a submit may have to wait as well.
        answer: str = engine.submit(one(child), {"text": text}).result(WAIT)
        with meter:
            return answer

    with goclaw.Engine(lanes=[goclaw.Lane(LANE, 1)]) as engine:
        runs = engine.submit_many(one(parent), [{"text": str(at)} for at in range(20)])
        assert [run.result(WAIT) for run in runs] == [str(at) for at in range(20)]
    assert (meter.most, meter.total) == (1, 60)


@pytest.mark.parametrize("agent", ["thread", "loop"])
def test_from_64_threads_never_one_over(agent: str) -> None:
    meter = Meter()

    @goclaw.agent(name="limits.metered", retries=0)
    def metered(text: str) -> str:
        with meter:
            return text

    @goclaw.agent(name="limits.ametered", retries=0)
    async def ametered(text: str) -> str:
        with meter:
            await asyncio.sleep(0)
            return text

    flow = one(metered if agent == "thread" else ametered)
    lane = goclaw.Lane(LANE, 3, capacity=5)

    def submit(engine: goclaw.Engine, done: list[Any]) -> Callable[[], None]:
        def go() -> None:
            for at in range(10):
                done.append(engine.submit(flow, {"text": str(at)}).result(WAIT))

        return go

    done: list[Any] = []
    with goclaw.Engine(lanes=[lane]) as engine:
        threads = [threading.Thread(target=submit(engine, done)) for _ in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        row = engine.lanes[LANE]
        assert (row.running, row.queued, row.waiting) == (0, 0, 0)
    assert (len(done), meter.total) == (640, 640)
    assert 1 <= meter.most <= 3
