//! Batches that are out: reports coming back, calls that take too long.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Owner;
use super::timers::Due;
use crate::agent::{Batch, Outcome, Report};
use crate::engine::explain::Told;
use crate::lane::{Loan, Permit};
use crate::math::Table;
use crate::model::{BatchId, Millis, RunId, Span, Stats, Style, TaskRef, Timestamp};
use crate::run::Input;

/// How long a thread may sit on one call before the calls behind it are taken away from it.
const HOLD_UP_MS: Millis = 5;

/// A batch that is out, with the permits it holds.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) batch: Arc<Batch>,
    pub(super) permit: Permit,
    pub(super) style: Style,
    /// When its agents were told to begin; before that, when it got its permits.
    since: Timestamp,
    /// How its calls were told to stop.
    pub(super) told: Option<Told>,
    /// The executor has it. A store that refuses may hold that up.
    begun: bool,
    /// Calls whose outcome has not come.
    left: u32,
    /// Calls on the loop that were given up one by one; `left` does not count them.
    given_up: BTreeSet<u32>,
    /// Calls whose agent waits and has lent its slot.
    pub(super) lent: BTreeMap<u32, Loan>,
    /// The lane that granted it.
    pub(super) lane: usize,
    agent: Arc<str>,
}

impl Drop for Flight {
    /// However it ended: an agent that waits for a permit to go on waits no more.
    fn drop(&mut self) {
        self.batch.let_go();
    }
}

impl Flight {
    pub(super) fn new(
        batch: Arc<Batch>,
        permit: Permit,
        style: Style,
        since: Timestamp,
        lane: usize,
    ) -> Self {
        let agent = batch.call.plan.task(batch.call.node).agent.as_str().into();
        let (left, given_up, lent) = (batch.span.len, BTreeSet::new(), BTreeMap::new());
        Self {
            left,
            given_up,
            lent,
            batch,
            permit,
            style,
            lane,
            since,
            told: None,
            begun: false,
            agent,
        }
    }

    /// Gives back the slots that its calls need no more: on the loop each needs one, a thread needs
    /// one for all, and who waits needs none.
    fn settle(&mut self) {
        let calls = if self.style == Style::Loop { self.left } else { 1 };
        let needed = calls.saturating_sub(self.lent.len() as u32);
        self.permit.release(self.permit.slots().saturating_sub(needed));
    }

    /// True for a call that was given up alone, while others of its batch go on.
    pub(super) fn has_given_up(&self, child: u32) -> bool {
        self.given_up.contains(&child)
    }

    pub(super) fn agent(&self) -> &Arc<str> {
        &self.agent
    }

    pub(super) fn batch(&self) -> &Arc<Batch> {
        &self.batch
    }

    pub(super) fn since(&self) -> Timestamp {
        self.since
    }

    /// When to look after the batch for the first time, if ever.
    pub(super) fn first_check(&self, now: Timestamp) -> Option<Timestamp> {
        let hold_up = (self.style != Style::Loop && self.batch.span.len > 1).then_some(HOLD_UP_MS);
        [self.batch.timeout, self.batch.idle(), hold_up]
            .into_iter()
            .flatten()
            .min()
            .map(|ms| now.plus(ms))
    }
}

#[derive(Debug, Default)]
pub(super) struct Flights {
    pub(super) out: Table<BatchId, Flight>,
    last_id: u64,
}

impl Flights {
    pub(super) fn next_id(&mut self) -> BatchId {
        self.last_id += 1;
        BatchId(self.last_id)
    }
    pub(super) fn insert(&mut self, flight: Flight) {
        self.out.insert(flight.batch.id, flight);
    }
    pub(super) fn contains(&self, id: BatchId) -> bool {
        self.out.contains_key(&id)
    }
    /// What is out of a run.
    pub(super) fn out_of(&self, run: RunId) -> impl Iterator<Item = &Flight> {
        self.out.values().filter(move |flight| flight.batch.call.run == run)
    }
    pub(super) fn get(&self, id: BatchId) -> Option<&Flight> {
        self.out.get(&id)
    }
    /// Batches of a run that are out.
    pub(super) fn of(&self, run: RunId) -> impl Iterator<Item = &Arc<Batch>> {
        self.out.values().map(|flight| &flight.batch).filter(move |batch| batch.call.run == run)
    }
    pub(super) fn is_empty(&self) -> bool {
        self.out.is_empty()
    }
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Arc<Batch>> {
        std::mem::take(&mut self.out).into_values().map(|flight| Arc::clone(&flight.batch))
    }
}

impl Owner {
    pub(super) fn reported(&mut self, report: Report) {
        match report {
            Report::Done { batch, lo, outcomes, busy_ns } => {
                self.done(batch, lo, outcomes, busy_ns)
            }
            Report::Waiting { batch, child } => self.waits(batch, child),
            Report::Returning { batch, child } => self.returning.push_back((batch, child)),
            Report::Charge { lane, key, unit, n } => self.charge(&lane, key.as_deref(), &unit, n),
            Report::Resolved { run, node, resolution } => {
                self.step(run, Input::Resolved { node, resolution });
                self.forget_call(run, node);
            }
            Report::LettersRead { run } => self.note_letters(run),
            Report::Merged { session, number, result } => self.merged(&session, number, result),
            // Reports of progress gate nothing; while the store refuses they would only pile up.
            Report::Blocking { run, task, attempt, reason } => {
                self.step(run, Input::Blocking { task, attempt, reason });
            }
            Report::Warning { run, task, attempt, code, reason } => {
                self.step(run, Input::Warned { task, attempt, code, reason });
            }
            Report::Progress { .. } if self.staged.stall().is_some() => {}
            Report::Progress { run, span, attempt, done, total, text } => {
                let task = TaskRef { node: span.node, index: span.lo };
                self.step(run, Input::Progress { task, attempt, done, total, text });
            }
        }
    }

    fn charge(&mut self, lane: &str, key: Option<&str>, unit: &str, n: u64) {
        // Lanes stay for as long as the engine does.
        let Some(lane) = self.lanes.index(lane) else { return };
        if let Err(error) = self.lanes.charge(lane, key, unit, n, self.now) {
            // The lane had it when the call began.
            tracing::warn!(target: "goclaw.engine", code = error.code, "{}", error.message);
        }
    }

    fn done(&mut self, id: BatchId, lo: u32, outcomes: Vec<Outcome>, busy_ns: u64) {
        let n = outcomes.len() as u32;
        self.came_back(id, lo, n);
        let Some(flight) = self.flights.out.get_mut(&id) else {
            Stats::add(&self.stats.results_late, u64::from(n));
            return;
        };
        let batch = Arc::clone(&flight.batch);
        if busy_ns > 0 {
            self.paces.learn(&flight.agent, outcomes.len(), busy_ns);
        }
        if let Some(pause) = pause_asked(&outcomes) {
            // A lane without rates stands for nobody in particular: only the one who asked waits.
            let key = batch.rate_key.as_deref();
            if key.is_some() || self.lanes.lane(flight.lane).has_limits() {
                self.lanes.hold(flight.lane, key, self.now.plus(pause));
            }
        }
        let counts = (lo..lo + n).filter(|child| !flight.given_up.remove(child)).count() as u32;
        // An agent may end while a part of it still waits.
        flight.lent.retain(|child, _| !(lo..lo + n).contains(child));
        self.waits.forget(batch.call.run, id, lo, lo + n);
        flight.left = flight.left.saturating_sub(counts);
        flight.settle();
        if flight.left == 0 {
            self.landed(id);
        }
        let (run, node) = (batch.call.run, batch.span.node);
        let span = Span::new(node, lo, n);
        self.step(run, Input::Done { span, attempt: batch.attempt, outcomes });
        self.forget_call(run, node);
    }

    /// Hands a batch to the executor: from now on its time counts.
    pub(super) fn execute(&mut self, batch: Arc<Batch>) {
        if let Some(flight) = self.flights.out.get_mut(&batch.id) {
            (flight.since, flight.begun) = (self.now, true);
        }
        self.executor.execute(batch);
    }

    /// Removes a batch; its permits go back with it.
    pub(super) fn landed(&mut self, id: BatchId) {
        if let Some(flight) = self.flights.out.remove(&id) {
            self.paces.came_back(&flight.agent, flight.style, flight.batch.span.len);
            self.waits.forget(flight.batch.call.run, id, 0, u32::MAX);
        }
    }

    /// Drops what the calls of a node shared, once the node has ended.
    pub(super) fn forget_call(&mut self, run: RunId, node: u32) {
        if let Some(slot) = self.runs.get_mut(&run)
            && slot.run.node_state(node).is_terminal()
        {
            slot.calls.remove(&node);
        }
    }

    /// Looks after a batch that has been out for a while: takes what is finished, gives the calls
    /// behind a slow one back to the lane, ends attempts that are over their timeout.
    pub(super) fn look_after(&mut self, id: BatchId) {
        let Some(flight) = self.flights.out.get(&id) else { return };
        if !flight.begun {
            // Nothing of it can be over, and what was given up now would begin all the same later.
            let again = flight.first_check(self.now);
            return again.into_iter().for_each(|at| self.timers.at(at, Due::Batch(id)));
        }
        match flight.style {
            Style::Loop => self.look_after_loop(id),
            Style::Thread | Style::Process => self.look_after_thread(id),
        }
    }

    fn look_after_thread(&mut self, id: BatchId) {
        let Some(batch) = self.flights.out.get(&id).map(|flight| Arc::clone(&flight.batch)) else {
            return;
        };
        self.take_finished(id, &batch);
        let Some((index, held)) = batch.under_way() else {
            return self.check_again(id, [batch.timeout.or(batch.idle()), Some(HOLD_UP_MS)]);
        };
        let verdict = verdict(&batch, index, held);
        if verdict.is_err() || held >= HOLD_UP_MS {
            self.take_back(&batch);
        }
        let over = match verdict {
            // With the rest taken back nobody begins another call, so this one is the last.
            Err(over) if batch.under_way().is_some_and(|(still, _)| still == index) => over,
            Err(_) => return self.check_again(id, [Some(1), None]),
            Ok(left) => {
                let behind = self.flights.out.get(&id).is_some_and(|flight| flight.left > 1);
                let left = left.map(|left| left.max(1));
                return self.check_again(id, [left, behind.then_some(HOLD_UP_MS)]);
            }
        };
        self.take_finished(id, &batch);
        let task = TaskRef { node: batch.span.node, index };
        self.time_out(&batch, task, over);
        self.landed(id);
        self.return_rest(&batch);
    }

    /// What else of the batch has no outcome was not begun: in a worker process, out of our reach.
    fn return_rest(&mut self, batch: &Batch) {
        let attempt = batch.attempt;
        for span in self.still_running(batch) {
            self.step(batch.call.run, Input::TakenBack { span, attempt });
        }
    }

    pub(super) fn take_finished(&mut self, id: BatchId, batch: &Batch) {
        if let Some((lo, outcomes)) = batch.take_finished() {
            self.done(id, lo, outcomes, 0);
        }
    }

    /// Gives the calls that nobody has begun back to the lane.
    pub(super) fn take_back(&mut self, batch: &Batch) {
        let Some(rest) = batch.take_back() else { return };
        if let Some(flight) = self.flights.out.get_mut(&batch.id) {
            let counts = (rest.lo..rest.hi()).filter(|child| !flight.given_up.contains(child));
            flight.left -= counts.count() as u32;
            flight.settle();
            if flight.left == 0 {
                self.landed(batch.id);
            }
        }
        for span in self.running_in(batch, rest) {
            self.step(batch.call.run, Input::TakenBack { span, attempt: batch.attempt });
        }
    }

    fn check_again(&mut self, id: BatchId, after: [Option<Millis>; 2]) {
        if let Some(ms) = after.into_iter().flatten().min() {
            self.timers.at(self.now.plus(ms), Due::Batch(id));
        }
    }

    /// Looks at every call of a loop batch that is still under way: all began together.
    fn look_after_loop(&mut self, id: BatchId) {
        let Some(flight) = self.flights.out.get(&id) else { return };
        let (batch, held) = (Arc::clone(&flight.batch), self.now.since(flight.since));
        let mut next = None;
        for task in self.still_running(&batch).into_iter().flat_map(Span::tasks) {
            match verdict(&batch, task.index, held) {
                Ok(left) => next = [next, left].into_iter().flatten().min(),
                Err(over) => {
                    self.give_up_call(id, task.index);
                    self.time_out(&batch, task, over);
                }
            }
        }
        self.check_again(id, [next.map(|ms| ms.max(HOLD_UP_MS)), None]);
    }

    /// One call of a loop batch counts no more; its permit goes back.
    fn give_up_call(&mut self, id: BatchId, child: u32) {
        let Some(flight) = self.flights.out.get_mut(&id) else { return };
        flight.lent.remove(&child);
        self.waits.forget(flight.batch.call.run, id, child, child + 1);
        flight.left -= 1;
        flight.given_up.insert(child);
        flight.settle();
        flight.batch.let_go_of(child);
        if flight.left == 0 {
            self.landed(id);
        }
    }

    fn time_out(&mut self, batch: &Arc<Batch>, task: TaskRef, over: Over) {
        Stats::add(&self.stats.attempts_timed_out, 1);
        let attempt = batch.attempt;
        let (said, input) = match over {
            Over::Time(after_ms) => {
                let said = format!("took longer than {after_ms} ms");
                (said, Input::TimedOut { task, attempt, after_ms })
            }
            Over::Silence(after_ms) => {
                let said = format!("gave no sign of life for {after_ms} ms");
                (said, Input::Silent { task, attempt, after_ms })
            }
        };
        tracing::warn!(
            target: "goclaw.engine", run = %batch.call.run, trace = %batch.call.trace_id,
            "task `{}` {said} in attempt {attempt}, which is given up", batch.name(task.index),
        );
        self.step(batch.call.run, input);
        self.leave_behind(batch, task.into(), &[task.into()]);
        self.forget_call(batch.call.run, task.node);
    }

    /// The tasks of a batch whose attempt has no outcome yet, in spans.
    pub(super) fn still_running(&self, batch: &Batch) -> Vec<Span> {
        self.running_in(batch, batch.span)
    }

    fn running_in(&self, batch: &Batch, part: Span) -> Vec<Span> {
        let Some(slot) = self.runs.get(&batch.call.run) else { return Vec::new() };
        let mut spans: Vec<Span> = Vec::new();
        for task in part.tasks().filter(|&t| slot.run.is_running(t, batch.attempt)) {
            match spans.last_mut() {
                Some(last) if last.hi() == task.index => last.len += 1,
                _ => spans.push(task.into()),
            }
        }
        spans
    }
}

/// The longest pause that agents asked for, which is one for all who share their lane or key.
fn pause_asked(outcomes: &[Outcome]) -> Option<Millis> {
    let asked = outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Failed(failure) => failure.retry_after,
        _ => None,
    });
    asked.max()
}

/// What is over of a call under way.
#[derive(Clone, Copy)]
enum Over {
    Time(Millis),
    Silence(Millis),
}

/// Whether a call that has been under way for `held` is over its time, or when to ask again.
fn verdict(batch: &Batch, index: u32, held: Millis) -> Result<Option<Millis>, Over> {
    if let Some(timeout) = batch.timeout.filter(|&timeout| held >= timeout) {
        return Err(Over::Time(timeout));
    }
    let silent = batch.silent_for(index).map_or(held, |silent| silent.min(held));
    if let Some(idle) = batch.idle().filter(|&idle| silent >= idle) {
        return Err(Over::Silence(idle));
    }
    let time = batch.timeout.map(|timeout| timeout - held);
    let silence = batch.idle().map(|idle| idle - silent);
    Ok([time, silence].into_iter().flatten().min())
}
