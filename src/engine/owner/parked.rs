//! What this process cannot do: tasks whose agent or lane nobody has, and runs it cannot replay.
//!
//! Both make their run `incompatible`. The first go on as soon as what they miss is there; the second
//! are for another version of goclaw, or for nobody: cancelling or purging them always works.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Owner;
use crate::engine::cell::{Cell, End};
use crate::engine::inbox::Missing;
use crate::lane::Entry;
use crate::math::Table;
use crate::model::{CancelCause, Error, Event, Record, RunId, RunState, Span};
use crate::run::{Effect, Turn};

/// What is parked.
#[derive(Default)]
pub(super) struct Parked {
    /// Ready tasks of live runs that miss something.
    tasks: Table<RunId, Vec<Entry>>,
    /// Runs that cannot be replayed.
    unreadable: Table<RunId, Unreadable>,
}

struct Unreadable {
    cell: Arc<Cell>,
    /// Its end is decided, and not durable yet.
    ending: bool,
}

impl Parked {
    pub(super) fn unreadable(&self, run: RunId) -> Option<&Arc<Cell>> {
        self.unreadable.get(&run).map(|unreadable| &unreadable.cell)
    }
    /// What is parked of a live run.
    pub(super) fn of_run(&self, run: RunId) -> impl Iterator<Item = &Entry> {
        self.tasks.get(&run).into_iter().flatten()
    }
    pub(super) fn unreadables(&self) -> usize {
        self.unreadable.len()
    }
}

impl Owner {
    /// Parks ready tasks whose agent or lane is not there (yet).
    pub(super) fn park(&mut self, entry: Entry) {
        let run = entry.run;
        self.parked.tasks.entry(run).or_default().push(entry);
        if let Some(slot) = self.runs.get(&run) {
            slot.cell.set_state(RunState::Incompatible);
        }
        self.incompatible.add(run);
        self.count_incompatible();
    }

    /// Offers parked tasks again.
    pub(super) fn unpark(&mut self) {
        for (run, entries) in std::mem::take(&mut self.parked.tasks) {
            for entry in entries {
                self.offer(run, entry.span, entry.attempts);
            }
            if !self.parked.tasks.contains_key(&run) {
                self.is_compatible(run);
            }
        }
    }

    /// Forgets the parked tasks of a run that needs them no more.
    pub(super) fn unpark_run(&mut self, run: RunId) {
        if self.parked.tasks.remove(&run).is_some() {
            self.is_compatible(run);
        }
    }

    /// Forgets parked tasks that have ended where they were.
    pub(super) fn unpark_span(&mut self, run: RunId, span: Span) {
        let Some(entries) = self.parked.tasks.get_mut(&run) else { return };
        entries.retain(|entry| {
            let of = entry.span;
            of.node != span.node || of.lo < span.lo || span.hi() < of.hi()
        });
        if entries.is_empty() {
            self.unpark_run(run);
        }
    }

    fn is_compatible(&mut self, run: RunId) {
        self.incompatible.remove(run);
        self.count_incompatible();
        self.show_state(run);
    }

    /// Tells the holders of a run which state it is in, as far as that is durable.
    pub(super) fn show_state(&self, run: RunId) {
        if let Some(slot) = self.runs.get(&run) {
            let parked = self.parked.tasks.contains_key(&run);
            slot.cell.set_state(if parked { RunState::Incompatible } else { slot.run.state() });
        }
    }

    fn count_incompatible(&self) {
        self.stats.runs_incompatible.store(self.incompatible.len() as u64, Ordering::Relaxed);
    }

    /// What parked tasks wait for.
    pub(super) fn missing(&self) -> Missing {
        let (mut agents, mut lanes) = (BTreeSet::new(), BTreeSet::new());
        let mut seen = HashSet::new();
        for entry in self.parked.tasks.values().flatten() {
            let Some(slot) = self.runs.get(&entry.run) else { continue };
            let task = slot.run.plan().task(entry.span.node);
            // Most parked runs miss the same.
            if !seen.insert((task.agent.as_str(), task.lane.as_str(), task.isolation as u8)) {
                continue;
            }
            if self.executor.style(&task.agent, task.isolation).is_none() {
                agents.insert(task.agent.clone());
            }
            if self.lanes.index(&task.lane).is_none() {
                lanes.insert(task.lane.clone());
            }
        }
        Missing { agents: agents.into_iter().collect(), lanes: lanes.into_iter().collect() }
    }

    /// Parks a run that cannot be replayed: it is listed, and its handles tell why.
    pub(super) fn park_unreadable(&mut self, run: RunId, records: &[Record], error: Error) {
        tracing::error!(target: "goclaw.engine", run = %run, code = error.code, "{}", error.message);
        let durability = match records.first().and_then(|record| record.events.first()) {
            Some(Event::Submitted(submitted)) => submitted.durability,
            _ => crate::model::Durability::Strict,
        };
        let cell = Cell::new(run, durability, RunState::Incompatible);
        cell.finish(End::Unreadable(error));
        self.parked.unreadable.insert(run, Unreadable { cell, ending: false });
        self.incompatible.add(run);
        self.count_incompatible();
    }

    /// Ends a run that cannot be replayed, once. It takes no plan to say that it is over.
    pub(super) fn give_up(&mut self, run: RunId, reason: String) {
        let Some(unreadable) = self.parked.unreadable.get_mut(&run) else { return };
        if std::mem::replace(&mut unreadable.ending, true) {
            return;
        }
        let durability = unreadable.cell.durability;
        let cause = CancelCause::Asked;
        let ended = Event::RunEnded { state: RunState::Cancelled, reason: Some(reason.clone()) };
        let events = vec![Event::CancelRequested { cause, reason }, ended];
        self.stage(run, Turn { events, effects: vec![Effect::Ended], late: 0 }, durability);
    }

    /// The end of a run that cannot be replayed is durable.
    pub(super) fn given_up(&mut self, run: RunId) {
        let Some(Unreadable { cell, .. }) = self.parked.unreadable.remove(&run) else { return };
        cell.set_state(RunState::Cancelled);
        self.incompatible.remove(run);
        self.count_incompatible();
    }
}
