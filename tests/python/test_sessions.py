"""Sessions: runs with one key go one at a time, and what a message to a busy one does."""

import asyncio
import subprocess
import sys
import textwrap
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import goclaw
import pytest

WAIT = 20


class Desk:
    """Agents that say when they begin, and end when they are let go."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.news = threading.Condition()
        self.gates: dict[str, threading.Event] = defaultdict(threading.Event)

    def serve(self, text: str) -> str:
        with self.news:
            self.begun.append(text)
            self.news.notify_all()
        if text.startswith("hold"):
            assert self.gates[text].wait(WAIT)
        return text.upper()

    def until(self, n: int) -> list[str]:
        with self.news:
            assert self.news.wait_for(lambda: len(self.begun) >= n, WAIT), self.begun
            return list(self.begun)


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    for gate in desk.gates.values():
        gate.set()


@pytest.fixture
def chat(desk: Desk) -> Any:
    @goclaw.agent(name="sessions.serve", retries=0)
    def serve(text: str) -> str:
        return desk.serve(text)

    @goclaw.workflow(name="sessions.chat")
    def chat(text: str) -> str:
        return serve(text)

    return chat


@pytest.fixture(params=["memory", "store"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[goclaw.Engine]:
    path = None if request.param == "memory" else tmp_path / "state"
    with goclaw.Engine(path, drain_timeout=0) as engine:
        yield engine


def nothing_is_left(engine: goclaw.Engine) -> None:
    stats = engine.stats()
    assert (stats["goclaw_sessions_busy"], stats["goclaw_sessions_waiting"]) == (0, 0)


def test_messages_of_a_session_go_one_at_a_time(engine: goclaw.Engine, chat: Any, desk: Desk) -> None:
    first = engine.submit(chat, "hold", session="u")
    desk.until(1)
    second, third = (engine.submit(chat, text, session="u") for text in "ab")
    assert (first.admission, second.admission, second.session) == ("started", "queued", "u")
    assert engine.sessions["u"] == goclaw.SessionView("u", first.id, 2, 0, "followup", 1)
    assert engine.sessions["u"].busy and "u" in engine.sessions and list(engine.sessions) == ["u"]
    other = engine.submit(chat, "c", session="v")
    assert other.result(WAIT) == "C"
    assert desk.begun == ["hold", "c"]
    desk.gates["hold"].set()
    assert [run.result(WAIT) for run in (first, second, third)] == ["HOLD", "A", "B"]
    assert desk.begun == ["hold", "c", "a", "b"]
    assert [found.id for found in engine.list(session="u")] == [third.id, second.id, first.id]
    assert engine.list(session="u")[0].session == "u"
    assert not engine.sessions["u"].busy and len(engine.sessions) == 0
    nothing_is_left(engine)


def test_the_agent_knows_its_session(engine: goclaw.Engine) -> None:
    @goclaw.agent(name="sessions.whose")
    def whose(ctx: goclaw.Context) -> str | None:
        return ctx.session

    @goclaw.workflow(name="sessions.ask")
    def ask() -> str | None:
        return whose()  # type: ignore[call-arg]

    assert engine.run(ask, session="u") == "u"
    assert engine.run(ask) is None
    assert asyncio.run(engine.arun(ask, session="w")) == "w"


def test_a_busy_session_refuses_where_it_is_asked_to(engine: goclaw.Engine, chat: Any, desk: Desk) -> None:
    first = engine.submit(chat, "hold", session="u", when_busy="reject")
    desk.until(1)
    with pytest.raises(goclaw.SessionBusy, match=first.id) as refused:
        engine.submit(chat, "a", session="u", when_busy="reject")
    assert refused.value.code == "session.busy"
    assert len(engine.list()) == 1
    desk.gates["hold"].set()
    first.result(WAIT)
    assert engine.run(chat, "a", session="u", when_busy="reject") == "A"


def test_an_interrupt_cancels_what_is_there(engine: goclaw.Engine, desk: Desk) -> None:
    @goclaw.agent(name="sessions.stubborn")
    def stubborn(text: str, ctx: goclaw.Context) -> str:
        desk.serve(text)
        while text == "slow":
            ctx.sleep("20ms")
        return text

    @goclaw.workflow(name="sessions.stubborn_chat")
    def chat(text: str) -> str:
        return stubborn(text)  # type: ignore[call-arg]

    first = engine.submit(chat, "slow", session="u")
    desk.until(1)
    second = engine.submit(chat, "next", session="u")
    third = engine.submit(chat, "now", session="u", when_busy="interrupt")
    assert third.admission == "interrupting"
    for run in (first, second):
        with pytest.raises(goclaw.RunCancelled, match=third.id):
            run.result(WAIT)
    assert third.result(WAIT) == "now"
    assert desk.begun == ["slow", "now"]
    nothing_is_left(engine)


@goclaw.agent(name="sessions.listen")
async def listen(text: str, ctx: goclaw.Context) -> list[str]:
    heard = [text]
    if text == "listen":
        async for signal in ctx.signals():
            heard.append(signal.message["text"])
            if heard[-1] == "stop":
                break
    return heard


@goclaw.agent(name="sessions.listen_plainly")
def listen_plainly(text: str, ctx: goclaw.Context) -> list[str]:
    heard = [text]
    for signal in ctx.signals():
        heard.append(signal.message["text"])
        if heard[-1] == "stop":
            break
    return heard


@goclaw.workflow(name="sessions.talk")
def talk(text: str) -> list[str]:
    return listen(text)  # type: ignore[call-arg,return-value]


@goclaw.workflow(name="sessions.talk_plainly")
def talk_plainly(text: str) -> list[str]:
    return listen_plainly(text)  # type: ignore[call-arg]


@pytest.mark.parametrize("flow", [talk, talk_plainly], ids=["async", "plain"])
def test_a_steered_message_reaches_the_running_agent(engine: goclaw.Engine, flow: Any) -> None:
    head = engine.submit(flow, "listen", session="u", when_busy="steer")
    started(head)
    messages = [engine.submit(flow, text, session="u", when_busy="steer") for text in ("a", "stop")]
    assert head.result(WAIT) == ["listen", "a", "stop"]
    for message in messages:
        assert message.admission == "steered"
        assert message.result(WAIT) == ["listen", "a", "stop"], "the result of the run that took it"
        assert (message.into, message.state) == (head.id, "completed")
    assert asyncio.run(awaited(messages[0])) == ["listen", "a", "stop"]
    events = {event.type: event for event in messages[0].events()}
    assert events["run.absorbed"].data == {"into": head.id}
    received = [event.data for event in head.events() if event.type == "signal.received"]
    assert received == [{"from": message.id} for message in messages]
    nothing_is_left(engine)


async def awaited(run: goclaw.Run[Any]) -> Any:
    return await run


def started(run: goclaw.Run[Any]) -> None:
    for event in run.events():
        if event.type == "task.started":
            return


def test_a_message_that_nobody_reads_runs_next(engine: goclaw.Engine, chat: Any, desk: Desk) -> None:
    first = engine.submit(chat, "hold", session="u")
    desk.until(1)
    second = engine.submit(chat, "a", session="u", when_busy="steer")
    assert second.admission == "steered"
    desk.gates["hold"].set()
    assert (first.result(WAIT), second.result(WAIT), second.into) == ("HOLD", "A", None)
    nothing_is_left(engine)


def test_params_are_what_the_messages_say_by_name(engine: goclaw.Engine) -> None:
    begun, go = threading.Event(), threading.Event()

    @goclaw.agent(name="sessions.tuned")
    def tuned(tone: str, length: int, ctx: goclaw.Context) -> Any:
        assert ctx.params == {} and ctx.poll_signals() == []
        begun.set()
        assert go.wait(WAIT)
        polled = ctx.poll_signals()
        assert ctx.poll_signals() == []
        return ctx.params, [signal.message for signal in polled]

    @goclaw.workflow(name="sessions.tune")
    def tune(tone: str, length: int) -> Any:
        return tuned(tone, length)  # type: ignore[call-arg]

    head = engine.submit(tune, {"tone": "dry", "length": 1}, session="u")
    assert begun.wait(WAIT)
    said = [{"tone": "warm", "length": 2}, {"tone": "warm", "length": 3}]
    for message in said:
        engine.submit(tune, message, session="u", when_busy="steer")
    go.set()
    assert head.result(WAIT) == ({"tone": "warm", "length": 3}, said)


def test_a_later_attempt_hears_everything_again(engine: goclaw.Engine) -> None:
    begun = threading.Event()

    @goclaw.agent(name="sessions.forgetful", retry=goclaw.Retry(retries=1, initial="1ms"))
    def forgetful(text: str, ctx: goclaw.Context) -> list[str]:
        begun.set()
        heard = [next(iter(ctx.signals())).message["text"]]
        if ctx.attempt == 1:
            raise OSError("no luck")
        return heard

    @goclaw.workflow(name="sessions.forget")
    def forget(text: str) -> list[str]:
        return forgetful(text)  # type: ignore[call-arg]

    head = engine.submit(forget, "x", session="u")
    assert begun.wait(WAIT)
    message = engine.submit(forget, "hear", session="u", when_busy="steer")
    assert head.result(WAIT) == ["hear"]
    assert message.into == head.id


def test_collected_messages_become_one(engine: goclaw.Engine, chat: Any, desk: Desk) -> None:
    first = engine.submit(chat, "hold", session="u")
    desk.until(1)
    mode = goclaw.Collect(debounce="1ms")
    runs = [engine.submit(chat, text, session="u", when_busy=mode) for text in ("a", "b", "c")]
    assert {run.admission for run in runs} == {"collected"}
    desk.gates["hold"].set()
    first.result(WAIT)
    assert [run.result(WAIT) for run in runs] == ["A\n\nB\n\nC"] * 3
    assert [run.into for run in runs] == [None, runs[0].id, runs[0].id]
    assert desk.begun == ["hold", "a\n\nb\n\nc"]
    assert [event.data for event in runs[0].events() if event.type == "run.merged"] == [{"count": 3}]
    nothing_is_left(engine)


def shout(inputs: list[dict[str, str]]) -> dict[str, str]:
    return {"text": "+".join(given["text"] for given in inputs)}


def shorten(inputs: list[dict[str, str]]) -> dict[str, str]:
    return {"text": f"{len(inputs)} more"}


def broken(inputs: list[Any]) -> Any:
    raise ValueError("no way")


def test_what_is_above_the_cap_is_summarized(engine: goclaw.Engine, chat: Any, desk: Desk) -> None:
    engine.submit(chat, "hold", session="u")
    desk.until(1)
    mode = goclaw.Collect(debounce="1ms", cap=2, merge=shout, summarize=shorten)
    runs = [engine.submit(chat, text, session="u", when_busy=mode) for text in "abcde"]
    desk.gates["hold"].set()
    assert [run.result(WAIT) for run in runs] == ["3 MORE+D+E"] * 5


def test_the_oldest_is_dropped_or_the_newest_refused(engine: goclaw.Engine, chat: Any, desk: Desk) -> None:
    engine.submit(chat, "hold", session="u")
    desk.until(1)
    old = goclaw.Collect(debounce="1ms", cap=2, overflow="old")
    runs = [engine.submit(chat, text, session="u", when_busy=old) for text in "abc"]
    with pytest.raises(goclaw.MessageDropped) as dropped:
        runs[0].result(WAIT)
    assert (dropped.value.code, runs[0].state) == ("session.dropped", "cancelled")
    new = goclaw.Collect(debounce="1ms", cap=1, overflow="new")
    kept = engine.submit(chat, "d", session="u", when_busy=new)
    with pytest.raises(goclaw.SessionFull):
        engine.submit(chat, "e", session="u", when_busy=new)
    desk.gates["hold"].set()
    assert (runs[1].result(WAIT), kept.result(WAIT)) == ("B\n\nC", "D")


def test_a_merge_that_raises_fails_its_runs(engine: goclaw.Engine, chat: Any, desk: Desk) -> None:
    engine.submit(chat, "hold", session="u")
    desk.until(1)
    mode = goclaw.Collect(debounce="1ms", merge=broken)
    runs = [engine.submit(chat, text, session="u", when_busy=mode) for text in "ab"]
    after = engine.submit(chat, "c", session="u")
    desk.gates["hold"].set()
    for run in runs:
        with pytest.raises(goclaw.MergeFailed, match="ValueError: no way") as failed:
            run.result(WAIT)
        assert failed.value.code == "session.merge"
    assert after.result(WAIT) == "C"


released = threading.Event()


def hangs(inputs: list[Any]) -> Any:
    released.wait(60)
    return inputs[-1]


def test_a_merge_that_hangs_is_named_and_holds_no_session(engine: goclaw.Engine, chat: Any, desk: Desk) -> None:
    released.clear()
    engine.submit(chat, "hold", session="u")
    desk.until(1)
    mode = goclaw.Collect(debounce="1ms", merge=hangs, timeout="50ms")
    runs = [engine.submit(chat, text, session="u", when_busy=mode) for text in "ab"]
    after = engine.submit(chat, "c", session="u")
    desk.gates["hold"].set()
    for run in runs:
        with pytest.raises(goclaw.MergeFailed, match="within 50 ms") as failed:
            run.result(WAIT)
        assert failed.value.code == "session.merge_timeout"
    assert after.result(WAIT) == "C"
    health = engine.health()
    assert [merge.session for merge in health.stuck_merges] == ["u"]
    assert health.status == "degraded"
    assert "hangs" in str(health)
    assert "does not come back (session u)" in str(health)
    released.set()
    deadline = time.monotonic() + WAIT
    while engine.health().stuck_merges:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_functions_of_a_durable_engine_have_to_be_importable(tmp_path: Path, chat: Any) -> None:
    here = goclaw.Collect(merge=lambda inputs: inputs[-1])
    with goclaw.Engine() as engine:
        assert engine.run(chat, "a", session="u", when_busy=here) == "A"
    with goclaw.Engine(tmp_path) as engine:
        with pytest.raises(goclaw.ConfigError) as refused:
            engine.submit(chat, "a", session="u", when_busy=here)
        assert refused.value.code == "config.function"
        with pytest.raises(goclaw.ConfigError):
            engine.sessions.configure("u", when_busy=here)
    with pytest.raises(goclaw.ConfigError):
        goclaw.Engine(tmp_path, when_busy=here)


def test_a_submit_wins_over_its_session_and_a_session_over_the_engine(chat: Any, desk: Desk) -> None:
    with goclaw.Engine(when_busy="reject", drain_timeout=0) as engine:
        engine.submit(chat, "hold", session="u")
        desk.until(1)
        with pytest.raises(goclaw.SessionBusy):
            engine.submit(chat, "a", session="u")
        engine.sessions.configure("u", when_busy="steer", weight=3)
        assert (engine.sessions["u"].when_busy, engine.sessions["u"].weight) == ("steer", 3)
        assert engine.submit(chat, "b", session="u").admission == "steered"
        assert engine.submit(chat, "c", session="u", when_busy="followup").admission == "queued"
        engine.sessions.configure("idle", weight=2)
        assert sorted(engine.sessions) == ["idle", "u"]
        engine.sessions.configure("u", when_busy=None, weight=None)
        assert engine.sessions["u"].when_busy == "reject"
        desk.gates["hold"].set()


def test_a_run_that_waits_for_its_retry_may_let_the_next_one_go(engine: goclaw.Engine) -> None:
    seen: list[str] = []

    @goclaw.agent(name="sessions.flaky", retry=goclaw.Retry(retries=1, initial="50ms", jitter=False))
    def flaky(text: str, ctx: goclaw.Context) -> str:
        seen.append(f"{text}{ctx.attempt}")
        if text == "a" and ctx.attempt == 1:
            raise OSError("no luck")
        return text

    @goclaw.workflow(name="sessions.flaky_chat")
    def chat(text: str) -> str:
        return flaky(text)  # type: ignore[call-arg]

    for on_retry, order in (("hold", ["a1", "a2", "b1"]), ("park", ["a1", "b1", "a2"])):
        seen.clear()
        runs = engine.submit_many(chat, ["a", "b"], session="u", on_retry=on_retry)  # type: ignore[arg-type]
        assert [run.result(WAIT) for run in runs] == ["a", "b"]
        assert seen == order
    nothing_is_left(engine)


def test_ten_thousand_sessions_keep_their_order_and_leave_nothing_behind() -> None:
    heard: dict[str, list[int]] = defaultdict(list)

    @goclaw.agent(name="sessions.note")
    def note(n: int, ctx: goclaw.Context) -> None:
        assert ctx.session is not None
        heard[ctx.session].append(n)

    @goclaw.workflow(name="sessions.note_all")
    def note_all(n: int) -> None:
        note(n)  # type: ignore[call-arg]

    keys = [f"user-{n}" for n in range(10_000)]
    with goclaw.Engine() as engine:
        runs = [run for n in range(3) for run in engine.submit_many(note_all, [n] * len(keys), session=keys)]
        assert all(run.wait(WAIT * 3) for run in runs)
        nothing_is_left(engine)
    assert len(heard) == len(keys)
    assert all(order == [0, 1, 2] for order in heard.values())


@pytest.mark.parametrize(
    "options",
    [
        {"session": ""},
        {"session": 7},
        {"session": "x" * 513},
        {"when_busy": "steer"},
        {"on_retry": "park"},
        {"session": "u", "when_busy": "steer-backlog"},
        {"session": "u", "on_retry": "drop"},
        {"session": "u", "weight": 0},
    ],
    ids=repr,
)
def test_what_makes_no_sense_is_refused(chat: Any, options: dict[str, Any]) -> None:
    with goclaw.Engine() as engine, pytest.raises(goclaw.ConfigError):
        engine.submit(chat, "a", **options)


def test_what_makes_no_sense_in_collect_is_refused() -> None:
    for options in ({"cap": 0}, {"overflow": "all"}, {"debounce": "soon"}, {"overflow": "old", "summarize": shorten}):
        with pytest.raises(goclaw.ConfigError):
            goclaw.Collect(**options)  # type: ignore[arg-type]


def test_one_session_per_input_or_one_for_all(chat: Any) -> None:
    with goclaw.Engine() as engine:
        runs = engine.submit_many(chat, ["a", "b"], session=["u", "v"])
        assert [run.session for run in runs] == ["u", "v"]
        with pytest.raises(goclaw.ConfigError):
            engine.submit_many(chat, ["a", "b"], session=["u"])


def test_killed_in_the_middle_a_session_goes_on_where_it_stood(tmp_path: Path) -> None:
    module = tmp_path / "kept_flow.py"
    module.write_text(
        textwrap.dedent("""
        import os, pathlib, sys
        import goclaw

        @goclaw.agent(retries=0)
        def serve(text: str) -> str:
            log = pathlib.Path(os.environ["LOG"])
            with log.open("a") as out:
                out.write(text + "\\n")
            if text == "die" and os.environ.get("DIE"):
                os.kill(os.getpid(), 9)
            return text

        def plus(inputs):
            return {"text": "+".join(given["text"] for given in inputs)}

        @goclaw.workflow
        def chat(text: str) -> str:
            return serve(text)

        def main() -> None:
            engine = goclaw.Engine(sys.argv[1])
            if os.environ.get("DIE"):
                mode = goclaw.Collect(debounce="1ms", merge=plus)
                engine.submit_many(chat, ["a", "b"], session="u")
                engine.submit_many(chat, ["c", "d"], session="u", when_busy=mode)
                engine.submit(chat, "e", session="u")
                engine.submit(chat, "die", session="v").wait()
            for run in engine.list():
                engine.get(run.id).wait()
            engine.close()
        """)
    )
    log = tmp_path / "log"

    def play(die: str) -> None:
        subprocess.run(
            [sys.executable, "-c", "import kept_flow; kept_flow.main()", str(tmp_path / "state")],
            cwd=tmp_path,
            env={"LOG": str(log), "DIE": die, "PATH": ""},
            timeout=60,
            check=not die,
        )

    play("1")
    play("")
    said = [line for line in log.read_text().split() if line != "die"]
    # An attempt that the process died under is repeated; nothing else is, and the order stands.
    once = [line for at, line in enumerate(said) if at == 0 or said[at - 1] != line]
    assert once in (["a", "b", "c+d", "e"],), said


def test_every_way_to_submit_takes_a_session(chat: Any) -> None:
    async def later(engine: goclaw.Engine) -> str | None:
        run = await engine.asubmit(chat, "hi", session="s", weight=2)
        await engine.arun(chat, "hi", session="s", when_busy="followup", on_retry="park")
        return run.session

    with goclaw.Engine() as engine:
        first = engine.try_submit(chat, "hi", session="s")
        assert first is not None and first.session == "s"
        assert engine.run(chat, "hi", session="s", weight=2) == "HI"
        assert asyncio.run(later(engine)) == "s"
        assert len(engine.list(session="s")) == 4


def test_a_submit_that_may_not_wait_is_refused_by_a_busy_session_too(chat: Any, desk: Desk) -> None:
    with goclaw.Engine() as engine:
        holder = engine.submit(chat, "hold", session="s")
        with pytest.raises(goclaw.SessionBusy):
            engine.try_submit(chat, "hi", session="s", when_busy="reject")
        with pytest.raises(goclaw.SessionBusy):
            asyncio.run(engine.asubmit(chat, "hi", session="s", when_busy="reject"))
        with pytest.raises(goclaw.ConfigError, match="has none"):
            engine.try_submit(chat, "hi", when_busy="reject")
        desk.gates["hold"].set()
        assert holder.result(WAIT) == "HOLD"


def test_the_mode_of_an_engine_may_come_from_its_configuration() -> None:
    with goclaw.Engine(config={"when_busy": "reject"}) as engine:
        assert engine.sessions["s"].when_busy == "reject"
    with goclaw.Engine(when_busy="steer", config={"when_busy": "reject"}) as engine:
        assert engine.sessions["s"].when_busy == "steer"
    with pytest.raises(goclaw.ConfigError):
        goclaw.Engine(config={"when_busy": {"collect": 3}})


@goclaw.agent(name="refusals.echo")
def echo_back(x: int) -> int:
    return x


@goclaw.workflow(name="refusals.flow")
def echoing(x: int) -> int:
    return echo_back(x)


@pytest.mark.parametrize("session", [b"a", ("a",), ["a"], 5, ""])
async def test_one_run_has_one_key(session: Any) -> None:
    with goclaw.Engine() as engine:
        for submit in (engine.submit, engine.run, engine.try_submit):
            with pytest.raises(goclaw.ConfigError) as refused:
                submit(echoing, 1, session=session)
            assert refused.value.code == "config.session"
        with pytest.raises(goclaw.ConfigError) as refused:
            await engine.asubmit(echoing, 1, session=session)
        assert refused.value.code == "config.session"


@pytest.mark.parametrize("session", [b"ab", bytearray(b"ab"), {"a", "b"}, ["a"], ["a", b"b"], ("a", "b", "c"), []])
def test_many_runs_have_one_key_or_one_each(session: Any) -> None:
    with goclaw.Engine() as engine:
        with pytest.raises(goclaw.ConfigError) as refused:
            engine.submit_many(echoing, [1, 2], session=session)
        assert refused.value.code == "config.session"
        started = engine.submit_many(echoing, [1, 2], session=("a", "b"))
        assert [run.session for run in started] == ["a", "b"]


def test_configure_leaves_what_it_is_not_told() -> None:
    with goclaw.Engine() as engine:
        engine.sessions.configure("z", when_busy="steer", weight=3)
        engine.sessions.configure("z")
        engine.sessions.configure("z", weight=4)
        assert (engine.sessions["z"].when_busy, engine.sessions["z"].weight) == ("steer", 4)
        engine.sessions.configure("z", when_busy=None, weight=None)
        assert (engine.sessions["z"].when_busy, engine.sessions["z"].weight) == ("followup", 1)
        assert "z" not in engine.sessions


@pytest.mark.parametrize("what", ["merge", "summarize"])
def test_collect_takes_functions(what: str) -> None:
    with pytest.raises(goclaw.ConfigError) as refused:
        goclaw.Collect(**{what: 5})  # type: ignore[arg-type]
    assert refused.value.code == "config.function"


@pytest.mark.parametrize("way", ["wait", "result", "run", "await", "arun"])
def test_an_agent_does_not_wait_for_a_run_behind_its_own(chat: Any, way: str) -> None:
    with goclaw.Engine() as engine:

        def blocks(text: str) -> Any:
            if way == "run":
                return engine.run(inner, session="u")
            run = engine.submit(inner, session="u")
            return run.wait() if way == "wait" else run.result()

        async def awaits(text: str) -> Any:
            if way == "arun":
                return await engine.arun(inner, session="u")
            return await engine.submit(inner, session="u")

        inner = goclaw.Workflow("inner").task("a", goclaw.agent(name="sessions.inner")(lambda: "inner"))
        body: Any = awaits if way in ("await", "arun") else blocks
        outer = goclaw.agent(
            name=f"sessions.outer.{way}", retry=goclaw.Retry(retries=5, initial="10ms", on=(Exception,), never=())
        )(body)
        flow = goclaw.Workflow("outer").task("a", outer, args={"text": "x"})
        run = engine.submit(flow, session="u")
        with pytest.raises(goclaw.TaskFailed) as failed:
            run.result(20)
        cause = failed.value.__cause__
        assert isinstance(cause, goclaw.WouldDeadlock)
        assert cause.code == "engine.own_session" and cause.help
        assert failed.value.attempts == 1
        # What it submitted goes next, and whoever is of no session may wait for it.
        (behind,) = [line for line in engine.list(session="u") if line.id != run.id]
        assert engine.get(behind.id).result(20) == "inner"
        if way == "result":
            free = goclaw.Workflow("free").task(
                "a", goclaw.agent(name="sessions.free", retries=0)(blocks), args={"text": "x"}
            )
            assert engine.submit(free, session="other").result(20) == "inner"
