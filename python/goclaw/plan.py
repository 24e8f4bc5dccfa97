"""The compiled shape of a workflow: who runs after whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import _goclaw


class Plan:
    """A checked workflow: its layers, its longest path, and pictures of it.

    Made by `flow.plan()`; draws itself in a notebook.

    Example:
        >>> import goclaw
        >>> @goclaw.agent
        ... def load(path: str) -> str:
        ...     return path
        >>> @goclaw.agent
        ... def count(text: str) -> int:
        ...     return len(text)
        >>> @goclaw.workflow
        ... def letters(path: str) -> int:
        ...     return count(load(path))
        >>> letters.plan().layers
        [['load'], ['count']]
    """

    __slots__ = ("_native",)

    def __init__(self, native: _goclaw.Plan) -> None:
        self._native = native

    @property
    def name(self) -> str:
        """The workflow's name."""
        return self._native.name

    @property
    def layers(self) -> list[list[str]]:
        """Task ids by distance from the start; a task starts when its own inputs are there, not with its layer."""
        return self._native.layers()

    @property
    def critical_path(self) -> list[str]:
        """Ids of the longest chain of dependencies, first to last."""
        return self._native.critical_path()

    @property
    def parallel_groups(self) -> list[list[str]]:
        """Groups of tasks that may be under way at the same time."""
        return self._native.parallel_groups()

    def to_mermaid(self) -> str:
        """The graph in Mermaid's language."""
        return self._native.to_mermaid()

    def to_dot(self) -> str:
        """The graph in Graphviz's language."""
        return self._native.to_dot()

    def to_svg(self) -> str:
        """The graph as a picture."""
        return self._native.to_svg()

    def to_ascii(self) -> str:
        """The graph for a terminal."""
        return self._native.to_ascii()

    def __len__(self) -> int:
        return len(self._native)

    def __repr__(self) -> str:
        return f"<Plan {self.name}: {len(self)} tasks in {len(self.layers)} layers>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"image/svg+xml": self.to_svg(), "text/plain": f"{self!r}\n{self.to_ascii()}"}
