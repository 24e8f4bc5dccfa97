//! The whole line with closures as agents: no Python, both stores.

mod aging;
mod faults;
mod guests;
mod ladder;
mod lanes;
mod lent;
mod memory;
mod parked;
mod probe;
mod sessions;

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use super::*;
use crate::agent::local::Local;
use crate::agent::{Outcome, Resolution, TaskResult};
use crate::model::{
    Each, Expr, Failure, FailureKind, LaneSpec, OnFailure, OnRetry, Payload, Retry, RunState, Task,
    TaskState, Timestamp, Workflow,
};
use crate::plan::{self, Plan};

const SOON: Option<Duration> = Some(Duration::from_secs(20));

fn number(n: u8) -> Payload {
    Payload::bytes(vec![b'#', n])
}

fn as_number(payload: &Payload) -> u8 {
    match payload {
        Payload::Bytes(bytes) => bytes[1],
        other => panic!("{other:?} is no number"),
    }
}

fn task(id: &str, agent: &str, deps: &[&str]) -> Task {
    let task = serde_json::json!({ "id": id, "agent": agent, "deps": deps });
    serde_json::from_value(task).expect("a task in JSON")
}

fn plan(tasks: Vec<Task>) -> Arc<Plan> {
    with(Workflow { name: "test".into(), tasks, ..Workflow::default() })
}

fn with(workflow: Workflow) -> Arc<Plan> {
    Arc::new(plan::restore(Arc::new(workflow)).expect("a sound workflow"))
}

fn quick(retries: u16) -> Retry {
    Retry { retries, initial_ms: 1, ..Retry::default() }
}

fn request(plan: &Arc<Plan>) -> Submit {
    Submit {
        id: None,
        plan: Arc::clone(plan),
        input: number(0),
        priority: 0,
        tags: Vec::new(),
        session: None,
        when_busy: None,
        on_retry: OnRetry::Hold,
        weight: None,
        durability: None,
        memory: Default::default(),
        trace_id: None,
        on_conflict: OnConflict::Error,
        block: true,
    }
}

fn open(local: &Arc<Local>, path: Option<&Path>, lanes: Vec<LaneSpec>) -> Engine {
    let options = Options { path: path.map(Into::into), lanes, ..Options::default() };
    Engine::open(options, |reports| local.connect(reports)).expect("the engine opens")
}

fn start(engine: &Engine, plan: &Arc<Plan>) -> Handle {
    let ticket = engine.submit(request(plan)).expect("the inbox is open");
    ticket.wait(SOON).expect("accepted in time").expect("accepted")
}

fn ended(handle: &Handle) -> RunState {
    assert!(handle.wait(SOON).expect("the engine stays open"), "the run ends in time");
    handle.state()
}

fn raised(class: &str) -> Outcome {
    let mut failure = Failure::new(FailureKind::Exception, "task.exception", "no luck");
    failure.types = vec![class.into(), "builtins.Exception".into()];
    Outcome::Failed(Box::new(failure))
}

/// Runs a check on an engine in memory and on one with a path.
fn on_both_stores(check: impl Fn(Option<&Path>)) {
    check(None);
    let folder = tempfile::tempdir().expect("a temporary folder");
    check(Some(folder.path()));
}

#[test]
fn a_chain_hands_its_results_on() {
    on_both_stores(|path| {
        let local = Local::new();
        local.agent("one", |_, _| Outcome::Completed(number(1)));
        local.agent("add", |batch, _| match &batch.call.results[0] {
            TaskResult::One(payload) => Outcome::Completed(number(as_number(payload) + 1)),
            other => panic!("{other:?}"),
        });
        let engine = open(&local, path, vec![]);
        let plan =
            plan(vec![task("a", "one", &[]), task("b", "add", &["a"]), task("c", "add", &["b"])]);
        let handle = start(&engine, &plan);
        assert_eq!(ended(&handle), RunState::Completed);
        let result = handle.inspect(|run| run.result_of(2)).expect("a result");
        assert!(matches!(result, TaskResult::One(p) if as_number(&p) == 3));
        engine.close(0);
    });
}

#[test]
fn a_map_runs_every_item_once_and_joins_in_order() {
    on_both_stores(|path| {
        let local = Local::new();
        let calls = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&calls);
        local.agent("double", move |_, task| {
            seen.fetch_add(1, Ordering::Relaxed);
            Outcome::Completed(number((task.index % 100) as u8 * 2))
        });
        local.agent("count", |batch, _| match &batch.call.results[0] {
            TaskResult::Many(all) => {
                let right = all
                    .iter()
                    .enumerate()
                    .all(|(i, p)| p.as_ref().is_some_and(|p| as_number(p) == (i % 100) as u8 * 2));
                Outcome::Completed(number(u8::from(right && all.len() == 5_000)))
            }
            other => panic!("{other:?}"),
        });
        local.resolver(|_| Resolution::Items { items: number(9), count: 5_000, key: None });
        let engine = open(&local, path, vec![]);
        let mut each = task("each", "double", &[]);
        each.each = Some(Each { param: "x".into(), items: Expr::Value(serde_json::json!([])) });
        let plan = plan(vec![each, task("sum", "count", &["each"])]);
        let handle = start(&engine, &plan);
        assert_eq!(ended(&handle), RunState::Completed);
        assert_eq!(calls.load(Ordering::Relaxed), 5_000);
        let result = handle.inspect(|run| run.result_of(1)).expect("a result");
        assert!(matches!(result, TaskResult::One(p) if as_number(&p) == 1));
        engine.close(0);
    });
}

#[test]
fn a_failing_task_is_retried_and_then_fails_its_run() {
    on_both_stores(|path| {
        let local = Local::new();
        let calls = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&calls);
        local.agent("bad", move |_, _| {
            seen.fetch_add(1, Ordering::Relaxed);
            raised("builtins.OSError")
        });
        local.agent("ok", |_, _| Outcome::Completed(number(1)));
        let engine = open(&local, path, vec![]);
        let mut bad = task("bad", "bad", &[]);
        bad.retry = quick(2);
        let plan = plan(vec![bad, task("after", "ok", &["bad"])]);
        let handle = start(&engine, &plan);
        assert_eq!(ended(&handle), RunState::Failed);
        assert_eq!(calls.load(Ordering::Relaxed), 3);
        let (state, reason) =
            handle.inspect(|r| (r.node_state(1), r.reason().map(str::to_owned))).expect("state");
        assert_eq!(state, TaskState::Skipped);
        assert_eq!(reason.as_deref(), Some("task `bad` failed: no luck"));
        engine.close(0);
    });
}

#[test]
fn a_panic_fails_the_task_and_nothing_else() {
    let local = Local::new();
    local.agent("panic", |_, _| panic!("agents may do this"));
    local.agent("ok", |_, _| Outcome::Completed(number(1)));
    let engine = open(&local, None, vec![]);
    let mut bad = task("bad", "panic", &[]);
    bad.retry = quick(0);
    let workflow = Workflow {
        name: "test".into(),
        tasks: vec![bad, task("good", "ok", &[])],
        on_failure: OnFailure::Continue,
        ..Workflow::default()
    };
    let handle = start(&engine, &with(workflow));
    assert_eq!(ended(&handle), RunState::Failed);
    let states = handle.inspect(|run| (run.node_state(0), run.node_state(1))).expect("states");
    assert_eq!(states, (TaskState::Failed, TaskState::Completed));
    engine.close(0);
}

#[test]
fn a_hanging_attempt_times_out_and_its_lane_goes_on() {
    let local = Local::new();
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let first = AtomicU32::new(0);
    local.agent("hang", move |_, _| {
        if first.fetch_add(1, Ordering::Relaxed) == 0 {
            let _ = gate.lock().expect("nobody panics here").recv();
        }
        Outcome::Completed(number(7))
    });
    let one = LaneSpec { name: "one".into(), concurrency: 1, capacity: 10, ..LaneSpec::default() };
    let engine = open(&local, None, vec![one]);
    let mut hang = task("hang", "hang", &[]);
    hang.lane = "one".into();
    hang.timeout_ms = Some(20);
    hang.retry = quick(1);
    let handle = start(&engine, &plan(vec![hang]));
    assert_eq!(ended(&handle), RunState::Completed);
    assert_eq!(engine.stats().attempts_timed_out.load(Ordering::Relaxed), 1);
    drop(release);
    engine.close(0);
}

#[test]
fn what_has_not_begun_ends_at_once_when_a_run_is_cancelled() {
    let local = Local::new();
    let (started, begun) = mpsc::channel::<()>();
    let started = Mutex::new(started);
    local.agent("wait", move |batch, _| {
        let _ = started.lock().expect("nobody panics here").send(());
        while !batch.abandoned.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        Outcome::Cancelled
    });
    let engine = open(&local, None, vec![]);
    let handle = start(&engine, &plan(vec![task("a", "wait", &[]), task("b", "wait", &["a"])]));
    begun.recv().expect("the agent begins");
    handle.cancel("enough").expect("the engine is open");
    assert_eq!(ended(&handle), RunState::Cancelled);
    let states = handle.inspect(|run| (run.node_state(0), run.node_state(1))).expect("states");
    assert_eq!(states, (TaskState::Cancelled, TaskState::Cancelled));
    engine.close(0);
}

#[test]
fn an_unfinished_run_goes_on_when_the_store_is_opened_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let stuck = Local::new();
    let (started, begun) = mpsc::channel::<()>();
    let started = Mutex::new(started);
    stuck.agent("first", |_, _| Outcome::Completed(number(1)));
    stuck.agent("second", move |batch, _| {
        let _ = started.lock().expect("nobody panics here").send(());
        while !batch.abandoned.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        Outcome::Cancelled
    });
    let engine = open(&stuck, Some(folder.path()), vec![]);
    let plan = plan(vec![task("a", "first", &[]), task("b", "second", &["a"])]);
    let handle = start(&engine, &plan);
    begun.recv().expect("the second task begins");
    let id = handle.id();
    let closed = engine.close(0);
    assert_eq!((closed.interrupted, closed.unfinished), (1, 1));
    assert_eq!(handle.wait(SOON).expect_err("released").code, "engine.closed");

    let again = Local::new();
    let firsts = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&firsts);
    again.agent("first", move |_, _| {
        seen.fetch_add(1, Ordering::Relaxed);
        Outcome::Completed(number(1))
    });
    again.agent("second", |batch, _| Outcome::Completed(number(10 * batch.attempt as u8)));
    let engine = open(&again, Some(folder.path()), vec![]);
    assert_eq!(engine.recovered(), 1);
    let handle = engine.get(id).expect("the run is known");
    assert_eq!(ended(&handle), RunState::Completed);
    assert_eq!(firsts.load(Ordering::Relaxed), 0, "what was recorded is not repeated");
    let result = handle.inspect(|run| run.result_of(1)).expect("a result");
    assert!(matches!(result, TaskResult::One(p) if as_number(&p) == 20));
    engine.close(0);
}

#[test]
fn a_full_lane_blocks_or_refuses_and_loses_nothing() {
    let local = Local::new();
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    local.agent("wait", move |_, _| {
        let _ = gate.lock().expect("nobody panics here").recv();
        Outcome::Completed(number(1))
    });
    let lane = LaneSpec {
        name: "one".into(),
        concurrency: 1,
        capacity: 2,
        timeout_ms: Some(30),
        ..LaneSpec::default()
    };
    let engine = open(&local, None, vec![lane]);
    let mut wait = task("wait", "wait", &[]);
    wait.lane = "one".into();
    let plan = plan(vec![wait]);
    let accepted: Vec<_> = (0..3).map(|_| start(&engine, &plan)).collect();
    let refused = engine.submit(Submit { block: false, ..request(&plan) }).expect("open");
    let error = refused.wait(SOON).expect("answered").expect_err("refused");
    assert_eq!(error.code, "lane.full");
    let waited = engine.submit(request(&plan)).expect("open");
    let error = waited.wait(SOON).expect("answered").expect_err("refused after its timeout");
    assert_eq!(error.code, "lane.full");
    drop(release);
    for handle in accepted {
        assert_eq!(ended(&handle), RunState::Completed);
    }
    assert_eq!(engine.stats().runs_submitted.load(Ordering::Relaxed), 3);
    engine.close(0);
}

#[test]
fn submits_that_wait_for_a_lane_are_bounded() {
    let local = Local::new();
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    local.agent("wait", move |_, _| {
        let _ = gate.lock().expect("nobody panics here").recv();
        Outcome::Completed(number(1))
    });
    let lane = LaneSpec { name: "one".into(), concurrency: 1, capacity: 1, ..LaneSpec::default() };
    let engine = open(&local, None, vec![lane]);
    let mut wait = task("wait", "wait", &[]);
    wait.lane = "one".into();
    let plan = plan(vec![wait]);
    let many = (0..65_536 + 2).map(|_| request(&plan)).collect();
    let many = engine.submit_many(many).expect("what comes together waits together");
    // The inbox is first come, first served.
    let refused = engine.submit(request(&plan)).expect("open").wait(SOON).expect("answered");
    assert_eq!(refused.expect_err("too many wait").code, "engine.busy");
    many.iter().for_each(Ticket::give_up);
    drop(release);
    engine.close(0);
}

#[test]
fn late_watchers_replay_every_event_in_order() {
    on_both_stores(|path| {
        let local = Local::new();
        local.agent("one", |_, _| Outcome::Completed(number(1)));
        let engine = open(&local, path, vec![]);
        let plan = plan(vec![task("a", "one", &[]), task("b", "one", &["a"])]);
        let handle = start(&engine, &plan);
        ended(&handle);
        let mut from = 0;
        let mut kinds = Vec::new();
        while !kinds.contains(&"run.completed") {
            let wait = Duration::from_secs(20);
            for fact in engine.facts(Some(handle.id()), from, 2, wait).expect("facts") {
                assert!(fact.seq >= from);
                from = fact.seq + u64::from(fact.span.map_or(1, |span| span.len));
                kinds.push(fact.kind.as_str());
            }
        }
        assert_eq!(
            kinds,
            [
                "run.submitted",
                "task.scheduled",
                "run.started",
                "task.started",
                "task.completed",
                "task.scheduled",
                "task.started",
                "task.completed",
                "run.completed"
            ]
        );
        engine.close(0);
    });
}

#[test]
fn an_id_that_exists_is_refused_or_answered_with_its_run() {
    on_both_stores(|path| {
        let local = Local::new();
        local.agent("one", |_, _| Outcome::Completed(number(1)));
        let engine = open(&local, path, vec![]);
        let plan = plan(vec![task("a", "one", &[])]);
        let handle = start(&engine, &plan);
        ended(&handle);
        let again = Submit { id: Some(handle.id()), ..request(&plan) };
        let error = engine.submit(again.clone()).expect("open").wait(SOON).expect("answered");
        assert_eq!(error.expect_err("refused").code, "run.conflict");
        let existing = Submit { on_conflict: OnConflict::Existing, ..again };
        let same = engine.submit(existing).expect("open").wait(SOON).expect("answered");
        assert_eq!(ended(&same.expect("the run that is there")), RunState::Completed);
        assert_eq!(engine.stats().runs_submitted.load(Ordering::Relaxed), 1);
        engine.close(0);
    });
}

#[test]
fn a_closed_engine_refuses_everything_with_one_code() {
    let local = Local::new();
    local.agent("one", |_, _| Outcome::Completed(number(1)));
    let engine = open(&local, None, vec![]);
    let plan = plan(vec![task("a", "one", &[])]);
    engine.close(0);
    engine.close(0);
    assert_eq!(engine.submit(request(&plan)).err().expect("refused").code, "engine.closed");
    assert_eq!(engine.lanes().expect_err("refused").code, "engine.closed");
}

#[test]
fn what_is_purged_is_unknown_in_memory_too() {
    let local = Local::new();
    local.agent("one", |_, _| Outcome::Completed(number(1)));
    let engine = open(&local, None, vec![]);
    let plan = plan(vec![task("a", "one", &[])]);
    let handles: Vec<_> = (0..3).map(|_| start(&engine, &plan)).collect();
    handles.iter().for_each(|handle| assert_eq!(ended(handle), RunState::Completed));
    assert_eq!(engine.purge(Some(handles[0].id()), Timestamp(0)).expect("purged"), 1);
    engine.get(handles[1].id()).expect("only the one named is forgotten");
    assert_eq!(engine.purge(None, Timestamp(u64::MAX)).expect("purged"), 2);
    for handle in &handles {
        assert_eq!(engine.get(handle.id()).expect_err("forgotten").code, "run.unknown");
        let facts = engine.facts(Some(handle.id()), 0, 9, Duration::MAX);
        assert_eq!(facts.expect_err("forgotten").code, "run.unknown");
    }
    engine.close(0);
}
