"""What goclaw refuses, and would refuse again, costs no retries; what may pass is tried again."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import goclaw
import pytest

pytestmark = pytest.mark.timeout(120)
QUICK = goclaw.Retry(retries=2, initial="1ms", on=(Exception,), never=())
PAGES = Path(__file__).parents[2] / "docs" / "errors"


def attempts(body: Callable[[], Any], **submit: Any) -> goclaw.TaskFailed:
    """How a task fails whose policy would retry everything."""
    name = "refusals." + re.sub(r"\W", "", f"{body.__qualname__}")
    flow = goclaw.Workflow("flow").task("t", goclaw.agent(name=name, retry=QUICK)(body))
    with goclaw.Engine() as engine:
        run = engine.submit(flow, **submit)
        with pytest.raises(goclaw.TaskFailed) as failed:
            run.result(60)
    return failed.value


def raises(error: BaseException) -> Callable[[], Any]:
    def body() -> None:
        raise error

    return body


@pytest.mark.parametrize(
    "error",
    [
        goclaw.RecallError("no such entry", code="memory.unknown", help="look"),
        goclaw.RecallError("another dimension", code="memory.dimension", help="give 3 numbers"),
        goclaw.RecallError("no filter", code="memory.filter", help="write it so"),
        goclaw.WouldDeadlock("waits for itself", help="do not"),
        goclaw.ConfigError("no number", help="give one"),
        goclaw.LaneNotFound("no lane", help="declare it"),
    ],
    ids=lambda error: error.code,
)
def test_what_would_be_refused_again_is_not_retried_whatever_the_policy_says(error: goclaw.GoclawError) -> None:
    failed = attempts(raises(error))
    assert failed.attempts == 1 and not error.transient
    assert (failed.code, failed.help) == (error.code, error.help)
    assert failed.__cause__ is error and not failed.transient
    assert f"help: {error.help}" in failed.__notes__


@pytest.mark.parametrize(
    "error",
    [
        goclaw.RecallError("the embedder is down", code="memory.embedder", help="see to it"),
        goclaw.RecallError("the tier is down", code="memory.tier"),
        goclaw.StoreError("the disk is slow", code="store.io"),
        goclaw.LaneFull("the lane is full"),
        goclaw.SessionBusy("it is busy"),
        goclaw.GoclawError("of the user's own", code="mine.own"),
        goclaw.GoclawError("without a code"),
    ],
    ids=lambda error: error.code,
)
def test_what_may_pass_is_retried(error: goclaw.GoclawError) -> None:
    failed = attempts(raises(error))
    assert failed.attempts == 3 and error.transient
    assert failed.code == error.code


def test_a_task_without_a_session_is_refused_its_memory_once() -> None:
    failed = attempts(lambda: goclaw.current().memory.memorize("text"))
    assert (failed.code, failed.attempts) == ("memory.no_session", 1)
    assert failed.help and "session" in failed.help


def test_an_agent_whose_run_was_refused_is_not_retried_either() -> None:
    """The failure of a run carries the code of the refusal, so the agent that waited for it is told the same."""
    inner = goclaw.Workflow("inner").task("t", goclaw.agent(name="refusals.inner")(lambda: [][0]))
    refused = goclaw.Workflow("refused").task(
        "t", goclaw.agent(name="refusals.refused")(raises(goclaw.RecallError("no", code="memory.filter", help="so")))
    )
    for work, tries in ((inner, 3), (refused, 1)):
        with goclaw.Engine() as engine:

            @goclaw.agent(name=f"refusals.parent{tries}", retry=QUICK)
            def parent(engine: Any = engine, work: Any = work) -> Any:
                return engine.run(work)

            run = engine.submit(goclaw.Workflow("parent").task("t", parent))
            with pytest.raises(goclaw.TaskFailed) as failed:
                run.result(60)
            assert failed.value.attempts == tries


def test_a_subclass_of_the_user_s_own_may_say_what_it_likes() -> None:
    class Odd(goclaw.GoclawError):
        code = 5  # type: ignore[assignment]

    failed = attempts(raises(Odd("no text for a code")))
    assert (failed.code, failed.attempts) == ("task.exception", 3)


def test_the_help_lasts_where_the_exception_does_not(tmp_path: Path) -> None:
    flow = goclaw.Workflow("flow").task(
        "t",
        goclaw.agent(name="refusals.lasts")(raises(goclaw.RecallError("no", code="memory.filter", help="write so"))),
    )
    with goclaw.Engine(tmp_path / "store") as engine:
        run = engine.submit(flow)
        run.wait(60)
    with goclaw.Engine(tmp_path / "store") as engine:
        error = engine.get(run.id).error
    assert isinstance(error, goclaw.TaskFailed)
    assert (error.code, error.help) == ("memory.filter", "write so")
    assert isinstance(error.__cause__, goclaw.RemoteError)
    assert (error.__cause__.code, error.__cause__.help) == ("memory.filter", "write so")


def test_every_code_has_been_thought_about() -> None:
    """These may pass; a new code that is not among them is one that stays, or belongs here."""
    codes = {page.stem for page in PAGES.glob("*.*.md")}
    assert {code for code in codes if goclaw.GoclawError("", code=code).transient} == {
        "engine.busy",
        "engine.closed",
        "engine.thread",
        "goclaw.error",
        "goclaw.timeout",
        "lane.dropped",
        "lane.full",
        "memory.embedder",
        "memory.embedder_paused",
        "memory.backlog",
        "memory.embedder_timeout",
        "memory.tier",
        "run.cancelled",
        "run.failed",
        "run.killed",
        "run.quarantined",
        "run.timeout",
        "run.wait_timeout",
        "session.busy",
        "session.dropped",
        "session.full",
        "session.merge",
        "session.merge_timeout",
        "store.closed",
        "store.full",
        "store.io",
        "store.locked",
        "task.cancelled",
        "task.cancelled_itself",
        "task.crash",
        "task.exception",
        "task.exit",
        "task.idle_timeout",
        "task.interrupted",
        "task.loop",
        "task.panic",
        "task.queue_timeout",
        "task.timeout",
        "task.total_timeout",
    }
