//! What agents remember: in the journal's tail as operations, in LMDB as entries and vectors.
//!
//! Reading takes the tail's operations first and a view of LMDB afterwards, as `read` does; those of
//! segments that the view holds already are left out, the others are laid over it in order.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use heed::RwTxn;

use super::core::Core;
use super::layout;
use super::lmdb::{Lmdb, Snapshot, Tables, WriteError};
use super::segment::Segment;
use crate::model::{Entry, EntryId, Forgetting, Memorized, MemoryOp, Result, Vector, VectorModel};
use crate::store::memory::{self, Memories};

/// Operations of one segment, decoded, with where each session's are.
#[derive(Debug, Default)]
pub(super) struct MemoryTail {
    ops: Vec<MemoryOp>,
    /// Positions in `ops`.
    sessions: HashMap<Arc<str>, Vec<u32>>,
    /// Sessions of entries put in this segment.
    owners: HashMap<EntryId, Arc<str>>,
    model: Option<VectorModel>,
    /// What was set last, by session.
    forgetting: HashMap<Arc<str>, Option<Forgetting>>,
}

impl MemoryTail {
    pub(super) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    pub(super) fn note(&mut self, ops: Vec<MemoryOp>) {
        for op in ops {
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
                MemoryOp::Put(memorized) => {
                    let session = Arc::clone(&memorized.entry.session);
                    self.owners.insert(memorized.entry.id, session);
                }
                MemoryOp::Forgetting { session, forgetting } => {
                    self.forgetting.insert(Arc::clone(session), forgetting.clone());
                }
                MemoryOp::DeleteSession { session } => {
                    self.forgetting.insert(Arc::clone(session), None);
                }
                _ => {}
            }
            self.ops.push(op);
        }
    }

    fn of<'a>(&'a self, session: &str) -> impl Iterator<Item = &'a MemoryOp> {
        let positions = self.sessions.get(session).map(Vec::as_slice).unwrap_or_default();
        positions.iter().map(|at| &self.ops[*at as usize])
    }
}

/// Operations of the tail, with the segment of each.
type Later = Vec<(u64, MemoryOp)>;

impl Core {
    fn later(&self, session: &str) -> Later {
        let tail = self.tail();
        let of = |number: u64| move |op: &MemoryOp| (number, op.clone());
        let parts = tail.segments().map(|it| it.memory.of(session).map(of(it.file.number)));
        parts.flatten().collect()
    }

    pub(super) fn memories(&self, session: &str) -> Result<Memories> {
        let later = self.later(session);
        let snapshot = self.lmdb.read()?;
        let position = self.position(&snapshot)?;
        let mut memories = self.stored_memories(&snapshot, session)?;
        for (_, op) in later.iter().filter(|(segment, _)| *segment >= position) {
            memory::apply(&mut memories, op);
        }
        Ok(memories)
    }

    fn stored_memories(&self, snapshot: &Snapshot<'_>, session: &str) -> Result<Memories> {
        let (txn, tables) = (&snapshot.txn, &self.lmdb.tables);
        let fail = self.lmdb.fail("read");
        let prefix = layout::session_prefix(session);
        let mut vectors = tables.vectors.prefix_iter(txn, &prefix).map_err(&fail)?.peekable();
        let mut found = Vec::new();
        for entry in tables.memories.prefix_iter(txn, &prefix).map_err(&fail)? {
            let (key, value) = entry.map_err(&fail)?;
            let entry = Arc::new(read_entry(&self.lmdb, value)?);
            let mut vector = None;
            // Both tables are in the same order.
            while let Some(next) = vectors.next_if(|it| it.as_ref().is_ok_and(|it| it.0 <= key)) {
                let (of, bytes) = next.map_err(&fail)?;
                vector = (of == key).then(|| Vector::from_bytes(bytes));
            }
            found.push((entry.id, Memorized { entry, vector }));
        }
        Ok(found.into_iter().collect())
    }

    pub(super) fn session_of(&self, id: EntryId) -> Result<Option<Arc<str>>> {
        let in_tail = {
            let tail = self.tail();
            tail.segments().rev().find_map(|it| it.memory.owners.get(&id).cloned())
        };
        let session = match in_tail {
            Some(session) => Some(session),
            None => {
                let snapshot = self.lmdb.read()?;
                let found = self.lmdb.tables.owners.get(&snapshot.txn, &id.to_bytes());
                let found = found.map_err(self.lmdb.fail("read"))?;
                found.map(|name| read_session(&self.lmdb, name)).transpose()?
            }
        };
        let Some(session) = session else { return Ok(None) };
        // The tail may have forgotten it since.
        Ok(self.has_memory(&session, id)?.then_some(session))
    }

    fn has_memory(&self, session: &str, id: EntryId) -> Result<bool> {
        let is_there = |op: &MemoryOp| match op {
            MemoryOp::Put(memorized) => (memorized.entry.id == id).then_some(true),
            MemoryOp::Forget { ids, .. } => ids.contains(&id).then_some(false),
            MemoryOp::DeleteSession { .. } => Some(false),
            _ => None,
        };
        let later: Vec<(u64, bool)> = {
            let tail = self.tail();
            let parts = tail.segments().map(|it| {
                let last = it.memory.of(session).filter_map(is_there).last();
                last.map(|is_there| (it.file.number, is_there))
            });
            parts.flatten().collect()
        };
        let snapshot = self.lmdb.read()?;
        let position = self.position(&snapshot)?;
        if let Some((_, is_there)) = later.iter().rfind(|(segment, _)| *segment >= position) {
            return Ok(*is_there);
        }
        let key = layout::memory_key(session, id);
        let found = self.lmdb.tables.memories.get(&snapshot.txn, &key);
        Ok(found.map_err(self.lmdb.fail("read"))?.is_some())
    }

    fn ids(&self, session: &str) -> Result<HashSet<EntryId>> {
        let later = self.later(session);
        let snapshot = self.lmdb.read()?;
        let position = self.position(&snapshot)?;
        let fail = self.lmdb.fail("read");
        let prefix = layout::session_prefix(session);
        let mut ids = HashSet::new();
        let stored = self.lmdb.tables.memories.prefix_iter(&snapshot.txn, &prefix);
        for entry in stored.map_err(&fail)? {
            let id = layout::memory_id(entry.map_err(&fail)?.0);
            ids.insert(id.ok_or_else(|| self.lmdb.corrupt("a key of its memories"))?);
        }
        for (_, op) in later.iter().filter(|(segment, _)| *segment >= position) {
            match op {
                MemoryOp::Put(memorized) => {
                    ids.insert(memorized.entry.id);
                }
                MemoryOp::Forget { ids: gone, .. } => ids.retain(|id| !gone.contains(id)),
                MemoryOp::DeleteSession { .. } => ids.clear(),
                _ => {}
            }
        }
        Ok(ids)
    }

    pub(super) fn sessions(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(Arc<str>, u64)>> {
        let is_after = |name: &str| after.is_none_or(|after| name > after);
        let touched: HashSet<Arc<str>> = {
            let tail = self.tail();
            let names = tail.segments().flat_map(|it| it.memory.sessions.keys());
            names.filter(|name| is_after(name)).cloned().collect()
        };
        let mut counts: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        let wanted = limit.saturating_add(touched.len());
        {
            let snapshot = self.lmdb.read()?;
            let fail = self.lmdb.fail("read");
            let from = after.map_or(Bound::Unbounded, |name| Bound::Excluded(name.as_bytes()));
            let range: (Bound<&[u8]>, Bound<&[u8]>) = (from, Bound::Unbounded);
            let stored = self.lmdb.tables.sessions.range(&snapshot.txn, &range).map_err(&fail)?;
            for entry in stored.take(wanted) {
                let (name, count) = entry.map_err(&fail)?;
                counts.insert(read_session(&self.lmdb, name)?, read_count(Some(count)));
            }
        }
        for name in touched {
            let count = self.ids(&name)?.len() as u64;
            counts.insert(name, count);
        }
        Ok(counts.into_iter().filter(|(_, count)| *count > 0).take(limit).collect())
    }

    pub(super) fn forgetting(&self, session: &str) -> Result<Option<Forgetting>> {
        let later: Option<(u64, Option<Forgetting>)> = {
            let tail = self.tail();
            let set =
                |it: &Segment| Some((it.file.number, it.memory.forgetting.get(session)?.clone()));
            tail.segments().rev().find_map(set)
        };
        let snapshot = self.lmdb.read()?;
        let position = self.position(&snapshot)?;
        if let Some((_, forgetting)) = later.filter(|(segment, _)| *segment >= position) {
            return Ok(forgetting);
        }
        let found = self.lmdb.tables.meta.get(&snapshot.txn, &layout::forgetting_key(session));
        let Some(value) = found.map_err(self.lmdb.fail("read"))? else { return Ok(None) };
        let read = rmp_serde::from_slice(value);
        read.map(Some).map_err(|e| self.lmdb.corrupt(format!("how a session forgets: {e}")))
    }

    pub(super) fn vector_model(&self) -> Result<Option<VectorModel>> {
        let in_tail = self.tail().segments().rev().find_map(|it| it.memory.model.clone());
        if in_tail.is_some() {
            return Ok(in_tail);
        }
        let snapshot = self.lmdb.read()?;
        let found = self.lmdb.tables.meta.get(&snapshot.txn, layout::META_VECTOR_MODEL);
        let Some(value) = found.map_err(self.lmdb.fail("read"))? else { return Ok(None) };
        let model = rmp_serde::from_slice(value);
        model.map(Some).map_err(|e| self.lmdb.corrupt(format!("its vector model: {e}")))
    }
}

/// Moves operations into the tables, in order.
pub(super) fn put(
    txn: &mut RwTxn<'_>,
    tables: &Tables,
    lmdb: &Lmdb,
    tail: &MemoryTail,
) -> Result<(), WriteError> {
    for op in &tail.ops {
        match op {
            MemoryOp::Put(memorized) => put_entry(txn, tables, memorized)?,
            MemoryOp::Vector { session, id, vector } => {
                let key = layout::memory_key(session, *id);
                if tables.memories.get(txn, &key)?.is_some() {
                    tables.vectors.put(txn, &key, vector.bytes())?;
                }
            }
            MemoryOp::Review { session, id, at, stability, difficulty, .. } => {
                let key = layout::memory_key(session, *id);
                if let Some(value) = tables.memories.get(txn, &key)? {
                    let mut entry = read_entry(lmdb, value)?;
                    memory::reviewed(&mut entry, *at, *stability, *difficulty);
                    tables.memories.put(txn, &key, &write_named(&entry))?;
                }
            }
            MemoryOp::Forget { session, ids } => {
                let keys = ids.iter().map(|id| layout::memory_key(session, *id));
                forget(txn, tables, session, keys.collect())?;
            }
            MemoryOp::DeleteSession { session } => {
                let prefix = layout::session_prefix(session);
                let keys: Result<Vec<Vec<u8>>, heed::Error> =
                    tables.memories.prefix_iter(txn, &prefix)?.map(|it| Ok(it?.0.into())).collect();
                forget(txn, tables, session, keys?)?;
                tables.meta.delete(txn, &layout::forgetting_key(session))?;
            }
            MemoryOp::Forgetting { session, forgetting } => {
                let key = layout::forgetting_key(session);
                match forgetting {
                    Some(forgetting) => tables.meta.put(txn, &key, &write_named(forgetting))?,
                    None => {
                        tables.meta.delete(txn, &key)?;
                    }
                }
            }
            MemoryOp::Model(model) => {
                tables.meta.put(txn, layout::META_VECTOR_MODEL, &write_named(model))?;
            }
        }
    }
    Ok(())
}

fn put_entry(
    txn: &mut RwTxn<'_>,
    tables: &Tables,
    memorized: &Memorized,
) -> Result<(), WriteError> {
    let entry = &memorized.entry;
    let key = layout::memory_key(&entry.session, entry.id);
    if tables.memories.get(txn, &key)?.is_none() {
        count(txn, tables, &entry.session, 1)?;
    }
    tables.memories.put(txn, &key, &write_named(&**entry))?;
    match &memorized.vector {
        Some(vector) => tables.vectors.put(txn, &key, vector.bytes())?,
        None => {
            tables.vectors.delete(txn, &key)?;
        }
    }
    Ok(tables.owners.put(txn, &entry.id.to_bytes(), entry.session.as_bytes())?)
}

fn forget(
    txn: &mut RwTxn<'_>,
    tables: &Tables,
    session: &str,
    keys: Vec<Vec<u8>>,
) -> Result<(), WriteError> {
    let mut gone = 0;
    for key in keys {
        if !tables.memories.delete(txn, &key)? {
            continue;
        }
        gone -= 1;
        tables.vectors.delete(txn, &key)?;
        let id = &key[key.len() - 16..];
        if tables.owners.get(txn, id)? == Some(session.as_bytes()) {
            tables.owners.delete(txn, id)?;
        }
    }
    count(txn, tables, session, gone)
}

/// Counts entries of a session more or less; one without any is gone.
fn count(
    txn: &mut RwTxn<'_>,
    tables: &Tables,
    session: &str,
    change: i64,
) -> Result<(), WriteError> {
    let key = session.as_bytes();
    match read_count(tables.sessions.get(txn, key)?).saturating_add_signed(change) {
        0 => {
            tables.sessions.delete(txn, key)?;
        }
        count => tables.sessions.put(txn, key, &count.to_le_bytes())?,
    }
    Ok(())
}

fn read_count(value: Option<&[u8]>) -> u64 {
    value.and_then(|value| value.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn read_session(lmdb: &Lmdb, name: &[u8]) -> Result<Arc<str>> {
    let name = std::str::from_utf8(name).map_err(|_| lmdb.corrupt("the name of a session"))?;
    Ok(name.into())
}

fn read_entry(lmdb: &Lmdb, value: &[u8]) -> Result<Entry> {
    rmp_serde::from_slice(value).map_err(|e| lmdb.corrupt(format!("a memory: {e}")))
}

fn write_named(value: &impl serde::Serialize) -> Vec<u8> {
    rmp_serde::to_vec_named(value).expect("plain fields have a form")
}
