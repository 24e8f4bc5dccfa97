"""The public face: names, docstrings, import time, types."""

import builtins
import doctest
import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
import textwrap
from pathlib import Path

import goclaw
import pytest

FACE = """
Agent AgentError BindingError Cancelled ChargeRefused ChildView ColdStats Collect Compacted ConfigError Context
CycleError Definition DuplicateTask Engine EngineClosed EngineForked Entry Event Explanation Flow Forgetting Forgotten
GoclawError GoclawTimeout Health Heartbeat Hit HitExplanation IdleTimedOut Imported Incident IncompatibleRun
InputError Lane LaneDropped LaneFull LaneNotFound LanePlace LaneStats Lanes LiveLane Memory MemoryAccess MemoryPolicy
MemoryStats MergeFailed MessageDropped Moved NotYetSupported PayloadError Plan Problem Processes QueueTimedOut Rate
RecallError Recalled Redirect RemoteError ResultTimeout Retrieve Retry RetryAfter Run RunCancelled RunConflict
RunSummary RunTimedOut Running SessionBusy SessionError SessionFull SessionMemory SessionPlace SessionView Sessions
Signal Signals Stopping StoreCorrupt StoreError StoreFull StoreLocked StoreTooNew StuckCall StuckMerge Swept
TaskExplanation TaskFailed TaskTimedOut TaskView Told TotalTimedOut TracedValueError UnknownAgent UnknownDependency
UnknownLane UnknownRun WaitTimes Workflow WorkflowError WouldDeadlock __version__ agent compact current embedders
otherwise redirect run tiers when workflow
""".split()  # noqa: SIM905


def test_the_public_face_changes_only_on_purpose() -> None:
    assert sorted(goclaw.__all__) == sorted(FACE)
    assert all(hasattr(goclaw, name) for name in goclaw.__all__)


def test_no_name_shadows_a_built_in() -> None:
    assert not {name for name in goclaw.__all__ if not name.startswith("__")} & set(dir(builtins))


def test_everything_public_has_a_docstring() -> None:
    for name in goclaw.__all__:
        thing = getattr(goclaw, name)
        if name.startswith("__"):
            continue
        assert inspect.getdoc(thing), name
        if isinstance(thing, type) and thing.__module__.startswith("goclaw") and not issubclass(thing, BaseException):
            for member, value in vars(thing).items():
                if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
                    assert inspect.getdoc(value), f"{name}.{member}"


def test_importing_does_little_and_fast() -> None:
    code = """
        import sys, time
        started = time.process_time()
        import goclaw
        spent = time.process_time() - started
        heavy = {"asyncio", "pydantic", "numpy", "logging.config"} & set(sys.modules)
        print(heavy or "light", spent)
    """
    found = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert found.stdout.startswith("light"), found.stdout


MODULES = [name for _, name, _ in pkgutil.iter_modules(goclaw.__path__) if name not in ("_goclaw", "_loop", "context")]
MODULES += [f"embedders.{name}" for _, name, _ in pkgutil.iter_modules(goclaw.embedders.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_are_true(name: str) -> None:
    module = importlib.import_module(f"goclaw.{name}")
    names = {public: getattr(goclaw, public) for public in ("agent", "workflow", "Engine", "run", "Workflow")}
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    for test in finder.find(module, module.__name__, extraglobs=names):
        runner.run(test)
    assert runner.summarize().failed == 0


RIGHT = """
    import goclaw

    @goclaw.agent(lane="io", timeout=30, retries=3)
    async def fetch(url: str) -> str:
        return url

    @goclaw.agent
    def analyze(page: str, *, depth: int = 1) -> dict[str, int]:
        return {"length": len(page)}

    # mypy does not apply decorators of classes; called as a function they are typed everywhere.
    class Sorts:
        def run(self, found: dict[str, int]) -> list[str]:
            return sorted(found)

    class SortsLater:
        async def run(self, found: dict[str, int]) -> list[str]:
            return sorted(found)

    Resolve = goclaw.agent(Sorts)
    ResolveLater = goclaw.agent(lane="cpu")(SortsLater)

    @goclaw.workflow
    def pipeline(url: str) -> list[str]:
        page = fetch(url)
        found: dict[str, int] = analyze(page, depth=2)
        with goclaw.when(found["length"]):
            a: list[str] = Resolve(found)
        b: list[str] = ResolveLater(found)
        many: list[str] = fetch.map([url])
        return a + b + many

    text: str = fetch("x")
    outcome: list[str] = pipeline("x")

    def main() -> None:
        with goclaw.Engine(lanes=[goclaw.Lane("gpu", 1)]) as engine:
            run: goclaw.Run[list[str]] = engine.submit(pipeline, {"url": "x"})
            result: list[str] = run.result(timeout="5s")
            other: list[str] = engine.run(pipeline, {"url": "x"}, priority=1, session="s", weight=2)
            print(result, other)
            engine.submit(pipeline, {"url": "x"}, tags=["t"], on_conflict="existing", durability=None, timeout=1)
            engine.submit_many(pipeline, [], session=["a"], block=False, when_busy="reject")
            engine.lanes["gpu"].set(concurrency=2, rate=None)
            running: int = engine.lanes["gpu"].running
            print(running)

    async def amain() -> list[str]:
        async with goclaw.Engine() as engine:
            first: list[str] = await engine.submit(pipeline, {"url": "x"})
            return first + await engine.arun(pipeline, {"url": "x"})
"""
WRONG = [
    "fetch(1)",
    "fetch('x', 'y')",
    "fetch(page='x')",
    "analyze('x', depth='deep')",
    "n: int = fetch('x')",
    "Resolve('x')",
    "pipeline(1)",
    "m: int = pipeline('x')",
    "goclaw.agent(lane=3)",
    "goclaw.agent(nonsense=1)",
    "goclaw.agent(isolation='moon')",
    "goclaw.Lane('io', 1, 2)",
    "goclaw.Retry(5)",
    "goclaw.Engine(durability='maybe')",
    "goclaw.Memory().retrieve('x', session='s', topk=3)",
    "goclaw.Memory().retrieve('x', session='s', mode='psychic')",
    "goclaw.Memory().memorize('x', session='s', pinned='yes')",
    "goclaw.Memory().forget('s', beneath=0.3)",
    "goclaw.Engine().submit(pipeline, prio=1)",
    "goclaw.Engine().submit(pipeline, on_conflict='maybe')",
    "goclaw.Engine().run(pipeline, run_id='x')",
    "goclaw.Engine().submit_many(pipeline, [], run_id='x')",
    "goclaw.Engine().lanes['io'].set(speed=1)",
    "goclaw.Engine().lanes['io'].speed",
    "fetch.options(nonsense=1)",
]


def test_options_that_calls_share_are_seen_by_name_and_refused_by_name() -> None:
    @goclaw.agent
    def same(x: int) -> int:
        return x

    flow = goclaw.Workflow("one").task("t", same, args={"x": 1})
    calls = {
        goclaw.Engine.submit: ("run_id", "priority", "session", "timeout", "block"),
        goclaw.Engine.arun: ("priority", "weight"),
        goclaw.Engine.submit_many: ("durability", "session"),
        goclaw.agent: ("name", "retries", "delivery"),
        goclaw.Agent.options: ("trigger", "lane"),
        goclaw.Workflow.task: ("deps", "total_timeout"),
        goclaw.Run.add_task: ("deps", "total_timeout"),
        goclaw.LiveLane.set: ("concurrency", "fair"),
    }
    for call, names in calls.items():
        shown = inspect.signature(call).parameters
        assert set(names) <= set(shown), call
        assert "options" not in shown
        assert shown[names[-1]].kind is inspect.Parameter.KEYWORD_ONLY
    with goclaw.Engine() as engine:
        refused = [
            lambda: engine.submit(flow, prioriti=1),  # type: ignore[call-arg]
            lambda: engine.try_submit(flow, prioriti=1),  # type: ignore[call-arg]
            lambda: engine.run(flow, prioriti=1),  # type: ignore[call-arg]
            lambda: engine.submit_many(flow, [], prioriti=1),  # type: ignore[call-arg]
            lambda: goclaw.agent(prioriti=1),  # type: ignore[call-overload]
            lambda: same.options(prioriti=1),  # type: ignore[call-arg]
            lambda: goclaw.Workflow("two").task("t", same, prioriti=1),  # type: ignore[call-arg]
            lambda: engine.submit(flow).add_task("u", same, prioriti=1),  # type: ignore[call-arg]
        ]
        for wrong in refused:
            with pytest.raises(TypeError, match="'prioriti'; did you mean `priority`"):
                wrong()
        with pytest.raises(TypeError, match="'run_id'"):
            engine.run(flow, run_id="x")  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="'concurency'; did you mean `concurrency`"):
            engine.lanes["io"].set(concurency=1)  # type: ignore[call-arg]


def env() -> dict[str, str]:
    """Where mypy finds the package: an installed one by itself, one that lies elsewhere by its path."""
    root = Path(goclaw.__file__).parent.parent
    return {**os.environ} if root.name == "site-packages" else {**os.environ, "MYPYPATH": str(root)}


def check(tool: list[str], source: str, folder: Path) -> subprocess.CompletedProcess[str]:
    file = folder / "code.py"
    file.write_text(textwrap.dedent(source))
    return subprocess.run(
        [sys.executable, "-m", *tool, str(file)], capture_output=True, text=True, cwd=folder, env=env()
    )


def tools(folder: Path) -> dict[str, list[str]]:
    root = str(Path(goclaw.__file__).parent.parent)
    (folder / "pyrightconfig.json").write_text(f'{{"extraPaths": ["{root}"], "typeCheckingMode": "strict"}}')
    return {"mypy": ["mypy", "--strict", "--follow-imports=silent"], "pyright": ["pyright"]}


@pytest.mark.parametrize("tool", ["mypy", "pyright"])
def test_right_code_is_accepted_by_type_checkers(tool: str, tmp_path: Path) -> None:
    found = check(tools(tmp_path)[tool], RIGHT, tmp_path)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("tool", ["mypy", "pyright"])
def test_wrong_code_is_refused_by_type_checkers(tool: str, tmp_path: Path) -> None:
    base = textwrap.dedent(RIGHT)
    lines = len(base.splitlines())
    found = check(tools(tmp_path)[tool], base + "\n" + "\n".join(WRONG), tmp_path)
    for position, line in enumerate(WRONG, start=lines + 2):
        assert f"code.py:{position}:" in found.stdout, (line, found.stdout)


def test_the_stub_says_what_the_native_module_has(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mypy.stubtest", "goclaw._goclaw"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env())
    assert found.returncode == 0, found.stdout
