//! A look at a session: LMDB as it is now, under the operations of the tail.

use std::cell::Cell;
use std::sync::Arc;

use super::fate::{Fate, Overlay};
use super::tables::{read_entry, stored_model};
use super::tail::MemoryTail;
use crate::model::{Entry, EntryId, Memorized, Result, Vector};
use crate::store::disk::core::Core;
use crate::store::disk::layout;
use crate::store::disk::lmdb::Snapshot;
use crate::store::view::{Outline, View};

/// The segments of the tail, oldest first, with their numbers.
pub(super) type Later = Vec<(u64, Arc<MemoryTail>)>;

pub(super) struct DiskView<'a> {
    core: &'a Core,
    session: &'a str,
    /// Those that the snapshot does not hold.
    later: &'a Later,
    snapshot: &'a Snapshot<'a>,
    generations: Generations,
    /// Bytes of LMDB's file that were looked at, roughly.
    mapped: Cell<u64>,
}

/// What one look at a table maps: the system brings in what lies around a page.
const LOOK_BYTES: u64 = 64 << 10;

/// Of which generation vectors are.
#[derive(Clone, Copy, Default)]
pub(super) struct Generations {
    pub(super) current: u32,
    /// Of those in LMDB.
    pub(super) stored: u32,
}

impl Generations {
    /// The vectors in LMDB are of a model that the store had before.
    pub(super) fn are_void(self) -> bool {
        self.current != self.stored
    }
}

impl Core {
    /// Opens a view of LMDB and the part of the tail that belongs over it.
    pub(super) fn later(&self) -> Result<(Later, Snapshot<'_>)> {
        let mut later: Later = {
            let tail = self.tail();
            tail.segments().map(|it| (it.file.number, Arc::clone(&it.memory))).collect()
        };
        let snapshot = self.lmdb.read()?;
        let position = self.position(&snapshot)?;
        later.retain(|(segment, _)| *segment >= position);
        Ok((later, snapshot))
    }

    pub(in crate::store::disk) fn view_memory(
        &self,
        session: &str,
        look: &mut dyn FnMut(&dyn View) -> Result<()>,
    ) -> Result<()> {
        let (later, snapshot) = self.later()?;
        let generations = self.generations(&later, &snapshot)?;
        let view = DiskView::new(self, session, &later, &snapshot).with(generations);
        let outcome = look(&view);
        let mapped = view.mapped.get();
        drop(snapshot);
        self.lmdb.has_mapped(mapped)?;
        outcome
    }

    pub(super) fn generations(
        &self,
        later: &Later,
        snapshot: &Snapshot<'_>,
    ) -> Result<Generations> {
        let in_lmdb = stored_model(&snapshot.txn, &self.lmdb.tables, &self.lmdb);
        let stored = in_lmdb.map_err(|error| self.lmdb.told("read", error))?;
        let stored = stored.map_or(0, |model| model.generation);
        let set = later.iter().rev().find_map(|(_, tail)| tail.model());
        Ok(Generations { current: set.map_or(stored, |model| model.generation), stored })
    }
}

impl<'a> DiskView<'a> {
    pub(super) fn new(
        core: &'a Core,
        session: &'a str,
        later: &'a Later,
        snapshot: &'a Snapshot<'a>,
    ) -> Self {
        let (generations, mapped) = (Generations::default(), Cell::new(0));
        Self { core, session, later, snapshot, generations, mapped }
    }

    fn count(&self, bytes: u64) {
        self.mapped.set(self.mapped.get() + bytes);
    }

    /// The same, which tells vectors of the model in use from others.
    pub(super) fn with(self, generations: Generations) -> Self {
        Self { generations, ..self }
    }

    pub(super) fn fate(&self, id: EntryId) -> Fate {
        let mut fate = Fate::default();
        let current = self.generations.current;
        self.later.iter().for_each(|(_, tail)| tail.tell(self.session, id, current, &mut fate));
        fate
    }

    pub(super) fn overlay(&self) -> Overlay {
        let mut overlay = Overlay::default();
        let current = self.generations.current;
        self.later.iter().for_each(|(_, tail)| tail.lay(self.session, current, &mut overlay));
        overlay
    }

    /// Whether LMDB holds the entry.
    pub(super) fn is_stored(&self, id: EntryId) -> Result<bool> {
        let key = layout::memory_key(self.session, id);
        let found = self.core.lmdb.tables.memories.get(&self.snapshot.txn, &key);
        Ok(found.map_err(self.core.lmdb.fail("read"))?.is_some())
    }

    fn stored(&self, id: EntryId) -> Result<Option<Memorized>> {
        let (lmdb, key) = (&self.core.lmdb, layout::memory_key(self.session, id));
        let fail = lmdb.fail("read");
        self.count(2 * LOOK_BYTES);
        let found = lmdb.tables.memories.get(&self.snapshot.txn, &key).map_err(&fail)?;
        let Some(value) = found else { return Ok(None) };
        let entry = Arc::new(read_entry(lmdb, value)?);
        let vector = lmdb.tables.vectors.get(&self.snapshot.txn, &key).map_err(&fail)?;
        Ok(Some(self.memorized(entry, vector.map(Vector::from_bytes))))
    }

    /// An entry of LMDB, with its vector if that is of the model in use.
    fn memorized(&self, entry: Arc<Entry>, vector: Option<Vector>) -> Memorized {
        let vector = vector.filter(|_| !self.generations.are_void());
        let generation = if vector.is_some() { self.generations.current } else { 0 };
        Memorized { entry, vector, generation }
    }

    /// Calls `each` with what LMDB holds of the session, in order.
    fn each_stored(&self, mut each: impl FnMut(Memorized) -> Result<()>) -> Result<()> {
        let (lmdb, txn) = (&self.core.lmdb, &self.snapshot.txn);
        let fail = lmdb.fail("read");
        let prefix = layout::session_prefix(self.session);
        let vectors = lmdb.tables.vectors.prefix_iter(txn, &prefix);
        let mut vectors = vectors.map_err(&fail)?.peekable();
        for entry in lmdb.tables.memories.prefix_iter(txn, &prefix).map_err(&fail)? {
            let (key, value) = entry.map_err(&fail)?;
            self.count((key.len() + value.len()) as u64);
            let entry = Arc::new(read_entry(lmdb, value)?);
            let mut vector = None;
            // Both tables are in the same order.
            while let Some(next) = vectors.next_if(|it| it.as_ref().is_ok_and(|it| it.0 <= key)) {
                let (of, bytes) = next.map_err(&fail)?;
                self.count((of.len() + bytes.len()) as u64);
                vector = (of == key).then(|| Vector::from_bytes(bytes));
            }
            each(self.memorized(entry, vector))?;
        }
        Ok(())
    }

    fn each_stored_outline(&self, mut each: impl FnMut(Outline<'_>) -> Result<()>) -> Result<()> {
        let lmdb = &self.core.lmdb;
        let fail = lmdb.fail("read");
        let prefix = layout::session_prefix(self.session);
        let rows = lmdb.tables.outlines.prefix_iter(&self.snapshot.txn, &prefix).map_err(&fail)?;
        for row in rows {
            let (key, value) = row.map_err(&fail)?;
            self.count((key.len() + value.len()) as u64);
            let outline = layout::memory_id(key).and_then(|id| layout::read_outline(id, value));
            let mut outline = outline.ok_or_else(|| lmdb.corrupt("an outline of a memory"))?;
            if self.generations.are_void() {
                outline.vector = 0;
            }
            each(outline)?;
        }
        Ok(())
    }
}

/// Gives what the tail has put before `id` to `each`, and what it makes of `id` itself, if anything.
fn up_to(
    overlay: &mut Overlay,
    id: Option<EntryId>,
    mut each: impl FnMut(Memorized),
) -> Result<Option<Fate>> {
    while let Some(next) = overlay.fates.first_entry() {
        match id {
            Some(id) if *next.key() > id => return Ok(None),
            Some(id) if *next.key() == id => return Ok(Some(next.remove())),
            _ => {
                // Nothing is stored under this id.
                next.remove().settle(|| Ok(None))?.into_iter().for_each(&mut each);
            }
        }
    }
    Ok(None)
}

impl View for DiskView<'_> {
    fn entry(&self, id: EntryId) -> Result<Option<Memorized>> {
        self.fate(id).settle(|| self.stored(id))
    }

    fn vector(&self, id: EntryId, show: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let fate = self.fate(id);
        if !fate.is_untouched() {
            let vector = fate.settle(|| self.stored(id))?.and_then(|it| it.vector);
            vector.iter().for_each(|vector| show(vector.bytes()));
            return Ok(vector.is_some());
        }
        if self.generations.are_void() {
            return Ok(false);
        }
        let (lmdb, key) = (&self.core.lmdb, layout::memory_key(self.session, id));
        self.count(LOOK_BYTES);
        let found = lmdb.tables.vectors.get(&self.snapshot.txn, &key);
        let found = found.map_err(lmdb.fail("read"))?;
        found.into_iter().for_each(show);
        Ok(found.is_some())
    }

    fn entries(&self, each: &mut dyn FnMut(Memorized)) -> Result<()> {
        let mut overlay = self.overlay();
        if !overlay.cleared {
            self.each_stored(|stored| {
                let now = match up_to(&mut overlay, Some(stored.entry.id), &mut *each)? {
                    Some(fate) => fate.settle(|| Ok(Some(stored)))?,
                    None => Some(stored),
                };
                now.into_iter().for_each(&mut *each);
                Ok(())
            })?;
        }
        up_to(&mut overlay, None, each).map(drop)
    }

    fn outlines(&self, each: &mut dyn FnMut(Outline<'_>)) -> Result<()> {
        let mut overlay = self.overlay();
        let outline = |it: &Memorized, each: &mut dyn FnMut(Outline<'_>)| {
            each(Outline::of(&it.entry, it.vector.as_ref()));
        };
        if !overlay.cleared {
            self.each_stored_outline(|stored| {
                match up_to(&mut overlay, Some(stored.id), |it| outline(&it, each))? {
                    Some(fate) => {
                        let now = fate.settle(|| self.stored(stored.id))?;
                        now.iter().for_each(|it| outline(it, each));
                    }
                    None => each(stored),
                }
                Ok(())
            })?;
        }
        up_to(&mut overlay, None, |it| outline(&it, each)).map(drop)
    }
}
