//! Lanes on a whole engine, from many threads.

use std::thread;

use super::*;
use crate::agent::{Batch, Report, Reports};
use crate::model::{OnFull, Rate};

fn lane(concurrency: u32, capacity: u32, on_full: OnFull) -> LaneSpec {
    LaneSpec { name: "narrow".into(), concurrency, capacity, on_full, ..LaneSpec::default() }
}

fn in_narrow(agent: &str) -> Task {
    Task { lane: "narrow".into(), retry: quick(0), ..task("a", agent, &[]) }
}

/// Counts how many are inside at once, and the most there ever were.
#[derive(Default)]
struct Gauge(AtomicU32, AtomicU32);

impl Gauge {
    fn enter(&self) {
        let inside = self.0.fetch_add(1, Ordering::AcqRel) + 1;
        self.1.fetch_max(inside, Ordering::AcqRel);
    }
    fn leave(&self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[test]
fn never_one_over_under_64_submitters() {
    for on_full in [OnFull::Block, OnFull::DropNewest, OnFull::DropOldest] {
        let local = Local::new();
        let gauge = Arc::new(Gauge::default());
        let inside = Arc::clone(&gauge);
        local.agent("work", move |_, _| {
            inside.enter();
            thread::yield_now();
            inside.leave();
            Outcome::Completed(number(1))
        });
        let engine = open(&local, None, vec![lane(3, 5, on_full)]);
        let plan = plan(vec![in_narrow("work")]);
        let runs = |engine: &Engine| -> Vec<RunState> {
            (0..10).map(|_| ended(&start(engine, &plan))).collect()
        };
        let ends: Vec<RunState> = thread::scope(|scope| {
            let submitters: Vec<_> = (0..64).map(|_| scope.spawn(|| runs(&engine))).collect();
            submitters.into_iter().flat_map(|one| one.join().expect("no panic")).collect()
        });
        let completed = ends.iter().filter(|&&end| end == RunState::Completed).count() as u64;
        assert!(gauge.1.load(Ordering::Acquire) <= 3, "{:?} at once", gauge.1);
        let lanes = engine.lanes().expect("open");
        let view = lanes.iter().find(|view| view.name == "narrow").expect("declared");
        let counts = view.counts;
        assert_eq!(counts.offered, counts.accepted + counts.redirected + counts.dropped);
        assert_eq!((counts.offered, view.backlog, view.running), (640, 0, 0));
        assert_eq!((counts.granted, counts.accepted), (completed, completed));
        engine.close(0);
    }
}

#[test]
fn a_dropped_run_fails_and_says_so() {
    on_both_stores(|path| {
        let local = Local::new();
        let (go, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        local.agent("work", move |_, _| {
            let _ = wait.lock().expect("not poisoned").recv();
            Outcome::Completed(number(1))
        });
        let engine = open(&local, path, vec![lane(1, 1, OnFull::DropNewest)]);
        let plan = plan(vec![in_narrow("work")]);
        // One runs, one waits, one is too many.
        let handles: Vec<_> = (0..3).map(|_| start(&engine, &plan)).collect();
        assert_eq!(ended(&handles[2]), RunState::Failed);
        let code = handles[2].inspect(|run| run.failure().map(|(_, f)| f.code.clone()));
        assert_eq!(code.expect("there").as_deref(), Some("lane.dropped"));
        let facts = engine.facts(Some(handles[2].id()), 0, 99, Duration::ZERO).expect("open");
        let kinds: Vec<_> = facts.iter().map(|fact| fact.kind.as_str()).collect();
        assert_eq!(kinds[..3], ["run.submitted", "lane.dropped", "task.failed"]);
        drop(go);
        assert_eq!(ended(&handles[0]), RunState::Completed);
        assert_eq!(ended(&handles[1]), RunState::Completed);
        engine.close(0);
    });
}

#[test]
fn a_full_lane_redirects_and_the_journal_knows() {
    on_both_stores(|path| {
        let local = Local::new();
        let (go, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        local.agent("work", move |batch, _| {
            let _ = wait.lock().expect("not poisoned").recv();
            let lane = batch.lane.as_ref().expect("it runs in a lane");
            Outcome::Completed(number(lane.lane.len() as u8))
        });
        let narrow = lane(1, 1, OnFull::Redirect("elsewhere".into()));
        let other = LaneSpec { name: "elsewhere".into(), ..lane(9, 9, OnFull::Block) };
        let engine = open(&local, path, vec![narrow, other]);
        let plan = plan(vec![in_narrow("work")]);
        let handles: Vec<_> = (0..3).map(|_| start(&engine, &plan)).collect();
        drop(go);
        handles.iter().for_each(|handle| assert_eq!(ended(handle), RunState::Completed));
        let result = handles[2].inspect(|run| run.result_of(0)).expect("there");
        assert!(matches!(result, TaskResult::One(p) if as_number(&p) == "elsewhere".len() as u8));
        let facts = engine.facts(Some(handles[2].id()), 0, 99, Duration::ZERO).expect("open");
        assert!(facts.iter().any(|fact| fact.kind.as_str() == "lane.redirected"));
        engine.close(0);
    });
}

#[test]
fn a_pause_asked_for_costs_no_retry_and_holds_the_lane() {
    let local = Local::new();
    let calls = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&calls);
    local.agent("work", move |_, _| {
        if seen.fetch_add(1, Ordering::AcqRel) < 5 {
            let mut failure = Failure::new(FailureKind::Exception, "task.exception", "slowly");
            failure.retry_after = Some(2);
            return Outcome::Failed(Box::new(failure));
        }
        Outcome::Completed(number(1))
    });
    let rate = Some(Rate { units: 1_000, per_ms: 1, burst: 1_000 });
    let engine = open(&local, None, vec![LaneSpec { rate, ..lane(1, 9, OnFull::Block) }]);
    let handle = start(&engine, &plan(vec![in_narrow("work")]));
    assert_eq!(ended(&handle), RunState::Completed, "there were no retries to spend");
    assert_eq!(calls.load(Ordering::Acquire), 6);
    engine.close(0);
}

#[test]
fn who_lent_a_permit_has_one_again_before_it_goes_on() {
    let local = Local::new();
    let gauge = Arc::new(Gauge::default());
    let reports: Arc<Mutex<Option<Arc<dyn Reports>>>> = Arc::default();
    let (inside, through) = (Arc::clone(&gauge), Arc::clone(&reports));
    let tell = move |batch: &Batch, returning: bool| {
        let (batch, child) = (batch.id, 0);
        let report = match returning {
            true => Report::Returning { batch, child },
            false => Report::Waiting { batch, child },
        };
        through.lock().expect("not poisoned").as_ref().expect("open").report(vec![report]);
    };
    local.agent("parent", move |batch, _| {
        for _ in 0..20 {
            inside.enter();
            thread::yield_now();
            inside.leave();
            tell(batch, false);
            thread::yield_now();
            tell(batch, true);
            batch.wait_to_go_on(0, Duration::from_secs(20));
            assert!(batch.may_go_on(0), "somebody ends some time");
        }
        Outcome::Completed(number(1))
    });
    let options = Options { lanes: vec![lane(2, 99, OnFull::Block)], ..Options::default() };
    let connect = |through: Arc<dyn Reports>| {
        *reports.lock().expect("not poisoned") = Some(Arc::clone(&through));
        local.connect(through)
    };
    let engine = Engine::open(options, connect).expect("the engine opens");
    let plan = plan(vec![in_narrow("parent")]);
    let handles: Vec<_> = (0..12).map(|_| start(&engine, &plan)).collect();
    handles.iter().for_each(|handle| assert_eq!(ended(handle), RunState::Completed));
    assert!(gauge.1.load(Ordering::Acquire) <= 2, "never one over");
    reports.lock().expect("not poisoned").take();
    engine.close(0);
}

/// An agent that ends when the test lets it.
fn gated(local: &Arc<Local>) -> mpsc::Sender<()> {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    local.agent("work", move |_, _| {
        let _ = wait.lock().expect("not poisoned").recv();
        Outcome::Completed(number(1))
    });
    go
}

fn view(engine: &Engine, name: &str) -> crate::lane::LaneView {
    let lanes = engine.lanes().expect("open");
    lanes.into_iter().find(|view| view.name == name).expect("declared")
}

#[test]
fn a_timeout_given_to_a_lane_later_holds_behind_those_that_wait_for_ever() {
    let local = Local::new();
    let go = gated(&local);
    let engine = open(&local, None, vec![lane(1, 1, OnFull::Block)]);
    let plan = plan(vec![in_narrow("work")]);
    let _there = [start(&engine, &plan), start(&engine, &plan)];
    let patient = engine.submit(request(&plan)).expect("the inbox is open");
    let limits = LaneSpec { timeout_ms: Some(1), ..lane(1, 1, OnFull::Block) };
    engine.change_lane(limits).expect("sound limits");
    let hasty = engine.submit(request(&plan)).expect("the inbox is open");
    let answer = hasty.wait(SOON).expect("answered in time");
    assert_eq!(answer.expect_err("its time is over").code, "lane.full");
    assert!(patient.wait(Some(Duration::ZERO)).is_none(), "it has no timeout");
    drop(go);
    let patient = patient.wait(SOON).expect("answered").expect("accepted");
    assert_eq!(ended(&patient), RunState::Completed);
    engine.close(0);
}

#[test]
fn who_waited_for_one_lane_waits_for_the_next_that_is_full() {
    let local = Local::new();
    let _go = gated(&local);
    let wide = LaneSpec { name: "wide".into(), ..lane(1, 1, OnFull::Block) };
    let engine = open(&local, None, vec![lane(1, 1, OnFull::Block), wide]);
    let in_wide = |id: &str| Task { lane: "wide".into(), ..task(id, "work", &[]) };
    let narrow = plan(vec![in_narrow("work")]);
    let there = [start(&engine, &narrow), start(&engine, &narrow)];
    let wide = plan(vec![in_wide("a")]);
    let _also = [start(&engine, &wide), start(&engine, &wide)];
    let both = plan(vec![in_narrow("work"), in_wide("b")]);
    let waits = engine.submit(request(&both)).expect("the inbox is open");
    // The one that is queued goes: there is a place in one of the two lanes.
    there[1].cancel("enough").expect("open");
    assert_eq!(ended(&there[1]), RunState::Cancelled);
    assert_eq!(view(&engine, "narrow").queued, 0);
    assert_eq!(view(&engine, "wide").backlog, 0, "nobody was taken in without a place");
    assert!(waits.wait(Some(Duration::ZERO)).is_none(), "it waits for the other lane");
    assert_eq!(start(&engine, &narrow).state(), RunState::Pending, "it keeps nobody out meanwhile");
    engine.close(0);
    let answer = waits.wait(SOON).expect("answered when the engine closes");
    assert_eq!(answer.expect_err("closed").code, "engine.closed");
}

#[test]
fn free_permits_are_given_before_anything_is_dropped_however_short_the_calls() {
    let local = Local::new();
    let (go, gate) = mpsc::channel::<()>();
    let (gate, host) = (Mutex::new(gate), Arc::clone(&local));
    local.agent("work", move |batch, task| {
        if task.node == 0 {
            // Of this length a few at a time would do, were nobody dropped for it.
            let outcomes = vec![Outcome::Completed(number(1))];
            let (batch, lo, busy_ns) = (batch.id, task.index, 40_000);
            host.tell(vec![Report::Done { batch, lo, outcomes, busy_ns }]);
        } else {
            let _ = gate.lock().expect("not poisoned").recv();
        }
        Outcome::Completed(number(1))
    });
    local.resolver(|_| {
        let items = Payload::bytes(vec![b'#'; 40]);
        Resolution::Items { items, count: 40, key: None }
    });
    let items = Expr::Value(serde_json::json!([]));
    let each = Some(Each { param: "item".into(), items });
    let deps = vec!["a".into()];
    let many = Task { id: "many".into(), each, deps, ..in_narrow("work") };
    let engine = open(&local, None, vec![lane(64, 1, OnFull::DropNewest)]);
    let handle = start(&engine, &plan(vec![in_narrow("work"), many]));
    while view(&engine, "narrow").running < 40 {
        assert_eq!(view(&engine, "narrow").counts.dropped, 0);
        std::thread::yield_now();
    }
    drop(go);
    assert_eq!(ended(&handle), RunState::Completed);
    engine.close(0);
}

#[test]
fn a_submit_that_is_withdrawn_while_it_waits_is_forgotten_at_once() {
    let local = Local::new();
    let go = gated(&local);
    let patient = LaneSpec { timeout_ms: None, ..lane(1, 1, OnFull::Block) };
    let engine = open(&local, None, vec![patient]);
    let plan = plan(vec![in_narrow("work")]);
    let there = [start(&engine, &plan), start(&engine, &plan)];
    let waits = engine.submit(request(&plan)).expect("the inbox is open");
    let cell = Arc::downgrade(&waits.cell);
    // An answer comes after what was asked before it: the submit waits by now.
    assert_eq!(view(&engine, "narrow").queued, 1);
    waits.give_up();
    drop(waits);
    while cell.strong_count() > 0 {
        std::thread::yield_now();
    }
    assert_eq!(view(&engine, "narrow").queued, 1, "the lane is as full as before");
    drop(go);
    there.iter().for_each(|run| assert_eq!(ended(run), RunState::Completed));
    engine.close(0);
}
