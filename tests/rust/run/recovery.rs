//! What a crash leaves, and what a new process takes up.

use goclaw::model::{Event, RunState, Span, TaskState as S, Timestamp};
use goclaw::run::{Effect, Input, Timer, outstanding};
use serde_json::json;

use super::{BOOM, case, completed, offer, task};

#[test]
fn five_crashes_quarantine_the_run() {
    let mut case = case(json!({"tasks": [{"id": "a"}, {"id": "b"}]}));
    for crash in 1..=5 {
        case.start(task(0));
        assert_eq!(case.state(1), S::Pending, "before crash {crash}");
        case.crash(task(0));
    }
    assert_eq!(case.states(), [S::Cancelled, S::Cancelled]);
    assert_eq!(case.ended(), Some(RunState::Quarantined));
}

#[test]
fn a_crash_costs_no_retry() {
    let mut case = case(json!({"tasks": [{"id": "a", "retry": {"retries": 1}}]}));
    case.start(task(0));
    case.crash(task(0));
    case.start(task(0));
    case.fail(task(0), BOOM);
    assert_eq!(case.state(0), S::Retrying);
}

#[test]
fn closing_in_good_order_counts_as_no_crash() {
    let mut case = case(json!({"tasks": [{"id": "a"}]}));
    for _ in 0..6 {
        case.start(task(0));
        let attempt = case.run.attempt(task(0));
        case.asked();
        case.input(Input::Lost { span: Span::one(0, 0), attempt, crash: false });
        assert_eq!(case.asked(), [offer(0, 0, 1, attempt)]);
    }
    assert_eq!(case.ended(), None);
}

#[test]
fn an_at_most_once_task_is_not_repeated_after_a_crash() {
    let mut case = case(json!({"tasks": [{"id": "a", "delivery": "at_most_once"}]}));
    case.start(task(0));
    let events = case.crash(task(0));
    let Some(Event::Failed { failure, .. }) = events.first() else { panic!("{events:?}") };
    assert_eq!((&*failure.code, case.ended()), ("task.interrupted", Some(RunState::Failed)));
}

#[test]
fn a_loss_that_does_not_fit_every_task_of_its_span_changes_nothing() {
    let mut case =
        case(json!({"tasks": [{"id": "a", "each": {"param": "x", "items": {"value": []}}}]}));
    case.expand(0, 3);
    case.start(Span::new(0, 0, 3));
    case.complete(Span::one(0, 1));
    assert!(case.crash(Span::new(0, 0, 3)).is_empty());
    assert_eq!(
        case.run.task_state(goclaw::model::TaskRef { node: 0, index: 1 }),
        Some(S::Completed)
    );
}

#[test]
fn a_recovery_offers_what_waits_with_equal_states_only() {
    let mut case = case(json!({"tasks": [
        {"id": "a", "each": {"param": "x", "items": {"value": []}}},
        {"id": "b", "deps": ["a"]},
    ]}));
    case.expand(0, 5);
    // The queue of the lane had room for two.
    case.admit(Span::new(0, 0, 2));
    let run = case.reload();
    let (inputs, effects) = outstanding(&run, true);
    assert!(inputs.is_empty());
    let mut offered: Vec<_> = effects
        .iter()
        .filter_map(|e| if let Effect::Offer { span, .. } = e { Some(*span) } else { None })
        .collect();
    offered.sort_unstable();
    assert_eq!(offered, [Span::new(0, 0, 2), Span::new(0, 2, 3)]);
    // A lane takes a span only when it knows one state of it.
    assert!(offered.iter().all(|&span| run.span_state(span).is_some()));
}

#[test]
fn a_recovery_takes_up_attempts_timers_resolves_and_the_deadline() {
    let mut case = case(json!({"timeout_ms": 9_000, "tasks": [
        {"id": "a", "retry": {"jitter": false}},
        {"id": "b"},
        {"id": "c", "when": {"value": true}},
        {"id": "d", "deps": ["b"]},
    ]}));
    case.start(task(0));
    case.start(task(1));
    case.fail(task(0), BOOM);
    let (inputs, effects) = outstanding(&case.reload(), true);
    let lost =
        matches!(inputs[..], [Input::Lost { span, attempt: 1, crash: true }] if span.node == 1);
    assert!(lost, "{inputs:?}");
    let due = |at, timer| Effect::Wake { at: Timestamp(at), timer };
    let resolve = Effect::Resolve { node: 2 };
    assert_eq!(effects, [due(10_000, Timer::Deadline), resolve, due(1_500, Timer::Retry(task(0)))]);
}

#[test]
fn a_run_that_ended_before_the_crash_owes_only_the_release_of_its_waiters() {
    let mut case = case(json!({"tasks": [{"id": "a"}]}));
    case.start(task(0));
    case.done(Span::one(0, 0), 1, vec![completed()]);
    let (inputs, effects) = outstanding(&case.reload(), true);
    assert_eq!((inputs.len(), effects), (0, vec![Effect::Ended]));
}
