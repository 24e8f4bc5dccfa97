"""The main program of a worker process. Started by the engine only."""

from __future__ import annotations

import faulthandler
import importlib
import io
import json
import logging
import os
import runpy
import signal
import sys
import types
from typing import Any

from . import _goclaw, _registry
from .agent import Agent, agent
from .errors import AgentError

_EXTRA = "goclaw_"
_replaying = False
_main: tuple[str, str] | None = None
# Agents that this worker knows, by name, with the version of those that were sent.
_loaded: dict[str, tuple[str, str]] = {}


def main() -> None:
    """Lives as a worker until the engine says that it is over."""
    faulthandler.enable(all_threads=False)
    # What was printed before a crash must be out by then.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)
    # Ctrl-C is for the engine, which ends its workers in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _goclaw._work(int(sys.argv[2]), _set_up, _load)


def replaying() -> bool:
    """True while the main script is run again to find its agents."""
    return _replaying


def _set_up(setup: str) -> None:
    global _main
    told = json.loads(setup)
    sys.argv = told["argv"]
    _main = None if told["main"] is None else tuple(told["main"])
    sys.modules["__main__"] = _LateMain("__main__")
    root = logging.getLogger()
    root.addHandler(_Relay())
    root.setLevel(told["level"])


class _Relay(logging.Handler):
    """Sends records to the engine's process, whose handlers decide."""

    def emit(self, record: logging.LogRecord) -> None:
        extra = [
            (name.removeprefix(_EXTRA), str(value)) for name, value in vars(record).items() if name.startswith(_EXTRA)
        ]
        try:
            text = record.getMessage()
            if record.exc_info:
                text = f"{text}\n{(self.formatter or _PLAIN).formatException(record.exc_info)}"
            _goclaw._relay(record.name, max(0, min(record.levelno, 255)), text, extra)
        except Exception:
            self.handleError(record)


_PLAIN = logging.Formatter()


class _LateMain(types.ModuleType):
    """Stands for the main module until something of it is wanted."""

    def __getattr__(self, name: str) -> Any:
        if _replaying or _main is None or (name.startswith("__") and name.endswith("__")):
            raise AttributeError(f"module '__main__' has no attribute {name!r}")
        return getattr(_replay(), name)


def _replay() -> types.ModuleType:
    """Runs the main module again under another name, as multiprocessing's `spawn` does."""
    global _replaying
    known = sys.modules.get("__mp_main__")
    if known is not None:
        return known
    if _main is None:
        raise AgentError(
            "the main module cannot be run again in a worker process",
            code="agent.not_importable",
            help="define agents at the top of a module that can be imported",
        )
    kind, where = _main
    _replaying = True
    try:
        if kind == "module":
            names = runpy.run_module(where, run_name="__mp_main__", alter_sys=True)
        else:
            names = runpy.run_path(where, run_name="__mp_main__")
    finally:
        _replaying = False
    module = types.ModuleType("__mp_main__")
    module.__dict__.update(names)
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module
    return module


def _load(name: str, recipe: tuple[str, str, Any]) -> None:
    kind, first, second = recipe
    version = (kind, first)
    if _loaded.get(name) == version:
        return
    if kind == "pickle":
        _adopt(name, importlib.import_module("cloudpickle").loads(second))
    else:
        _import(name, first, second)
    _loaded[name] = version


def _import(name: str, module: str, path: str) -> None:
    found: Any = _replay() if module == "__main__" else importlib.import_module(module)
    if _registry._agents.get(name) is not None:
        return
    for part in path.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise AgentError(
            f"agent `{name}` is not at `{path}` of module `{module}` in the worker process",
            code="agent.not_importable",
            help="define it at the top of the module, whatever the process",
        )
    _adopt(name, found)


def _adopt(name: str, target: Any) -> None:
    """Makes a function or an agent known under the name that the engine has for it."""
    target = target.fn if isinstance(target, Agent) else target
    with _registry._lock:
        _registry._agents.pop(name, None)
    agent(name=name)(target)


def _forked() -> None:
    # A child of an agent has no reader thread and no business with the engine.
    logging.getLogger().handlers[:] = [h for h in logging.getLogger().handlers if not isinstance(h, _Relay)]


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forked)
