//! What users see of events: one kind each, the tasks that it is about, and a few rare extras.

use std::sync::Arc;

use super::event::{Event, Record, SkipReason};
use super::{Failure, NodeIx, RunId, RunState, Span, TaskState, Timestamp};

/// What users watch: one kind, and the tasks that it is about.
#[derive(Clone, Debug)]
pub struct Fact {
    /// Number of the first task's event; the span covers `seq .. seq + span.len`.
    pub seq: u64,
    pub at: Timestamp,
    pub run: RunId,
    pub kind: FactKind,
    /// `None` for facts about the run, and `index == WHOLE` for facts about a whole map.
    pub span: Option<Span>,
    pub attempt: u32,
    pub detail: Option<Arc<Detail>>,
}

/// The rare extras of a fact.
#[derive(Clone, Debug)]
pub enum Detail {
    Failure {
        failure: Arc<Failure>,
        retry_at: Option<Timestamp>,
    },
    Progress {
        done: f64,
        total: Option<f64>,
        text: Option<String>,
    },
    Reason(String),
    Count(u32),
    Warning {
        code: String,
        reason: String,
    },
    Swept {
        forgotten: u64,
        left: u64,
        failure: Option<String>,
    },
    /// The run that took the message.
    Into(RunId),
    /// The run that brought the message.
    From(RunId),
}

/// The kinds of facts, with their names on every wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FactKind {
    RunSubmitted,
    RunStarted,
    RunGrown,
    RunCancelling,
    RunCompleted,
    RunFailed,
    RunCancelled,
    RunCompensated,
    RunQuarantined,
    RunMerged,
    RunAbsorbed,
    SignalReceived,
    TaskExpanded,
    TaskScheduled,
    TaskStarted,
    TaskProgress,
    TaskBlocking,
    TaskWarning,
    TaskRetrying,
    TaskInterrupted,
    TaskCompleted,
    TaskFailed,
    TaskCancelled,
    TaskSkipped,
    LaneDropped,
    LaneRedirected,
    MemorySwept,
}

impl FactKind {
    /// The event's type on every wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RunSubmitted => "run.submitted",
            Self::RunStarted => "run.started",
            Self::RunGrown => "run.grown",
            Self::RunCancelling => "run.cancelling",
            Self::RunCompleted => "run.completed",
            Self::RunFailed => "run.failed",
            Self::RunCancelled => "run.cancelled",
            Self::RunCompensated => "run.compensated",
            Self::RunQuarantined => "run.quarantined",
            Self::RunMerged => "run.merged",
            Self::RunAbsorbed => "run.absorbed",
            Self::SignalReceived => "signal.received",
            Self::TaskExpanded => "task.expanded",
            Self::TaskScheduled => "task.scheduled",
            Self::TaskStarted => "task.started",
            Self::TaskProgress => "task.progress",
            Self::TaskBlocking => "task.blocking",
            Self::TaskWarning => "task.warning",
            Self::TaskRetrying => "task.retrying",
            Self::TaskInterrupted => "task.interrupted",
            Self::TaskCompleted => "task.completed",
            Self::TaskFailed => "task.failed",
            Self::TaskCancelled => "task.cancelled",
            Self::TaskSkipped => "task.skipped",
            Self::LaneDropped => "lane.dropped",
            Self::LaneRedirected => "lane.redirected",
            Self::MemorySwept => "memory.swept",
        }
    }
    /// True for the facts after which a run has no more.
    pub fn ends_run(self) -> bool {
        matches!(
            self,
            Self::RunCompleted
                | Self::RunFailed
                | Self::RunCancelled
                | Self::RunCompensated
                | Self::RunQuarantined
        )
    }
}

/// `Span::lo` of a fact that is about a whole map rather than one of its children.
pub const WHOLE: u32 = u32::MAX;

impl Event {
    /// What users see of the event, or `None` where it is of no concern to them.
    fn fact(&self) -> Option<(FactKind, Option<Span>, u32, Option<Detail>)> {
        use FactKind as K;
        let whole = |node: NodeIx| Some(Span::new(node, WHOLE, 1));
        let why = |failure: &Arc<Failure>, retry_at| {
            Some(Detail::Failure { failure: Arc::clone(failure), retry_at })
        };
        Some(match self {
            Self::Submitted(_) => (K::RunSubmitted, None, 0, None),
            Self::Grown(growth) => {
                (K::RunGrown, None, 0, Some(Detail::Count(growth.tasks.len() as u32)))
            }
            Self::RunStarted => (K::RunStarted, None, 0, None),
            Self::Resolved { .. }
            | Self::RetryDue { .. }
            | Self::Seated
            | Self::Sweeping
            | Self::Memory(_) => return None,
            Self::Expanded { node, count, .. } => {
                (K::TaskExpanded, whole(*node), 0, Some(Detail::Count(*count)))
            }
            Self::Dropped { span, lane } => {
                (K::LaneDropped, Some(*span), 0, Some(Detail::Reason(lane.to_string())))
            }
            Self::Redirected { span, from, to } => {
                let detail = Detail::Reason(format!("{from} -> {to}"));
                (K::LaneRedirected, Some(*span), 0, Some(detail))
            }
            Self::Scheduled { span } => (K::TaskScheduled, Some(*span), 0, None),
            Self::Started { span, attempt } => (K::TaskStarted, Some(*span), *attempt, None),
            Self::Completed { span, attempt, .. } => {
                (K::TaskCompleted, Some(*span), *attempt, None)
            }
            Self::Retrying { task, attempt, failure, due, .. } => {
                (K::TaskRetrying, Some((*task).into()), *attempt, why(failure, Some(*due)))
            }
            Self::Failed { task, attempt, failure } => {
                (K::TaskFailed, Some((*task).into()), *attempt, why(failure, None))
            }
            Self::Unresolved { node, failure } => {
                (K::TaskFailed, whole(*node), 0, why(failure, None))
            }
            Self::Interrupted { span, attempt, failure: Some(failure), .. } => {
                (K::TaskInterrupted, Some(*span), *attempt, why(failure, None))
            }
            Self::Interrupted { span, attempt, crash, failure: None } => {
                let reason = if *crash { "crash" } else { "released" };
                let detail = Detail::Reason(reason.into());
                (K::TaskInterrupted, Some(*span), *attempt, Some(detail))
            }
            Self::Skipped { node, reason } => {
                let reason = match reason {
                    SkipReason::Condition => "condition",
                    SkipReason::Upstream => "upstream",
                    SkipReason::Absorbed => "absorbed",
                };
                (K::TaskSkipped, whole(*node), 0, Some(Detail::Reason(reason.into())))
            }
            Self::Cancelled { span } => (K::TaskCancelled, Some(*span), 0, None),
            Self::Joined { node, state } => {
                let kind = match state {
                    TaskState::Completed => K::TaskCompleted,
                    TaskState::Cancelled => K::TaskCancelled,
                    TaskState::Skipped => K::TaskSkipped,
                    _ => K::TaskFailed,
                };
                (kind, whole(*node), 0, None)
            }
            Self::Progress { task, attempt, done, total, text } => {
                let detail = Detail::Progress { done: *done, total: *total, text: text.clone() };
                (K::TaskProgress, Some((*task).into()), *attempt, Some(detail))
            }
            Self::Steered { from, .. } => (K::SignalReceived, None, 0, Some(Detail::From(*from))),
            Self::Merged { from, .. } => {
                (K::RunMerged, None, 0, Some(Detail::Count(from.len() as u32 + 1)))
            }
            Self::Absorbed { into } => (K::RunAbsorbed, None, 0, Some(Detail::Into(*into))),
            Self::Blocking { task, attempt, reason } => {
                let detail = Detail::Reason(reason.clone());
                (K::TaskBlocking, Some((*task).into()), *attempt, Some(detail))
            }
            Self::Warned { task, attempt, code, reason } => {
                let detail = Detail::Warning { code: code.clone(), reason: reason.clone() };
                (K::TaskWarning, Some((*task).into()), *attempt, Some(detail))
            }
            Self::Swept { forgotten, left, failure } => {
                let (forgotten, left, failure) = (*forgotten, *left, failure.clone());
                (K::MemorySwept, None, 0, Some(Detail::Swept { forgotten, left, failure }))
            }
            Self::CancelRequested { reason, .. } => {
                (K::RunCancelling, None, 0, Some(Detail::Reason(reason.clone())))
            }
            Self::RunEnded { state, reason } => {
                let kind = match state {
                    RunState::Completed => K::RunCompleted,
                    RunState::Cancelled => K::RunCancelled,
                    RunState::Compensated => K::RunCompensated,
                    RunState::Quarantined => K::RunQuarantined,
                    _ => K::RunFailed,
                };
                (kind, None, 0, reason.clone().map(Detail::Reason))
            }
        })
    }
}

impl Record {
    /// What users see of the record, in order.
    pub fn facts(&self) -> impl Iterator<Item = Fact> {
        let mut seq = self.seq;
        self.events.iter().filter_map(move |event| {
            let first = seq;
            seq += event.weight();
            let (kind, span, attempt, detail) = event.fact()?;
            let detail = detail.map(Arc::new);
            Some(Fact { seq: first, at: self.at, run: self.run, kind, span, attempt, detail })
        })
    }
}
