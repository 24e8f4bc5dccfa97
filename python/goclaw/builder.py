"""Workflows built task by task, or read from a document."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Unpack

from . import _expr, _inputs, _registry, _trace
from ._keywords import TaskWords, only, spelled_out
from ._options import ON_FAILURES, OnFailure, TaskOptions, one_of
from .agent import Agent
from .definition import Definition, named_input
from .durations import Duration, to_positive_ms
from .errors import ConfigError, DuplicateTask, InputError, TracedValueError, WorkflowError
from .lane import Lane
from .policy import MemoryPolicy, policy_of


class Workflow(Definition[Any]):
    """A workflow built task by task, or read from YAML or a dict.

    Args:
        name: What the journal and documents call it.
        on_failure: ``"fail_fast"`` cancels the rest when a task fails; ``"continue"`` goes on with
            what does not depend on it.
        timeout: Bound on the whole run.
        lanes: Lanes that the workflow brings along.
        input: JSON Schema of the input, or of each of its fields by name.
        output: What the run's result is: plain values and templates; by default the single sink's
            result, else a dict of the sinks' results.
        memory: What its tasks are given of their sessions' memory, and what is forgotten when a run is done.

    Raises:
        ConfigError: for options that make no sense.

    Example:
        >>> import goclaw
        >>> @goclaw.agent
        ... def fetch(url: str) -> str:
        ...     return url
        >>> @goclaw.agent
        ... def analyze(fetch: str) -> int:
        ...     return len(fetch)
        >>> flow = Workflow("data_pipeline")
        >>> flow.task("fetch", fetch, timeout=5).task("analyze", analyze, deps=["fetch"]).plan().layers
        [['fetch'], ['analyze']]
    """

    def __init__(
        self,
        name: str,
        *,
        on_failure: OnFailure = "fail_fast",
        timeout: Duration | None = None,
        lanes: Iterable[Lane] = (),
        input: Mapping[str, Any] | None = None,
        output: Any = None,
        memory: MemoryPolicy | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(name)
        self._on_failure = one_of("on_failure", on_failure, ON_FAILURES)
        self._timeout_ms = None if timeout is None else to_positive_ms(timeout, what="timeout")
        self._lanes = list(lanes)
        self._schema = None if input is None else _inputs.whole(input)
        for fault in _inputs.faults(self._schema) if self._schema is not None else ():
            raise WorkflowError(fault, code="workflow.input_schema", help="use the part of JSON Schema that is checked")
        self._output = output
        self._memory = policy_of(memory)
        self._tasks: dict[str, _Task] = {}
        self._built: tuple[int, dict[str, Any], list[Any]] | None = None

    @spelled_out(TaskWords)
    def task(
        self,
        id: str,
        agent: Agent[..., Any] | Callable[..., Any] | str,
        *,
        deps: Iterable[str] = (),
        args: Mapping[str, Any] | None = None,
        with_: Mapping[str, Any] | None = None,
        when: str | bool | None = None,
        for_each: Any = None,
        **options: Unpack[TaskWords],
    ) -> Workflow:
        """Adds a task.

        Args:
            id: Name of the task, unique in the workflow.
            agent: An agent, a function, or a name: registered, or an import path such as ``"package.module:function"``.
            deps: Ids of tasks that must end first, beside those that templates mention.
            args: Arguments by parameter name; text with ``{{ … }}`` refers to input and results. The
                rest is bound by name: a dependency, else a field of the input, else the default.
            with_: The same as `args`, under the name that documents use.
            when: A condition such as ``"intake.lang == 'en'"``; the task is skipped where it is false.
            for_each: Makes the task a map with one child per item: a template, a list, or
                ``{"as": parameter, "items": …}``.
            **options: What follows.

        Keyword Args:
            lane: Lane of the task; the agent's by default, as are the options below.
            timeout: Bound on one attempt.
            queue_timeout: Bound on each wait for a permit.
            idle_timeout: Bound on an attempt's silence: no heartbeat, no progress.
            total_timeout: Bound on the whole task with every wait and attempt.
            rate_key: Whose rate the task counts against: a text or a template.
            cost: Units of its lane's rate that one attempt takes.
            retries: Tries after the first.
            retry: The whole retry policy.
            priority: Higher runs first.
            trigger: What the ends of the dependencies must look like.
            delivery: What a crash in the middle of an attempt does.
            isolation: Where the agent runs: ``"process"``, or what its kind of function does anyway.
            memory: What is looked up in the session's memory before each attempt: a `Retrieve`, or
                ``{"retrieve": {"query": …}}``.

        Returns:
            The workflow, so that calls can be chained.

        Raises:
            DuplicateTask: `workflow.duplicate_task`.
            ConfigError: for options that make no sense.
        """
        if not isinstance(id, str):
            raise ConfigError(f"the task's id is {id!r}", code="config.name", help="give a text")
        if isinstance(deps, str):
            raise ConfigError(f"`deps` of `{id}` is a text", code="config.deps", help=f'write deps=["{deps}"]')
        if id in self._tasks:
            raise DuplicateTask(f"task `{id}` is declared twice", help="rename one of the two")
        if args is not None and with_ is not None:
            raise ConfigError(f"task `{id}` has both `args` and `with_`", code="config.contradiction", help="use one")
        only(TaskWords, options, "task")
        TaskOptions().merged(**options)
        target = agent if isinstance(agent, str) else _registry.as_agent(agent)
        given = dict(args or with_ or {})
        self._tasks[id] = _Task(id, target, tuple(deps), given, _condition(id, when), _each(id, for_each), options)
        self._built = None
        self._compiled = {}
        return self

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Workflow:
        """Reads a workflow from a document.

        Args:
            document: What a YAML file says, as a dict.

        Returns:
            The workflow.

        Raises:
            WorkflowError: with every problem: `workflow.unknown_key`, `workflow.bad_value`, …
            NotYetSupported: `workflow.not_yet` for keys that this version does not carry out.

        Example:
            >>> Workflow.from_dict({"name": "one", "tasks": [{"id": "a", "agent": "builtins:len"}]}).name
            'one'
        """
        from . import _document

        return _document.read(document, cls)

    @classmethod
    def from_yaml(cls, source: str | os.PathLike[str]) -> Workflow:
        """Reads a workflow from YAML.

        Args:
            source: A file's path, or the text itself (a text with a line break or a colon and space in it).

        Returns:
            The workflow.

        Raises:
            WorkflowError: `workflow.yaml` where the text is no YAML, and what `from_dict` raises.
        """
        from . import _document, _goclaw

        return _document.read(_goclaw.parse_yaml(_document.text_of(source)), cls)

    @staticmethod
    def schema() -> dict[str, Any]:
        """The JSON Schema of workflow documents, for editors.

        Returns:
            A JSON Schema, draft 2020-12.

        Example:
            >>> Workflow.schema()["required"]
            ['name', 'tasks']
        """
        from . import _schema

        return _schema.schema()

    def __repr__(self) -> str:
        return f"<workflow {self.name}: {len(self._tasks)} tasks>"

    def _model(self) -> tuple[dict[str, Any], list[Any]]:
        built = self._built
        if built is None or built[0] != _registry.generation():
            constants: list[Any] = []
            model: dict[str, Any] = {
                "name": self.name,
                "tasks": [task.model(constants) for task in self._tasks.values()],
                "on_failure": self._on_failure,
                "lanes": [lane._to_model() for lane in self._lanes],
            }
            if self._schema is not None:
                model["input"] = self._schema
            if self._output is not None:
                model["output"] = expression(self._output, constants)
            if self._timeout_ms is not None:
                model["timeout_ms"] = self._timeout_ms
            if self._memory is not None:
                model["memory"] = self._memory._to_model()
            built = self._built = (_registry.generation(), model, constants)
        return built[1], built[2]

    def _input(self, given: Any) -> Any:
        if self._schema is None:
            return super()._input(given)
        fields: Mapping[str, Any] = self._schema.get("properties", {})
        required = self._schema.get("required", ())
        defaults = {name: field["default"] for name, field in fields.items() if "default" in field}
        known = {name: name in required for name in fields}
        filled = named_input(given, known, defaults, self.name)
        fault = _inputs.refusal(filled, self._schema, "input")
        if fault is not None:
            raise InputError(f"the input of `{self.name}` does not fit: {fault}", help="see the workflow's `input`")
        return filled


class _Task:
    """One task as it was declared; what its agent says is looked up when the model is built."""

    __slots__ = ("_agent", "_args", "_deps", "_each", "_id", "_options", "_when")

    def __init__(
        self,
        id: str,
        agent: Agent[..., Any] | str,
        deps: tuple[str, ...],
        args: dict[str, Any],
        when: _expr.Expr | None,
        each: tuple[str | None, Any] | None,
        options: TaskWords,
    ) -> None:
        self._id = id
        self._agent = agent
        self._deps = deps
        self._args = args
        self._when = when
        self._each = each
        self._options = options

    def model(self, constants: list[Any]) -> dict[str, Any]:
        agent = _registry.find(self._agent) if isinstance(self._agent, str) else self._agent
        defaults = TaskOptions() if agent is None else agent._options
        model: dict[str, Any] = {
            "id": self._id,
            "agent": self._agent if agent is None else agent.name,
            "deps": list(self._deps),
            "args": {name: expression(value, constants) for name, value in self._args.items()},
            **defaults.merged(**self._options).to_model(),
        }
        if self._when is not None:
            model["when"] = self._when
        if self._each is not None:
            param, items = self._each
            model["each"] = {"param": param or self._item_param(agent), "items": expression(items, constants)}
        return model

    def _item_param(self, agent: Agent[..., Any] | None) -> str:
        if agent is None:
            return "item"
        taken = dict.fromkeys((*self._args, *self._deps))
        free = [param.name for param in agent._signature.inputs if param.name not in taken]
        return free[0] if free else _trace.map_param(agent.name, agent._signature, self._args)


def expression(given: Any, constants: list[Any]) -> _expr.Expr:
    """A value of the builder or of a document: text with `{{ … }}` in it is a template."""
    return _expr.build(given, constants, _leaf, _refuse_handle)


def _leaf(part: Any) -> _expr.Expr | None:
    if type(part) is str and ("{{" in part or "{%" in part):
        return {"template": part}
    if type(part) is _trace.Traced:
        raise TracedValueError(
            f"{part!r} is given to the builder", help="builder tasks refer to results by templates: {{ task.field }}"
        )
    return None


def _refuse_handle(where: str) -> WorkflowError:
    return WorkflowError(
        f"a template lies inside {where}, where it is not filled in",
        code="workflow.bad_template",
        help="templates may stand in plain lists and dicts with text keys",
    )


def _condition(task: str, when: object) -> _expr.Expr | None:
    if when is None:
        return None
    if isinstance(when, bool):
        return _expr.value(when)
    if isinstance(when, str):
        source = when.strip()
        if source.startswith("{{") and source.endswith("}}") and source.count("{{") == 1:
            source = source[2:-2].strip()
        return {"condition": source}
    raise ConfigError(f"`when` of `{task}` is {when!r}", code="config.when", help="give a condition as text")


def _each(task: str, for_each: Any) -> tuple[str | None, Any] | None:
    if for_each is None:
        return None
    param = None
    if isinstance(for_each, Mapping):
        if not {"items"} <= set(for_each) <= {"as", "items"}:
            raise _bad_each(task, f"has the keys {', '.join(map(str, for_each))}")
        param, for_each = for_each.get("as"), for_each["items"]
    if isinstance(for_each, str) and _leaf(for_each) is None:
        raise _bad_each(task, f"is the text {for_each!r}")
    if not isinstance(for_each, (str, Iterable)):
        raise _bad_each(task, f"is {for_each!r}")
    return param, for_each if isinstance(for_each, (str, list)) else list(for_each)


def _bad_each(task: str, what: str) -> ConfigError:
    return ConfigError(
        f"`for_each` of `{task}` {what}",
        code="config.for_each",
        help='give a template ("{{ resolve.recipients }}"), a list, or {"as": parameter, "items": ...}',
    )
