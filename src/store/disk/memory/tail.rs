//! The operations of one segment, decoded, with where each session's and each entry's are.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::fate::{Fate, Overlay, of_one};
use super::lacking::Marks;
use crate::model::{EntryId, Forgetting, MemoryOp, VectorModel};
use crate::store::in_force;
use crate::store::memory::{self, Copies};

/// Shared with views, which go on reading it when the segment has moved.
#[derive(Debug, Default)]
pub(in crate::store::disk) struct MemoryTail {
    noted: RwLock<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    ops: Vec<MemoryOp>,
    /// Positions in `ops`.
    sessions: HashMap<Arc<str>, Vec<u32>>,
    /// Positions of the operations that name an entry.
    entries: HashMap<EntryId, Vec<u32>>,
    /// Where a session was deleted last.
    cleared: HashMap<Arc<str>, u32>,
    model: Option<VectorModel>,
    /// What they say of entries without a vector.
    lacking: Marks,
    /// How sessions forget, as it was set last.
    forgetting: HashMap<Arc<str>, Option<Forgetting>>,
    /// Sessions that cold tiers may have got copies of.
    copied: HashSet<Arc<str>>,
}

impl Noted {
    fn note(&mut self, op: MemoryOp) {
        let position = self.ops.len() as u32;
        match op.session() {
            Some(session) => match self.sessions.get_mut(session) {
                Some(positions) => positions.push(position),
                None => {
                    self.sessions.insert(Arc::clone(session), vec![position]);
                }
            },
            None => {
                if let MemoryOp::Model(model) = &op {
                    self.model = Some(model.clone());
                }
            }
        }
        match &op {
            MemoryOp::Put(memorized) => self.name(memorized.entry.id, position),
            MemoryOp::Vector { id, .. }
            | MemoryOp::Review { id, .. }
            | MemoryOp::Back { id, .. } => {
                self.name(*id, position);
            }
            MemoryOp::Move { moved, .. } => {
                moved.iter().for_each(|(id, _)| self.name(*id, position));
            }
            MemoryOp::Copy { session, .. } => drop(self.copied.insert(Arc::clone(session))),
            MemoryOp::Forget { ids, .. } => ids.iter().for_each(|id| self.name(*id, position)),
            MemoryOp::DeleteSession { session } => {
                self.cleared.insert(Arc::clone(session), position);
                self.forgetting.insert(Arc::clone(session), None);
            }
            MemoryOp::Forgetting { session, forgetting } => {
                self.forgetting.insert(Arc::clone(session), forgetting.clone());
            }
            MemoryOp::Model(_) | MemoryOp::Gone { .. } => {}
        }
        self.lacking.note(&op);
        self.ops.push(op);
    }

    fn name(&mut self, id: EntryId, position: u32) {
        self.entries.entry(id).or_default().push(position);
    }
}

impl MemoryTail {
    fn noted(&self) -> RwLockReadGuard<'_, Noted> {
        self.noted.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::store::disk) fn note(&self, ops: Vec<MemoryOp>) {
        if ops.is_empty() {
            return;
        }
        let mut noted = self.noted.write().unwrap_or_else(PoisonError::into_inner);
        ops.into_iter().for_each(|op| noted.note(op));
    }

    /// Calls `each` with the operations in order.
    pub(super) fn each<E>(
        &self,
        each: impl FnMut(&MemoryOp) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        self.noted().ops.iter().try_for_each(each)
    }

    /// Lays what happened to an entry of a session over what happened before.
    pub(super) fn tell(&self, session: &str, id: EntryId, current: u32, fate: &mut Fate) {
        let noted = self.noted();
        let cleared = noted.cleared.get(session);
        if cleared.is_some() {
            fate.end();
        }
        let Some(positions) = noted.entries.get(&id) else { return };
        for at in positions.iter().filter(|at| cleared.is_none_or(|cleared| *at > cleared)) {
            let op = &noted.ops[*at as usize];
            if op.session().is_some_and(|own| **own == *session)
                && let Some(op) = in_force(op, current)
            {
                fate.add(&of_one(&op, id));
            }
        }
    }

    /// Lays what happened to the copies of a session over what happened before.
    pub(super) fn track(&self, session: &str, copies: &mut Copies) {
        let noted = self.noted();
        let positions = noted.sessions.get(session).map(Vec::as_slice).unwrap_or_default();
        positions.iter().for_each(|at| memory::track(copies, &noted.ops[*at as usize]));
    }

    /// The sessions that cold tiers may have got copies of.
    pub(super) fn copied(&self) -> Vec<Arc<str>> {
        self.noted().copied.iter().cloned().collect()
    }

    /// Lays what happened to a session over what happened before.
    pub(super) fn lay(&self, session: &str, current: u32, overlay: &mut Overlay) {
        let noted = self.noted();
        let positions = noted.sessions.get(session).map(Vec::as_slice).unwrap_or_default();
        let ops = positions.iter().filter_map(|at| in_force(&noted.ops[*at as usize], current));
        ops.for_each(|op| overlay.add(&op));
    }

    /// The session that an entry was put into last.
    pub(super) fn owner(&self, id: EntryId) -> Option<Arc<str>> {
        let noted = self.noted();
        let positions = noted.entries.get(&id)?;
        positions.iter().rev().find_map(|at| match &noted.ops[*at as usize] {
            MemoryOp::Put(memorized) => Some(Arc::clone(&memorized.entry.session)),
            _ => None,
        })
    }

    /// The sessions that something happened to.
    pub(super) fn sessions(&self) -> Vec<Arc<str>> {
        self.noted().sessions.keys().cloned().collect()
    }

    /// What a session was set to forget like here, if it was.
    pub(super) fn forgetting(&self, session: &str) -> Option<Option<Forgetting>> {
        self.noted().forgetting.get(session).cloned()
    }

    /// Which sessions were set to something here, and which to what is usual.
    pub(super) fn set_apart(&self) -> Vec<(Arc<str>, bool)> {
        let noted = self.noted();
        noted.forgetting.iter().map(|(name, set)| (Arc::clone(name), set.is_some())).collect()
    }

    /// What the segment says of entries without a vector.
    pub(super) fn lacking(&self) -> Marks {
        self.noted().lacking.clone()
    }

    pub(super) fn model(&self) -> Option<VectorModel> {
        self.noted().model.clone()
    }
}
