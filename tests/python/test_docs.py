"""What the documents show is run; where they point, something is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"(<!-- example: \S+ -->\n)?^```python\n(.*?)^```", re.S | re.M)
LINK = re.compile(r"\]\(([^)#]+?)(?:#[^)]*)?\)")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[str]:
    """The Python of a page; what an example file shows in full is run there."""
    return [code for example, code in BLOCK.findall(page.read_text(encoding="utf-8")) if not example]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=name)
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks(page)), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("page", [*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md"], ids=name)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    targets = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    missing = [link for link in targets if not (page.parent / link).exists()]
    assert not missing


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page.is_relative_to(ROOT / "docs")}
    missing = {page for page in pages if not page.startswith(("errors/", "design/")) and page not in navigation}
    assert not missing


def test_decisions_are_listed() -> None:
    design = ROOT / "docs" / "design"
    listed = (design / "index.md").read_text(encoding="utf-8")
    assert [page.name for page in design.glob("[0-9]*.md") if page.name not in listed] == []
