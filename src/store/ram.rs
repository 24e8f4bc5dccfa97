//! A store that lasts as long as the process: facts and lines of runs, no payloads; memories.
//!
//! An engine keeps the runs themselves in memory, so this store only answers what users watch and
//! list. It grows until `purge` forgets runs; the engine calls that for each run it evicts.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::memory::{Copies, Memories, Remembered};
use super::ram_view::RamView;
use super::summary::Patch;
use super::{Filter, Store, Summary, View, facts};
use crate::math::Table;
use crate::model::{
    Entry, EntryId, Error, Fact, Forgetting, NO_RUN, Record, Result, RunId, Timestamp, VectorModel,
};

/// A store in RAM.
#[derive(Default)]
pub struct RamStore {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next_seq: u64,
    closed: bool,
    runs: Table<RunId, Kept>,
    /// Submitted runs in order of their ids.
    listed: BTreeSet<RunId>,
    /// Where each run's facts stand in the order of all: (first number, run), one per record.
    order: Vec<(u64, RunId)>,
    /// Entries of `order` whose run is forgotten.
    dead: usize,
    memory: Remembered,
}

#[derive(Default)]
struct Kept {
    /// What makes the run's line; three at most.
    patches: Vec<Patch>,
    facts: Vec<Fact>,
    records: usize,
}

/// Numbers start here, so that 0 means "before everything".
pub(super) const FIRST_SEQ: u64 = 1;

impl RamStore {
    fn open(&self) -> Result<MutexGuard<'_, Inner>> {
        let inner = self.lock();
        if inner.closed {
            let message = "the store in memory is closed";
            return Err(Error::new("store.closed", message, "open a new engine"));
        }
        Ok(inner)
    }

    /// Looks at what a session remembers, under the lock.
    pub(super) fn with_memories<T: Default>(
        &self,
        session: &str,
        look: impl FnOnce(&Memories) -> T,
    ) -> Result<T> {
        Ok(self.open()?.memory.sessions.get(session).map(look).unwrap_or_default())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn next_seq(&self) -> u64 {
        self.next_seq.max(FIRST_SEQ)
    }

    fn push(&mut self, record: &Record) {
        self.next_seq = self.next_seq().max(record.seq + record.weight());
        record.memory().iter().for_each(|op| self.memory.apply(op));
        if record.run == NO_RUN {
            return;
        }
        let kept = self.runs.entry(record.run).or_default();
        let before = kept.facts.len();
        kept.facts.extend(record.facts());
        if kept.facts.len() > before {
            kept.records += 1;
            self.order.push((record.seq, record.run));
        }
        let Ok(patches) = Patch::of::<Infallible>(record, |submitted| {
            Ok(submitted.workflow.as_ref().map_or_else(String::new, |flow| flow.name.clone()))
        });
        if !patches.is_empty() {
            kept.patches.extend(patches);
            self.listed.insert(record.run);
        }
    }

    fn line(&self, run: RunId, before: u64) -> Option<Summary> {
        let mut line = None;
        let patches = self.runs.get(&run)?.patches.iter();
        patches.filter(|patch| patch.seq < before).for_each(|patch| patch.apply(&mut line));
        line
    }

    fn forget(&mut self, run: RunId) {
        let Some(kept) = self.runs.remove(&run) else { return };
        self.listed.remove(&run);
        self.dead += kept.records;
        // Amortised: the order is swept when half of it is dead.
        if self.dead * 2 > self.order.len() {
            self.order.retain(|(_, run)| self.runs.contains_key(run));
            self.dead = 0;
        }
    }

    fn all_facts(&self, from: u64, limit: usize) -> Vec<Fact> {
        let mut found = Vec::new();
        // The record that `from` falls into may begin before it.
        let start = self.order.partition_point(|(seq, _)| *seq <= from).saturating_sub(1);
        for (at, (first, run)) in self.order.iter().enumerate().skip(start) {
            let Some(kept) = self.runs.get(run) else { continue };
            let end = self.order.get(at + 1).map_or(u64::MAX, |(seq, _)| *seq);
            let low = kept.facts.partition_point(|fact| fact.seq < *first);
            let record = kept.facts[low..].iter().take_while(|fact| fact.seq < end);
            found.extend(record.cloned().filter_map(|fact| facts::cut(fact, from)));
            if found.len() >= limit {
                break;
            }
        }
        found.truncate(limit);
        found
    }
}

impl Store for RamStore {
    fn next_seq(&self) -> u64 {
        self.lock().next_seq()
    }

    fn epoch(&self) -> u64 {
        1
    }

    fn journal_bytes(&self) -> u64 {
        0
    }

    fn unfinished(&self) -> Result<Vec<RunId>> {
        self.open().map(|_| Vec::new())
    }

    fn append(&self, records: &[Record]) -> Result<()> {
        let mut inner = self.open()?;
        for record in records {
            inner.push(record);
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.open().map(drop)
    }

    fn load(&self, _run: RunId) -> Result<Option<Vec<Record>>> {
        self.open().map(|_| None)
    }

    fn facts(&self, run: Option<RunId>, from: u64, limit: usize) -> Result<Vec<Fact>> {
        let inner = self.open()?;
        let Some(run) = run else { return Ok(inner.all_facts(from, limit)) };
        let Some(kept) = inner.runs.get(&run) else { return Ok(Vec::new()) };
        let low = kept.facts.partition_point(|fact| fact.seq <= from).saturating_sub(1);
        let cut = kept.facts[low..].iter().cloned().filter_map(|fact| facts::cut(fact, from));
        Ok(cut.take(limit).collect())
    }

    fn summary(&self, run: RunId, before: u64) -> Result<Option<Summary>> {
        Ok(self.open()?.line(run, before))
    }

    fn list(&self, filter: &Filter, before: u64) -> Result<Vec<Summary>> {
        let inner = self.open()?;
        let ids = match filter.after {
            Some(after) => inner.listed.range(..after),
            None => inner.listed.range(..),
        };
        let lines = ids.rev().filter_map(|run| inner.line(*run, before));
        Ok(lines.filter(|line| filter.shows(line)).take(filter.limit).collect())
    }

    fn view(&self, session: &str, look: &mut dyn FnMut(&dyn View) -> Result<()>) -> Result<()> {
        look(&RamView { store: self, session })
    }

    fn session_of(&self, id: EntryId) -> Result<Option<Arc<str>>> {
        Ok(self.open()?.memory.owners.get(&id).cloned())
    }

    fn sessions(&self, after: Option<&str>, limit: usize) -> Result<Vec<(Arc<str>, u64)>> {
        let inner = self.open()?;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let found = inner.memory.sessions.range::<str, _>((from, Bound::Unbounded));
        Ok(found.take(limit).map(|(name, all)| (Arc::clone(name), all.len() as u64)).collect())
    }

    fn copies(&self, session: &str) -> Result<Copies> {
        Ok(self.open()?.memory.copies.get(session).cloned().unwrap_or_default())
    }

    fn copied(&self) -> Result<Vec<Arc<str>>> {
        Ok(self.open()?.memory.copies.keys().cloned().collect())
    }

    fn forgetting(&self, session: &str) -> Result<Option<Forgetting>> {
        Ok(self.open()?.memory.forgetting.get(session).cloned())
    }

    fn set_apart(&self) -> Result<Vec<Arc<str>>> {
        let mut names: Vec<_> = self.open()?.memory.forgetting.keys().cloned().collect();
        names.sort_unstable();
        Ok(names)
    }

    fn unvectored(&self, after: Option<(&str, EntryId)>, limit: usize) -> Result<Vec<Arc<Entry>>> {
        Ok(self.open()?.memory.unvectored(after).take(limit).cloned().collect())
    }

    fn unvectored_count(&self) -> Result<u64> {
        Ok(self.open()?.memory.unvectored(None).count() as u64)
    }

    fn vector_model(&self) -> Result<Option<VectorModel>> {
        Ok(self.open()?.memory.model.clone())
    }

    fn purge(&self, run: Option<RunId>, before: Timestamp) -> Result<u64> {
        let mut inner = self.open()?;
        let ended = |line: &Summary| match run {
            Some(_) => line.ended.is_some(),
            None => line.ended_before(before),
        };
        let goes = |id: &RunId| inner.line(*id, u64::MAX).is_some_and(|line| ended(&line));
        let doomed: Vec<RunId> = match run {
            Some(run) => Some(run).filter(goes).into_iter().collect(),
            None => inner.listed.iter().copied().filter(goes).collect(),
        };
        for run in &doomed {
            inner.forget(*run);
        }
        Ok(doomed.len() as u64)
    }

    fn close(&self) -> Result<()> {
        let mut inner = self.lock();
        *inner = Inner { next_seq: inner.next_seq, closed: true, ..Inner::default() };
        Ok(())
    }
}
