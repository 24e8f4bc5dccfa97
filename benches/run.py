"""Measures goclaw beside its peers, in one run, in turns; prints Markdown tables.

    python benches/run.py [--quick] [--only NAME…] [--rounds N] [--json FILE] [--folder DIR]

Every contender does its work in a fresh process (so memory is its own), and the contenders take turns
(A B C A B C …), so that what disturbs the machine disturbs them alike. Medians are quoted. Installs
nothing: a peer that is not there is skipped, visibly.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benches.harness import Contender, Figures, Scenario, Setting, machine
from benches.scenarios import ALL

ROUND_S = 600
"""A contender that takes longer than this for one round has failed."""


def main() -> int:
    options = _options()
    if options.one:
        return _one(*options.one, options.quick, options.folder)
    folder = Path(options.folder or tempfile.gettempdir())
    report: dict[str, Any] = {"machine": machine(folder), "quick": options.quick, "scenarios": {}}
    print(_machine_line(report["machine"]), flush=True)
    for name in options.only or ALL:
        scenario = ALL[name]
        rounds = options.rounds or (2 if options.quick else scenario.rounds)
        figures, failures = _take_turns(scenario, rounds, options.quick, folder)
        verdicts = _verdicts(scenario, figures)
        report["scenarios"][name] = {"rounds": figures, "failures": failures, "targets": verdicts}
        print(_table(scenario, figures, failures, verdicts), flush=True)
    report["machine"]["load_after"] = machine(folder)["load"]
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n")
    return 1 if any(scenario["failures"] for scenario in report["scenarios"].values()) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures goclaw beside its peers.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, two rounds")
    parser.add_argument("--only", action="append", choices=list(ALL), metavar="NAME", help=", ".join(ALL))
    parser.add_argument("--rounds", type=int, help="rounds per contender")
    parser.add_argument("--json", metavar="FILE", help="write every round's figures here")
    parser.add_argument("--folder", help="where stores are put; on the disk that is to be measured")
    parser.add_argument("--one", nargs=2, metavar=("SCENARIO", "CONTENDER"), help=argparse.SUPPRESS)
    return parser.parse_args()


def _one(scenario: str, name: str, quick: bool, folder: str) -> int:
    """One round of one contender: its figures are the last line of the output."""
    contender = next(found for found in ALL[scenario].contenders if found.name == name)
    figures = contender.measure(Setting(quick, Path(folder)))
    print(json.dumps(figures))
    return 0


def _take_turns(
    scenario: Scenario, rounds: int, quick: bool, folder: Path
) -> tuple[dict[str, list[Figures]], dict[str, str]]:
    figures: dict[str, list[Figures]] = {}
    failures: dict[str, str] = {}
    for turn in range(rounds):
        for contender in scenario.contenders:
            if contender.name in failures or _missing(contender):
                continue
            _whisper(f"{scenario.name} {turn + 1}/{rounds} {contender.name}")
            try:
                turn_figures = _spawn(scenario, contender, quick, folder)
                figures.setdefault(contender.name, []).append(turn_figures)
            except _Failed as failed:
                failures[contender.name] = str(failed)
    _whisper("")
    return figures, failures


def _whisper(text: str) -> None:
    """Shows how far it is, where somebody looks on."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


class _Failed(Exception):
    pass


def _spawn(scenario: Scenario, contender: Contender, quick: bool, folder: Path) -> Figures:
    with tempfile.TemporaryDirectory(prefix="goclaw-bench-", dir=folder) as own:
        command = [sys.executable, __file__, "--one", scenario.name, contender.name, "--folder", own]
        command += ["--quick"] if quick else []
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=ROUND_S)
        except subprocess.TimeoutExpired:
            raise _Failed(f"took longer than {ROUND_S} s") from None
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise _Failed(last[0])
    figures: Figures = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def _missing(contender: Contender) -> list[str]:
    return [module for module in contender.needs if importlib.util.find_spec(module) is None]


def _median(figures: dict[str, list[Figures]], contender: str, key: str) -> float:
    return statistics.median(turn[key] for turn in figures[contender])


def _verdicts(scenario: Scenario, figures: dict[str, list[Figures]]) -> dict[str, str]:
    verdicts = {}
    for target in scenario.targets:
        try:
            held = target.holds(lambda name, key: _median(figures, name, key))
            verdicts[target.text] = "met" if held else "MISSED"
        except KeyError:
            verdicts[target.text] = "not measured"
    return verdicts


def _machine_line(facts: dict[str, Any]) -> str:
    words = ", ".join(f"{key} {value}" for key, value in facts.items() if value is not None)
    return f"Machine: {words}\n"


def _table(
    scenario: Scenario, figures: dict[str, list[Figures]], failures: dict[str, str], verdicts: dict[str, str]
) -> str:
    heads = ["contender", f"{scenario.unit} (median)", "min – max", *scenario.columns, "goclaw is"]
    lines = [f"### {scenario.title}", "", _row(heads), _row(["---", *["---:"] * (len(heads) - 1)])]
    for contender in scenario.contenders:
        lines.append(_row(_cells(scenario, contender, figures, failures)))
    lines += ["", *(f"- {verdict}: {text}" for text, verdict in verdicts.items())]
    return "\n".join(lines) + "\n"


def _cells(
    scenario: Scenario, contender: Contender, figures: dict[str, list[Figures]], failures: dict[str, str]
) -> list[str]:
    title = f"{contender.name} ({contender.note})" if contender.note else contender.name
    if contender.name not in figures:
        missing = _missing(contender)
        why = f"skipped: {', '.join(missing)} not installed" if missing else "failed"
        return [title, failures.get(contender.name, why), *[""] * (len(scenario.columns) + 2)]
    turns = figures[contender.name]
    values = [turn[scenario.figure] for turn in turns]
    extras = [
        _number(statistics.median(turn[key] for turn in turns)) if key in turns[0] else "" for key in scenario.columns
    ]
    spread = f"{_number(min(values))} – {_number(max(values))}"
    return [title, _number(statistics.median(values)), spread, *extras, _ratio(scenario, contender, figures)]


def _ratio(scenario: Scenario, contender: Contender, figures: dict[str, list[Figures]]) -> str:
    """How goclaw does against this peer, as the median over the rounds of the ratio within a round."""
    if contender.against not in figures:
        return ""
    ours, theirs = figures[contender.against], figures[contender.name]
    ratios = [a[scenario.figure] / b[scenario.figure] for a, b in zip(ours, theirs, strict=False)]
    ratio = statistics.median(ratios if scenario.higher_is_better else [1 / ratio for ratio in ratios])
    word = (
        ("better" if ratio >= 1 else "worse")
        if scenario.unit in ("MB", "bytes")
        else ("faster" if ratio >= 1 else "slower")
    )
    return f"{_number(max(ratio, 1 / ratio))} × {word}"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
