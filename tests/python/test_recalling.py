"""Memory in workflows: policies through all doors, worker processes, grants."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import goclaw
import pytest
from goclaw.embedders import Hashing

sys.path.insert(0, str(Path(__file__).parent))
import recall_agents as agents

linux = pytest.mark.skipif(sys.platform != "linux", reason="worker processes are there on Linux only")


@pytest.fixture(params=["memory", "store"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[goclaw.Engine]:
    path = tmp_path / "store" if request.param == "store" else None
    with goclaw.Engine(path, embedder=Hashing(64)) as opened:
        opened.memory.memorize("Ada prefers green tea", session="ada", metadata={"kind": "taste"})
        opened.memory.memorize("the invoice of May is paid", session="ada", metadata={"kind": "fact"})
        opened.memory.memorize("Bob prefers coffee", session="bob")
        yield opened


@goclaw.agent(name="recalling.classify")
def classify(question: str) -> dict[str, str]:
    return {"category": question.split()[-1]}


@goclaw.agent(name="recalling.answer")
def answer(classify: Any, ctx: goclaw.Context, facts: str = "") -> list[Any]:
    return [[entry.content for entry in ctx.recalled], facts]


@goclaw.agent(name="recalling.later")
async def later(classify: Any, ctx: goclaw.Context, facts: str = "") -> list[Any]:
    return [[entry.content for entry in ctx.recalled], facts]


@goclaw.workflow
def traced(question: str) -> list[Any]:
    kind = classify(question)
    return answer(kind).options(memory=goclaw.Retrieve(query=kind["category"], top_k=1))


def built(agent: Any = answer, **more: Any) -> goclaw.Workflow:
    flow = goclaw.Workflow("built", input={"question": {"type": "string"}})
    flow.task("classify", classify)
    search = goclaw.Retrieve("{{ classify.category }}", top_k=1)
    return flow.task("answer", agent, deps=["classify"], memory=search, **more)


DOCUMENT = """
name: written
input: {question: {type: string}}
tasks:
  - id: classify
    agent: recalling.classify
  - id: answer
    agent: recalling.answer
    deps: [classify]
    with: {facts: "{% for m in memory %}{{ m.content }};{% endfor %}"}
    memory: {retrieve: {query: "{{ classify.category }}", top_k: 1}}
"""


@pytest.mark.parametrize("door", ["traced", "built", "dict", "yaml"])
def test_a_task_is_given_what_its_query_finds_in_its_own_session(engine: goclaw.Engine, door: str) -> None:
    flows: dict[str, Any] = {
        "traced": traced,
        "built": built(),
        "dict": goclaw.Workflow.from_dict(built().to_dict()),
        "yaml": goclaw.Workflow.from_yaml(DOCUMENT),
    }
    run = engine.submit(flows[door], {"question": "which tea"}, session="ada")
    facts = "Ada prefers green tea;" if door == "yaml" else ""
    assert run.result(30) == [["Ada prefers green tea"], facts]
    # The same question of another customer finds nothing of Ada's.
    assert engine.run(flows[door], {"question": "which tea"}, session="bob")[0] == ["Bob prefers coffee"]


def test_a_document_with_memory_comes_back_the_same() -> None:
    flow = goclaw.Workflow.from_yaml(DOCUMENT + "memory: {retrieve_last: 3, forget_below: 0.3}\n")
    document = flow.to_dict()
    assert document["memory"] == {"retrieve_last": 3, "forget_below": 0.3}
    assert document["tasks"][1]["memory"] == {"retrieve": {"query": "{{ classify.category }}", "top_k": 1}}
    assert goclaw.Workflow.from_yaml(flow.to_yaml()).to_dict() == document
    assert traced.to_dict()["tasks"][1]["memory"]["retrieve"]["query"] == "{{ classify.category }}"
    schema = goclaw.Workflow.schema()["properties"]
    assert set(schema["memory"]["properties"]) == {"retrieve_last", "forget_below"}
    assert "retrieve" in schema["tasks"]["items"]["properties"]["memory"]["properties"]


@pytest.mark.parametrize("agent", [answer, later])
def test_templates_see_what_was_found_and_what_is_latest(engine: goclaw.Engine, agent: Any) -> None:
    flow = goclaw.Workflow("w", memory=goclaw.MemoryPolicy(retrieve_last=1), input={"question": {}})
    flow.task("classify", classify)
    text = "{{ memory.found[0].entry.content }}|{{ memory.latest[0].content }}|{{ memory | length }}"
    search = goclaw.Retrieve("tea", top_k=1, filter={"kind": "{{ 'ta' ~ 'ste' }}"}, min_strength=0.5)
    flow.task("answer", agent, deps=["classify"], args={"facts": text}, memory=search)
    found = engine.run(flow, {"question": "x"}, session="ada")
    tea, invoice = "Ada prefers green tea", "the invoice of May is paid"
    assert found == [[tea, invoice], f"{tea}|{invoice}|2"]


def test_the_latest_memories_go_to_every_task(engine: goclaw.Engine) -> None:
    @goclaw.workflow(memory=goclaw.MemoryPolicy(retrieve_last=2))
    def flow(question: str) -> list[Any]:
        return later(classify(question))

    assert engine.run(flow, {"question": "x"}, session="ada")[0] == [
        "the invoice of May is paid",
        "Ada prefers green tea",
    ]
    assert engine.run(flow, {"question": "x"}, session="nobody")[0] == []


@goclaw.agent(name="recalling.flaky", retry=goclaw.Retry(retries=2, initial="1ms"))
def flaky(ctx: goclaw.Context) -> list[str]:
    if ctx.attempt == 1:
        SEEN.append([entry.content for entry in ctx.recalled])
        ENGINE[0].memory.memorize("green tea is out of stock", session="ada")
        raise OSError("no luck")
    return [entry.content for entry in ctx.recalled]


SEEN: list[list[str]] = []
ENGINE: list[goclaw.Engine] = []


def test_a_retry_looks_up_again(engine: goclaw.Engine) -> None:
    ENGINE[:], SEEN[:] = [engine], []
    flow = goclaw.Workflow("w").task("flaky", flaky, memory={"retrieve": {"query": "green tea"}})
    assert len(engine.run(flow, session="ada")) == len(SEEN[0]) + 1


@goclaw.agent(name="recalling.child")
def child(item: int, ctx: goclaw.Context) -> int:
    return len(ctx.recalled)


@goclaw.agent(name="recalling.child_later")
async def child_later(item: int, ctx: goclaw.Context) -> int:
    await asyncio.sleep(0)
    return len(ctx.recalled)


@pytest.mark.parametrize("agent", [child, child_later])
def test_all_children_of_a_map_are_given_memories(engine: goclaw.Engine, agent: Any) -> None:
    flow = goclaw.Workflow("w", memory={"retrieve_last": 1})
    flow.task("child", agent, for_each=list(range(100)))
    assert engine.run(flow, session="ada") == [1] * 100


def test_a_vector_can_be_asked_for(engine: goclaw.Engine) -> None:
    vector = list(engine.memory.recent("ada", 1)[0].vector or ())
    flow = goclaw.Workflow("w").task("classify", classify, args={"question": "x"})
    flow.task("answer", answer, deps=["classify"], memory=goclaw.Retrieve(vector_query=vector, top_k=1))
    assert engine.run(flow, session="ada")[0] == ["the invoice of May is paid"]
    flow = goclaw.Workflow("w").task("classify", classify, args={"question": "x"})
    search = goclaw.Retrieve(vector_query="{{ 'the invoice of May' }}", top_k=1)
    flow.task("answer", answer, deps=["classify"], memory=search)
    assert engine.run(flow, session="ada")[0] == ["the invoice of May is paid"]


def test_a_query_that_comes_to_nothing_finds_nothing(engine: goclaw.Engine) -> None:
    flow = goclaw.Workflow("w").task("classify", classify, args={"question": "x"})
    flow.task("answer", answer, deps=["classify"], memory=goclaw.Retrieve("{{ ' ' }}"))
    assert engine.run(flow, session="ada")[0] == []


class Failing(Hashing):
    down = False

    def __call__(self, texts: list[str]) -> list[list[float]]:
        if self.down:
            raise ConnectionError("the model is away")
        return super().__call__(texts)


@pytest.mark.parametrize("agent", [answer, later])
@pytest.mark.parametrize("by_vector", [False, True])
def test_an_embedder_that_is_down_costs_its_leg_and_says_so(agent: Any, by_vector: bool) -> None:
    embedder = Failing(64)
    with goclaw.Engine(embedder=embedder) as engine:
        engine.memory.memorize("Ada prefers green tea", session="ada")
        embedder.down = True
        flow = goclaw.Workflow("w").task("classify", classify, args={"question": "x"})
        search = goclaw.Retrieve(vector_query="tea") if by_vector else goclaw.Retrieve("tea")
        flow.task("answer", agent, deps=["classify"], memory=search)
        run = engine.submit(flow, session="ada")
        assert run.result(30)[0] == ["Ada prefers green tea"]
        (warned,) = [event for event in run.events(follow=False) if event.type == "task.warning"]
        assert warned.task == "answer"
        assert warned.data["code"] == "memory.embedder"
        assert "the model is away" in warned.data["reason"]


@pytest.mark.parametrize("agent", [answer, later])
def test_a_query_that_cannot_be_evaluated_fails_the_task(engine: goclaw.Engine, agent: Any) -> None:
    flow = goclaw.Workflow("w").task("classify", classify, args={"question": "x"})
    flow.task("answer", agent, deps=["classify"], memory=goclaw.Retrieve("{{ classify.nothing }}"))
    with pytest.raises(goclaw.TaskFailed, match=r"memory\.query"):
        engine.run(flow, session="ada")
    flow = goclaw.Workflow("w").task("classify", classify, args={"question": "x"})
    flow.task(
        "answer", agent, args={"facts": "{{ memory[7].content }}"}, deps=["classify"], memory=goclaw.Retrieve("tea")
    )
    with pytest.raises(goclaw.TaskFailed, match="facts"):
        engine.run(flow, session="ada")


def test_a_look_up_is_a_part_of_the_attempt() -> None:
    hang, began = threading.Event(), threading.Event()

    def embedder(texts: list[str]) -> list[list[float]]:
        if "slow" in texts[0]:
            began.set()
            hang.wait(30)
        return [[1.0, 0.0] for _ in texts]

    with goclaw.Engine(embedder=embedder) as engine:
        for agent in (answer, later):
            flow = goclaw.Workflow("w").task("classify", classify, args={"question": "x"})
            flow.task("answer", agent, deps=["classify"], memory=goclaw.Retrieve("slow"), timeout="30ms", retries=0)
            run = engine.submit(flow, session="ada")
            with pytest.raises(goclaw.TaskFailed, match="longer than 30 ms"):
                run.result(30)
            assert began.wait(30)
            began.clear()
        hang.set()


def test_a_run_that_remembers_needs_a_session(engine: goclaw.Engine) -> None:
    for flow in (built(), goclaw.Workflow("w", memory={"forget_below": 0.1}).task("classify", classify)):
        with pytest.raises(goclaw.RecallError) as caught:
            engine.submit(flow, {"question": "x"})
        assert caught.value.code == "memory.no_session"
    with pytest.raises(goclaw.RecallError) as caught:
        engine.submit(built(), {"question": "x"}, session="x" * 401)
    assert caught.value.code == "memory.session"


@pytest.mark.parametrize(
    ("memory", "code"),
    [
        ({"retrive": {"query": "x"}}, "workflow.unknown_key"),
        ({"retrieve": {"query": "x", "topk": 3}}, "workflow.unknown_key"),
        ({"retrieve": {"query": "x", "vector_query": "x"}}, "workflow.bad_memory"),
        ({"retrieve": {}}, "workflow.bad_memory"),
        ({"retrieve": {"query": "x", "top_k": 0}}, "workflow.bad_memory"),
        ({"retrieve": {"query": "x", "top_k": "five"}}, "workflow.bad_memory"),
        ({"retrieve": {"query": 7}}, "workflow.bad_memory"),
        ({"retrieve": {"query": "x", "min_strength": 2}}, "workflow.bad_memory"),
        ({"retrieve": "x"}, "workflow.bad_memory"),
        ("x", "workflow.bad_memory"),
        ({"retrieve": {"query": "{{ nobody.x }}"}}, "workflow.bad_template"),
        ({"retrieve": {"query": "{{ input.x"}}, "workflow.bad_template"),
        ({"retrieve": {"query": "{{ memory }}"}}, "workflow.bad_template"),
    ],
)
def test_documents_are_refused_with_a_code(memory: Any, code: str) -> None:
    task = {"id": "a", "agent": "recalling.classify", "with": {"question": "x"}, "memory": memory}
    with pytest.raises(goclaw.WorkflowError) as caught:
        goclaw.Workflow.from_dict({"name": "w", "tasks": [task]}).plan()
    assert [problem.code for problem in caught.value.problems] == [code]
    assert caught.value.problems[0].task == "a"


@pytest.mark.parametrize("policy", [{"retrieve_last": 0}, {"forget_below": 2}, {"retrieve_lost": 3}, [3]])
def test_policies_are_refused_with_a_code(policy: Any) -> None:
    task = {"id": "a", "agent": "recalling.classify", "with": {"question": "x"}}
    with pytest.raises(goclaw.WorkflowError) as caught:
        goclaw.Workflow.from_dict({"name": "w", "tasks": [task], "memory": policy})
    assert caught.value.problems[0].code in ("workflow.bad_memory", "workflow.unknown_key")


def test_code_is_refused_where_it_is_written() -> None:
    for wrong in (
        lambda: goclaw.Retrieve(),
        lambda: goclaw.Retrieve("a", "b"),
        lambda: goclaw.Retrieve("a", top_k=0),
        lambda: goclaw.Retrieve("a", filter="x"),  # type: ignore[arg-type]
        lambda: goclaw.MemoryPolicy(retrieve_last=True),
        lambda: goclaw.MemoryPolicy(forget_below=-1),
        lambda: goclaw.MemoryAccess(read="team"),
        lambda: answer.options(memory=3),  # type: ignore[arg-type]
        lambda: goclaw.Engine().submit(traced, {"question": "x"}, session="s", memory=["team"]),  # type: ignore[arg-type]
    ):
        with pytest.raises(goclaw.ConfigError) as caught:
            wrong()
        assert caught.value.code == "config.memory"


def test_options_can_take_memory_away_again() -> None:
    agent = answer.options(memory=goclaw.Retrieve("tea"))
    assert agent._task_model()["memory"]["retrieve"]["top_k"] == 5
    assert agent.options(memory=None)._task_model()["memory"] is None


NUMBERS = itertools.count(1)


def weaken(engine: goclaw.Engine, session: str, text: str, *, pinned: bool = False) -> None:
    """Memorizes what is nearly gone: last reviewed in 1970."""
    id = f"01{next(NUMBERS):024d}"
    line = (
        f'{{"id": "{id}", "session": "{session}", "text": "{text}", "stability": 1.0, "difficulty": 5.0, '
        f'"last_review": 1, "created": 1, "pinned": {str(pinned).lower()}}}'
    )
    assert engine.memory.import_([line]) == 1


def test_the_end_of_a_run_forgets_what_is_weak(engine: goclaw.Engine) -> None:
    for session in ("ada", "bob"):
        weaken(engine, session, "long ago")
        weaken(engine, session, "long ago, pinned", pinned=True)

    @goclaw.workflow(memory=goclaw.MemoryPolicy(forget_below=0.3))
    def flow(question: str) -> dict[str, str]:
        return classify(question)

    run = engine.submit(flow, {"question": "x"}, session="ada")
    assert run.result(30) == {"category": "x"}
    assert {entry.content for entry in engine.memory.list("ada")} == {
        "Ada prefers green tea",
        "the invoice of May is paid",
        "long ago, pinned",
    }
    assert "long ago" in {entry.content for entry in engine.memory.list("bob")}
    last = list(run.events(follow=False))[-2:]
    assert [event.type for event in last] == ["memory.swept", "run.completed"]
    assert last[0].data == {"forgotten": 1, "left": 0}
    assert engine.stats()["goclaw_memories_swept_total"] == 1


def test_a_sweep_is_done_by_whoever_opens_the_store_next(tmp_path: Path) -> None:
    flow = goclaw.Workflow("w", memory={"forget_below": 0.3}).task("classify", classify, args={"question": "x"})
    with goclaw.Engine(tmp_path) as engine:
        weaken(engine, "ada", "long ago")
        run = engine.submit(flow, session="ada")
        assert run.wait(30)
    with goclaw.Engine(tmp_path) as engine:
        assert engine.get(run.id).state == "completed"
        assert engine.memory.count("ada") == 0


CRASHING = """
import sys
import goclaw, recall_agents
with goclaw.Engine(sys.argv[1]) as engine:
    engine.submit(recall_agents.crashing, run_id=sys.argv[2], session="s").result()
"""


def test_a_kill_keeps_what_completed_and_nothing_of_the_attempt_under_way(tmp_path: Path) -> None:
    run_id = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
    child = subprocess.Popen(
        [sys.executable, "-c", CRASHING, str(tmp_path), run_id],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.kill()
    child.communicate()
    with goclaw.Memory(tmp_path) as memory:
        # The run goes on as soon as the store is open; its second attempt decides.
        assert memory._engine.get(run_id).result(30) == 2
        assert [entry.content for entry in memory.list("s")] == ["cut in attempt 2"]
    with goclaw.Memory(tmp_path) as memory:
        assert [entry.content for entry in memory.list("s")] == ["cut in attempt 2"]


# Worker processes.


def one(agent: Any, **args: Any) -> Any:
    @goclaw.workflow
    def flow() -> Any:
        return agent(**args)

    return flow


@linux
def test_agents_in_processes_remember(engine: goclaw.Engine) -> None:
    found = engine.run(one(agents.note, fact="Ada likes rain"), session="ada")
    assert found[:3] == ["two", "one", "Ada likes rain"]
    entry = engine.memory.retrieve("rain", session="ada")[0].entry
    assert (entry.content, entry.task_id, entry.metadata) == ("Ada likes rain", "note", {"kind": "fact"})
    assert entry.vector is not None, "the engine's process embeds"
    assert engine.run(one(agents.note_later, fact="Ada likes rain"), session="ada")[1] == "ada"
    assert engine.memory.recent("ada", 1)[0].content == "Ada likes rain, later"


@linux
def test_agents_in_processes_list_and_count_their_own_session(engine: goclaw.Engine) -> None:
    engine.memory.memorize("before", session="s")
    assert engine.run(one(agents.lists), session="s") == [["before", "from a worker"], 2, "memory.no_grant"]


@linux
def test_what_a_failed_or_killed_worker_memorized_is_dropped(engine: goclaw.Engine) -> None:
    with pytest.raises(goclaw.TaskFailed, match="no luck"):
        engine.run(one(agents.note_and_fail, fact="x"), session="s")
    assert engine.memory.count("s") == 0
    assert engine.run(one(agents.note_and_die, fact="y"), session="s") == 0
    assert [entry.content for entry in engine.memory.list("s")] == ["y in attempt 2"]


@linux
def test_errors_come_back_from_the_engine_with_their_codes(engine: goclaw.Engine) -> None:
    assert engine.run(one(agents.refused), session="s") == ["memory.empty", "memory.no_grant", "memory.unknown"]
    assert engine.run(one(agents.refused)) == ["memory.no_session"] * 3


@linux
def test_tasks_in_processes_are_given_memories(engine: goclaw.Engine) -> None:
    @goclaw.workflow
    def flow(question: str) -> list[str]:
        return agents.recall(question)

    assert engine.run(flow, {"question": "which tea"}, session="ada")[0] == "Ada prefers green tea"
    later = goclaw.Workflow("w", memory={"retrieve_last": 1})
    args = {"question": "x", "facts": "{{ memory.found[0].entry.content }}", "all": "{{ memory }}"}
    later.task("later", agents.recall_later, args=args, memory=goclaw.Retrieve("green tea", top_k=1))
    tea = "Ada prefers green tea"
    assert engine.run(later, session="ada") == [tea, [tea, "the invoice of May is paid"], 1]


# Grants.


@goclaw.agent(name="recalling.team")
def team(verb: str, ctx: goclaw.Context) -> Any:
    other = ctx.memory.of("team")
    if verb == "read":
        return [hit.entry.content for hit in other.retrieve("kettle")]
    return other.memorize("written by a run")


@goclaw.workflow
def asking(verb: str) -> Any:
    return team(verb).options(retries=0)


def test_a_granted_session_is_read_and_no_other(engine: goclaw.Engine) -> None:
    engine.memory.memorize("the kettle is red", session="team")
    read = goclaw.MemoryAccess(read=["team"])
    run = engine.submit(asking, {"verb": "read"}, session="ada", memory=read)
    assert run.result(30) == ["the kettle is red"]
    assert run.memory == read
    assert engine.get(run.id).memory == read
    assert engine.submit(asking, {"verb": "read"}, session="team").result(30) == ["the kettle is red"], "its own"
    for access in (None, goclaw.MemoryAccess(read=["team:a", "tea"])):
        with pytest.raises(goclaw.TaskFailed, match="may not read the memory of session `team`"):
            engine.run(asking, {"verb": "read"}, session="ada", memory=access)
    with pytest.raises(goclaw.TaskFailed, match="may not write"):
        engine.run(asking, {"verb": "write"}, session="ada", memory=read)
    assert engine.memory.count("team") == 1
    engine.run(asking, {"verb": "write"}, session="ada", memory=goclaw.MemoryAccess(write=["team"]))
    assert engine.memory.recent("team", 1)[0].content == "written by a run"
    assert engine.memory.count("ada") == 2, "nothing went into the run's own session"


def test_grants_need_a_session_and_name_sessions(engine: goclaw.Engine) -> None:
    for session, access, code in (
        (None, goclaw.MemoryAccess(read=["team"]), "memory.no_session"),
        ("ada", goclaw.MemoryAccess(read=[""]), "memory.session"),
    ):
        with pytest.raises(goclaw.RecallError) as caught:
            engine.submit(asking, {"verb": "read"}, session=session, memory=access)
        assert caught.value.code == code


@goclaw.agent(name="recalling.across")
async def across(sessions: list[str], ctx: goclaw.Context) -> list[tuple[str, str]]:
    ctx.memory.memorize("the red kettle is mine")
    hits = await ctx.memory.aretrieve_across(sessions, "the red kettle", top_k=2, review="good")
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    return [(hit.entry.session_id, hit.entry.content) for hit in hits]


def test_granted_sessions_are_searched_together(engine: goclaw.Engine) -> None:
    engine.memory.memorize("the kettle is red", session="team")
    kettle = engine.memory.memorize("the red kettle", session="club")
    grant = goclaw.MemoryAccess(write=["team", "club"])
    run = engine.submit(one(across, sessions=["ada", "team", "club"]), session="ada", memory=grant)
    assert [session for session, _ in run.result(30)][:1] == ["club"], "the best of all"
    assert len(run.result()) == 2
    used = engine.memory.get(kettle)
    assert used.last_review > used.created, "it was used"
    for sessions, said in ((["ada", "bob"], "may not read"), ([], "no session")):
        with pytest.raises(goclaw.TaskFailed, match=said):
            engine.run(one(across.options(retries=0), sessions=sessions), session="ada", memory=grant)


@linux
def test_grants_hold_in_processes(engine: goclaw.Engine) -> None:
    engine.memory.memorize("the kettle is red", session="team")
    found = engine.run(one(agents.use_team), session="ada", memory=goclaw.MemoryAccess(write=["team"]))
    assert found == ["written by a worker", "the kettle is red"]
    assert engine.memory.count("team") == 2


def test_grants_last_with_their_run(tmp_path: Path) -> None:
    @goclaw.workflow
    def flow() -> Any:
        return team("read")

    with goclaw.Engine(tmp_path) as engine:
        engine.memory.memorize("the kettle is red", session="team")
        run = engine.submit(flow, session="ada", memory=goclaw.MemoryAccess(read=["team"], write=["x"]))
        run.wait(30)
    with goclaw.Engine(tmp_path) as engine:
        assert engine.get(run.id).memory == goclaw.MemoryAccess(read=["team"], write=["x"])
