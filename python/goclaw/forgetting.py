"""How memories fade: presets and parameters of FSRS-6."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from . import _goclaw
from ._options import one_of
from ._plain import number
from ._recall import Grade, _grade
from .durations import Duration, to_ms
from .errors import RecallError

Preset: TypeAlias = Literal["agent", "anki"]

_PRESETS: tuple[Preset, ...] = ("agent", "anki")
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Forgetting:
    """How memories fade, and what reviews do: a scheduler of FSRS-6 with its parameters.

    Args:
        preset: ``"agent"`` forgets within months what is not used; ``"anki"`` are the published defaults,
            fitted to people who learn, who forget within years.
        time_scale: Days of the model that pass in a real day; 24 makes an hour count as one.
        half_life: When a new memory has lost half its strength, in place of what the parameters say; in seconds once
            it is made.
        parameters: Parameters ``w0`` to ``w20`` of one's own, in place of the preset's.

    Raises:
        RecallError: `memory.forgetting` for numbers outside of their bounds.
        ConfigError: for a preset that is not known.

    Example:
        >>> import goclaw
        >>> round(goclaw.Forgetting().days_until(0.3))
        99
        >>> round(goclaw.Forgetting("anki").days_until(0.3) / 365.25)
        16
        >>> round(goclaw.Forgetting(half_life="7d").strength(7.0), 6)
        0.5
    """

    preset: Preset = "agent"
    time_scale: float = 1.0
    half_life: Duration | None = None
    parameters: Sequence[float] | None = None

    def __post_init__(self) -> None:
        one_of("preset", self.preset, _PRESETS)
        number("time_scale", self.time_scale, "memory.forgetting")
        if self.half_life is not None:
            object.__setattr__(self, "half_life", to_ms(self.half_life, what="half_life") / 1000)
        if self.parameters is not None:
            try:
                own = tuple(number("parameters", part, "memory.forgetting") for part in self.parameters)
            except TypeError as error:
                raise RecallError(
                    f"the parameters are {self.parameters!r}", code="memory.forgetting", help="give 21 numbers"
                ) from error
            object.__setattr__(self, "parameters", own)
        # It refuses what is outside of its bounds.
        halved = self.days_until(0.5) * _DAY_MS / 1000
        if isinstance(self.half_life, float) and not 0.99 < halved / self.half_life < 1.01:
            raise RecallError(
                f"a half-life of {self.half_life:g} s cannot be had with these parameters: the nearest is {halved:g} s",
                code="memory.forgetting",
                help="time_scale lets time pass faster or slower for all memories",
            )

    def days_until(self, strength: float, *, grade: Grade = "good") -> float:
        """When a new memory is as weak as this.

        Args:
            strength: 0 to 1.
            grade: How it is graded to begin with.

        Returns:
            Days; infinite for a strength of 0.
        """
        return _goclaw._fsrs_days_until(self, number("strength", strength, "memory.threshold"), _grade(grade))

    def strength(self, days: float, *, grade: Grade = "good") -> float:
        """How strong a new memory is after some days without a review.

        Args:
            days: Real days.
            grade: How it is graded to begin with.

        Returns:
            0 to 1.
        """
        return _goclaw._fsrs_strength(self, number("days", days), _grade(grade))

    @property
    def w(self) -> list[float]:
        """The parameters in force, ``w0`` to ``w20``."""
        return list(_goclaw._fsrs_preset(self.preset) if self.parameters is None else self.parameters)

    @property
    def half_life_days(self) -> float | None:
        """The half-life in days, where one was given."""
        return None if self.half_life is None else to_ms(self.half_life, what="half_life") / _DAY_MS


def _read(row: tuple[list[float], float, float | None]) -> Forgetting:
    w, time_scale, half_life = row
    seconds = None if half_life is None else half_life * _DAY_MS / 1000
    for preset in _PRESETS:
        if w == _goclaw._fsrs_preset(preset):
            return Forgetting(preset, time_scale, seconds)
    return Forgetting("agent", time_scale, seconds, w)
