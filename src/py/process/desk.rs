//! What the threads of a worker share, and what its executor's reports become on their way out.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use super::super::executor::PythonExecutor;
use super::asks::Asks;
use super::mark::Mark;
use super::outbox::Outbox;
use crate::agent::wire::{News, Recipe};
use crate::agent::{Batch, Gauge, NodeCall, Outcome, Report, Reports};
use crate::model::{BatchId, Failure, Millis, RunId};

/// A node as the worker knows it.
pub(super) struct Node {
    pub(super) call: Result<Arc<NodeCall>, Box<Failure>>,
    pub(super) agent: String,
    pub(super) recipe: Recipe,
}

/// One batch for the main thread.
pub(super) struct Task {
    pub(super) batch: Arc<Batch>,
    pub(super) node: Arc<Node>,
}

/// The batch under way, and the part of it that the event loop has.
pub(super) type Current = Option<(Arc<Batch>, Option<Arc<Batch>>)>;

/// What reader and main thread share.
pub(super) struct Desk {
    pub(super) outbox: Arc<Outbox>,
    pub(super) executor: Arc<PythonExecutor>,
    pub(super) current: Arc<Mutex<Current>>,
    pub(super) mark: Arc<Mark>,
    pub(super) asks: Arc<Asks>,
}

impl Desk {
    pub(super) fn current(&self) -> std::sync::MutexGuard<'_, Current> {
        lock(&self.current)
    }
}

/// The mark of a batch, for the part of it that the event loop has.
pub(super) struct Stand {
    pub(super) mark: Arc<Mark>,
    pub(super) batch: BatchId,
}

impl Gauge for Stand {
    /// The batch itself notes its calls.
    fn begin(&self, _: BatchId, _: u32) {}
    fn under_way(&self, _: BatchId) -> Option<(u32, Millis)> {
        self.mark.under_way(self.batch)
    }
    fn beat(&self, _: BatchId, details: Option<&str>) {
        self.mark.beat(self.batch, details);
    }
    fn silent_for(&self, _: BatchId) -> Option<Millis> {
        self.mark.silent_for(self.batch)
    }
    fn details(&self, _: BatchId) -> Option<Arc<str>> {
        self.mark.details(self.batch)
    }
}

/// Where the executor of the worker reports: to the engine, save for the coroutine that the main
/// thread waits for.
pub(super) struct Mouth {
    pub(super) outbox: Arc<Outbox>,
    pub(super) current: Arc<Mutex<Current>>,
    pub(super) ended: Mutex<Sender<Outcome>>,
}

impl Reports for Mouth {
    fn report(&self, reports: Vec<Report>) {
        let mut rest = Vec::new();
        for report in reports {
            match report {
                Report::Done { batch: ALONE, outcomes, .. } => {
                    let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
                    // Nobody waits where the main thread has ended.
                    outcomes.into_iter().for_each(|outcome| drop(ended.send(outcome)));
                }
                Report::LettersRead { run } => self.letters_read(run),
                other => rest.push(other),
            }
        }
        if !rest.is_empty() {
            self.outbox.report(rest);
        }
    }
}

impl Mouth {
    fn batch(&self, is_it: impl Fn(&Batch) -> bool) -> Option<Arc<Batch>> {
        lock(&self.current)
            .as_ref()
            .map(|(batch, _)| Arc::clone(batch))
            .filter(|batch| is_it(batch))
    }

    fn letters_read(&self, run: RunId) {
        let Some(batch) = self.batch(|batch| batch.call.run == run) else { return };
        let noted = batch.letters().map(|letters| letters.note()).unwrap_or_default();
        let by_run: Vec<_> = noted.into_iter().map(|(from, _)| from).collect();
        if !by_run.is_empty() {
            self.outbox.tell(&News::LettersRead { batch: batch.id.0, by_run });
        }
    }
}

/// Stands for the batch of one coroutine. Engines count theirs from 1.
pub(super) const ALONE: BatchId = BatchId(0);

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn report_finished(desk: &Desk, batch: &Batch) {
    if let Some((lo, outcomes)) = batch.take_finished() {
        let report = Report::Done { batch: batch.id, lo, outcomes, busy_ns: batch.busy_ns() };
        desk.outbox.report(vec![report]);
    }
}

/// Gives the calls that nobody has begun back to the engine.
pub(super) fn give_back(desk: &Desk, batch: &Batch) {
    if let Some(rest) = batch.take_back() {
        let outcomes = (0..rest.len).map(|_| Outcome::Returned).collect();
        let report = Report::Done { batch: batch.id, lo: rest.lo, outcomes, busy_ns: 0 };
        desk.outbox.report(vec![report]);
    }
}
