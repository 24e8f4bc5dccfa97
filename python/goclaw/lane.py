"""Lanes: bounded queues in front of a bounded number of permits."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, TypeVar

from . import _goclaw
from ._options import ISOLATIONS, Isolation, one_of
from ._suggest import suggest
from .durations import Duration, to_positive_ms
from .errors import ConfigError
from .rate import Rate, read

_MOST = 1_000_000
_POLICIES = ("block", "drop_newest", "drop_oldest")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Redirect:
    """What a full lane does with the next task: it goes to another lane; made by `redirect`.

    Attributes:
        to: Name of the other lane.
    """

    to: str


OnFull: TypeAlias = Literal["block", "drop_newest", "drop_oldest"] | Redirect


def redirect(to: str) -> Redirect:
    """A full lane sends the next task to another one.

    Args:
        to: Name of the other lane.

    Returns:
        The policy, for ``Lane(..., on_full=redirect("slow"))``.

    Raises:
        ConfigError: `config.lane` for something that is no name.

    Example:
        >>> Lane("fast", 4, on_full=redirect("slow")).on_full
        Redirect(to='slow')
    """
    if not isinstance(to, str) or not to.strip():
        raise ConfigError(f"a lane redirects to {to!r}", code="config.lane", help="give the other lane's name")
    return Redirect(to)


def _knows_what_was_given(cls: type[T]) -> type[T]:
    """Makes a dataclass remember the names of the options that it was called with.

    One that says what is the default anyway outranks a file; one that was left out does not.
    """
    plain: Any = cls.__init__

    @functools.wraps(plain)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        by_position = tuple(vars(cls)["__dataclass_fields__"])[: len(args)]
        object.__setattr__(self, "_given", frozenset((*by_position, *kwargs)))
        plain(self, *args, **kwargs)

    cls.__init__ = init  # type: ignore[method-assign]
    return cls


@_knows_what_was_given
@dataclass(frozen=True)
class Lane:
    """A named resource class: so many tasks may run at once, so many may queue, so many may begin per time.

    Args:
        name: What tasks call it (``lane="io"``).
        concurrency: Tasks that may run at once; the built-in names (``default io cpu memory gpu embed``) size
            themselves by the machine where it is left out, others need it from here or from the
            engine's configuration.
        capacity: Tasks that may wait in the queue.
        rate: Units that may begin per time: ``"100/s"``, ``"90_000/m"``, ``"5/2s"`` or a `Rate`.
        burst: Units that may begin at once after a pause; a whole period's by default, 1 spaces them evenly.
        rate_key: Template of the key by which the rate is counted apart (``"{{ input.tenant }}"``), for
            tasks that name none.
        budgets: Rates of what agents charge afterwards with ``ctx.charge(unit, n)``, by unit.
        on_full: What happens to the next task when the queue is full: ``"block"`` (it waits, and so does
            whoever submits), ``"drop_newest"``, ``"drop_oldest"`` or ``redirect("other")``.
        timeout: How long a submit waits for a place before it is refused; `None`: as long as it takes.
        threads: Of the concurrency, how many may be plain functions on threads; `None`: all.
        isolation: Where the lane's agents run, unless their task says.
        fair: Sessions take turns; `False`: first come, first served.

    Raises:
        ConfigError: `config.lane`, `config.rate`, `config.duration`, `config.choice`, `config.contradiction`.

    Example:
        >>> Lane("llm", 32, rate="60/m", budgets={"tokens": "90_000/m"}).capacity
        10000
    """

    name: str
    concurrency: int | None = None
    capacity: int = field(default=10_000, kw_only=True)
    rate: str | Rate | None = field(default=None, kw_only=True)
    burst: int | None = field(default=None, kw_only=True)
    rate_key: str | None = field(default=None, kw_only=True)
    budgets: Mapping[str, str | Rate] | None = field(default=None, kw_only=True, hash=False)
    on_full: OnFull = field(default="block", kw_only=True)
    timeout: Duration | None = field(default=None, kw_only=True)
    threads: int | None = field(default=None, kw_only=True)
    isolation: Isolation | None = field(default=None, kw_only=True)
    fair: bool = field(default=True, kw_only=True)

    if TYPE_CHECKING:
        _given: ClassVar[frozenset[str]]

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise ConfigError("a lane has no name", code="config.lane", help='name it: Lane("io", 64)')
        self._check_numbers()
        self._check_rates()
        if not isinstance(self.on_full, Redirect):
            one_of("on_full", self.on_full, _POLICIES)
        elif self.on_full.to == self.name:
            raise self._refuse("redirects to itself", "name another lane")
        if self.timeout is not None:
            to_positive_ms(self.timeout, what=f"timeout of lane {self.name}")
        if self.isolation is not None:
            one_of("isolation", self.isolation, ISOLATIONS)
        if not isinstance(self.fair, bool):
            raise self._refuse(f"has `fair` {self.fair!r}", "give True or False")

    def _check_numbers(self) -> None:
        for what in ("concurrency", "capacity", "threads"):
            value = getattr(self, what)
            if value is None and what != "capacity":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST:
                raise ConfigError(
                    f"`{what}` of lane `{self.name}` is {value!r}",
                    code="config.lane",
                    help=f"give a whole number from 1 to {_MOST}",
                )
        if self.threads is not None and self.concurrency is not None and self.threads > self.concurrency:
            raise ConfigError(
                f"lane `{self.name}` has {self.threads} threads, and a concurrency of {self.concurrency}",
                code="config.contradiction",
                help="`threads` is a part of `concurrency`: lower it, or leave it out",
            )

    def _check_rates(self) -> None:
        self._rate()
        if self.rate_key is not None and (not isinstance(self.rate_key, str) or not self.rate_key.strip()):
            raise self._refuse(f"has the rate key {self.rate_key!r}", 'give a template: "{{ input.tenant }}"')
        if self.rate_key is not None and self.rate is None and not self.budgets:
            raise ConfigError(
                f"lane `{self.name}` has a `rate_key`, and nothing that is counted by it",
                code="config.contradiction",
                help="give it a `rate` or `budgets` as well",
            )
        if self.budgets is not None and not isinstance(self.budgets, Mapping):
            raise self._refuse(f"has the budgets {self.budgets!r}", 'write budgets={"tokens": "90_000/m"}')
        for unit in self.budgets or {}:
            if not isinstance(unit, str) or not unit.strip():
                raise self._refuse(f"has a budget of {unit!r}", "name the unit, such as tokens")
        self._budgets()

    def _rate(self) -> Rate | None:
        if self.rate is None:
            if self.burst is not None:
                raise ConfigError(
                    f"lane `{self.name}` has a `burst` and no `rate`",
                    code="config.contradiction",
                    help='say what the burst is of: rate="100/s"',
                )
            return None
        rate = read(self.rate, f"`rate` of lane `{self.name}`")
        if self.burst is None:
            return rate
        if rate.burst is not None:
            raise ConfigError(
                f"lane `{self.name}` has two bursts, one inside its rate",
                code="config.contradiction",
                help="leave one of them out",
            )
        return Rate(rate.units, rate.per, burst=self.burst)

    def _budgets(self) -> dict[str, Rate]:
        given = self.budgets or {}
        return {unit: read(rate, f"budget `{unit}` of lane `{self.name}`") for unit, rate in given.items()}

    def _refuse(self, what: str, help: str) -> ConfigError:
        return ConfigError(f"lane `{self.name}` {what}", code="config.lane", help=help)

    def _sizeable(self) -> Lane:
        """The lane itself, where its size is known or the machine's.

        Raises:
            ConfigError: `config.lane`. Not when it is made, as a configuration may say its size.
        """
        sizes = _goclaw.lane_sizes()
        if self.concurrency is None and self.name not in sizes:
            raise self._refuse(
                "has no concurrency",
                f'give it one: Lane("{self.name}", 8). Only the built-in lanes size themselves: '
                f"{suggest(self.name, sizes)}",
            )
        return self

    def _to_model(self) -> dict[str, Any]:
        """The lane in the core's form; without `concurrency` where the machine decides (see `sized`)."""
        self._sizeable()
        rate = self._rate()
        on_full = {"redirect": self.on_full.to} if isinstance(self.on_full, Redirect) else self.on_full
        model = {
            "name": self.name,
            "concurrency": self.concurrency,
            "capacity": self.capacity,
            "threads": self.threads,
            "timeout_ms": None if self.timeout is None else to_positive_ms(self.timeout),
            "on_full": None if on_full == "block" else on_full,
            "rate": None if rate is None else rate._to_model(),
            "rate_key": self.rate_key,
            "budgets": {unit: rate._to_model() for unit, rate in self._budgets().items()} or None,
            "isolation": self.isolation,
            "fair": None if self.fair else False,
        }
        return {key: value for key, value in model.items() if value is not None}


def sized(model: dict[str, Any]) -> dict[str, Any]:
    """The lane's model with the concurrency that the machine gives a built-in name."""
    if "concurrency" in model:
        return model
    concurrency, threads = _goclaw.lane_sizes()[model["name"]]
    own = model.get("threads")
    threads = threads if own is None else min(own, concurrency)
    return {**model, "concurrency": concurrency, **({} if threads is None else {"threads": threads})}
