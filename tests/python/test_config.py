"""Settings: defaults, then a file, then the environment, then arguments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import goclaw
import pytest
from goclaw import config

YAML = """
durability: relaxed
drain_timeout: 2s
lanes:
  cpu: {concurrency: 3}
  llm: {concurrency: 8, rate: 60/m, budgets: {tokens: 90_000/m}}
  memory:
"""
TOML = """
durability = "relaxed"
drain_timeout = "2s"
[lanes.cpu]
concurrency = 3
[lanes.llm]
concurrency = 8
rate = "60/m"
budgets = { tokens = "90_000/m" }
[lanes.memory]
"""


def lanes(settings: config.Settings) -> dict[str, goclaw.Lane]:
    return {lane.name: lane for lane in settings.lanes}


@pytest.mark.parametrize("kind", ["yaml", "toml", "json"])
def test_files_of_every_kind_say_the_same(kind: str, tmp_path: Path) -> None:
    file = tmp_path / f"goclaw.{kind}"
    text = {"yaml": YAML, "toml": TOML}.get(kind)
    if text is None:
        import tomllib

        text = json.dumps(tomllib.loads(TOML))
    file.write_text(text)
    found = config.read(file, environ={})
    assert found.values == {"durability": "relaxed", "drain_timeout": "2s"}
    assert lanes(found)["cpu"] == goclaw.Lane("cpu", 3)
    assert lanes(found)["llm"].budgets == {"tokens": "90_000/m"}
    assert lanes(found)["memory"].concurrency is None
    assert found.origins["lanes.llm.rate"] == str(file)


def test_later_places_outrank_earlier_ones_key_by_key() -> None:
    found = config.read(
        {
            "concurrency": 4,
            "durability": "relaxed",
            "lanes": {"cpu": {"concurrency": 1, "capacity": 10, "fair": False}},
        },
        lanes=[goclaw.Lane("cpu", 5), goclaw.Lane("slow-lane", 1, on_full=goclaw.redirect("cpu"))],
        arguments={"concurrency": 9, "durability": None},
        environ={
            "GOCLAW_CONCURRENCY": "6",
            "GOCLAW_LANES__CPU__CONCURRENCY": "2",
            "GOCLAW_LANES__CPU__CAPACITY": "20",
            "GOCLAW_LANES__SLOW_LANE__CAPACITY": "7",
            "GOCLAW_LANES__NEW__CONCURRENCY": "1",
            "GOCLAW_LANES__NEW__BUDGETS__TOKENS": "9/s",
            "GOCLAW_LANES__NEW__ON_FULL": "{redirect: cpu}",
        },
    )
    assert found.values == {"concurrency": 9, "durability": "relaxed"}
    assert lanes(found)["cpu"] == goclaw.Lane("cpu", 5, capacity=20, fair=False)
    assert lanes(found)["slow-lane"] == goclaw.Lane("slow-lane", 1, capacity=7, on_full=goclaw.redirect("cpu"))
    new = goclaw.Lane("new", 1, budgets={"tokens": "9/s"}, on_full=goclaw.redirect("cpu"))
    assert lanes(found)["new"] == new
    assert found.origins["lanes.cpu.concurrency"] == "arguments"
    assert found.origins["lanes.cpu.capacity"] == "GOCLAW_LANES__CPU__CAPACITY"
    assert found.origins["lanes.cpu.fair"] == "config"


def test_a_file_is_read_only_where_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "goclaw.yaml").write_text("lanes: {io: {capacity: 5}}")
    with goclaw.Engine() as engine:
        assert engine.lanes["io"].capacity != 5
    monkeypatch.setenv("GOCLAW_CONFIG", "goclaw.yaml")
    monkeypatch.setenv("GOCLAW_LANES__IO__CONCURRENCY", "3")
    with goclaw.Engine() as engine:
        assert (engine.lanes["io"].capacity, engine.lanes["io"].concurrency) == (5, 3)
    with goclaw.Engine(config={"lanes": {"io": {"capacity": 6}}}) as engine:
        assert engine.lanes["io"].capacity == 6


def test_durability_of_a_file_is_meant_for_engines_with_a_path(tmp_path: Path) -> None:
    told = {"durability": "relaxed", "relaxed_window": "5ms", "payload_max": 1000, "drain_timeout": 0}
    with goclaw.Engine(config=told) as engine:
        assert engine.run(goclaw.Workflow("w").task("a", _one)) == 1
    with goclaw.Engine(tmp_path / "store", config=told) as engine:
        assert engine.submit(goclaw.Workflow("w").task("a", _one)).durability == "relaxed"


@goclaw.agent(name="config.one")
def _one() -> int:
    return 1


@pytest.mark.parametrize(
    ("given", "environ", "code", "words"),
    [
        ({"lane": {}}, {}, "config.unknown_key", "did you mean `lanes`?"),
        ({"lanes": {"io": {"capcity": 1}}}, {}, "config.unknown_key", "did you mean `capacity`?"),
        ({"lanes": []}, {}, "config.file", "`lanes`"),
        ({"lanes": {"io": 5}}, {}, "config.file", "lane `io`"),
        ({"lanes": {"io": {"capacity": 0}}}, {}, "config.lane", "`capacity`"),
        ({"lanes": {"x": {}}}, {}, "config.lane", "no concurrency"),
        (None, {"GOCLAW_DURABILTY": "strict"}, "config.unknown_key", "did you mean `durability`?"),
        (None, {"GOCLAW_LANE__CPU__CONCURRENCY": "1"}, "config.unknown_key", "did you mean `lanes`?"),
        (None, {"GOCLAW_LANES__CPU": "1"}, "config.unknown_key", "GOCLAW_LANES__CPU__CONCURRENCY"),
        (None, {"GOCLAW_LANES__CPU__CONCURENCY": "1"}, "config.unknown_key", "did you mean `concurrency`?"),
        (None, {"GOCLAW_LANES__CPU__ON_FULL__REDIRECT": "x"}, "config.unknown_key", "no key of a lane"),
        (None, {"GOCLAW_CONCURRENCY__X": "1"}, "config.unknown_key", "GOCLAW_CONCURRENCY"),
        (None, {"GOCLAW_CONCURRENCY": "[1"}, "config.file", "GOCLAW_CONCURRENCY"),
        (None, {"GOCLAW_LANES__CPU__CONCURRENCY": "many"}, "config.lane", "many"),
        (None, {"GOCLAW_CONFIG": "/nowhere/goclaw.yaml"}, "config.file", "cannot be read"),
        ("/nowhere/goclaw.ini", {}, "config.file", "goclaw.ini"),
    ],
)
def test_what_cannot_be_meant_is_refused(given: Any, environ: dict[str, str], code: str, words: str) -> None:
    with pytest.raises(goclaw.ConfigError) as refused:
        config.read(given, environ=environ)
    assert refused.value.code == code
    assert words in f"{refused.value} {refused.value.help}"


def test_a_refused_value_says_where_it_comes_from() -> None:
    with pytest.raises(goclaw.ConfigError) as refused:
        config.read(environ={"GOCLAW_LANES__CPU__CONCURRENCY": "many"})
    assert refused.value.__notes__[-1] == "lanes.cpu.concurrency comes from GOCLAW_LANES__CPU__CONCURRENCY"


@pytest.mark.parametrize("text", ["a: [", "- 1", "{"])
def test_a_broken_file_is_refused(text: str, tmp_path: Path) -> None:
    for kind in ("yaml", "toml", "json"):
        file = tmp_path / f"c.{kind}"
        file.write_text(text)
        with pytest.raises(goclaw.ConfigError) as refused:
            config.read(file, environ={})
        assert refused.value.code == "config.file"
    (tmp_path / "empty.yaml").write_text("")
    assert config.read(tmp_path / "empty.yaml", environ={}).values == {}


def test_variables_of_other_programs_are_let_be() -> None:
    environ = {"GOCLAW_SERVICE_HOST": "10.0.0.1", "GOCLAW_PORT": "tcp://10.0.0.1:80", "GOCLAW_UVLOOP": "1"}
    assert config.read(environ=environ).values == {}


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ({"durability": "forever"}, "config.choice"),
        ({"concurrency": 0}, "config.invalid"),
        ({"payload_max": "x"}, "config.invalid"),
        ({"relaxed_window": 0}, "config.duration"),
        ({"drain_timeout": "soon"}, "config.duration"),
    ],
)
def test_values_of_a_file_are_checked_like_arguments(told: dict[str, Any], code: str, tmp_path: Path) -> None:
    with pytest.raises(goclaw.ConfigError) as refused:
        goclaw.Engine(tmp_path / "store", config=told)
    assert refused.value.code == code


def test_an_argument_that_says_the_default_outranks_a_file() -> None:
    file = {"lanes": {"llm": {"concurrency": 8, "capacity": 5, "on_full": {"redirect": "io"}, "fair": False}}}
    found = lanes(config.read(file, lanes=[goclaw.Lane("llm", 2, on_full="block", fair=True)], environ={}))["llm"]
    assert (found.concurrency, found.capacity, found.on_full, found.fair) == (2, 5, "block", True)


def test_a_lane_may_have_its_size_from_a_file() -> None:
    found = config.read({"lanes": {"llm": {"concurrency": 8}}}, lanes=[goclaw.Lane("llm", capacity=7)], environ={})
    assert found.lanes == [goclaw.Lane("llm", 8, capacity=7)]
    with pytest.raises(goclaw.ConfigError, match="no concurrency"):
        goclaw.Engine(lanes=[goclaw.Lane("llm")])


def test_a_lane_given_twice_is_refused() -> None:
    with pytest.raises(goclaw.ConfigError) as refused:
        goclaw.Engine(lanes=[goclaw.Lane("a", 1), goclaw.Lane("a", 2)])
    assert refused.value.code == "lane.declared"


@pytest.mark.parametrize("level", ["strict", "relaxed"])
def test_an_engine_in_memory_takes_no_durability(level: Any) -> None:
    with pytest.raises(goclaw.ConfigError) as refused:
        goclaw.Engine(durability=level)
    assert refused.value.code == "config.contradiction"


def test_a_configuration_that_is_none_is_refused() -> None:
    with pytest.raises(goclaw.ConfigError) as refused:
        goclaw.Engine(config=5)  # type: ignore[arg-type]
    assert refused.value.code == "config.file"


def test_a_variable_with_single_underscores_is_understood() -> None:
    with pytest.raises(goclaw.ConfigError) as refused:
        config.read(environ={"GOCLAW_LANES_LLM_CONCURRENCY": "1"})
    assert refused.value.help == "did you mean `GOCLAW_LANES__LLM__CONCURRENCY`?"
