//! State of one run: small fixed records beside the shared plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::model::{
    CancelCause, Failure, NodeIx, Payload, RunId, RunState, Span, Submitted, TaskRef, TaskState,
    Timestamp,
};
use crate::plan::Plan;

/// One run. Changed by `apply` alone.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    pub(super) id: RunId,
    #[serde(skip)]
    pub(super) plan: Arc<Plan>,
    pub(super) submitted: Arc<Submitted>,
    pub(super) state: RunState,
    pub(super) nodes: Vec<Node>,
    /// Whose rate a node counts against, for the nodes that name somebody.
    pub(super) keys: BTreeMap<NodeIx, Arc<str>>,
    /// Nodes that have not ended.
    pub(super) open: usize,
    pub(super) cancel: Option<(CancelCause, String)>,
    /// The first failure of a task.
    pub(super) failure: Option<(TaskRef, Arc<Failure>)>,
    /// Why the run ended as it did, where there is more to say than its state.
    pub(super) reason: Option<String>,
    pub(super) ended: Option<Timestamp>,
    /// When it was asked to stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cancelled_at: Option<Timestamp>,
    /// Every task has ended, and the session is forgetting.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) sweeping: bool,
    /// What it has to do with other runs of its session; most have nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) talk: Option<Box<Talk>>,
}

/// What a run has to do with other runs of its session.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Talk {
    /// Messages that its agents have read, and the runs that brought them.
    pub(super) steered: Vec<(RunId, Payload)>,
    /// Runs whose messages are in `input`.
    pub(super) merged: Vec<RunId>,
    /// Its turn in its session has come.
    pub(super) seated: bool,
    /// What came of merging, in place of what was submitted.
    pub(super) input: Option<Payload>,
    /// The run that took its message.
    pub(super) into: Option<RunId>,
}

/// One node: readiness by a counter, and its task or tasks.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Node {
    /// Dependencies that have not ended.
    pub(super) waits: u32,
    /// `when` and `each` are evaluated (or there are none): the tasks may go to their lane.
    pub(super) resolved: bool,
    /// When its tasks became ready for their lane for the first time; its total time counts from here.
    pub(super) since: Option<Timestamp>,
    pub(super) body: Body,
}

#[derive(Clone, Debug, Serialize)]
pub(super) enum Body {
    One(Item),
    Map(Box<Map>),
}

/// A map that knows its items.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Map {
    pub(super) items: Payload,
    pub(super) children: Vec<Item>,
    /// Children that have not ended.
    pub(super) open: u32,
    /// `Running` until the children are joined.
    pub(super) state: TaskState,
}

/// One task that can be tried: 32 bytes, so that a million fit.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Item {
    pub(super) state: TaskState,
    /// Attempts under which the process died.
    pub(super) crashes: u8,
    /// Attempts begun. Fences results: only the latest attempt's counts.
    pub(super) attempt: u32,
    /// Attempts that failed.
    pub(super) failures: u16,
    pub(super) yields: Yield,
}

/// What a task has to show.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) enum Yield {
    #[default]
    Nothing,
    /// Ready again after an attempt, since then.
    Ready {
        since: Timestamp,
    },
    Output(Payload),
    Failure(Arc<Failure>),
    Retrying {
        failure: Arc<Failure>,
        due: Timestamp,
    },
}

/// A task's result as its dependents see it.
#[derive(Clone, Debug)]
pub enum TaskResult {
    One(Payload),
    /// A map: one per child, `None` for a child that did not complete.
    Many(Arc<[Option<Payload>]>),
    /// It did not complete; evaluates to `None`.
    Missing,
}

impl Run {
    pub(super) fn node(&self, node: NodeIx) -> &Node {
        &self.nodes[node as usize]
    }

    pub(super) fn item(&self, task: TaskRef) -> Option<&Item> {
        match &self.nodes.get(task.node as usize)?.body {
            Body::One(item) => (task.index == 0).then_some(item),
            Body::Map(map) => map.children.get(task.index as usize),
        }
    }

    /// The items of a span, or `None` where the span does not lie in its node.
    pub(super) fn items(&self, span: Span) -> Option<&[Item]> {
        let all = match &self.nodes.get(span.node as usize)?.body {
            Body::One(item) => std::slice::from_ref(item),
            Body::Map(map) => &map.children,
        };
        all.get(span.lo as usize..span.hi() as usize)
    }

    /// True where every task of the span is in `state`, with the same number of attempts.
    pub(super) fn uniform(&self, span: Span, state: TaskState) -> bool {
        let Some(items) = self.items(span) else { return false };
        let Some(first) = items.first() else { return false };
        items.iter().all(|item| item.state == state && item.attempt == first.attempt)
    }

    /// Whose rate the tasks of a node count against, where they name somebody.
    pub fn rate_key(&self, node: NodeIx) -> Option<&Arc<str>> {
        self.keys.get(&node)
    }

    /// Why the run was stopped before its plan was done, if it was.
    pub fn cause(&self) -> Option<CancelCause> {
        self.cancel.as_ref().map(|(cause, _)| *cause)
    }
}

impl Node {
    pub(super) fn state(&self) -> TaskState {
        match &self.body {
            Body::One(item) => item.state,
            Body::Map(map) => map.state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pending_task_of_a_map_costs_32_bytes() {
        assert_eq!(size_of::<Item>(), 32);
    }
}
