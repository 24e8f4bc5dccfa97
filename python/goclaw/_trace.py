"""Tracing: while a workflow's body runs, agent calls become tasks and answer with handles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from . import _expr
from ._expr import Expr
from .errors import BindingError, TracedValueError, WorkflowError

if TYPE_CHECKING:
    from ._signature import Signature
    from .agent import Agent

T = TypeVar("T")
_TRACER: ContextVar[Tracer | None] = ContextVar("goclaw_tracer", default=None)
# Names that templates give a meaning of their own.
_RESERVED = frozenset({"input", "run", "memory", "item"})
_TASKS_MAX = 1_000_000


def current() -> Tracer | None:
    """The tracer of the workflow whose body runs here, if any."""
    return _TRACER.get()


class Traced:
    """Stands for a result that will be there when the workflow runs.

    Pass it to agents, alone or inside lists, tuples and dicts; take parts with ``[key]``, ``[0]`` and
    ``.attribute``; return it. Everything that would need the value itself is refused.
    """

    __slots__ = ("_goclaw_base", "_goclaw_path", "_goclaw_task", "_goclaw_tracer")

    def __init__(self, tracer: Tracer, base: str | None, path: tuple[tuple[str, Any], ...], task: Any = None) -> None:
        self._goclaw_tracer = tracer
        self._goclaw_base = base
        self._goclaw_path = path
        self._goclaw_task = task

    def options(self, **options: Any) -> Traced:
        """Changes the options of the task that this handle stands for.

        Args:
            **options: What `Agent.options` takes.

        Returns:
            The same handle.

        Raises:
            WorkflowError: `workflow.traced_value` on a part of a result or on an input.
        """
        if self._goclaw_task is None:
            raise TracedValueError(
                f"{_name(self)} is no task, so it has no options",
                help="set options on the handle that the agent's call returned: `step(x).options(...)`",
            )
        agent, entry = self._goclaw_task
        agent = agent.options(**options)
        entry.update(agent._task_model())
        self._goclaw_task = agent, entry
        return self

    def __getitem__(self, key: Any) -> Traced:
        if isinstance(key, bool) or not isinstance(key, (str, int)):
            if isinstance(key, Traced):
                _refuse(self, "indexed with another result", "take the part in an agent that gets both")
            _refuse(self, f"indexed with {key!r}", 'use a text key or a whole number: handle["topics"], handle[0]')
        return _part(self, "key" if isinstance(key, str) else "index", key)

    def __getattr__(self, name: str) -> Traced:
        if name.startswith("_"):
            raise AttributeError(name)
        return _part(self, "attr", name)

    def __repr__(self) -> str:
        return f"<{_name(self)}, not there before the workflow runs>"

    __hash__ = object.__hash__


def _part(handle: Traced, kind: str, key: Any) -> Traced:
    return Traced(handle._goclaw_tracer, handle._goclaw_base, (*handle._goclaw_path, (kind, key)))


def _name(handle: Traced) -> str:
    path = "".join(f".{key}" if kind == "attr" else f"[{key!r}]" for kind, key in handle._goclaw_path)
    if handle._goclaw_base is None:
        return f"input `{path[2:-2] if len(handle._goclaw_path) == 1 else path}`"
    return f"the result `{handle._goclaw_base}{path}`"


def _refuse(handle: Traced, did: str, help: str) -> NoReturn:
    raise TracedValueError(f"{_name(handle)} is not there while the workflow is traced: it cannot be {did}", help=help)


def _refusals() -> None:
    """Gives `Traced` a method for everything that would need the value, each with its cure."""
    in_agent = "do it in an agent: the workflow only says who needs whose result"

    def refusal(did: str, help: str) -> Callable[..., NoReturn]:
        def method(self: Traced, *_: object) -> NoReturn:
            _refuse(self, did, help)

        return method

    def define(names: str, did: str, help: str) -> None:
        for name in names.split():
            setattr(Traced, f"__{name}__", refusal(did, help))

    define(
        "bool",
        "tested for truth",
        "write `with goclaw.when(value):` instead of `if value:`, and `with goclaw.otherwise():` for the else",
    )
    define(
        "iter aiter reversed",
        "iterated over or unpacked",
        "fan out with `agent.map(value)`, or take parts by position: value[0]",
    )
    define("len contains", "measured or searched", in_agent)
    define("eq ne lt le gt ge", "compared", "compare in an agent that returns a bool, and use `goclaw.when(...)` on it")
    binary = "add sub mul matmul truediv floordiv mod divmod pow lshift rshift and or xor"
    define(binary, "calculated with", in_agent)
    define(" ".join("r" + name for name in binary.split()), "calculated with", in_agent)
    define("neg pos abs invert round int float complex index trunc floor ceil", "calculated with", in_agent)
    define("str format bytes", "made text", "pass it to an agent that makes the text")
    define("call", "called", "methods of a result can only be called in an agent")
    define("setitem delitem", "changed", in_agent)
    define("await", "awaited", "a workflow's body is plain `def`; results need no `await` there")
    define("enter aenter exit aexit", "used in `with`", "write `with goclaw.when(value):`")


_refusals()


class Tracer:
    """Collects the tasks of one workflow while its body runs."""

    def __init__(self, workflow: str) -> None:
        self.workflow = workflow
        self._params: set[str] = set()
        self.tasks: list[dict[str, Any]] = []
        self.constants: list[Any] = []
        self._ids: set[str] = set()
        self._repeats: dict[str, int] = {}
        self._prefix = ""
        self._conditions: list[Expr] = []
        # The condition of the last `when` block that ended, by depth: what `otherwise` negates.
        self._ended: dict[int, Expr] = {}

    def trace(self, fn: Callable[..., Any], params: list[str]) -> Expr:
        """Runs the body with a handle per parameter; answers the expression of what it returns."""
        self._params = set(params)
        token = _TRACER.set(self)
        try:
            result = fn(**{name: Traced(self, None, (("key", name),)) for name in params})
        finally:
            _TRACER.reset(token)
        return self.expr(result, "the workflow returns")

    @contextmanager
    def inlined(self, name: str) -> Iterator[None]:
        """Tasks made inside get ids that begin with the inner workflow's name."""
        before = self._prefix
        self._prefix = f"{self._fresh(name)}_"
        try:
            yield
        finally:
            self._prefix = before

    @contextmanager
    def when(self, condition: Any) -> Iterator[None]:
        """Tasks made inside are skipped where the condition is false."""
        with self._block(self.expr(condition, "`when` was given")):
            yield

    @contextmanager
    def otherwise(self) -> Iterator[None]:
        """Tasks made inside are skipped where the `when` block just before was not."""
        last = self._ended.get(len(self._conditions))
        if last is None:
            raise WorkflowError(
                "`otherwise` follows no `when` block",
                code="workflow.otherwise",
                help="put `with goclaw.otherwise():` right after a `with goclaw.when(...):` block",
            )
        with self._block({"not": last}):
            yield
        self._ended.pop(len(self._conditions), None)

    @contextmanager
    def _block(self, condition: Expr) -> Iterator[None]:
        depth = len(self._conditions)
        self._conditions.append(condition)
        self._ended.pop(depth + 1, None)
        try:
            yield
        finally:
            self._conditions.pop()
            self._ended[depth] = condition

    def call(self, agent: Agent[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Traced:
        """An agent was called: makes a task."""
        arguments = bind(agent.name, agent._signature, args, kwargs)
        entry = self._task(agent, {**self._shadowed(agent, arguments), **arguments})
        return Traced(self, entry["id"], (), (agent, entry))

    def map(self, agent: Agent[Any, Any], items: Any, constants: dict[str, Any]) -> Traced:
        """An agent was mapped over items: makes a task with one child per item."""
        param = map_param(agent.name, agent._signature, constants)
        bound = bind(agent.name, agent._signature, (), {**constants, param: None})
        constants = {**self._shadowed(agent, bound), **constants}
        if not isinstance(items, (Traced, list, tuple)):
            items = list(items)
        each = {"param": param, "items": self.expr(items, f"`{agent.name}.map` was given")}
        entry = self._task(agent, constants, each)
        return Traced(self, entry["id"], (), (agent, entry))

    def _shadowed(self, agent: Agent[Any, Any], given: dict[str, Any]) -> dict[str, Any]:
        """Defaults that must be said aloud: the compiler fills an omitted parameter by name, Python does not."""
        taken = self._ids | self._params
        return {
            name: param.default
            for name, param in agent._signature.callers.parameters.items()
            if name in taken and name not in given and param.default is not param.empty
        }

    def _task(
        self, agent: Agent[Any, Any], arguments: dict[str, Any], each: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        if len(self.tasks) >= _TASKS_MAX:
            raise WorkflowError(
                f"workflow `{self.workflow}` makes more than {_TASKS_MAX} tasks",
                code="workflow.too_many_tasks",
                help="fan out with `agent.map(items)`: a map is one task however many items it has",
            )
        entry: dict[str, Any] = {"id": self._fresh(agent._short_name), "agent": agent.name}
        args = {name: self.expr(value, f"argument `{name}` of `{entry['id']}` is") for name, value in arguments.items()}
        if args:
            entry["args"] = args
        if each is not None:
            entry["each"] = each
        if self._conditions:
            entry["when"] = self._conditions[0] if len(self._conditions) == 1 else {"all": list(self._conditions)}
        entry.update(agent._task_model())
        self.tasks.append(entry)
        return entry

    def expr(self, given: Any, what: str) -> Expr:
        """The expression of an argument, a condition or a returned value."""

        def leaf(part: Any) -> Expr | None:
            return self._handle(part) if type(part) is Traced else None

        def refuse(where: str) -> TracedValueError:
            return TracedValueError(
                f"{what} a result inside {where}, where it cannot be filled in",
                help="pass results as arguments of their own, or inside plain lists, tuples and dicts with text keys",
            )

        return _expr.build(given, self.constants, leaf, refuse)

    def _handle(self, handle: Traced) -> Expr:
        if handle._goclaw_tracer is not self:
            raise TracedValueError(
                f"{_name(handle)} belongs to workflow `{handle._goclaw_tracer.workflow}`, not to `{self.workflow}`",
                help="pass results between workflows as arguments and return values",
            )
        path = [{kind: key} for kind, key in handle._goclaw_path]
        base = handle._goclaw_base
        return _expr.input(path) if base is None else _expr.task(base, path)

    def _fresh(self, name: str) -> str:
        name = self._prefix + name
        if name in _RESERVED:
            name += "_task"
        while True:
            count = self._repeats[name] = self._repeats.get(name, 0) + 1
            id = name if count == 1 else f"{name}_{count}"
            if id not in self._ids:
                self._ids.add(id)
                return id


def bind(agent: str, signature: Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Names every argument of a call, as Python itself would."""
    try:
        bound = signature.callers.bind(*args, **kwargs)
    except TypeError as error:
        raise BindingError(
            f"`{agent}` cannot be called like this: {error}", help=f"its parameters are {signature.callers}"
        ) from None
    arguments = dict(bound.arguments)
    for name, param in signature.callers.parameters.items():
        if param.kind is param.VAR_KEYWORD:
            arguments.update(arguments.pop(name, {}))
    return arguments


def map_param(agent: str, signature: Signature, taken: dict[str, Any]) -> str:
    """The parameter that receives a map's items: the first that has no constant."""
    for param in signature.inputs:
        if param.name not in taken:
            return param.name
    raise BindingError(
        f"`{agent}` has no parameter left for the items of `map`",
        help="leave the parameter that receives one item out of the constants",
    )
