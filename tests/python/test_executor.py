"""The Python executor by itself: calls, outcomes, stopping, coroutines, helping. No engine involved."""

from __future__ import annotations

import asyncio
import contextvars
import datetime
import gc
import itertools
import json
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import goclaw
import pytest
from goclaw import _goclaw
from goclaw.context import current
from goclaw.errors import Cancelled

_selftest = _goclaw._selftest
_names = itertools.count()


def register(fn: Callable[..., Any], params: str = "", *, adapters: Any = None, name: str | None = None) -> str:
    """Registers under a fresh name; `params` are names, `ctx` is the context, `p?` is optional."""
    name = name or f"test.{fn.__name__}.{next(_names)}"
    listed = [{"name": p.rstrip("?"), "required": not p.endswith("?"), "context": p == "ctx"} for p in params.split()]
    info = {"name": name, "params": listed, "isolation": "auto"}
    _goclaw.register_agent(name, fn, json.dumps(info), asyncio.iscoroutinefunction(fn), adapters)
    return name


@pytest.fixture
def driver():
    driver = _selftest.Driver()
    yield driver
    driver.close(2000)


def task(agent: str, **fields: Any) -> str:
    return json.dumps({"id": "t", "agent": agent, **fields})


def mapped(agent: str, param: str = "x", **fields: Any) -> str:
    return task(agent, each={"param": param, "items": {"value": []}}, **fields)


def the(outcomes: list[Any]) -> Any:
    assert len(outcomes) == 1, outcomes
    return outcomes[0]


def failure(driver: Any, spec: str, **kwargs: Any) -> dict[str, Any]:
    kind, fields = the(driver.run(spec, **kwargs)[0])
    assert kind == "failed", fields
    return fields


def eventually(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < limit, "it never came true"
        time.sleep(0.001)


# Calls


@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.parametrize("batch", [1, 7, 1000])
@pytest.mark.parametrize("style", ["sync", "async"])
def test_every_child_of_a_map_gets_its_item_and_one_outcome(memory: bool, batch: int, style: str) -> None:
    def double(x: int, by: int) -> int:
        return x * by

    async def adouble(x: int, by: int) -> int:
        if x % 3 == 0:
            await asyncio.sleep(0)
        return x * by

    driver = _selftest.Driver(memory)
    agent = register(double if style == "sync" else adouble, "x by")
    outcomes, _ = driver.run(mapped(agent, args={"by": {"value": 2}}), items=list(range(500)), batch=batch)
    assert outcomes == [("completed", 2 * n) for n in range(500)]
    assert driver.close(2000) == 0


def test_an_engine_in_memory_hands_objects_through(driver: Any) -> None:
    thing = object()
    agent = register(lambda x: x, "x")
    kind, value = the(driver.run(mapped(agent), items=[thing])[0])
    assert kind == "completed"
    assert value is thing


def test_arguments_go_by_position_or_by_name_as_the_function_wants(driver: Any) -> None:
    def only_position(a: int, /, b: int = 10, *, c: int) -> tuple[int, int, int]:
        return a, b, c

    args = {"a": {"value": 1}, "c": {"value": 3}}
    assert the(driver.run(task(register(only_position, "a b? c"), args=args))[0]) == ("completed", (1, 10, 3))

    class Holder:
        def method(self, x: int, **more: int) -> tuple[int, dict[str, int]]:
            return x, more

    args = {"x": {"value": 1}, "z": {"value": 2}}
    assert the(driver.run(task(register(Holder().method, "x"), args=args))[0]) == ("completed", (1, {"z": 2}))


def test_adapters_coerce_arguments_and_items_once_each(driver: Any) -> None:
    calls: list[Any] = []

    def to_int(value: Any) -> int:
        calls.append(value)
        return int(value)

    agent = register(lambda x, y: (x, y), "x y", adapters={"x": to_int, "y": to_int})
    outcomes, _ = driver.run(mapped(agent, args={"y": {"value": "7"}}), items=["1", "2"], batch=1)
    assert outcomes == [("completed", (1, 7)), ("completed", (2, 7))]
    assert sorted(calls) == ["1", "2", "7"]


def test_a_misfit_names_task_child_parameter_and_reason(driver: Any) -> None:
    agent = register(lambda x: x, "x", adapters={"x": int})
    fields = failure(driver, mapped(agent), items=["no"])
    assert (fields["kind"], fields["code"]) == ("Binding", "task.binding")
    assert "`t[0]`" in fields["message"]
    assert "`x`" in fields["message"]
    assert "ValueError" in fields["message"]


def test_an_agent_that_is_registered_again_is_replaced(driver: Any) -> None:
    name = register(lambda: 1)
    assert the(driver.run(task(name))[0]) == ("completed", 1)
    register(lambda: 2, name=name)
    assert the(driver.run(task(name))[0]) == ("completed", 2)


def test_generator_functions_are_refused_at_registration() -> None:
    def numbers():
        yield 1

    async def anumbers():
        yield 1

    for fn in (numbers, anumbers):
        with pytest.raises(TypeError, match="generator"):
            register(fn)


@pytest.mark.parametrize("what", ["coroutine", "generator", "async generator"])
def test_a_result_that_is_yet_to_be_computed_is_refused(driver: Any, what: str) -> None:
    async def co():
        return 1

    async def agen():
        yield 1

    makers = {"coroutine": lambda: co(), "generator": lambda: (n for n in ()), "async generator": lambda: agen()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fields = failure(driver, task(register(makers[what])))
        gc.collect()
    assert fields["code"] == "payload.unsupported"
    assert what.split()[-1] in fields["message"]


def test_an_unknown_agent_has_no_style_until_it_is_imported(driver: Any, tmp_path: Any, monkeypatch: Any) -> None:
    module = f"exec_agents_{next(_names)}"
    (tmp_path / f"{module}.py").write_text(
        "import json\nfrom goclaw import _goclaw\n"
        f"_goclaw.register_agent('{module}.hello', lambda: 'hi',"
        f" json.dumps({{'name': '{module}.hello', 'params': [], 'isolation': 'auto'}}), False)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert driver.style(f"{module}.hello") is None
    eventually(lambda: driver.style(f"{module}.hello") == "Thread")
    assert _goclaw.import_agents([f"{module}.hello", f"{module}.other", "no_such_module.x"]) == [
        f"{module}.other",
        "no_such_module.x",
    ]


# Failures


def test_an_exception_becomes_a_failure_with_types_text_and_origin(driver: Any) -> None:
    error = KeyError("gone")

    def fail() -> None:
        raise error

    fields = failure(driver, task(register(fail)))
    assert fields["kind"] == "Exception"
    assert fields["code"] == "task.exception"
    assert fields["types"] == [
        "builtins.KeyError",
        "builtins.LookupError",
        "builtins.Exception",
        "builtins.BaseException",
    ]
    assert fields["message"] == "'gone'"
    assert "in fail" in fields["traceback"]
    assert fields["origin"] is error


def test_texts_of_failures_are_bounded_and_a_raising_str_is_survived(driver: Any) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    def long() -> None:
        raise ValueError("ä" * 100_000)

    def mute() -> None:
        raise Mute

    fields = failure(driver, task(register(long)))
    assert len(fields["message"].encode()) <= 4096
    assert len(fields["traceback"].encode()) <= 32 * 1024 + 8
    assert "no text" in failure(driver, task(register(mute)))["message"]


def test_retry_after_says_its_pause(driver: Any) -> None:
    def throttled() -> None:
        raise goclaw.RetryAfter(1.5)

    assert failure(driver, task(register(throttled)))["retry_after"] == 1500


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize("style", ["sync", "async", "async after a step"])
def test_an_agent_that_exits_fails_alone(driver: Any, error: type[BaseException], style: str) -> None:
    def exits(x: int) -> int:
        if x == 1:
            raise error("bye")
        return x

    async def aexits(x: int) -> int:
        return exits(x)

    async def later(x: int) -> int:
        await asyncio.sleep(0)
        return exits(x)

    agent = register({"sync": exits, "async": aexits}.get(style, later), "x")
    outcomes, _ = driver.run(mapped(agent), items=[0, 1, 2])
    assert outcomes[0] == ("completed", 0)
    assert outcomes[2] == ("completed", 2)
    assert outcomes[1][0] == "failed"
    assert outcomes[1][1]["code"] == "task.exit"
    assert the(driver.run(mapped(agent), items=[5])[0]) == ("completed", 5)


def test_what_cannot_be_encoded_fails_at_its_producer() -> None:
    driver = _selftest.Driver(False)
    fields = failure(driver, task(register(lambda: {"lock": threading.Lock()})))
    assert fields["kind"] == "Payload"
    assert "`t`" in fields["message"]
    driver.close(1000)


# Binding


@dataclass
class Ticket:
    id: int
    tags: list[str]


def value_of(driver: Any, expr: Any, **kwargs: Any) -> Any:
    agent = register(lambda x=..., **_: x, "x?")
    outcome = the(driver.run(task(agent, args={"x": expr}), **kwargs)[0])
    assert outcome[0] == "completed", outcome
    return outcome[1]


def test_expressions_reach_into_input_and_results(driver: Any) -> None:
    given = {"ticket": Ticket(7, ["a", "b"]), "n": [1, 2]}
    path = [{"key": "ticket"}, {"key": "tags"}, {"index": -1}]
    assert value_of(driver, {"input": {"path": path}}, input=given) == "b"
    assert value_of(driver, {"input": {"path": [{"key": "ticket"}, {"attr": "id"}]}}, input=given) == 7
    assert value_of(driver, {"input": {}}, input=given) is given
    assert value_of(driver, {"task": {"id": "a", "path": [{"key": "k"}]}}, results={"a": {"k": 3}}) == 3
    assert value_of(driver, {"task": {"id": "a", "path": [{"key": "k"}]}}, results={"a": None}) is None
    parts = {"list": [{"value": 1}, {"dict": [["k", {"not": {"value": 0}}]]}, {"all": [{"value": 1}, {"value": ""}]}]}
    assert value_of(driver, parts) == [1, {"k": True}, False]


def test_an_optional_field_that_is_absent_leaves_the_default(driver: Any) -> None:
    optional = {"input": {"path": [{"key": "gone"}], "optional": True}}
    assert value_of(driver, optional, input={}) is ...
    assert value_of(driver, optional, input=None) is ...
    fields = failure(
        driver, task(register(lambda x: x, "x"), args={"x": {"input": {"path": [{"key": "gone"}]}}}), input={"n": 1}
    )
    assert fields["code"] == "task.binding"
    assert "task `t`, `x`" in fields["message"]
    assert "`gone`" in fields["message"]


def test_a_lone_template_keeps_its_type_and_others_render(driver: Any) -> None:
    ticket = Ticket(7, ["a"])
    results = {"intake": ticket, "when": datetime.date(2026, 1, 2), "t2": (1, {2}), "big": 10**30}

    def render(source: str) -> Any:
        return value_of(driver, {"template": source}, results=results, input={"lang": "en"})

    assert render("{{ intake }}") is ticket
    assert render(" {{ intake.tags }} ") is ticket.tags
    assert render("{{ intake.id + 1 }}") == 8
    assert render("{{ t2 }}") == (1, {2})
    assert render("{{ big }}") == 10**30
    assert render("on {{ when }} in {{ input.lang }} for {{ intake.tags | join(',') }}") == "on 2026-01-02 in en for a"
    assert render("{{ [intake.id, {'k': input.lang}] }}") == [7, {"k": "en"}]
    assert render("{{ intake.id }}{{ intake.id }}") == "77"
    assert value_of(
        driver, {"condition": "input.lang == 'en' and intake.id in [7]"}, results=results, input={"lang": "en"}
    )


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("{{ input.nothing }}", "template.undefined"),
        ("x {{ input.nothing }}", "template.undefined"),
        ("{{ input.nothing.deeper }}", "template.undefined"),
        ("{{ input.__class__ }}", "template.undefined"),
        ("{{ input.upper() }}", "template.failed"),
        ("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}", "template.fuel"),
        ("{% for i in range(900) %}{{ 'x' * 100000 }}{% endfor %}", "template.size"),
        ("{{ [1] * 100000000 }}", "template.size"),
    ],
)
def test_a_template_that_fails_says_why(driver: Any, source: str, code: str) -> None:
    spec = task(register(lambda x: x, "x"), args={"x": {"template": source}})
    fields = failure(driver, spec, input={"lang": "en"})
    assert fields["code"] == code, fields["message"]
    assert "task `t`, `x`" in fields["message"]
    assert len(fields["message"]) < 1000


def test_resolve_answers_go_skip_and_items(driver: Any) -> None:
    def resolve(**fields: Any) -> Any:
        given = fields.pop("given", None)
        return driver.resolve(task("none", **fields), input=given)

    def each(source: Any) -> Any:
        return {"param": "x", "items": source}

    whole = {"input": {}}
    assert resolve(when={"condition": "input > 3"}, given=4) == ("go",)
    assert resolve(when={"condition": "input > 3"}, given=3) == ("skip",)
    assert resolve(each=each(whole), given=(n for n in range(3))) == ("items", [0, 1, 2], 3)
    assert resolve(each=each(whole), given=set()) == ("items", [], 0)
    assert resolve(when={"value": False}, each=each(whole), given=3) == ("skip",)
    for bad in ("text", b"bytes", {"k": 1}, 3, None):
        kind, fields = resolve(each=each(whole), given=bad)
        assert kind == "failed"
        assert fields["code"] == "task.binding"
        assert "list" in fields["message"]

    def broken():
        yield 1
        raise OSError("half way")

    kind, fields = resolve(each=each(whole), given=broken())
    assert kind == "failed"
    assert "half way" in fields["message"]


# Context


@pytest.mark.parametrize("style", ["sync", "async"])
def test_the_context_says_who_runs(driver: Any, style: str) -> None:
    def look(x: int, ctx: Any) -> Any:
        ctx.progress(x, 10, "half")
        same = current()
        assert (same.task_id, same.run_id) == (ctx.task_id, ctx.run_id)
        ctx.log.info("seen")
        return ctx.task_id, ctx.attempt, ctx.idempotency_key, ctx.cancelled, ctx.input, ctx.trace_id, ctx.deadline

    async def alook(x: int, ctx: Any) -> Any:
        await ctx.sleep(0.001)
        await asyncio.create_task(inner(ctx))
        return look(x, ctx)

    async def inner(ctx: Any) -> None:
        assert current().task_id == ctx.task_id

    agent = register(look if style == "sync" else alook, "x ctx")
    before = time.time()
    outcomes, _ = driver.run(mapped(agent), items=[5, 6], input={"a": 1}, timeout_ms=60_000)
    for child, (kind, seen) in enumerate(outcomes):
        assert kind == "completed", seen
        task_id, attempt, key, cancelled, given, trace, deadline = seen
        assert task_id == f"t[{child}]"
        assert attempt == 1
        assert not cancelled
        assert key.endswith(f"/t[{child}]")
        assert given == {"a": 1}
        assert len(trace) == 32
        assert 50 < deadline - before < 120
    assert sorted(driver.progress()) == [(0, 5.0, 10.0, "half"), (1, 6.0, 10.0, "half")]
    with pytest.raises(RuntimeError):
        current()


def test_every_coroutine_has_its_own_context_variables(driver: Any) -> None:
    variable = contextvars.ContextVar("variable", default=0)

    async def sets(x: int) -> int:
        seen = variable.get()
        variable.set(x)
        await asyncio.sleep(0)
        return seen + variable.get()

    outcomes, _ = driver.run(mapped(register(sets, "x")), items=[1, 2, 3])
    assert outcomes == [("completed", 1), ("completed", 2), ("completed", 3)]


def test_the_first_step_runs_inside_a_real_task(driver: Any) -> None:
    async def first() -> bool:
        me = asyncio.current_task()
        assert me is not None
        assert me.get_name()
        async with asyncio.timeout(10):  # noqa: ASYNC100
            loop = asyncio.get_running_loop()
            loop.call_soon(lambda: None)
            return me in asyncio.all_tasks(loop) and me.get_coro() is not None

    assert the(driver.run(task(register(first)))[0]) == ("completed", True)


def test_a_timeout_inside_the_first_step_works(driver: Any) -> None:
    async def slow() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(30)
        except TimeoutError:
            return "timed out"
        return "not"

    assert the(driver.run(task(register(slow)))[0]) == ("completed", "timed out")


# Stopping


def test_an_abandoned_thread_is_stopped_and_its_next_call_is_spared(driver: Any) -> None:
    entered = threading.Event()

    def spins(x: int) -> None:
        entered.set()
        while True:
            pass

    driver.run(mapped(register(spins, "x")), items=[0], wait=False)
    entered.wait()
    driver.abandon(0, 1)
    assert the(driver.wait(1)) == ("cancelled",)
    eventually(lambda: driver.stuck == 0)
    for n in range(50):
        assert the(driver.run(mapped(register(lambda x: sum(range(x)), "x")), items=[n])[0]) == (
            "completed",
            sum(range(n)),
        )


def test_a_stop_never_hits_another_call(driver: Any) -> None:
    def work(x: int) -> int:
        return sum(range(2000))

    agent = register(work, "x")
    want = sum(range(2000))
    for _ in range(60):
        driver.run(mapped(agent), items=list(range(40)), batch=40, wait=False)
        driver.abandon(0, 40)
        outcomes, _ = driver.run(mapped(agent), items=list(range(20)), batch=5)
        assert [o for o in outcomes if o not in (("completed", want), ("cancelled",))] == []
        assert outcomes.count(("completed", want)) >= 20


def test_a_thread_that_does_not_stop_counts_as_stuck_until_it_returns(driver: Any) -> None:
    entered, leave = threading.Event(), threading.Event()

    def deaf() -> None:
        entered.set()
        while not leave.is_set():
            try:
                time.sleep(0.001)
            except Cancelled:
                pass

    driver.run(task(register(deaf)), wait=False)
    entered.wait()
    driver.abandon(0, 1)
    assert driver.stuck == 1
    assert the(driver.run(task(register(lambda: 1)))[0])[0] == "completed"
    leave.set()
    eventually(lambda: driver.stuck == 0)


def test_one_coroutine_of_a_batch_can_be_given_up(driver: Any) -> None:
    entered = threading.Event()
    gate: list[Any] = []

    async def waits(x: int) -> int:
        if x == 1:
            entered.set()
            await asyncio.sleep(1000)
        else:
            future = asyncio.get_running_loop().create_future()
            gate.append((asyncio.get_running_loop(), future))
            await future
        return x

    driver.run(mapped(register(waits, "x")), items=[0, 1, 2], wait=False)
    entered.wait()
    eventually(lambda: len(gate) == 2)
    driver.abandon(1, 1)
    assert the(driver.wait(1)) == ("cancelled",)
    for loop, future in gate:
        loop.call_soon_threadsafe(future.set_result, None)
    assert sorted(driver.wait(3)) == [("cancelled",), ("completed", 0), ("completed", 2)]


def test_a_checkpoint_raises_once_the_run_is_cancelled(driver: Any) -> None:
    entered = threading.Event()

    def polite(ctx: Any) -> None:
        entered.set()
        ctx.sleep(1000)

    driver.run(task(register(polite, "ctx")), wait=False)
    entered.wait()
    driver.cancel()
    assert the(driver.wait(1)) == ("cancelled",)


def test_a_closing_executor_stops_what_runs_and_says_what_does_not() -> None:
    driver = _selftest.Driver()
    sync, loop, deaf = threading.Event(), threading.Event(), threading.Event()
    leave = threading.Event()

    def spins() -> None:
        sync.set()
        while True:
            pass

    async def waits() -> None:
        loop.set()
        await asyncio.sleep(1000)

    def hears_nothing() -> None:
        deaf.set()
        while not leave.is_set():
            try:
                time.sleep(0.001)
            except Cancelled:
                pass

    for fn, event in ((spins, sync), (waits, loop), (hears_nothing, deaf)):
        driver.run(task(register(fn)), wait=False)
        event.wait()
    assert driver.close(10) == 1
    leave.set()


# Helping


def test_a_helper_runs_calls_on_its_own_thread(driver: Any) -> None:
    me = threading.get_ident()
    outcomes, _ = driver.run(mapped(register(lambda x: threading.get_ident(), "x")), items=[1, 2], batch=2, help=True)
    assert outcomes == [("completed", me)] * 2


def test_a_helper_leaves_calls_with_a_timeout_to_others(driver: Any) -> None:
    agent = register(lambda x: threading.get_ident(), "x")
    outcomes, _ = driver.run(mapped(agent), items=[1], timeout_ms=60_000, help=True)
    assert outcomes[0][0] == "completed"
    assert outcomes[0][1] != threading.get_ident()


def test_a_keyboard_interrupt_while_helping_reaches_the_caller_and_the_rest_goes_on(driver: Any) -> None:
    def interrupted(x: int) -> int:
        if x == 0:
            raise KeyboardInterrupt
        return x

    with pytest.raises(KeyboardInterrupt):
        driver.run(mapped(register(interrupted, "x")), items=[0, 1, 2], help=True)
    outcomes = driver.wait(3)
    assert outcomes == [("interrupted",), ("completed", 1), ("completed", 2)]


# The loop


def test_run_coroutine_answers_raises_and_refuses_the_loop_itself(driver: Any) -> None:
    from goclaw._loop import run_coroutine

    async def value() -> int:
        return 3

    async def raises() -> None:
        raise LookupError("no")

    async def nested() -> int:
        return run_coroutine(value())

    assert run_coroutine(value()) == 3
    with pytest.raises(LookupError):
        run_coroutine(raises())
    with pytest.raises(RuntimeError, match="await"):
        run_coroutine(nested())


def test_an_async_agent_may_be_any_awaitable(driver: Any) -> None:
    class Awaits:
        def __await__(self) -> Any:
            yield from asyncio.sleep(0).__await__()
            return 4

    name = f"test.awaits.{next(_names)}"
    info = {"name": name, "params": [], "isolation": "auto"}
    _goclaw.register_agent(name, lambda: Awaits(), json.dumps(info), True)
    assert the(driver.run(task(name))[0]) == ("completed", 4)
