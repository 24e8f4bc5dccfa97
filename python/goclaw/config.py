"""Where an engine's settings come from: defaults, then a file, then the environment, then arguments.

A file is read only where it is named, by ``Engine(config=...)`` or ``GOCLAW_CONFIG``. In the environment
``GOCLAW_LANES__CPU__CONCURRENCY=8`` says what a file says as ``lanes: {cpu: {concurrency: 8}}``.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from . import _goclaw, _schema
from ._document import lane_of
from ._suggest import suggest
from .errors import ConfigError
from .lane import Lane, Redirect

Config: TypeAlias = str | os.PathLike[str] | Mapping[str, Any]
"""A file (``.yaml``, ``.yml``, ``.toml``, ``.json``), or what such a file says."""

KEYS = (
    *("lanes", "durability", "relaxed_window", "concurrency", "drain_timeout", "payload_max"),
    *("when_busy", "cancel_grace", "stuck_threads_max"),
)
_PREFIX = "GOCLAW_"
_FILE = "GOCLAW_CONFIG"
_BYTES_MAX = 2**20
_Path: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Settings:
    """What is in force, and where it comes from.

    Attributes:
        values: The engine's options by name, without those that nobody gave.
        lanes: The lanes that somebody spoke of.
        origins: Where each value comes from, by its dotted name: a file, a variable, or ``arguments``.
    """

    values: dict[str, Any]
    lanes: list[Lane]
    origins: dict[str, str]


def read(
    config: Config | None = None,
    *,
    lanes: Iterable[Lane] = (),
    arguments: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Puts an engine's settings together.

    Args:
        config: A file or a mapping; `None`: the file that ``GOCLAW_CONFIG`` names, if it does.
        lanes: Lanes given as arguments.
        arguments: The other arguments; those that are `None` were not given.
        environ: The environment; the process's own by default.

    Returns:
        The settings.

    Raises:
        ConfigError: `config.unknown_key`, `config.file`, and what a bad value raises.

    Example:
        >>> found = read({"lanes": {"cpu": {"concurrency": 2}}}, environ={"GOCLAW_LANES__CPU__CAPACITY": "50"})
        >>> found.lanes[0].concurrency, found.lanes[0].capacity, found.origins["lanes.cpu.capacity"]
        (2, 50, 'GOCLAW_LANES__CPU__CAPACITY')
    """
    environ = os.environ if environ is None else environ
    found = _Found()
    where: Config | None = config if config is not None else environ.get(_FILE) or None
    if where is not None:
        if not isinstance(where, (str, os.PathLike, Mapping)):
            raise ConfigError(
                f"`config` is {where!r}", code="config.file", help='give a file, "goclaw.yaml", or a dict'
            )
        origin = "config" if isinstance(where, Mapping) else str(where)
        found.document(where if isinstance(where, Mapping) else _load(Path(where)), origin)
    lanes = list(lanes)
    found.environment(environ, [lane.name for lane in lanes if isinstance(lane, Lane)])
    found.arguments(lanes, arguments or {})
    return found.settings()


class _Found:
    """Values by path; what comes later takes the place of what came before."""

    def __init__(self) -> None:
        self._values: dict[_Path, tuple[Any, str]] = {}
        # In order of appearance, with lanes of which nothing but the name is said.
        self._lanes: dict[str, None] = {}

    def put(self, path: _Path, value: Any, origin: str) -> None:
        self._values[path] = (value, origin)

    def document(self, document: Mapping[Any, Any], origin: str) -> None:
        for key, value in document.items():
            if key not in KEYS:
                raise _unknown(f"{origin} has the key `{key}`", key, KEYS)
            if key != "lanes":
                self.put((key,), value, origin)
                continue
            for name, options in _mapping(value, f"`lanes` of {origin}", "{io: {concurrency: 64}}").items():
                self.lane(str(name), options, origin)

    def lane(self, name: str, options: Any, origin: str) -> None:
        self._lanes[name] = None
        options = _mapping({} if options is None else options, f"lane `{name}` of {origin}", "{concurrency: 64}")
        for key, value in options.items():
            if key not in _schema.LANE:
                raise _unknown(f"lane `{name}` of {origin} has the key `{key}`", key, _schema.LANE)
            if key == "budgets":
                for unit, rate in _mapping(value, f"budgets of lane `{name}`", "{tokens: 90_000/m}").items():
                    self.put(("lanes", name, key, str(unit)), rate, origin)
            else:
                self.put(("lanes", name, key), value, origin)

    def environment(self, environ: Mapping[str, str], lanes: list[str]) -> None:
        known = {_shouted(name): name for name in (*_goclaw.lane_sizes(), *self._lanes, *lanes)}
        for variable, text in sorted(environ.items()):
            if not variable.startswith(_PREFIX) or variable == _FILE or not text:
                continue
            first, *rest = variable.removeprefix(_PREFIX).split("__")
            key = first.lower()
            if key not in KEYS:
                # Other programs use this prefix too (Kubernetes, for a service called goclaw), so only
                # what was meant for us is refused: what has our form, or is nearly one of our keys.
                if not rest and (meant := _meant(first)) is not None:
                    raise ConfigError(
                        f"the environment has `{variable}`, which is not known",
                        code="config.unknown_key",
                        help=f"did you mean `{meant}`?",
                    )
                if rest or suggest(key, KEYS).startswith("did you mean"):
                    raise _unknown(f"the environment has `{variable}`", key, KEYS)
            elif key != "lanes":
                if rest:
                    raise _unknown(f"the environment has `{variable}`", variable, [_PREFIX + first])
                self.put((key,), _parsed(variable, text), variable)
            else:
                self._lane_variable(variable, rest, _parsed(variable, text), known)

    def _lane_variable(self, variable: str, rest: list[str], value: Any, known: dict[str, str]) -> None:
        if len(rest) < 2 or len(rest) > (3 if rest[1] == "BUDGETS" else 2):
            raise ConfigError(
                f"the environment has `{variable}`, which names no key of a lane",
                code="config.unknown_key",
                help=f"write {_PREFIX}LANES__CPU__CONCURRENCY=8",
            )
        name = known.get(rest[0], rest[0].lower())
        key = rest[1].lower()
        inner = {rest[2].lower(): value} if len(rest) == 3 else value
        self.lane(name, {key: inner}, variable)

    def arguments(self, lanes: Iterable[Lane], arguments: Mapping[str, Any]) -> None:
        seen: set[str] = set()
        for lane in lanes:
            if not isinstance(lane, Lane):
                raise ConfigError(f"`lanes` holds {lane!r}", code="config.lane", help='give goclaw.Lane("io", 64)')
            if lane.name in seen:
                raise ConfigError(
                    f"`lanes` holds lane `{lane.name}` twice",
                    code="lane.declared",
                    help="leave one of them out, or give it another name",
                )
            seen.add(lane.name)
            given = {
                field.name: getattr(lane, field.name)
                for field in dataclasses.fields(lane)
                if field.name in lane._given - {"name"} and getattr(lane, field.name) is not None
            }
            self.lane(lane.name, given, "arguments")
        for key, value in arguments.items():
            if value is not None:
                self.put((key,), value, "arguments")

    def settings(self) -> Settings:
        values = {path[0]: value for path, (value, _) in self._values.items() if path[0] != "lanes"}
        origins = {".".join(path): origin for path, (_, origin) in self._values.items()}
        return Settings(values, [self._lane(name) for name in self._lanes], origins)

    def _lane(self, name: str) -> Lane:
        options: dict[str, Any] = {}
        origins = []
        for path, (value, origin) in self._values.items():
            if path[:2] != ("lanes", name):
                continue
            if origin != "arguments":
                origins.append(f"{'.'.join(path)} comes from {origin}")
            if len(path) == 4:
                options.setdefault(path[2], {})[path[3]] = value
            else:
                options[path[2]] = {"redirect": value.to} if isinstance(value, Redirect) else value
        try:
            return lane_of(name, options)
        except ConfigError as error:
            for origin in origins:
                error.add_note(origin)
            raise


def _load(path: Path) -> Mapping[Any, Any]:
    path = path.expanduser()
    try:
        if path.stat().st_size > _BYTES_MAX:
            raise _bad_file(path, "is larger than 1 MiB", "is it a configuration file?")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _bad_file(path, f"cannot be read: {error}", "check the path") from error
    try:
        found = _parse(path, text)
    except ValueError as error:
        raise _bad_file(path, f"cannot be read: {error}", "correct the line that it names") from error
    return _mapping({} if found is None else found, f"`{path}`", "lanes: {io: {concurrency: 64}}")


def _parse(path: Path, text: str) -> Any:
    kind = path.suffix.lower()
    if kind == ".json":
        return json.loads(text)
    if kind == ".toml":
        import tomllib

        return tomllib.loads(text)
    if kind in (".yaml", ".yml"):
        return _yaml(text) if text.strip() else None
    raise _bad_file(path, f"ends in `{kind}`", "use .yaml, .toml or .json")


def _yaml(text: str) -> Any:
    from .errors import WorkflowError

    try:
        return _goclaw.parse_yaml(text)
    except WorkflowError as error:
        raise ValueError(str(error)) from error


def _parsed(variable: str, text: str) -> Any:
    """A variable's value as YAML reads it: `8` is a number, `true` a truth, `{redirect: slow}` a mapping."""
    try:
        return _yaml(text)
    except ValueError as error:
        raise ConfigError(
            f"`{variable}` is {text!r}, which cannot be read", code="config.file", help="write it as YAML: 8, true, 5s"
        ) from error


def _meant(shouted: str) -> str | None:
    """What was probably meant by a variable with single underscores: `LANES_CPU_CONCURRENCY`."""
    if not shouted.startswith("LANES_"):
        return None
    for key in sorted(_schema.LANE, key=len, reverse=True):
        name = shouted.removeprefix("LANES_").removesuffix(f"_{key.upper()}")
        if name and name + f"_{key.upper()}" == shouted.removeprefix("LANES_"):
            return f"{_PREFIX}LANES__{name}__{key.upper()}"
    return None


def _shouted(name: str) -> str:
    """A lane's name as a variable can say it."""
    return "".join(char if char.isalnum() else "_" for char in name).upper()


def _mapping(given: Any, what: str, example: str) -> Mapping[Any, Any]:
    if not isinstance(given, Mapping):
        raise ConfigError(f"{what} is {given!r}, no keys with values", code="config.file", help=f"write {example}")
    return given


def _unknown(what: str, key: object, known: Iterable[str]) -> ConfigError:
    return ConfigError(f"{what}, which is not known", code="config.unknown_key", help=suggest(str(key), known))


def _bad_file(path: Path, what: str, help: str) -> ConfigError:
    return ConfigError(f"configuration file `{path}` {what}", code="config.file", help=help)
