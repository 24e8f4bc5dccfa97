"""Lanes: what users can say of them, and what is refused."""

from __future__ import annotations

from typing import Any

import goclaw
import pytest


@goclaw.agent(name="lanes.note")
def note(text: str = "") -> str:
    return text


@goclaw.agent(name="lanes.wait")
async def wait_a_little(text: str = "") -> str:
    return text


def test_the_machine_sizes_the_built_in_lanes() -> None:
    with goclaw.Engine(lanes=[goclaw.Lane("cpu"), goclaw.Lane("io", capacity=7)]) as engine:
        assert engine.lanes["cpu"].concurrency >= 1
        assert engine.lanes["io"].capacity == 7
    assert goclaw.Lane("memory").concurrency is None


@pytest.mark.parametrize(
    ("text", "units", "per_ms"),
    [
        ("100/s", 100, 1_000),
        ("90_000/m", 90_000, 60_000),
        ("5/2s", 5, 2_000),
        (" 1 / 250 ms ", 1, 250),
        ("3/h", 3, 3_600_000),
    ],
)
def test_a_rate_is_written_as_people_say_it(text: str, units: int, per_ms: int) -> None:
    model = goclaw.Lane("x", 1, rate=text)._to_model()["rate"]
    assert model == {"units": units, "per_ms": per_ms, "burst": units}


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ({"rate": "100"}, "config.rate", "no rate"),
        ({"rate": 100}, "config.rate", "no rate"),
        ({"rate": "0/s"}, "config.rate", "`units`"),
        ({"rate": "1/0s"}, "config.duration", "zero"),
        ({"burst": 4}, "config.contradiction", "no `rate`"),
        ({"rate": goclaw.Rate(1, burst=2), "burst": 4}, "config.contradiction", "two bursts"),
        ({"rate_key": "{{ input.x }}"}, "config.contradiction", "nothing that is counted"),
        ({"budgets": "tokens"}, "config.lane", "budgets"),
        ({"budgets": {"tokens": "many"}}, "config.rate", "budget `tokens`"),
        ({"on_full": "drop_oldst"}, "config.choice", "drop_oldst"),
        ({"on_full": goclaw.redirect("x")}, "config.lane", "itself"),
        ({"threads": 9}, "config.contradiction", "9 threads"),
        ({"isolation": "prozess"}, "config.choice", "prozess"),
        ({"fair": "yes"}, "config.lane", "fair"),
        ({"concurrency": 0}, "config.lane", "`concurrency`"),
    ],
)
def test_a_lane_that_makes_no_sense_is_refused(options: dict[str, Any], code: str, words: str) -> None:
    with pytest.raises(goclaw.ConfigError) as refused:
        goclaw.Lane("x", **{"concurrency": 4, **options})
    assert refused.value.code == code
    assert words in str(refused.value)
    assert refused.value.help


def test_a_misspelt_built_in_lane_is_suggested() -> None:
    with pytest.raises(goclaw.ConfigError) as refused:
        goclaw.Engine(lanes=[goclaw.Lane("memry")])
    assert "did you mean `memory`?" in refused.value.help
    with pytest.raises(goclaw.ConfigError):
        goclaw.redirect("")


DOCUMENT: dict[str, Any] = {
    "name": "w",
    "input": {"type": "object", "properties": {"tenant": {"type": "string"}}, "required": ["tenant"]},
    "tasks": [
        {
            "id": "a",
            "agent": "lanes.note",
            "lane": "llm",
            "with": {"text": "hi"},
            "timeout": "30s",
            "queue_timeout": "5s",
            "idle_timeout": "1500ms",
            "total_timeout": "2m",
            "rate_key": "{{ input.tenant }}",
            "priority": 3,
            "cost": 2,
            "isolation": "thread",
        }
    ],
    "lanes": {
        "llm": {
            "concurrency": 8,
            "capacity": 100,
            "threads": 4,
            "rate_key": "{{ input.tenant }}",
            "on_full": {"redirect": "slow"},
            "fair": False,
            "timeout": "3s",
            "rate": "60/m",
            "burst": 5,
            "budgets": {"tokens": "90000/m", "pages": {"rate": "10/2s", "burst": 1}},
        },
        "slow": {"concurrency": 1, "capacity": 10_000, "on_full": "drop_oldest"},
        "cpu": {"capacity": 10_000},
    },
}


def test_a_document_says_everything_and_comes_back_whole() -> None:
    flow = goclaw.Workflow.from_dict(DOCUMENT)
    assert flow.to_dict() == DOCUMENT
    again = goclaw.Workflow.from_yaml(flow.to_yaml())
    assert again.to_dict() == DOCUMENT
    assert flow.validate() == []


def test_the_schema_knows_the_keys() -> None:
    schema = goclaw.Workflow.schema()["properties"]
    lane = schema["lanes"]["additionalProperties"]["properties"]
    assert set(lane) == {
        *("concurrency", "capacity", "threads", "rate", "burst", "rate_key", "budgets", "on_full", "timeout"),
        *("isolation", "fair"),
    }
    assert set(DOCUMENT["tasks"][0]) <= set(schema["tasks"]["items"]["properties"])


def test_options_go_through_every_door() -> None:
    options: dict[str, Any] = {
        "queue_timeout": 1,
        "idle_timeout": "2s",
        "total_timeout": "1m",
        "rate_key": "k",
        "cost": 3,
        "isolation": "thread",
    }
    told = {
        "queue_timeout": "1s",
        "idle_timeout": "2s",
        "total_timeout": "1m",
        "rate_key": "k",
        "cost": 3,
        "isolation": "thread",
    }

    @goclaw.agent(name="lanes.declared", **options)
    def declared() -> None: ...

    @goclaw.workflow
    def traced() -> None:
        declared()
        note.options(**options)("x")
        note("x").options(**options)  # type: ignore[attr-defined]

    built = goclaw.Workflow("built").task("a", declared).task("b", note, **options)
    for task in (*traced.to_dict()["tasks"], *built.to_dict()["tasks"]):
        assert told.items() <= task.items(), task

    @goclaw.workflow
    def removed() -> None:
        declared.options(queue_timeout=None, idle_timeout=None, total_timeout=None, rate_key=None)()

    (task,) = removed.to_dict()["tasks"]
    assert not {"queue_timeout", "idle_timeout", "total_timeout", "rate_key"} & set(task)


def test_a_handle_can_be_a_rate_key() -> None:
    @goclaw.workflow
    def keyed(tenant: str) -> str:
        whose = note(tenant)
        note("x").options(rate_key=tenant).options(cost=2)  # type: ignore[attr-defined]
        return note("y").options(rate_key=whose)  # type: ignore[attr-defined, no-any-return]

    one, two, three = goclaw.Workflow.from_dict(keyed.to_dict()).to_dict()["tasks"]
    assert "rate_key" not in one
    assert (two["rate_key"], two["cost"]) == ("{{ input.tenant }}", 2)
    assert three["rate_key"] == "{{ note }}"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"cost": 0}, "config.cost"),
        ({"cost": True}, "config.cost"),
        ({"rate_key": ""}, "config.rate_key"),
        ({"rate_key": 7}, "config.rate_key"),
        ({"queue_timeout": 0}, "config.duration"),
        ({"idle_timeout": "soon"}, "config.duration"),
        ({"total_timeout": -1}, "config.duration"),
        ({"isolation": "proces"}, "config.choice"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options: dict[str, Any], code: str) -> None:
    for declare in (lambda: goclaw.agent(**options), lambda: note.options(**options)):
        with pytest.raises(goclaw.ConfigError) as refused:
            declare()
        assert refused.value.code == code
    with pytest.raises(goclaw.ConfigError):
        goclaw.Workflow("w").task("a", note, **options)


def test_an_isolation_that_the_function_is_not_made_for_is_refused() -> None:
    for agent, isolation in ((note, "loop"), (wait_a_little, "thread")):
        with pytest.raises(goclaw.AgentError) as refused:
            agent.options(isolation=isolation)  # type: ignore[arg-type]
        assert refused.value.code == "agent.isolation"
        # By its name, where the function is not at hand.
        flow = goclaw.Workflow("w").task("a", agent.name, isolation=isolation)  # type: ignore[arg-type]
        (problem,) = flow.validate()
        assert problem.code == "workflow.bad_option"
        # And where it is the lane that says so.
        lanes = [goclaw.Lane("special", 2, isolation=isolation)]  # type: ignore[arg-type]
        with goclaw.Engine(lanes=lanes) as engine, pytest.raises(goclaw.WorkflowError):
            engine.submit(goclaw.Workflow("w").task("a", agent, lane="special"))


def test_redirections_in_a_circle_are_refused() -> None:
    lanes = [
        goclaw.Lane("x", 1, on_full=goclaw.redirect("y")),
        goclaw.Lane("y", 1, on_full=goclaw.redirect("x")),
    ]
    problems = goclaw.Workflow("w", lanes=lanes).task("a", note, lane="x").validate()
    assert {problem.code for problem in problems} == {"workflow.bad_lane"}


async def test_an_awaited_submit_that_found_no_place_names_the_lane() -> None:
    with goclaw.Engine(lanes=[goclaw.Lane("tiny", 1, capacity=1)], drain_timeout=0) as engine:
        engine.lanes["tiny"].pause()
        flow = goclaw.Workflow("cramped")
        flow.task("t", tiny, lane="tiny")
        engine.submit(flow)
        with pytest.raises(goclaw.LaneFull, match="lane `tiny`"):
            await engine.asubmit(flow, timeout="50ms")


@goclaw.agent(name="lanes.tiny")
def tiny() -> int:
    return 1
