//! The rules of a run by name.

mod failures;
mod growth;
mod maps;
mod recovery;
mod sessions;
mod stopping;
mod sweeping;
mod timeouts;
mod triggers;

use std::sync::Arc;

use goclaw::model::{
    Conduct, Durability, Event, Failure, FailureKind, Payload, Record, RunId, RunState, Span,
    Submitted, TaskRef, TaskState, Timestamp, Workflow,
};
use goclaw::plan::{self, Plan};
use goclaw::run::{self, Effect, Input, Outcome, Resolution, Run, Turn};
use serde_json::Value;

/// A run, and all that came of it so far.
pub struct Case {
    pub run: Run,
    plan: Arc<Plan>,
    pub now: Timestamp,
    records: Vec<Record>,
    pub effects: Vec<Effect>,
    pub late: u64,
}

/// A run of the workflow `{"tasks": …, …}`; ids are `a`, `b`, … by position.
pub fn case(mut workflow: Value) -> Case {
    workflow["name"] = "case".into();
    for task in workflow["tasks"].as_array_mut().expect("a case has tasks") {
        task["agent"] = "agent".into();
    }
    let workflow: Workflow = serde_json::from_value(workflow).expect("a case is well formed");
    let plan = Arc::new(plan::restore(Arc::new(workflow)).expect("a case compiles"));
    let now = Timestamp(1_000);
    let submitted = Submitted {
        definition: plan.definition,
        workflow: Some(Arc::clone(&plan.workflow)),
        input: Payload::bytes(vec![1]),
        priority: 0,
        durability: Durability::Strict,
        tags: Vec::new(),
        session: plan.workflow.memory.as_ref().map(|_| "ada".into()),
        weight: 1,
        conduct: Conduct::default(),
        memory: Default::default(),
        trace_id: String::new(),
        at: now,
    };
    let mut turn = Turn::default();
    let run = run::begin(RunId::from_u128(1), Arc::clone(&plan), submitted, &mut turn);
    let mut case = Case { run, plan, now, records: vec![], effects: vec![], late: 0 };
    case.keep(turn);
    case
}

impl Case {
    fn keep(&mut self, turn: Turn) -> Vec<Event> {
        let seq = self.records.last().map_or(0, |last| last.seq + last.weight());
        let (run, at, events) = (self.run.id(), self.now, turn.events.clone());
        self.records.push(Record { run, seq, at, events });
        self.effects.extend(turn.effects);
        self.late += turn.late;
        turn.events
    }

    /// One input; answers the events that came of it.
    pub fn input(&mut self, input: Input) -> Vec<Event> {
        let mut turn = Turn::default();
        run::step(&mut self.run, input, self.now, u64::MAX, &mut turn);
        self.keep(turn)
    }

    pub fn admit(&mut self, span: Span) -> Vec<Event> {
        self.input(Input::Admitted { span })
    }

    /// The lane admits and grants.
    pub fn start(&mut self, span: impl Into<Span>) {
        let span = span.into();
        self.admit(span);
        let started = self.input(Input::Claimed { span });
        assert!(!started.is_empty(), "{span:?} does not start");
    }

    pub fn done(&mut self, span: Span, attempt: u32, outcomes: Vec<Outcome>) -> Vec<Event> {
        self.input(Input::Done { span, attempt, outcomes })
    }

    /// The attempts under way complete.
    pub fn complete(&mut self, span: impl Into<Span>) -> Vec<Event> {
        let span = span.into();
        let outcomes = span.tasks().map(|_| completed()).collect();
        self.done(span, self.attempt(span), outcomes)
    }

    /// The attempt under way raises an exception.
    pub fn fail(&mut self, task: TaskRef, types: &[&str]) -> Vec<Event> {
        self.done(task.into(), self.run.attempt(task), vec![raised(types)])
    }

    /// The process dies under an attempt.
    pub fn crash(&mut self, span: impl Into<Span>) -> Vec<Event> {
        let span = span.into();
        self.input(Input::Lost { span, attempt: self.attempt(span), crash: true })
    }

    pub fn expand(&mut self, node: u32, count: u32) -> Vec<Event> {
        let items = Payload::bytes(vec![1, 2]);
        self.input(Input::Resolved {
            node,
            resolution: Resolution::Items { items, count, key: None },
        })
    }

    fn attempt(&self, span: Span) -> u32 {
        self.run.attempt(TaskRef { node: span.node, index: span.lo })
    }

    pub fn state(&self, node: u32) -> TaskState {
        self.run.node_state(node)
    }

    pub fn states(&self) -> Vec<TaskState> {
        (0..self.run.plan().nodes.len() as u32).map(|node| self.state(node)).collect()
    }

    pub fn ended(&self) -> Option<RunState> {
        let releases = self.effects.iter().filter(|&effect| *effect == Effect::Ended).count();
        assert_eq!(releases, usize::from(self.run.state().is_terminal()), "releases of waiters");
        (releases > 0).then(|| self.run.state())
    }

    /// Effects since the last call.
    pub fn asked(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// The run as a new process finds it.
    pub fn reload(&self) -> Run {
        let run = run::replay(&self.records, |_| Ok(Arc::clone(&self.plan)));
        run.expect("the records are a true history")
    }
}

/// The only task of a node.
pub fn task(node: u32) -> TaskRef {
    TaskRef { node, index: 0 }
}

pub fn offer(node: u32, lo: u32, len: u32, attempts: u32) -> Effect {
    Effect::Offer { span: Span::new(node, lo, len), attempts }
}

pub fn completed() -> Outcome {
    Outcome::Completed(Payload::bytes(vec![7]))
}

pub fn raised(types: &[&str]) -> Outcome {
    let mut failure = Failure::new(FailureKind::Exception, "task.exception", "no");
    failure.types = types.iter().map(|class| (*class).to_owned()).collect();
    Outcome::Failed(Box::new(failure))
}

/// Is repeated by default.
pub const BOOM: &[&str] = &["app.Boom", "builtins.Exception"];

/// Is final by default.
pub const VALUE: &[&str] = &["builtins.ValueError", "builtins.Exception"];
