//! Everybody outside the owner: executors, timers, resolvers, people.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use goclaw::lane::{Entry, Loan, Permit};
use goclaw::model::{
    CancelCause, Millis, Payload, RunId, Span, Style, TaskRef, TaskState, Timestamp,
};
use goclaw::run::{Effect, Input, Outcome, Timer};

use super::line::Ack;
use super::{Went, World, id};
use crate::sim::dice::Dice;
use crate::sim::mutant::Mutant;
use crate::sim::scene;

/// How long attempts of a stopping run get to end by themselves.
const GRACE_MS: Millis = 5_000;

/// On its way to the owner.
#[derive(Clone)]
pub enum Mail {
    /// From the executor, or about a batch that is out.
    Report {
        flight: u64,
        input: Input,
    },
    /// From a timer or a resolver.
    Plain(Input),
    Fence(u64),
    /// The agent of a call waits for something other than itself.
    Waits(u64, u32),
    /// The wait is over.
    Returns(u64, u32),
    Sync,
    /// A limiter has tokens again.
    Refill,
    /// Somebody lets a lane go on.
    Resume(usize),
}

/// A batch that is out, with the permits it holds.
pub struct Flight {
    pub span: Span,
    pub attempt: u32,
    pub style: Style,
    timeout: Option<Millis>,
    pub permit: Permit,
    /// Children whose end has not been heard of.
    pub left: BTreeSet<u32>,
    /// Its lane, and its key there.
    pub place: (usize, Option<Arc<str>>),
    /// Calls whose agent waits, and has lent its slot.
    pub lent: BTreeMap<u32, Option<Loan>>,
    /// How calls end that wait on their way, and how long after they went on.
    pub ends: BTreeMap<u32, (Millis, Outcome)>,
}

impl Flight {
    pub fn new(
        span: Span,
        attempt: u32,
        style: Style,
        timeout: Option<Millis>,
        permit: Permit,
        place: (usize, Option<Arc<str>>),
    ) -> Self {
        let left = (span.lo..span.hi()).collect();
        let (lent, ends) = Default::default();
        Self { span, attempt, style, timeout, permit, left, place, lent, ends }
    }
}

impl World {
    pub fn post(&mut self, at: Timestamp, mail: Mail) {
        if self.is(Mutant::DeafToTimers) && matches!(mail, Mail::Plain(Input::RetryDue { .. })) {
            return;
        }
        if self.dice.chance(self.scene.climate.duplicate) {
            let later = at.plus(self.dice.below(300));
            let key = (later, self.dice.bits());
            self.mail.insert(key, mail.clone());
        }
        let key = (at, self.dice.bits());
        self.mail.insert(key, mail);
    }

    fn soon(&mut self, within: Millis) -> Timestamp {
        self.now.plus(self.dice.below(within))
    }

    pub fn handle(&mut self, mail: Mail) -> Went {
        match mail {
            Mail::Report { flight, input } => {
                self.hold(flight, &input);
                for input in self.still_out(flight, input) {
                    self.landed(flight, &input);
                    self.step(input)?;
                }
            }
            Mail::Plain(Input::TotalOver { node }) => {
                self.step(Input::TotalOver { node })?;
                self.let_go(node);
            }
            Mail::Plain(input) => drop(self.step(input)?),
            Mail::Fence(flight) => self.fence(flight)?,
            Mail::Waits(flight, child) => self.lend(flight, child),
            Mail::Returns(flight, child) => self.returning.push_back((flight, child)),
            Mail::Refill => self.refill_at = None,
            Mail::Resume(lane) => self.lanes.resume(lane),
            Mail::Sync => {
                self.staged.sync_timer = false;
                self.staged.gated |= self.journal.synced < self.journal.written;
            }
        }
        Ok(())
    }

    /// Only calls that nobody has heard of can be taken back; a batch knows which these are.
    fn still_out(&self, flight: u64, input: Input) -> Vec<Input> {
        match (self.flights.get(&flight), input) {
            (Some(flight), Input::TakenBack { span, attempt }) => {
                let left = span.tasks().filter(|task| flight.left.contains(&task.index));
                let back = |span| Input::TakenBack { span, attempt };
                neighbours(left).into_iter().map(back).collect()
            }
            (_, input) => vec![input],
        }
    }

    /// An agent that is told to wait makes all wait who share its key, or its lane where that has
    /// a rate.
    fn hold(&mut self, id: u64, input: &Input) {
        let (Some(flight), Input::Done { outcomes, .. }) = (self.flights.get(&id), input) else {
            return;
        };
        let pause = outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Failed(failure) => failure.retry_after,
            _ => None,
        });
        let Some(pause) = pause.max() else { return };
        let (lane, key) = flight.place.clone();
        if key.is_some() || self.lanes.lane(lane).has_limits() {
            self.lanes.hold(lane, key.as_deref(), self.now.plus(pause));
            self.note("hold");
        }
    }

    /// Gives back the permits of calls that are heard of for the first time.
    fn landed(&mut self, id: u64, input: &Input) {
        let (leak, twice) = (self.is(Mutant::LeakPermits), self.is(Mutant::LentEndsTwice));
        let Some(flight) = self.flights.get_mut(&id) else { return };
        let span = match input {
            Input::Done { span, outcomes, .. } => Span { len: outcomes.len() as u32, ..*span },
            Input::TimedOut { task, .. } | Input::Silent { task, .. } => (*task).into(),
            Input::TakenBack { span, .. } => *span,
            _ => return,
        };
        let mut n = 0;
        for index in (span.lo..span.hi()).filter(|index| flight.left.remove(index)) {
            let lent = flight.lent.remove(&index).is_some();
            n += u32::from(!lent || twice);
        }
        if flight.style == Style::Loop {
            flight.permit.release(n);
        }
        if flight.left.is_empty()
            && let Some(flight) = self.flights.remove(&id)
            && leak
        {
            std::mem::forget(flight.permit);
        }
    }

    /// Batches of a node of which nothing is under way any more give their permits back.
    fn let_go(&mut self, node: u32) {
        let over = |id: &&u64| {
            let flight = &self.flights[id];
            flight.span.node == node && self.still_running(flight).is_empty()
        };
        for id in self.flights.keys().filter(over).copied().collect::<Vec<_>>() {
            self.flights.remove(&id);
        }
    }

    /// Gives up attempts that were told to stop and did not.
    fn fence(&mut self, id: u64) -> Went {
        let Some(flight) = self.flights.remove(&id) else { return Ok(()) };
        self.note("fence");
        for span in self.still_running(&flight) {
            self.step(Input::Lost { span, attempt: flight.attempt, crash: false })?;
        }
        Ok(())
    }

    /// Calls of a batch without an outcome, in spans of neighbours.
    pub fn still_running(&self, flight: &Flight) -> Vec<Span> {
        neighbours(flight.span.tasks().filter(|&t| self.run.is_running(t, flight.attempt)))
    }

    pub fn act(&mut self, effect: Effect) -> Went {
        match effect {
            Effect::Offer { span, attempts } => self.offer(span, attempts),
            Effect::Resolve { node } => {
                let task = self.run.plan().task(node).clone();
                let resolution = scene::resolution(&task, &mut self.dice);
                let at = self.soon(30);
                self.post(at, Mail::Plain(Input::Resolved { node, resolution }));
            }
            Effect::Wake { at, timer } => {
                let input = match timer {
                    Timer::Retry(task) => Input::RetryDue { task },
                    Timer::Deadline => Input::Deadline,
                    Timer::Queue(span) => Input::QueueOver { span },
                    Timer::Total(node) => Input::TotalOver { node },
                };
                self.post(at.max(self.now), Mail::Plain(input));
            }
            Effect::Abandon { span, attempt } => self.abandon(span, attempt),
            Effect::Withdraw => self.lanes.withdraw(id()),
            // No scene has a memory policy; see `tests/rust/run/sweeping.rs`.
            Effect::Began | Effect::Sweep => {}
            Effect::Leave { span } => self.lanes.withdraw_span(id(), span),
            Effect::Ended => {
                self.finished = true;
                self.witness.told = Some(self.run.state());
            }
        }
        Ok(())
    }

    fn offer(&mut self, span: Span, attempts: u32) {
        let task = self.run.plan().task(span.node);
        let style = if task.agent == "loop" { Style::Loop } else { Style::Thread };
        let lane = self.lanes.index(&task.lane).expect("the scene names its lanes");
        // The sim's world has no durations: the later the node, the longer the rest.
        let entry = Entry {
            attempts,
            priority: task.priority,
            rank: span.node,
            key: self.run.rate_key(span.node).cloned(),
            cost: task.cost,
            since: self.now,
            placed: attempts > 0 || self.run.span_state(span) == Some(TaskState::Scheduled),
            ..Entry::new(id(), span, style)
        };
        self.offered(entry, lane);
    }

    fn abandon(&mut self, span: Span, attempt: u32) {
        let meant = |flight: &&u64| {
            let of = self.flights[flight].span;
            let overlaps = of.lo < span.hi() && span.lo < of.hi();
            of.node == span.node && overlaps && self.flights[flight].attempt == attempt
        };
        for id in self.flights.keys().filter(meant).copied().collect::<Vec<_>>() {
            self.post(self.now.plus(GRACE_MS), Mail::Fence(id));
            for index in self.flights[&id].left.clone() {
                if self.dice.chance(600) {
                    let at = self.soon(50);
                    let span = Span::one(span.node, index);
                    self.report(at, id, attempt, span, vec![Outcome::Cancelled]);
                }
            }
        }
    }

    pub fn report(
        &mut self,
        at: Timestamp,
        flight: u64,
        attempt: u32,
        span: Span,
        of: Vec<Outcome>,
    ) {
        let input = Input::Done { span, attempt, outcomes: of };
        self.post(at, Mail::Report { flight, input });
    }

    /// The executor takes a batch: how each call will end, and when, is decided here.
    pub fn execute(&mut self, id: u64) -> Went {
        let Some(flight) = self.flights.get(&id) else { return Ok(()) };
        let (span, attempt, style, timeout) =
            (flight.span, flight.attempt, flight.style, flight.timeout);
        self.witness.executes(&self.model, span)?;
        let climate = self.scene.climate.clone();
        let mut begins = self.now;
        let mut done: Vec<(TaskRef, Timestamp, Outcome)> = Vec::new();
        for task in span.tasks() {
            let behind = style == Style::Thread && task.index > span.lo;
            if behind && self.dice.chance(climate.take_back) {
                self.take_back(id, attempt, span, task.index, begins);
                break;
            }
            let spec = self.run.plan().task(span.node);
            let (idle, total) = (spec.idle_timeout_ms, spec.total_timeout_ms);
            let bounded = timeout.or(idle).or(total).or(self.scene.workflow.timeout_ms).is_some();
            let hangs = bounded && self.dice.chance(climate.hang);
            let lasts = self.dice.below(40);
            let silent = idle.filter(|_| hangs);
            let over = timeout.filter(|&timeout| hangs || lasts > timeout);
            let over = [over, silent].into_iter().flatten().min();
            if let Some(after_ms) = over {
                let input = if over == silent {
                    self.note("attempt fell silent");
                    Input::Silent { task, attempt, after_ms }
                } else {
                    self.note("attempt timed out");
                    Input::TimedOut { task, attempt, after_ms }
                };
                self.post(begins.plus(after_ms), Mail::Report { flight: id, input });
            }
            if self.dice.chance(100) {
                let at = begins.plus(self.dice.below(20));
                let input = Input::Progress { task, attempt, done: 0.5, total: None, text: None };
                self.post(at, Mail::Plain(input));
            }
            let number = self.number();
            let outcome = scene::outcome(climate.fail, number, &mut self.dice);
            let ends = begins.plus(lasts);
            match (hangs, over) {
                (true, _) => self.note("call hangs"),
                // It ends all the same, too late.
                (false, Some(_)) => self.report(ends, id, attempt, task.into(), vec![outcome]),
                (false, None) => {
                    if matches!(outcome, Outcome::Returned) {
                        self.witness.returns(task);
                    }
                    match self.waits_on_its_way(id, style, span, task, &outcome) {
                        true => self.wait_on_the_way(id, task.index, (begins, lasts), outcome),
                        false => done.push((task, ends, outcome)),
                    }
                }
            }
            if style == Style::Thread {
                begins = ends;
                if hangs || over.is_some() {
                    self.take_back(id, attempt, span, task.index + 1, self.now.plus(5));
                    break;
                }
            }
        }
        self.report_in_chunks(id, attempt, done);
        Ok(())
    }

    /// The calls from `from` on go back to the lane; nobody has begun them.
    fn take_back(&mut self, flight: u64, attempt: u32, span: Span, from: u32, at: Timestamp) {
        if from < span.hi() {
            self.note("batch taken back");
            let span = Span::new(span.node, from, span.hi() - from);
            let input = Input::TakenBack { span, attempt };
            self.post(at, Mail::Report { flight, input });
        }
    }

    fn report_in_chunks(
        &mut self,
        flight: u64,
        attempt: u32,
        done: Vec<(TaskRef, Timestamp, Outcome)>,
    ) {
        let mut chunk: Option<(Span, Timestamp, Vec<Outcome>)> = None;
        for (task, ends, outcome) in done {
            let joins = self.dice.chance(600);
            match &mut chunk {
                Some((span, at, outcomes)) if joins && span.hi() == task.index => {
                    span.len += 1;
                    *at = ends.max(*at);
                    outcomes.push(outcome);
                }
                _ => {
                    let next = (task.into(), ends, vec![outcome]);
                    if let Some((span, at, outcomes)) = chunk.replace(next) {
                        self.report(at, flight, attempt, span, outcomes);
                    }
                }
            }
        }
        if let Some((span, at, outcomes)) = chunk {
            self.report(at, flight, attempt, span, outcomes);
        }
    }

    /// People, and messages that make no sense.
    pub fn visitors(&mut self) -> Went {
        let climate = self.scene.climate.clone();
        if climate.cancel && self.dice.chance(20) {
            self.note("cancel");
            self.step(Input::Cancel { reason: "asked".into() })?;
            self.staged.acks.push(Ack::Cancelled);
        }
        if climate.cancel && self.dice.chance(5) {
            self.note("kill");
            self.step(Input::Kill { reason: "asked".into() })?;
            for flight in self.flights.keys().copied().collect::<Vec<_>>() {
                self.fence(flight)?;
            }
            self.staged.acks.push(Ack::Cancelled);
        }
        if climate.grow && self.model.cancel.is_none() && self.dice.chance(60) {
            self.grow()?;
        }
        if climate.lanes {
            self.operators()?;
        }
        if self.dice.chance(climate.talk) {
            let input = self.talk();
            self.step(input)?;
        }
        if self.dice.chance(climate.stray) {
            let input = self.stray();
            if self.model.expect(&input, self.now).nothing() {
                self.note("stray message");
                self.step(input)?;
            }
        }
        Ok(())
    }

    /// Something from the other runs of its session, fitting or not.
    pub fn talk(&mut self) -> Input {
        let other = |dice: &mut Dice| RunId::from_u128(u128::from(dice.between(8, 12)));
        let fresh = self.model.untouched();
        let dice = &mut self.dice;
        let message = Payload::bytes(vec![9]);
        // What fits only a run that has not begun is tried while it has not.
        match dice.below(if fresh { 6 } else { 20 }) {
            0 => Input::Absorb { into: other(dice) },
            1..4 => Input::Merged { from: vec![other(dice)], input: message },
            4 => Input::Stop { cause: CancelCause::Dropped, reason: "dropped".into() },
            5 => Input::Stop { cause: CancelCause::Merge, reason: "not merged".into() },
            _ => Input::Steered { from: other(dice), message },
        }
    }

    fn grow(&mut self) -> Went {
        let nodes = &self.run.plan().nodes;
        let ids: Vec<String> = nodes.iter().map(|node| node.id.to_string()).collect();
        if ids.len() > 30 {
            return Ok(());
        }
        self.note("growth");
        let growth = self.scene.growth(ids.len(), &ids, &mut self.dice);
        let mut seen = growth.clone();
        if self.is(Mutant::GrowthDoesNotWait) {
            seen.tasks.iter_mut().for_each(|task| task.deps.clear());
        }
        let plan = self.run.plan().regrow(&seen).map_err(|error| error.message)?;
        let size = plan.nodes.len();
        self.step(Input::Grow { growth: Box::new(growth), plan: plan.into() })?;
        self.staged.acks.push(Ack::Grown(size));
        Ok(())
    }

    /// A message about some task, some attempt, some time.
    fn stray(&mut self) -> Input {
        let dice = &mut self.dice;
        let node = dice.index(self.model.nodes.len());
        let items = self.model.nodes[node].items.len() as u64;
        let lo = dice.below(items + 1);
        let span = Span::new(node as u32, lo as u32, dice.below(items - lo + 2) as u32);
        let task = TaskRef { node: span.node, index: span.lo };
        let attempt = dice.below(4) as u32;
        let crash = dice.chance(500);
        match dice.below(15) {
            9 => Input::QueueOver { span },
            10 => Input::TotalOver { node: node as u32 },
            11 => Input::Silent { task, attempt, after_ms: 1 },
            12 => Input::Blocking { task, attempt, reason: "a stray one".into() },
            0 => Input::Admitted { span },
            13 => Input::Dropped { span, lane: "stray".into() },
            14 => Input::Redirected { span, from: "stray".into(), to: "stray".into() },
            1 => Input::Claimed { span },
            2 => Input::TakenBack { span, attempt },
            3 => Input::Lost { span, attempt, crash },
            4 => Input::TimedOut { task, attempt, after_ms: 1 },
            5 => Input::RetryDue { task },
            6 => Input::Progress { task, attempt, done: 0.5, total: None, text: None },
            7 => {
                let resolution = scene::resolution(&self.model.nodes[node].task, dice);
                Input::Resolved { node: node as u32, resolution }
            }
            _ => {
                let outcomes = (0..span.len).map(|n| scene::outcome(300, n.into(), dice)).collect();
                Input::Done { span, attempt, outcomes }
            }
        }
    }
}

/// Tasks in order, as spans.
fn neighbours(tasks: impl Iterator<Item = TaskRef>) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for task in tasks {
        match spans.last_mut() {
            Some(last) if last.hi() == task.index => last.len += 1,
            _ => spans.push(task.into()),
        }
    }
    spans
}
