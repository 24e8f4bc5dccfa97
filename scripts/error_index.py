"""Keeps docs/errors/index.md in step with the codes in the sources.

python scripts/error_index.py            write the list
python scripts/error_index.py --check    say what is missing, and fail
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "errors"
AREAS = {
    "workflow": "A workflow is refused",
    "agent": "A function cannot be an agent",
    "config": "An option makes no sense",
    "run": "A run",
    "task": "A task failed",
    "template": "A template",
    "payload": "A value cannot travel",
    "memory": "A memory",
    "lane": "A lane",
    "session": "A session",
    "engine": "The engine",
    "store": "The store",
    "goclaw": "Bases of other errors",
}
LITERAL = re.compile(rf'"((?:{"|".join(AREAS)})\.[a-z_]+)"')
# Events have names of the same form; such a name is a code only where the line says so.
SAYS_CODE = re.compile(r"\bcode\b|Failure::new|Error::new|Problem::new")
EVENT = re.compile(r'Self::\w+ => "([a-z]+\.[a-z_]+)"')
# What is raised with a code, whatever its area: one that is not in `AREAS` would have no page, and nobody would see it.
RAISED = re.compile(
    r"""(?:code=|(?:Error|Failure|Problem)::new\(\s*(?:[\w:]+,\s*)?|binding\(\s*)"([a-z]+)\.[a-z_]+\""""
)
INTRO = """# Errors

Everything goclaw raises is a `goclaw.GoclawError` with a stable `.code`, a message that names the guilty thing, and
`.help`. Codes are `area.reason`; each has a page. Inside agents there is one more: `goclaw.Cancelled`, which is no
`Exception`.
"""


def sources() -> list[Path]:
    rust = [path for path in (ROOT / "src").rglob("*.rs") if "tests" not in path.relative_to(ROOT).as_posix()]
    return sorted([*rust, *(ROOT / "python" / "goclaw").rglob("*.py")])


def codes() -> set[str]:
    """Every code that the sources mention."""
    events = set(EVENT.findall((ROOT / "src" / "model" / "fact.rs").read_text(encoding="utf-8")))
    found = set()
    for path in sources():
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            if "/sys/" in line:  # a file of the kernel, such as memory.max
                continue
            for code in LITERAL.findall(line):
                if code.startswith("goclaw."):
                    sure = path.name == "errors.py"  # elsewhere: the name of a log
                else:
                    near = " ".join(lines[max(0, number - 6) : number + 1])
                    sure = code not in events or (path.stem != "fact" and SAYS_CODE.search(near))
                if sure:
                    found.add(code)
    return found


def unknown_areas() -> set[str]:
    """Areas that codes have in the sources and that this script does not know."""
    return {area for path in sources() for area in RAISED.findall(path.read_text(encoding="utf-8"))} - set(AREAS)


def pages() -> dict[str, str]:
    """Every page's text by code."""
    return {page.stem: page.read_text(encoding="utf-8") for page in PAGES.glob("*.*.md")}


def index() -> str:
    """The list of all pages, with the first sentence of each."""
    lines = [INTRO]
    for area, title in AREAS.items():
        rows = sorted((code, text) for code, text in pages().items() if code.startswith(area + "."))
        lines += [f"## {title}\n", "| code | meaning |", "|---|---|"]
        lines += [f"| [`{code}`]({code}.md) | {first_sentence(text)} |" for code, text in rows]
        lines.append("")
    return "\n".join(lines)


def first_sentence(page: str) -> str:
    paragraph = page.split("\n\n")[1].replace("\n", " ")
    return re.split(r"(?<=[^.]\.)\s", paragraph, maxsplit=1)[0]


def faults() -> list[str]:
    """What is out of step, one sentence each."""
    known, written = codes(), pages()
    found = [f"codes of the area `{area}` are not looked for: add it to AREAS" for area in sorted(unknown_areas())]
    found += [f"docs/errors/{code}.md is missing" for code in sorted(known - set(written))]
    found += [f"docs/errors/{code}.md is about a code that no source mentions" for code in sorted(set(written) - known)]
    for code, text in sorted(written.items()):
        if not text.startswith(f"# {code}\n\n"):
            found.append(f"docs/errors/{code}.md does not begin with its code")
        if "## What to do\n" not in text:
            found.append(f"docs/errors/{code}.md does not say what to do")
    if (PAGES / "index.md").read_text(encoding="utf-8") != index():
        found.append("docs/errors/index.md is out of date: run python scripts/error_index.py")
    return found


if __name__ == "__main__":
    if "--check" not in sys.argv:
        (PAGES / "index.md").write_text(index(), encoding="utf-8")
    problems = faults()
    print("\n".join(problems) or f"{len(pages())} codes, each with its page")
    raise SystemExit(bool(problems))
