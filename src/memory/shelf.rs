//! One session as it is loaded: a slot for each entry, and the indexes.
//!
//! Contents and exact vectors stay in the store; [`Sight`](super::sight::Sight) reads them for the few
//! that are looked at.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use super::due::Due;
use super::image::Image;
use super::slot::{Slot, Texts};
use crate::index::Key;
use crate::index::text::TextIndex;
use crate::index::vector::{VectorIndex, from_f16};
use crate::math::fsrs::Fsrs;
use crate::model::{Content, EntryId, Forgetting, Memorized, MemoryOp, Result, Vector};
use crate::store::{Outline, View, stamp_of_vector};

/// The indexes hold this one session and nothing else.
pub(super) const HERE: &str = "";

/// A loaded session.
#[derive(Default)]
pub(super) struct Shelf {
    slots: BTreeMap<EntryId, Slot>,
    texts: Texts,
    pub(super) words: TextIndex,
    /// `None` before the first vector.
    pub(super) vectors: Option<VectorIndex>,
    pub(super) unkept: Unkept,
    /// How its memories are forgotten, where it is not as usual.
    fsrs: Option<Arc<Fsrs>>,
    /// By stability and last review; made when somebody first forgets by strength.
    due: OnceLock<Due>,
    /// How many of its memories lie in cold tiers, by tier.
    pub(super) away: BTreeMap<Arc<str>, usize>,
}

/// What happened to the indexes since they were kept.
#[derive(Debug, Default)]
pub(super) struct Unkept {
    pub(super) changes: AtomicU64,
    /// Of those, what took something away.
    pub(super) losses: AtomicU64,
}

impl Unkept {
    fn count(&self, lost: bool) {
        self.changes.fetch_add(1, Ordering::Relaxed);
        if lost {
            self.losses.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn get(&self) -> (u64, u64) {
        (self.changes.load(Ordering::Relaxed), self.losses.load(Ordering::Relaxed))
    }

    pub(super) fn set(&self, (changes, losses): (u64, u64)) {
        self.changes.store(changes, Ordering::Relaxed);
        self.losses.store(losses, Ordering::Relaxed);
    }
}

impl Shelf {
    /// Reads and indexes everything.
    pub(super) fn build(view: &dyn View) -> Result<Self> {
        let mut shelf = Self::default();
        view.entries(&mut |memorized| shelf.put(&memorized))?;
        Ok(shelf)
    }

    /// Takes indexes that were kept, and brings them up to what is remembered. Answers how many entries
    /// had to be read for that; nothing where it would be most of them.
    pub(super) fn restore(
        image: Image,
        Slots { slots, texts }: Slots,
        view: &dyn View,
    ) -> Result<Option<(Self, u64)>> {
        let (words, vectors) = (image.words, image.vectors);
        let mut shelf = Self { words, vectors, texts, ..Self::default() };
        slots.iter().for_each(|(_, slot)| count_away(&mut shelf.away, slot, true));
        let (mut behind, gone) = shelf.compare(&slots, &image.contents, &image.rows);
        if behind.len() * 2 > slots.len() {
            return Ok(None);
        }
        shelf.slots = slots.into_iter().collect();
        behind.sort_unstable();
        behind.dedup();
        for id in &behind {
            match view.entry(*id)? {
                Some(memorized) => shelf.put(&memorized),
                None => shelf.remove(*id),
            }
        }
        // What is in the file and not here any more must leave the file.
        shelf.unkept.set((behind.len() as u64 + gone, gone));
        Ok(Some((shelf, behind.len() as u64)))
    }

    /// Takes out of the indexes what is not among `slots`; answers what they lack or have otherwise, and
    /// how many were taken out.
    fn compare(
        &mut self,
        slots: &[(EntryId, Slot)],
        contents: &[(Key, u64)],
        rows: &[(Key, u64)],
    ) -> (Vec<EntryId>, u64) {
        let (mut behind, mut gone) = (Vec::new(), 0);
        let Self { words, vectors, .. } = self;
        let mut find = finder(slots);
        for (key, stamp) in contents {
            let id = EntryId::from_u128(*key);
            match find(id) {
                Some(slot) if slot.content == *stamp => {}
                Some(_) => behind.push(id),
                None => gone += u64::from(words.delete(*key)),
            }
        }
        let mut find = finder(slots);
        for (key, stamp) in rows {
            let id = EntryId::from_u128(*key);
            match find(id) {
                Some(slot) if slot.vector == *stamp => {}
                Some(_) => behind.push(id),
                None => gone += u64::from(vectors.as_mut().is_some_and(|it| it.delete(*key))),
            }
        }
        for (id, slot) in slots {
            let key = id.as_u128();
            let has_row = || vectors.as_ref().is_some_and(|index| index.contains(key));
            let is_there =
                (slot.content == 0 || words.contains(key)) && (slot.vector == 0 || has_row());
            if !is_there {
                behind.push(*id);
            }
        }
        (behind, gone)
    }

    /// How its memories are forgotten; `None`: as usual.
    pub(super) fn fsrs(&self) -> Option<&Arc<Fsrs>> {
        self.fsrs.as_ref()
    }

    pub(super) fn forget_like(&mut self, forgetting: Option<&Forgetting>) {
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
        self.due.get_or_init(|| Due::of(self.slots(None)))
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn slot(&self, id: EntryId) -> Option<&Slot> {
        self.slots.get(&id)
    }

    /// All entries in order of their ids, from behind `after` on.
    pub(super) fn slots(
        &self,
        after: Option<EntryId>,
    ) -> impl DoubleEndedIterator<Item = (EntryId, &Slot)> {
        let range = self.slots.range((after.map_or(Unbounded, Excluded), Unbounded));
        range.map(|(id, slot)| (*id, slot))
    }

    /// The memories before and after one, in time.
    pub(super) fn beside(&self, key: Key) -> [Option<Key>; 2] {
        let id = EntryId::from_u128(key);
        let before = self.slots.range(..id).next_back();
        let after = self.slots.range((Excluded(id), Unbounded)).next();
        [before, after].map(|it| it.map(|(id, _)| id.as_u128()))
    }

    /// Bytes that it takes, roughly.
    pub(super) fn bytes(&self) -> usize {
        let rows = self.vectors.as_ref().map_or(0, |it| it.len() * (it.dimension() + 128));
        let words = self.words.len() * 160
            + self.words.vocabulary() * 160
            + usize::try_from(self.words.tokens()).unwrap_or(usize::MAX / 16) * 8;
        self.slots.len() * 180 + self.texts.bytes + words + rows
    }

    /// Follows an operation that was committed.
    pub(super) fn apply(&mut self, op: &MemoryOp) {
        match op {
            MemoryOp::Put(memorized) => self.put(memorized),
            MemoryOp::Vector { id, vector, .. } => {
                let here = self.slots.get_mut(id).filter(|slot| slot.away.is_none());
                if let Some(slot) = here {
                    let stamp = stamp_of_vector(Some(vector));
                    let before = std::mem::replace(&mut slot.vector, stamp);
                    self.unkept.count(before != 0 && before != stamp);
                    self.index_vector(*id, vector);
                }
            }
            MemoryOp::Review { id, .. } => {
                if let Some(slot) = self.slots.get_mut(id) {
                    self.due.get_mut().into_iter().for_each(|due| due.remove(*id, slot));
                    slot.review(op);
                    self.due.get_mut().into_iter().for_each(|due| due.put(*id, slot));
                }
            }
            MemoryOp::Forget { ids, .. } => ids.iter().for_each(|id| self.remove(*id)),
            MemoryOp::DeleteSession { .. } => {
                let (changes, losses) = self.unkept.get();
                let gone = self.len() as u64;
                *self = Self::default();
                self.unkept.set((changes + gone, losses + gone));
            }
            MemoryOp::Forgetting { forgetting, .. } => self.forget_like(forgetting.as_ref()),
            // Whether a memory moved is for the store to say, which has its content: see `Open::refresh`.
            MemoryOp::Move { .. } | MemoryOp::Back { .. } => {}
            MemoryOp::Model(_) | MemoryOp::Copy { .. } | MemoryOp::Gone { .. } => {}
        }
    }

    fn index_vector(&mut self, id: EntryId, vector: &Vector) {
        let mut parts = vec![0.0; vector.dimension()];
        from_f16(vector.bytes(), &mut parts);
        let index = match &mut self.vectors {
            Some(index) if index.dimension() == parts.len() => index,
            // None yet, or one of a model that the store had before: its vectors are void.
            none => match VectorIndex::new(parts.len()) {
                Ok(index) => none.insert(index),
                Err(error) => return unindexed(id, &error),
            },
        };
        if let Err(error) = index.add(HERE, id.as_u128(), &parts) {
            unindexed(id, &error);
        }
    }

    pub(super) fn put(&mut self, memorized: &Memorized) {
        let (entry, key) = (&memorized.entry, memorized.entry.id.as_u128());
        let outline = Outline::of(entry, memorized.vector.as_ref());
        let old = self.slots.remove(&entry.id);
        let (content, vector) = old.as_ref().map_or((0, 0), |old| (old.content, old.vector));
        let lost = (content != 0 && content != outline.content)
            || (vector != 0 && vector != outline.vector);
        self.unkept.count(lost);
        let slot = Slot::new(&outline, &mut self.texts);
        count_away(&mut self.away, &slot, true);
        if let Some(old) = old {
            count_away(&mut self.away, &old, false);
            self.due.get_mut().into_iter().for_each(|due| due.remove(entry.id, &old));
            old.release(&mut self.texts);
        }
        self.due.get_mut().into_iter().for_each(|due| due.put(entry.id, &slot));
        // Also where the stamp is the same: the index may lack it (see `restore`).
        self.words.delete(key);
        if entry.away.is_none()
            && let Some(text) = searchable(&entry.content)
            && let Err(error) = self.words.add(HERE, key, &text)
        {
            unindexed(entry.id, &error);
        }
        self.slots.insert(entry.id, slot);
        match &memorized.vector {
            Some(vector) => self.index_vector(entry.id, vector),
            None => drop(self.vectors.as_mut().map(|index| index.delete(key))),
        }
    }

    pub(super) fn remove(&mut self, id: EntryId) {
        let Some(slot) = self.slots.remove(&id) else { return };
        count_away(&mut self.away, &slot, false);
        self.due.get_mut().into_iter().for_each(|due| due.remove(id, &slot));
        slot.release(&mut self.texts);
        self.unkept.count(true);
        self.words.delete(id.as_u128());
        if let Some(index) = &mut self.vectors {
            index.delete(id.as_u128());
        }
    }
}

/// The slots of a session before it has indexes.
#[derive(Default)]
pub(super) struct Slots {
    /// In order of the ids.
    slots: Vec<(EntryId, Slot)>,
    texts: Texts,
}

impl Slots {
    pub(super) fn of(view: &dyn View) -> Result<Self> {
        let mut all = Self::default();
        view.outlines(&mut |outline| {
            all.slots.push((outline.id, Slot::new(&outline, &mut all.texts)));
        })?;
        Ok(all)
    }
}

/// Finds slots by id, at once where they are asked for in order: indexes hold most of them so.
fn finder<'a>(slots: &'a [(EntryId, Slot)]) -> impl FnMut(EntryId) -> Option<&'a Slot> {
    let mut next = 0;
    move |id| {
        if slots.get(next).is_none_or(|(there, _)| *there != id) {
            next = slots.binary_search_by_key(&id, |(there, _)| *there).ok()?;
        }
        next += 1;
        Some(&slots[next - 1].1)
    }
}

fn count_away(all: &mut BTreeMap<Arc<str>, usize>, slot: &Slot, is_here: bool) {
    let Some(tier) = &slot.away else { return };
    let count = all.get(tier).copied().unwrap_or(0);
    match if is_here { count + 1 } else { count.saturating_sub(1) } {
        0 => drop(all.remove(tier)),
        // A name of its own: the slots' texts count how many slots have them.
        count => drop(all.insert(Arc::from(&**tier), count)),
    }
}

/// The memory lasts and is listed; only a search does not find it by this leg.
fn unindexed(id: EntryId, error: &dyn std::error::Error) {
    tracing::warn!(target: "goclaw.memory", entry = %id, "not indexed: {error}");
}

/// The text that a content is found by: of JSON the strings and numbers, of bytes none.
pub(super) fn searchable(content: &Content) -> Option<std::borrow::Cow<'_, str>> {
    match content {
        Content::Text(text) => Some(text.into()),
        Content::Bytes(_) => None,
        Content::Json(text) => {
            let value: Value = serde_json::from_str(text).unwrap_or_default();
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
