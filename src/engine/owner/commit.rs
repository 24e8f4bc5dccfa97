//! Append, start, sync, act: the order that never changes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::timers::Due;
use super::unwritable::UNWRITABLE;
use super::{Owner, STORE_RETRY};
use crate::agent::Batch;
use crate::model::{Durability, Error, Event, MemoryOp, Record, RunId, Stats, Timestamp};
use crate::run::{Effect, Turn};

type Ack = Box<dyn FnOnce() + Send>;

/// What the turn has decided and not carried out yet.
pub(super) struct Staged {
    next_seq: u64,
    records: Vec<Record>,
    pub(super) effects: Vec<(RunId, Effect)>,
    /// Batches that may start once their `Started` is written.
    pub(super) launches: Vec<Arc<Batch>>,
    /// Batches that may start once their `Started` is on disk (at most once).
    pub(super) launches_durable: Vec<Arc<Batch>>,
    /// What was memorized, until it lasts and the loaded sessions may know.
    memory: Vec<MemoryOp>,
    /// Answers to whoever waits for what was decided.
    pub(super) acks: Vec<Ack>,
    /// An effect waits for a sync.
    pub(super) gated: bool,
    /// Something was written that the relaxed window must bring to disk.
    dirty: bool,
    sync_timer: bool,
    /// Effects have made more work for this turn.
    pub(super) again: bool,
    stalled: Option<(Error, Instant)>,
}

impl Staged {
    pub(super) fn new(next_seq: u64) -> Self {
        Self {
            next_seq,
            records: Vec::new(),
            effects: Vec::new(),
            launches: Vec::new(),
            launches_durable: Vec::new(),
            memory: Vec::new(),
            acks: Vec::new(),
            gated: false,
            dirty: false,
            sync_timer: false,
            again: false,
            stalled: None,
        }
    }

    pub(super) fn add(&mut self, run: RunId, turn: Turn, durability: Durability, at: Timestamp) {
        self.effects.extend(turn.effects.into_iter().map(|effect| (run, effect)));
        if turn.events.is_empty() {
            return;
        }
        if durability == Durability::Strict {
            self.gated |= turn.events.iter().any(|event| event.gates());
        }
        for event in &turn.events {
            if let Event::Memory(ops) = event {
                self.memory.extend_from_slice(ops);
            }
        }
        let weight: u64 = turn.events.iter().map(|event| event.weight()).sum();
        match self.records.last_mut() {
            Some(last) if last.run == run && last.at == at => last.events.extend(turn.events),
            _ => self.records.push(Record { run, seq: self.next_seq, at, events: turn.events }),
        }
        self.next_seq += weight;
    }

    pub(super) fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }
    pub(super) fn put_records(&mut self, records: Vec<Record>) {
        self.records = records;
    }

    /// Forgets what a run was about to do.
    pub(super) fn drop_run(&mut self, run: RunId) {
        self.effects.retain(|(of, _)| *of != run);
        self.launches.retain(|batch| batch.call.run != run);
        self.launches_durable.retain(|batch| batch.call.run != run);
    }

    pub(super) fn sync_is_due(&mut self) {
        self.sync_timer = false;
        self.gated |= self.dirty;
    }

    /// Why the store takes nothing now.
    pub(super) fn stall(&self) -> Option<&Error> {
        self.stalled.as_ref().map(|(error, _)| error)
    }
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.stalled.as_ref().map(|(_, at)| *at)
    }
}

impl Owner {
    /// Makes the turn's decisions last, then carries them out. While the store refuses, nothing is
    /// carried out and nothing is lost: the same records are tried again until there is room.
    pub(super) fn commit(&mut self) {
        if !self.written() {
            return;
        }
        for batch in std::mem::take(&mut self.staged.launches) {
            self.execute(batch);
        }
        if !self.synced() {
            return;
        }
        for batch in std::mem::take(&mut self.staged.launches_durable) {
            self.execute(batch);
        }
        if !self.staged.memory.is_empty() {
            // Before anybody hears that it lasts: who is told so must find it.
            self.shelves.committed(&std::mem::take(&mut self.staged.memory));
        }
        self.watch.advance(self.staged.next_seq);
        for (run, effect) in std::mem::take(&mut self.staged.effects) {
            self.act(run, effect);
        }
        // Every run begun so far has offered its sources; places need no reservation any more.
        self.lanes.clear_reservations();
        for ack in std::mem::take(&mut self.staged.acks) {
            ack();
        }
    }

    fn written(&mut self) -> bool {
        if self.staged.retry_at().is_some_and(|at| Instant::now() < at) {
            return false;
        }
        if self.staged.records.is_empty() {
            return true;
        }
        match self.store.append(&self.staged.records) {
            Ok(()) => {
                Stats::add(&self.stats.journal_records, self.staged.records.len() as u64);
                let bytes = self.store.journal_bytes();
                self.stats.journal_bytes.store(bytes, Ordering::Relaxed);
                self.staged.records.clear();
                self.staged.dirty = !self.memory;
                self.staged.stalled = None;
                true
            }
            Err(error) if error.code == UNWRITABLE => match self.write_each() {
                Ok(()) => {
                    self.staged.dirty = !self.memory;
                    // What failed the runs concerned.
                    self.written()
                }
                Err(error) => self.stall(error),
            },
            Err(error) => self.stall(error),
        }
    }

    fn synced(&mut self) -> bool {
        if self.staged.gated {
            if let Err(error) = self.store.sync() {
                return self.stall(error);
            }
            Stats::add(&self.stats.journal_syncs, 1);
            self.staged.gated = false;
            self.staged.dirty = false;
            self.staged.stalled = None;
        } else if self.staged.dirty && !self.staged.sync_timer {
            self.staged.sync_timer = true;
            self.timers.at(self.now.plus(self.relaxed_window), Due::Sync);
        }
        true
    }

    fn stall(&mut self, error: Error) -> bool {
        if self.staged.stalled.is_none() {
            tracing::error!(target: "goclaw.store", code = error.code, "{}", error.message);
        }
        Stats::add(&self.stats.store_errors, 1);
        self.staged.stalled = Some((error, Instant::now() + STORE_RETRY));
        false
    }
}
