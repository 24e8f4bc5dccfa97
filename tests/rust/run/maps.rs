//! Maps: one child per item, joined when all have ended.

use goclaw::model::{Event, RunState, Span, TaskState as S};
use goclaw::run::{Effect, Input, TaskResult};
use serde_json::json;

use super::{Case, VALUE, case, completed, offer, raised, task};

/// `a` maps, `b` waits for it.
fn map_and_sum() -> Case {
    case(json!({
        "on_failure": "continue",
        "tasks": [
            {"id": "a", "each": {"param": "x", "items": {"value": []}}},
            {"id": "b", "deps": ["a"]},
        ],
    }))
}

#[test]
fn an_empty_map_is_complete_at_once() {
    let mut case = map_and_sum();
    case.asked();
    case.expand(0, 0);
    assert_eq!(case.states(), [S::Completed, S::Pending]);
    assert_eq!(case.asked(), [offer(1, 0, 1, 0)]);
    assert!(matches!(case.run.result_of(0), TaskResult::Many(results) if results.is_empty()));
}

#[test]
fn a_map_has_as_many_children_as_items_and_offers_them_as_one() {
    let mut case = map_and_sum();
    assert_eq!(case.asked(), [Effect::Resolve { node: 0 }]);
    case.expand(0, 4);
    assert_eq!((case.run.children(0), case.asked()), (Some(4), vec![offer(0, 0, 4, 0)]));
}

#[test]
fn a_map_is_joined_when_its_last_child_ends() {
    let mut case = map_and_sum();
    case.expand(0, 3);
    case.start(Span::new(0, 0, 3));
    case.complete(Span::new(0, 1, 2));
    assert_eq!((case.state(0), case.state(1)), (S::Running, S::Pending));
    let events = case.complete(Span::one(0, 0));
    assert!(matches!(events[1], Event::Joined { node: 0, state: S::Completed }), "{events:?}");
}

#[test]
fn a_failed_child_fails_its_map_after_the_others_have_ended() {
    let mut case = map_and_sum();
    case.expand(0, 3);
    case.start(Span::new(0, 0, 3));
    case.done(Span::new(0, 0, 2), 1, vec![completed(), raised(VALUE)]);
    assert_eq!(case.state(0), S::Running);
    case.complete(Span::one(0, 2));
    assert_eq!(case.states(), [S::Failed, S::Skipped]);
    assert_eq!(case.ended(), Some(RunState::Failed));
    let TaskResult::Many(results) = case.run.result_of(0) else { panic!("a map has many") };
    let there: Vec<bool> = results.iter().map(Option::is_some).collect();
    assert_eq!(there, [true, false, true]);
}

#[test]
fn calls_that_are_taken_back_cost_no_retry_and_are_offered_again() {
    let mut case = map_and_sum();
    case.expand(0, 3);
    case.start(Span::new(0, 0, 3));
    case.asked();
    case.input(Input::TakenBack { span: Span::new(0, 1, 2), attempt: 1 });
    assert_eq!(case.asked(), [offer(0, 1, 2, 1)]);
    assert_eq!(case.run.span_state(Span::new(0, 1, 2)), Some(S::Pending));
}

#[test]
fn a_map_that_cannot_be_evaluated_fails_without_an_attempt() {
    let mut case = map_and_sum();
    let failure = goclaw::model::Failure::new(
        goclaw::model::FailureKind::Payload,
        "task.items",
        "a number is no list",
    );
    let resolution = goclaw::run::Resolution::Failed(Box::new(failure));
    case.input(Input::Resolved { node: 0, resolution });
    assert_eq!((case.states(), case.run.attempt(task(0))), (vec![S::Failed, S::Skipped], 0));
}
