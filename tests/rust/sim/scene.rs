//! What a simulated run is about: a random workflow, its lanes, and how unkind its world is.

use std::sync::Arc;

use goclaw::model::{
    Delivery, Durability, Each, Expr, Failure, FailureKind, Growth, LaneSpec, OnFailure, OnFull,
    Rate, Retry, Task, Trigger, Workflow,
};
use goclaw::run::{Outcome, Resolution};

use super::dice::Dice;

/// How often things go wrong, in thousandths.
#[derive(Clone, Debug)]
pub struct Climate {
    pub crash: u64,
    pub stop: u64,
    pub duplicate: u64,
    pub stray: u64,
    pub hang: u64,
    pub fail: u64,
    pub take_back: u64,
    pub cancel: bool,
    pub grow: bool,
    /// Lanes are paused and their limits changed.
    pub lanes: bool,
    pub talk: u64,
    /// Agents wait on their way, and lend their permit meanwhile.
    pub lend: u64,
    /// Turns after which nothing goes wrong any more.
    pub turns: u64,
}

#[derive(Clone, Debug)]
pub struct Scene {
    pub workflow: Arc<Workflow>,
    pub lanes: Vec<LaneSpec>,
    pub global: Option<u32>,
    pub durability: Durability,
    pub climate: Climate,
}

impl Scene {
    pub fn draw(dice: &mut Dice) -> Self {
        let count = dice.between(1, 3);
        let lanes: Vec<LaneSpec> = (0..count).map(|n| lane(n, count, dice)).collect();
        let size = if dice.chance(100) { dice.between(9, 20) } else { dice.between(1, 8) };
        let shape =
            *dice.pick(&[Shape::Chain, Shape::Fan, Shape::Diamond, Shape::Wild, Shape::Wild]);
        let tame = dice.chance(250);
        let mut tasks: Vec<Task> = Vec::new();
        for n in 0..size {
            let deps = shape.deps(n, size, dice).into_iter().map(|dep| format!("t{dep}")).collect();
            tasks.push(task(format!("t{n}"), deps, &lanes, tame, dice));
        }
        let on_failure = *dice.pick(&[OnFailure::FailFast, OnFailure::Continue]);
        let timeout_ms = dice.chance(150).then(|| dice.between(1, 3_000));
        let name = "sim".to_owned();
        let workflow = Workflow { name, tasks, on_failure, timeout_ms, ..Workflow::default() };
        Self {
            workflow: Arc::new(workflow),
            lanes,
            global: dice.chance(300).then(|| dice.between(1, 4) as u32),
            durability: if dice.chance(200) { Durability::Relaxed } else { Durability::Strict },
            climate: Climate::draw(dice),
        }
    }

    /// Tasks to add to a run of `size` tasks.
    pub fn growth(&self, size: usize, ids: &[String], dice: &mut Dice) -> Growth {
        let mut known = ids.to_vec();
        let mut tasks = Vec::new();
        for n in 0..dice.between(1, 3) {
            let mut deps: Vec<String> =
                (0..dice.below(3)).map(|_| dice.pick(&known).clone()).collect();
            deps.sort();
            deps.dedup();
            let id = format!("g{}", size as u64 + n);
            known.push(id.clone());
            tasks.push(task(id, deps, &self.lanes, false, dice));
        }
        Growth { tasks, constants: Vec::new() }
    }
}

impl Climate {
    fn draw(dice: &mut Dice) -> Self {
        let mut weather =
            |calm: u64, high: u64| if dice.chance(calm) { 0 } else { dice.below(high) };
        Self {
            crash: weather(300, 60),
            stop: weather(500, 40),
            duplicate: weather(300, 300),
            stray: weather(300, 150),
            hang: weather(500, 150),
            fail: weather(150, 500),
            take_back: weather(300, 300),
            talk: weather(600, 80),
            lend: weather(400, 500),
            cancel: dice.chance(250),
            grow: dice.chance(350),
            lanes: dice.chance(300),
            turns: dice.between(10, 80),
        }
    }
}

#[derive(Clone, Copy)]
enum Shape {
    Chain,
    Fan,
    Diamond,
    Wild,
}

impl Shape {
    fn deps(self, n: u64, size: u64, dice: &mut Dice) -> Vec<u64> {
        match self {
            Self::Chain => n.checked_sub(1).into_iter().collect(),
            Self::Fan if n + 1 == size => (0..n).collect(),
            Self::Fan => Vec::new(),
            Self::Diamond if n == 0 => Vec::new(),
            Self::Diamond if n + 1 == size => (1..n.max(2)).filter(|&dep| dep < n).collect(),
            Self::Diamond => vec![0],
            Self::Wild => {
                let density = *dice.pick(&[100, 300, 600]);
                (0..n).filter(|_| dice.chance(density)).collect()
            }
        }
    }
}

pub fn lane(n: u64, count: u64, dice: &mut Dice) -> LaneSpec {
    let on_full = match dice.below(6) {
        0 => OnFull::DropNewest,
        1 => OnFull::DropOldest,
        // Always to a later one: no circle.
        2 if n + 1 < count => OnFull::Redirect(format!("lane{}", dice.between(n + 1, count - 1))),
        _ => OnFull::Block,
    };
    let rate = || Rate { units: 3, per_ms: 40, burst: 2 };
    LaneSpec {
        name: format!("lane{n}"),
        concurrency: dice.between(1, 4) as u32,
        threads: dice.chance(300).then(|| dice.between(1, 2) as u32),
        capacity: *dice.pick(&[1, 2, 3, 100]),
        on_full,
        rate: dice.chance(300).then(rate),
        ..LaneSpec::default()
    }
}

fn task(id: String, deps: Vec<String>, lanes: &[LaneSpec], tame: bool, dice: &mut Dice) -> Task {
    let triggers = [
        Trigger::AllSuccess,
        Trigger::AllSuccess,
        Trigger::AllDone,
        Trigger::OneSuccess,
        Trigger::NoneFailed,
    ];
    let items = || Each { param: "item".into(), items: Expr::Value(serde_json::json!([])) };
    Task {
        id,
        agent: (*dice.pick(&["thread", "loop"])).into(),
        trigger: if deps.is_empty() { Trigger::AllSuccess } else { *dice.pick(&triggers) },
        deps,
        each: dice.chance(300).then(items),
        when: (!tame && dice.chance(200)).then(|| Expr::Value(serde_json::json!(true))),
        lane: dice.pick(lanes).name.clone(),
        timeout_ms: dice.chance(400).then(|| dice.between(5, 60)),
        queue_timeout_ms: dice.chance(150).then(|| dice.between(5, 150)),
        idle_timeout_ms: dice.chance(150).then(|| dice.between(3, 40)),
        total_timeout_ms: dice.chance(150).then(|| dice.between(20, 600)),
        retry: retry(dice),
        priority: dice.below(3) as i32,
        rate_key: dice.chance(200).then(|| Expr::Value(serde_json::json!(*dice.pick(&["a", "b"])))),
        cost: dice.between(1, 3) as u32,
        delivery: match dice.chance(200) {
            true => Delivery::AtMostOnce,
            false => Delivery::AtLeastOnce,
        },
        ..Task::default()
    }
}

fn retry(dice: &mut Dice) -> Retry {
    let mut retry = Retry {
        retries: dice.below(4) as u16,
        initial_ms: dice.between(1, 50),
        max_ms: 200,
        jitter: dice.chance(500),
        ..Retry::default()
    };
    if dice.chance(200) {
        retry.on = vec!["builtins.ConnectionError".into()];
        retry.never = vec!["builtins.OSError".into()];
    }
    retry
}

/// How a call ends that ends by itself.
pub fn outcome(fail: u64, output: u64, dice: &mut Dice) -> Outcome {
    if dice.chance(fail / 20) {
        return Outcome::Cancelled;
    }
    if dice.chance(10) {
        return match dice.below(3) {
            0 => Outcome::Returned,
            1 => Outcome::Crashed(Box::new(failure(dice))),
            _ => Outcome::Interrupted,
        };
    }
    if !dice.chance(fail) {
        let output: [u8; 8] = output.to_be_bytes();
        return Outcome::Completed(goclaw::model::Payload::bytes(output.to_vec()));
    }
    Outcome::Failed(Box::new(failure(dice)))
}

fn failure(dice: &mut Dice) -> Failure {
    let classes: [&[&str]; 4] = [
        &["app.Boom", "builtins.Exception"],
        &["builtins.UnicodeError", "builtins.ValueError", "builtins.Exception"],
        &["builtins.ConnectionError", "builtins.OSError", "builtins.Exception"],
        &["builtins.OSError", "builtins.Exception"],
    ];
    match dice.below(10) {
        0 => Failure::new(FailureKind::Payload, "payload.unsupported", "a socket"),
        1 => Failure::new(FailureKind::Crash, "task.crash", "the worker died"),
        other => {
            let mut failure = Failure::new(FailureKind::Exception, "task.exception", "no");
            let types = dice.pick(&classes);
            failure.types = types.iter().map(|class| (*class).to_owned()).collect();
            failure.retry_after = (other == 2).then(|| dice.below(300));
            failure
        }
    }
}

/// What `when` and `each` of a task come to.
pub fn resolution(task: &Task, dice: &mut Dice) -> Resolution {
    if dice.chance(50) {
        return Resolution::Failed(Box::new(failure(dice)));
    }
    if task.when.is_some() && dice.chance(300) {
        return Resolution::Skip;
    }
    match &task.each {
        None => Resolution::Go { key: key(task) },
        Some(_) => {
            let count = *dice.pick(&[0, 1, 2, 3, 5, 9]);
            let items = goclaw::model::Payload::bytes(vec![1, count as u8]);
            Resolution::Items { items, count, key: key(task) }
        }
    }
}

/// What the `rate_key` of a task comes to.
fn key(task: &Task) -> Option<Arc<str>> {
    match &task.rate_key {
        Some(Expr::Value(key)) => key.as_str().map(Arc::from),
        _ => None,
    }
}
