//! What a run has to do with the others of its session: messages that its agents read, messages
//! that were merged into its input, its own message taken by another run.

use super::Run;
use super::state::{Body, Item, Talk, Yield};
use crate::model::{
    Event, NodeIx, Payload, RunId, RunState, SkipReason, TaskRef, TaskState, Timestamp,
};

/// Its tasks' time does not run while others of its session are before it. Told where somebody
/// measures it.
pub(super) fn seated(run: &Run) -> Vec<Event> {
    let told = run.talk.as_ref().is_some_and(|talk| talk.seated);
    let measured = || {
        let mut tasks = run.plan.workflow.tasks.iter();
        tasks.any(|task| task.queue_timeout_ms.is_some() || task.total_timeout_ms.is_some())
    };
    if run.is_untouched() && !told && measured() { vec![Event::Seated] } else { Vec::new() }
}

/// A message counts as read once; a run that is stopping takes none, so that nothing is lost with it.
pub(super) fn steered(run: &Run, from: RunId, message: Payload) -> Vec<Event> {
    if run.cancel.is_some() || run.steered().iter().any(|(known, _)| *known == from) {
        return Vec::new();
    }
    vec![Event::Steered { from, message }]
}

/// Only what has not begun can get another input.
pub(super) fn merged(run: &Run, from: Vec<RunId>, input: Payload) -> Vec<Event> {
    if !run.is_untouched() || !run.merged().is_empty() || from.is_empty() {
        return Vec::new();
    }
    vec![Event::Merged { from, input }]
}

/// Only what has not begun can be taken by another run.
pub(super) fn absorb(run: &Run, into: RunId) -> Vec<Event> {
    if !run.is_untouched() || into == run.id {
        return Vec::new();
    }
    vec![Event::Absorbed { into }]
}

/// Ends every task of an absorbed run, none of which has begun.
pub(super) fn skip_all(run: &Run) -> Vec<Event> {
    let open = |node: &NodeIx| !run.node_state(*node).is_terminal();
    let nodes = (0..run.nodes.len() as NodeIx).filter(open);
    nodes.map(|node| Event::Skipped { node, reason: SkipReason::Absorbed }).collect()
}

impl Run {
    pub(super) fn talk_mut(&mut self) -> &mut Talk {
        self.talk.get_or_insert_default()
    }

    /// The input that its tasks see: what came of merging, else what was submitted.
    pub fn input(&self) -> &Payload {
        let merged = self.talk.as_ref().and_then(|talk| talk.input.as_ref());
        merged.unwrap_or(&self.submitted.input)
    }
    /// Messages that its agents have read, in order, and the runs that brought them.
    pub fn steered(&self) -> &[(RunId, Payload)] {
        self.talk.as_ref().map_or(&[], |talk| &talk.steered)
    }
    /// Runs whose messages are in the input.
    pub fn merged(&self) -> &[RunId] {
        self.talk.as_ref().map_or(&[], |talk| &talk.merged)
    }
    /// The run that took this one's message.
    pub fn absorbed_into(&self) -> Option<RunId> {
        self.talk.as_ref()?.into
    }

    /// True while no attempt has begun, nobody asked it to stop and its message is its own.
    pub fn is_untouched(&self) -> bool {
        self.state == RunState::Pending && self.cancel.is_none() && self.absorbed_into().is_none()
    }

    /// True where all that the run could go on with waits for its retry.
    pub fn is_backing_off(&self) -> bool {
        if self.cancel.is_some() || self.state.is_terminal() {
            return false;
        }
        let mut retries = false;
        for node in &self.nodes {
            let waits = node.waits > 0;
            for item in items(&node.body) {
                match item.state {
                    TaskState::Running | TaskState::Scheduled | TaskState::Waiting => return false,
                    TaskState::Pending if !waits => return false,
                    TaskState::Retrying => retries = true,
                    _ => {}
                }
            }
        }
        retries
    }

    /// Tasks whose backoff is over.
    pub fn retries_due(&self, now: Timestamp) -> Vec<TaskRef> {
        let mut due = Vec::new();
        for (node, state) in self.nodes.iter().enumerate() {
            for (index, item) in items(&state.body).iter().enumerate() {
                if matches!(item.yields, Yield::Retrying { due, .. } if due <= now) {
                    due.push(TaskRef { node: node as NodeIx, index: index as u32 });
                }
            }
        }
        due
    }
}

fn items(body: &Body) -> &[Item] {
    match body {
        Body::One(item) => std::slice::from_ref(item),
        Body::Map(map) => &map.children,
    }
}
