"""Every stable code has a page, and every page a code."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "error_index.py"


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("error_index", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_codes_and_pages_belong_together() -> None:
    assert script().faults() == []


def test_codes_are_found_in_both_languages() -> None:
    found = script().codes()
    assert {"store.locked", "workflow.cycle", "config.duration", "task.timeout", "template.fuel"} <= found
    assert not found & {"task.started", "run.submitted"}  # events, no errors


def test_an_area_that_nobody_looks_for_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = script()
    assert found.unknown_areas() == set()
    monkeypatch.delitem(found.AREAS, "template")
    assert found.unknown_areas() == {"template"}
