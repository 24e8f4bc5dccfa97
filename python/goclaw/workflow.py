"""Workflows as plain functions: traced once, calls of agents become tasks, arguments become dependencies."""

from __future__ import annotations

import copy
import inspect
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, cast, overload

from . import _signature, _trace
from ._options import ON_FAILURES, OnFailure, one_of
from .definition import Definition, named_input
from .durations import Duration, to_positive_ms
from .errors import ConfigError, WorkflowError
from .policy import MemoryPolicy, policy_of

P = ParamSpec("P")
R = TypeVar("R")


class Flow(Definition[R], Generic[P, R]):
    """A traced workflow; made by `@goclaw.workflow`.

    Attributes:
        name: What the journal and documents call it.
        fn: The function as it was written.
    """

    fn: Callable[P, R]

    def __init__(
        self,
        fn: Callable[P, R],
        name: str,
        on_failure: str,
        timeout_ms: int | None,
        memory: MemoryPolicy | None,
    ) -> None:
        super().__init__(name)
        self.fn = fn
        self.__name__ = fn.__name__
        self.__qualname__ = fn.__qualname__
        self.__module__ = fn.__module__
        self.__doc__ = fn.__doc__
        self._on_failure = on_failure
        self._timeout_ms = timeout_ms
        self._memory = memory
        self._signature = _signature.read(fn, f"workflow `{name}`")
        self._lock = threading.RLock()
        self._traced: tuple[dict[str, Any], list[Any]] | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs the workflow on the process's in-memory engine; inside another workflow's body, becomes part of it."""
        tracer = _trace.current()
        arguments = _trace.bind(self.name, self._signature, args, kwargs)
        if tracer is not None:
            with tracer.inlined(self.__name__):
                return cast("Callable[..., R]", self.fn)(**arguments)
        from ._life import run

        return run(self, arguments)

    def __repr__(self) -> str:
        return f"<workflow {self.name}{self._signature.callers}>"

    def _model(self) -> tuple[dict[str, Any], list[Any]]:
        with self._lock:
            if self._traced is None:
                self._traced = self._trace()
            return self._traced

    def _trace(self) -> tuple[dict[str, Any], list[Any]]:
        tracer = _trace.Tracer(self.name)
        params = self._signature.inputs
        output = tracer.trace(self.fn, [param.name for param in params])
        model: dict[str, Any] = {
            "name": self.name,
            "params": self._signature.to_model(),
            # A literal may be changed by its owner later, a handle may be given options later.
            "tasks": copy.deepcopy(tracer.tasks),
            "output": output,
            "on_failure": self._on_failure,
        }
        if self._timeout_ms is not None:
            model["timeout_ms"] = self._timeout_ms
        if self._memory is not None:
            model["memory"] = self._memory._to_model()
        return model, tracer.constants

    @cached_property
    def _fields(self) -> tuple[dict[str, bool], dict[str, Any]]:
        """The fields of the input, each with whether it must be given, and what those are that need not."""
        return {param.name: param.required for param in self._signature.inputs}, self._defaults()

    def _input(self, given: Any) -> dict[str, Any]:
        known, defaults = self._fields
        if type(given) is dict and given.keys() == known.keys():
            return {name: given[name] for name in known}
        return named_input(given, known, defaults, self.name)

    def _defaults(self) -> dict[str, Any]:
        parameters = self._signature.callers.parameters.values()
        return {param.name: param.default for param in parameters if param.default is not param.empty}


class _Decorator(Protocol):
    def __call__(self, fn: Callable[P, R], /) -> Flow[P, R]: ...


@overload
def workflow(fn: Callable[P, R], /) -> Flow[P, R]: ...
@overload
def workflow(
    fn: None = None,
    /,
    *,
    name: str | None = None,
    on_failure: OnFailure = "fail_fast",
    timeout: Duration | None = None,
    memory: MemoryPolicy | None = None,
) -> _Decorator: ...
def workflow(
    fn: Any = None,
    /,
    *,
    name: str | None = None,
    on_failure: OnFailure = "fail_fast",
    timeout: Duration | None = None,
    memory: MemoryPolicy | None = None,
) -> Any:
    """Makes a function a workflow: its body is run once, with handles in the place of values.

    Args:
        fn: The function, where the decorator is used without options.
        name: What the journal and documents call it; the function's name by default.
        on_failure: ``"fail_fast"`` cancels the rest when a task fails; ``"continue"`` goes on with
            what does not depend on it.
        timeout: Bound on the whole run.
        memory: What its tasks are given of their sessions' memory, and what is forgotten when a run is done.

    Returns:
        The workflow, or a decorator where options were given.

    Raises:
        WorkflowError: `workflow.kind` for things that are no plain function.
        AgentError: `agent.signature` for parameters that cannot be given by name.
        ConfigError: for options that make no sense.

    Example:
        >>> import goclaw
        >>> @goclaw.agent
        ... def double(x: int) -> int:
        ...     return 2 * x
        >>> @goclaw.workflow
        ... def quadruple(x: int) -> int:
        ...     return double(double(x))
        >>> quadruple.plan().critical_path
        ['double', 'double_2']
    """
    one_of("on_failure", on_failure, ON_FAILURES)
    timeout_ms = None if timeout is None else to_positive_ms(timeout, what="timeout")
    policy = policy_of(memory)
    if name is not None and (not isinstance(name, str) or not name.strip()):
        raise ConfigError(f"the workflow's name is {name!r}", code="config.name", help="give a text that names it")

    def decorate(target: Any) -> Flow[Any, Any]:
        if not inspect.isfunction(target):
            raise _kind(f"{target!r} cannot be a workflow", "decorate a plain function")
        if (
            inspect.iscoroutinefunction(target)
            or inspect.isgeneratorfunction(target)
            or inspect.isasyncgenfunction(target)
        ):
            raise _kind(
                f"workflow `{target.__qualname__}` is not a plain `def`",
                "write `def` without `await` and `yield`: agents may be async, the workflow only connects them",
            )
        return Flow(target, name or target.__name__, on_failure, timeout_ms, policy)

    return decorate if fn is None else decorate(fn)


def when(condition: object) -> AbstractContextManager[None]:
    """Tasks made inside the block are skipped where the condition turns out false.

    Args:
        condition: A handle, or a part of one.

    Returns:
        A context manager; blocks may be nested.

    Raises:
        WorkflowError: `workflow.outside` outside a workflow's body.

    Example:
        >>> import goclaw
        >>> @goclaw.agent
        ... def is_urgent(text: str) -> bool:
        ...     return "!" in text
        >>> @goclaw.agent
        ... def page(text: str) -> str:
        ...     return "paged"
        >>> @goclaw.workflow
        ... def triage(text: str) -> str:
        ...     with goclaw.when(is_urgent(text)):
        ...         return page(text)
        >>> triage.plan().layers
        [['is_urgent'], ['page']]
    """
    return _tracer("when").when(condition)


def otherwise() -> AbstractContextManager[None]:
    """Tasks made inside the block are skipped where the `when` block just before it was not.

    Returns:
        A context manager.

    Raises:
        WorkflowError: `workflow.outside` outside a workflow's body, `workflow.otherwise` without a `when` before.
    """
    return _tracer("otherwise").otherwise()


def _tracer(verb: str) -> _trace.Tracer:
    tracer = _trace.current()
    if tracer is None:
        raise WorkflowError(
            f"`goclaw.{verb}` is used outside a workflow's body",
            code="workflow.outside",
            help="use it in a function decorated with @goclaw.workflow; in an agent, use a plain `if`",
        )
    return tracer


def _kind(message: str, help: str) -> WorkflowError:
    return WorkflowError(message, code="workflow.kind", help=help)
