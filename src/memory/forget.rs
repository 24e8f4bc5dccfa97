//! Forgetting: by id, by strength, or a whole session.

use super::check;
use super::review::strength;
use super::service::Memory;
use crate::model::{EntryId, MemoryOp, Millis, Result};

/// Which memories of a session are to go.
#[derive(Clone, Debug, PartialEq)]
pub enum Forget {
    /// These; ids that are not there are counted out.
    Ids(Vec<EntryId>),
    /// Those whose strength lies below, weakest first, save pinned ones and those younger than
    /// `grace`.
    Below { strength: f64, grace: Millis },
}

/// What was forgotten, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    pub ids: Vec<EntryId>,
    /// How many more fit, beyond the limit.
    pub left: u64,
}

impl Memory {
    /// Finds what a forgetting would take, up to `limit`.
    ///
    /// # Errors
    /// `memory.session`, `memory.threshold`, `engine.closed`, `store.*`.
    pub fn doomed(&self, session: &str, what: &Forget, limit: usize) -> Result<Forgotten> {
        self.doomed_with(session, what, limit, &[])
    }

    /// As `doomed`, with operations of the session laid over it that are not committed (yet).
    ///
    /// # Errors
    /// As `doomed`.
    pub fn doomed_with(
        &self,
        session: &str,
        what: &Forget,
        limit: usize,
        ops: &[MemoryOp],
    ) -> Result<Forgotten> {
        check::session(session)?;
        if let Forget::Below { strength, .. } = what {
            check::threshold(*strength)?;
        }
        let now = self.now();
        let mut found = self.look_with(session, ops, |sight| match what {
            Forget::Ids(ids) => {
                let there = ids.iter().filter(|id| sight.slot(**id).is_some());
                Ok(there.map(|id| (0.0, *id)).collect())
            }
            Forget::Below { strength: below, grace } => {
                let fsrs = self.fsrs_of(sight);
                let near = sight.due().below(*below, &fsrs, now);
                let near = near.filter_map(|id| Some((id, sight.slot(id)?)));
                let old = near.filter(|(_, it)| now.since(it.created) >= *grace);
                let weak = old.map(|(id, it)| (strength(&fsrs, it, now), id));
                Ok(weak.filter(|(strength, _)| strength < below).collect::<Vec<_>>())
            }
        })?;
        // The weakest first; a sort that keeps the order of ids that were asked for.
        found.sort_by(|a, b| a.0.total_cmp(&b.0));
        found.dedup();
        let left = found.len().saturating_sub(limit) as u64;
        found.truncate(limit);
        Ok(Forgotten { ids: found.into_iter().map(|(_, id)| id).collect(), left })
    }

    /// Forgets up to `limit` memories.
    ///
    /// # Errors
    /// As `doomed`.
    pub fn forget(&self, session: &str, what: &Forget, limit: usize) -> Result<Forgotten> {
        let doomed = self.doomed(session, what, limit)?;
        if !doomed.ids.is_empty() {
            let (session, ids) = (session.into(), doomed.ids.clone());
            self.commit(vec![MemoryOp::Forget { session, ids }])?;
        }
        Ok(doomed)
    }

    /// Forgets everything of a session, pinned or not; answers how many memories that were.
    ///
    /// # Errors
    /// `memory.session`, `engine.closed`, `store.*`.
    pub fn delete_session(&self, session: &str) -> Result<u64> {
        let count = self.count(Some(session))?;
        if count > 0 || self.forgetting(session)?.is_some() {
            self.commit(vec![MemoryOp::DeleteSession { session: session.into() }])?;
        }
        Ok(count)
    }
}
