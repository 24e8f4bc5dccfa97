"""The demo: a team of agents reads Python's own standard library and reports on it.

    discover ──► read × 180 ──┬──► review × 180 ──┐
                              ├──► statistics ────┼──► write_report
                              └──► import_graph ──┘

`read` parses every module on threads, `review` is a coroutine per module, the rest is plain Python.
Nothing is downloaded and no model is called: where a model would answer, `review` waits a moment
and then applies three rules. Everything else is real work on real files.

Kill it while it runs, any way you like, and start it again: it goes on where it was.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import importlib.util
import os
import shutil
import sys
import tokenize
import zlib
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import goclaw
from _live import Live, strong

# One name for the one run of the demo, so that starting it again finds what there is of it.
RUN_ID = "01GC1AWDEM0STDREP0RT000000"
FOLDER = Path("goclaw-demo")


@dataclass
class Module:
    name: str
    path: str


@dataclass
class Function:
    name: str
    lines: int
    public: bool
    documented: bool


@dataclass
class Facts:
    """What one module's source says about itself."""

    module: str
    lines: int
    summary: str | None
    classes: int
    classes_documented: int
    functions: list[Function]
    imports: list[str]


@dataclass
class Review:
    module: str
    grade: str
    remark: str


@dataclass
class Numbers:
    modules: int
    lines: int
    functions: int
    modules_documented: float
    classes_documented: float
    functions_documented: float
    longest: list[tuple[str, int]]


@dataclass
class Graph:
    arrows: int
    most_imported: list[tuple[str, int]]
    largest_circle: list[str]


@goclaw.agent(name="stdlib.discover", lane="io")
def discover(limit: int) -> list[Module]:
    """Finds the public modules of the standard library that are written in Python."""
    found = []
    for name in sorted(sys.stdlib_module_names):
        spec = None if name.startswith("_") else importlib.util.find_spec(name)
        if spec is None:
            continue
        # Modules that are frozen into the interpreter say elsewhere where their source is.
        path = getattr(spec.loader_state, "filename", None) if spec.origin == "frozen" else spec.origin
        if path is not None and path.endswith(".py") and Path(path).is_file():
            found.append(Module(name, path))
    return found[:limit]


@goclaw.agent(name="stdlib.read", lane="cpu")
def read(module: Module) -> Facts:
    """Parses one module."""
    with tokenize.open(module.path) as file:
        source = file.read()
    tree = ast.parse(source)
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    summary = ast.get_docstring(tree)
    return Facts(
        module=module.name,
        lines=source.count("\n") + 1,
        summary=summary.strip().splitlines()[0] if summary and summary.strip() else None,
        classes=len(classes),
        classes_documented=sum(ast.get_docstring(node) is not None for node in classes),
        functions=list(functions(tree, module.name, public=True)),
        imports=sorted(set(imports(tree)) - {module.name}),
    )


@goclaw.agent(name="stdlib.review", lane="model")
async def review(facts: Facts, pause: float, context: goclaw.Context) -> Review:
    """Grades one module's documentation. The pause stands in for a model; the rules are three."""
    await asyncio.sleep(pause * (0.5 + zlib.crc32(facts.module.encode()) % 100 / 100))
    if context.attempt == 1 and zlib.crc32(facts.module.encode()) % 16 == 0:
        # Models are busy now and then: so that retries can be seen, this one is for every 16th module.
        raise goclaw.RetryAfter(pause)
    public = [function for function in facts.functions if function.public]
    share = sum(function.documented for function in public) / len(public) if public else 1.0
    if facts.summary is None:
        return Review(facts.module, "D", "says nothing about itself")
    if share < 0.5:
        return Review(facts.module, "C", f"explains {share:.0%} of its public functions")
    if share < 0.9:
        return Review(facts.module, "B", f"explains {share:.0%} of its public functions")
    return Review(facts.module, "A", "explains itself")


@goclaw.agent(name="stdlib.statistics", lane="cpu")
def statistics(facts: list[Facts]) -> Numbers:
    """Counts what is documented, and finds the longest functions."""
    everything = [(one.module, function) for one in facts for function in one.functions]
    public = [function for _, function in everything if function.public]
    longest = sorted(everything, key=lambda pair: -pair[1].lines)[:10]
    return Numbers(
        modules=len(facts),
        lines=sum(one.lines for one in facts),
        functions=len(everything),
        modules_documented=share(sum(one.summary is not None for one in facts), len(facts)),
        classes_documented=share(sum(one.classes_documented for one in facts), sum(one.classes for one in facts)),
        functions_documented=share(sum(function.documented for function in public), len(public)),
        longest=[(function.name, function.lines) for _, function in longest],
    )


@goclaw.agent(name="stdlib.import_graph", lane="cpu")
def import_graph(facts: list[Facts]) -> Graph:
    """Finds who imports whom, and the largest group of modules that import each other in a circle."""
    known = {one.module for one in facts}
    arrows = {one.module: [name for name in one.imports if name in known] for one in facts}
    imported = Counter(target for targets in arrows.values() for target in targets)
    circles = circles_of(arrows)
    return Graph(
        arrows=sum(map(len, arrows.values())),
        most_imported=imported.most_common(10),
        largest_circle=sorted(max(circles, key=len, default=[])),
    )


@goclaw.agent(name="stdlib.write_report", lane="io")
def write_report(folder: str, reviews: list[Review], numbers: Numbers, graph: Graph) -> list[tuple[str, str]]:
    """Writes the report; answers with the lines that the terminal shows."""
    grades = Counter(one.grade for one in reviews)
    rows = [
        ("modules", f"{numbers.modules:,} with {numbers.functions:,} functions in {numbers.lines:,} lines"),
        (
            "documented",
            f"modules {numbers.modules_documented:.0%} · classes {numbers.classes_documented:.0%} · "
            f"public functions {numbers.functions_documented:.0%}",
        ),
        ("grades", " · ".join(f"{grade} {grades[grade]}" for grade in "ABCD")),
        ("longest function", f"{numbers.longest[0][0]}, {numbers.longest[0][1]} lines" if numbers.longest else "none"),
        ("most imported", " · ".join(f"{name} {count}" for name, count in graph.most_imported[:5])),
        ("import circle", f"{len(graph.largest_circle)} modules reach each other"),
    ]
    text = "\n".join(markdown(rows, reviews, numbers, graph))
    # Written beside and moved: whoever reads the report never sees half of one.
    unfinished = Path(folder, "report.md.new")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(Path(folder, "report.md"))
    return rows


@goclaw.workflow(name="stdlib_report")
def stdlib_report(folder: str, limit: int, pause: float) -> list[tuple[str, str]]:
    modules = discover(limit)
    facts = read.map(modules)
    reviews = review.map(facts, pause=pause)
    numbers = statistics(facts)
    graph = import_graph(facts)
    return write_report(folder, reviews, numbers, graph)


# What the agents are made of.


def functions(tree: ast.AST, path: str, *, public: bool) -> list[Function]:
    """The functions of a module or class, methods included, functions inside functions left out."""
    found: list[Function] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            seen = public and not node.name.startswith("_")
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            found.append(Function(f"{path}.{node.name}", lines, seen, ast.get_docstring(node) is not None))
        elif isinstance(node, ast.ClassDef):
            found += functions(node, f"{path}.{node.name}", public=public and not node.name.startswith("_"))
        elif isinstance(node, (ast.If, ast.Try, ast.With)):
            found += functions(node, path, public=public)
    return found


def imports(tree: ast.AST) -> list[str]:
    """First names of everything that a module imports, also inside functions."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.append(node.module.partition(".")[0])
    return names


def circles_of(arrows: dict[str, list[str]]) -> list[list[str]]:
    """Groups whose members all reach each other (Tarjan 1972), without recursion."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    groups: list[list[str]] = []
    for root in arrows:
        work = [] if root in order else [(root, iter(arrows[root]))]
        while work:
            node, targets = work[-1]
            if node not in order:
                order[node] = low[node] = len(order)
                stack.append(node)
                on_stack.add(node)
            for target in targets:
                if target not in order:
                    work.append((target, iter(arrows[target])))
                    break
                if target in on_stack:
                    low[node] = min(low[node], order[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == order[node]:
                    at = stack.index(node)
                    groups.append(stack[at:])
                    on_stack.difference_update(stack[at:])
                    del stack[at:]
    return groups


def share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


def markdown(rows: list[tuple[str, str]], reviews: list[Review], numbers: Numbers, graph: Graph) -> list[str]:
    version = ".".join(map(str, sys.version_info[:3]))
    return [
        f"# The standard library of Python {version}",
        "",
        "Made by `examples/stdlib_report.py`. No model was asked: grades come from three rules.",
        "",
        "| what | result |",
        "|---|---|",
        *(f"| {what} | {result} |" for what, result in rows),
        "",
        "![the workflow](plan.svg)",
        "",
        "## Longest functions",
        "",
        "| function | lines |",
        "|---|---:|",
        *(f"| `{name}` | {lines} |" for name, lines in numbers.longest),
        "",
        "## Most imported",
        "",
        "| module | imported by |",
        "|---|---:|",
        *(f"| `{name}` | {count} |" for name, count in graph.most_imported),
        "",
        f"{graph.arrows} imports in all. The largest circle: {', '.join(graph.largest_circle)}.",
        "",
        "## Reviews",
        "",
        "| module | grade | remark |",
        "|---|---|---|",
        *(f"| `{one.module}` | {one.grade} | {one.remark} |" for one in reviews),
        "",
    ]


# The command.


def main() -> int:
    parser = argparse.ArgumentParser(description="Reports on Python's standard library with a team of agents.")
    parser.add_argument("--fresh", action="store_true", help="forget the run of before and start over")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where state and report go (default: goclaw-demo)")
    parser.add_argument("--modules", type=int, default=1000, help="read so many modules at most")
    parser.add_argument("--pause", type=float, default=0.5, help="seconds that stand in for a model's answer")
    options = parser.parse_args()
    if options.fresh:
        shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True, exist_ok=True)
    (options.folder / "plan.svg").write_text(stdlib_report.plan().to_svg(), encoding="utf-8")

    began = datetime.now(UTC)
    lanes = [goclaw.Lane("model", 16)]
    with goclaw.Engine(options.folder / "state", lanes=lanes) as engine:
        known = {summary.id: summary for summary in engine.list()}
        run = engine.submit(
            stdlib_report,
            {"folder": str(options.folder), "limit": options.modules, "pause": options.pause},
            run_id=RUN_ID,
            on_conflict="existing",
        )
        live = Live(run, began)
        before = known.get(RUN_ID)
        if before is None:
            print(f"{strong('A new run.')} Stop it at any moment and start it again: it will go on.\n")
        elif before.ended is None:
            print(f"{strong('Going on')} with the run of {clock(before.submitted)}: {live.seen} calls were done.\n")
        else:
            print(f"{strong('This run is over')} since {clock(before.ended)}; what follows is its record.\n")
        try:
            live.show()
        except KeyboardInterrupt:
            print(f"\n\n{strong('Stopped')} with {live.seen} calls done. Start again to go on: {command()}")
            return 130
        if run.error is not None:
            print(f"\nThe run {run.state}: {run.error}\nStart over: {command(fresh=True)}")
            return 1
        print()
        for what, result in run.result():
            print(f"  {what:<17} {result}")
        print()
        report = options.folder / "report.md"
        print(f"{live.summary()} · read {report} · again: {command()} · anew: {command(fresh=True)}")
    return 0


def clock(moment: datetime) -> str:
    return f"{moment.astimezone():%H:%M:%S}"


def command(*, fresh: bool = False) -> str:
    if os.environ.get("MAKELEVEL"):
        return "make demo FRESH=1" if fresh else "make demo"
    return f"python {sys.argv[0]}{' --fresh' if fresh else ''}"


if __name__ == "__main__":
    raise SystemExit(main())
