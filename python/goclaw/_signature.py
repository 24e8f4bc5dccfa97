"""What an agent's or workflow's function takes: parameters, which one gets the `Context`, which need coercion."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ._goclaw import Context
from .errors import AgentError

_CONTEXT_NAME = re.compile(r"""(?:^|[.\s\[|"'])Context(?:$|[\s\]|"'])""")
_KIND = inspect.Parameter
EMPTY = inspect.Parameter.empty
UNKNOWN = object()
"""Stands for an annotation that cannot be evaluated yet."""


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter that callers may name.

    Attributes:
        name: Its name.
        required: False where it has a default.
        context: True for the parameter that receives the `Context`.
        annotation: As written; text where annotations are postponed, `inspect.Parameter.empty` where there is none.
    """

    name: str
    required: bool
    context: bool
    annotation: Any


@dataclass(frozen=True, slots=True)
class Signature:
    """A checked signature.

    Attributes:
        params: In order of declaration, `**kwargs` left out.
        open: True where there is a `**kwargs` parameter.
        callers: What callers fill in: everything but the `Context`.
    """

    params: tuple[Param, ...]
    open: bool
    callers: inspect.Signature

    @property
    def inputs(self) -> tuple[Param, ...]:
        return tuple(param for param in self.params if not param.context)

    @property
    def context(self) -> Param | None:
        return next((param for param in self.params if param.context), None)

    def to_model(self) -> list[dict[str, Any]]:
        model: list[dict[str, Any]] = []
        for param in self.params:
            entry: dict[str, Any] = {"name": param.name, "required": param.required}
            if param.context:
                entry["context"] = True
            model.append(entry)
        return model


def read(fn: Callable[..., Any], what: str) -> Signature:
    """Reads and checks a function's signature.

    Raises:
        AgentError: `agent.signature` for parameters that a caller could not name.
    """
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError) as error:
        raise AgentError(
            f"{what} has no readable signature", help="wrap it in a `def` that names its parameters"
        ) from error
    module = inspect.getmodule(fn)
    scope = getattr(inspect.unwrap(fn), "__globals__", None) or getattr(module, "__dict__", {})
    params: list[Param] = []
    open_ = False
    for param in signature.parameters.values():
        if param.kind is _KIND.POSITIONAL_ONLY:
            raise AgentError(
                f"{what} has the positional-only parameter `{param.name}`",
                help="remove the `/`: arguments are bound by name",
            )
        if param.kind is _KIND.VAR_POSITIONAL:
            raise AgentError(
                f"{what} takes `*{param.name}`",
                help=f"take a list instead (`{param.name}: list[...]`): arguments are bound by name",
            )
        if param.kind is _KIND.VAR_KEYWORD:
            open_ = True
            continue
        context = is_context(param.annotation, scope)
        params.append(Param(param.name, param.default is _KIND.empty, context, param.annotation))
    contexts = [param.name for param in params if param.context]
    if len(contexts) > 1:
        raise AgentError(f"{what} asks for the Context twice: {', '.join(contexts)}", help="keep one of them")
    callers = signature.replace(parameters=_keyword_after(signature, contexts))
    return Signature(tuple(params), open_, callers)


def _keyword_after(signature: inspect.Signature, without: list[str]) -> list[inspect.Parameter]:
    return [param for name, param in signature.parameters.items() if name not in without]


def evaluate(annotation: Any, scope: dict[str, Any]) -> Any:
    """Evaluates a postponed annotation, or answers `UNKNOWN` where its names are not there (yet)."""
    # Twice: a quoted annotation under postponed evaluation is text of text.
    for _ in range(2):
        if not isinstance(annotation, str):
            break
        try:
            annotation = eval(annotation, scope)  # noqa: S307  the user's own source, as typing.get_type_hints does
        except Exception:
            return UNKNOWN
    return UNKNOWN if isinstance(annotation, str) else annotation


def is_context(annotation: Any, scope: dict[str, Any]) -> bool:
    """True for `Context`, `Context | None` and their postponed forms."""
    if annotation is _KIND.empty:
        return False
    if isinstance(annotation, str) and "Context" not in annotation:
        return False
    hint = evaluate(annotation, scope)
    if hint is UNKNOWN:
        return bool(_CONTEXT_NAME.search(annotation))
    return hint is Context or any(part is Context for part in getattr(hint, "__args__", ()))
