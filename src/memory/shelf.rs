//! One session as it is loaded: its memories by id, and its indexes.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};

use super::due::{self, Due};
use crate::index::Key;
use crate::index::fuse::Fused;
use crate::index::search::{self, Options};
use crate::index::text::TextIndex;
use crate::index::vector::{VectorIndex, from_f16};
use crate::math::fsrs::Fsrs;
use crate::model::{Content, Entry, EntryId, Forgetting, Memorized, MemoryOp, Timestamp};
use crate::store::Memories;

/// The indexes hold this one session and nothing else.
const HERE: &str = "";

/// A loaded session.
#[derive(Default)]
pub(super) struct Shelf {
    entries: BTreeMap<EntryId, Shelved>,
    text: TextIndex,
    /// `None` before the first vector.
    vectors: Option<VectorIndex>,
    /// How its memories are forgotten, where it is not as usual.
    fsrs: Option<Arc<Fsrs>>,
    /// By stability and last review; made when somebody first forgets by strength.
    due: OnceLock<Due>,
    /// Bytes that it takes, roughly.
    pub(super) bytes: usize,
}

/// A memory in its place.
pub(super) struct Shelved {
    pub(super) memorized: Memorized,
    pub(super) metadata: Option<Map<String, Value>>,
}

impl Shelf {
    pub(super) fn new(memories: Memories, forgetting: Option<Forgetting>) -> Self {
        let mut shelf = Self::default();
        shelf.forget_like(forgetting.as_ref());
        memories.into_values().for_each(|memorized| shelf.put(memorized));
        shelf
    }

    /// How its memories are forgotten; `None`: as usual.
    pub(super) fn fsrs(&self) -> Option<&Arc<Fsrs>> {
        self.fsrs.as_ref()
    }

    fn forget_like(&mut self, forgetting: Option<&Forgetting>) {
        self.fsrs = forgetting.and_then(|settings| match Fsrs::of(settings) {
            Ok(fsrs) => Some(Arc::new(fsrs)),
            Err(error) => {
                // They were checked when they were set, so these are of another build.
                tracing::warn!(target: "goclaw.memory", "forgotten as usual: {error}");
                None
            }
        });
    }

    /// Which memories can be forgotten, by stability and last review.
    pub(super) fn due(&self) -> &Due {
        self.due.get_or_init(|| Due::of(self.entries.values().map(|it| &*it.memorized.entry)))
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&self, id: EntryId) -> Option<&Memorized> {
        self.entries.get(&id).map(|shelved| &shelved.memorized)
    }

    /// The memory of a key that an index answered.
    pub(super) fn at(&self, key: Key) -> &Shelved {
        self.entries
            .get(&EntryId::from_u128(key))
            .expect("indexes hold what is shelved and no more")
    }

    /// All memories in order of their ids, from behind `after` on.
    pub(super) fn after(
        &self,
        after: Option<EntryId>,
    ) -> impl DoubleEndedIterator<Item = &Memorized> {
        use std::ops::Bound::{Excluded, Unbounded};
        let range = self.entries.range((after.map_or(Unbounded, Excluded), Unbounded));
        range.map(|(_, shelved)| &shelved.memorized)
    }

    /// The best by vector and text, best first: at least `k`, if there are as many.
    pub(super) fn search(
        &self,
        vector: Option<&[f32]>,
        text: Option<&str>,
        k: usize,
        options: Options<'_>,
    ) -> Vec<Fused> {
        let truth = |key: Key, row: &mut [f32]| {
            let vector = self.get(EntryId::from_u128(key)).and_then(|it| it.vector.as_ref());
            vector.is_some_and(|vector| from_f16(vector.bytes(), row))
        };
        // The vector was checked against the store's dimension, which the index shares.
        let near = match (&self.vectors, vector) {
            (Some(index), Some(vector)) => index.query(&[HERE], vector, &truth).ok(),
            _ => None,
        };
        let worded = text.map(|text| self.text.query(&[HERE], text));
        search::search(near.as_ref(), worded.as_ref(), k, options)
    }

    /// The memories before and after one, in time.
    pub(super) fn beside(&self, key: Key) -> [Option<Key>; 2] {
        use std::ops::Bound::{Excluded, Unbounded};
        let id = EntryId::from_u128(key);
        let before = self.entries.range(..id).next_back();
        let after = self.entries.range((Excluded(id), Unbounded)).next();
        [before, after].map(|it| it.map(|(id, _)| id.as_u128()))
    }

    /// The vector of a memory, of length 1.
    pub(super) fn row(&self, key: Key) -> Option<Vec<f32>> {
        let vector = self.get(EntryId::from_u128(key))?.vector.as_ref()?;
        Some(vector.parts().collect())
    }

    /// How many of their words two memories share, 0 to 1.
    pub(super) fn overlap(&self, one: Key, other: Key) -> f64 {
        self.text.overlap(one, other)
    }

    /// Follows an operation that was committed.
    pub(super) fn apply(&mut self, op: &MemoryOp) {
        match op {
            MemoryOp::Put(memorized) => self.put(memorized.clone()),
            MemoryOp::Vector { id, vector, .. } => {
                if let Some(shelved) = self.entries.get_mut(id) {
                    shelved.memorized.vector = Some(vector.clone());
                    self.index_vector(*id);
                }
            }
            MemoryOp::Review { id, at, stability, difficulty, .. } => {
                if let Some(shelved) = self.entries.get_mut(id) {
                    let due = self.due.get_mut();
                    let entry = Arc::make_mut(&mut shelved.memorized.entry);
                    due.into_iter().for_each(|due| due.remove(entry));
                    (entry.last_review, entry.stability) = (*at, *stability);
                    entry.difficulty = *difficulty;
                    self.due.get_mut().into_iter().for_each(|due| due.put(entry));
                }
            }
            MemoryOp::Forget { ids, .. } => ids.iter().for_each(|id| self.remove(*id)),
            MemoryOp::DeleteSession { .. } => *self = Self::default(),
            MemoryOp::Forgetting { forgetting, .. } => self.forget_like(forgetting.as_ref()),
            MemoryOp::Model(_) => {}
        }
    }

    fn index_vector(&mut self, id: EntryId) {
        let Some(vector) = self.get(id).and_then(|it| it.vector.clone()) else { return };
        let parts: Vec<f32> = vector.parts().collect();
        let index = match &mut self.vectors {
            Some(index) => index,
            none => match VectorIndex::new(parts.len()) {
                Ok(index) => none.insert(index),
                Err(error) => return unindexed(id, &error),
            },
        };
        if let Err(error) = index.add(HERE, id.as_u128(), &parts) {
            unindexed(id, &error);
        }
    }

    pub(super) fn put(&mut self, memorized: Memorized) {
        let entry = Arc::clone(&memorized.entry);
        self.remove(entry.id);
        if let Some(text) = searchable(&entry.content)
            && let Err(error) = self.text.add(HERE, entry.id.as_u128(), &text)
        {
            unindexed(entry.id, &error);
        }
        let metadata = entry.metadata.as_deref().and_then(|text| serde_json::from_str(text).ok());
        self.bytes += weight(&memorized);
        self.due.get_mut().into_iter().for_each(|due| due.put(&entry));
        self.entries.insert(entry.id, Shelved { memorized, metadata });
        self.index_vector(entry.id);
    }

    pub(super) fn remove(&mut self, id: EntryId) {
        let Some(shelved) = self.entries.remove(&id) else { return };
        self.bytes = self.bytes.saturating_sub(weight(&shelved.memorized));
        self.due.get_mut().into_iter().for_each(|due| due.remove(&shelved.memorized.entry));
        self.text.delete(id.as_u128());
        if let Some(index) = &mut self.vectors {
            index.delete(id.as_u128());
        }
    }
}

/// The memory lasts and is listed; only a search does not find it by this leg.
fn unindexed(id: EntryId, error: &dyn std::error::Error) {
    tracing::warn!(target: "goclaw.memory", entry = %id, "not indexed: {error}");
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
    due::days(entry.last_review, now)
}
