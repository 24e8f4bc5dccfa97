//! One session as it is loaded: its memories by id, and its indexes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::legs::Legs;
use crate::model::{Content, Entry, EntryId, Memorized, MemoryOp, Timestamp};
use crate::store::Memories;

/// A loaded session.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    slots: Vec<Option<Slot>>,
    by_id: BTreeMap<EntryId, u32>,
    pub(super) legs: Legs,
    /// Bytes that it takes, roughly.
    pub(super) bytes: usize,
}

/// A memory in its place.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) memorized: Memorized,
    pub(super) metadata: Option<Map<String, Value>>,
}

impl Shelf {
    pub(super) fn new(memories: Memories) -> Self {
        let mut shelf = Self::default();
        memories.into_values().for_each(|memorized| shelf.put(memorized));
        shelf
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn get(&self, id: EntryId) -> Option<&Memorized> {
        self.by_id.get(&id).map(|slot| &self.at(*slot).memorized)
    }

    /// The memory in a slot that an index answered.
    pub(super) fn at(&self, slot: u32) -> &Slot {
        self.slots[slot as usize].as_ref().expect("indexes know slots that are taken only")
    }

    /// All memories in order of their ids, from behind `after` on.
    pub(super) fn after(
        &self,
        after: Option<EntryId>,
    ) -> impl DoubleEndedIterator<Item = (u32, &Slot)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let range = self.by_id.range((after.map_or(Unbounded, Excluded), Unbounded));
        range.map(|(_, slot)| (*slot, self.at(*slot)))
    }

    /// Follows an operation that was committed.
    pub(super) fn apply(&mut self, op: &MemoryOp) {
        match op {
            MemoryOp::Put(memorized) => self.put(memorized.clone()),
            MemoryOp::Vector { id, vector, .. } => {
                if let Some(slot) = self.by_id.get(id).copied() {
                    self.legs.insert_vector(slot, vector);
                    self.edit(slot, |memorized| memorized.vector = Some(vector.clone()));
                }
            }
            MemoryOp::Review { id, at, stability, difficulty, .. } => {
                if let Some(slot) = self.by_id.get(id).copied() {
                    self.edit(slot, |memorized| {
                        let entry = Arc::make_mut(&mut memorized.entry);
                        (entry.last_review, entry.stability) = (*at, *stability);
                        entry.difficulty = *difficulty;
                    });
                }
            }
            MemoryOp::Forget { ids, .. } => ids.iter().for_each(|id| self.remove(*id)),
            MemoryOp::DeleteSession { .. } => *self = Self::default(),
            MemoryOp::Model(_) => {}
        }
    }

    fn edit(&mut self, slot: u32, change: impl FnOnce(&mut Memorized)) {
        if let Some(slot) = &mut self.slots[slot as usize] {
            change(&mut slot.memorized);
        }
    }

    pub(super) fn put(&mut self, memorized: Memorized) {
        let entry = Arc::clone(&memorized.entry);
        self.remove(entry.id);
        let at = self.slots.len() as u32;
        if let Some(text) = searchable(&entry.content) {
            self.legs.insert_text(at, &text);
        }
        if let Some(vector) = &memorized.vector {
            self.legs.insert_vector(at, vector);
        }
        let metadata = entry.metadata.as_deref().and_then(|text| serde_json::from_str(text).ok());
        self.bytes += weight(&memorized);
        self.slots.push(Some(Slot { memorized, metadata }));
        self.by_id.insert(entry.id, at);
    }

    pub(super) fn remove(&mut self, id: EntryId) {
        let Some(at) = self.by_id.remove(&id) else { return };
        self.legs.remove(at);
        if let Some(slot) = self.slots[at as usize].take() {
            self.bytes = self.bytes.saturating_sub(weight(&slot.memorized));
        }
        // Amortised: places are used again when three quarters of them are empty.
        if self.slots.len() > 1_024 && self.by_id.len() * 4 < self.slots.len() {
            let kept = std::mem::take(self).slots.into_iter().flatten();
            *self = Self::new(kept.map(|slot| (slot.memorized.entry.id, slot.memorized)).collect());
        }
    }
}

/// Roughly what a memory and its indexes take, in bytes.
fn weight(memorized: &Memorized) -> usize {
    let entry = &memorized.entry;
    let metadata = entry.metadata.as_ref().map_or(0, |text| 3 * text.len());
    let vector = memorized.vector.as_ref().map_or(0, |vector| 6 * vector.dimension());
    400 + 4 * entry.content.len() + metadata + vector
}

/// The text that a content is found by: of JSON the strings and numbers, of bytes none.
pub(super) fn searchable(content: &Content) -> Option<std::borrow::Cow<'_, str>> {
    match content {
        Content::Text(text) => Some(text.into()),
        Content::Bytes(_) => None,
        Content::Json(text) => {
            let value: Value = serde_json::from_str(text).ok()?;
            let mut out = String::new();
            gather(&value, &mut out);
            Some(out.into())
        }
    }
}

fn gather(value: &Value, out: &mut String) {
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::Number(number) => {
            out.push_str(&number.to_string());
            out.push(' ');
        }
        Value::String(text) => {
            out.push_str(text);
            out.push(' ');
        }
        Value::Array(items) => items.iter().for_each(|item| gather(item, out)),
        Value::Object(fields) => {
            for (name, value) in fields {
                out.push_str(name);
                out.push(' ');
                gather(value, out);
            }
        }
    }
}

/// Days between a review and now; a clock that went back counts as no time.
pub(super) fn days(entry: &Entry, now: Timestamp) -> f64 {
    now.since(entry.last_review) as f64 / 86_400_000.0
}
