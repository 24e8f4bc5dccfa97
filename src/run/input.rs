//! What can happen to a run from outside.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{
    CancelCause, EntryId, Failure, Growth, MemoryOp, NodeIx, Payload, RunId, Span, TaskRef,
};
use crate::plan::Plan;

/// How one call ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Outcome {
    Completed(Payload),
    /// Completed, and what the task memorized is to last from the same moment on.
    Memorized {
        output: Payload,
        memory: Vec<MemoryOp>,
    },
    Failed(Box<Failure>),
    /// The agent saw the cancellation and stopped.
    Cancelled,
    /// The call was broken off from outside, by no fault of the agent: it is repeated.
    Interrupted,
    /// Nobody had begun the call; it goes back to the lane.
    Returned,
    /// The worker process died under the call: it is repeated, and the crash is counted.
    Crashed(Box<Failure>),
}

/// What the evaluation of `when` and `each` answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Resolution {
    /// `when` holds or there is none, and the task is no map.
    Go {
        /// What the task's `rate_key` came to.
        key: Option<Arc<str>>,
    },
    /// `when` is false.
    Skip,
    /// A map: its items (a list) and how many.
    Items {
        items: Payload,
        count: u32,
        key: Option<Arc<str>>,
    },
    Failed(Box<Failure>),
}

/// What can happen to a run from outside.
#[derive(Clone, Debug)]
pub enum Input {
    /// The lane has a place in its queue for these.
    Admitted {
        span: Span,
    },
    /// The lane is full and has no place for these, or gave theirs to others.
    Dropped {
        span: Span,
        lane: Arc<str>,
    },
    /// The lane is full and sends these to another one.
    Redirected {
        span: Span,
        from: Arc<str>,
        to: Arc<str>,
    },
    /// The lane has permits for these: an attempt begins.
    Claimed {
        span: Span,
    },
    /// Consecutive tasks from `span.lo` on ended; one outcome each.
    Done {
        span: Span,
        attempt: u32,
        outcomes: Vec<Outcome>,
    },
    Resolved {
        node: NodeIx,
        resolution: Resolution,
    },
    /// An attempt ran longer than its timeout and is fenced.
    TimedOut {
        task: TaskRef,
        attempt: u32,
        after_ms: u64,
    },
    /// An attempt gave no sign of life for as long as it may be silent, and is fenced.
    Silent {
        task: TaskRef,
        attempt: u32,
        after_ms: u64,
    },
    /// Some of these may have waited for a permit for too long.
    QueueOver {
        span: Span,
    },
    /// The tasks of a node may have had all the time they get.
    TotalOver {
        node: NodeIx,
    },
    /// Nobody had begun these calls of a batch; they go back to the lane.
    TakenBack {
        span: Span,
        attempt: u32,
    },
    /// The process died, or was stopped, under these attempts.
    Lost {
        span: Span,
        attempt: u32,
        crash: bool,
    },
    RetryDue {
        task: TaskRef,
    },
    /// The run's own timeout is over.
    Deadline,
    Cancel {
        reason: String,
    },
    /// The run is stopped by the engine itself.
    Stop {
        cause: CancelCause,
        reason: String,
    },
    /// It is the run's turn in its session.
    Seat,
    /// An agent of the run has read a message to its session.
    Steered {
        from: RunId,
        message: Payload,
    },
    /// The messages of these runs were merged with the run's own.
    Merged {
        from: Vec<RunId>,
        input: Payload,
    },
    /// Another run has taken the message.
    Absorb {
        into: RunId,
    },
    /// What the run had decided cannot be written down.
    Unwritable {
        reason: String,
    },
    /// As `Cancel`, without cleaning up.
    Kill {
        reason: String,
    },
    Progress {
        task: TaskRef,
        attempt: u32,
        done: f64,
        total: Option<f64>,
        text: Option<String>,
    },
    /// An attempt holds up others: it blocks the event loop, or keeps the interpreter to itself.
    Blocking {
        task: TaskRef,
        attempt: u32,
        reason: String,
    },
    /// Something about the attempt went another way than asked for.
    Warned {
        task: TaskRef,
        attempt: u32,
        code: String,
        reason: String,
    },
    /// What the run's session is to forget before the run ends.
    Swept {
        ids: Vec<EntryId>,
        left: u64,
        failure: Option<String>,
    },
    /// Tasks are added; `plan` is the grown plan.
    Grow {
        growth: Box<Growth>,
        plan: Arc<Plan>,
    },
}
