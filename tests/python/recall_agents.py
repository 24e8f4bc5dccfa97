"""Agents that worker processes import."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import goclaw


@goclaw.agent(isolation="process")
def note(fact: str, ctx: goclaw.Context) -> list[str]:
    id = ctx.memory.memorize(fact, metadata={"kind": "fact"})
    ctx.memory.memorize_many((text for text in ["one", "two"]), pinned=True)
    hits = ctx.memory.retrieve(fact, filter={"kind": "fact"}, top_k=1)
    assert [hit.entry.id for hit in hits] == [id], "its own write"
    assert os.getpid() != os.getppid()
    return [entry.content for entry in ctx.memory.recent(10)]


@goclaw.agent(isolation="process")
async def note_later(fact: str, ctx: goclaw.Context) -> list[Any]:
    await ctx.memory.amemorize(f"{fact}, later")
    hits = await ctx.memory.aretrieve(fact, top_k=1)
    return [hit.entry.content for hit in hits] + [ctx.memory.session]


@goclaw.agent(isolation="process", retries=0)
def note_and_fail(fact: str, ctx: goclaw.Context) -> None:
    ctx.memory.memorize(fact)
    raise ValueError("no luck")


@goclaw.agent(isolation="process", retry=goclaw.Retry(retries=3, initial="1ms"))
def note_and_die(fact: str, ctx: goclaw.Context) -> int:
    seen = len(ctx.memory.recent(10))
    ctx.memory.memorize(f"{fact} in attempt {ctx.attempt}")
    if ctx.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return seen


@goclaw.agent(isolation="process")
def refused(ctx: goclaw.Context) -> list[str]:
    codes = []
    for wrong in (
        lambda: ctx.memory.memorize(""),
        lambda: ctx.memory.of("team"),
        lambda: ctx.memory.get("01ARZ3NDEKTSV4RRFFQ69G5FAV"),
    ):
        try:
            wrong()
        except goclaw.RecallError as error:
            codes.append(error.code)
    return codes


@goclaw.agent(isolation="process")
def use_team(ctx: goclaw.Context) -> list[str]:
    team = ctx.memory.of("team")
    team.memorize("written by a worker")
    return [entry.content for entry in team.recent(5)]


@goclaw.agent(isolation="process", memory=goclaw.Retrieve("{{ input.question }}", top_k=2))
def recall(question: str, ctx: goclaw.Context) -> list[str]:
    assert [hit.entry for hit in ctx.recalled.found] == list(ctx.recalled)[: len(ctx.recalled.found)]
    return [entry.content for entry in ctx.recalled]


@goclaw.agent(isolation="process")
async def recall_later(question: str, facts: str, all: Any, ctx: goclaw.Context) -> list[Any]:
    assert isinstance(all, goclaw.Recalled)
    return [facts, [entry.content for entry in all], len(ctx.recalled.latest)]


@goclaw.agent
def kept(ctx: goclaw.Context) -> str:
    return ctx.memory.memorize("kept")


@goclaw.agent
def cut(kept: str, ctx: goclaw.Context) -> int:
    ctx.memory.memorize(f"cut in attempt {ctx.attempt}")
    ctx.memory.forget(ids=[kept])
    if ctx.attempt == 1:
        print("ready", flush=True)
        threading.Event().wait(60)
    return ctx.attempt


@goclaw.workflow(memory=goclaw.MemoryPolicy(retrieve_last=1))
def crashing() -> int:
    return cut(kept())


@goclaw.agent(isolation="process")
def lists(ctx: goclaw.Context) -> list[Any]:
    ctx.memory.memorize("from a worker")
    page = ctx.memory.list(limit=1)
    rest = ctx.memory.list(after=page[0].id)
    try:
        ctx.memory.of("team").count()
    except goclaw.RecallError as error:
        return [[entry.content for entry in page + rest], ctx.memory.count(), error.code]
    return []


KEPT: list[Any] = []


@goclaw.agent(isolation="process")
def keep_memory(ctx: goclaw.Context) -> int:
    KEPT.append(ctx.memory)
    ctx.memory.memorize("kept")
    return os.getpid()


@goclaw.agent(isolation="process")
def use_kept_memory(ctx: goclaw.Context) -> list[Any]:
    (memory,) = KEPT
    codes = []
    for late in (lambda: memory.memorize("late"), memory.recent, lambda: memory.retrieve("kept")):
        try:
            late()
        except goclaw.RecallError as error:
            codes.append(error.code)
    return [os.getpid(), codes]
