"""The engine's side of worker processes: how one is started, and how it finds an agent."""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import os
import sys
from typing import Any

from .errors import AgentError

# Runs before anything of goclaw can be imported: it makes the path that of the engine's process.
_START = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from goclaw._worker import main; main()"


def refuse_where_absent(name: str) -> None:
    """Refuses an agent that asks for a worker process where there are none.

    Raises:
        AgentError: `agent.isolation`.
    """
    if sys.platform != "linux":
        raise AgentError(
            f'agent `{name}` has isolation="process", which is there on Linux only',
            code="agent.isolation",
            help='leave isolation="auto", or run on Linux',
        )


def launch() -> tuple[list[str], str]:
    """The command that starts a worker now, and what it is told first."""
    if not sys.executable:
        raise AgentError(
            "there is no `sys.executable` to start a worker process with",
            code="agent.isolation",
            help="set sys.executable to a Python that has goclaw",
        )
    # What `multiprocessing` starts its children with: -X, -W, -O and their relatives.
    from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]

    path = json.dumps([entry if entry else os.getcwd() for entry in sys.path])
    command = [sys.executable, *_args_from_interpreter_flags(), "-c", _START, path, str(os.getpid())]
    setup = {
        "argv": sys.argv,
        "main": _main(),
        "level": logging.getLogger("goclaw.agent").getEffectiveLevel(),
    }
    return command, json.dumps(setup)


def recipe(name: str) -> tuple[str, str, Any]:
    """How a worker finds the agent: ``("import", module, path)`` or ``("pickle", hash, bytes)``.

    Raises:
        AgentError: `agent.not_importable`.
    """
    from . import _registry

    made = _registry.find(name)
    if made is None:
        raise _not_importable(name, "it is registered by hand")
    module, path = made._origin
    if module == "__main__":
        if _main() is not None and "<locals>" not in path:
            return "import", module, path
        inside = "<locals>" in path
        why = "it is defined inside a function" if inside else "it is defined at a prompt, in a notebook or with -c"
    elif "<locals>" in path:
        why = "it is defined inside a function"
    elif _lies_under(module, path, made):
        return "import", module, path
    else:
        why = f"`{path}` of module `{module}` cannot be imported, or is something else"
    return "pickle", *_pickled(name, made, why)


def _main() -> tuple[str, str] | None:
    """How a worker runs the main module again: ``("module", name)``, ``("path", file)``, or not at all."""
    main = sys.modules.get("__main__")
    if main is None or (getattr(sys, "ps1", None) is not None and not hasattr(main, "__file__")):
        return None
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return "module", spec.name
    file = getattr(main, "__file__", None)
    if file is None or hasattr(main, "__IPYTHON__") or not os.path.isfile(file):
        return None
    return "path", os.path.abspath(file)


def _lies_under(module: str, path: str, made: Any) -> bool:
    found: Any = sys.modules.get(module)
    if getattr(found, "__spec__", None) is None:
        return False
    for part in path.split("."):
        found = getattr(found, part, None)
    return found is made or found is made.fn or getattr(found, "fn", None) is made.fn


def _pickled(name: str, made: Any, why: str) -> tuple[str, bytes]:
    try:
        cloudpickle = importlib.import_module("cloudpickle")
    except ImportError:
        raise _not_importable(name, why) from None
    try:
        shipped = cloudpickle.dumps(made.fn)
    except Exception as error:
        raise _not_importable(name, f"{why}, and cloudpickle refuses it: {type(error).__name__}: {error}") from error
    return hashlib.sha256(shipped).hexdigest(), shipped


def _not_importable(name: str, why: str) -> AgentError:
    return AgentError(
        f"agent `{name}` cannot be found by a worker process: {why}",
        code="agent.not_importable",
        help="define it at the top of a module that can be imported, or `pip install cloudpickle`",
    )
