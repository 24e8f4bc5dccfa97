//! Runs that this process cannot go on with, for whoever lists them.
//!
//! The store knows nothing of this state: it belongs to the process, not to the run. The owner
//! writes it, listings read it.

use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock};

use super::handle::Engine;
use super::shared::unless_closed;
use crate::model::{Result, RunId, RunState};
use crate::store::{Filter, Summary};

/// The runs that are `incompatible` now.
#[derive(Debug, Default)]
pub(super) struct Incompatible(RwLock<BTreeSet<RunId>>);

impl Incompatible {
    pub(super) fn add(&self, run: RunId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(run);
    }
    pub(super) fn remove(&self, run: RunId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&run);
    }
    pub(super) fn contains(&self, run: RunId) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(&run)
    }
    pub(super) fn len(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).len()
    }
    /// Newest first, those older than `after`.
    fn older_than(&self, after: Option<RunId>) -> Vec<RunId> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match after {
            Some(after) => all.range(..after).rev().copied().collect(),
            None => all.iter().rev().copied().collect(),
        }
    }
}

impl Engine {
    /// Runs, newest first, as durable as each was promised to be.
    ///
    /// # Errors
    /// `engine.closed`, `store.*`.
    pub fn list(&self, filter: &Filter) -> Result<Vec<Summary>> {
        let before = self.next_seq();
        if filter.state == Some(RunState::Incompatible) {
            return self.list_incompatible(filter, before);
        }
        let mut page = filter.clone();
        let mut found = Vec::new();
        loop {
            page.limit = filter.limit - found.len();
            let lines = unless_closed(self.shared.store.list(&page, before))?;
            let last = lines.last().filter(|_| lines.len() == page.limit).map(|line| line.run);
            let shown = lines.into_iter().map(|line| self.as_it_is(line));
            // The store may have taken a run that is incompatible for a pending or running one.
            found.extend(shown.filter(|line| filter.shows(line)));
            let Some(last) = last.filter(|_| found.len() < filter.limit) else { return Ok(found) };
            page.after = Some(last);
        }
    }

    fn list_incompatible(&self, filter: &Filter, before: u64) -> Result<Vec<Summary>> {
        let mut found = Vec::new();
        for run in self.shared.incompatible.older_than(filter.after) {
            if found.len() >= filter.limit {
                break;
            }
            let line = unless_closed(self.shared.store.summary(run, before))?;
            found.extend(line.map(|line| self.as_it_is(line)).filter(|line| filter.shows(line)));
        }
        Ok(found)
    }

    /// The line with the state that only the process knows.
    fn as_it_is(&self, line: Summary) -> Summary {
        let state = match line.state {
            state if state.is_terminal() => state,
            _ if self.shared.incompatible.contains(line.run) => RunState::Incompatible,
            state => state,
        };
        Summary { state, ..line }
    }
}
