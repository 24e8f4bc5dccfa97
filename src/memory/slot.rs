//! What a loaded session keeps of an entry: what searching, strength and forgetting need.

use std::sync::Arc;

use hashbrown::HashSet;
use serde_json::{Map, Value};

use crate::math::fsrs;
use crate::model::{Entry, MemoryOp, Timestamp};
use crate::store::{Outline, Stamp};

/// An entry without its content and vector.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) stability: f64,
    pub(super) difficulty: f64,
    pub(super) last_review: Timestamp,
    pub(super) created: Timestamp,
    pinned: bool,
    /// A JSON object, as text: one for all entries that have the same.
    metadata: Option<Arc<str>>,
    /// Of the words and the vector that the indexes hold of it.
    pub(super) content: Stamp,
    pub(super) vector: Stamp,
    /// The cold tier where content and vector lie: it is in no index here.
    pub(super) away: Option<Arc<str>>,
}

impl Slot {
    pub(super) fn new(outline: &Outline<'_>, texts: &mut Texts) -> Self {
        Self {
            stability: outline.stability,
            difficulty: outline.difficulty,
            last_review: outline.last_review,
            created: outline.created,
            pinned: outline.pinned,
            metadata: outline.metadata.map(|text| texts.take(text)),
            content: outline.content,
            vector: outline.vector,
            away: outline.away.map(|tier| texts.take(tier)),
        }
    }

    /// Follows a review.
    pub(super) fn review(&mut self, op: &MemoryOp) {
        if let MemoryOp::Review { at, stability, difficulty, .. } = op {
            (self.last_review, self.stability) = (*at, *stability);
            self.difficulty = *difficulty;
        }
    }

    /// The metadata, parsed: kept as text, since few entries are asked for it.
    pub(super) fn metadata(&self) -> Option<Map<String, Value>> {
        serde_json::from_str(self.metadata.as_deref()?).ok()
    }

    /// Where the text of the metadata lies: the same for entries that have the same, as long as the session is
    /// locked.
    pub(super) fn metadata_place(&self) -> Option<*const u8> {
        self.metadata.as_ref().map(|text| text.as_ptr())
    }

    /// Gives back what it has of `texts`.
    pub(super) fn release(self, texts: &mut Texts) {
        self.metadata.into_iter().chain(self.away).for_each(|text| texts.give_back(text));
    }
}

/// What strength is computed from.
pub trait Recalled {
    fn fsrs(&self) -> fsrs::Memory;
    fn last_review(&self) -> Timestamp;
    fn pinned(&self) -> bool;
}

impl Recalled for Slot {
    fn fsrs(&self) -> fsrs::Memory {
        fsrs::Memory { stability: self.stability, difficulty: self.difficulty }
    }
    fn last_review(&self) -> Timestamp {
        self.last_review
    }
    fn pinned(&self) -> bool {
        self.pinned
    }
}

impl Recalled for Entry {
    fn fsrs(&self) -> fsrs::Memory {
        fsrs::Memory { stability: self.stability, difficulty: self.difficulty }
    }
    fn last_review(&self) -> Timestamp {
        self.last_review
    }
    fn pinned(&self) -> bool {
        self.pinned
    }
}

/// Days between a review and now; a clock that went back counts as no time.
pub(super) fn days(entry: &impl Recalled, now: Timestamp) -> f64 {
    now.days_since(entry.last_review())
}

/// Texts that are kept once, however many entries have them.
#[derive(Debug, Default)]
pub(super) struct Texts {
    known: HashSet<Arc<str>>,
    pub(super) bytes: usize,
}

impl Texts {
    fn take(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.known.get(text) {
            return Arc::clone(known);
        }
        let text: Arc<str> = text.into();
        self.bytes += text.len() + 48;
        self.known.insert(Arc::clone(&text));
        text
    }

    fn give_back(&mut self, text: Arc<str>) {
        // Ours, and the one in the table.
        if Arc::strong_count(&text) == 2 {
            self.bytes = self.bytes.saturating_sub(text.len() + 48);
            self.known.remove(&text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_lives_as_long_as_an_entry_has_it() {
        let mut texts = Texts::default();
        let (one, other) = (texts.take("{\"a\":1}"), texts.take("{\"a\":1}"));
        assert!(Arc::ptr_eq(&one, &other));
        texts.give_back(one);
        assert_eq!(texts.known.len(), 1);
        texts.give_back(other);
        assert_eq!((texts.known.len(), texts.bytes), (0, 0));
    }
}
