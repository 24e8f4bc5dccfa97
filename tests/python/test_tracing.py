"""Traced workflows: what becomes a task, what is refused and how it says so."""

from typing import Any

import goclaw
import pytest


@goclaw.agent
def load(url: str, *, depth: int = 1) -> dict[str, Any]:
    return {"url": url, "depth": depth, "topics": ["a", "b"], "urgent": True}


@goclaw.agent(lane="cpu", retries=1)
def draft(topic: str, tone: str = "plain") -> str:
    return f"{topic}:{tone}"


@goclaw.agent
def join(parts: Any, extra: Any = None) -> Any:
    return parts


def model(flow: goclaw.Definition[Any]) -> dict[str, Any]:
    return flow._model()[0]


def tasks(flow: goclaw.Definition[Any]) -> dict[str, dict[str, Any]]:
    return {task["id"]: task for task in model(flow)["tasks"]}


def test_calls_become_tasks_and_arguments_become_dependencies() -> None:
    @goclaw.workflow
    def flow(url: str) -> Any:
        page = load(url)
        return join({"first": page["topics"][0], "all": [page, 3]}, extra=(page["x"], "y"))

    found = tasks(flow)
    assert list(found) == ["load", "join"]
    assert found["load"]["args"] == {"url": {"input": {"path": [{"key": "url"}]}}}
    assert found["join"]["args"]["parts"] == {
        "dict": [
            ["first", {"task": {"id": "load", "path": [{"key": "topics"}, {"index": 0}]}}],
            ["all", {"list": [{"task": {"id": "load"}}, {"value": 3}]}],
        ]
    }
    assert flow.plan().layers == [["load"], ["join"]]
    assert model(flow)["output"] == {"task": {"id": "join"}}


def test_repeated_calls_get_numbered_ids() -> None:
    @goclaw.workflow
    def flow() -> Any:
        return [draft("a"), draft("b"), draft("c")]

    assert list(tasks(flow)) == ["draft", "draft_2", "draft_3"]


def test_a_workflow_is_traced_once() -> None:
    traced = []

    @goclaw.workflow
    def flow() -> Any:
        traced.append(1)
        return draft("a")

    for _ in range(3):
        flow.plan()
        flow.validate()
    assert traced == [1]


def test_map_takes_a_handle_or_a_list() -> None:
    @goclaw.workflow
    def flow(url: str) -> Any:
        return [draft.map(load(url)["topics"], tone="warm"), draft.map(["x", load(url)["url"]])]

    found = tasks(flow)
    assert found["draft"]["each"] == {"param": "topic", "items": {"task": {"id": "load", "path": [{"key": "topics"}]}}}
    assert found["draft"]["args"] == {"tone": {"value": "warm"}}
    assert found["draft_2"]["each"]["items"]["list"][0] == {"value": "x"}


def test_options_of_the_agent_and_of_the_handle() -> None:
    @goclaw.workflow
    def flow() -> Any:
        first = draft("a").options(lane="io", timeout="2s")  # type: ignore[attr-defined]
        return draft.options(priority=5, retries=7, trigger="all_done")(first)

    found = tasks(flow)
    assert (found["draft"]["lane"], found["draft"]["timeout_ms"], found["draft"]["retry"]["retries"]) == ("io", 2000, 1)
    assert (found["draft_2"]["lane"], found["draft_2"]["priority"], found["draft_2"]["trigger"]) == (
        "cpu",
        5,
        "all_done",
    )
    assert found["draft_2"]["retry"]["retries"] == 7


def test_when_and_otherwise_nest() -> None:
    @goclaw.workflow
    def flow(url: str) -> Any:
        page = load(url)
        with goclaw.when(page["urgent"]):
            with goclaw.when(page["deep"]):
                join(1)
            with goclaw.otherwise():
                join(2)
        with goclaw.otherwise():
            join(3)
        return page

    urgent = {"task": {"id": "load", "path": [{"key": "urgent"}]}}
    deep = {"task": {"id": "load", "path": [{"key": "deep"}]}}
    found = tasks(flow)
    assert found["join"]["when"] == {"all": [urgent, deep]}
    assert found["join_2"]["when"] == {"all": [urgent, {"not": deep}]}
    assert found["join_3"]["when"] == {"not": urgent}
    assert "when" not in found["load"]


def test_otherwise_needs_a_when_before_it() -> None:
    @goclaw.workflow
    def flow() -> Any:
        with goclaw.otherwise():
            join(1)

    assert [problem.code for problem in flow.validate()] == ["workflow.otherwise"]


def test_when_is_for_workflows() -> None:
    with pytest.raises(goclaw.WorkflowError) as refused:
        goclaw.when(True)
    assert refused.value.code == "workflow.outside"


REFUSED = {
    "if": lambda h: 1 if h else 2,
    "not": lambda h: not h,
    "for": lambda h: list(h),
    "unpack": lambda h: [*h],
    "star-star": lambda h: dict(**h),
    "compare": lambda h: h == 1,
    "less": lambda h: h < 1,
    "add": lambda h: h + 1,
    "radd": lambda h: 1 + h,
    "f-string": lambda h: f"{h}",
    "str": lambda h: str(h),
    "int": lambda h: int(h),
    "len": lambda h: len(h),
    "in": lambda h: 1 in h,
    "call": lambda h: h.upper(),
    "assign": lambda h: h.__setitem__(0, 1),
    "with": lambda h: h.__enter__(),
    "index by handle": lambda h: h[h],
    "slice": lambda h: h[1:2],
    "set": lambda h: join({h}),
    "dict key": lambda h: join({h: 1}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_handle_refuses_what_needs_its_value(name: str) -> None:
    @goclaw.workflow
    def flow(url: str) -> Any:
        return REFUSED[name](load(url))

    with pytest.raises(goclaw.TracedValueError) as refused:
        flow.plan()
    assert refused.value.code == "workflow.traced_value"
    assert "load" in str(refused.value) or "result" in str(refused.value)
    assert len(refused.value.help) > 20
    assert flow.validate()[0].code == "workflow.traced_value"


def test_the_cure_for_if_is_named() -> None:
    @goclaw.workflow
    def flow(url: str) -> Any:
        return 1 if load(url) else 2

    with pytest.raises(goclaw.TracedValueError) as refused:
        flow.plan()
    assert "goclaw.when" in refused.value.help


def test_a_handle_can_be_printed_for_debugging() -> None:
    seen = []

    @goclaw.workflow
    def flow(url: str) -> Any:
        page = load(url)
        seen.append(repr(page["a"].b[0]))
        return page

    flow.plan()
    assert "`load['a'].b[0]`" in seen[0]


def test_a_handle_of_another_workflow_is_refused() -> None:
    kept: list[Any] = []

    @goclaw.workflow
    def one() -> Any:
        kept.append(draft("a"))
        return kept[0]

    @goclaw.workflow
    def two() -> Any:
        return join(kept[0])

    one.plan()
    with pytest.raises(goclaw.TracedValueError, match="belongs to workflow `one`"):
        two.plan()


def test_wrong_arguments_are_refused_where_the_call_is() -> None:
    @goclaw.workflow
    def flow() -> Any:
        return load("x", width=3)  # type: ignore[call-arg]

    with pytest.raises(goclaw.BindingError, match="width") as refused:
        flow.plan()
    assert isinstance(refused.value, TypeError)


def test_values_beyond_json_become_constants() -> None:
    marker = object()

    @goclaw.workflow
    def flow() -> Any:
        return join([1.5, "x", None], extra=(1, 2)), join(marker, extra=float("nan")), join({1: 2}, extra=2**70)

    _, constants = flow._model()
    found = tasks(flow)
    assert found["join"]["args"]["parts"] == {"value": [1.5, "x", None]}
    assert marker in constants
    assert (1, 2) in constants
    assert 2**70 in constants


def test_a_literal_changed_later_does_not_change_the_workflow() -> None:
    parts = [1]

    @goclaw.workflow
    def flow() -> Any:
        return join(parts)

    flow.plan()
    parts.append(2)
    assert tasks(flow)["join"]["args"]["parts"] == {"value": [1]}


def test_a_workflow_inside_a_workflow_becomes_part_of_it() -> None:
    @goclaw.workflow
    def inner(url: str) -> Any:
        return load(url)["topics"]

    @goclaw.workflow
    def outer(url: str) -> Any:
        return [inner(url), inner(url=load(url)["url"])]

    assert list(tasks(outer)) == ["inner_load", "load", "inner_2_load"]
    assert outer.plan().layers == [["inner_load", "load"], ["inner_2_load"]]


def test_an_omitted_default_is_not_filled_from_the_input() -> None:
    @goclaw.workflow
    def flow(url: str, depth: int) -> Any:
        return load(url)

    assert tasks(flow)["load"]["args"]["depth"] == {"value": 1}
    assert goclaw.run(flow, {"url": "u", "depth": 9})["depth"] == 1


def test_only_plain_functions_are_workflows() -> None:
    async def coroutine() -> None: ...

    for target in (coroutine, print, 3):
        with pytest.raises(goclaw.WorkflowError) as refused:
            goclaw.workflow(target)  # type: ignore[call-overload]
        assert refused.value.code == "workflow.kind"


def test_names_that_templates_use_are_no_ids() -> None:
    @goclaw.agent(name="named.run")
    def run() -> int:
        return 1

    @goclaw.workflow
    def flow() -> Any:
        return run()

    assert list(tasks(flow)) == ["run_task"]
    assert flow.validate() == []


def test_inputs_are_checked_by_name() -> None:
    @goclaw.workflow
    def flow(url: str, depth: int = 2) -> Any:
        return load(url, depth=depth)

    with goclaw.Engine() as engine:
        assert engine.run(flow, {"url": "u"})["depth"] == 2
        for given, words in (({}, "lacks `url`"), ({"url": "u", "x": 1}, "no input `x`"), (3, "is a int")):
            with pytest.raises(goclaw.InputError, match=words):
                engine.submit(flow, given)


def test_a_tuple_that_holds_a_result_arrives_as_a_tuple() -> None:
    @goclaw.agent
    def one() -> int:
        return 1

    @goclaw.agent
    def kind(pair: object) -> object:
        return pair

    @goclaw.workflow
    def flow() -> object:
        return {"given": kind((one(), [one(), 2])), "returned": (one(), 3)}

    assert goclaw.run(flow) == {"given": (1, [1, 2]), "returned": (1, 3)}
