//! Permits that agents lend while they wait, with closures that say so as an agent's host does.

use super::*;
use crate::agent::{Batch, Report};
use crate::lane::LaneView;
use crate::model::{Millis, OnFull};

/// How many are inside at once, and the most there have been.
#[derive(Default)]
struct Gauge(AtomicU32, AtomicU32);

impl Gauge {
    fn pass(&self) {
        let now = self.0.fetch_add(1, Ordering::AcqRel) + 1;
        self.1.fetch_max(now, Ordering::AcqRel);
        std::thread::yield_now();
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
    fn most(&self) -> u32 {
        self.1.load(Ordering::Acquire)
    }
}

fn lane(concurrency: u32) -> LaneSpec {
    let (capacity, on_full) = (9_999, OnFull::Block);
    LaneSpec { name: "narrow".into(), concurrency, capacity, on_full, ..LaneSpec::default() }
}

fn in_narrow(agent: &str, timeout_ms: Option<Millis>) -> Task {
    Task { lane: "narrow".into(), timeout_ms, retry: quick(0), ..task("a", agent, &[]) }
}

/// A map of that many children.
fn many(local: &Arc<Local>, agent: &str, count: u32, timeout_ms: Option<Millis>) -> Arc<Plan> {
    local.resolver(move |_| {
        let items = Payload::bytes(vec![b'#'; count as usize]);
        Resolution::Items { items, count, key: None }
    });
    let items = Expr::Value(serde_json::json!([]));
    let each = Some(Each { param: "item".into(), items });
    plan(vec![Task { each, ..in_narrow(agent, timeout_ms) }])
}

fn view(engine: &Engine) -> LaneView {
    let lanes = engine.lanes().expect("open");
    lanes.into_iter().find(|view| view.name == "narrow").expect("declared")
}

fn until(mut is_so: impl FnMut() -> bool) {
    for _ in 0..20_000 {
        if is_so() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    panic!("it never comes");
}

fn is_free(engine: &Engine) {
    until(|| (view(engine).running, view(engine).lent) == (0, 0));
}

/// Dice of a call, from its task.
fn dice(batch: &Batch, index: u32, round: u32) -> u32 {
    let seed = batch.call.run.as_u128() as u64 ^ (u64::from(index) << 32) ^ u64::from(round);
    let bits = seed.wrapping_add(0x9E37_79B9_7F4A_7C15).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (bits >> 40) as u32
}

/// An agent that goes on and waits by turns, and never ends before it has done so often.
fn by_turns(local: &Arc<Local>, gauge: &Arc<Gauge>) {
    let (inside, host) = (Arc::clone(gauge), Arc::clone(local));
    let call = move |batch: &Batch, task: crate::model::TaskRef| {
        let (id, child) = (batch.id, task.index);
        for round in 0..6 {
            inside.pass();
            host.tell(vec![Report::Waiting { batch: id, child }]);
            if dice(batch, child, round).is_multiple_of(3) {
                std::thread::yield_now();
            }
            host.tell(vec![Report::Returning { batch: id, child }]);
            while !batch.may_go_on(child) {
                batch.wait_to_go_on(child, Duration::from_secs(20));
            }
        }
        inside.pass();
        Outcome::Completed(number(1))
    };
    local.coroutine("turns", call.clone());
    local.agent("turns on a thread", call);
}

#[test]
fn calls_of_one_batch_lend_and_take_back_each_its_own() {
    for concurrency in [1, 2, 5] {
        let (local, gauge) = (Local::new(), Arc::default());
        by_turns(&local, &gauge);
        let plan = many(&local, "turns", 12, None);
        let engine = open(&local, None, vec![lane(concurrency)]);
        let runs: Vec<_> = (0..4).map(|_| start(&engine, &plan)).collect();
        runs.iter().for_each(|run| assert_eq!(ended(run), RunState::Completed));
        assert!(gauge.most() <= concurrency, "{} of {concurrency}", gauge.most());
        is_free(&engine);
        engine.close(0);
    }
}

#[test]
fn whoever_is_cancelled_in_between_keeps_to_the_bound() {
    let (local, gauge) = (Local::new(), Arc::default());
    by_turns(&local, &gauge);
    let engine = open(&local, None, vec![lane(2)]);
    let (few, one) =
        (many(&local, "turns", 5, None), plan(vec![in_narrow("turns on a thread", None)]));
    let runs: Vec<_> =
        (0..20).map(|n| start(&engine, if n % 4 == 0 { &one } else { &few })).collect();
    runs.iter().step_by(3).for_each(|run| run.cancel("enough").expect("open"));
    runs.iter().for_each(|run| _ = ended(run));
    assert!(gauge.most() <= 2, "never one over");
    is_free(&engine);
    engine.close(0);
}

#[test]
fn nothing_is_left_lent_whatever_ends_a_call() {
    let local = Local::new();
    let (waits, waiting) = mpsc::channel();
    let (waits, host) = (Mutex::new(waits), Arc::clone(&local));
    local.coroutine("waits", move |batch, task| {
        let (id, child) = (batch.id, task.index);
        host.tell(vec![Report::Waiting { batch: id, child }]);
        // The test may have ended.
        let _ = waits.lock().expect("nobody panics here").send(());
        if child == 0 {
            // It ends without asking for its permit again, as an agent does that leaves a task behind.
            return Outcome::Completed(number(1));
        }
        batch.wait_to_go_on(child, Duration::from_secs(20));
        assert!(batch.may_go_on(child), "let go, or given a permit");
        // What was let go may ask all the same, and is answered.
        host.tell(vec![
            Report::Waiting { batch: id, child },
            Report::Returning { batch: id, child },
        ]);
        batch.wait_to_go_on(child, Duration::from_secs(20));
        assert!(batch.may_go_on(child));
        Outcome::Completed(number(1))
    });
    let engine = open(&local, None, vec![lane(4)]);
    let began = |n: usize| (0..n).for_each(|_| waiting.recv().expect("it begins"));
    let killed = start(&engine, &many(&local, "waits", 3, None));
    began(3);
    until(|| view(&engine).lent == 2);
    killed.kill("enough").expect("open");
    assert_eq!(ended(&killed), RunState::Cancelled);
    assert_eq!((view(&engine).running, view(&engine).lent), (0, 0));
    let late = start(&engine, &many(&local, "waits", 3, Some(30)));
    assert_eq!(ended(&late), RunState::Failed);
    is_free(&engine);
    engine.close(0);
}

#[test]
fn a_drain_is_answered_when_nothing_that_will_go_on_is_left() {
    let local = Local::new();
    let host = Arc::clone(&local);
    let (go, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    local.coroutine("waits", move |batch, task| {
        let (id, child) = (batch.id, task.index);
        host.tell(vec![Report::Waiting { batch: id, child }]);
        let _ = gate.lock().expect("nobody panics here").recv();
        host.tell(vec![Report::Returning { batch: id, child }]);
        batch.wait_to_go_on(child, Duration::from_secs(20));
        assert!(batch.may_go_on(child), "a paused lane lets go on what has begun");
        Outcome::Completed(number(1))
    });
    let engine = open(&local, None, vec![lane(1)]);
    let run = start(&engine, &plan(vec![in_narrow("waits", None)]));
    until(|| view(&engine).lent == 1);
    let drain = engine.drain_lane("narrow", None).expect("declared");
    assert_eq!(view(&engine).running, 0);
    assert!(drain.wait(Duration::ZERO).is_none(), "its agent will go on");
    drop(go);
    assert_eq!(ended(&run), RunState::Completed);
    assert!(drain.wait(Duration::from_secs(20)).is_some());
    engine.close(0);
}
