//! The tables of LMDB that hold what is remembered: written by checkpoints, read by views.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use heed::{RoTxn, RwTxn};

use super::tail::MemoryTail;
use crate::model::{Entry, EntryId, Memorized, MemoryOp, Result, Vector, VectorModel};
use crate::store::disk::layout;
use crate::store::disk::lmdb::{Lmdb, Tables, WriteError};
use crate::store::view::{Outline, stamp_of_vector};
use crate::store::{in_force, memory};

/// Entries that are outlined under one look at the table.
const OUTLINED_AT_ONCE: usize = 1_024;

/// Moves operations into the tables, in order.
pub(in crate::store::disk) fn put(
    txn: &mut RwTxn<'_>,
    tables: &Tables,
    lmdb: &Lmdb,
    tail: &MemoryTail,
) -> Result<(), WriteError> {
    let mut current = stored_model(txn, tables, lmdb)?.map_or(0, |model| model.generation);
    let mut entries = Vec::new();
    tail.each(|op| {
        if let MemoryOp::Model(model) = op
            && model.generation != current
        {
            put_entries(txn, tables, &mut entries)?;
            current = model.generation;
            void_vectors(txn, tables, lmdb)?;
        }
        match in_force(op, current).as_deref() {
            Some(MemoryOp::Put(memorized)) => entries.push(memorized.clone()),
            Some(op) => {
                put_entries(txn, tables, &mut entries)?;
                put_op(txn, tables, lmdb, op)?;
            }
            None => {}
        }
        Ok::<_, WriteError>(())
    })?;
    put_entries(txn, tables, &mut entries)
}

/// The model that LMDB knows.
pub(super) fn stored_model(
    txn: &RoTxn<'_>,
    tables: &Tables,
    lmdb: &Lmdb,
) -> Result<Option<VectorModel>, WriteError> {
    let Some(value) = tables.meta.get(txn, layout::META_VECTOR_MODEL)? else { return Ok(None) };
    let model = rmp_serde::from_slice(value);
    Ok(Some(model.map_err(|e| lmdb.corrupt(format!("its vector model: {e}")))?))
}

/// Takes all vectors away: they are of a model that the store had before. What has a text lacks one now.
fn void_vectors(txn: &mut RwTxn<'_>, tables: &Tables, lmdb: &Lmdb) -> Result<(), WriteError> {
    tables.vectors.clear(txn)?;
    let mut from: Bound<Vec<u8>> = Bound::Unbounded;
    loop {
        let range: (Bound<&[u8]>, Bound<&[u8]>) =
            (from.as_ref().map(Vec::as_slice), Bound::Unbounded);
        let mut rows = Vec::new();
        for row in tables.outlines.range(txn, &range)?.take(OUTLINED_AT_ONCE) {
            let (key, value) = row?;
            let outline = layout::memory_id(key).and_then(|id| layout::read_outline(id, value));
            let outline = outline.ok_or_else(|| lmdb.corrupt("an outline of a memory"))?;
            let bare = layout::write_outline(&Outline { vector: 0, ..outline.clone() });
            rows.push((key.to_vec(), bare, outline.content != 0));
        }
        for (key, outline, has_text) in &rows {
            tables.outlines.put(txn, key, outline)?;
            if *has_text {
                tables.lacking.put(txn, key, &[])?;
            }
        }
        let Some((last, ..)) = rows.pop() else { return Ok(()) };
        from = Bound::Excluded(last);
    }
}

fn put_op(
    txn: &mut RwTxn<'_>,
    tables: &Tables,
    lmdb: &Lmdb,
    op: &MemoryOp,
) -> Result<(), WriteError> {
    match op {
        MemoryOp::Put(memorized) => put_entry(txn, tables, memorized),
        MemoryOp::Vector { session, id, vector, .. } => {
            let key = layout::memory_key(session, *id);
            let entry = tables.memories.get(txn, &key)?;
            let entry = entry.map(|value| read_entry(lmdb, value)).transpose()?;
            if entry.is_some_and(|entry| entry.away.is_none()) {
                tables.vectors.put(txn, &key, vector.bytes())?;
                tables.lacking.delete(txn, &key)?;
                outline_again(txn, tables, lmdb, *id, &key, |outline| {
                    outline.vector = stamp_of_vector(Some(vector));
                })?;
            }
            Ok(())
        }
        MemoryOp::Review { session, id, at, stability, difficulty, .. } => {
            let key = layout::memory_key(session, *id);
            if let Some(value) = tables.memories.get(txn, &key)? {
                let mut entry = read_entry(lmdb, value)?;
                memory::reviewed(&mut entry, op);
                tables.memories.put(txn, &key, &write_named(&entry))?;
                outline_again(txn, tables, lmdb, *id, &key, |outline| {
                    outline.last_review = *at;
                    (outline.stability, outline.difficulty) = (*stability, *difficulty);
                })?;
            }
            Ok(())
        }
        MemoryOp::Move { session, moved, .. } => moved.iter().try_for_each(|(id, _)| {
            change(txn, tables, lmdb, &layout::memory_key(session, *id), op)
        }),
        MemoryOp::Back { session, id, .. } => {
            change(txn, tables, lmdb, &layout::memory_key(session, *id), op)
        }
        MemoryOp::Copy { session, ids, tier } => ids.iter().try_for_each(|id| {
            Ok(tables.copies.put(txn, &layout::memory_key(session, *id), tier.as_bytes())?)
        }),
        MemoryOp::Gone { session, ids } => ids.iter().try_for_each(|id| {
            tables.copies.delete(txn, &layout::memory_key(session, *id))?;
            Ok(())
        }),
        MemoryOp::Forget { session, ids } => {
            let keys = ids.iter().map(|id| layout::memory_key(session, *id));
            forget(txn, tables, session, keys.collect())
        }
        MemoryOp::DeleteSession { session } => {
            let prefix = layout::session_prefix(session);
            let keys: Result<Vec<Vec<u8>>, heed::Error> =
                tables.memories.prefix_iter(txn, &prefix)?.map(|it| Ok(it?.0.into())).collect();
            forget(txn, tables, session, keys?)?;
            tables.meta.delete(txn, &layout::forgetting_key(session))?;
            Ok(())
        }
        MemoryOp::Forgetting { session, forgetting } => {
            let key = layout::forgetting_key(session);
            match forgetting {
                Some(forgetting) => tables.meta.put(txn, &key, &write_named(forgetting))?,
                None => {
                    tables.meta.delete(txn, &key)?;
                }
            }
            Ok(())
        }
        MemoryOp::Model(model) => {
            Ok(tables.meta.put(txn, layout::META_VECTOR_MODEL, &write_named(model))?)
        }
    }
}

/// Writes an entry's outline with a change.
fn outline_again(
    txn: &mut RwTxn<'_>,
    tables: &Tables,
    lmdb: &Lmdb,
    id: EntryId,
    key: &[u8],
    change: impl FnOnce(&mut Outline<'_>),
) -> Result<(), WriteError> {
    let value = tables.outlines.get(txn, key)?.unwrap_or_default().to_vec();
    let mut outline = layout::read_outline(id, &value)
        .ok_or_else(|| lmdb.corrupt("an outline of a memory is missing or wrong"))?;
    change(&mut outline);
    Ok(tables.outlines.put(txn, key, &layout::write_outline(&outline))?)
}

/// Outlines what an older build remembered without: once in the life of a store.
pub(in crate::store::disk) fn outline_what_has_none(lmdb: &Lmdb) -> Result<()> {
    let done = {
        let snapshot = lmdb.read()?;
        let flag = lmdb.tables.meta.get(&snapshot.txn, layout::META_OUTLINED);
        flag.map_err(lmdb.fail("read"))?.is_some()
    };
    if done {
        return Ok(());
    }
    lmdb.write(|txn, tables| {
        let mut from = Bound::Unbounded;
        loop {
            let rows = some_outlines(txn, tables, lmdb, &from)?;
            for (key, value) in &rows {
                tables.outlines.put(txn, key, value)?;
            }
            let Some((last, _)) = rows.into_iter().next_back() else { break };
            from = Bound::Excluded(last);
        }
        Ok(tables.meta.put(txn, layout::META_OUTLINED, &[1])?)
    })
}

type Row = (Vec<u8>, Vec<u8>);

/// Outlines of the next entries, with their keys.
fn some_outlines(
    txn: &RwTxn<'_>,
    tables: &Tables,
    lmdb: &Lmdb,
    from: &Bound<Vec<u8>>,
) -> Result<Vec<Row>, WriteError> {
    let range: (Bound<&[u8]>, Bound<&[u8]>) = (from.as_ref().map(Vec::as_slice), Bound::Unbounded);
    let mut rows = Vec::new();
    for entry in tables.memories.range(txn, &range)?.take(OUTLINED_AT_ONCE) {
        let (key, value) = entry?;
        let entry = read_entry(lmdb, value)?;
        let vector = tables.vectors.get(txn, key)?.map(Vector::from_bytes);
        let outline = Outline::of(&entry, vector.as_ref());
        rows.push((key.to_vec(), layout::write_outline(&outline)));
    }
    Ok(rows)
}

/// Changes an entry that is there, with its vector.
fn change(
    txn: &mut RwTxn<'_>,
    tables: &Tables,
    lmdb: &Lmdb,
    key: &[u8],
    op: &MemoryOp,
) -> Result<(), WriteError> {
    let Some(value) = tables.memories.get(txn, key)? else { return Ok(()) };
    let entry = Arc::new(read_entry(lmdb, value)?);
    let vector = tables.vectors.get(txn, key)?.map(Vector::from_bytes);
    let mut memorized = Memorized { entry, vector, generation: 0 };
    memory::change(&mut memorized, op);
    put_entry(txn, tables, &memorized)
}

fn put_entry(
    txn: &mut RwTxn<'_>,
    tables: &Tables,
    memorized: &Memorized,
) -> Result<(), WriteError> {
    put_entries(txn, tables, &mut vec![memorized.clone()])
}

/// Puts entries, in order, and takes them out of `entries`. Table by table: LMDB gives out pages one after the
/// other, so those of a table lie together, and whoever reads one table touches few others.
fn put_entries(
    txn: &mut RwTxn<'_>,
    tables: &Tables,
    entries: &mut Vec<Memorized>,
) -> Result<(), WriteError> {
    let entries = std::mem::take(entries);
    let key = |it: &Memorized| layout::memory_key(&it.entry.session, it.entry.id);
    let mut added: BTreeMap<&Arc<str>, i64> = BTreeMap::new();
    let mut known = HashSet::new();
    for (at, memorized) in entries.iter().enumerate() {
        let (entry, key) = (&memorized.entry, key(memorized));
        if tables.memories.get(txn, &key)?.is_some() {
            known.insert(at);
        } else {
            *added.entry(&entry.session).or_default() += 1;
        }
        tables.memories.put(txn, &key, &write_named(&**entry))?;
    }
    for (session, added) in added {
        count(txn, tables, session, added)?;
    }
    for memorized in &entries {
        let outline = Outline::of(&memorized.entry, memorized.vector.as_ref());
        tables.outlines.put(txn, &key(memorized), &layout::write_outline(&outline))?;
    }
    for (at, memorized) in entries.iter().enumerate() {
        match &memorized.vector {
            Some(vector) => tables.vectors.put(txn, &key(memorized), vector.bytes())?,
            None if known.contains(&at) => drop(tables.vectors.delete(txn, &key(memorized))?),
            None => {}
        }
    }
    for (at, memorized) in entries.iter().enumerate() {
        let entry = &memorized.entry;
        if memorized.vector.is_none() && entry.wants_vector() {
            tables.lacking.put(txn, &key(memorized), &[])?;
        } else if known.contains(&at) {
            tables.lacking.delete(txn, &key(memorized))?;
        }
        tables.owners.put(txn, &entry.id.to_bytes(), entry.session.as_bytes())?;
    }
    Ok(())
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
        tables.outlines.delete(txn, &key)?;
        tables.lacking.delete(txn, &key)?;
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

pub(super) fn read_count(value: Option<&[u8]>) -> u64 {
    value.and_then(|value| value.try_into().ok()).map_or(0, u64::from_le_bytes)
}

pub(super) fn read_session(lmdb: &Lmdb, name: &[u8]) -> Result<Arc<str>> {
    let name = std::str::from_utf8(name).map_err(|_| lmdb.corrupt("the name of a session"))?;
    Ok(name.into())
}

pub(super) fn read_entry(lmdb: &Lmdb, value: &[u8]) -> Result<Entry> {
    rmp_serde::from_slice(value).map_err(|e| lmdb.corrupt(format!("a memory: {e}")))
}

fn write_named(value: &impl serde::Serialize) -> Vec<u8> {
    rmp_serde::to_vec_named(value).expect("plain fields have a form")
}
