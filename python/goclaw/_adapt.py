"""Coercion by the consumer's type hint: dicts become models, text becomes datetimes, instances pass untouched.

An `Adapter` is made only for hints that JSON cannot say. It looks at a value first and leaves it alone
where it already is what the hint asks for; pydantic is imported when the first value is not.
"""

from __future__ import annotations

import dataclasses
import enum
import sys
import types
import typing
from collections.abc import Callable
from typing import Any

from . import _signature

_PLAIN = frozenset({str, int, float, bool, bytes, list, dict, tuple, set, frozenset, object, type(None), Any})
_COERCED = frozenset(
    {
        ("datetime", "datetime"),
        ("datetime", "date"),
        ("datetime", "time"),
        ("datetime", "timedelta"),
        ("uuid", "UUID"),
        ("decimal", "Decimal"),
        ("pathlib", "Path"),
        ("fractions", "Fraction"),
    }
)
_CONTAINERS: dict[Any, type] = {list: list, set: set, frozenset: frozenset, tuple: tuple, dict: dict}


def adapters(signature: _signature.Signature, fn: Callable[..., Any]) -> dict[str, Callable[[Any], Any]]:
    """The adapters of a function's parameters, by name; parameters of plain types have none."""
    scope = getattr(fn, "__globals__", {})
    found: dict[str, Callable[[Any], Any]] = {}
    for param in signature.inputs:
        if param.annotation is _signature.EMPTY:
            continue
        hint = _signature.evaluate(param.annotation, scope)
        if hint is _signature.UNKNOWN or needs_adapter(hint):
            found[param.name] = Adapter(param.annotation if hint is _signature.UNKNOWN else hint, scope)
    return found


class Adapter:
    """Makes a value what a hint asks for, if it is not that already."""

    __slots__ = ("_hint", "_scope", "_validate")

    def __init__(self, hint: Any, scope: dict[str, Any]) -> None:
        self._hint = hint
        self._scope = scope
        self._validate: Callable[[Any], Any] | None = None

    def __call__(self, value: Any) -> Any:
        hint = self._hint
        if isinstance(hint, str):
            hint = self._hint = _late(hint, self._scope)
        if fits(value, hint):
            return value
        if self._validate is None:
            self._validate = _validator(hint)
        return self._validate(value)


def needs_adapter(hint: Any) -> bool:
    """True where a value of the hint may arrive as something else: as its JSON form."""
    hint = _bare(hint)
    if _in(hint, _PLAIN) or isinstance(hint, typing.TypeVar):
        return False
    args = typing.get_args(hint)
    if args:
        if typing.get_origin(hint) is typing.Literal:
            return False
        if any(needs_adapter(part) for part in args if part is not Ellipsis and not isinstance(part, list)):
            return True
        return typing.get_origin(hint) in (tuple, set, frozenset)
    return isinstance(hint, type) and is_structured(hint)


def is_structured(cls: type) -> bool:
    """True for classes that pydantic can build from plain data."""
    return (
        dataclasses.is_dataclass(cls)
        or typing.is_typeddict(cls)
        or _is_old_typeddict(cls)
        or hasattr(cls, "__pydantic_validator__")
        or hasattr(cls, "__get_pydantic_core_schema__")
        or issubclass(cls, enum.Enum)
        or (issubclass(cls, tuple) and hasattr(cls, "_fields"))
        or (cls.__module__, cls.__name__) in _COERCED
    )


def fits(value: Any, hint: Any) -> bool:
    """True where the value is already what the hint asks for, looked at as deep as the hint goes."""
    hint = _bare(hint)
    if hint is Any or hint is object or isinstance(hint, typing.TypeVar):
        return True
    if hint is None or hint is type(None):
        return value is None
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is None:
        return _fits_class(value, hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in args)
    if origin is typing.Literal:
        return value in args
    if not isinstance(origin, type) or not isinstance(value, origin):
        return False
    return _fits_parts(value, origin, args)


def _fits_class(value: Any, hint: Any) -> bool:
    if not isinstance(hint, type):
        return not needs_adapter(hint)
    if typing.is_typeddict(hint) or _is_old_typeddict(hint):
        return _fits_typeddict(value, hint)
    if hint is float:
        return isinstance(value, (int, float))
    return isinstance(value, hint)


def _fits_parts(value: Any, origin: type, args: tuple[Any, ...]) -> bool:
    if issubclass(origin, tuple):
        if len(args) == 2 and args[1] is Ellipsis:
            return all(fits(item, args[0]) for item in value)
        return len(value) == len(args) and all(map(fits, value, args))
    if issubclass(origin, dict):
        return all(fits(k, args[0]) and fits(v, args[1]) for k, v in value.items())
    if issubclass(origin, (list, set, frozenset)):
        return all(fits(item, args[0]) for item in value)
    return True


def _fits_typeddict(value: Any, hint: Any) -> bool:
    if not isinstance(value, dict):
        return False
    hints = typing.get_type_hints(hint)
    required = getattr(hint, "__required_keys__", frozenset(hints))
    return required <= value.keys() <= hints.keys() and all(fits(value[key], hints[key]) for key in value)


def _validator(hint: Any) -> Callable[[Any], Any]:
    from pydantic import ConfigDict, PydanticUserError, TypeAdapter

    hint = _modern(hint)
    try:
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True)).validate_python
    except PydanticUserError as error:
        # Models, dataclasses and typed dicts bring their own configuration and refuse one from outside.
        if error.code != "type-adapter-config-unused":
            raise
        return TypeAdapter(hint).validate_python


def _late(hint: str, scope: dict[str, Any]) -> Any:
    found = _signature.evaluate(hint, scope)
    return Any if found is _signature.UNKNOWN else found


def _bare(hint: Any) -> Any:
    while True:
        if isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        elif typing.get_origin(hint) in _WRAPPERS:
            hint = typing.get_args(hint)[0]
        else:
            return hint


_WRAPPERS = (typing.Annotated, typing.Required, typing.NotRequired, typing.Final, typing.ClassVar)


def _in(hint: Any, known: frozenset[Any]) -> bool:
    try:
        return hint in known
    except TypeError:
        return False


def _is_old_typeddict(cls: Any) -> bool:
    # typing_extensions has a class of its own for typed dicts before 3.13.
    return (
        isinstance(cls, type)
        and issubclass(cls, dict)
        and hasattr(cls, "__total__")
        and hasattr(cls, "__required_keys__")
    )


def _modern(hint: Any) -> Any:
    """pydantic refuses `typing.TypedDict` before 3.12: rebuilds it, nested ones too, with typing_extensions."""
    if sys.version_info >= (3, 12):
        return hint
    if typing.is_typeddict(hint) and type(hint).__module__ == "typing":
        import typing_extensions as te

        fields = {
            name: _modern(part) if name in hint.__required_keys__ else te.NotRequired[_modern(part)]
            for name, part in typing.get_type_hints(hint).items()
        }
        return te.TypedDict(hint.__name__, fields)  # type: ignore[operator]
    args = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if not args or origin in (typing.Literal, typing.Annotated, types.UnionType, None):
        if origin is types.UnionType:
            return typing.Union[tuple(_modern(part) for part in args)]  # noqa: UP007
        return hint
    modern = tuple(_modern(part) for part in args)
    return origin[modern] if modern != args else hint
