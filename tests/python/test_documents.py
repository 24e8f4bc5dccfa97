"""Builder, YAML and dicts: one model behind all doors."""

from pathlib import Path
from typing import Any

import goclaw
import pytest


@goclaw.agent(name="IntakeAgent")
def intake(ticket: str) -> dict[str, Any]:
    return {"text": ticket, "lang": "en", "people": ["ada", "bob"]}


@goclaw.agent(name="ClassifyAgent", lane="cpu", timeout=3)
def classify(text: str) -> dict[str, str]:
    return {"category": text.upper()}


@goclaw.agent(name="ResolveAgent")
def resolve(classify: Any, intake: Any = None) -> str:
    return f"{classify}"


@goclaw.agent(name="notify")
def notify(person: str, note: str = "") -> str:
    return person + note


SEED = """
name: customer_support
tasks:
  - id: intake
    agent: IntakeAgent
    lane: io

  - id: classify
    agent: ClassifyAgent
    deps: [intake]
    lane: cpu

  - id: resolve
    agent: ResolveAgent
    deps: [classify]
    lane: cpu
    memory:
      retrieve:
        vector_query: "{{classify.category}}"
        top_k: 5
"""
SUPPORT = """
name: customer_support
input: {ticket: {type: string}}
tasks:
  - id: intake
    agent: IntakeAgent
    lane: io
  - id: classify
    agent: ClassifyAgent
    deps: [intake]
    lane: cpu
    with: {text: "{{ intake.text }}"}
    when: "intake.lang == 'en'"
    retry: {retries: 5, initial: 1s}
    timeout: 30s
  - id: resolve
    agent: ResolveAgent
    deps: [classify]
  - id: each
    agent: notify
    deps: [resolve]
    for_each: "{{ intake.people }}"
    with: {note: "!"}
lanes: {io: {concurrency: 64}, cpu: {concurrency: 2}}
"""


def test_the_yaml_of_the_contract_runs() -> None:
    flow = goclaw.Workflow.from_yaml(SUPPORT)
    assert flow.plan().layers == [["intake"], ["classify"], ["resolve"], ["each"]]
    with goclaw.Engine() as engine:
        run = engine.submit(flow, {"ticket": "help"})
        assert run.result(10) == ["ada!", "bob!"]
        assert run.results["resolve"] == "{'category': 'HELP'}"


def test_the_seeds_yaml_is_a_workflow() -> None:
    flow = goclaw.Workflow.from_yaml(SEED)
    assert flow.plan().critical_path == ["intake", "classify", "resolve"]
    assert flow.to_dict()["tasks"][2]["memory"] == {"retrieve": {"vector_query": "{{classify.category}}"}}


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "support.yaml"
    path.write_text(SUPPORT)
    assert goclaw.Workflow.from_yaml(path).name == "customer_support"
    assert goclaw.Workflow.from_yaml(str(path)).name == "customer_support"
    with pytest.raises(goclaw.WorkflowError) as refused:
        goclaw.Workflow.from_yaml(tmp_path / "none.yaml")
    assert refused.value.code == "workflow.file"


@pytest.mark.parametrize(
    "text",
    ["a: [1, ", "a: 1\na: 2", "- &a [*a]\n", "x: !!python/object:os.system {}\n", "a: &a [x]\nb: &b [*a,*a]\n" * 1],
)
def test_bad_yaml_is_refused_with_a_code(text: str) -> None:
    with pytest.raises(goclaw.WorkflowError):
        goclaw.Workflow.from_yaml(text + "\n")


def document(**task: Any) -> dict[str, Any]:
    return {"name": "w", "tasks": [{"id": "a", "agent": "notify", **task}]}


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        ({**document(), "task": []}, "workflow.unknown_key", "did you mean `tasks`?"),
        (document(dep=["x"]), "workflow.unknown_key", "did you mean `deps`?"),
        (document(approval="?"), "workflow.not_yet", "`approval`"),
        (document(compensate="x"), "workflow.not_yet", "`compensate`"),
        ({**document(), "memory": []}, "workflow.bad_memory", "`memory`"),
        ({**document(), "lanes": {"io": {"concurrency": 1, "rate": 5}}}, "workflow.bad_value", "no rate"),
        ({**document(), "lanes": {"io": {"rates": "5/s"}}}, "workflow.unknown_key", "did you mean `rate`?"),
        ({**document(), "lanes": {"oi": {}}}, "workflow.bad_value", "concurrency"),
        (document(cost=0), "workflow.bad_value", "`cost`"),
        (document(isolation="thraed"), "workflow.bad_value", "did you mean `thread`?"),
        (document(deps="x"), "workflow.bad_value", "[other_task]"),
        (document(timeout="soon"), "workflow.bad_value", "5s"),
        (document(retry={"retris": 1}), "workflow.unknown_key", "did you mean `retries`?"),
        (document(retry={"on": ["Nonsense"]}), "workflow.bad_value", "Nonsense"),
        (document(trigger="al_done"), "workflow.bad_value", "did you mean `all_done`?"),
        (document(for_each="people"), "workflow.bad_value", "{{"),
        ({"name": "w", "tasks": [{"id": "a"}]}, "workflow.bad_value", "`agent`"),
        ({"name": "w", "tasks": []}, "workflow.no_tasks", "tasks"),
        ({**document(), "name": ""}, "workflow.empty_name", "name"),
        ({**document(), "input": {"x": {"type": "strin"}}}, "workflow.input_schema", "strin"),
        ({**document(), "input": {"x": {"pattern": "a"}}}, "workflow.input_schema", "pattern"),
        ([], "workflow.bad_value", "list"),
    ],
)
def test_a_bad_document_is_refused_by_name(given: Any, code: str, words: str) -> None:
    with pytest.raises(goclaw.WorkflowError) as refused:
        goclaw.Workflow.from_dict(given)
    problem = refused.value.problems[0]
    assert problem.code == code
    assert words in problem.message + problem.help


def test_all_problems_come_at_once() -> None:
    given = {"name": "w", "nme": 1, "tasks": [{"id": "a", "agent": "notify", "lan": 1}, {"id": "b"}]}
    with pytest.raises(goclaw.WorkflowError) as refused:
        goclaw.Workflow.from_dict(given)
    assert [problem.code for problem in refused.value.problems] == [
        "workflow.unknown_key",
        "workflow.unknown_key",
        "workflow.bad_value",
    ]


def test_the_builder_makes_what_the_document_says() -> None:
    flow = goclaw.Workflow(
        "customer_support", lanes=[goclaw.Lane("io", 64), goclaw.Lane("cpu", 2)], input={"ticket": {"type": "string"}}
    )
    flow.task("intake", intake, lane="io")
    flow.task(
        "classify",
        classify,
        deps=["intake"],
        lane="cpu",
        args={"text": "{{ intake.text }}"},
        when="intake.lang == 'en'",
        retry=goclaw.Retry(retries=5, initial="1s"),
        timeout="30s",
    )
    flow.task("resolve", resolve, deps=["classify"])
    flow.task("each", notify, deps=["resolve"], for_each="{{ intake.people }}", with_={"note": "!"})
    assert flow._model() == goclaw.Workflow.from_yaml(SUPPORT)._model()


def test_documents_survive_a_round_trip() -> None:
    flow = goclaw.Workflow.from_yaml(SUPPORT)
    again = goclaw.Workflow.from_yaml(flow.to_yaml())
    assert again._model() == flow._model()
    assert again.to_dict() == flow.to_dict()


def test_a_traced_workflow_can_be_written_down_and_runs_the_same() -> None:
    @goclaw.workflow(on_failure="continue", timeout="1m")
    def flow(ticket: str, tone: str = "{{!}}") -> Any:
        taken = intake(ticket)
        found = classify(taken["text"])
        with goclaw.when(taken["lang"]):
            sent = notify.map(taken["people"], note="{{ raw }}")
        return {"found": found, "first": sent[0], "tone": tone, "n": 1}

    again = goclaw.Workflow.from_yaml(flow.to_yaml())
    with goclaw.Engine() as engine:
        expected = engine.run(flow, {"ticket": "x"})
        assert expected == {"found": {"category": "X"}, "first": "ada{{ raw }}", "tone": "{{!}}", "n": 1}
        assert engine.run(again, {"ticket": "x"}) == expected


def test_what_json_cannot_say_is_not_portable() -> None:
    @goclaw.workflow
    def flow() -> Any:
        return resolve({1, 2})

    with pytest.raises(goclaw.WorkflowError) as refused:
        flow.to_yaml()
    assert refused.value.code == "workflow.not_portable"


def test_agents_come_by_import_path_too() -> None:
    flow = (
        goclaw.Workflow("paths")
        .task("a", "textwrap:dedent", args={"text": "  x"})
        .task("b", "textwrap.dedent", args={"text": " y"})
    )
    with goclaw.Engine() as engine:
        assert engine.run(flow) == {"a": "x", "b": "y"}


def test_problems_have_their_classes() -> None:
    cycle = (
        goclaw.Workflow("w")
        .task("a", notify, deps=["b"], args={"person": "x"})
        .task("b", notify, deps=["a"], args={"person": "x"})
    )
    unknown = goclaw.Workflow("w").task("a", notify, deps=["bb"], args={"person": "x"})
    agent = goclaw.Workflow("w").task("a", "ntify")
    for flow, cls in ((cycle, goclaw.CycleError), (unknown, goclaw.UnknownDependency), (agent, goclaw.UnknownAgent)):
        with pytest.raises(cls) as refused:
            flow.plan()
        assert flow.validate() == list(refused.value.problems)
    with pytest.raises(goclaw.UnknownLane), goclaw.Engine() as engine:
        engine.submit(goclaw.Workflow("w").task("a", notify, lane="moon", args={"person": "x"}))
    with pytest.raises(goclaw.DuplicateTask):
        goclaw.Workflow("w").task("a", notify).task("a", notify)


def test_the_schema_names_every_key() -> None:
    schema = goclaw.Workflow.schema()
    assert set(schema["properties"]) >= {"name", "input", "tasks", "lanes", "on_failure"}
    assert schema["properties"]["tasks"]["items"]["additionalProperties"] is False


def test_a_plan_draws_itself() -> None:
    plan = goclaw.Workflow.from_yaml(SUPPORT).plan()
    bundle = plan._repr_mimebundle_()
    assert bundle["image/svg+xml"].startswith("<svg")
    assert "classify" in bundle["text/plain"]
    assert "classify" in plan.to_mermaid()
    assert "digraph" in plan.to_dot()
    assert plan.parallel_groups
