"""Workflow documents: from plain dicts to the builder, and back."""

from __future__ import annotations

import builtins
import importlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _schema
from ._codes import from_code
from ._suggest import suggest
from .durations import to_text
from .errors import ConfigError, GoclawError, Problem, WorkflowError
from .lane import Lane, redirect
from .policy import policy_of, retrieve_of
from .rate import text as rate_text
from .retry import Retry

if TYPE_CHECKING:
    from .builder import Workflow

_TEXT_BYTES_MAX = 8 * 2**20
# Options that a document says only where they differ.
_USUAL = {"priority": 0, "cost": 1, "delivery": "at_least_once", "trigger": "all_success", "isolation": "auto"}


def text_of(source: str | os.PathLike[str]) -> str:
    """The text of a document: itself, or what its file says."""
    if isinstance(source, str) and ("\n" in source or ": " in source):
        return source
    path = Path(source).expanduser()
    try:
        if path.stat().st_size > _TEXT_BYTES_MAX:
            raise WorkflowError(f"`{path}` is larger than 8 MiB", code="workflow.yaml", help="is it a workflow?")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WorkflowError(
            f"workflow file `{path}` cannot be read: {error}", code="workflow.file", help="check the path"
        ) from error


def read(document: Any, workflow: type[Workflow]) -> Workflow:
    """Builds a workflow, or raises one error with every problem."""
    reader = _Reader()
    flow = reader.workflow(document, workflow)
    if flow is None or reader.problems:
        raise _error(document, reader.problems)
    return flow


def _error(document: Any, problems: list[Problem]) -> GoclawError:
    name = document.get("name") if isinstance(document, Mapping) else None
    more = {1: "", 2: " (and 1 more problem)"}.get(len(problems), f" (and {len(problems) - 1} more problems)")
    message = f"workflow {f'`{name}` ' if name else ''}is refused: {problems[0].message}{more}"
    return from_code("workflow.invalid", message, problems[0].help, problems)


class _Reader:
    """Reads one document and collects what is wrong with it."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def problem(self, code: str, task: str | None, message: str, help: str) -> None:
        self.problems.append(Problem(code, task, message, help))

    def attempt(self, task: str | None, build: Callable[[], Any]) -> Any:
        """Runs a step of the builder; its refusal becomes a problem."""
        try:
            return build()
        except GoclawError as error:
            code = error.code if error.code.startswith("workflow.") else "workflow.bad_value"
            found = getattr(error, "problems", ())
            self.problems.extend(found or [Problem(code, task, str(error), error.help)])
            return None

    def workflow(self, document: Any, workflow: type[Workflow]) -> Workflow | None:
        if not isinstance(document, Mapping):
            self.problem(
                "workflow.bad_value",
                None,
                f"the document is a {type(document).__name__}, not keys with values",
                "see Workflow.schema()",
            )
            return None
        self.keys(document, _schema.WORKFLOW, _schema.WORKFLOW_LATER, None, "the workflow")
        name, tasks = document.get("name"), document.get("tasks")
        if not isinstance(name, str) or not name.strip():
            self.problem("workflow.empty_name", None, "the workflow has no `name`", "give it one")
        if not isinstance(tasks, list) or not tasks:
            self.problem("workflow.no_tasks", None, "the workflow has no list of `tasks`", "add at least one task")
            tasks = []
        if document.get("input") is not None and not isinstance(document["input"], Mapping):
            self.problem("workflow.bad_value", None, "`input` is not a mapping", "write {field: {type: string}}")
            return None
        memory = self.memory(document.get("memory"), policy_of, {"": _schema.POLICY}, None, "the workflow")
        flow = self.attempt(
            None,
            lambda: workflow(
                str(name),
                on_failure=document.get("on_failure", "fail_fast"),
                timeout=document.get("timeout"),
                lanes=self.lanes(document.get("lanes")),
                input=document.get("input"),
                output=document.get("output"),
                memory=memory,
            ),
        )
        for position, task in enumerate(tasks):
            self.task(flow, task, position)
        return flow  # type: ignore[no-any-return]

    def keys(
        self, given: Mapping[Any, Any], known: Iterable[str], later: tuple[str, ...], task: str | None, what: str
    ) -> None:
        for key in given:
            if key in later:
                self.problem(
                    "workflow.not_yet",
                    task,
                    f"{what} uses `{key}`, which this version of goclaw does not carry out",
                    f"remove `{key}`; nothing of it would happen",
                )
            elif key not in known:
                self.problem(
                    "workflow.unknown_key", task, f"{what} has the unknown key `{key}`", suggest(str(key), known)
                )

    def lanes(self, given: Any) -> list[Lane]:
        if given is None:
            return []
        if not isinstance(given, Mapping):
            self.problem("workflow.bad_value", None, "`lanes` is not a mapping", "write {io: {concurrency: 64}}")
            return []
        lanes = []
        for name, options in given.items():
            # `cpu:` alone is the lane as the machine sizes it.
            options = {} if options is None else options
            if not isinstance(options, Mapping):
                self.problem("workflow.bad_value", None, f"lane `{name}` is {options!r}", "write {concurrency: 8}")
                continue
            self.keys(options, _schema.LANE, (), None, f"lane `{name}`")
            lane = self.attempt(None, lambda name=name, options=options: lane_of(str(name), options))  # type: ignore[misc]
            if lane is not None:
                lanes.append(lane)
        return lanes

    def task(self, flow: Workflow | None, given: Any, position: int) -> None:
        if not isinstance(given, Mapping):
            self.problem("workflow.bad_value", None, f"task {position + 1} is not keys with values", "write - id: ...")
            return
        id = given.get("id")
        what = f"task `{id}`" if isinstance(id, str) else f"task {position + 1}"
        task = id if isinstance(id, str) else None
        before = len(self.problems)
        self.keys(given, _schema.TASK, _schema.TASK_LATER, task, what)
        later = any(key in _schema.TASK_LATER for key in given)
        for key in ("id", "agent"):
            if not isinstance(given.get(key), str) and not (key == "agent" and later):
                self.problem("workflow.bad_value", task, f"{what} has no `{key}`", "give it as text")
        for key, kind, shown in (("deps", list, "[other_task]"), ("with", Mapping, "{parameter: value}")):
            if given.get(key) is not None and not isinstance(given[key], kind):
                self.problem("workflow.bad_value", task, f"`{key}` of {what} is {given[key]!r}", f"write {shown}")
        retry = self.retry(given.get("retry"), task, what)
        known = {"": _schema.TASK_MEMORY, "retrieve": _schema.RETRIEVE}
        memory = self.memory(given.get("memory"), retrieve_of, known, task, what)
        if flow is None or len(self.problems) > before:
            return
        options = {key: given[key] for key in ("when", "for_each", *_schema.TASK_OPTIONS) if given.get(key) is not None}
        if memory is not None:
            options["memory"] = memory
        self.attempt(
            task,
            lambda: flow.task(
                given["id"],
                given["agent"],
                deps=given.get("deps") or (),
                with_=given.get("with"),
                retry=retry,
                **options,
            ),
        )

    def memory(
        self,
        given: Any,
        build: Callable[[Any], Any],
        known: Mapping[str, Mapping[str, Any]],
        task: str | None,
        what: str,
    ) -> Any:
        """What is said of memory; `known` are the keys of each level."""
        if given is None:
            return None
        before = len(self.problems)
        for level, keys in known.items():
            part = given if not level else given.get(level) if isinstance(given, Mapping) else None
            if isinstance(part, Mapping):
                where = f"`{level or 'memory'}` of {what}"
                self.keys(part, keys, (), task, where)
        if len(self.problems) > before:
            return None
        try:
            return build(given)
        except ConfigError as error:
            self.problem("workflow.bad_memory", task, f"{what}: {error}", error.help)
            return None

    def retry(self, given: Any, task: str | None, what: str) -> Retry | None:
        if given is None:
            return None
        if isinstance(given, int):
            given = {"retries": given}
        if not isinstance(given, Mapping):
            self.problem(
                "workflow.bad_value", task, f"`retry` of {what} is {given!r}", "write {retries: 5, initial: 1s}"
            )
            return None
        self.keys(given, _schema.RETRY, (), task, f"`retry` of {what}")
        options = {key: value for key, value in given.items() if key in _schema.RETRY}
        for key in ("on", "never"):
            if key in options:
                names = options[key] if isinstance(options[key], list) else [options[key]]
                options[key] = tuple(_exception(name) or name for name in names)
        made: Retry | None = self.attempt(task, lambda: Retry(**options))
        return made


def lane_of(name: str, options: Mapping[str, Any]) -> Lane:
    """A lane as documents and configuration files write it; unknown keys are somebody else's to refuse."""
    known = {key: value for key, value in options.items() if key in _schema.LANE}
    on_full = known.get("on_full")
    if isinstance(on_full, Mapping) and set(on_full) == {"redirect"}:
        known["on_full"] = redirect(on_full["redirect"])
    return Lane(name, **known)._sizeable()


def _exception(name: Any) -> type[BaseException] | None:
    """The exception class of that name: a built-in one, or by its import path."""
    if not isinstance(name, str):
        return None
    module, _, attribute = name.replace(":", ".").rpartition(".")
    try:
        found: Any = getattr(importlib.import_module(module) if module else builtins, attribute, None)
    except ImportError:
        return None
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


def write(model: Mapping[str, Any], constants: list[Any], defaults: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The document of a definition.

    Args:
        model: The definition in the Rust core's form.
        constants: Its values beyond JSON, which a document cannot say.
        defaults: Defaults of a traced function's parameters.
    """
    document: dict[str, Any] = {"name": model["name"]}
    if model.get("input") is not None:
        document["input"] = model["input"]
    elif model.get("params"):
        document["input"] = _fields(model["params"], defaults or {})
    if model.get("on_failure", "fail_fast") != "fail_fast":
        document["on_failure"] = model["on_failure"]
    if model.get("timeout_ms") is not None:
        document["timeout"] = to_text(model["timeout_ms"])
    document["tasks"] = [_write_task(task) for task in model["tasks"]]
    if model.get("output") is not None:
        document["output"] = _shown(model["output"], None)
    if model.get("memory"):
        document["memory"] = dict(model["memory"])
    if model.get("lanes"):
        document["lanes"] = {lane["name"]: lane_options(lane) for lane in model["lanes"]}
    return document


def _fields(params: list[dict[str, Any]], defaults: Mapping[str, Any]) -> dict[str, Any]:
    from ._expr import is_json

    fields: dict[str, Any] = {}
    for param in params:
        name = param["name"]
        if param["required"]:
            fields[name] = {}
        elif is_json(defaults.get(name)):
            fields[name] = {"default": defaults.get(name)}
        else:
            raise _not_portable(None, f"the default of input `{name}`")
    return fields


def lane_options(lane: Mapping[str, Any]) -> dict[str, Any]:
    """A lane's model as documents write it; `lane_of` reads it."""
    shown = {
        key: lane[key]
        for key in ("concurrency", "capacity", "threads", "rate_key", "on_full", "isolation", "fair")
        if key in lane
    }
    if "timeout_ms" in lane:
        shown["timeout"] = to_text(lane["timeout_ms"])
    if "rate" in lane:
        rate = lane["rate"]
        shown["rate"] = rate_text(rate["units"], rate["per_ms"])
        if rate["burst"] != rate["units"]:
            shown["burst"] = rate["burst"]
    if "budgets" in lane:
        shown["budgets"] = {unit: _write_budget(rate) for unit, rate in lane["budgets"].items()}
    return shown


def _write_budget(rate: Mapping[str, Any]) -> Any:
    text = rate_text(rate["units"], rate["per_ms"])
    return text if rate["burst"] == rate["units"] else {"rate": text, "burst": rate["burst"]}


def _write_task(task: Mapping[str, Any]) -> dict[str, Any]:
    id = task["id"]
    shown: dict[str, Any] = {"id": id, "agent": task["agent"]}
    if task.get("deps"):
        shown["deps"] = task["deps"]
    shown["lane"] = task["lane"]
    if task.get("args"):
        shown["with"] = {name: _shown(expr, id) for name, expr in task["args"].items()}
    if task.get("when") is not None:
        shown["when"] = _condition(task["when"], id)
    if task.get("each") is not None:
        shown["for_each"] = {"as": task["each"]["param"], "items": _shown(task["each"]["items"], id)}
    for key in ("timeout", "queue_timeout", "idle_timeout", "total_timeout"):
        if task.get(f"{key}_ms") is not None:
            shown[key] = to_text(task[f"{key}_ms"])
    if task.get("rate_key") is not None:
        shown["rate_key"] = _shown(task["rate_key"], id)
    if task.get("memory") is not None:
        shown["memory"] = {"retrieve": _write_retrieve(task["memory"]["retrieve"], id)}
    retry = _write_retry(task["retry"])
    if retry:
        shown["retry"] = retry
    for key, usual in _USUAL.items():
        if task[key] != usual:
            shown[key] = task[key]
    return shown


def _write_retrieve(retrieve: Mapping[str, Any], id: str) -> dict[str, Any]:
    shown = {key: _shown(retrieve[key], id) for key in ("query", "vector_query", "filter") if key in retrieve}
    if retrieve["top_k"] != 5:
        shown["top_k"] = retrieve["top_k"]
    if "min_strength" in retrieve:
        shown["min_strength"] = retrieve["min_strength"]
    return shown


def _write_retry(retry: Mapping[str, Any]) -> dict[str, Any]:
    usual = Retry()._to_model()
    shown = {key: value for key, value in retry.items() if value != usual[key]}
    for key in ("initial", "max"):
        if f"{key}_ms" in shown:
            shown[key] = to_text(shown.pop(f"{key}_ms"))
    if "on" in shown:
        # What `on` leaves of the usual `never` is worked out anew by the reader; so both are said.
        shown["never"] = retry["never"]
    return shown


def _shown(expr: Mapping[str, Any], task: str | None) -> Any:
    """An expression as documents write it: plain values and templates."""
    ((kind, body),) = expr.items()
    if kind == "value":
        return _escaped(body)
    if kind == "template":
        return body
    if kind == "list":
        return [_shown(part, task) for part in body]
    if kind == "dict":
        return {key: _shown(part, task) for key, part in body}
    if kind in ("const", "tuple"):
        raise _not_portable(task, "a literal" if kind == "const" else "a tuple")
    return "{{ " + _condition(expr, task) + " }}"


def _condition(expr: Mapping[str, Any], task: str | None) -> Any:
    """An expression as a bare condition."""
    ((kind, body),) = expr.items()
    if kind == "condition":
        return body
    if kind == "value":
        return body if isinstance(body, bool) else json.dumps(body)
    if kind == "not":
        return f"not ({_condition(body, task)})"
    if kind == "all":
        return " and ".join(f"({_condition(part, task)})" for part in body)
    if kind == "task":
        return _named(body["id"], task) + _path(body.get("path", ()))
    if kind == "input":
        return "input" + _path(body.get("path", ()))
    raise _not_portable(task, "a condition")


def _named(id: str, task: str | None) -> str:
    if not id.isidentifier():
        raise _not_portable(task, f"the reference to `{id}`")
    return id


def _path(steps: Iterable[Mapping[str, Any]]) -> str:
    shown = ""
    for step in steps:
        ((kind, key),) = step.items()
        plain = isinstance(key, str) and key.isidentifier() and key.isascii()
        shown += f".{key}" if kind == "attr" or plain else f"[{json.dumps(key)}]"
    return shown


def _escaped(value: Any) -> Any:
    if isinstance(value, str) and ("{{" in value or "{%" in value):
        return "{{ " + json.dumps(value, ensure_ascii=False) + " }}"
    if isinstance(value, list):
        return [_escaped(part) for part in value]
    if isinstance(value, dict):
        return {key: _escaped(part) for key, part in value.items()}
    return value


def _not_portable(task: str | None, what: str) -> WorkflowError:
    where = f"{what} of task `{task}`" if task else what
    return WorkflowError(
        f"{where} cannot be written in a document",
        code="workflow.not_portable",
        help="use plain JSON values, or pass the value as input",
    )
