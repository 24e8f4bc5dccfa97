"""Checks a run's input against the part of JSON Schema that workflow documents may use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (Mapping,),
    "null": (type(None),),
}
_CHECKED = frozenset({"type", "enum", "items", "properties", "required"})
_SAYS_NOTHING = frozenset({"title", "description", "default", "examples", "$schema", "$comment"})


def whole(declared: Mapping[str, Any]) -> dict[str, Any]:
    """The full schema of an input: itself, or built from fields given by name."""
    if declared.get("type") == "object" and isinstance(declared.get("properties", {}), Mapping):
        return dict(declared)
    required = [name for name, field in declared.items() if not (isinstance(field, Mapping) and "default" in field)]
    return {"type": "object", "properties": dict(declared), "required": required}


def faults(schema: Any, at: str = "input") -> Iterator[str]:
    """What in a schema would not be checked: unknown keywords and types."""
    if not isinstance(schema, Mapping):
        yield f"`{at}` must be a mapping, such as {{type: string}}"
        return
    for key in schema:
        if key not in _CHECKED and key not in _SAYS_NOTHING:
            yield f"`{at}` uses `{key}`; checked are {', '.join(sorted(_CHECKED))}"
    types = schema.get("type", [])
    for name in types if isinstance(types, list) else [types]:
        if name not in _TYPES:
            yield f"`{at}` has type {name!r}; types are {', '.join(_TYPES)}"
    for name, field in (schema.get("properties") or {}).items():
        yield from faults(field, f"{at}.{name}")
    if "items" in schema:
        yield from faults(schema["items"], f"{at}[]")


def refusal(value: Any, schema: Mapping[str, Any], at: str) -> str | None:
    """Why a value does not fit, or `None` where it does."""
    types = schema.get("type")
    if types is not None and not any(_is(value, name) for name in (types if isinstance(types, list) else [types])):
        wanted = " or ".join(types) if isinstance(types, list) else types
        return f"`{at}` is a {type(value).__name__}, not {'an' if wanted[0] in 'aeio' else 'a'} {wanted}"
    if "enum" in schema and value not in schema["enum"]:
        return f"`{at}` is {value!r}, not one of {', '.join(map(repr, schema['enum']))}"
    if isinstance(value, Mapping):
        for name in schema.get("required", ()):
            if name not in value:
                return f"`{at}` lacks `{name}`"
        for name, field in schema.get("properties", {}).items():
            if name in value and (found := refusal(value[name], field, f"{at}.{name}")):
                return found
    if isinstance(value, (list, tuple)) and "items" in schema:
        for position, item in enumerate(value):
            if found := refusal(item, schema["items"], f"{at}[{position}]"):
                return found
    return None


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, _TYPES[name])
