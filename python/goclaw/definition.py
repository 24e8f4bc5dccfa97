"""What all doors to a workflow have in common: a definition that can be checked, drawn, written down and run."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from . import _registry
from .errors import InputError, Problem, WorkflowError

if TYPE_CHECKING:
    from . import _goclaw
    from .plan import Plan

R_co = TypeVar("R_co", covariant=True)


class Definition(ABC, Generic[R_co]):
    """A workflow, traced or built; `R_co` is the type of its runs' results.

    Attributes:
        name: What the journal and documents call it.
    """

    name: str

    def __init__(self, name: str) -> None:
        self.name = name
        self._compiled: dict[tuple[Any, ...], _goclaw.Plan] = {}

    @abstractmethod
    def _model(self) -> tuple[dict[str, Any], list[Any]]:
        """The definition in the Rust core's form, and its values beyond JSON."""

    def _input(self, given: Any) -> Any:
        """Checks a run's input and fills in what the workflow knows."""
        return {} if given is None else given

    def _defaults(self) -> Mapping[str, Any]:
        """What fields of the input that are not given are."""
        return {}

    def plan(self) -> Plan:
        """Compiles the workflow.

        Returns:
            Its plan. Lanes are not checked here: which ones exist is the engine's to say.

        Raises:
            WorkflowError: `workflow.invalid`, or the one kind of problem that was found.
        """
        from .plan import Plan

        return Plan(self._compile(None, memory=True))

    def validate(self) -> list[Problem]:
        """Lists everything that is wrong with the workflow.

        Returns:
            All problems, each with a code; an empty list where there are none.
        """
        try:
            self._compile(None, memory=True)
        except WorkflowError as error:
            return list(error.problems) or [Problem(error.code, None, str(error), error.help)]
        return []

    def to_dict(self) -> dict[str, Any]:
        """Writes the workflow as a document, as `Workflow.from_dict` reads it.

        Returns:
            Plain values only.

        Raises:
            WorkflowError: `workflow.not_portable` where a literal cannot be written in JSON.
        """
        from . import _document

        return _document.write(*self._model(), self._defaults())

    def to_yaml(self) -> str:
        """Writes the workflow as YAML, as `Workflow.from_yaml` reads it.

        Returns:
            The document's text.

        Raises:
            WorkflowError: `workflow.not_portable` where a literal cannot be written in JSON.
        """
        from . import _goclaw

        return _goclaw.to_yaml(json.dumps(self.to_dict()))

    def _compile(self, lanes: str | None, *, memory: bool) -> _goclaw.Plan:
        """The native plan for an engine with these lanes, as it tells them; `None`: every lane exists."""
        from . import _goclaw
        from .lane import sized

        model, constants = self._model()
        key = (lanes, memory, _registry.generation())
        plan = self._compiled.get(key)
        if plan is None:
            for task in model["tasks"]:
                _registry.find(task["agent"])
            if "lanes" in model:
                model = {**model, "lanes": [sized(lane) for lane in model["lanes"]]}
            plan = _goclaw.compile(json.dumps(model), constants, lanes, memory)
            # Looking agents up may have imported and registered some.
            key = (lanes, memory, _registry.generation())
            self._compiled = {k: v for k, v in self._compiled.items() if k[2] == key[2]} | {key: plan}
        return plan

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        try:
            return self.plan()._repr_mimebundle_()
        except WorkflowError as error:
            return {"text/plain": f"{self!r}\n{error}\n" + "\n".join(map(str, error.problems))}


def named_input(given: Any, known: Mapping[str, bool], defaults: Mapping[str, Any], workflow: str) -> dict[str, Any]:
    """Checks an input given by names and fills in defaults.

    Args:
        given: The input.
        known: The fields, each with whether it must be given.
        defaults: What fields that are not given are.
        workflow: For the error.

    Raises:
        InputError: `workflow.input` with the names of missing and unknown fields.
    """
    if given is None:
        given = {}
    if not isinstance(given, Mapping) and len(known) == 1:
        given = {next(iter(known)): given}
    if not isinstance(given, Mapping):
        raise InputError(
            f"the input of `{workflow}` is a {type(given).__name__}, not fields by name",
            help=f"give a dict with {_names(known)}",
        )
    missing = [name for name, required in known.items() if required and name not in given]
    if missing:
        raise InputError(f"the input of `{workflow}` lacks {_names(missing)}", help=f"its fields are {_names(known)}")
    unknown = [name for name in given if name not in known]
    if unknown:
        raise InputError(
            f"workflow `{workflow}` has no input {_names(unknown)}",
            help=f"its fields are {_names(known)}" if known else "it takes no input",
        )
    return {
        name: given[name] if name in given else defaults[name] for name in known if name in given or name in defaults
    }


def _names(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)
