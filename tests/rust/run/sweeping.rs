//! Forgetting at the end of a run.

use goclaw::model::{Event, MemoryOp, RunState, TaskRef};
use goclaw::run::{Effect, Input, outstanding};
use serde_json::json;

use super::{Case, VALUE, case};

fn remembers(more: serde_json::Value) -> Case {
    let mut flow = json!({"tasks": [{"id": "a"}], "memory": {"forget_below": 0.3}});
    flow.as_object_mut().expect("keys").extend(more.as_object().expect("keys").clone());
    case(flow)
}

const A: TaskRef = TaskRef { node: 0, index: 0 };

fn swept(ids: usize) -> Input {
    let ids = (0..ids).map(|n| goclaw::model::EntryId::from_u128(n as u128 + 1)).collect();
    Input::Swept { ids, left: 2, failure: None }
}

#[test]
fn a_run_forgets_in_the_record_that_ends_it() {
    let mut run = remembers(json!({}));
    run.start(A);
    let events = run.complete(A);
    assert!(matches!(events.last(), Some(Event::Sweeping)), "{events:?}");
    assert_eq!(run.ended(), None, "it waits for what is to go");
    assert!(run.asked().contains(&Effect::Sweep));
    let events = run.input(swept(3));
    let [
        Event::Memory(ops),
        Event::Swept { forgotten: 3, left: 2, failure: None },
        Event::RunEnded { .. },
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert!(matches!(&ops[..], [MemoryOp::Forget { ids, .. }] if ids.len() == 3));
    assert_eq!(run.ended(), Some(RunState::Completed));
    assert!(run.input(swept(1)).is_empty(), "once");
}

#[test]
fn a_crash_before_the_answer_asks_again() {
    let mut run = remembers(json!({}));
    run.start(A);
    run.complete(A);
    let again = run.reload();
    assert_eq!(outstanding(&again, true).1, [Effect::Sweep]);
}

#[test]
fn nothing_to_forget_ends_the_run_all_the_same() {
    let mut run = remembers(json!({}));
    run.start(A);
    run.complete(A);
    let failure = Some("store.io: gone".to_owned());
    let events = run.input(Input::Swept { ids: vec![], left: 0, failure });
    assert!(matches!(&events[..], [Event::Swept { forgotten: 0, .. }, Event::RunEnded { .. }]));
}

#[test]
fn a_failed_run_forgets_and_a_cancelled_one_does_not() {
    let mut run = remembers(json!({"tasks": [{"id": "a", "retry": {"retries": 0}}]}));
    run.start(A);
    run.fail(A, VALUE);
    run.input(swept(0));
    assert_eq!(run.ended(), Some(RunState::Failed));

    let mut run = remembers(json!({}));
    run.input(Input::Cancel { reason: "enough".into() });
    assert_eq!(run.ended(), Some(RunState::Cancelled));
    assert!(!run.asked().contains(&Effect::Sweep));
}

#[test]
fn a_run_that_forgets_can_be_neither_stopped_nor_grown() {
    let mut run = remembers(json!({"timeout_ms": 5}));
    run.start(A);
    run.complete(A);
    for late in [Input::Cancel { reason: "late".into() }, Input::Deadline] {
        assert!(run.input(late).is_empty());
    }
    run.input(swept(0));
    assert_eq!(run.ended(), Some(RunState::Completed));
}
