"""Prints, at the end, how the neighbours fared beside each animal."""

from __future__ import annotations

import pytest

from tests.zoo.keeper import Visit

_visits: list[Visit] = []


@pytest.fixture
def visits() -> list[Visit]:
    """What was seen so far."""
    return _visits


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Latencies are told, not judged: the machine has other things to do."""
    if not _visits:
        return
    terminalreporter.section("the zoo: healthy runs beside each animal, ms")
    terminalreporter.write_line(
        f"{'animal':32} {'runs':>5}  {'sync p50':>8} {'p99':>8} {'max':>8}  {'async p50':>9} {'p99':>8} {'max':>8}"
    )
    for visit in _visits:
        sync, coro = ([stream.quantile(share) for share in (0.5, 0.99, 1.0)] for stream in visit.streams)
        terminalreporter.write_line(
            f"{visit.animal:32} {visit.ends.total():5}  {sync[0]:8.2f} {sync[1]:8.2f} {sync[2]:8.2f}  "
            f"{coro[0]:9.2f} {coro[1]:8.2f} {coro[2]:8.2f}"
        )
