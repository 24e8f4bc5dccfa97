//! The rules in one place: triggers, retries, joins, how a run ends.

use goclaw::model::{
    CancelCause, Failure, FailureKind, Retry, RunState, TaskState, Timestamp, Trigger,
};

use super::{Model, Node};

impl Model {
    pub fn deps_ended(&self, node: usize) -> bool {
        self.nodes[node].deps.iter().all(|&dep| self.nodes[dep].ended())
    }

    fn trigger_holds(&self, node: usize) -> bool {
        let states: Vec<TaskState> =
            self.nodes[node].deps.iter().map(|&dep| self.nodes[dep].state()).collect();
        let completed = states.iter().filter(|&&s| s == TaskState::Completed).count();
        let skipped = states.iter().filter(|&&s| s == TaskState::Skipped).count();
        match self.nodes[node].task.trigger {
            Trigger::AllSuccess => completed == states.len(),
            Trigger::AllDone => true,
            Trigger::OneSuccess => completed >= 1 || states.is_empty(),
            Trigger::NoneFailed => completed + skipped == states.len(),
        }
    }

    /// The node's inputs are there and its trigger holds.
    pub fn may_start(&self, node: usize) -> bool {
        self.deps_ended(node) && self.trigger_holds(node)
    }

    /// The node has to be skipped: its inputs are there and its trigger cannot hold any more.
    pub fn must_skip(&self, node: usize) -> bool {
        self.deps_ended(node) && !self.trigger_holds(node)
    }

    pub(super) fn any_failed(&self) -> bool {
        self.nodes.iter().any(|node| node.items.iter().any(|item| item.state == TaskState::Failed))
    }

    pub(super) fn expected_end(&self) -> RunState {
        match self.cancel {
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
            None if self.any_failed() => RunState::Failed,
            None => RunState::Completed,
        }
    }
}

impl Node {
    pub(super) fn joined(&self) -> TaskState {
        let has = |state| self.items.iter().any(|item| item.state == state);
        if has(TaskState::Failed) {
            TaskState::Failed
        } else if has(TaskState::Cancelled) {
            TaskState::Cancelled
        } else {
            TaskState::Completed
        }
    }
}

/// Whether the policy wants this failure repeated, retries left or not.
pub fn retryable(policy: &Retry, failure: &Failure) -> bool {
    match failure.kind {
        FailureKind::Payload
        | FailureKind::Binding
        | FailureKind::Dropped
        | FailureKind::Refused => false,
        FailureKind::Crash => true,
        FailureKind::Exception | FailureKind::Timeout => {
            let named = |class: &&String| policy.on.contains(class) || policy.never.contains(class);
            let decides = failure.types.iter().find(named);
            decides.is_some_and(|class| !policy.never.contains(class))
        }
    }
}

/// When the retry after `retried` earlier ones may come, first and last.
pub fn retry_window(
    policy: &Retry,
    retried: u16,
    failure: &Failure,
    now: Timestamp,
) -> (Timestamp, Timestamp) {
    if let Some(pause) = failure.retry_after {
        return (now.plus(pause), now.plus(pause));
    }
    let mut bound = policy.initial_ms as f64;
    for _ in 0..retried {
        bound *= policy.factor;
    }
    let bound = bound.min(policy.max_ms as f64).round() as u64;
    (if policy.jitter { now } else { now.plus(bound) }, now.plus(bound))
}

/// Whether the agent was told to wait, which is no failure, and nobody ruled that out.
pub fn throttles(policy: &Retry, failure: &Failure) -> bool {
    let raised = failure.kind == FailureKind::Exception && failure.retry_after.is_some();
    raised && failure.types.iter().all(|class| !policy.never.contains(class))
}
