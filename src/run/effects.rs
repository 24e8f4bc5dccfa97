//! What the world must do once an event is durable.

use super::state::Body;
use super::{Run, cancel, follow};
use crate::model::{Event, NodeIx, Span, TaskState, Timestamp};

/// What the world must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// These tasks are ready for their lane. `attempts` they have behind them.
    Offer {
        span: Span,
        attempts: u32,
    },
    /// Evaluate the node's `when` and `each`.
    Resolve {
        node: NodeIx,
    },
    Wake {
        at: Timestamp,
        timer: Timer,
    },
    /// Take the run's tasks out of the lanes and ask these attempts to stop.
    Abandon {
        span: Span,
        attempt: u32,
    },
    /// Nothing of the run may wait in a lane any more.
    Withdraw,
    /// The run's first attempt has begun: its holders see it running.
    Began,
    /// The run has ended; release its waiters.
    Ended,
}

/// What a timer of a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    Retry(crate::model::TaskRef),
    Deadline,
}

pub(super) fn effects(run: &Run, event: &Event, out: &mut Vec<Effect>) {
    match event {
        Event::Completed { span, .. } | Event::Cancelled { span } => {
            if let Body::One(_) = run.node(span.node).body {
                dependents(run, span.node, out);
            }
        }
        Event::Failed { task, .. } => {
            if let Body::One(_) = run.node(task.node).body {
                dependents(run, task.node, out);
            }
        }
        Event::Skipped { node, .. }
        | Event::Joined { node, .. }
        | Event::Unresolved { node, .. } => dependents(run, *node, out),
        Event::Resolved { node, .. } => {
            out.push(Effect::Offer { span: follow::only(*node), attempts: 0 })
        }
        Event::Expanded { node, count, .. } if *count > 0 => {
            out.push(Effect::Offer { span: Span::new(*node, 0, *count), attempts: 0 });
        }
        Event::Interrupted { span, attempt, .. } => {
            out.push(Effect::Offer { span: *span, attempts: *attempt });
        }
        Event::Retrying { task, due, .. } => {
            out.push(Effect::Wake { at: *due, timer: Timer::Retry(*task) });
        }
        Event::RetryDue { task } => {
            let attempts = run.item(*task).map_or(0, |item| item.attempt);
            out.push(Effect::Offer { span: (*task).into(), attempts });
        }
        Event::Grown(growth) => {
            let first = run.nodes.len() - growth.tasks.len();
            (first..run.nodes.len()).for_each(|node| ready(run, node as NodeIx, out));
        }
        Event::CancelRequested { .. } => {
            out.push(Effect::Withdraw);
            let under_way = cancel::under_way(run);
            out.extend(under_way.map(|(span, attempt)| Effect::Abandon { span, attempt }));
        }
        Event::RunStarted => out.push(Effect::Began),
        Event::RunEnded { .. } => out.push(Effect::Ended),
        _ => {}
    }
}

fn dependents(run: &Run, node: NodeIx, out: &mut Vec<Effect>) {
    for &dependent in &run.plan.nodes[node as usize].dependents {
        if (dependent as usize) < run.nodes.len() {
            ready(run, dependent, out);
        }
    }
}

/// Sends a node on its way when its last dependency has just ended.
///
/// `waits` reaches 0 with exactly one event, so a node is sent once.
pub(super) fn ready(run: &Run, node: NodeIx, out: &mut Vec<Effect>) {
    let state = run.node(node);
    if state.waits > 0 || state.state() != TaskState::Pending || run.cancel.is_some() {
        return;
    }
    if !follow::triggered(run, node) {
        return;
    }
    out.push(match state.resolved {
        true => Effect::Offer { span: follow::only(node), attempts: 0 },
        false => Effect::Resolve { node },
    });
}
