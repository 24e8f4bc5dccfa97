//! Messages that go from one run to another.

use goclaw::model::{
    CancelCause, Event, Payload, RunId, RunState, SkipReason, Span, TaskState as S,
};
use goclaw::run::{Effect, Input};
use serde_json::json;

use super::{BOOM, Case, case, task};

fn other(n: u128) -> RunId {
    RunId::from_u128(n)
}

fn message(n: u8) -> Payload {
    Payload::bytes(vec![b'#', n])
}

fn chain() -> Case {
    case(json!({"tasks": [{"id": "a"}, {"id": "b", "deps": ["a"], "trigger": "all_done"}]}))
}

#[test]
fn an_absorbed_run_ends_completed_and_none_of_its_tasks_runs() {
    let mut case = chain();
    case.asked();
    let events = case.input(Input::Absorb { into: other(9) });
    assert!(matches!(events[0], Event::Absorbed { .. }));
    let skips = events
        .iter()
        .filter(|event| matches!(event, Event::Skipped { reason: SkipReason::Absorbed, .. }));
    assert_eq!(skips.count(), 2);
    assert_eq!((case.states(), case.asked()), (vec![S::Skipped, S::Skipped], vec![Effect::Ended]));
    assert_eq!((case.run.state(), case.run.absorbed_into()), (RunState::Completed, Some(other(9))));
    assert_eq!(case.reload().absorbed_into(), Some(other(9)));
}

#[test]
fn what_has_begun_or_stops_is_not_absorbed_and_gets_no_other_input() {
    let merged = || Input::Merged { from: vec![other(9)], input: message(1) };
    let mut begun = chain();
    begun.start(task(0));
    let mut stopped = chain();
    stopped.input(Input::Stop { cause: CancelCause::Dropped, reason: "dropped".into() });
    for mut case in [begun, stopped] {
        assert!(case.input(Input::Absorb { into: other(9) }).is_empty());
        assert!(case.input(merged()).is_empty());
    }
    let mut case = chain();
    assert!(case.input(Input::Absorb { into: case.run.id() }).is_empty(), "not into itself");
    assert!(case.input(Input::Merged { from: vec![], input: message(1) }).is_empty());
}

#[test]
fn merged_messages_replace_the_input_once() {
    let mut case = chain();
    assert_eq!(case.run.input(), &Payload::bytes(vec![1]));
    let from = vec![other(8), other(9)];
    case.input(Input::Merged { from: from.clone(), input: message(7) });
    assert!(case.input(Input::Merged { from: from.clone(), input: message(8) }).is_empty());
    for run in [&case.run, &case.reload()] {
        assert_eq!((run.input(), run.merged()), (&message(7), &from[..]));
    }
}

#[test]
fn messages_are_read_once_and_not_by_a_run_that_stops() {
    let mut case = chain();
    case.start(task(0));
    let read = |n: u8| Input::Steered { from: other(n.into()), message: message(n) };
    assert_eq!(case.input(read(8)).len(), 1);
    assert!(case.input(read(8)).is_empty());
    case.input(read(9));
    case.input(Input::Cancel { reason: "enough".into() });
    assert!(case.input(read(10)).is_empty(), "it would be lost with the run");
    let read = [(other(8), message(8)), (other(9), message(9))];
    assert_eq!((case.run.steered(), case.reload().steered()), (&read[..], &read[..]));
}

#[test]
fn the_time_of_tasks_begins_with_the_runs_turn() {
    let bounded = json!({"tasks": [{"id": "a", "queue_timeout_ms": 50}]});
    let mut case = case(bounded);
    let span = Span::one(0, 0);
    case.now = case.now.plus(1_000);
    case.input(Input::Seat);
    assert!(case.input(Input::Seat).is_empty(), "told once");
    assert!(
        case.input(Input::QueueOver { span }).is_empty(),
        "the session's wait is not the lane's"
    );
    case.now = case.now.plus(50);
    assert!(!case.input(Input::QueueOver { span }).is_empty());
    assert!(chain().input(Input::Seat).is_empty(), "where nobody measures nobody is told");
}

#[test]
fn a_stop_by_the_session_says_how_the_run_ends() {
    for (cause, state, code) in [
        (CancelCause::Dropped, RunState::Cancelled, "session.dropped"),
        (CancelCause::Merge, RunState::Failed, "session.merge"),
        (CancelCause::MergeTimeout, RunState::Failed, "session.merge_timeout"),
    ] {
        let mut case = chain();
        case.input(Input::Stop { cause, reason: "why".into() });
        assert_eq!((case.ended(), case.run.code()), (Some(state), Some(code)));
        assert_eq!(case.run.reason(), Some("why"));
    }
}

#[test]
fn a_run_backs_off_while_nothing_but_retries_could_go_on() {
    let mut case = case(json!({"tasks": [{"id": "a"}, {"id": "b"}, {"id": "c", "deps": ["a"]}]}));
    assert!(!case.run.is_backing_off());
    case.start(task(0));
    case.fail(task(0), BOOM);
    assert!(!case.run.is_backing_off(), "b is ready");
    case.start(task(1));
    assert!(!case.run.is_backing_off(), "b runs");
    case.complete(task(1));
    assert!(case.run.is_backing_off() && case.reload().is_backing_off());
    assert!(case.run.retries_due(case.now).is_empty());
    case.now = case.now.plus(10_000);
    assert_eq!(case.run.retries_due(case.now), [task(0)]);
    case.input(Input::RetryDue { task: task(0) });
    assert!(!case.run.is_backing_off());
}
