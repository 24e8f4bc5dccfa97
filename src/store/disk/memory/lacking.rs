//! Which entries have a text and no vector of the model in use.
//!
//! In LMDB it is a table of their keys, kept by checkpoints. What the tail says of the vectors of its entries
//! is noted as it comes, by entry, and laid over the table: nobody ever looks through all memories, but
//! for the moment after the store went over to another model, when every text lacks one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use super::tables::read_entry;
use super::view::{DiskView, Generations};
use crate::model::{Entry, EntryId, Memorized, MemoryOp, Result};
use crate::store::disk::core::Core;
use crate::store::disk::layout;
use crate::store::disk::lmdb::Snapshot;
use crate::store::view::View;

/// What the operations of one segment say of vectors.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    by_entry: HashMap<(Arc<str>, EntryId), Mark>,
    /// Sessions that were deleted; the marks of theirs came after that.
    deleted: HashSet<Arc<str>>,
}

/// Vectors are named by their generation.
#[derive(Clone, Debug)]
enum Mark {
    /// The entry was put; `entry` where it has a text.
    Put {
        entry: Option<Arc<Entry>>,
        vector: Option<u32>,
    },
    /// Something was said of an entry that older segments may know.
    Older {
        vector: Option<u32>,
    },
    /// It moved to a cold tier, or came back: to be looked at.
    Unsure,
    Forgotten,
}

impl Marks {
    pub(super) fn note(&mut self, op: &MemoryOp) {
        match op {
            MemoryOp::Put(memorized) => {
                let entry = &memorized.entry;
                let vector = memorized.vector.as_ref().map(|_| memorized.generation);
                let text = entry.wants_vector().then(|| Arc::clone(entry));
                let mark = Mark::Put { entry: text, vector };
                self.by_entry.insert((Arc::clone(&entry.session), entry.id), mark);
            }
            MemoryOp::Vector { session, id, generation, .. } => match self.of(session, *id) {
                Mark::Forgotten | Mark::Unsure => {}
                Mark::Put { vector, .. } | Mark::Older { vector } => {
                    *vector = (*vector).max(Some(*generation));
                }
            },
            MemoryOp::Forget { session, ids } => {
                ids.iter().for_each(|id| *self.of(session, *id) = Mark::Forgotten);
            }
            MemoryOp::DeleteSession { session } => {
                self.by_entry.retain(|(of, _), _| of != session);
                self.deleted.insert(Arc::clone(session));
            }
            MemoryOp::Move { session, moved, .. } => {
                moved.iter().for_each(|(id, _)| self.doubt(session, *id));
            }
            MemoryOp::Back { session, id, .. } => self.doubt(session, *id),
            MemoryOp::Review { .. }
            | MemoryOp::Forgetting { .. }
            | MemoryOp::Copy { .. }
            | MemoryOp::Gone { .. }
            | MemoryOp::Model(_) => {}
        }
    }

    fn doubt(&mut self, session: &Arc<str>, id: EntryId) {
        if !matches!(self.of(session, id), Mark::Forgotten) {
            *self.of(session, id) = Mark::Unsure;
        }
    }

    fn of(&mut self, session: &Arc<str>, id: EntryId) -> &mut Mark {
        let nothing = Mark::Older { vector: None };
        self.by_entry.entry((Arc::clone(session), id)).or_insert(nothing)
    }
}

/// Whether an entry lacks a vector, and the entry where the tail has it.
type Known = (bool, Option<Arc<Entry>>);

/// What the tail lays over LMDB, by key.
struct Overlay {
    generations: Generations,
    entries: BTreeMap<Vec<u8>, Known>,
    /// What the keys of deleted sessions begin with.
    deleted: HashSet<Vec<u8>>,
}

impl Overlay {
    fn lay(
        &mut self,
        marks: Marks,
        look: impl Fn(&str, EntryId) -> Result<Option<Memorized>>,
    ) -> Result<()> {
        let current = self.generations.current;
        for session in &marks.deleted {
            let prefix = layout::session_prefix(session);
            self.entries.retain(|key, _| key[..key.len() - 16] != *prefix);
            self.deleted.insert(prefix);
        }
        for ((session, id), mark) in marks.by_entry {
            let key = layout::memory_key(&session, id);
            match mark {
                Mark::Put { entry, vector } => {
                    let lacks = entry.is_some() && vector != Some(current);
                    self.entries.insert(key, (lacks, entry));
                }
                Mark::Forgotten => drop(self.entries.insert(key, (false, None))),
                Mark::Older { vector } if vector == Some(current) => {
                    self.entries.entry(key).or_default().0 = false;
                }
                Mark::Older { .. } => {}
                Mark::Unsure => {
                    let entry = look(&session, id)?.filter(|it| it.vector.is_none());
                    let entry = entry.map(|it| it.entry).filter(|it| it.wants_vector());
                    self.entries.insert(key, (entry.is_some(), entry));
                }
            }
        }
        Ok(())
    }
}

/// Looks at an entry that lacks a vector, by key, with the entry where the tail has it; false: no more.
type Look<'a> = &'a mut dyn FnMut(&[u8], Option<&Arc<Entry>>) -> Result<bool>;

impl Core {
    pub(in crate::store::disk) fn unvectored(
        &self,
        after: Option<(&str, EntryId)>,
        limit: usize,
    ) -> Result<Vec<Arc<Entry>>> {
        let after = after.map(|(session, id)| layout::memory_key(session, id));
        let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let (overlay, snapshot) = self.overlay()?;
        let mut found = Vec::new();
        self.each_lacking(&overlay, &snapshot, from, &mut |key, entry| {
            match entry {
                Some(entry) => found.push(Arc::clone(entry)),
                None => {
                    let value = self.lmdb.tables.memories.get(&snapshot.txn, key);
                    let value = value.map_err(self.lmdb.fail("read"))?;
                    let entry = value.map(|value| read_entry(&self.lmdb, value)).transpose()?;
                    found.extend(entry.map(Arc::new));
                }
            }
            Ok(found.len() < limit)
        })?;
        Ok(found)
    }

    pub(in crate::store::disk) fn unvectored_count(&self) -> Result<u64> {
        let (overlay, snapshot) = self.overlay()?;
        let mut count = 0;
        self.each_lacking(&overlay, &snapshot, Bound::Unbounded, &mut |_, _| {
            count += 1;
            Ok(true)
        })?;
        Ok(count)
    }

    /// The tail's part, and the view of LMDB that belongs under it.
    fn overlay(&self) -> Result<(Overlay, Snapshot<'_>)> {
        let (later, snapshot) = self.later()?;
        let generations = self.generations(&later, &snapshot)?;
        let mut overlay =
            Overlay { generations, entries: BTreeMap::new(), deleted: HashSet::new() };
        // Copied, so that the owner of the journal need not wait while they are sorted.
        let look = |session: &str, id| {
            DiskView::new(self, session, &later, &snapshot).with(generations).entry(id)
        };
        later.iter().try_for_each(|(_, tail)| overlay.lay(tail.lacking(), look))?;
        Ok((overlay, snapshot))
    }

    /// Looks at every entry that lacks a vector, in the order of the keys.
    fn each_lacking(
        &self,
        overlay: &Overlay,
        snapshot: &Snapshot<'_>,
        from: Bound<&[u8]>,
        look: Look<'_>,
    ) -> Result<()> {
        let fail = self.lmdb.fail("read");
        let range: (Bound<&[u8]>, Bound<&[u8]>) = (from, Bound::Unbounded);
        let are_void = overlay.generations.are_void();
        // Where all vectors are void every text lacks one.
        let tables = &self.lmdb.tables;
        let table = if are_void { &tables.outlines } else { &tables.lacking };
        let mut later = overlay.entries.range::<[u8], _>(range).peekable();
        for stored in table.range(&snapshot.txn, &range).map_err(&fail)? {
            let (key, value) = stored.map_err(&fail)?;
            while let Some((new, (lacks, entry))) = later.next_if(|(new, _)| new.as_slice() < key) {
                if *lacks && !look(new, entry.as_ref())? {
                    return Ok(());
                }
            }
            let is_known = overlay.entries.contains_key(key)
                || overlay.deleted.contains(&key[..key.len() - 16]);
            if is_known || (are_void && !self.has_text(key, value)?) {
                continue;
            }
            if !look(key, None)? {
                return Ok(());
            }
        }
        for (new, (lacks, entry)) in later {
            if *lacks && !look(new, entry.as_ref())? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn has_text(&self, key: &[u8], outline: &[u8]) -> Result<bool> {
        let outline = layout::memory_id(key).and_then(|id| layout::read_outline(id, outline));
        let outline = outline.ok_or_else(|| self.lmdb.corrupt("an outline of a memory"))?;
        Ok(outline.content != 0)
    }
}
