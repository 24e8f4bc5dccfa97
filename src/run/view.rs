//! Reading a run: states, results, counts.

use std::sync::Arc;

use super::state::{Body, Yield};
use super::{Run, TaskResult};
use crate::model::{
    CancelCause, Failure, NodeIx, Payload, RunId, RunState, Span, Submitted, TaskRef, TaskState,
    Timestamp,
};
use crate::plan::Plan;

impl Run {
    pub fn id(&self) -> RunId {
        self.id
    }
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }
    pub fn submitted(&self) -> &Submitted {
        &self.submitted
    }
    pub fn submitted_at(&self) -> Timestamp {
        self.submitted.at
    }
    pub fn ended_at(&self) -> Option<Timestamp> {
        self.ended
    }
    pub fn state(&self) -> RunState {
        self.state
    }
    /// True once somebody or something asked the run to stop.
    pub fn is_cancelling(&self) -> bool {
        self.cancel.is_some() && !self.state.is_terminal()
    }
    /// Why the run was asked to stop, and when.
    pub fn stop(&self) -> Option<(&str, Timestamp)> {
        let (_, reason) = self.cancel.as_ref()?;
        Some((reason, self.cancelled_at?))
    }
    /// True from the end of its last task to its own, where its session forgets in between.
    pub fn is_sweeping(&self) -> bool {
        self.sweeping && !self.state.is_terminal()
    }
    /// Why the run ended as it did, where there is more to say than its state.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
    /// Stable code of why the run did not complete, where that is not one task's failure.
    pub fn code(&self) -> Option<&'static str> {
        match self.cause()? {
            CancelCause::Asked => Some("run.cancelled"),
            CancelCause::Killed => Some("run.killed"),
            CancelCause::Deadline => Some("run.timeout"),
            CancelCause::Quarantine => Some("run.quarantined"),
            CancelCause::Dropped => Some("session.dropped"),
            CancelCause::Merge => Some("session.merge"),
            CancelCause::MergeTimeout => Some("session.merge_timeout"),
            CancelCause::Unwritable => Some("store.unwritable"),
            CancelCause::Failure => None,
        }
    }
    /// The first task that failed.
    pub fn failure(&self) -> Option<(TaskRef, &Arc<Failure>)> {
        self.failure.as_ref().map(|(task, failure)| (*task, failure))
    }

    /// State of a node; a map is `Running` from its expansion to its join.
    pub fn node_state(&self, node: NodeIx) -> TaskState {
        self.node(node).state()
    }
    /// How many children a map has, or `None` where the node is no map or not expanded yet.
    pub fn children(&self, node: NodeIx) -> Option<u32> {
        match &self.node(node).body {
            Body::One(_) => None,
            Body::Map(map) => Some(map.children.len() as u32),
        }
    }
    /// A map's items, once it knows them.
    pub fn map_items(&self, node: NodeIx) -> Option<&Payload> {
        match &self.node(node).body {
            Body::One(_) => None,
            Body::Map(map) => Some(&map.items),
        }
    }
    pub fn task_state(&self, task: TaskRef) -> Option<TaskState> {
        self.item(task).map(|item| item.state)
    }
    /// The state that all tasks of a span are in, with equal attempts behind them.
    pub fn span_state(&self, span: Span) -> Option<TaskState> {
        let state = self.items(span)?.first()?.state;
        self.uniform(span, state).then_some(state)
    }
    /// Attempts begun.
    pub fn attempt(&self, task: TaskRef) -> u32 {
        self.item(task).map_or(0, |item| item.attempt)
    }
    /// True while this very attempt is under way.
    pub fn is_running(&self, task: TaskRef, attempt: u32) -> bool {
        self.item(task)
            .is_some_and(|item| item.state == TaskState::Running && item.attempt == attempt)
    }
    /// Why the task failed, finally or before its coming retry.
    pub fn failure_of(&self, task: TaskRef) -> Option<&Arc<Failure>> {
        match &self.item(task)?.yields {
            Yield::Failure(failure) | Yield::Retrying { failure, .. } => Some(failure),
            Yield::Nothing | Yield::Ready { .. } | Yield::Output(_) => None,
        }
    }
    /// When the task's next attempt is due, where it waits for one.
    pub fn retry_due(&self, task: TaskRef) -> Option<Timestamp> {
        match &self.item(task)?.yields {
            Yield::Retrying { due, .. } => Some(*due),
            _ => None,
        }
    }
    /// True where everything that the node's tasks depend on has ended and was evaluated.
    pub fn is_resolved(&self, node: NodeIx) -> bool {
        self.node(node).resolved
    }
    pub fn output_of(&self, task: TaskRef) -> Option<&Payload> {
        match &self.item(task)?.yields {
            Yield::Output(output) => Some(output),
            _ => None,
        }
    }

    /// The node's result as its dependents see it.
    pub fn result_of(&self, node: NodeIx) -> TaskResult {
        match &self.node(node).body {
            Body::One(_) => match self.output_of(TaskRef { node, index: 0 }) {
                Some(output) => TaskResult::One(output.clone()),
                None => TaskResult::Missing,
            },
            Body::Map(map) => {
                let output = |yields: &Yield| match yields {
                    Yield::Output(output) => Some(output.clone()),
                    _ => None,
                };
                TaskResult::Many(map.children.iter().map(|c| output(&c.yields)).collect())
            }
        }
    }

    /// How many tasks are in each state. A map counts as its children once it has them.
    pub fn counts(&self) -> Vec<(TaskState, u64)> {
        let mut counts = [0_u64; 16];
        for node in &self.nodes {
            match &node.body {
                Body::One(item) => counts[item.state as usize] += 1,
                Body::Map(map) => {
                    map.children.iter().for_each(|child| counts[child.state as usize] += 1);
                }
            }
        }
        TaskState::ALL.iter().map(|&state| (state, counts[state as usize])).collect()
    }
}
