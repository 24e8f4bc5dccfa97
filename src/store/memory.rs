//! What the operations on memory do, for every store: the meaning that the tables on disk follow.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use crate::model::{Entry, EntryId, Forgetting, Grade, Memorized, MemoryOp, VectorModel};

/// What one session remembers.
pub type Memories = BTreeMap<EntryId, Memorized>;

/// An operation without the vector of another generation; `None` where nothing is left of it.
pub fn in_force(op: &MemoryOp, current: u32) -> Option<Cow<'_, MemoryOp>> {
    match op {
        MemoryOp::Vector { generation, .. } if *generation != current => None,
        MemoryOp::Put(it) if it.vector.is_some() && it.vector_of(current).is_none() => {
            let entry = Arc::clone(&it.entry);
            let bare = Memorized { entry, vector: None, generation: 0 };
            Some(Cow::Owned(MemoryOp::Put(bare)))
        }
        _ => Some(Cow::Borrowed(op)),
    }
}

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
        MemoryOp::Vector { vector, generation, .. } if memorized.entry.away.is_none() => {
            memorized.vector = Some(vector.clone());
            memorized.generation = *generation;
        }
        MemoryOp::Review { .. } => reviewed(Arc::make_mut(&mut memorized.entry), op),
        MemoryOp::Move { tier, moved, .. } => {
            let own = memorized.entry.id;
            for (_, fingerprint) in moved.iter().filter(|(id, _)| *id == own) {
                memorized.leave(tier, *fingerprint);
            }
        }
        MemoryOp::Back { content, vector, generation, .. } => {
            memorized.come_back(content, vector, *generation);
        }
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
                self.settle(model);
            }
            return;
        };
        let Some(op) = in_force(op, self.generation()) else { return };
        let op = &*op;
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

    fn generation(&self) -> u32 {
        self.model.as_ref().map_or(0, |model| model.generation)
    }

    fn settle(&mut self, model: &VectorModel) {
        let is_new = self.generation() != model.generation;
        self.model = Some(model.clone());
        if is_new {
            let all = self.sessions.values_mut().flat_map(BTreeMap::values_mut);
            all.for_each(|it| (it.vector, it.generation) = (None, 0));
        }
    }

    /// Entries with text and without a vector, by session and id, from behind `after` on.
    pub(super) fn unvectored(
        &self,
        after: Option<(&str, EntryId)>,
    ) -> impl Iterator<Item = &Arc<Entry>> {
        let from = after.map_or(Bound::Unbounded, |(session, _)| Bound::Included(session));
        let sessions = self.sessions.range::<str, _>((from, Bound::Unbounded));
        let all = sessions.flat_map(|(_, memories)| memories.values());
        let is_after = move |entry: &Entry| {
            after.is_none_or(|(session, id)| *entry.session != *session || entry.id > id)
        };
        let lack = all.filter(|it| it.vector.is_none() && it.entry.wants_vector());
        lack.map(|it| &it.entry).filter(move |entry| is_after(entry))
    }
}
