//! Runs that an engine cannot go on with, and records that a store will never take.

use super::*;
use crate::engine::inbox::Message;
use crate::model::{Event, Opaque, Record, RunId, Submitted};
use crate::store::{self, Filter};

fn ok(local: &Arc<Local>) {
    local.agent("ok", |_, _| Outcome::Completed(number(1)));
}

/// Submits a run that nobody can go on with, straight into the store.
fn plant(path: &Path, id: u128, workflow: Workflow) -> RunId {
    let store = store::open(Some(path), &store::Options::default()).expect("a store");
    let run = RunId::from_u128(id);
    let submitted = Submitted {
        definition: *blake3::hash(&id.to_le_bytes()).as_bytes(),
        workflow: Some(Arc::new(workflow)),
        input: number(0),
        priority: 0,
        durability: crate::model::Durability::Strict,
        tags: vec!["old".into()],
        session: None,
        weight: 1,
        conduct: crate::model::Conduct::default(),
        memory: Default::default(),
        trace_id: "0".repeat(32),
        at: Timestamp(1),
    };
    let events = vec![Event::Submitted(Box::new(submitted))];
    let record = Record { run, seq: store.next_seq(), at: Timestamp(1), events };
    store.append(&[record]).expect("appended");
    store.sync().expect("synced");
    store.close().expect("closed");
    run
}

/// A workflow that this version refuses.
fn refused() -> Workflow {
    let tasks = vec![task("a", "ok", &["gone"])];
    Workflow { name: "old".into(), tasks, ..Workflow::default() }
}

fn listed(engine: &Engine, state: RunState) -> Vec<RunId> {
    let filter = Filter { state: Some(state), limit: 9, ..Filter::default() };
    engine.list(&filter).expect("a listing").iter().map(|line| line.run).collect()
}

fn gauge(engine: &Engine) -> u64 {
    engine.stats().runs_incompatible.load(Ordering::Relaxed)
}

#[test]
fn a_run_that_cannot_be_replayed_is_parked_and_the_engine_opens() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bad = plant(folder.path(), 7, refused());
    let good =
        Workflow { name: "good".into(), tasks: vec![task("a", "ok", &[])], ..Workflow::default() };
    let good = plant(folder.path(), 8, good);
    let local = Local::new();
    ok(&local);
    let engine = open(&local, Some(folder.path()), vec![]);
    assert_eq!(engine.recovered(), 1, "the others go on");
    assert_eq!(ended(&engine.get(good).expect("known")), RunState::Completed);

    let handle = engine.get(bad).expect("it is known");
    assert_eq!(handle.state(), RunState::Incompatible);
    assert_eq!(handle.wait(SOON).expect_err("it will not end").code, "run.incompatible");
    let error = handle.inspect(|run| run.state()).expect_err("it cannot be replayed");
    assert!(error.message.contains("gone"), "the reason is told: {}", error.message);
    assert!(error.help.contains("cancel"), "and the ways out: {}", error.help);
    assert_eq!(listed(&engine, RunState::Incompatible), [bad]);
    assert_eq!(listed(&engine, RunState::Pending), [], "it is not two things");
    let all = engine.list(&Filter { limit: 9, ..Filter::default() }).expect("a listing");
    assert_eq!(
        all.iter().map(|l| l.state).collect::<Vec<_>>(),
        [RunState::Completed, RunState::Incompatible]
    );
    assert_eq!(gauge(&engine), 1);
    let taken = Submit { id: Some(bad), ..request(&plan(vec![task("a", "ok", &[])])) };
    let taken = engine.submit(taken).expect("open").wait(SOON).expect("answered");
    assert_eq!(taken.expect_err("its id is taken").code, "run.conflict");
    assert_eq!(engine.close(0).unfinished, 1);
}

#[test]
fn a_run_that_cannot_be_replayed_can_be_cancelled_and_purged() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (one, two) = (plant(folder.path(), 7, refused()), plant(folder.path(), 8, refused()));
    let local = Local::new();
    let engine = open(&local, Some(folder.path()), vec![]);
    let handle = engine.get(one).expect("known");
    handle.cancel("enough").expect("cancelled");
    assert!(handle.wait(SOON).expect("it is over"));
    assert_eq!(handle.state(), RunState::Cancelled);
    assert_eq!(listed(&engine, RunState::Cancelled), [one]);
    assert_eq!(engine.purge(None, Timestamp(1)).expect("purged"), 0, "only when it is named");
    assert_eq!(engine.purge(Some(two), Timestamp(0)).expect("purged"), 1);
    assert_eq!(engine.get(two).expect_err("forgotten").code, "run.unknown");
    assert_eq!(gauge(&engine), 0);
    engine.close(0);

    let engine = open(&local, Some(folder.path()), vec![]);
    assert_eq!(engine.recovered(), 0);
    assert_eq!(listed(&engine, RunState::Incompatible), []);
    let handle = engine.get(one).expect("known");
    assert_eq!(handle.state(), RunState::Cancelled);
    let error = handle.inspect(|run| run.state()).expect_err("it still cannot be replayed");
    assert_eq!(error.code, "run.incompatible");
    engine.close(0);
}

#[test]
fn a_run_that_cannot_be_replayed_is_cancelled_once_however_often_it_is_asked_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = plant(folder.path(), 7, refused());
    let local = Local::new();
    let engine = open(&local, Some(folder.path()), vec![]);
    // One message: nothing of it is durable before all have been heard.
    let (reply, answers) = mpsc::sync_channel(9);
    let asked: Vec<_> = (0..3)
        .map(|n| {
            let (reason, reply) = (format!("reason {n}"), reply.clone());
            match n {
                2 => Message::Kill { run, reason, reply },
                _ => Message::Cancel { run, reason, reply },
            }
        })
        .collect();
    // The owner is held in an answer, so that all come in one turn.
    let (go, hold) = mpsc::channel::<()>();
    let (tell, held) = mpsc::channel();
    let look = Box::new(move |_: Option<&crate::run::Run>| {
        tell.send(()).expect("the test listens");
        let _ = hold.recv();
    });
    engine.shared.inbox.push(Message::Inspect { run, look }).expect("open");
    held.recv().expect("the owner is held");
    asked.into_iter().for_each(|ask| engine.shared.inbox.push(ask).expect("open"));
    drop(go);
    (0..3).for_each(|_| answers.recv().expect("answered").expect("cancelled"));
    let handle = engine.get(run).expect("known");
    assert!(handle.wait(SOON).expect("it is over"));
    assert_eq!(engine.stats().runs_cancelled.load(Ordering::Relaxed), 1);
    let facts = engine.facts(Some(run), 0, 99, Duration::ZERO).expect("open");
    let ends = facts.iter().filter(|fact| fact.kind.as_str() == "run.cancelled").count();
    assert_eq!(ends, 1, "{facts:?}");
    engine.close(0);
}

#[test]
fn a_run_that_cannot_be_replayed_can_be_killed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = plant(folder.path(), 7, refused());
    let local = Local::new();
    let engine = open(&local, Some(folder.path()), vec![]);
    let handle = engine.get(run).expect("known");
    handle.kill("enough").expect("killed");
    assert!(handle.wait(SOON).expect("it is over"));
    assert_eq!(handle.state(), RunState::Cancelled);
    assert_eq!(listed(&engine, RunState::Cancelled), [run]);
    assert_eq!(gauge(&engine), 0);
    engine.close(0);
}

#[test]
fn what_a_run_misses_is_told_and_all_views_agree() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut far = task("far", "ok", &[]);
    far.lane = "elsewhere".into();
    let far = Workflow { name: "far".into(), tasks: vec![far], ..Workflow::default() };
    let far = plant(folder.path(), 7, far);
    let mixed = vec![task("here", "ok", &[]), task("gone", "missing", &[])];
    let mixed = Workflow { name: "mixed".into(), tasks: mixed, ..Workflow::default() };
    let mixed = plant(folder.path(), 8, mixed);
    let local = Local::new();
    ok(&local);
    let engine = open(&local, Some(folder.path()), vec![]);
    let handle = engine.get(mixed).expect("known");
    while handle.inspect(|run| run.node_state(0)).expect("state") != TaskState::Completed {
        std::thread::yield_now();
    }
    // Its other task has run, and it still waits.
    assert_eq!(handle.state(), RunState::Incompatible);
    assert_eq!(listed(&engine, RunState::Incompatible), [mixed, far]);
    assert_eq!(listed(&engine, RunState::Running), []);
    assert_eq!(engine.missing_agents().expect("open"), ["missing"]);
    assert_eq!(engine.missing_lanes().expect("open"), ["elsewhere"]);
    assert_eq!(gauge(&engine), 2);

    // Looking again changes nothing while nothing is there.
    engine.wake();
    assert_eq!(engine.missing_agents().expect("open"), ["missing"]);
    assert_eq!(handle.state(), RunState::Incompatible);
    local.agent("missing", |_, _| Outcome::Completed(number(2)));
    engine.wake();
    assert_eq!(ended(&handle), RunState::Completed);

    // A workflow brings the lane.
    let lanes = vec![LaneSpec { name: "elsewhere".into(), ..LaneSpec::default() }];
    let tasks = vec![task("a", "ok", &[])];
    let brings = Workflow { name: "brings".into(), lanes, tasks, ..Workflow::default() };
    start(&engine, &with(brings));
    assert_eq!(ended(&engine.get(far).expect("known")), RunState::Completed);
    assert_eq!((gauge(&engine), listed(&engine, RunState::Incompatible)), (0, vec![]));
    engine.close(0);
}

#[test]
fn a_cancelled_run_waits_for_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tasks = vec![task("gone", "missing", &[])];
    let run = plant(folder.path(), 7, Workflow { name: "w".into(), tasks, ..Workflow::default() });
    let local = Local::new();
    let engine = open(&local, Some(folder.path()), vec![]);
    let handle = engine.get(run).expect("known");
    assert_eq!(handle.state(), RunState::Incompatible);
    assert_eq!(engine.purge(Some(run), Timestamp(0)).expect("no error"), 0, "it may yet go on");
    handle.cancel("enough").expect("open");
    assert_eq!(ended(&handle), RunState::Cancelled);
    assert_eq!(engine.missing_agents().expect("open"), Vec::<String>::new());
    assert_eq!(gauge(&engine), 0);
    engine.close(0);
}

/// A value that no journal takes.
struct Live;

impl Opaque for Live {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

fn live() -> Payload {
    Payload::Object(Arc::new(Live))
}

#[test]
fn a_result_that_cannot_be_written_fails_its_run_and_no_other() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let local = Local::new();
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    ok(&local);
    local.agent("live", |_, _| Outcome::Completed(live()));
    local.agent("wait", move |_, _| {
        let _ = gate.lock().expect("nobody panics here").recv();
        Outcome::Completed(number(1))
    });
    let engine = open(&local, Some(folder.path()), vec![]);
    let waiting = start(&engine, &plan(vec![task("w", "wait", &[]), task("after", "ok", &["w"])]));
    let tasks =
        vec![task("first", "ok", &[]), task("bad", "live", &["first"]), task("c", "ok", &["bad"])];
    let bad = start(&engine, &plan(tasks));
    assert_eq!(ended(&bad), RunState::Failed);
    let (code, states) =
        bad.inspect(|run| (run.code(), [0, 1, 2].map(|node| run.node_state(node)))).expect("state");
    assert_eq!(code, Some("store.unwritable"));
    assert_eq!(states, [TaskState::Completed, TaskState::Cancelled, TaskState::Cancelled]);
    drop(release);
    assert_eq!(ended(&waiting), RunState::Completed);
    assert_eq!(ended(&start(&engine, &plan(vec![task("a", "ok", &[])]))), RunState::Completed);
    let lanes = engine.lanes().expect("open");
    assert!(lanes.iter().all(|lane| lane.running == 0), "every permit is back: {lanes:?}");
    let id = bad.id();
    assert_eq!(engine.close(0).unfinished, 0);
    let engine = open(&local, Some(folder.path()), vec![]);
    assert_eq!(engine.get(id).expect("known").state(), RunState::Failed, "it is written");
    engine.close(0);
}

#[test]
fn an_input_that_cannot_be_written_refuses_its_submit_and_no_other() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let local = Local::new();
    ok(&local);
    let engine = open(&local, Some(folder.path()), vec![]);
    let plan = plan(vec![task("a", "ok", &[])]);
    let bad = Submit { input: live(), ..request(&plan) };
    let tickets = engine.submit_many(vec![request(&plan), bad, request(&plan)]).expect("open");
    let answers: Vec<_> = tickets.iter().map(|t| t.wait(SOON).expect("answered")).collect();
    let [Ok(one), Err(error), Ok(two)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(error.code, "store.unwritable");
    assert_eq!((ended(one), ended(two)), (RunState::Completed, RunState::Completed));
    assert_eq!(engine.get(tickets[1].id()).expect_err("never accepted").code, "run.unknown");
    assert_eq!(engine.stats().runs_live.load(Ordering::Relaxed), 0);
    engine.close(0);
}
