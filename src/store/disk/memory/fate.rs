//! What the operations of the tail make of what LMDB holds.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::model::{EntryId, Memorized, MemoryOp, Result};
use crate::store::memory::change;

/// What later operations make of one entry.
#[derive(Default)]
pub(super) struct Fate {
    /// The entry as it was put last, or that it was taken away; `None`: what is stored stands.
    anchor: Option<Option<Memorized>>,
    /// Changes since.
    changes: Vec<MemoryOp>,
}

impl Fate {
    /// Takes up the next operation on the entry.
    pub(super) fn add(&mut self, op: &MemoryOp) {
        match op {
            MemoryOp::Put(memorized) => *self = Self::whole(memorized.clone()),
            MemoryOp::Forget { .. } | MemoryOp::DeleteSession { .. } => self.end(),
            MemoryOp::Vector { .. }
            | MemoryOp::Review { .. }
            | MemoryOp::Move { .. }
            | MemoryOp::Back { .. } => self.changes.push(op.clone()),
            MemoryOp::Model(_)
            | MemoryOp::Forgetting { .. }
            | MemoryOp::Copy { .. }
            | MemoryOp::Gone { .. } => {}
        }
    }

    fn whole(memorized: Memorized) -> Self {
        Self { anchor: Some(Some(memorized)), changes: Vec::new() }
    }

    pub(super) fn end(&mut self) {
        *self = Self { anchor: Some(None), changes: Vec::new() };
    }

    /// True where the stored entry is what there is.
    pub(super) fn is_untouched(&self) -> bool {
        self.anchor.is_none() && self.changes.is_empty()
    }

    /// Whether there is an entry, if `stored` says whether one is stored.
    pub(super) fn exists(&self, stored: bool) -> bool {
        self.anchor.as_ref().map_or(stored, Option::is_some)
    }

    /// The entry as it is now. `stored` reads it where no operation says all of it.
    pub(super) fn settle(
        self,
        stored: impl FnOnce() -> Result<Option<Memorized>>,
    ) -> Result<Option<Memorized>> {
        let mut entry = match self.anchor {
            Some(anchor) => anchor,
            None => stored()?,
        };
        if let Some(entry) = &mut entry {
            self.changes.iter().for_each(|op| change(entry, op));
        }
        Ok(entry)
    }
}

/// What an operation says of one entry: a move names many.
pub(super) fn of_one(op: &MemoryOp, id: EntryId) -> Cow<'_, MemoryOp> {
    let MemoryOp::Move { session, tier, moved } = op else { return Cow::Borrowed(op) };
    let moved = moved.iter().filter(|(own, _)| *own == id).copied().collect();
    Cow::Owned(MemoryOp::Move { session: session.clone(), tier: tier.clone(), moved })
}

/// What later operations make of a whole session.
#[derive(Default)]
pub(super) struct Overlay {
    /// Nothing that is stored stands any more.
    pub(super) cleared: bool,
    pub(super) fates: BTreeMap<EntryId, Fate>,
}

impl Overlay {
    /// Takes up the session's next operation.
    pub(super) fn add(&mut self, op: &MemoryOp) {
        match op {
            MemoryOp::DeleteSession { .. } => *self = Self { cleared: true, ..Self::default() },
            MemoryOp::Forget { ids, .. } => {
                ids.iter().for_each(|id| self.fates.entry(*id).or_default().end());
            }
            MemoryOp::Put(memorized) => self.fate(memorized.entry.id).add(op),
            MemoryOp::Vector { id, .. }
            | MemoryOp::Review { id, .. }
            | MemoryOp::Back { id, .. } => {
                self.fate(*id).add(op);
            }
            MemoryOp::Move { moved, .. } => {
                moved.iter().for_each(|(id, _)| self.fate(*id).add(&of_one(op, *id)));
            }
            MemoryOp::Model(_)
            | MemoryOp::Forgetting { .. }
            | MemoryOp::Copy { .. }
            | MemoryOp::Gone { .. } => {}
        }
    }

    fn fate(&mut self, id: EntryId) -> &mut Fate {
        self.fates.entry(id).or_default()
    }
}
