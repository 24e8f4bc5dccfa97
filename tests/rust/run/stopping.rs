//! Cancellation and deadlines.

use goclaw::model::{RunState, Span, TaskState as S, Timestamp};
use goclaw::run::{Effect, Input, Timer};
use serde_json::json;

use super::{case, task};

fn cancel() -> Input {
    Input::Cancel { reason: "enough".into() }
}

#[test]
fn a_cancelled_run_ends_at_once_where_nothing_has_begun() {
    let mut case = case(json!({"tasks": [{"id": "a"}, {"id": "b", "deps": ["a"]}]}));
    case.input(cancel());
    assert_eq!(case.states(), [S::Cancelled, S::Cancelled]);
    assert_eq!((case.ended(), case.run.reason()), (Some(RunState::Cancelled), Some("enough")));
}

#[test]
fn a_stopping_run_starts_nothing_and_keeps_what_completes() {
    let mut case = case(json!({"tasks": [{"id": "a"}, {"id": "b", "deps": ["a"]}, {"id": "c"}]}));
    case.start(task(0));
    case.admit(Span::one(2, 0));
    case.input(cancel());
    assert!(case.input(Input::Claimed { span: Span::one(2, 0) }).is_empty());
    case.complete(task(0));
    assert_eq!(case.states(), [S::Completed, S::Cancelled, S::Cancelled]);
    assert_eq!(case.ended(), Some(RunState::Cancelled));
}

#[test]
fn the_first_reason_to_stop_stands() {
    let mut case = case(json!({"timeout_ms": 50, "tasks": [{"id": "a"}]}));
    let deadline = Effect::Wake { at: Timestamp(1_050), timer: Timer::Deadline };
    assert_eq!(case.asked()[0], deadline);
    case.start(task(0));
    case.input(Input::Deadline);
    assert!(case.input(cancel()).is_empty());
    case.input(Input::Lost { span: Span::one(0, 0), attempt: 1, crash: false });
    assert_eq!(case.ended(), Some(RunState::Failed));
    assert_eq!(case.run.code(), Some("run.timeout"));
}

#[test]
fn a_run_that_cannot_be_written_down_fails_with_the_stores_word() {
    let mut case = case(json!({"tasks": [{"id": "a"}, {"id": "b", "deps": ["a"]}]}));
    case.start(task(0));
    case.input(Input::Unwritable { reason: "no form".into() });
    case.input(Input::Lost { span: Span::one(0, 0), attempt: 1, crash: false });
    assert_eq!(case.states(), [S::Cancelled, S::Cancelled]);
    assert_eq!(case.ended(), Some(RunState::Failed));
    assert_eq!((case.run.code(), case.run.reason()), (Some("store.unwritable"), Some("no form")));
}

#[test]
fn a_run_that_has_ended_takes_no_input() {
    let mut case = case(json!({"tasks": [{"id": "a"}]}));
    case.start(task(0));
    case.complete(task(0));
    assert!(case.input(cancel()).is_empty());
    assert!(case.input(Input::Deadline).is_empty());
    assert_eq!(case.ended(), Some(RunState::Completed));
}
