"""What every scenario shares: contenders, clocks, memory, raw limits of this machine."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Figures = dict[str, float]
"""What one round of one contender measured: the scenario's figure of merit, and what belongs to it."""


@dataclass(frozen=True)
class Setting:
    """What a contender is told: how much to do, and where files may go."""

    quick: bool
    folder: Path

    def scaled(self, count: int) -> int:
        """A tenth of the work with ``--quick``."""
        return count // 10 if self.quick else count


@dataclass(frozen=True)
class Contender:
    """One way to do a scenario's work.

    Attributes:
        name: What the table calls it.
        measure: Does the work once; called in a process of its own.
        needs: Modules that must be installed.
        against: Name of the goclaw contender that a peer is compared with.
        note: How much less work it does than the others, where it does.
    """

    name: str
    measure: Callable[[Setting], Figures]
    needs: tuple[str, ...] = ()
    against: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Target:
    """A promise about medians, checked when a scenario is done."""

    text: str
    holds: Callable[[Callable[[str, str], float]], bool]
    """Given ``median(contender, figure)``."""


@dataclass
class Scenario:
    """Contenders who do the same work, and the figure that compares them."""

    name: str
    title: str
    figure: str
    unit: str
    higher_is_better: bool
    columns: tuple[str, ...] = ()
    rounds: int = 5
    contenders: list[Contender] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)

    def contender(
        self, name: str, *, needs: Sequence[str] = (), against: str | None = None, note: str = ""
    ) -> Callable[[Callable[[Setting], Figures]], Callable[[Setting], Figures]]:
        """Registers a function as a contender."""

        def register(measure: Callable[[Setting], Figures]) -> Callable[[Setting], Figures]:
            self.contenders.append(Contender(name, measure, tuple(needs), against, note))
            return measure

        return register

    def target(self, text: str) -> Callable[[Callable[..., bool]], None]:
        """Registers a function of ``median(contender, figure)`` as a target."""

        def register(holds: Callable[..., bool]) -> None:
            self.targets.append(Target(text, holds))

        return register


@contextmanager
def timed(figures: Figures, key: str = "seconds") -> Iterator[None]:
    """Notes the wall time of a block."""
    began = time.perf_counter()
    yield
    figures[key] = time.perf_counter() - began


def rate(count: int, figures: Figures) -> Figures:
    """Adds ``rate``: so many a second."""
    figures["count"] = count
    figures["rate"] = count / figures["seconds"]
    return figures


def percentiles(waits_ns: Sequence[int]) -> Figures:
    """P50, P95, P99 and the worst of some waits, in microseconds."""
    ranked = sorted(waits_ns)

    def at(share: float) -> float:
        return ranked[min(len(ranked) - 1, int(share * len(ranked)))] / 1e3

    return {"p50": at(0.50), "p95": at(0.95), "p99": at(0.99), "max": ranked[-1] / 1e3, "count": len(ranked)}


def resident_mb() -> float:
    """Resident memory of this process now, in MB (10^6 bytes)."""
    return _status("VmRSS:")


def own_mb() -> float:
    """Of that, what is the process's own and no file, in MB."""
    return _status("RssAnon:")


def peak_mb() -> float:
    """The most memory that this process ever had resident, in MB."""
    return _status("VmHWM:")


def _status(key: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def raw_journal(folder: Path, total: int, syncs: int) -> float:
    """Seconds to bring `total` bytes to disk with `syncs` grouped ``pwrite`` + ``fdatasync`` calls.

    The file is filled with zeros first, as a journal segment is: growing a file costs more.
    """
    syncs = max(1, int(syncs))
    block = os.urandom(max(1, int(total) // syncs))
    handle = os.open(folder / "raw", os.O_RDWR | os.O_CREAT)
    try:
        zeros = bytes(1 << 20)
        for _ in range(len(block) * syncs // len(zeros) + 1):
            os.write(handle, zeros)
        os.fsync(handle)
        began = time.perf_counter()
        for index in range(syncs):
            os.pwrite(handle, block, index * len(block))
            os.fdatasync(handle)
        return time.perf_counter() - began
    finally:
        os.close(handle)
        os.unlink(folder / "raw")


PACKAGES = ("goclaw", "langgraph", "dbos", "uvloop", "lancedb", "chromadb", "sqlite-vec", "tantivy")


def machine(folder: Path) -> dict[str, Any]:
    """What the figures depend on."""
    import importlib.metadata as metadata

    def version(package: str) -> str | None:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return None

    peers = {name: version(name) for name in PACKAGES}
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        "cpus": len(os.sched_getaffinity(0)),
        "file_system": _file_system(folder),
        "load": [round(load, 2) for load in os.getloadavg()],
        **peers,
    }


def _file_system(folder: Path) -> str:
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, found, *_ = line.split()
        inside = str(folder.resolve()).startswith(mount.rstrip("/") + "/")
        if inside and len(mount) > len(best):
            best, kind = mount, found
    return kind
