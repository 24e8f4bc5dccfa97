"""Every example runs, as its reader would run it: in a process of its own, in a folder of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("[!_]*.py") if path.name != "stdlib_report.py")
SAYS = {
    "cpu_bound.py": "4203 primes, counted in other processes: True",
    "fan_out.py": "'the': 5",
    "in_asyncio.py": "['hello Grace', 'hello Edsger', 'hello Barbara']",
    "chat_sessions.py": "left behind: 0",
    "support_desk.py": "0 facts for eve: nothing known",
    "retries.py": "caused by ValueError('Nowhere is not a city')",
    "sixty_seconds.py": "'title': 'https://example.org'",
    "yaml_support.py": "a billing ticket of 9 words is answered",
}


def run(script: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / script), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_example_runs_and_says_what_it_should(script: str, tmp_path: Path) -> None:
    done = run(script, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert SAYS[script] in done.stdout


def test_the_readme_shows_the_sixty_second_example() -> None:
    """The example is the README's code, with bodies in the place of the dots."""
    example = (EXAMPLES / "sixty_seconds.py").read_text(encoding="utf-8")
    for readme in ("README.md", "README.zh-CN.md"):
        text = (ROOT / readme).read_text(encoding="utf-8")
        shown = re.search(r"<!-- example: examples/sixty_seconds.py -->\n```python\n(.*?)```", text, re.S)
        assert shown is not None
        for line in filter(None, shown[1].splitlines()):
            assert line.removesuffix(" ...").strip() in example, f"{readme}: {line}"


def demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run("stdlib_report.py", "--modules", "24", "--pause", "0.05", *arguments, folder=folder)


def test_the_demo_reports_on_real_modules(tmp_path: Path) -> None:
    done = demo(tmp_path)
    assert done.returncode == 0, done.stderr
    report = (tmp_path / "goclaw-demo" / "report.md").read_text(encoding="utf-8")
    assert "| modules | 24 with" in report
    assert "| `argparse` |" in report
    assert (tmp_path / "goclaw-demo" / "plan.svg").read_text(encoding="utf-8").startswith("<svg")
    assert re.search(r"\d+ agent calls in \d", done.stdout.splitlines()[-1])


def test_a_finished_demo_says_so_and_runs_nothing_again(tmp_path: Path) -> None:
    first = demo(tmp_path)
    second = demo(tmp_path)
    assert second.returncode == 0, second.stderr
    assert "This run is over" in second.stdout
    assert "none repeated" in second.stdout
    table = [line for line in first.stdout.splitlines() if line.startswith("  modules")]
    assert table
    assert table[0] in second.stdout
    assert "A new run" in demo(tmp_path, "--fresh").stdout


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_demo_that_was_killed_goes_on(how: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "stdlib_report.py"), "--modules", "60", "--pause", "0.4"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.split()[:1] == ["read"]:  # all modules are read, reviews are under way
                break
        time.sleep(0.5)
        process.send_signal(how)
    again = demo(tmp_path)
    assert again.returncode == 0, again.stderr
    found = re.search(r"Going on with the run of [\d:]+: (\d+) calls were done", again.stdout)
    assert found is not None, again.stdout
    last = re.search(r"(\d+) agent calls in", again.stdout.splitlines()[-1])
    assert last is not None
    before, after = int(found[1]), int(last[1])
    assert before >= 61
    assert before + after == 60 * 2 + 4


def outputs_of(name: str, folder: Path) -> list[dict[str, Any]]:
    """What the cells of a notebook show, run from the first to the last."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": folder}}
    ).execute()
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def test_the_notebook_of_memory_runs(tmp_path: Path) -> None:
    outputs = outputs_of("memory.ipynb", tmp_path)
    said = "".join(output.get("text", "") for output in outputs)
    assert re.search(r"Ada prefers green tea \| 0\.\d+ = .* by vector .* by words", said)
    assert "hello Ada, I know 0 things" in said
    assert "hello Ada, I know 2 things" in said
    assert any(output.get("data", {}).get("text/plain") == "[]" for output in outputs), "Bob's coffee is not Ada's"


def test_the_notebook_runs(tmp_path: Path) -> None:
    outputs = outputs_of("notebook.ipynb", tmp_path)
    assert any("image/svg+xml" in output.get("data", {}) for output in outputs)
    assert any("'hello Ada'" in output.get("data", {}).get("text/plain", "") for output in outputs)
