//! When a task may start.

use goclaw::model::{RunState, Span, TaskState as S};
use goclaw::run::{Effect, Input, Resolution};
use serde_json::json;

use super::{VALUE, case, offer, task};

/// What becomes of a task behind one that failed and one that was skipped or completed.
fn behind(trigger: &str, other: Resolution) -> S {
    let mut case = case(json!({
        "on_failure": "continue",
        "tasks": [
            {"id": "a"},
            {"id": "b", "when": {"value": true}},
            {"id": "c", "deps": ["a", "b"], "trigger": trigger},
            {"id": "d"},
        ],
    }));
    let skipped = matches!(other, Resolution::Skip);
    case.input(Input::Resolved { node: 1, resolution: other });
    if !skipped {
        case.start(task(1));
        case.complete(task(1));
    }
    case.start(task(0));
    case.fail(task(0), VALUE);
    case.state(2)
}

#[test]
fn triggers_look_at_how_dependencies_ended() {
    assert_eq!(behind("all_success", Resolution::Go { key: None }), S::Skipped);
    assert_eq!(behind("all_done", Resolution::Go { key: None }), S::Pending);
    assert_eq!(behind("one_success", Resolution::Go { key: None }), S::Pending);
    assert_eq!(behind("one_success", Resolution::Skip), S::Skipped);
    assert_eq!(behind("none_failed", Resolution::Go { key: None }), S::Skipped);
}

#[test]
fn a_false_condition_skips_the_task_and_none_failed_goes_on() {
    let mut case = case(json!({"tasks": [
        {"id": "a", "when": {"value": false}},
        {"id": "b", "deps": ["a"]},
        {"id": "c", "deps": ["a"], "trigger": "none_failed"},
    ]}));
    assert_eq!(case.asked(), [Effect::Resolve { node: 0 }]);
    case.input(Input::Resolved { node: 0, resolution: Resolution::Skip });
    assert_eq!(case.states(), [S::Skipped, S::Skipped, S::Pending]);
    case.start(task(2));
    case.complete(task(2));
    assert_eq!(case.ended(), Some(RunState::Completed));
}

#[test]
fn a_task_is_offered_when_its_last_dependency_ends_and_only_then() {
    let mut case =
        case(json!({"tasks": [{"id": "a"}, {"id": "b"}, {"id": "c", "deps": ["a", "b"]}]}));
    assert_eq!(case.asked(), [offer(0, 0, 1, 0), offer(1, 0, 1, 0)]);
    case.start(task(0));
    case.start(task(1));
    assert_eq!(case.asked(), [Effect::Began]);
    case.complete(task(0));
    assert_eq!(case.asked(), []);
    case.complete(task(1));
    assert_eq!(case.asked(), [offer(2, 0, 1, 0)]);
}

#[test]
fn a_place_in_a_lane_is_no_use_to_a_task_whose_inputs_are_missing() {
    let mut case = case(json!({"tasks": [{"id": "a"}, {"id": "b", "deps": ["a"]}]}));
    assert!(case.admit(Span::one(1, 0)).is_empty());
    assert_eq!(case.state(1), S::Pending);
}

#[test]
fn a_resolution_counts_once() {
    let mut case = case(json!({"tasks": [{"id": "a", "when": {"value": true}}]}));
    case.input(Input::Resolved { node: 0, resolution: Resolution::Go { key: None } });
    assert!(case.input(Input::Resolved { node: 0, resolution: Resolution::Skip }).is_empty());
    assert_eq!(case.state(0), S::Pending);
}
