//! A store that refuses for a while.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::model::{
    Entry, EntryId, Error, Event, Fact, Forgetting, Record, Result, RunId, Timestamp, VectorModel,
};
use crate::store::{self, Copies, Filter, Store, Summary, View};

/// A store in memory that is full while it is told to be.
struct Full {
    inner: Arc<dyn Store>,
    appends_fail: AtomicBool,
    syncs_fail: AtomicBool,
    /// Only what tells of the start of a second task is refused.
    starts_fail: AtomicBool,
}

impl Full {
    fn new() -> Arc<Self> {
        Self::over(None)
    }
    fn over(path: Option<&Path>) -> Arc<Self> {
        let inner = store::open(path, &store::Options::default()).expect("a store");
        Arc::new(Self {
            inner,
            appends_fail: false.into(),
            syncs_fail: false.into(),
            starts_fail: false.into(),
        })
    }
    fn check(&self, fails: &AtomicBool) -> Result<()> {
        if fails.load(Ordering::Acquire) {
            return Err(Error::new("store.full", "no space left", "make room"));
        }
        Ok(())
    }
}

impl Store for Full {
    fn next_seq(&self) -> u64 {
        self.inner.next_seq()
    }
    fn epoch(&self) -> u64 {
        self.inner.epoch()
    }
    fn journal_bytes(&self) -> u64 {
        0
    }
    fn unfinished(&self) -> Result<Vec<RunId>> {
        self.inner.unfinished()
    }
    fn append(&self, records: &[Record]) -> Result<()> {
        self.check(&self.appends_fail)?;
        let starts = |event: &Event| matches!(event, Event::Started { span, .. } if span.node > 0);
        if records.iter().flat_map(|record| &record.events).any(starts) {
            self.check(&self.starts_fail)?;
        }
        self.inner.append(records)
    }
    fn sync(&self) -> Result<()> {
        self.check(&self.syncs_fail)?;
        self.inner.sync()
    }
    fn load(&self, run: RunId) -> Result<Option<Vec<Record>>> {
        self.inner.load(run)
    }
    fn facts(&self, run: Option<RunId>, from: u64, limit: usize) -> Result<Vec<Fact>> {
        self.inner.facts(run, from, limit)
    }
    fn summary(&self, run: RunId, before: u64) -> Result<Option<Summary>> {
        self.inner.summary(run, before)
    }
    fn list(&self, filter: &Filter, before: u64) -> Result<Vec<Summary>> {
        self.inner.list(filter, before)
    }
    fn view(&self, session: &str, look: &mut dyn FnMut(&dyn View) -> Result<()>) -> Result<()> {
        self.inner.view(session, look)
    }
    fn session_of(&self, id: EntryId) -> Result<Option<Arc<str>>> {
        self.inner.session_of(id)
    }
    fn sessions(&self, after: Option<&str>, limit: usize) -> Result<Vec<(Arc<str>, u64)>> {
        self.inner.sessions(after, limit)
    }
    fn copies(&self, session: &str) -> Result<Copies> {
        self.inner.copies(session)
    }
    fn copied(&self) -> Result<Vec<Arc<str>>> {
        self.inner.copied()
    }
    fn forgetting(&self, session: &str) -> Result<Option<Forgetting>> {
        self.inner.forgetting(session)
    }
    fn set_apart(&self) -> Result<Vec<Arc<str>>> {
        self.inner.set_apart()
    }
    fn unvectored(&self, after: Option<(&str, EntryId)>, limit: usize) -> Result<Vec<Arc<Entry>>> {
        self.inner.unvectored(after, limit)
    }
    fn unvectored_count(&self) -> Result<u64> {
        self.inner.unvectored_count()
    }
    fn vector_model(&self) -> Result<Option<VectorModel>> {
        self.inner.vector_model()
    }
    fn purge(&self, run: Option<RunId>, before: Timestamp) -> Result<u64> {
        self.inner.purge(run, before)
    }
    fn close(&self) -> Result<()> {
        self.inner.close()
    }
}

/// An engine that believes in a path, so that its runs are strict.
fn engine(store: &Arc<Full>, local: &Arc<Local>) -> Engine {
    let options = Options { path: Some("not/used".into()), ..Options::default() };
    let store = Arc::clone(store) as Arc<dyn Store>;
    Engine::start(options, store, |reports, _| local.connect(reports)).expect("the engine opens")
}

fn heals(pick: impl Fn(&Full) -> &AtomicBool) {
    let store = Full::new();
    let local = Local::new();
    let calls = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&calls);
    local.agent("one", move |_, _| {
        seen.fetch_add(1, Ordering::Relaxed);
        Outcome::Completed(number(1))
    });
    let engine = engine(&store, &local);
    let plan = plan(vec![task("a", "one", &[])]);
    pick(&store).store(true, Ordering::Release);

    let waiting = engine.submit(request(&plan)).expect("the inbox is open");
    while engine.stats().store_errors.load(Ordering::Relaxed) == 0 {
        std::thread::yield_now();
    }
    assert!(waiting.wait(Some(Duration::ZERO)).is_none(), "nothing is acknowledged");
    assert_eq!(calls.load(Ordering::Relaxed), 0, "no agent runs for what could be forgotten");
    let seen = engine.facts(None, 0, 9, Duration::ZERO).expect("facts");
    assert!(seen.is_empty(), "watchers see nothing that could be forgotten");
    let refused = engine.submit(request(&plan)).expect("the inbox is open");
    let refused = refused.wait(SOON).expect("answered at once").expect_err("refused");
    assert_eq!(refused.code, "store.full");
    let refused = engine.memory().memorize("s", vec![memory::fact("tea")]).expect_err("refused");
    assert_eq!(refused.code, "store.full");

    pick(&store).store(false, Ordering::Release);
    let handle = waiting.wait(SOON).expect("answered").expect("accepted after all");
    assert_eq!(ended(&handle), RunState::Completed);
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    engine.memory().memorize("s", vec![memory::fact("milk")]).expect("there is room again");
    assert_eq!(memory::texts(engine.memory(), "s"), ["milk"]);
    engine.close(0);
}

#[test]
fn a_full_store_stops_admission_and_heals_when_there_is_room() {
    heals(|store| &store.appends_fail);
}

#[test]
fn a_failed_sync_acknowledges_nothing_and_is_tried_again() {
    heals(|store| &store.syncs_fail);
}

#[test]
fn an_answer_that_waits_for_a_stalled_commit_is_given_when_the_engine_closes() {
    let store = Full::new();
    let local = Local::new();
    local.agent("one", |_, _| Outcome::Completed(number(1)));
    let engine = engine(&store, &local);
    let plan = plan(vec![task("a", "one", &[])]);
    let handle = start(&engine, &plan);
    ended(&handle);
    store.appends_fail.store(true, Ordering::Release);
    let same =
        Submit { id: Some(handle.id()), on_conflict: OnConflict::Existing, ..request(&plan) };
    // One message: the first stalls the commit that the second one's answer waits for.
    let tickets = engine.submit_many(vec![request(&plan), same]).expect("the inbox is open");
    engine.close(0);
    for ticket in tickets {
        let answer = ticket.wait(SOON).expect("answered");
        assert_eq!(answer.expect_err("refused").code, "engine.closed");
    }
}

/// What all views say of a run.
fn views(engine: &Engine, run: RunId) -> (Option<RunState>, Option<RunState>, Option<RunState>) {
    let handle = engine.get(run).ok();
    let seen = handle.as_ref().and_then(|handle| handle.inspect(|run| run.state()).ok());
    let all = Filter { limit: 9, ..Filter::default() };
    let listed = engine.list(&all).expect("a listing").into_iter().find(|line| line.run == run);
    (handle.map(|handle| handle.state()), seen, listed.map(|line| line.state))
}

#[test]
fn views_show_what_is_durable_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Full::over(Some(folder.path()));
    let local = Local::new();
    let (started, begun) = mpsc::channel::<()>();
    let (release, gate) = mpsc::channel::<()>();
    let (started, gate) = (Mutex::new(started), Mutex::new(gate));
    local.agent("wait", move |_, _| {
        let _ = started.lock().expect("nobody panics here").send(());
        let _ = gate.lock().expect("nobody panics here").recv();
        Outcome::Completed(number(1))
    });
    let engine = engine(&store, &local);
    let plan = plan(vec![task("a", "wait", &[])]);
    let handle = start(&engine, &plan);
    begun.recv().expect("the agent begins");
    let running = Some(RunState::Running);
    assert_eq!(views(&engine, handle.id()), (running, running, running));

    store.syncs_fail.store(true, Ordering::Release);
    drop(release);
    while engine.stats().store_errors.load(Ordering::Relaxed) == 0 {
        std::thread::yield_now();
    }
    // Its end is written and not synced: a power cut now would take it back.
    assert_eq!(views(&engine, handle.id()), (running, running, running));
    let task = handle.inspect(|run| run.node_state(0)).expect("state");
    assert_eq!(task, TaskState::Running);

    store.syncs_fail.store(false, Ordering::Release);
    let completed = Some(RunState::Completed);
    assert_eq!(ended(&handle), RunState::Completed);
    assert_eq!(views(&engine, handle.id()), (completed, completed, completed));
    engine.close(0);
}

#[test]
fn a_submit_that_waits_for_the_store_is_no_run_yet() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Full::over(Some(folder.path()));
    let local = Local::new();
    local.agent("one", |_, _| Outcome::Completed(number(1)));
    let engine = engine(&store, &local);
    store.syncs_fail.store(true, Ordering::Release);
    let waiting = engine.submit(request(&plan(vec![task("a", "one", &[])]))).expect("open");
    while engine.stats().store_errors.load(Ordering::Relaxed) == 0 {
        std::thread::yield_now();
    }
    assert_eq!(views(&engine, waiting.id()), (None, None, None));
    store.syncs_fail.store(false, Ordering::Release);
    let handle = waiting.wait(SOON).expect("answered").expect("accepted");
    assert_eq!(ended(&handle), RunState::Completed);
    engine.close(0);
}

#[test]
fn what_a_stalled_store_holds_up_runs_out_of_no_time_and_runs_once() {
    let (store, local) = (Full::new(), Local::new());
    let calls = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&calls);
    local.agent("one", |_, _| Outcome::Completed(number(1)));
    local.coroutine("many", move |batch, task| {
        seen.lock().expect("nobody panics here").push((task.index, batch.attempt));
        Outcome::Completed(number(1))
    });
    local.resolver(|_| {
        let items = Payload::bytes(vec![b'#'; 3]);
        Resolution::Items { items, count: 3, key: None }
    });
    let engine = engine(&store, &local);
    let items = Expr::Value(serde_json::json!([]));
    let many = Task {
        each: Some(Each { param: "item".into(), items }),
        timeout_ms: Some(150),
        retry: quick(3),
        ..task("b", "many", &["a"])
    };
    store.starts_fail.store(true, Ordering::Release);
    let handle = start(&engine, &plan(vec![task("a", "one", &[]), many]));
    // Tried five times with a pause between: several times what an attempt may take.
    while engine.stats().store_errors.load(Ordering::Relaxed) < 5 {
        std::thread::yield_now();
    }
    let timed_out = || engine.stats().attempts_timed_out.load(Ordering::Relaxed);
    assert_eq!(timed_out(), 0, "nothing has begun that could take too long");
    store.starts_fail.store(false, Ordering::Release);
    assert_eq!(ended(&handle), RunState::Completed);
    let mut calls = std::mem::take(&mut *calls.lock().expect("nobody panics here"));
    calls.sort_unstable();
    if timed_out() == 0 {
        assert_eq!(calls, [(0, 1), (1, 1), (2, 1)], "every call once");
    }
    engine.close(0);
}
