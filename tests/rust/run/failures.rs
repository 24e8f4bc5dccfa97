//! Failures, retries, timeouts, late results.

use goclaw::model::{Event, RunState, Span, TaskState as S, Timestamp};
use goclaw::run::{Effect, Input, Outcome, Timer};
use serde_json::json;

use super::{BOOM, VALUE, case, completed, offer, raised, task};

#[test]
fn a_failed_task_skips_its_dependents_under_continue() {
    let mut case = case(json!({
        "on_failure": "continue",
        "tasks": [{"id": "a"}, {"id": "b", "deps": ["a"]}, {"id": "c", "deps": ["b"]}, {"id": "d"}],
    }));
    case.start(task(0));
    case.fail(task(0), VALUE);
    assert_eq!(case.states(), [S::Failed, S::Skipped, S::Skipped, S::Pending]);
    assert_eq!(case.ended(), None);
    case.start(task(3));
    case.complete(task(3));
    assert_eq!(case.ended(), Some(RunState::Failed));
}

#[test]
fn a_failed_task_stops_its_run_under_fail_fast() {
    let mut case = case(json!({"tasks": [{"id": "a"}, {"id": "b"}, {"id": "c"}]}));
    case.start(task(0));
    case.start(task(1));
    case.asked();
    case.fail(task(0), VALUE);
    assert_eq!(case.states(), [S::Failed, S::Running, S::Cancelled]);
    let told = Effect::Abandon { span: Span::one(1, 0), attempt: 1 };
    assert_eq!(case.asked(), [Effect::Withdraw, told]);
    case.done(Span::one(1, 0), 1, vec![Outcome::Cancelled]);
    assert_eq!(case.ended(), Some(RunState::Failed));
}

#[test]
fn a_retry_waits_for_its_timer_and_is_offered_once() {
    let mut case = case(json!({"tasks": [{"id": "a", "retry": {"jitter": false}}]}));
    case.start(task(0));
    case.asked();
    case.fail(task(0), BOOM);
    let due = Timestamp(1_500);
    assert_eq!(case.asked(), [Effect::Wake { at: due, timer: Timer::Retry(task(0)) }]);
    case.now = due;
    case.input(Input::RetryDue { task: task(0) });
    assert_eq!(case.asked(), [offer(0, 0, 1, 1)]);
    assert!(case.input(Input::RetryDue { task: task(0) }).is_empty());
}

#[test]
fn a_timer_that_fires_early_does_not_cut_a_backoff_short() {
    let mut case = case(json!({"tasks": [{"id": "a", "retry": {"jitter": false}}]}));
    case.start(task(0));
    case.fail(task(0), BOOM);
    case.now = Timestamp(1_499);
    assert!(case.input(Input::RetryDue { task: task(0) }).is_empty());
    assert_eq!(case.state(0), S::Retrying);
}

#[test]
fn a_task_fails_when_its_retries_are_used_up() {
    let mut case = case(json!({"tasks": [{"id": "a", "retry": {"retries": 2}}]}));
    for _ in 0..2 {
        case.start(task(0));
        case.fail(task(0), BOOM);
        assert_eq!(case.state(0), S::Retrying);
        case.now = case.now.plus(100_000);
        case.input(Input::RetryDue { task: task(0) });
    }
    case.start(task(0));
    case.fail(task(0), BOOM);
    assert_eq!((case.state(0), case.run.attempt(task(0))), (S::Failed, 3));
    assert_eq!(case.ended(), Some(RunState::Failed));
}

#[test]
fn a_late_result_of_a_timed_out_attempt_changes_nothing() {
    let mut case = case(json!({"tasks": [{"id": "a", "timeout_ms": 10}]}));
    case.start(task(0));
    case.input(Input::TimedOut { task: task(0), attempt: 1, after_ms: 10 });
    assert_eq!(case.state(0), S::Retrying);
    assert!(case.done(Span::one(0, 0), 1, vec![completed()]).is_empty());
    case.now = case.now.plus(1_000);
    case.input(Input::RetryDue { task: task(0) });
    case.start(task(0));
    assert!(case.done(Span::one(0, 0), 1, vec![completed()]).is_empty());
    assert_eq!((case.state(0), case.late), (S::Running, 2));
}

#[test]
fn an_outcome_is_recorded_once() {
    let mut case = case(json!({"tasks": [{"id": "a"}, {"id": "b"}]}));
    case.start(task(0));
    case.complete(task(0));
    assert!(case.done(Span::one(0, 0), 1, vec![raised(VALUE)]).is_empty());
    assert_eq!((case.state(0), case.late), (S::Completed, 1));
}

#[test]
fn results_that_come_after_the_end_of_their_run_are_counted_one_by_one() {
    let mut case =
        case(json!({"tasks": [{"id": "a", "each": {"param": "x", "items": {"value": []}}}]}));
    case.expand(0, 2);
    case.start(Span::new(0, 0, 2));
    case.complete(Span::new(0, 0, 2));
    assert_eq!(case.ended(), Some(RunState::Completed));
    case.done(Span::new(0, 0, 2), 1, vec![completed(), completed()]);
    assert_eq!(case.late, 2);
}

#[test]
fn a_cancellation_that_nobody_asked_for_is_a_failure() {
    let mut case = case(json!({"tasks": [{"id": "a"}]}));
    case.start(task(0));
    let events = case.done(Span::one(0, 0), 1, vec![Outcome::Cancelled]);
    let Some(Event::Failed { failure, .. }) = events.first() else { panic!("{events:?}") };
    assert_eq!(failure.code, "task.cancelled_itself");
}
