//! Timeouts, cancellation rung by rung, and what does not come back, with closures as agents.

use std::sync::atomic::Ordering;

use super::*;
use crate::agent::Batch;

/// An agent that hangs until it is let go, whatever it is told.
fn hangs(local: &Arc<Local>, name: &str) -> (mpsc::Receiver<()>, Arc<Release>) {
    let (begun, begins) = mpsc::channel();
    let release = Arc::new(Release::default());
    let held = Arc::clone(&release);
    local.agent(name, move |_, _| {
        // The test may have ended.
        let _ = begun.send(());
        held.wait();
        Outcome::Completed(number(1))
    });
    (begins, release)
}

#[derive(Default)]
struct Release(Mutex<bool>, std::sync::Condvar);

impl Release {
    fn wait(&self) {
        let open = self.0.lock().expect("nobody panics");
        drop(self.1.wait_while(open, |open| !*open).expect("nobody panics"));
    }
    fn open(&self) {
        *self.0.lock().expect("nobody panics") = true;
        self.1.notify_all();
    }
}

fn narrow() -> Vec<LaneSpec> {
    vec![LaneSpec { name: "default".into(), concurrency: 1, ..LaneSpec::default() }]
}

fn tuned(local: &Arc<Local>, grace: u64, stuck: u32) -> Engine {
    let options = Options {
        lanes: narrow(),
        cancel_grace: grace,
        stuck_threads_max: stuck,
        ..Options::default()
    };
    Engine::open(options, |reports| local.connect(reports)).expect("the engine opens")
}

fn code(handle: &Handle) -> Option<String> {
    let code = |run: &crate::run::Run| run.failure().map(|(_, failure)| failure.code.clone());
    handle.inspect(code).expect("a run")
}

/// Asks again until it is so; the bound is for a test that fails.
fn until(mut is_so: impl FnMut() -> bool) {
    for _ in 0..20_000 {
        if is_so() {
            return;
        }
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(1));
    }
    panic!("it never comes");
}

#[test]
fn a_task_that_waits_too_long_leaves_its_lane() {
    on_both_stores(|path| {
        let local = Local::new();
        let (begins, release) = hangs(&local, "hang");
        local.agent("one", |_, _| Outcome::Completed(number(1)));
        let engine = open(&local, path, narrow());
        let first = start(&engine, &plan(vec![task("a", "hang", &[])]));
        begins.recv().expect("it begins");
        let mut impatient = task("b", "one", &[]);
        impatient.queue_timeout_ms = Some(20);
        impatient.retry = quick(5);
        let second = start(&engine, &plan(vec![impatient]));
        assert_eq!(ended(&second), RunState::Failed);
        assert_eq!(code(&second).as_deref(), Some("task.queue_timeout"));
        let lane = engine.lanes().expect("open").into_iter().find(|lane| lane.name == "default");
        assert_eq!(lane.map(|lane| (lane.queued, lane.running)), Some((0, 1)));
        release.open();
        assert_eq!(ended(&first), RunState::Completed);
        engine.close(1_000);
    });
}

#[test]
fn silence_ends_an_attempt_and_signs_of_life_hold_that_off() {
    let local = Local::new();
    local.agent("lively", |batch: &Batch, task| {
        let until = std::time::Instant::now() + Duration::from_millis(400);
        while std::time::Instant::now() < until {
            batch.beat(task.index);
            std::thread::park_timeout(Duration::from_millis(1));
        }
        Outcome::Completed(number(2))
    });
    let (_begins, release) = hangs(&local, "silent");
    let engine = tuned(&local, 1_000, 8);
    let mut lively = task("a", "lively", &[]);
    lively.idle_timeout_ms = Some(300);
    assert_eq!(ended(&start(&engine, &plan(vec![lively]))), RunState::Completed);
    let mut silent = task("a", "silent", &[]);
    silent.idle_timeout_ms = Some(30);
    silent.retry = quick(0);
    let run = start(&engine, &plan(vec![silent]));
    assert_eq!(ended(&run), RunState::Failed);
    assert_eq!(code(&run).as_deref(), Some("task.idle_timeout"));
    release.open();
    engine.close(1_000);
}

#[test]
fn the_total_time_fences_what_runs() {
    on_both_stores(|path| {
        let local = Local::new();
        let (_begins, release) = hangs(&local, "hang");
        let engine = open(&local, path, narrow());
        let mut bounded = task("a", "hang", &[]);
        // Long enough for the attempt to begin, also on a machine that has much to do.
        bounded.total_timeout_ms = Some(500);
        bounded.retry = quick(5);
        let run = start(&engine, &plan(vec![bounded]));
        assert_eq!(ended(&run), RunState::Failed);
        assert_eq!(code(&run).as_deref(), Some("task.total_timeout"));
        assert_eq!(engine.pulse().expect("open").stuck.len(), 1);
        release.open();
        until(|| engine.pulse().expect("open").stuck.is_empty());
        assert_eq!(engine.stats().results_late.load(Ordering::Relaxed), 1);
        engine.close(1_000);
    });
}

#[test]
fn a_run_timeout_counts_on_while_the_run_waits_and_the_engine_is_closed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let local = Local::new();
    let tasks = vec![task("a", "missing", &[])];
    let late =
        Workflow { name: "late".into(), tasks, timeout_ms: Some(300), ..Workflow::default() };
    let engine = open(&local, Some(folder.path()), vec![]);
    let id = start(&engine, &with(late)).id();
    engine.close(0);
    let engine = open(&local, Some(folder.path()), vec![]);
    let run = engine.get(id).expect("it is there");
    assert_eq!(ended(&run), RunState::Failed);
    assert_eq!(run.inspect(crate::run::Run::code).expect("a run"), Some("run.timeout"));
    engine.close(0);
}

#[test]
fn an_attempt_that_ignores_its_cancellation_is_fenced_after_the_grace() {
    let local = Local::new();
    let (begins, release) = hangs(&local, "hang");
    local.agent("one", |_, _| Outcome::Completed(number(1)));
    let engine = tuned(&local, 30, 8);
    let run = start(&engine, &plan(vec![task("a", "hang", &[])]));
    begins.recv().expect("it begins");
    run.cancel("enough").expect("open");
    assert_eq!(ended(&run), RunState::Cancelled);
    assert_eq!(ended(&start(&engine, &plan(vec![task("a", "one", &[])]))), RunState::Completed);
    let pulse = engine.pulse().expect("open");
    let stuck: Vec<_> = pulse.stuck.iter().map(|call| (&*call.agent, &*call.lane)).collect();
    assert_eq!(stuck, [("hang", "default")]);
    release.open();
    until(|| engine.pulse().expect("open").stuck.is_empty());
    engine.close(1_000);
}

#[test]
fn a_killed_run_has_no_grace() {
    let local = Local::new();
    let (begins, release) = hangs(&local, "hang");
    let engine = tuned(&local, 1_000_000, 8);
    let run = start(&engine, &plan(vec![task("a", "hang", &[]), task("b", "hang", &["a"])]));
    begins.recv().expect("it begins");
    run.kill("now").expect("open");
    assert_eq!(run.state(), RunState::Cancelled);
    run.kill("again").expect("an ended run stays as it is");
    release.open();
    engine.close(1_000);
}

#[test]
fn a_lane_with_too_many_stuck_threads_waits_for_one_to_come_back() {
    let local = Local::new();
    let (_begins, release) = hangs(&local, "hang");
    let engine = tuned(&local, 30, 2);
    let mut doomed = task("a", "hang", &[]);
    doomed.timeout_ms = Some(10);
    doomed.retry = quick(0);
    let doomed = plan(vec![doomed]);
    for _ in 0..2 {
        assert_eq!(ended(&start(&engine, &doomed)), RunState::Failed);
    }
    let pulse = engine.pulse().expect("open");
    assert_eq!(pulse.held, [Held { lane: "default".into(), stuck: 2 }]);
    local.agent("one", |_, _| Outcome::Completed(number(1)));
    let waits = start(&engine, &plan(vec![task("a", "one", &[])]));
    let state = waits.inspect(|run| run.node_state(0)).expect("a run");
    assert_eq!(state, TaskState::Scheduled, "visible, and not started");
    release.open();
    assert_eq!(ended(&waits), RunState::Completed);
    assert_eq!(engine.pulse().expect("open").held, []);
    engine.close(1_000);
}

#[test]
fn everybody_who_closes_hears_the_same() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let local = Local::new();
    let (begins, release) = hangs(&local, "hang");
    let engine = open(&local, Some(folder.path()), vec![]);
    start(&engine, &plan(vec![task("a", "hang", &[])]));
    begins.recv().expect("it begins");
    let closers: Vec<_> = (0..4)
        .map(|n| {
            let engine = engine.clone();
            // The last one hurries.
            std::thread::spawn(move || engine.close(if n == 3 { 50 } else { 1_000_000 }))
        })
        .collect();
    let heard: Vec<Closed> = closers.into_iter().map(|c| c.join().expect("no panic")).collect();
    assert!(heard.iter().all(|closed| *closed == heard[0]), "{heard:?}");
    assert_eq!((heard[0].interrupted, heard[0].unfinished), (1, 1));
    assert_eq!(engine.close(0), heard[0]);
    release.open();
}
