"""Agents by name, for documents that name them; an import path is imported on first sight."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .errors import AgentError, WorkflowError

if TYPE_CHECKING:
    from .agent import Agent

_agents: dict[str, Agent[Any, Any]] = {}
listeners: list[Callable[[], None]] = []
_lock = threading.Lock()
_generation = 0


def add(agent: Agent[Any, Any]) -> None:
    """Registers an agent under its name; the same function defined again takes its place.

    Raises:
        AgentError: `agent.duplicate` where another function has the name.
    """
    global _generation
    with _lock:
        old = _agents.get(agent.name)
        if old is not None and old._origin != agent._origin:
            raise AgentError(
                f"the agent name `{agent.name}` is taken by {'.'.join(old._origin)}",
                code="agent.duplicate",
                help="give one of them another name: @goclaw.agent(name=...)",
            )
        _agents[agent.name] = agent
        _generation += 1


def announce() -> None:
    """Tells open engines that an agent can be called now: runs may be waiting for it."""
    for listener in listeners:
        listener()


def generation() -> int:
    """Grows with every registration: what was compiled before may be out of date."""
    return _generation


def names() -> list[str]:
    """Every registered name."""
    with _lock:
        return sorted(_agents)


def find(name: str) -> Agent[Any, Any] | None:
    """The agent of that name: registered, else imported by its path, else `None`.

    Raises:
        WorkflowError: `workflow.agent_import` where the module is there and its import fails.
    """
    found = _agents.get(name)
    return found if found is not None else _import(name)


def _import(name: str) -> Agent[Any, Any] | None:
    module_name, colon, path = name.partition(":")
    if not colon:
        module_name, _, path = name.rpartition(".")
    if (
        not module_name
        or not path
        or not all(part.isidentifier() for part in (*module_name.split("."), *path.split(".")))
    ):
        return None
    try:
        target: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name + ".").startswith(error.name + "."):
            return None
        raise _failed(name, module_name) from error
    except Exception as error:
        raise _failed(name, module_name) from error
    for part in path.split("."):
        target = getattr(target, part, None)
    return as_agent(target, name) if callable(target) else None


def as_agent(target: Any, name: str | None = None) -> Agent[Any, Any]:
    """The agent itself, or a plain function or class made one."""
    from .agent import Agent, agent

    if isinstance(target, Agent):
        return target
    made: Agent[Any, Any] = agent(name=name)(target)
    return made


def _failed(name: str, module: str) -> WorkflowError:
    return WorkflowError(
        f"agent `{name}` cannot be imported: module `{module}` raised",
        code="workflow.agent_import",
        help="the cause is below; import the module by hand to see it alone",
    )
