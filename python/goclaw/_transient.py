"""Which errors of goclaw's own can come right by trying again: of a refusal that stays one no retry is spent.

What is wrong about a program, a name or a value stays wrong; what a service, a disk, a full lane or another run is to
blame for may pass. Codes that are not goclaw's are the business of whoever gave them: they may pass, too.
"""

from __future__ import annotations

_STAY: frozenset[str] = frozenset(
    {
        # Whole areas.
        "agent",
        "config",
        "memory",
        "payload",
        "template",
        "workflow",
        "engine.forked",
        "engine.own_lane",
        "engine.own_loop",
        "engine.own_run",
        "engine.own_session",
        "lane.budget",
        "lane.charge",
        "lane.declared",
        "lane.invalid",
        "lane.redirect_cycle",
        "lane.redirect_hops",
        "lane.unknown",
        "run.conflict",
        "run.incompatible",
        "run.sealed",
        "run.unknown",
        "run.unknown_task",
        "store.corrupt",
        "store.missing",
        "store.too_new",
        "store.unwritable",
        "task.binding",
    }
)
# Of those areas.
_PASS: frozenset[str] = frozenset(
    {"memory.backlog", "memory.embedder", "memory.embedder_paused", "memory.embedder_timeout", "memory.tier"}
)


def passes(code: str) -> bool:
    """Tells whether an error of that code can come right by trying again.

    Args:
        code: Stable name of a reason, ``area.reason``.

    Returns:
        True where a service, a disk, a lane or another run may do better the next time.
    """
    return code in _PASS or not (code in _STAY or code.partition(".")[0] in _STAY)
