//! What the operations on memory do, for every store: the meaning that the tables on disk follow.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::model::{Entry, EntryId, Forgetting, Grade, Memorized, MemoryOp, VectorModel};

/// What one session remembers.
pub type Memories = BTreeMap<EntryId, Memorized>;

/// Lays an operation of a session over what the session remembers.
pub fn apply(memories: &mut Memories, op: &MemoryOp) {
    match op {
        MemoryOp::Put(memorized) => {
            memories.insert(memorized.entry.id, memorized.clone());
        }
        MemoryOp::Vector { id, .. } | MemoryOp::Review { id, .. } | MemoryOp::Back { id, .. } => {
            if let Some(memorized) = memories.get_mut(id) {
                change(memorized, op);
            }
        }
        MemoryOp::Move { moved, .. } => {
            for (id, _) in moved {
                memories.get_mut(id).into_iter().for_each(|it| change(it, op));
            }
        }
        MemoryOp::Forget { ids, .. } => {
            for id in ids {
                memories.remove(id);
            }
        }
        MemoryOp::DeleteSession { .. } => memories.clear(),
        MemoryOp::Model(_)
        | MemoryOp::Forgetting { .. }
        | MemoryOp::Copy { .. }
        | MemoryOp::Gone { .. } => {}
    }
}

/// Lays a change of an entry over the entry. What puts one or takes one away changes none.
pub(super) fn change(memorized: &mut Memorized, op: &MemoryOp) {
    match op {
        MemoryOp::Vector { vector, .. } if memorized.entry.away.is_none() => {
            memorized.vector = Some(vector.clone());
        }
        MemoryOp::Review { .. } => reviewed(Arc::make_mut(&mut memorized.entry), op),
        MemoryOp::Move { tier, moved, .. } => {
            let own = memorized.entry.id;
            for (_, fingerprint) in moved.iter().filter(|(id, _)| *id == own) {
                memorized.leave(tier, *fingerprint);
            }
        }
        MemoryOp::Back { content, vector, .. } => drop(memorized.come_back(content, vector)),
        _ => {}
    }
}

/// What a review does to its entry.
pub(super) fn reviewed(entry: &mut Entry, review: &MemoryOp) {
    let MemoryOp::Review { grade, at, stability, difficulty, .. } = review else { return };
    entry.last_review = *at;
    (entry.stability, entry.difficulty) = (*stability, *difficulty);
    if let Some(away) = &mut entry.away {
        away.used |= *grade >= Grade::Good;
    }
}

/// What copies cold tiers may hold of a session's memories, and which tier.
pub type Copies = BTreeMap<EntryId, Arc<str>>;

/// Lays an operation of a session over what is known of its copies.
pub(super) fn track(copies: &mut Copies, op: &MemoryOp) {
    match op {
        MemoryOp::Copy { ids, tier, .. } => {
            copies.extend(ids.iter().map(|id| (*id, Arc::clone(tier))));
        }
        MemoryOp::Gone { ids, .. } => ids.iter().for_each(|id| drop(copies.remove(id))),
        _ => {}
    }
}

/// Everything that is remembered, in RAM.
#[derive(Default)]
pub(super) struct Remembered {
    /// Those that remember something.
    pub sessions: BTreeMap<Arc<str>, Memories>,
    pub owners: HashMap<EntryId, Arc<str>>,
    pub model: Option<VectorModel>,
    /// Of the sessions where it is not as usual.
    pub forgetting: HashMap<Arc<str>, Forgetting>,
    /// Of the sessions that have any.
    pub copies: BTreeMap<Arc<str>, Copies>,
}

impl Remembered {
    pub(super) fn apply(&mut self, op: &MemoryOp) {
        let Some(session) = op.session() else {
            if let MemoryOp::Model(model) = op {
                self.model = Some(model.clone());
            }
            return;
        };
        let owned = |owner: Option<&Arc<str>>| owner.is_some_and(|owner| owner == session);
        match op {
            MemoryOp::Put(memorized) => {
                self.owners.insert(memorized.entry.id, Arc::clone(session));
                self.sessions.entry(Arc::clone(session)).or_default();
            }
            MemoryOp::Forget { ids, .. } => {
                for id in ids.iter().filter(|id| owned(self.owners.get(id))).collect::<Vec<_>>() {
                    self.owners.remove(id);
                }
            }
            MemoryOp::DeleteSession { .. } => {
                self.owners.retain(|_, owner| owner != session);
                self.forgetting.remove(session);
            }
            MemoryOp::Forgetting { forgetting: Some(forgetting), .. } => {
                self.forgetting.insert(Arc::clone(session), forgetting.clone());
            }
            MemoryOp::Forgetting { forgetting: None, .. } => {
                self.forgetting.remove(session);
            }
            MemoryOp::Copy { .. } | MemoryOp::Gone { .. } => {
                let copies = self.copies.entry(Arc::clone(session)).or_default();
                track(copies, op);
                if copies.is_empty() {
                    self.copies.remove(session);
                }
            }
            _ => {}
        }
        let Some(memories) = self.sessions.get_mut(session) else { return };
        apply(memories, op);
        if memories.is_empty() {
            self.sessions.remove(session);
        }
    }
}
