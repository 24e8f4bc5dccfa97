//! Strength: how it is computed, what reviews do to it, and how a session forgets.

use std::sync::{Arc, PoisonError};

use super::check;
use super::service::Memory;
use super::sight::Sight;
use super::slot::{Recalled, days};
use crate::math::fsrs::{self, Fsrs};
use crate::model::{EntryId, Error, Forgetting, Grade, MemoryOp, Result, Timestamp};

/// How one new memory would fade: for tables and plans, with nothing memorized.
pub struct Fading {
    fsrs: Fsrs,
    memory: fsrs::Memory,
}

impl Fading {
    /// A memory that was graded once, under these settings.
    ///
    /// # Errors
    /// `memory.forgetting`
    pub fn new(settings: &Forgetting, grade: Grade) -> Result<Self> {
        let fsrs = Fsrs::of(settings).map_err(|error| refused(&error))?;
        let memory = fsrs.review(None, grade, 0.0);
        Ok(Self { fsrs, memory })
    }

    /// The parameters of a preset: `anki`, or else `agent`.
    pub fn preset(name: &str) -> Vec<f64> {
        let fsrs = if name == "anki" { Fsrs::anki() } else { Fsrs::agent() };
        fsrs.parameters().to_vec()
    }

    /// Days until it is as weak as `strength`; infinite if never.
    pub fn days_until(&self, strength: f64) -> f64 {
        self.fsrs.days_until(&self.memory, strength)
    }

    /// Its strength after some days.
    pub fn strength(&self, days: f64) -> f64 {
        self.fsrs.strength(&self.memory, days)
    }
}

impl Memory {
    /// How the memories of a session are forgotten.
    ///
    /// # Errors
    /// `memory.session`, `engine.closed`, `store.*`.
    pub fn fsrs(&self, session: &str) -> Result<Arc<Fsrs>> {
        check::session(session)?;
        self.look(session, |sight| Ok(self.fsrs_of(sight)))
    }

    /// As `fsrs`, without loading the session.
    pub(super) fn fsrs_unseen(&self, session: &str) -> Result<Arc<Fsrs>> {
        let set = self.forgetting(session)?;
        let own = set.and_then(|settings| Fsrs::of(&settings).ok());
        Ok(own.map_or_else(|| self.usual(), Arc::new))
    }

    pub(super) fn fsrs_of(&self, sight: &Sight<'_>) -> Arc<Fsrs> {
        sight.fsrs().cloned().unwrap_or_else(|| self.usual())
    }

    /// How memories are forgotten where their session does not say.
    pub fn usual(&self) -> Arc<Fsrs> {
        Arc::clone(&self.usual.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sets how memories are forgotten where their session does not say, until the store is closed.
    ///
    /// # Errors
    /// `memory.forgetting`
    pub fn set_usual(&self, forgetting: &Forgetting) -> Result<()> {
        let fsrs = Fsrs::of(forgetting).map_err(|error| refused(&error))?;
        *self.usual.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fsrs);
        Ok(())
    }

    /// What a session was set to forget like; `None`: as usual.
    ///
    /// # Errors
    /// `memory.session`, `engine.closed`, `store.*`.
    pub fn forgetting(&self, session: &str) -> Result<Option<Forgetting>> {
        check::session(session)?;
        check::unless_closed(self.store.forgetting(session))
    }

    /// The sessions that were set to forget in their own way.
    ///
    /// # Errors
    /// `engine.closed`, `store.*`.
    pub fn set_apart(&self) -> Result<Vec<std::sync::Arc<str>>> {
        check::unless_closed(self.store.set_apart())
    }

    /// Sets how the memories of a session are forgotten; `None`: as usual again. Memories keep the
    /// stability that their reviews gave them; how it falls, and what later reviews do, is new.
    ///
    /// # Errors
    /// `memory.session`, `memory.forgetting`, `engine.closed`, `store.*`.
    pub fn set_forgetting(&self, session: &str, forgetting: Option<Forgetting>) -> Result<()> {
        self.commit(vec![set_forgetting(session, forgetting)?])
    }

    /// Makes the operation that reviews a memory.
    ///
    /// # Errors
    /// `memory.unknown`, `memory.session`, `engine.closed`, `store.*`.
    pub fn draft_review(
        &self,
        id: EntryId,
        session: Option<&str>,
        grade: Grade,
    ) -> Result<MemoryOp> {
        self.draft_review_with(id, session, grade, &[])
    }

    /// As `draft_review`, with operations of the session laid over it that are not committed (yet).
    ///
    /// # Errors
    /// As `draft_review`.
    pub fn draft_review_with(
        &self,
        id: EntryId,
        session: Option<&str>,
        grade: Grade,
        ops: &[MemoryOp],
    ) -> Result<MemoryOp> {
        let found = self.get_stub(id, session, ops)?.ok_or_else(|| check::unknown(id))?;
        let (entry, at) = (&found.entry, self.now());
        let fsrs = self.fsrs(&entry.session)?;
        let after = fsrs.review(Some(&entry.fsrs()), grade, days(&**entry, at));
        Ok(MemoryOp::Review {
            session: Arc::clone(&entry.session),
            id,
            grade,
            // A clock that went back must not make the memory younger than its last review.
            at: at.max(entry.last_review),
            stability: after.stability,
            difficulty: after.difficulty,
        })
    }

    /// Reviews memories, all or none.
    ///
    /// # Errors
    /// As `draft_review`.
    pub fn review(&self, ids: &[EntryId], session: Option<&str>, grade: Grade) -> Result<()> {
        let draft = |id: &EntryId| self.draft_review(*id, session, grade);
        self.commit(ids.iter().map(draft).collect::<Result<_>>()?)
    }
}

/// How well a memory is still there: FSRS-6's retrievability, 0 to 1.
pub fn strength(fsrs: &Fsrs, entry: &impl Recalled, now: Timestamp) -> f64 {
    fsrs.strength(&entry.fsrs(), days(entry, now))
}

/// The operation that sets how the memories of a session are forgotten.
///
/// # Errors
/// `memory.session`, `memory.forgetting`.
pub(super) fn set_forgetting(session: &str, forgetting: Option<Forgetting>) -> Result<MemoryOp> {
    check::session(session)?;
    if let Some(settings) = &forgetting {
        Fsrs::of(settings).map_err(|error| refused(&error))?;
    }
    Ok(MemoryOp::Forgetting { session: session.into(), forgetting })
}

/// Says which number of FSRS-6 is outside of its bounds.
pub fn refused(error: &fsrs::FsrsError) -> Error {
    let help = "goclaw.Forgetting(\"agent\") and (\"anki\") have parameters within the bounds";
    Error::new("memory.forgetting", error.to_string(), help)
}
