//! Checks that need one noun at a time: names, lanes, options.

use std::collections::HashSet;

use super::findings::{Findings, code};
use super::memory;
use super::refer::{DEPTH_MAX, is_too_deep};
use crate::model::{LaneSpec, Rate, Retry, Task, Workflow};

/// Most tasks of one workflow: a node's position must fit beside the marks that `u32` also carries.
const TASKS_MAX: usize = 1 << 24;
/// Names that templates give a meaning of their own.
const RESERVED: [&str; 3] = ["input", "run", "memory"];

/// Checks what is neither task nor reference.
pub(super) fn workflow(workflow: &Workflow, findings: &mut Findings) {
    if workflow.name.trim().is_empty() {
        findings.add(code::EMPTY_NAME, None, "the workflow has no name", "give it a name");
    }
    if workflow.tasks.is_empty() {
        let message = format!("workflow `{}` has no tasks", workflow.name);
        findings.add(code::NO_TASKS, None, message, "add at least one task");
    }
    size(&workflow.name, workflow.tasks.len(), findings);
    if workflow.timeout_ms == Some(0) {
        let message = format!("workflow `{}` has a timeout of 0", workflow.name);
        findings.add(code::BAD_OPTION, None, message, "leave the timeout out for no bound");
    }
    if workflow.input.as_ref().is_some_and(|schema| is_too_deep(schema, DEPTH_MAX)) {
        let message = format!("the input schema nests deeper than {DEPTH_MAX} levels");
        findings.add(code::TOO_DEEP, None, message, "flatten the schema");
    }
    lanes(&workflow.lanes, findings);
    if let Some(policy) = &workflow.memory {
        memory::policy(policy, findings);
    }
}

/// Checks how many tasks a workflow has, or is about to have.
pub(super) fn size(workflow: &str, tasks: usize, findings: &mut Findings) {
    if tasks > TASKS_MAX {
        let message =
            format!("workflow `{workflow}` has {tasks} tasks, and {TASKS_MAX} are allowed");
        findings.add(code::TOO_MANY_TASKS, None, message, "use a map, or several runs");
    }
}

fn lanes(lanes: &[LaneSpec], findings: &mut Findings) {
    let mut seen = HashSet::with_capacity(lanes.len());
    for lane in lanes {
        let name = &lane.name;
        if !seen.insert(name.as_str()) {
            let message = format!("lane `{name}` is declared twice");
            findings.add(code::DUPLICATE_LANE, None, message, "declare it once");
        }
        if name.trim().is_empty() || name.chars().any(char::is_control) {
            let message = format!("a lane cannot be called {name:?}");
            findings.add(code::BAD_LANE, None, message, "use a non-empty, printable name");
        }
        let bounds = [
            (lane.concurrency == 0, "concurrency", "nothing in it could ever run"),
            (lane.capacity == 0, "capacity", "nothing could ever enter it"),
            (lane.threads == Some(0), "threads", "no sync agent in it could ever run"),
            (
                lane.rate.is_some_and(|rate| is_zero(&rate)),
                "rate",
                "nothing in it could ever begin",
            ),
            (lane.budgets.values().any(is_zero), "budget", "nothing in it could ever begin"),
        ];
        for (_, bound, why) in bounds.into_iter().filter(|(wrong, ..)| *wrong) {
            let message = format!("lane `{name}` has a {bound} of 0: {why}");
            findings.add(code::BAD_LANE, None, message, format!("set its {bound} to 1 or more"));
        }
    }
}

fn is_zero(rate: &Rate) -> bool {
    rate.units == 0 || rate.per_ms == 0 || rate.burst == 0
}

/// Checks a task's own name.
pub(super) fn id(id: &str, findings: &mut Findings) {
    let wrong = if id.is_empty() {
        "it is empty"
    } else if RESERVED.contains(&id) {
        "templates give that name a meaning of their own"
    } else if id.contains(['[', ']']) {
        "brackets number the children of a map"
    } else if id.chars().any(char::is_control) {
        "it has control characters in it"
    } else {
        return;
    };
    let message = format!("a task cannot be called {id:?}: {wrong}");
    findings.add(code::BAD_ID, Some(id), message, "rename the task");
}

/// Checks a task's options against each other.
pub(super) fn options(task: &Task, findings: &mut Findings) {
    let id = &task.id;
    let mut add = |message: String, help: &str| {
        findings.add(code::BAD_OPTION, Some(id), message, help);
    };
    for (bound, what) in [
        (task.timeout_ms, "timeout"),
        (task.queue_timeout_ms, "queue timeout"),
        (task.idle_timeout_ms, "idle timeout"),
        (task.total_timeout_ms, "total timeout"),
    ] {
        if bound == Some(0) {
            add(format!("task `{id}` has a {what} of 0"), "leave it out for no bound");
        }
    }
    if task.cost == 0 {
        add(format!("task `{id}` has a cost of 0"), "give a cost of 1 or more");
    }
    if let Some(each) = &task.each
        && task.args.contains_key(&each.param)
    {
        let message = format!(
            "task `{id}` maps over parameter `{}` and gives it an argument as well",
            each.param
        );
        add(message, "drop the argument: the map binds it item by item");
    }
    retry(id, &task.retry, &mut add);
    if let Some(retrieve) = task.memory.as_ref().and_then(|memory| memory.retrieve.as_ref()) {
        memory::retrieve(id, retrieve, findings);
    }
}

// At-most-once delivery with retries is no contradiction: a failure that was seen is tried again,
// an attempt that a crash cut off is not.
fn retry(id: &str, retry: &Retry, add: &mut impl FnMut(String, &str)) {
    if !retry.factor.is_finite() || retry.factor < 1.0 {
        let message = format!("task `{id}` has a retry factor of {}", retry.factor);
        add(message, "use a factor of 1 or more");
    }
    if retry.max_ms < retry.initial_ms {
        let message = format!(
            "task `{id}` bounds its retry pauses at {} ms, below the first of {} ms",
            retry.max_ms, retry.initial_ms
        );
        add(message, "raise the maximum or lower the initial pause");
    }
    for class in retry.on.iter().filter(|class| retry.never.contains(class)) {
        let message = format!("task `{id}` names `{class}` both as retried and as never retried");
        add(message, "name it once");
    }
}
