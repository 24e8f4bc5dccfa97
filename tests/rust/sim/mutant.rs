//! Planted bugs. Each changes what the machine or its world does in one place; the simulation must
//! notice every one of them.
//!
//! A bug inside `apply` cannot be planted from outside. It is planted one step earlier: the events
//! are changed and the run is rebuilt from them, so that state and journal agree on what is wrong.
//!
//! Not planted: results of an earlier life of the process under an attempt number that is used again
//! (its start was not on disk). The engine's batch ids fence those, the machine never sees them.

use goclaw::model::{
    CancelCause, Delivery, Event, Failure, FailureKind, RunState, Span, TaskRef, TaskState,
    Timestamp,
};
use goclaw::run::{Effect, Input, Run, Timer, Turn};
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    // What is decided.
    ForgetJoin,
    ForgetSkip,
    ForgetEnd,
    ForgetFailFast,
    ForgetQuarantine,
    EndEarly,
    EndWrongly,
    CompleteTwice,
    CompleteStale,
    RetryForever,
    GiveUpEarly,
    InterruptionCostsRetry,
    CrashIsNotCounted,
    RepeatAtMostOnce,
    ReuseAttempt,
    LoseChild,
    GrowthDoesNotWait,
    SteerTwice,
    AbsorbHalf,
    RetryQueueTimeout,
    TotalSparesRunning,
    // What the world is asked to do.
    LoseRetryTimer,
    LoseOffer,
    LoseResolve,
    LoseAbandon,
    LoseEnded,
    LoseQueueTimer,
    LoseTotalTimer,
    LoseLeave,
    OfferTwice,
    // What a recovery finds outstanding.
    RecoverNoOffer,
    RecoverNoResolve,
    RecoverNoTimer,
    RecoverNoLost,
    /// Waits begin anew after a restart.
    RecoverAnew,
    // The line itself.
    ActBeforeJournal,
    StartBeforeSync,
    NeverSync,
    JournalMissesEvent,
    JournalMissesRecord,
    CountEventsNotTasks,
    DropEntryAtAdmission,
    DropSilently,
    EnqueueDropped,
    LoseRedirected,
    NeverWake,
    NeverResume,
    OneOverAfterShrink,
    ThrottleCostsRetry,
    LeakPermits,
    DeafToTimers,
    /// What found no room is dropped or sent away before the free permits are given.
    OverflowFirst,
    /// An agent that waits keeps its slot.
    LendKeepsPermit,
    /// An agent goes on without its slot.
    GoOnWithoutPermit,
    /// New work gets the permits before those who go on.
    ReturnersLast,
    /// A call that ends while its slot is lent gives it back once more.
    LentEndsTwice,
    LeakLoans,
}

impl Mutant {
    /// Changes what a step answered. True where events changed and the run must be rebuilt.
    pub fn tamper(self, input: &Input, before: &Run, turn: &mut Turn, now: Timestamp) -> bool {
        self.lose_effects(&mut turn.effects);
        if !turn.events.iter().any(|event| self.dislikes(event, before)) {
            return false;
        }
        let events = std::mem::take(&mut turn.events);
        turn.events = self.retell(input, events, turn, now);
        true
    }

    fn dislikes(self, event: &Event, run: &Run) -> bool {
        match (self, event) {
            (Self::SteerTwice, Event::Steered { .. })
            | (Self::AbsorbHalf, Event::Absorbed { .. })
            | (Self::ForgetJoin, Event::Joined { .. })
            | (Self::ForgetSkip, Event::Skipped { .. })
            | (Self::ForgetEnd | Self::EndWrongly, Event::RunEnded { .. })
            | (Self::EndEarly | Self::CompleteTwice, Event::Completed { .. })
            | (Self::RetryForever, Event::Failed { .. })
            | (Self::GiveUpEarly, Event::Retrying { .. })
            | (Self::InterruptionCostsRetry, Event::Interrupted { .. })
            | (Self::CrashIsNotCounted, Event::Interrupted { crash: true, .. }) => true,
            (Self::ForgetFailFast, Event::CancelRequested { cause, .. }) => {
                *cause == CancelCause::Failure
            }
            (Self::ForgetQuarantine, Event::CancelRequested { cause, .. }) => {
                *cause == CancelCause::Quarantine
            }
            (Self::RepeatAtMostOnce, Event::Failed { task, failure, .. }) => {
                failure.code == "task.interrupted"
                    && run.plan().task(task.node).delivery == Delivery::AtMostOnce
            }
            (Self::ThrottleCostsRetry, Event::Retrying { throttled, .. }) => *throttled,
            (Self::RetryQueueTimeout, Event::Failed { failure, .. }) => {
                failure.code == "task.queue_timeout"
            }
            (Self::TotalSparesRunning, Event::Failed { failure, task, .. }) => {
                failure.code == "task.total_timeout"
                    && run.task_state(*task) == Some(TaskState::Running)
            }
            (Self::ReuseAttempt, Event::Started { attempt, .. }) => *attempt > 1,
            (Self::LoseChild, Event::Expanded { count, .. }) => *count > 0,
            _ => false,
        }
    }

    /// Tells the events of a step wrongly.
    fn retell(
        self,
        input: &Input,
        mut events: Vec<Event>,
        turn: &mut Turn,
        now: Timestamp,
    ) -> Vec<Event> {
        match self {
            Self::ForgetJoin => cut(events, |e| matches!(e, Event::Joined { .. })),
            Self::ForgetSkip => cut(events, |e| matches!(e, Event::Skipped { .. })),
            Self::ForgetEnd => cut(events, |e| matches!(e, Event::RunEnded { .. })),
            Self::ForgetFailFast | Self::ForgetQuarantine => {
                cut(events, |e| matches!(e, Event::CancelRequested { .. }))
            }
            Self::EndEarly => {
                if !events.iter().any(|e| matches!(e, Event::RunEnded { .. })) {
                    events.push(Event::RunEnded { state: RunState::Completed, reason: None });
                    turn.effects.push(Effect::Ended);
                }
                events
            }
            Self::SteerTwice => {
                events.extend(events.first().cloned());
                events
            }
            Self::AbsorbHalf => {
                turn.effects.clear();
                events.truncate(1);
                events
            }
            Self::CompleteTwice => {
                let twice = events.iter().find(|e| matches!(e, Event::Completed { .. })).cloned();
                events.extend(twice);
                events
            }
            Self::TotalSparesRunning => Vec::new(),
            Self::RepeatAtMostOnce => {
                let Input::Lost { span, attempt, crash } = *input else { return events };
                turn.effects = vec![Effect::Offer { span, attempts: attempt }];
                vec![Event::Interrupted { span, attempt, crash, failure: None }]
            }
            _ => events.into_iter().flat_map(|event| self.reword(event, now)).collect(),
        }
    }

    /// Tells one event wrongly.
    fn reword(self, event: Event, now: Timestamp) -> Vec<Event> {
        match (self, event) {
            (Self::EndWrongly, Event::RunEnded { state, reason }) => {
                let state = match state {
                    RunState::Completed => RunState::Failed,
                    _ => RunState::Completed,
                };
                vec![Event::RunEnded { state, reason }]
            }
            (
                Self::RetryForever | Self::RetryQueueTimeout,
                Event::Failed { task, attempt, failure },
            ) => {
                vec![Event::Retrying { task, attempt, failure, due: now, throttled: false }]
            }
            (Self::GiveUpEarly, Event::Retrying { task, attempt, failure, .. }) => {
                vec![Event::Failed { task, attempt, failure }]
            }
            (Self::InterruptionCostsRetry, Event::Interrupted { span, attempt, .. }) => {
                let failure = Arc::new(Failure::new(FailureKind::Crash, "task.crash", "planted"));
                let retry = |task| {
                    let failure = Arc::clone(&failure);
                    let throttled = false;
                    let retrying = Event::Retrying { task, attempt, failure, due: now, throttled };
                    [retrying, Event::RetryDue { task }]
                };
                span.tasks().flat_map(retry).collect()
            }
            (Self::CrashIsNotCounted, Event::Interrupted { span, attempt, .. }) => {
                vec![Event::Interrupted { span, attempt, crash: false, failure: None }]
            }
            (Self::ThrottleCostsRetry, Event::Retrying { task, attempt, failure, due, .. }) => {
                vec![Event::Retrying { task, attempt, failure, due, throttled: false }]
            }
            (Self::ReuseAttempt, Event::Started { span, attempt }) => {
                vec![Event::Started { span, attempt: attempt - 1 }]
            }
            (Self::LoseChild, Event::Expanded { node, items, count, key }) => {
                vec![Event::Expanded { node, items, count: count - 1, key }]
            }
            (_, event) => vec![event],
        }
    }

    fn lose_effects(self, effects: &mut Vec<Effect>) {
        match self {
            Self::LoseRetryTimer => {
                effects.retain(|e| !matches!(e, Effect::Wake { timer: Timer::Retry(_), .. }));
            }
            Self::LoseOffer => effects.retain(|e| !matches!(e, Effect::Offer { .. })),
            Self::LoseResolve => effects.retain(|e| !matches!(e, Effect::Resolve { .. })),
            Self::LoseAbandon => effects.retain(|e| !matches!(e, Effect::Abandon { .. })),
            Self::LoseQueueTimer => {
                effects.retain(|e| !matches!(e, Effect::Wake { timer: Timer::Queue(_), .. }));
            }
            Self::LoseTotalTimer => {
                effects.retain(|e| !matches!(e, Effect::Wake { timer: Timer::Total(_), .. }));
            }
            Self::LoseLeave => effects.retain(|e| !matches!(e, Effect::Leave { .. })),
            Self::LoseEnded => effects.retain(|e| !matches!(e, Effect::Ended)),
            Self::OfferTwice => {
                let again = effects.iter().find(|e| matches!(e, Effect::Offer { .. })).cloned();
                effects.extend(again);
            }
            _ => {}
        }
    }

    /// Changes what a recovery finds outstanding.
    pub fn forget(self, inputs: &mut Vec<Input>, effects: &mut Vec<Effect>) {
        match self {
            Self::RecoverNoOffer => effects.retain(|e| !matches!(e, Effect::Offer { .. })),
            Self::RecoverNoResolve => effects.retain(|e| !matches!(e, Effect::Resolve { .. })),
            Self::RecoverNoTimer => effects.retain(|e| !matches!(e, Effect::Wake { .. })),
            Self::RecoverNoLost => drop(inputs.pop()),
            Self::RecoverAnew => {
                for effect in effects {
                    if let Effect::Wake { at, timer: Timer::Queue(_) | Timer::Total(_) } = effect {
                        *at = at.plus(10);
                    }
                }
            }
            _ => {}
        }
    }

    /// Takes a result of an attempt that was given up for one of the attempt under way.
    pub fn redirect(self, input: Input, run: &Run) -> Input {
        match (self, input) {
            (Self::CompleteStale, Input::Done { span, outcomes, .. }) => {
                let first = TaskRef { node: span.node, index: span.lo };
                Input::Done { span: Span { ..span }, attempt: run.attempt(first), outcomes }
            }
            (_, input) => input,
        }
    }
}

/// The events before the first one that is forgotten, with all that followed from it.
fn cut(events: Vec<Event>, forgotten: impl Fn(&Event) -> bool) -> Vec<Event> {
    events.into_iter().take_while(|event| !forgotten(event)).collect()
}
