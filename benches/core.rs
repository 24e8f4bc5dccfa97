//! The Rust half alone: how fast are the state machine, the compiler and the engine without Python?
//!
//! `cargo bench --bench core [-- NAME…] [--quick]`. Every measurement runs in a process of its own, so
//! that its memory is its own; one line each: what, how many a second, how much memory.

use std::collections::HashMap;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use goclaw::agent::{Batch, Executor, NodeCall, Outcome, Report, Reports, Resolution};
use goclaw::engine::{Engine, OnConflict, Options, Submit};
use goclaw::model::{
    AgentInfo, Durability, Each, Expr, Isolation, LaneSpec, Millis, Payload, RunId, RunState, Span,
    Style, Submitted, Task, Timestamp, Workflow,
};
use goclaw::plan::{self, Known, Plan};
use goclaw::run::{self, Input, Turn};

/// Measurements by name; `scale` is 1 normally and 10 with `--quick`.
type Scenario = (&'static str, fn(usize));

const ALL: &[Scenario] = &[
    ("step-single", step_single),
    ("step-map", step_map),
    ("compile-chain", compile_chain),
    ("compile-fan", compile_fan),
    ("engine-map", engine_map),
    ("engine-runs", engine_runs),
    ("engine-chain", engine_chain),
];

fn main() {
    // `cargo bench` adds `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let scale = if words.iter().any(|word| word == "--quick") { 10 } else { 1 };
    let names: Vec<&str> =
        words.iter().map(String::as_str).filter(|word| !word.starts_with("--")).collect();
    if words.iter().any(|word| word == "--here") {
        for (_, measure) in ALL.iter().filter(|(name, _)| names.contains(name)) {
            measure(scale);
        }
        return;
    }
    let here = std::env::current_exe().expect("the system tells where this program is");
    for (name, _) in ALL.iter().filter(|(name, _)| names.is_empty() || names.contains(name)) {
        let mut child = Command::new(&here);
        child.args([name, "--here"]);
        if scale > 1 {
            child.arg("--quick");
        }
        let status = child.status().expect("this program starts again");
        assert!(status.success(), "{name} failed");
    }
}

fn report(what: &str, count: usize, took: Duration, unit: &str) {
    let rate = count as f64 / took.as_secs_f64();
    println!("{what}: {count} {unit} in {:.0} ms = {rate:.0} a second", took.as_secs_f64() * 1e3);
}

/// The process's resident memory in KiB; 0 where the system does not tell.
fn resident_kib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

fn number() -> Payload {
    Payload::bytes(vec![b'#', 1])
}

fn task(id: String, deps: Vec<String>) -> Task {
    let json = serde_json::json!({ "id": id, "agent": "any", "deps": deps });
    serde_json::from_value(json).expect("a sound task")
}

fn workflow(tasks: Vec<Task>) -> Workflow {
    Workflow { name: "bench".into(), tasks, ..Workflow::default() }
}

fn sound(tasks: Vec<Task>) -> Arc<Plan> {
    Arc::new(plan::restore(Arc::new(workflow(tasks))).expect("a sound workflow"))
}

fn chain(length: usize) -> Vec<Task> {
    let deps = |at: usize| if at == 0 { vec![] } else { vec![format!("t{}", at - 1)] };
    (0..length).map(|at| task(format!("t{at}"), deps(at))).collect()
}

/// One source, `width` in the middle, one sink.
fn fan(width: usize) -> Vec<Task> {
    let middle = || (0..width).map(|at| format!("t{at}"));
    let mut tasks = vec![task("first".into(), vec![])];
    tasks.extend(middle().map(|id| task(id, vec!["first".into()])));
    tasks.push(task("last".into(), middle().collect()));
    tasks
}

fn map_task() -> Task {
    let each = Each { param: "x".into(), items: Expr::Value(serde_json::json!([])) };
    Task { each: Some(each), ..task("each".into(), vec![]) }
}

// The state machine.

fn begin(plan: &Arc<Plan>) -> run::Run {
    let submitted = Submitted {
        definition: plan.definition,
        workflow: None,
        input: number(),
        priority: 0,
        durability: Durability::None,
        tags: Vec::new(),
        session: None,
        weight: 1,
        conduct: Default::default(),
        memory: Default::default(),
        trace_id: String::new(),
        at: Timestamp(0),
    };
    run::begin(RunId::from_u128(1), Arc::clone(plan), submitted, &mut Turn::default())
}

/// Counts the events of one input.
fn step(run: &mut run::Run, input: Input) -> usize {
    let mut turn = Turn::default();
    run::step(run, input, Timestamp(1), 7, &mut turn);
    turn.events.len()
}

fn lead_through(run: &mut run::Run, span: Span) -> usize {
    let outcomes = vec![Outcome::Completed(number()); span.len as usize];
    step(run, Input::Admitted { span })
        + step(run, Input::Claimed { span })
        + step(run, Input::Done { span, attempt: 1, outcomes })
}

/// A task per node: each goes through the machine alone.
fn step_single(scale: usize) {
    let count = 200_000 / scale;
    let plan = sound(chain(count));
    let mut run = begin(&plan);
    let began = Instant::now();
    let events: usize =
        (0..count as u32).map(|node| lead_through(&mut run, Span::one(node, 0))).sum();
    let took = began.elapsed();
    assert_eq!(run.state(), RunState::Completed);
    report("run::step, chain, task by task", events, took, "transitions");
}

/// A map's children in spans of 256: one event speaks of many tasks.
fn step_map(scale: usize) {
    let count = (1_000_000 / scale) as u32;
    let plan = sound(vec![map_task()]);
    let before = resident_kib();
    let mut run = begin(&plan);
    let began = Instant::now();
    let resolution = Resolution::Items { items: number(), count, key: None };
    step(&mut run, Input::Resolved { node: 0, resolution });
    let grown = resident_kib() - before;
    for lo in (0..count).step_by(256) {
        lead_through(&mut run, Span::new(0, lo, 256.min(count - lo)));
    }
    let took = began.elapsed();
    assert_eq!(run.state(), RunState::Completed);
    report("run::step, map, spans of 256", 3 * count as usize, took, "task transitions");
    println!("run::step, map: {count} pending children take {grown} KiB");
}

// The compiler.

struct World(AgentInfo);

impl Known for World {
    fn agent(&self, name: &str) -> Option<AgentInfo> {
        (name == self.0.name).then(|| self.0.clone())
    }
    fn lanes(&self) -> Vec<String> {
        vec!["default".into()]
    }
    fn lane(&self, _: &str) -> Option<LaneSpec> {
        None
    }
    fn agents(&self) -> Vec<String> {
        vec![self.0.name.clone()]
    }
}

fn compile(what: &str, tasks: Vec<Task>) {
    let isolation = Isolation::Auto;
    let (name, params, kind) = ("any".into(), vec![], isolation);
    let world = World(AgentInfo { name, params, open: true, isolation, kind });
    let count = tasks.len();
    let declared = resident_kib();
    let began = Instant::now();
    let plan = plan::compile(workflow(tasks), &world).expect("a sound workflow");
    let took = began.elapsed();
    report(what, plan.nodes.len(), took, "tasks");
    let grown = resident_kib() - declared;
    println!(
        "{what}: the definition and what else there is {declared} KiB, compiling adds {grown} KiB"
    );
    assert_eq!(plan.nodes.len(), count);
}

fn compile_chain(scale: usize) {
    compile("plan::compile, chain", chain(1_000_000 / scale));
}

fn compile_fan(scale: usize) {
    compile("plan::compile, fan", fan(1_000_000 / scale));
}

// The engine.

/// One worker thread that answers every call at once: what remains is the engine's own cost.
struct Worker {
    work: Mutex<Option<mpsc::Sender<Arc<Batch>>>>,
    reports: Arc<dyn Reports>,
    items: u32,
}

impl Worker {
    fn start(reports: Arc<dyn Reports>, items: u32) -> Arc<dyn Executor> {
        let (work, inbox) = mpsc::channel::<Arc<Batch>>();
        let out = Arc::clone(&reports);
        std::thread::spawn(move || {
            while let Ok(first) = inbox.recv() {
                // Everything that waits is answered with one message, as a busy executor would.
                let batches = std::iter::once(first).chain(inbox.try_iter());
                out.report(batches.filter_map(|batch| answer(&batch)).collect());
            }
        });
        Arc::new(Self { work: Mutex::new(Some(work)), reports, items })
    }
}

fn answer(batch: &Batch) -> Option<Report> {
    let began = Instant::now();
    while let Some(index) = batch.claim() {
        batch.begin(index);
        batch.finish(Outcome::Completed(number()));
    }
    let (lo, outcomes) = batch.take_finished()?;
    let busy_ns = (began.elapsed().as_nanos() as u64).max(1);
    Some(Report::Done { batch: batch.id, lo, outcomes, busy_ns })
}

impl Executor for Worker {
    fn merge(&self, _: Arc<goclaw::agent::MergeCall>) {}
    fn style(&self, _agent: &str, _: goclaw::model::Isolation) -> Option<Style> {
        Some(Style::Thread)
    }
    fn execute(&self, batch: Arc<Batch>) {
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(work) = work.as_ref() {
            // The thread lives for as long as the sender does.
            let _ = work.send(batch);
        }
    }
    fn resolve(&self, call: Arc<NodeCall>) {
        let resolution = Resolution::Items { items: number(), count: self.items, key: None };
        let report = Report::Resolved { run: call.run, node: call.node, resolution };
        self.reports.report(vec![report]);
    }
    fn cancel(&self, _batch: &Arc<Batch>, _span: Span, _rung: goclaw::agent::Rung) {}
    fn abandon(&self, _batch: &Arc<Batch>, _span: Span) {}
    fn close(&self, _grace: Millis) -> usize {
        self.work.lock().unwrap_or_else(PoisonError::into_inner).take();
        0
    }
}

fn open(items: u32) -> Engine {
    let wide = LaneSpec {
        name: "default".into(),
        concurrency: 1_024,
        threads: Some(32),
        capacity: 100_000,
        ..LaneSpec::default()
    };
    let options = Options { lanes: vec![wide], ..Options::default() };
    Engine::open(options, |reports| Worker::start(reports, items)).expect("the engine opens")
}

fn request(plan: &Arc<Plan>) -> Submit {
    Submit {
        id: None,
        plan: Arc::clone(plan),
        input: number(),
        priority: 0,
        tags: Vec::new(),
        session: None,
        weight: None,
        when_busy: None,
        on_retry: Default::default(),
        durability: None,
        memory: Default::default(),
        trace_id: None,
        on_conflict: OnConflict::Error,
        block: true,
    }
}

/// Submits `count` runs at once and waits for all.
fn drive(engine: &Engine, plan: &Arc<Plan>, count: usize) -> Duration {
    let requests = (0..count).map(|_| request(plan)).collect();
    let began = Instant::now();
    let tickets = engine.submit_many(requests).expect("the inbox is open");
    for ticket in tickets {
        let handle = ticket.wait(None).expect("waits for ever").expect("accepted");
        handle.wait(None).expect("the engine stays open");
        assert_eq!(handle.state(), RunState::Completed);
    }
    began.elapsed()
}

fn engine_map(scale: usize) {
    let count = 1_000_000 / scale;
    let engine = open(count as u32);
    let took = drive(&engine, &sound(vec![map_task()]), 1);
    report("engine, one map", count, took, "tasks");
    engine.close(0);
}

fn engine_runs(scale: usize) {
    let count = 50_000 / scale;
    let engine = open(0);
    let took = drive(&engine, &sound(vec![task("a".into(), vec![])]), count);
    report("engine, runs of one task", count, took, "runs");
    print_turns(&engine);
    engine.close(0);
}

fn engine_chain(scale: usize) {
    let steps = 20_000 / scale;
    let engine = open(0);
    let took = drive(&engine, &sound(chain(steps)), 1);
    report("engine, one chain", steps, took, "steps");
    engine.close(0);
}

fn print_turns(engine: &Engine) {
    let counters: HashMap<_, _> = engine.stats().read().into_iter().collect();
    println!("engine: {} turns of the owner", counters["goclaw_owner_turns_total"]);
}
