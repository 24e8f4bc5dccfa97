"""The keys of a workflow document, and their JSON Schema for editors."""

from __future__ import annotations

from typing import Any

from ._options import DELIVERIES, ISOLATIONS, ON_FAILURES, TRIGGERS

_DURATION = {
    "description": "Seconds, or text with a unit: 500ms, 5s, 2m, 1h.",
    "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": r"^(\d+(\.\d+)?\s*(ms|s|m|h|d)\s*)+$"}],
}
_NAMES = {"type": "array", "items": {"type": "string"}}

RETRY: dict[str, Any] = {
    "retries": {"type": "integer", "minimum": 0, "description": "Tries after the first."},
    "initial": {**_DURATION, "description": "Upper bound of the first pause."},
    "factor": {"type": "number", "minimum": 1, "description": "Each bound is this many times the one before."},
    "max": {**_DURATION, "description": "Bound of every pause."},
    "jitter": {"type": "boolean", "description": "Draw the pause evenly between 0 and its bound."},
    "on": {**_NAMES, "description": "Exception classes that are retried."},
    "never": {**_NAMES, "description": "Exception classes that are not."},
}
_RATE_TEXT = {"type": "string", "pattern": r"^\s*\d[\d_]*\s*/\s*(\d+(\.\d+)?)?\s*(ms|s|m|h|d)\s*$"}
_BURST = {"type": "integer", "minimum": 1, "description": "Units that may begin at once after a pause."}
LANE: dict[str, Any] = {
    "concurrency": {
        "type": "integer",
        "minimum": 1,
        "description": "Tasks that may run at once; default, io, cpu, memory and gpu size themselves.",
    },
    "capacity": {"type": "integer", "minimum": 1, "description": "Tasks that may wait in the queue."},
    "rate": {**_RATE_TEXT, "description": "Units that may begin per time: 100/s, 90_000/m, 5/2s."},
    "burst": _BURST,
    "rate_key": {"type": "string", "description": "Template of the key by which the rate is counted apart."},
    "budgets": {
        "type": "object",
        "description": "Rates of what agents charge afterwards, by unit.",
        "additionalProperties": {
            "anyOf": [
                _RATE_TEXT,
                {
                    "type": "object",
                    "properties": {"rate": _RATE_TEXT, "burst": _BURST},
                    "required": ["rate"],
                    "additionalProperties": False,
                },
            ]
        },
    },
    "on_full": {
        "description": "What happens to the next task when the queue is full.",
        "anyOf": [
            {"enum": ["block", "drop_newest", "drop_oldest"]},
            {
                "type": "object",
                "properties": {"redirect": {"type": "string", "description": "Name of the other lane."}},
                "required": ["redirect"],
                "additionalProperties": False,
            },
        ],
    },
    "timeout": {**_DURATION, "description": "How long a submit waits for a place."},
    "threads": {"type": "integer", "minimum": 1, "description": "Of the concurrency, how many may be plain functions."},
    "isolation": {"enum": list(ISOLATIONS), "description": "Where the lane's agents run, unless their task says."},
    "fair": {"type": "boolean", "description": "Sessions take turns."},
}
TASK: dict[str, Any] = {
    "id": {"type": "string", "description": "Name of the task, unique in the workflow."},
    "agent": {"type": "string", "description": "Registered name, or import path: package.module:function."},
    "deps": {**_NAMES, "description": "Tasks that must end first."},
    "lane": {"type": "string"},
    "with": {"type": "object", "description": "Arguments by parameter; {{ … }} refers to input and results."},
    "when": {"type": ["string", "boolean"], "description": "The task is skipped where this is false."},
    "for_each": {
        "description": "One child per item: a template, a list, or {as: parameter, items: …}.",
        "anyOf": [{"type": "string"}, {"type": "array"}, {"type": "object", "required": ["items"]}],
    },
    "retry": {
        "anyOf": [
            {"type": "integer", "minimum": 0},
            {"type": "object", "properties": RETRY, "additionalProperties": False},
        ]
    },
    "timeout": {**_DURATION, "description": "Bound on one attempt."},
    "queue_timeout": {**_DURATION, "description": "Bound on each wait for a permit."},
    "idle_timeout": {**_DURATION, "description": "Bound on an attempt's silence."},
    "total_timeout": {**_DURATION, "description": "Bound on the whole task with every wait and attempt."},
    "rate_key": {"type": "string", "description": "Whose rate the task counts against."},
    "cost": {"type": "integer", "minimum": 1, "description": "Units of its lane's rate that one attempt takes."},
    "isolation": {"enum": list(ISOLATIONS), "description": "Where the agent runs."},
    "priority": {"type": "integer", "description": "Higher runs first."},
    "trigger": {"enum": list(TRIGGERS), "description": "What the ends of the dependencies must look like."},
    "delivery": {"enum": list(DELIVERIES), "description": "What a crash in the middle of an attempt does."},
}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_SOME = {"type": "integer", "minimum": 1, "maximum": 1000}
RETRIEVE: dict[str, Any] = {
    "query": {"type": "string", "description": "Searched by words and by vector; a template."},
    "vector_query": {
        "description": "Searched by vector alone: a template of a text or a vector.",
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "number"}}],
    },
    "top_k": {**_SOME, "description": "How many memories at most."},
    "filter": {"type": "object", "description": "Only memories whose metadata has these values."},
    "min_strength": {**_SHARE, "description": "Only memories at least this strong."},
}
TASK_MEMORY: dict[str, Any] = {
    "retrieve": {
        "type": "object",
        "description": "Looked up before each attempt; one of query and vector_query.",
        "properties": RETRIEVE,
        "additionalProperties": False,
    }
}
TASK["memory"] = {
    "type": "object",
    "description": "What the task is given of its session's memory.",
    "properties": TASK_MEMORY,
    "additionalProperties": False,
}
POLICY: dict[str, Any] = {
    "retrieve_last": {**_SOME, "description": "Every task is given so many of the latest memories."},
    "forget_below": {**_SHARE, "description": "Strength below which the session forgets when a run is done."},
}
# Keys of a task that `Workflow.task` takes under the same name.
TASK_OPTIONS = (
    *("lane", "timeout", "queue_timeout", "idle_timeout", "total_timeout", "rate_key", "cost"),
    *("priority", "trigger", "delivery", "isolation", "memory"),
)
WORKFLOW: dict[str, Any] = {
    "name": {"type": "string"},
    "input": {"type": "object", "description": "JSON Schema of the input, or of each of its fields by name."},
    "tasks": {
        "type": "array",
        "items": {
            "type": "object",
            "properties": TASK,
            "required": ["id", "agent"],
            "additionalProperties": False,
        },
    },
    "output": {"description": "What the run's result is; by default the single sink's result."},
    "on_failure": {"enum": list(ON_FAILURES)},
    "timeout": {**_DURATION, "description": "Bound on the whole run."},
    "memory": {
        "type": "object",
        "description": "What its runs do with the memory of their sessions.",
        "properties": POLICY,
        "additionalProperties": False,
    },
    "lanes": {
        "type": "object",
        "additionalProperties": {"type": ["object", "null"], "properties": LANE, "additionalProperties": False},
    },
}

# Keys of the contract that this version does not carry out: named, so that nobody believes they work.
WORKFLOW_LATER = ("session", "version")
TASK_LATER = ("approval", "compensate")


def schema() -> dict[str, Any]:
    """JSON Schema of a workflow document."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "goclaw workflow",
        "type": "object",
        "properties": WORKFLOW,
        "required": ["name", "tasks"],
        "additionalProperties": False,
    }
