//! Whose time is over: in the queue, in an attempt, in silence, altogether.
//!
//! Nothing here measures. Waits begin at moments that the journal knows, so after a restart the rest
//! of the time counts, not all of it again. Timers are hints: what is over is asked of the state.

use std::sync::Arc;

use super::state::{Body, Item, Yield};
use super::{Effect, Run, Timer};
use crate::model::{
    Event, Failure, FailureKind, Millis, NodeIx, Span, TaskRef, TaskState, Timestamp,
};

/// What users catch a timeout as, and name in a retry policy: the class and its bases.
const TYPES: [&str; 6] = [
    "goclaw.errors.TaskTimedOut",
    "goclaw.errors.GoclawTimeout",
    "goclaw.errors.GoclawError",
    "builtins.TimeoutError",
    "builtins.OSError",
    "builtins.Exception",
];

fn failure(class: Option<&str>, code: &str, message: String) -> Failure {
    let mut failure = Failure::new(FailureKind::Timeout, code, message);
    failure.types = class.into_iter().chain(TYPES).map(Into::into).collect();
    failure
}

/// An attempt ran for too long.
pub(super) fn of_attempt(after_ms: Millis) -> Failure {
    failure(None, "task.timeout", format!("the attempt took longer than {after_ms} ms"))
}

/// An attempt gave no sign of life for too long.
pub(super) fn of_silence(after_ms: Millis) -> Failure {
    let message = format!("the attempt gave no sign of life for {after_ms} ms");
    failure(Some("goclaw.errors.IdleTimedOut"), "task.idle_timeout", message)
}

fn of_queue(after_ms: Millis) -> Failure {
    let message = format!("the task waited for its lane for longer than {after_ms} ms");
    failure(Some("goclaw.errors.QueueTimedOut"), "task.queue_timeout", message)
}

fn of_total(after_ms: Millis) -> Failure {
    let message = format!("the task took longer than {after_ms} ms, with all waits and attempts");
    failure(Some("goclaw.errors.TotalTimedOut"), "task.total_timeout", message)
}

/// True for a failure that may have found its task in its lane's queue.
pub(super) fn may_wait_in_lane(failure: &Failure) -> bool {
    // An agent that waited for a run which failed so has the code as well.
    failure.kind == FailureKind::Timeout
        && matches!(&*failure.code, "task.queue_timeout" | "task.total_timeout")
}

/// Since when a task waits for a permit; `None` where it does not.
fn waits_since(run: &Run, node: NodeIx, item: &Item) -> Option<Timestamp> {
    match (item.state, &item.yields) {
        (TaskState::Pending | TaskState::Scheduled, Yield::Ready { since }) => Some(*since),
        (TaskState::Pending | TaskState::Scheduled, _) => run.node(node).since,
        _ => None,
    }
}

/// The parts of a waiting span whose tasks have waited equally long, where that matters: all tasks
/// of an offer fail together, so that what is left of it stays in one state.
pub(super) fn spans_of_one_wait(run: &Run, span: Span) -> Vec<Span> {
    let bounded = run.plan.task(span.node).queue_timeout_ms.is_some();
    let Some(items) = run.items(span).filter(|_| bounded) else { return vec![span] };
    let mut spans: Vec<(Span, Option<Timestamp>)> = Vec::new();
    for (task, item) in span.tasks().zip(items) {
        let since = waits_since(run, span.node, item);
        match spans.last_mut() {
            Some((last, of)) if *of == since => last.len += 1,
            _ => spans.push((task.into(), since)),
        }
    }
    spans.into_iter().map(|(span, _)| span).collect()
}

/// The timer of a wait for a permit that has begun, or goes on after a restart.
pub(super) fn queue(run: &Run, span: Span) -> Option<Effect> {
    let bound = run.plan.task(span.node).queue_timeout_ms?;
    let since = waits_since(run, span.node, run.items(span)?.first()?)?;
    Some(Effect::Wake { at: since.plus(bound), timer: Timer::Queue(span) })
}

/// Fails the tasks of a span that have waited for a permit for too long. It is never retried: the
/// task would go back to the same queue.
pub(super) fn queue_over(run: &Run, span: Span, now: Timestamp) -> Vec<Event> {
    let (Some(items), None) = (run.items(span), &run.cancel) else { return Vec::new() };
    let Some(bound) = run.plan.task(span.node).queue_timeout_ms else { return Vec::new() };
    let is_over = |item: &Item| {
        waits_since(run, span.node, item).is_some_and(|since| since.plus(bound) <= now)
    };
    let over = span.tasks().zip(items).filter(|(_, item)| is_over(item));
    fail(over, &Arc::new(of_queue(bound)))
}

/// The timer of a node's total time, where that counts already and the node has not ended.
pub(super) fn total(run: &Run, node: NodeIx) -> Option<Effect> {
    let at = ends_at(run, node).filter(|_| !run.node(node).state().is_terminal())?;
    Some(Effect::Wake { at, timer: Timer::Total(node) })
}

fn ends_at(run: &Run, node: NodeIx) -> Option<Timestamp> {
    Some(run.node(node).since?.plus(run.plan.task(node).total_timeout_ms?))
}

/// Fails all that is left of a node whose total time is over, whatever it is doing. Never retried.
pub(super) fn total_over(run: &Run, node: NodeIx, now: Timestamp) -> Vec<Event> {
    let is_node = (node as usize) < run.nodes.len();
    if run.cancel.is_some() || !is_node || ends_at(run, node).is_none_or(|at| at > now) {
        return Vec::new();
    }
    let bound = run.plan.task(node).total_timeout_ms.unwrap_or_default();
    let items = match &run.node(node).body {
        Body::One(item) => std::slice::from_ref(item),
        Body::Map(map) => &map.children[..],
    };
    let tasks = (0..).map(|index| TaskRef { node, index });
    let left = tasks.zip(items).filter(|(_, item)| !item.state.is_terminal());
    fail(left, &Arc::new(of_total(bound)))
}

fn fail<'i>(
    tasks: impl Iterator<Item = (TaskRef, &'i Item)>,
    failure: &Arc<Failure>,
) -> Vec<Event> {
    let fail = |(task, item): (TaskRef, &Item)| {
        let failure = Arc::clone(failure);
        Event::Failed { task, attempt: item.attempt, failure }
    };
    tasks.map(fail).collect()
}
