//! Facts of a run, past tense: the only things that change its state, and what the journal keeps.
//!
//! An [`Event`] is what `decide` answers and `apply` applies. A [`Record`] is what one turn of the
//! owner thread appends for one run. A [`Fact`](super::Fact) is the view of an event that users watch: small, no
//! payloads, one sequence number per task that it speaks of.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    BlobHash, Conduct, Durability, Failure, MemoryAccess, MemoryOp, NodeIx, Payload, Priority,
    RunId, RunState, Span, TaskRef, TaskState, Timestamp, Workflow,
};

/// How a run began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Submitted {
    /// BLAKE3 of the bound workflow; the store keeps each definition once, under this hash.
    pub definition: BlobHash,
    /// The bound workflow. Not part of the record: the store fills it in from the definition.
    #[serde(skip)]
    pub workflow: Option<Arc<Workflow>>,
    pub input: Payload,
    pub priority: Priority,
    pub durability: Durability,
    pub tags: Vec<String>,
    /// Runs of one session go one at a time, in the order of their submits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Arc<str>>,
    /// Sessions beside its own whose memory it may use.
    #[serde(default, skip_serializing_if = "MemoryAccess::is_empty")]
    pub memory: MemoryAccess,
    /// Turns of the session, or of the run, where lanes are fair.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: u32,
    /// What it does where its session is busy.
    #[serde(default, skip_serializing_if = "Conduct::is_plain")]
    pub conduct: Conduct,
    /// 128-bit trace id, hexadecimal.
    pub trace_id: String,
    pub at: Timestamp,
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_one(n: &u32) -> bool {
    *n == 1
}

/// Tasks added to a run under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    pub tasks: Vec<super::Task>,
    pub constants: Vec<Payload>,
}

/// Why a task was skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// Its `when` was false.
    Condition,
    /// The ends of its dependencies do not fulfil its trigger.
    Upstream,
    /// Another run took the message.
    Absorbed,
}

/// Why a run stops before its plan is done; decides the state it ends in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelCause {
    /// Somebody asked: the run ends `cancelled`.
    Asked,
    /// Somebody asked that it stops without cleaning up: `cancelled`.
    Killed,
    /// A task failed under `fail_fast`: the run ends `failed`.
    Failure,
    /// The run's own timeout is over: `failed`.
    Deadline,
    /// A task took the process down too often: `quarantined`.
    Quarantine,
    /// Too many messages of its session were to be merged: `cancelled`.
    Dropped,
    /// The messages of its session could not be merged: `failed`.
    Merge,
    /// What the run had decided cannot be written down: `failed`.
    Unwritable,
    /// The messages of its session were not merged in time: `failed`.
    MergeTimeout,
}

/// One fact of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Event {
    Submitted(Box<Submitted>),
    Grown(Box<Growth>),
    /// The first attempt of the run is about to start.
    RunStarted,
    /// `when` held, or there was none: the task may go to its lane.
    Resolved {
        node: NodeIx,
        /// Whose rate the task counts against.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<Arc<str>>,
    },
    /// A map knows its items; children `0..count` exist from now on.
    Expanded {
        node: NodeIx,
        items: Payload,
        count: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<Arc<str>>,
    },
    /// The lane was full and had no place for the tasks, or gave theirs to others. They fail.
    Dropped {
        span: Span,
        lane: Arc<str>,
    },
    /// The lane was full: the tasks go to another one.
    Redirected {
        span: Span,
        from: Arc<str>,
        to: Arc<str>,
    },
    /// The tasks have a place in their lane's queue.
    Scheduled {
        span: Span,
    },
    Started {
        span: Span,
        attempt: u32,
    },
    /// One output per task of the span.
    Completed {
        span: Span,
        attempt: u32,
        outputs: Vec<Payload>,
    },
    Retrying {
        task: TaskRef,
        attempt: u32,
        failure: Arc<Failure>,
        due: Timestamp,
        /// The agent asked for the pause (`RetryAfter`): it costs no retry.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        throttled: bool,
    },
    /// The backoff is over; the task is ready again.
    RetryDue {
        task: TaskRef,
    },
    Failed {
        task: TaskRef,
        attempt: u32,
        failure: Arc<Failure>,
    },
    /// The attempt ended with no outcome and costs no retry: shutdown, crash, or a batch taken back.
    Interrupted {
        span: Span,
        attempt: u32,
        crash: bool,
        /// What is known of the crash of a worker process.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<Arc<Failure>>,
    },
    Skipped {
        node: NodeIx,
        reason: SkipReason,
    },
    Cancelled {
        span: Span,
    },
    /// Every child of a map has ended.
    Joined {
        node: NodeIx,
        state: TaskState,
    },
    /// A map or a `when` could not be evaluated; the node fails without an attempt.
    Unresolved {
        node: NodeIx,
        failure: Arc<Failure>,
    },
    Progress {
        task: TaskRef,
        attempt: u32,
        done: f64,
        total: Option<f64>,
        text: Option<String>,
    },
    /// It is the run's turn in its session: from now on its tasks wait for their lanes.
    Seated,
    /// An agent of the run has read a message to its session; `from` is the run that brought it.
    Steered {
        from: RunId,
        message: Payload,
    },
    /// The messages of these runs are in the input from now on.
    Merged {
        from: Vec<RunId>,
        input: Payload,
    },
    /// Another run has taken the message: there is nothing left to do.
    Absorbed {
        into: RunId,
    },
    /// The attempt holds up others: it blocks the event loop, or keeps the interpreter to itself.
    Blocking {
        task: TaskRef,
        attempt: u32,
        reason: String,
    },
    /// Something about the attempt went another way than asked for, and it goes on.
    Warned {
        task: TaskRef,
        attempt: u32,
        code: String,
        reason: String,
    },
    /// Every task has ended; before the run does, its session forgets what is nearly gone.
    Sweeping,
    /// What that came to. The forgetting itself stands beside it in the same record.
    Swept {
        forgotten: u64,
        /// How many more were weak enough, beyond what one run forgets.
        left: u64,
        /// Why nothing could be forgotten.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<String>,
    },
    CancelRequested {
        cause: CancelCause,
        reason: String,
    },
    RunEnded {
        state: RunState,
        reason: Option<String>,
    },
    /// What a completed task memorized, beside its `Completed` in the same record; under `NO_RUN`, what
    /// was memorized outside of any run. It tells users of runs nothing and changes no run.
    Memory(Vec<MemoryOp>),
}

/// What one turn of the owner thread appends for one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    pub run: RunId,
    /// Sequence number of the first fact in here; facts are numbered through the whole store.
    pub seq: u64,
    pub at: Timestamp,
    pub events: Vec<Event>,
}

impl Event {
    /// How many sequence numbers the event takes: one per task it tells users of.
    pub fn weight(&self) -> u64 {
        match self {
            Self::Resolved { .. }
            | Self::RetryDue { .. }
            | Self::Seated
            | Self::Sweeping
            | Self::Memory(_) => 0,
            Self::Scheduled { span }
            | Self::Dropped { span, .. }
            | Self::Redirected { span, .. }
            | Self::Started { span, .. }
            | Self::Completed { span, .. }
            | Self::Interrupted { span, .. }
            | Self::Cancelled { span } => u64::from(span.len),
            _ => 1,
        }
    }

    /// True where an effect waits for the event to be durable; the others are written and not waited for.
    pub fn gates(&self) -> bool {
        !matches!(
            self,
            Self::Scheduled { .. }
                | Self::Started { .. }
                | Self::RunStarted
                | Self::Progress { .. }
                | Self::Redirected { .. }
                | Self::Blocking { .. }
                | Self::Resolved { .. }
                | Self::Seated
                | Self::Warned { .. }
                | Self::Sweeping
        )
    }
}

impl Record {
    /// Sequence numbers that the record takes.
    pub fn weight(&self) -> u64 {
        self.events.iter().map(Event::weight).sum()
    }

    /// What was memorized with the record, in order.
    pub fn memory(&self) -> Vec<MemoryOp> {
        let ops = self.events.iter().filter_map(|event| match event {
            Event::Memory(ops) => Some(ops),
            _ => None,
        });
        ops.flatten().cloned().collect()
    }
}
