//! Which events follow from one just applied: skips, joins, fail-fast, the end of the run.

use super::Run;
use super::state::Body;
use super::{cancel, steer, sweep};
use crate::model::{
    CancelCause, Event, NodeIx, OnFailure, RunState, SkipReason, Span, TaskState, Trigger,
};

/// True for an event that the events before it in the same cascade have overtaken.
pub(super) fn is_moot(run: &Run, event: &Event) -> bool {
    match event {
        Event::Skipped { node, .. } => run.node(*node).state().is_terminal(),
        Event::Cancelled { span } => {
            run.items(*span).is_none_or(|items| items.iter().any(|i| i.state.is_terminal()))
        }
        Event::CancelRequested { .. } => run.cancel.is_some() || run.open == 0,
        Event::Sweeping => run.sweeping || run.state.is_terminal(),
        Event::RunEnded { .. } => run.state.is_terminal(),
        _ => false,
    }
}

pub(super) fn follow(run: &Run, event: &Event) -> Vec<Event> {
    match event {
        Event::Completed { span, .. } | Event::Cancelled { span } => task_ended(run, span.node),
        Event::Failed { task, failure, .. } => {
            let mut events = task_ended(run, task.node);
            events.extend(fail_fast(run, task.node, &failure.message));
            events
        }
        Event::Unresolved { node, failure } => {
            let mut events = task_ended(run, *node);
            events.extend(fail_fast(run, *node, &failure.message));
            events
        }
        Event::Skipped { node, .. } | Event::Joined { node, .. } => node_ended(run, *node),
        // A map of nothing is complete at once.
        Event::Expanded { node, count: 0, .. } => task_ended(run, *node),
        Event::Grown(growth) => {
            let first = run.nodes.len() - growth.tasks.len();
            (first..run.nodes.len()).filter_map(|node| skip(run, node as NodeIx)).collect()
        }
        Event::CancelRequested { .. } => cancel::end_unbegun(run),
        Event::Absorbed { .. } => steer::skip_all(run),
        _ => Vec::new(),
    }
}

fn fail_fast(run: &Run, node: NodeIx, message: &str) -> Option<Event> {
    if run.plan.workflow.on_failure != OnFailure::FailFast || run.cancel.is_some() {
        return None;
    }
    let reason = failure_text(run, node, message);
    Some(Event::CancelRequested { cause: CancelCause::Failure, reason })
}

fn failure_text(run: &Run, node: NodeIx, message: &str) -> String {
    format!("task `{}` failed: {message}", run.plan.nodes[node as usize].id)
}

/// A task ended: its map may be complete, or the node itself has ended.
fn task_ended(run: &Run, node: NodeIx) -> Vec<Event> {
    match &run.node(node).body {
        Body::One(_) => node_ended(run, node),
        Body::Map(map) if map.open > 0 || map.state.is_terminal() => Vec::new(),
        Body::Map(map) => {
            let any = |state| map.children.iter().any(|child| child.state == state);
            let state = if any(TaskState::Failed) {
                TaskState::Failed
            } else if any(TaskState::Cancelled) {
                TaskState::Cancelled
            } else {
                TaskState::Completed
            };
            vec![Event::Joined { node, state }]
        }
    }
}

/// A node ended: dependents whose trigger cannot hold any more are skipped, the last one ends the run.
fn node_ended(run: &Run, node: NodeIx) -> Vec<Event> {
    let dependents = &run.plan.nodes[node as usize].dependents;
    let mut events: Vec<_> = dependents.iter().filter_map(|&d| skip(run, d)).collect();
    if run.open == 0 {
        events.push(if sweep::is_due(run) { Event::Sweeping } else { end(run) });
    }
    events
}

fn skip(run: &Run, node: NodeIx) -> Option<Event> {
    let pending = run.node(node).waits == 0 && run.node(node).state() == TaskState::Pending;
    (pending && !triggered(run, node))
        .then_some(Event::Skipped { node, reason: SkipReason::Upstream })
}

/// Whether the ends of the node's dependencies let it start. Asked once, when the last one has ended.
pub(super) fn triggered(run: &Run, node: NodeIx) -> bool {
    let deps = &run.plan.nodes[node as usize].deps;
    let mut states = deps.iter().map(|&dep| run.node(dep).state());
    match run.plan.task(node).trigger {
        Trigger::AllSuccess => states.all(|state| state == TaskState::Completed),
        Trigger::AllDone => true,
        Trigger::OneSuccess => deps.is_empty() || states.any(|s| s == TaskState::Completed),
        Trigger::NoneFailed => {
            states.all(|s| matches!(s, TaskState::Completed | TaskState::Skipped))
        }
    }
}

/// How the run ends, now that all of its tasks have.
pub(super) fn end(run: &Run) -> Event {
    let failed = || run.failure.as_ref().map(|(task, f)| failure_text(run, task.node, &f.message));
    let absorbed = || run.absorbed_into().map(|into| format!("its message went into run `{into}`"));
    let asked = run.cancel.as_ref().map(|(_, reason)| reason.clone());
    let reason = asked.or_else(failed).or_else(absorbed);
    let state = match run.cause() {
        Some(CancelCause::Asked | CancelCause::Killed | CancelCause::Dropped) => {
            RunState::Cancelled
        }
        Some(CancelCause::Quarantine) => RunState::Quarantined,
        Some(
            CancelCause::Failure
            | CancelCause::Deadline
            | CancelCause::Unwritable
            | CancelCause::Merge
            | CancelCause::MergeTimeout,
        ) => RunState::Failed,
        None if run.failure.is_some() => RunState::Failed,
        None => RunState::Completed,
    };
    Event::RunEnded { state, reason }
}

/// The span of a node's only task.
pub(super) fn only(node: NodeIx) -> Span {
    Span::one(node, 0)
}
