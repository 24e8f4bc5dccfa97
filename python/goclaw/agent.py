"""Agents: functions and classes that workflows run."""

from __future__ import annotations

import inspect
import json
import threading
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, Unpack, cast, overload

from . import _goclaw, _guard, _processes, _registry, _signature, _trace
from ._keywords import AgentWords, TaskWords, only, spelled_out
from ._options import TaskOptions
from .errors import AgentError, ConfigError

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Agent(Generic[P, R]):
    """A registered function or class, called like the function itself; made by `@goclaw.agent`.

    Attributes:
        name: What documents and the journal call it.
        fn: The function or class as it was written.

    Example:
        >>> @agent(lane="cpu", retries=1)
        ... def double(x: int) -> int:
        ...     return 2 * x
        >>> double(21), double.map([1, 2])
        (42, [2, 4])
    """

    name: str
    fn: Callable[..., Any]

    def __init__(self, fn: Callable[..., Any], target: Callable[..., Any], name: str, options: TaskOptions) -> None:
        self.name = name
        self.fn = fn
        self.__name__ = fn.__name__
        self.__qualname__ = fn.__qualname__
        self.__module__ = fn.__module__
        self.__doc__ = fn.__doc__
        self._target = target
        self._options = options
        self._is_coroutine = _is_coroutine(target)
        self._signature = _signature.read(_described(target), f"agent `{name}`")
        self._origin = (fn.__module__, fn.__qualname__)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Makes a task inside a workflow's body; anywhere else runs the agent and returns its result."""
        tracer = _trace.current()
        if tracer is not None:
            return cast(R, tracer.call(self, args, kwargs))
        return cast(R, self._run(args, kwargs))

    def map(self, items: Iterable[Any], /, **constants: Any) -> list[R]:
        """Calls the agent once per item; inside a workflow's body this is one task with a child per item.

        Args:
            items: A list, or a handle of one: each item goes to the first parameter that `constants` leave out.
            **constants: Arguments that are the same for every item.

        Returns:
            The results in the order of the items.

        Raises:
            BindingError: `workflow.arguments` where no parameter is left for the items.

        Example:
            >>> @agent
            ... def power(base: int, exponent: int) -> int:
            ...     return base**exponent
            >>> power.map([1, 2, 3], exponent=2)
            [1, 4, 9]
        """
        tracer = _trace.current()
        if tracer is not None:
            return cast("list[R]", tracer.map(self, items, constants))
        param = _trace.map_param(self.name, self._signature, constants)
        return [cast(R, self._run((), {**constants, param: item})) for item in items]

    @spelled_out(TaskWords)
    def options(self, **options: Unpack[TaskWords]) -> Agent[P, R]:
        """The same agent with other options for the tasks that are made from it.

        Args:
            **options: What follows.

        Keyword Args:
            lane: Lane of the tasks.
            timeout: Bound on one attempt; `None` removes it, as it removes the bounds below.
            queue_timeout: Bound on each wait for a permit.
            idle_timeout: Bound on an attempt's silence: no heartbeat, no progress.
            total_timeout: Bound on the whole task with every wait and attempt.
            rate_key: Whose rate the tasks count against: a text, a template, or in a traced workflow a handle.
            cost: Units of its lane's rate that one attempt takes.
            retries: Tries after the first.
            retry: The whole retry policy.
            priority: Higher runs first.
            delivery: What a crash in the middle of an attempt does.
            trigger: What the ends of a task's dependencies must look like.
            isolation: ``"process"`` gives each attempt a process; ``"thread"`` and ``"loop"`` say what `def`
                and `async def` do anyway.
            memory: What is looked up in the session's memory before each attempt: a `Retrieve`; `None` removes it.

        Returns:
            An agent of the same name.

        Raises:
            ConfigError: for values that make no sense.
            AgentError: `agent.isolation`.

        Example:
            >>> @agent
            ... def shout(text: str) -> str:
            ...     return text.upper()
            >>> shout.options(lane="cpu", retries=0)("hi")
            'HI'
        """
        only(TaskWords, options, "options")
        twin: Agent[P, R] = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin._options = self._options.merged(**options)
        _check_isolation(twin)
        return twin

    def __repr__(self) -> str:
        return f"<agent {self.name}{self._signature.callers}>"

    @property
    def _short_name(self) -> str:
        return self.__name__ if self.__name__.isidentifier() else "task"

    def _task_model(self) -> dict[str, Any]:
        return self._options.to_model()

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        arguments = _trace.bind(self.name, self._signature, args, kwargs)
        wants = self._signature.context
        if wants is not None:
            arguments[wants.name] = self._own_context()
        if not self._is_coroutine:
            return self._target(**arguments)
        _guard.refuse_own_loop(f"call `{self.name}`")
        from ._loop import run_coroutine

        return run_coroutine(self._target(**arguments))

    def _own_context(self) -> _goclaw.Context:
        try:
            return _goclaw.current()
        except RuntimeError:
            raise AgentError(
                f"agent `{self.name}` asks for the Context, which there is only inside a run",
                code="agent.no_context",
                help="run it in a workflow, or call `.fn` with a stand-in of your own",
            ) from None

    def _register(self) -> None:
        from . import _adapt

        info = {
            "name": self.name,
            "params": self._signature.to_model(),
            "open": self._signature.open,
            "isolation": self._options.isolation,
        }
        adapters = _adapt.adapters(self._signature, _described(self._target))
        _goclaw.register_agent(self.name, self._target, json.dumps(info), self._is_coroutine, adapters)


class _Runs(Protocol[P, R_co]):
    def run(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...


class _RunsAsync(Protocol[P, R_co]):
    def run(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]: ...


class _Decorator(Protocol):
    @overload
    def __call__(self, fn: type[_RunsAsync[P, R]], /) -> Agent[P, R]: ...
    @overload
    def __call__(self, fn: type[_Runs[P, R]], /) -> Agent[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> Agent[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Agent[P, R]: ...


@overload
def agent(fn: type[_RunsAsync[P, R]], /) -> Agent[P, R]: ...
@overload
def agent(fn: type[_Runs[P, R]], /) -> Agent[P, R]: ...
@overload
def agent(fn: Callable[P, Coroutine[Any, Any, R]], /) -> Agent[P, R]: ...
@overload
def agent(fn: Callable[P, R], /) -> Agent[P, R]: ...
@overload
def agent(fn: None = None, /, *, name: str | None = None, **options: Unpack[AgentWords]) -> _Decorator: ...
@spelled_out(AgentWords)
def agent(fn: Any = None, /, *, name: str | None = None, **options: Unpack[AgentWords]) -> Any:
    """Makes a function, coroutine function, or class with `run` or `__call__` an agent.

    Args:
        fn: The function or class, where the decorator is used without options.
        name: What documents and the journal call it; `module.qualname` by default.
        **options: What follows.

    Keyword Args:
        lane: Lane of its tasks.
        timeout: Bound on one attempt.
        queue_timeout: Bound on each wait for a permit.
        idle_timeout: Bound on an attempt's silence: no heartbeat, no progress.
        total_timeout: Bound on the whole task with every wait and attempt.
        rate_key: Whose rate the tasks count against: a text or a template over input and results.
        cost: Units of its lane's rate that one attempt takes.
        retries: Tries after the first; 3 by default.
        retry: The whole retry policy, in the place of `retries`.
        priority: Higher runs first.
        isolation: ``"thread"`` (for `def`), ``"loop"`` (for `async def`) or ``"process"`` (a worker process, for both);
            ``"auto"`` takes what the lane says, else picks by the kind of function.
        delivery: ``"at_most_once"`` fails a task whose attempt a crash interrupted, and does not repeat it.
        memory: What is looked up in the session's memory before each attempt: a `Retrieve`.

    Returns:
        The agent, or a decorator where options were given.

    Raises:
        AgentError: `agent.signature` for parameters that cannot be bound by name, `agent.kind` for
            things that are no function or class, `agent.duplicate` for a name that is taken.
        ConfigError: for options that make no sense.

    Example:
        >>> @agent
        ... def greet(name: str) -> str:
        ...     return f"hello {name}"
        >>> greet("Ada")
        'hello Ada'
    """
    only(AgentWords, options, "agent")
    told = TaskOptions().merged(**options)

    def decorate(target: Any) -> Agent[Any, Any]:
        made: Agent[Any, Any] = Agent(target, _target(target), _agent_name(target, name), told)
        _check_isolation(made)
        _registry.add(made)
        made._register()
        _registry.announce()
        return made

    return decorate if fn is None else decorate(fn)


class _Instance:
    """A class as a callable: makes its instance once, at the first call."""

    def __init__(self, cls: type, method: str) -> None:
        self._cls = cls
        self._method = method
        self._bound: Callable[..., Any] | None = None
        self._lock = threading.Lock()

    def __call__(self, **arguments: Any) -> Any:
        bound = self._bound
        if bound is None:
            with self._lock:
                bound = self._bound
                if bound is None:
                    bound = self._bound = getattr(self._cls(), self._method)
        return bound(**arguments)

    @property
    def described(self) -> Callable[..., Any]:
        function = inspect.getattr_static(self._cls, self._method)
        if isinstance(function, (staticmethod, classmethod)):
            return cast("Callable[..., Any]", getattr(self._cls, self._method))
        return cast("Callable[..., Any]", _without_self(function))


def _without_self(function: Any) -> Any:
    # A bound method shows its signature without `self`; what it is bound to does not matter.
    return function.__get__(object()) if hasattr(function, "__get__") else function


def _target(target: Any) -> Callable[..., Any]:
    if isinstance(target, Agent):
        raise AgentError(
            f"`{target.name}` is an agent already", code="agent.kind", help="use `.options(...)` for other options"
        )
    if isinstance(target, type):
        if callable(getattr(target, "run", None)):
            return _Instance(target, "run")
        if "__call__" in dir(target) and any("__call__" in vars(base) for base in target.__mro__[:-1]):
            return _Instance(target, "__call__")
        raise AgentError(
            f"class `{target.__qualname__}` has neither `run` nor `__call__`",
            code="agent.kind",
            help="give it a method `run` that does the work",
        )
    if not callable(target) or not hasattr(target, "__qualname__"):
        raise AgentError(f"{target!r} cannot be an agent", code="agent.kind", help="decorate a function or a class")
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
        raise AgentError(
            f"`{target.__qualname__}` is a generator, which this version does not run",
            code="agent.kind",
            help="return a list",
        )
    return cast("Callable[..., Any]", target)


def _described(target: Callable[..., Any]) -> Callable[..., Any]:
    return target.described if isinstance(target, _Instance) else target


def _is_coroutine(target: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(inspect.unwrap(_described(target)))


def _agent_name(target: Any, name: str | None) -> str:
    if name is None:
        # A worker process runs the main script under another name.
        module = "__main__" if target.__module__ == "__mp_main__" else target.__module__
        return f"{module}.{target.__qualname__}"
    if not isinstance(name, str) or not name.strip():
        raise ConfigError(f"the agent's name is {name!r}", code="config.name", help="give a text that names it")
    return name


def _check_isolation(made: Agent[Any, Any]) -> None:
    isolation = made._options.isolation
    if isolation == "process":
        _processes.refuse_where_absent(made.name)
    if isolation == ("thread" if made._is_coroutine else "loop"):
        kind = "an `async def`" if made._is_coroutine else "a plain `def`"
        raise AgentError(
            f'agent `{made.name}` is {kind} and cannot run with isolation="{isolation}"',
            code="agent.isolation",
            help='leave isolation="auto": `def` runs on threads, `async def` on the event loop; both run in processes',
        )
