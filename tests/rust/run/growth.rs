//! Tasks that join a run under way.

use std::sync::Arc;

use goclaw::model::{Growth, RunState, Task, TaskState as S};
use goclaw::run::Input;
use serde_json::json;

use super::{Case, VALUE, case, offer, task};

fn grow(case: &mut Case, tasks: serde_json::Value) -> bool {
    let tasks: Vec<Task> = serde_json::from_value(tasks).expect("the tasks are well formed");
    let growth = Growth { tasks, constants: Vec::new() };
    let plan = Arc::new(case.run.plan().regrow(&growth).expect("the growth fits"));
    !case.input(Input::Grow { growth: Box::new(growth), plan }).is_empty()
}

#[test]
fn a_new_task_waits_for_what_has_not_ended_and_only_for_that() {
    let mut case = case(json!({"tasks": [{"id": "a"}, {"id": "b"}]}));
    case.start(task(0));
    case.complete(task(0));
    case.asked();
    grow(
        &mut case,
        json!([
            {"id": "c", "agent": "agent", "deps": ["a"]},
            {"id": "d", "agent": "agent", "deps": ["a", "b", "c"]},
        ]),
    );
    assert_eq!(case.asked(), [offer(2, 0, 1, 0)]);
    for node in [2, 1] {
        case.start(task(node));
        case.complete(task(node));
    }
    assert_eq!(case.asked(), [offer(3, 0, 1, 0)]);
    assert_eq!(serde_json::to_string(&case.reload()).ok(), serde_json::to_string(&case.run).ok());
}

#[test]
fn a_new_task_behind_a_failure_is_skipped_with_its_dependents() {
    let mut case = case(json!({"on_failure": "continue", "tasks": [{"id": "a"}, {"id": "b"}]}));
    case.start(task(0));
    case.fail(task(0), VALUE);
    grow(
        &mut case,
        json!([
            {"id": "c", "agent": "agent", "deps": ["a"]},
            {"id": "d", "agent": "agent", "deps": ["c"]},
        ]),
    );
    assert_eq!(case.states(), [S::Failed, S::Pending, S::Skipped, S::Skipped]);
}

#[test]
fn a_stopping_run_does_not_grow() {
    let mut case = case(json!({"tasks": [{"id": "a"}]}));
    case.start(task(0));
    case.input(Input::Cancel { reason: "enough".into() });
    assert!(!grow(&mut case, json!([{"id": "b", "agent": "agent"}])));
    case.complete(task(0));
    assert_eq!((case.states(), case.ended()), (vec![S::Completed], Some(RunState::Cancelled)));
}
