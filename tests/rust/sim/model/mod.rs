//! The reference: what a run may do and what it owes, written from the promises in `semantics.md`.
//!
//! Knows nothing of how `goclaw::run` works: no counters, no cascades, no spans of equal state.
//! Everything is asked of all tasks again and again. It reads events and effects and says what is
//! wrong with them; it never says in which order consequences must come.

mod duty;
mod expect;
mod observe;
mod rules;

use std::sync::Arc;

use goclaw::model::{
    CancelCause, OnFailure, Payload, RunId, RunState, Submitted, Task, TaskRef, TaskState,
    Timestamp, Workflow,
};
use goclaw::run::Run;

pub use expect::Expected;

/// `Err` says which promise was broken.
pub type Verdict<T = ()> = Result<T, String>;

/// Leaves with a sentence when a promise is broken.
macro_rules! demand {
    ($holds:expr, $($text:tt)+) => {
        if !$holds {
            return Err(format!($($text)+).into());
        }
    };
}
pub(crate) use demand;

#[derive(Clone, Debug)]
pub struct Model {
    pub nodes: Vec<Node>,
    pub run: RunState,
    pub cancel: Option<CancelCause>,
    /// Runs whose messages its agents have read.
    pub steered: Vec<RunId>,
    merged: bool,
    /// The run that took its message.
    into: Option<RunId>,
    on_failure: OnFailure,
    deadline: Option<Timestamp>,
    /// What the world was asked to do, in this life of the process.
    deadline_set: bool,
    withdrawn: bool,
    released: bool,
}

#[derive(Clone, Debug)]
pub struct Node {
    pub task: Arc<Task>,
    pub deps: Vec<usize>,
    pub resolved: bool,
    /// Since when its tasks could go to their lane.
    since: Option<Timestamp>,
    /// The timer of the total time is set, in this life of the process.
    total_set: bool,
    /// Resolving was asked for, in this life of the process.
    asked: bool,
    /// A map that knows its items: `Running`, then how it was joined.
    map: Option<TaskState>,
    pub items: Vec<Item>,
}

#[derive(Clone, Debug, Default)]
pub struct Item {
    pub state: TaskState,
    pub attempt: u32,
    /// Attempts that failed and were repeated.
    pub retried: u16,
    /// Attempts that were told to wait, and repeated.
    pub throttled: u16,
    crashes: u32,
    output: Option<Payload>,
    /// Offered to its lane since it last became ready, in this life of the process.
    offered: bool,
    /// The timer of a coming retry: when it is due, and whether the world was told.
    due: Option<Timestamp>,
    woken: bool,
    abandoned: bool,
    /// Its lane dropped it: it has to fail of that.
    pub dropped: bool,
    /// Since when it waits for a permit, and whether the timer of that wait is set.
    waits: Option<Timestamp>,
    wait_timed: bool,
    /// Failed by a timeout that may have found it in its lane, and whether it was taken out.
    overdue: bool,
    left: bool,
}

impl Node {
    fn new(task: &Task, ids: &[String]) -> Self {
        let at = |id: &String| ids.iter().position(|i| i == id).expect("the scene names its tasks");
        Self {
            deps: task.deps.iter().map(at).collect(),
            resolved: task.when.is_none() && task.each.is_none() && task.rate_key.is_none(),
            task: Arc::new(task.clone()),
            since: None,
            total_set: false,
            asked: false,
            map: None,
            items: vec![Item::default()],
        }
    }

    pub fn state(&self) -> TaskState {
        self.map.unwrap_or_else(|| self.items[0].state)
    }

    pub fn ended(&self) -> bool {
        self.state().is_terminal()
    }
}

impl Model {
    pub fn new(workflow: &Workflow, submitted: &Submitted) -> Self {
        let mut model = Self {
            nodes: Vec::new(),
            run: RunState::Pending,
            cancel: None,
            steered: Vec::new(),
            merged: false,
            into: None,
            on_failure: workflow.on_failure,
            deadline: workflow.timeout_ms.map(|ms| submitted.at.plus(ms)),
            deadline_set: false,
            withdrawn: false,
            released: false,
        };
        model.grow(&workflow.tasks);
        model
    }

    fn grow(&mut self, tasks: &[Task]) {
        let mut ids: Vec<String> = self.nodes.iter().map(|node| node.task.id.clone()).collect();
        ids.extend(tasks.iter().map(|task| task.id.clone()));
        self.nodes.extend(tasks.iter().map(|task| Node::new(task, &ids)));
    }

    pub fn item(&self, task: TaskRef) -> Option<&Item> {
        self.nodes.get(task.node as usize)?.items.get(task.index as usize)
    }

    fn item_mut(&mut self, task: TaskRef) -> Verdict<&mut Item> {
        let node = self.nodes.get_mut(task.node as usize);
        let item = node.and_then(|node| node.items.get_mut(task.index as usize));
        item.ok_or_else(|| format!("there is no task {task:?}"))
    }

    pub fn ended(&self) -> bool {
        self.run.is_terminal()
    }

    /// No attempt has begun, nobody asked it to stop, its message is its own.
    pub fn untouched(&self) -> bool {
        self.run == RunState::Pending && self.cancel.is_none() && self.into.is_none()
    }

    pub fn is_running(&self, task: TaskRef, attempt: u32) -> bool {
        self.item(task)
            .is_some_and(|item| item.state == TaskState::Running && item.attempt == attempt)
    }

    pub fn tasks(&self) -> Vec<TaskRef> {
        let mut tasks = Vec::new();
        for (node, n) in (0..).zip(&self.nodes) {
            tasks.extend((0..n.items.len() as u32).map(|index| TaskRef { node, index }));
        }
        tasks
    }

    /// What users can read of the run is what the reference holds.
    pub fn agrees(&self, run: &Run) -> Verdict {
        demand!(run.state() == self.run, "the run is {:?}, not {:?}", run.state(), self.run);
        let cancelling = self.cancel.is_some() && !self.ended();
        demand!(run.is_cancelling() == cancelling, "cancelling is not {cancelling}");
        demand!(run.plan().nodes.len() == self.nodes.len(), "the run has other nodes");
        for (n, node) in (0..).zip(&self.nodes) {
            let is = run.node_state(n);
            demand!(is == node.state(), "node {n} is {is:?}, not {:?}", node.state());
            let children = node.map.map(|_| node.items.len() as u32);
            demand!(run.children(n) == children, "node {n} has other children");
            for (index, item) in (0..).zip(&node.items) {
                let task = TaskRef { node: n, index };
                let is = (run.task_state(task), run.attempt(task));
                let should = (Some(item.state), item.attempt);
                demand!(is == should, "{task:?} is {is:?}, not {should:?}");
                let same = run.output_of(task) == item.output.as_ref();
                demand!(same, "{task:?} has another output");
            }
        }
        let failed = run.failure().is_some();
        demand!(failed == self.any_failed(), "that a task failed is {failed}");
        let steered = run.steered().iter().map(|(from, _)| from);
        demand!(steered.eq(&self.steered), "the run has read other messages");
        demand!(
            run.absorbed_into() == self.into,
            "the run is absorbed into {:?}",
            run.absorbed_into()
        );
        demand!(run.merged().is_empty() != self.merged, "the run is merged otherwise");
        let items: usize = self.nodes.iter().map(|node| node.items.len()).sum();
        let counted: u64 = run.counts().iter().map(|(_, n)| n).sum();
        demand!(counted == items as u64, "{counted} tasks are counted, there are {items}");
        Ok(())
    }
}
