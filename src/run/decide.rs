//! From an input to events: a table that calls small functions. Nothing here changes state.

use std::sync::Arc;

use super::state::Yield;
use super::{Input, Outcome, Resolution, Run, cancel, retry, steer, sweep, timeout};
use crate::model::{
    CancelCause, Delivery, Event, Failure, FailureKind, MemoryOp, NodeIx, Payload, RunState,
    SkipReason, Span, TaskRef, TaskState, Timestamp,
};

/// Crashes of the process under one task after which its run is quarantined.
const CRASHES_MAX: u8 = 5;

pub(super) fn decide(
    run: &Run,
    input: Input,
    now: Timestamp,
    dice: u64,
    late: &mut u64,
) -> Vec<Event> {
    if run.state.is_terminal() {
        if let Input::Done { outcomes, .. } = input {
            *late += outcomes.len() as u64;
        }
        return Vec::new();
    }
    match input {
        Input::Admitted { span } => admitted(run, span),
        Input::Dropped { span, lane } => dropped(run, span, lane),
        Input::Redirected { span, from, to } => redirected(run, span, from, to),
        Input::Claimed { span } => claimed(run, span),
        Input::Done { span, attempt, outcomes } => {
            done(run, span, attempt, outcomes, now, dice, late)
        }
        Input::Resolved { node, resolution } => resolved(run, node, resolution),
        Input::TimedOut { task, attempt, after_ms } => {
            failed(run, task, attempt, timeout::of_attempt(after_ms), now, dice)
        }
        Input::Silent { task, attempt, after_ms } => {
            failed(run, task, attempt, timeout::of_silence(after_ms), now, dice)
        }
        Input::QueueOver { span } => timeout::queue_over(run, span, now),
        Input::TotalOver { node } => timeout::total_over(run, node, now),
        Input::TakenBack { span, attempt } => taken_back(run, span, attempt),
        Input::Lost { span, attempt, crash } => lost(run, span, attempt, crash, None),
        Input::RetryDue { task } => retry_due(run, task, now),
        Input::Deadline => {
            let ms = run.plan.workflow.timeout_ms.unwrap_or_default();
            request(run, CancelCause::Deadline, format!("the run took longer than {ms} ms"))
        }
        Input::Cancel { reason } => request(run, CancelCause::Asked, reason),
        Input::Stop { cause, reason } => request(run, cause, reason),
        Input::Seat => steer::seated(run),
        Input::Steered { from, message } => steer::steered(run, from, message),
        Input::Merged { from, input } => steer::merged(run, from, input),
        Input::Absorb { into } => steer::absorb(run, into),
        Input::Unwritable { reason } => request(run, CancelCause::Unwritable, reason),
        Input::Kill { reason } => request(run, CancelCause::Killed, reason),
        Input::Blocking { task, attempt, reason } => {
            if running(run, task, attempt) {
                vec![Event::Blocking { task, attempt, reason }]
            } else {
                Vec::new()
            }
        }
        Input::Progress { task, attempt, done, total, text } => {
            if running(run, task, attempt) {
                vec![Event::Progress { task, attempt, done, total, text }]
            } else {
                Vec::new()
            }
        }
        Input::Warned { task, attempt, code, reason } => {
            if running(run, task, attempt) {
                vec![Event::Warned { task, attempt, code, reason }]
            } else {
                Vec::new()
            }
        }
        Input::Swept { ids, left, failure } => sweep::swept(run, ids, left, failure),
        Input::Grow { growth, .. } => match run.cancel {
            None if !run.sweeping => vec![Event::Grown(growth)],
            _ => Vec::new(),
        },
    }
}

/// True where the tasks are ready and have no place in a queue.
fn asks_for_a_place(run: &Run, span: Span) -> bool {
    let ready = run.nodes.get(span.node as usize).is_some_and(|n| n.waits == 0 && n.resolved);
    ready && run.uniform(span, TaskState::Pending)
}

fn admitted(run: &Run, span: Span) -> Vec<Event> {
    match asks_for_a_place(run, span) {
        true => vec![Event::Scheduled { span }],
        false => Vec::new(),
    }
}

fn redirected(run: &Run, span: Span, from: Arc<str>, to: Arc<str>) -> Vec<Event> {
    match asks_for_a_place(run, span) {
        true => vec![Event::Redirected { span, from, to }],
        false => Vec::new(),
    }
}

/// What a full lane has no place for fails without an attempt; no retry would find it any emptier.
fn dropped(run: &Run, span: Span, lane: Arc<str>) -> Vec<Event> {
    if !asks_for_a_place(run, span) && !run.uniform(span, TaskState::Scheduled) {
        return Vec::new();
    }
    let text = format!("lane `{lane}` was full and dropped the task");
    let mut failure = Failure::new(FailureKind::Dropped, "lane.dropped", text);
    failure.types = DROPPED_TYPES.iter().map(|&name| name.into()).collect();
    let failure = Arc::new(failure);
    let attempt = run.items(span).map_or(0, |items| items[0].attempt);
    let fail = |task| Event::Failed { task, attempt, failure: Arc::clone(&failure) };
    std::iter::once(Event::Dropped { span, lane }).chain(span.tasks().map(fail)).collect()
}

/// What users catch a drop as.
const DROPPED_TYPES: [&str; 3] =
    ["goclaw.errors.LaneDropped", "goclaw.errors.GoclawError", "builtins.Exception"];

fn claimed(run: &Run, span: Span) -> Vec<Event> {
    if !run.uniform(span, TaskState::Scheduled) {
        return Vec::new();
    }
    let attempt = run.items(span).map_or(0, |items| items[0].attempt) + 1;
    let started = Event::Started { span, attempt };
    match run.state {
        RunState::Pending => vec![Event::RunStarted, started],
        _ => vec![started],
    }
}

fn running(run: &Run, task: TaskRef, attempt: u32) -> bool {
    run.item(task).is_some_and(|item| item.state == TaskState::Running && item.attempt == attempt)
}

/// Consecutive outcomes of one batch. Neighbouring successes stay together in one event.
fn done(
    run: &Run,
    span: Span,
    attempt: u32,
    outcomes: Vec<Outcome>,
    now: Timestamp,
    dice: u64,
    late: &mut u64,
) -> Vec<Event> {
    let mut events = Vec::new();
    let mut outputs: Vec<Payload> = Vec::new();
    let mut memory: Vec<MemoryOp> = Vec::new();
    let mut lo = span.lo;
    let close = |lo: u32, outputs: &mut Vec<Payload>, events: &mut Vec<Event>| {
        if !outputs.is_empty() {
            let span = Span::new(span.node, lo, outputs.len() as u32);
            events.push(Event::Completed { span, attempt, outputs: std::mem::take(outputs) });
        }
    };
    for (task, outcome) in span.tasks().zip(outcomes) {
        let fits = running(run, task, attempt);
        let outcome = match outcome {
            Outcome::Memorized { output, memory: ops } if fits => {
                memory.extend(ops);
                Outcome::Completed(output)
            }
            other => other,
        };
        if let (true, Outcome::Completed(output)) = (fits, &outcome) {
            if outputs.is_empty() {
                lo = task.index;
            }
            outputs.push(output.clone());
            continue;
        }
        close(lo, &mut outputs, &mut events);
        if !fits {
            *late += 1;
        } else {
            // Every failure of a batch throws its own dice.
            let dice = dice.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(task.index.into());
            events.extend(ended_badly(run, task, attempt, outcome, now, dice.rotate_left(17)));
        }
    }
    close(lo, &mut outputs, &mut events);
    if !memory.is_empty() {
        events.push(Event::Memory(memory));
    }
    events
}

fn ended_badly(
    run: &Run,
    task: TaskRef,
    attempt: u32,
    outcome: Outcome,
    now: Timestamp,
    dice: u64,
) -> Vec<Event> {
    let failure = match outcome {
        Outcome::Failed(failure) => *failure,
        Outcome::Cancelled if run.cancel.is_some() => {
            return vec![Event::Cancelled { span: task.into() }];
        }
        Outcome::Interrupted => return lost(run, task.into(), attempt, false, None),
        Outcome::Returned => return taken_back(run, task.into(), attempt),
        Outcome::Crashed(why) => return lost(run, task.into(), attempt, true, Some(*why)),
        Outcome::Completed(_) | Outcome::Memorized { .. } | Outcome::Cancelled => Failure::new(
            FailureKind::Exception,
            "task.cancelled_itself",
            "the agent raised a cancellation that nobody had asked for",
        ),
    };
    failed(run, task, attempt, failure, now, dice)
}

fn failed(
    run: &Run,
    task: TaskRef,
    attempt: u32,
    failure: Failure,
    now: Timestamp,
    dice: u64,
) -> Vec<Event> {
    let Some(item) = run.item(task).filter(|_| running(run, task, attempt)) else {
        return Vec::new();
    };
    if run.cancel.is_some() {
        return vec![Event::Cancelled { span: task.into() }];
    }
    let policy = &run.plan.task(task.node).retry;
    let failure = Arc::new(failure);
    if let Some(pause) = retry::throttle(policy, attempt, &failure) {
        let due = now.plus(pause);
        return vec![Event::Retrying { task, attempt, failure, due, throttled: true }];
    }
    vec![match retry::pause(policy, item.failures, &failure, dice) {
        Some(pause) => {
            let due = now.plus(pause);
            Event::Retrying { task, attempt, failure, due, throttled: false }
        }
        None => Event::Failed { task, attempt, failure },
    }]
}

fn resolved(run: &Run, node: NodeIx, resolution: Resolution) -> Vec<Event> {
    let waiting = run
        .nodes
        .get(node as usize)
        .is_some_and(|n| n.waits == 0 && !n.resolved && n.state() == TaskState::Pending);
    if !waiting {
        return Vec::new();
    }
    vec![match resolution {
        Resolution::Go { key } => Event::Resolved { node, key },
        Resolution::Skip => Event::Skipped { node, reason: SkipReason::Condition },
        Resolution::Items { items, count, key } => Event::Expanded { node, items, count, key },
        Resolution::Failed(failure) => Event::Unresolved { node, failure: Arc::new(*failure) },
    }]
}

fn taken_back(run: &Run, span: Span, attempt: u32) -> Vec<Event> {
    if !all_running(run, span, attempt) {
        return Vec::new();
    }
    match run.cancel {
        Some(_) => vec![Event::Cancelled { span }],
        None => vec![Event::Interrupted { span, attempt, crash: false, failure: None }],
    }
}

fn all_running(run: &Run, span: Span, attempt: u32) -> bool {
    let first = TaskRef { node: span.node, index: span.lo };
    run.uniform(span, TaskState::Running) && running(run, first, attempt)
}

/// Attempts that died with their process. An at-most-once task is never repeated.
fn lost(run: &Run, span: Span, attempt: u32, crash: bool, failure: Option<Failure>) -> Vec<Event> {
    let Some(items) = run.items(span).filter(|_| all_running(run, span, attempt)) else {
        return Vec::new();
    };
    if run.cancel.is_some() {
        return vec![Event::Cancelled { span }];
    }
    if run.plan.task(span.node).delivery == Delivery::AtMostOnce {
        let mut text =
            "the process ended under an at-most-once attempt, which is not repeated".to_owned();
        if let Some(failure) = failure {
            text = format!("{text}; {}", failure.message);
        }
        let failure = Arc::new(Failure::new(FailureKind::Crash, "task.interrupted", text));
        let fail = |task| Event::Failed { task, attempt, failure: Arc::clone(&failure) };
        return span.tasks().map(fail).collect();
    }
    let worst = items.iter().map(|item| item.crashes).max().unwrap_or(0);
    if crash && worst + 1 >= CRASHES_MAX {
        let id = &run.plan.nodes[span.node as usize].id;
        let mut reason = format!("the process died {CRASHES_MAX} times under task `{id}`");
        if let Some(failure) = &failure {
            reason = format!("{reason}: {}", failure.message);
        }
        let failure = failure.map(Arc::new);
        let mut events = vec![Event::Interrupted { span, attempt, crash, failure }];
        events.extend(request(run, CancelCause::Quarantine, reason));
        return events;
    }
    vec![Event::Interrupted { span, attempt, crash, failure: failure.map(Arc::new) }]
}

/// A timer left over from an earlier retry must not cut the backoff of this one short.
fn retry_due(run: &Run, task: TaskRef, now: Timestamp) -> Vec<Event> {
    match run.item(task).map(|item| (item.state, &item.yields)) {
        Some((TaskState::Retrying, Yield::Retrying { due, .. })) if *due <= now => {
            vec![Event::RetryDue { task }]
        }
        _ => Vec::new(),
    }
}

fn request(run: &Run, cause: CancelCause, reason: String) -> Vec<Event> {
    cancel::request(run, cause, reason)
}
