//! Bounds on waits, on silence, and on a task altogether.

use goclaw::model::{CancelCause, Event, Failure, RunState, Span, TaskState as S, Timestamp};
use goclaw::run::{Effect, Input, Timer, outstanding};
use serde_json::json;

use super::{BOOM, Case, case, offer, raised, task};

fn wake(at: u64, timer: Timer) -> Effect {
    Effect::Wake { at: Timestamp(at), timer }
}

fn over(span: Span) -> Input {
    Input::QueueOver { span }
}

fn failures(events: &[Event]) -> Vec<(u32, u32, &Failure)> {
    let failure = |event| match event {
        &Event::Failed { task, attempt, ref failure } => Some((task.index, attempt, &**failure)),
        _ => None,
    };
    events.iter().filter_map(failure).collect()
}

fn map(options: serde_json::Value) -> Case {
    let mut task = options;
    task["id"] = "a".into();
    task["each"] = json!({"param": "x", "items": {"value": []}});
    case(json!({"on_failure": "continue", "tasks": [task]}))
}

#[test]
fn a_wait_for_a_permit_is_timed_from_ready_on() {
    let mut case =
        case(json!({"tasks": [{"id": "a"}, {"id": "b", "deps": ["a"], "queue_timeout_ms": 30}]}));
    case.start(task(0));
    assert!(!case.asked().iter().any(|e| matches!(e, Effect::Wake { .. })), "b is not ready yet");
    case.now = Timestamp(1_100);
    case.complete(task(0));
    let timer = Timer::Queue(task(1).into());
    assert_eq!(case.asked(), [offer(1, 0, 1, 0), wake(1_130, timer)]);
    case.admit(task(1).into());
    case.now = Timestamp(1_129);
    assert!(case.input(over(task(1).into())).is_empty(), "not a moment too early");
    case.now = Timestamp(1_130);
    let events = case.input(over(task(1).into()));
    let [(0, 0, failure)] = failures(&events)[..] else { panic!("{events:?}") };
    assert_eq!(failure.code, "task.queue_timeout");
    assert_eq!(failure.types[..2], ["goclaw.errors.QueueTimedOut", "goclaw.errors.TaskTimedOut"]);
    assert!(failure.types.iter().any(|class| class == "builtins.TimeoutError"));
    assert!(case.effects.contains(&Effect::Leave { span: task(1).into() }));
    assert_eq!((case.state(1), case.run.state()), (S::Failed, RunState::Failed));
    assert!(case.input(Input::Claimed { span: task(1).into() }).is_empty(), "it cannot start");
}

#[test]
fn a_task_that_got_its_permit_has_not_waited_too_long() {
    let mut case = case(json!({"tasks": [{"id": "a", "queue_timeout_ms": 30}]}));
    case.start(task(0));
    case.now = Timestamp(2_000);
    assert!(case.input(over(task(0).into())).is_empty());
    case.complete(task(0));
    assert!(case.input(over(task(0).into())).is_empty());
    assert_eq!(case.ended(), Some(RunState::Completed));
}

#[test]
fn every_wait_has_its_own_time() {
    let mut case = case(json!({"tasks": [{"id": "a", "queue_timeout_ms": 30}]}));
    case.start(task(0));
    case.now = Timestamp(1_500);
    case.fail(task(0), BOOM);
    case.now = Timestamp(9_000);
    case.asked();
    case.input(Input::RetryDue { task: task(0) });
    let timer = Timer::Queue(task(0).into());
    assert_eq!(case.asked(), [offer(0, 0, 1, 1), wake(9_030, timer)]);
    assert!(case.input(over(task(0).into())).is_empty(), "the timer of the first wait");
    case.now = Timestamp(9_030);
    assert_eq!(failures(&case.input(over(task(0).into()))).len(), 1);
}

#[test]
fn children_that_wait_too_long_leave_together_and_the_others_go_on() {
    let mut case = map(json!({"queue_timeout_ms": 30}));
    case.expand(0, 5);
    case.start(Span::new(0, 0, 2));
    case.admit(Span::new(0, 2, 1));
    case.now = Timestamp(1_030);
    let events = case.input(over(Span::new(0, 0, 5)));
    let failed: Vec<_> = failures(&events).iter().map(|(child, ..)| *child).collect();
    assert_eq!(failed, [2, 3, 4]);
    let leaves: Vec<_> =
        case.asked().into_iter().filter(|e| matches!(e, Effect::Leave { .. })).collect();
    assert_eq!(leaves, [Effect::Leave { span: Span::new(0, 2, 3) }]);
    case.complete(Span::new(0, 0, 2));
    assert_eq!(case.ended(), Some(RunState::Failed));
}

#[test]
fn after_a_restart_the_rest_of_a_wait_counts() {
    let mut case = map(json!({"queue_timeout_ms": 500, "total_timeout_ms": 9_000}));
    case.expand(0, 4);
    case.start(Span::new(0, 1, 1));
    case.now = Timestamp(1_200);
    case.input(Input::TakenBack { span: Span::new(0, 1, 1), attempt: 1 });
    case.start(Span::new(0, 2, 1));
    case.now = Timestamp(1_300);
    case.input(Input::TakenBack { span: Span::new(0, 2, 1), attempt: 1 });
    let (_, effects) = outstanding(&case.reload(), true);
    let queue = |at, lo, len| wake(at, Timer::Queue(Span::new(0, lo, len)));
    let timers: Vec<_> = effects.into_iter().filter(|e| matches!(e, Effect::Wake { .. })).collect();
    // The two that were taken back wait since then, each in an offer of its own.
    let all = [
        wake(10_000, Timer::Total(0)),
        queue(1_500, 0, 1),
        queue(1_700, 1, 1),
        queue(1_800, 2, 1),
        queue(1_500, 3, 1),
    ];
    assert_eq!(timers, all);
}

#[test]
fn silence_is_repeated_like_any_timeout() {
    let retry = json!({"retries": 1, "on": ["goclaw.errors.TaskTimedOut"]});
    let mut case = case(json!({"tasks": [{"id": "a", "idle_timeout_ms": 30, "retry": retry}]}));
    case.start(task(0));
    let events = case.input(Input::Silent { task: task(0), attempt: 1, after_ms: 30 });
    let [Event::Retrying { failure, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(failure.code, "task.idle_timeout");
    assert_eq!(failure.types[0], "goclaw.errors.IdleTimedOut");
    let late = case.done(task(0).into(), 1, vec![raised(BOOM)]);
    assert!(late.is_empty());
    assert_eq!(case.late, 1);
}

#[test]
fn the_total_time_ends_a_task_whatever_it_does() {
    for doing in ["waiting", "running", "retrying"] {
        let mut case = case(json!({"tasks": [{"id": "a", "total_timeout_ms": 100}]}));
        assert_eq!(case.asked(), [wake(1_100, Timer::Total(0)), offer(0, 0, 1, 0)]);
        if doing != "waiting" {
            case.start(task(0));
        }
        if doing == "retrying" {
            case.fail(task(0), BOOM);
        }
        case.now = Timestamp(1_099);
        assert!(case.input(Input::TotalOver { node: 0 }).is_empty());
        case.now = Timestamp(1_100);
        let events = case.input(Input::TotalOver { node: 0 });
        let [(0, _, failure)] = failures(&events)[..] else { panic!("{doing}: {events:?}") };
        assert_eq!(failure.code, "task.total_timeout");
        assert_eq!(case.ended(), Some(RunState::Failed), "{doing}: it is never repeated");
        assert!(case.input(Input::TotalOver { node: 0 }).is_empty());
    }
}

#[test]
fn a_map_ends_with_its_total_time_and_keeps_what_completed() {
    let mut case = map(json!({"total_timeout_ms": 100}));
    case.now = Timestamp(5_000);
    case.expand(0, 3);
    assert!(case.effects.contains(&wake(5_100, Timer::Total(0))), "it counts from the items on");
    case.start(Span::new(0, 0, 2));
    case.complete(Span::new(0, 0, 1));
    case.now = Timestamp(5_100);
    let events = case.input(Input::TotalOver { node: 0 });
    assert_eq!(failures(&events).len(), 2);
    assert_eq!(case.run.task_state(task(0)), Some(S::Completed));
    assert_eq!(case.ended(), Some(RunState::Failed));
}

#[test]
fn a_stopping_run_is_beyond_these_bounds() {
    let bounds = json!({"id": "a", "total_timeout_ms": 1, "queue_timeout_ms": 1});
    let mut case = case(json!({"tasks": [bounds]}));
    case.start(task(0));
    case.input(Input::Cancel { reason: "enough".into() });
    case.now = Timestamp(9_000);
    assert!(case.input(Input::TotalOver { node: 0 }).is_empty());
    assert!(case.input(over(task(0).into())).is_empty());
}

#[test]
fn a_killed_run_says_so_and_what_ran_does_not_count() {
    let mut case = case(json!({"tasks": [{"id": "a"}, {"id": "b"}]}));
    case.start(task(0));
    let events = case.input(Input::Kill { reason: "now".into() });
    let killed = Event::CancelRequested { cause: CancelCause::Killed, reason: "now".into() };
    assert_eq!(format!("{:?}", events[0]), format!("{killed:?}"));
    case.input(Input::Lost { span: task(0).into(), attempt: 1, crash: false });
    assert_eq!((case.ended(), case.run.code()), (Some(RunState::Cancelled), Some("run.killed")));
}

#[test]
fn a_call_that_blocks_others_is_told_of_while_it_runs() {
    let mut case = case(json!({"tasks": [{"id": "a"}]}));
    case.start(task(0));
    let blocking = |attempt| Input::Blocking { task: task(0), attempt, reason: "it does".into() };
    assert_eq!(case.input(blocking(1)).len(), 1);
    assert!(case.input(blocking(2)).is_empty());
    case.complete(task(0));
    assert!(case.input(blocking(1)).is_empty());
}
