"""Durations, retries, lanes, errors: small values that say no early."""

import pickle
from datetime import timedelta

import goclaw
import pytest
from goclaw import _codes, durations, errors
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("given", "ms"),
    [
        (0.5, 500),
        (3, 3000),
        ("500ms", 500),
        ("5s", 5000),
        ("2m", 120_000),
        ("1h", 3_600_000),
        ("1h30m", 5_400_000),
        ("1.5s", 1500),
        (" 5 s ", 5000),
        (timedelta(seconds=1), 1000),
        (0.0001, 1),
        (0, 0),
        ("1d", 86_400_000),
    ],
)
def test_a_duration_is_seconds_a_timedelta_or_text(given: durations.Duration, ms: int) -> None:
    assert durations.to_ms(given) == ms


@pytest.mark.parametrize(
    "given", ["", "5", "s", "5 parsecs", "-1s", "1s!", -1, float("nan"), float("inf"), True, None, [], "5s5"]
)
def test_what_is_no_duration_is_refused(given: object) -> None:
    with pytest.raises(goclaw.ConfigError) as refused:
        durations.to_ms(given, what="timeout")  # type: ignore[arg-type]
    assert refused.value.code == "config.duration"
    assert "timeout" in str(refused.value)


@given(st.integers(0, 10**9))
def test_milliseconds_survive_as_text(ms: int) -> None:
    assert durations.to_ms(f"{ms}ms") == ms


def test_zero_is_no_timeout() -> None:
    with pytest.raises(goclaw.ConfigError, match="zero"):
        goclaw.agent(timeout=0)


def test_type_and_value_errors_are_never_retried_unless_named() -> None:
    assert goclaw.Retry().never == (TypeError, ValueError)
    assert goclaw.Retry(on=(ValueError,)).never == (TypeError,)
    assert goclaw.Retry(on=(UnicodeDecodeError,)).never == (TypeError,)
    assert goclaw.Retry(never=(OSError,)).never == (OSError,)


@pytest.mark.parametrize(
    "options",
    [
        {"retries": -1},
        {"retries": True},
        {"retries": 1.5},
        {"factor": 0.5},
        {"on": ("OSError",)},
        {"on": (int,)},
        {"initial": "2m"},
        {"on": (OSError,), "never": (OSError,)},
        {"max": 0},
    ],
)
def test_a_senseless_retry_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(goclaw.ConfigError):
        goclaw.Retry(**options)  # type: ignore[arg-type]


def test_retry_and_retries_contradict() -> None:
    with pytest.raises(goclaw.ConfigError) as refused:
        goclaw.agent(retries=2, retry=goclaw.Retry())
    assert refused.value.code == "config.contradiction"


@pytest.mark.parametrize(
    ("name", "concurrency", "options"),
    [("", 1, {}), ("io", 0, {}), ("io", True, {}), ("io", 1, {"capacity": 0}), ("io", 1, {"timeout": "x"})],
)
def test_a_senseless_lane_is_refused(name: str, concurrency: int, options: dict[str, object]) -> None:
    with pytest.raises(goclaw.ConfigError):
        goclaw.Lane(name, concurrency, **options)  # type: ignore[arg-type]


def test_every_error_has_a_code_of_its_own_and_survives_pickling() -> None:
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.GoclawError)]
    codes = [c.code for c in classes if c not in (errors.RemoteError, errors.StoreError, errors.SessionError)]
    assert sorted(codes) == sorted(set(codes))
    for cls in classes:
        if cls is errors.RemoteError:
            continue
        error = cls("what happened", code="area.reason", help="what to do")
        back = pickle.loads(pickle.dumps(error))
        assert (type(back), str(back), back.code, back.help) == (cls, "what happened", "area.reason", "what to do")


def test_an_error_shows_its_help_in_the_traceback_and_not_in_its_text() -> None:
    error = goclaw.GoclawError("it broke", help="mend it")
    assert str(error) == "it broke"
    assert error.__notes__ == ["help: mend it"]


def test_codes_become_classes() -> None:
    assert isinstance(_codes.from_code("store.locked", "x"), goclaw.StoreLocked)
    assert type(_codes.from_code("store.other", "x")) is goclaw.StoreError
    assert type(_codes.from_code("new.thing", "x")) is goclaw.GoclawError


def test_problems_of_one_kind_raise_their_own_class() -> None:
    cycle = goclaw.Problem("workflow.cycle", "a", "a waits for a", "")
    other = goclaw.Problem("workflow.unknown_agent", "b", "no agent", "")
    assert type(_codes.from_code("workflow.invalid", "x", "", [cycle, cycle])) is goclaw.CycleError
    mixed = _codes.from_code("workflow.invalid", "x", "", [cycle, other])
    assert type(mixed) is goclaw.WorkflowError
    assert mixed.problems == (cycle, other)


def test_timeouts_are_timeout_errors() -> None:
    assert issubclass(goclaw.ResultTimeout, TimeoutError)
    assert issubclass(goclaw.RunTimedOut, TimeoutError)


def test_retry_after_takes_every_duration_and_survives_pickling() -> None:
    error = goclaw.RetryAfter("1m", "busy")
    assert error.seconds == 60.0
    back = pickle.loads(pickle.dumps(error))
    assert (back.seconds, str(back)) == (60.0, "busy")
