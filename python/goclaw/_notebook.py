"""How a run looks in a notebook cell."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .run import Run

_ROWS_MAX = 200
_COLOURS = {"completed": "#2e7d32", "failed": "#c62828", "running": "#1565c0", "retrying": "#ef6c00"}


def run_html(run: Run[Any]) -> str:
    """A small table of the run's tasks."""
    tasks = list(run.tasks.values())
    rows = "".join(
        f"<tr><td>{escape(task.id)}</td><td>{escape(task.agent)}</td><td>{escape(task.lane)}</td>"
        f'<td style="color:{_COLOURS.get(task.state, "inherit")}">{escape(task.state)}</td>'
        f"<td>{task.attempts or ''}</td><td>{escape(task.error or '')}</td></tr>"
        for task in tasks[:_ROWS_MAX]
    )
    more = f"<p>and {len(tasks) - _ROWS_MAX} more</p>" if len(tasks) > _ROWS_MAX else ""
    head = "".join(f"<th>{name}</th>" for name in ("task", "agent", "lane", "state", "attempts", "error"))
    return (
        f"<div><b>{escape(run.workflow)}</b> <code>{escape(run.id)}</code> "
        f"{escape(run.state)}<table><tr>{head}</tr>{rows}</table>{more}</div>"
    )
