//! What the world must do once an event is durable.

use super::state::Body;
use super::{Run, cancel, follow, timeout};
use crate::model::{Event, NodeIx, Span, TaskRef, TaskState, Timestamp};

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
    /// These tasks wait in their lane no more.
    Leave {
        span: Span,
    },
    /// Find what the run's session is to forget before the run ends.
    Sweep,
    /// The run has ended; release its waiters.
    Ended,
}

impl Effect {
    /// True for what begins or continues work; false for what watches over it or ends it.
    pub fn starts_work(&self) -> bool {
        matches!(self, Self::Offer { .. } | Self::Resolve { .. })
    }

    /// True for what is not to be while others are before the run: work, and the time of its tasks.
    pub fn waits_its_turn(&self) -> bool {
        let timer = matches!(self, Self::Wake { timer: Timer::Queue(_) | Timer::Total(_), .. });
        timer || self.starts_work()
    }
}

/// What a timer of a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    Retry(TaskRef),
    Deadline,
    /// These tasks have waited for a permit as long as they may.
    Queue(Span),
    /// The tasks of this node have had all the time they get.
    Total(NodeIx),
}

pub(super) fn effects(run: &Run, event: &Event, out: &mut Vec<Effect>) {
    match event {
        Event::Completed { span, .. } | Event::Cancelled { span } => {
            if let Body::One(_) = run.node(span.node).body {
                dependents(run, span.node, out);
            }
        }
        Event::Failed { task, failure, .. } => {
            if timeout::may_wait_in_lane(failure) {
                leave(*task, out);
            }
            if let Body::One(_) = run.node(task.node).body {
                dependents(run, task.node, out);
            }
        }
        Event::Skipped { node, .. }
        | Event::Joined { node, .. }
        | Event::Unresolved { node, .. } => dependents(run, *node, out),
        Event::Resolved { node, .. } => first_offer(run, follow::only(*node), out),
        Event::Expanded { node, count, .. } if *count > 0 => {
            first_offer(run, Span::new(*node, 0, *count), out);
        }
        Event::Interrupted { span, attempt, .. } => offer(run, *span, *attempt, out),
        Event::Retrying { task, due, .. } => {
            out.push(Effect::Wake { at: *due, timer: Timer::Retry(*task) });
        }
        Event::RetryDue { task } => {
            let attempts = run.item(*task).map_or(0, |item| item.attempt);
            offer(run, (*task).into(), attempts, out);
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
        Event::Sweeping => out.push(Effect::Sweep),
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
    // Of an absorbed run nothing starts any more, though its nodes end one by one.
    if run.absorbed_into().is_some() {
        return;
    }
    if !follow::triggered(run, node) {
        return;
    }
    match state.resolved {
        true => first_offer(run, follow::only(node), out),
        false => out.push(Effect::Resolve { node }),
    }
}

/// Neighbours leave together.
fn leave(task: TaskRef, out: &mut Vec<Effect>) {
    match out.last_mut() {
        Some(Effect::Leave { span }) if span.node == task.node && span.hi() == task.index => {
            span.len += 1;
        }
        _ => out.push(Effect::Leave { span: task.into() }),
    }
}

/// Tasks become ready for the first time: from now on their total time counts.
fn first_offer(run: &Run, span: Span, out: &mut Vec<Effect>) {
    out.extend(timeout::total(run, span.node));
    offer(run, span, 0, out);
}

/// Sends ready tasks to their lane; how long they may wait there counts from when they were ready.
pub(super) fn offer(run: &Run, span: Span, attempts: u32, out: &mut Vec<Effect>) {
    out.push(Effect::Offer { span, attempts });
    out.extend(timeout::queue(run, span));
}
