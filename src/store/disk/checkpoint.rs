//! Moving a sealed segment into LMDB: one transaction, which also says so (`position`).
//!
//! So a crash leaves a segment either wholly in the journal or wholly in LMDB; a file that is still
//! there although its number lies before the position is only waiting to be recycled.

use std::borrow::Cow;

use heed::{PutFlags, RwTxn};

use super::layout::{self, Line};
use super::lmdb::{Lmdb, Tables, WriteError};
use super::segment::{Piece, RunTail, Segment, SegmentFile};
use super::{body, error, files, memory};
use crate::model::{Result, RunId};
use crate::store::Summary;
use crate::store::summary::{Change, Patch};

/// Moves a segment; `position` is the first that is not in LMDB then.
///
/// # Errors
/// `store.full`, `store.io`: nothing was moved.
pub(super) fn move_segment(lmdb: &Lmdb, segment: &Segment, position: u64) -> Result<()> {
    let mut runs: Vec<(&RunId, &RunTail)> = segment.runs.iter().collect();
    runs.sort_unstable_by_key(|(run, _)| **run);
    lmdb.write(|txn, tables| {
        let mut window = Window::new(&segment.file);
        put_log(txn, tables, lmdb, segment, &mut window)?;
        memory::put(txn, tables, lmdb, &segment.memory)?;
        for (run, tail) in &runs {
            for position in &tail.entries {
                let place = segment.entries[*position as usize].place;
                tables.index.put(txn, &layout::index_key(**run, place), &[])?;
            }
            for (hash, piece) in &tail.blobs {
                tables.blobs.put(txn, &layout::blob_key(**run, hash), window.get(*piece)?)?;
            }
            put_line(txn, tables, lmdb, **run, &tail.patches)?;
        }
        for (hash, piece) in &segment.definitions {
            tables.definitions.put(txn, hash, window.get(*piece)?)?;
        }
        Ok(tables.put_position(txn, position, segment.next_seq)?)
    })
}

fn put_log(
    txn: &mut RwTxn<'_>,
    tables: &Tables,
    lmdb: &Lmdb,
    segment: &Segment,
    window: &mut Window<'_>,
) -> Result<(), WriteError> {
    for entry in &segment.entries {
        let mut body = Cow::Borrowed(window.get(entry.body)?);
        if entry.memory {
            body = Cow::Owned(without_memory(lmdb, &body)?);
        }
        // Places only ever grow, so pages fill up one after the other.
        tables.log.put_with_flags(txn, PutFlags::APPEND, &entry.place.key(), &body)?;
    }
    Ok(())
}

fn without_memory(lmdb: &Lmdb, bytes: &[u8]) -> Result<Vec<u8>> {
    let record =
        body::read_run_record(bytes).map_err(|e| lmdb.corrupt(format!("a record: {e}")))?;
    let mut out = Vec::new();
    body::write_record(&record, &mut out)?;
    Ok(out)
}

fn put_line(
    txn: &mut RwTxn<'_>,
    tables: &Tables,
    lmdb: &Lmdb,
    run: RunId,
    patches: &[Patch],
) -> Result<(), WriteError> {
    if patches.is_empty() {
        return Ok(());
    }
    let key = run.to_bytes();
    let (mut line, mut definition) = (None, [0; 32]);
    if let Some(value) = tables.runs.get(txn, &key)? {
        let old = read_line(lmdb, value)?;
        definition = old.definition;
        line = Some(old.summary(run));
    }
    for patch in patches {
        if let Change::Submitted { definition: hash, .. } = &patch.change {
            definition = *hash;
            tables.count_use(txn, hash, 1)?;
        }
        patch.apply(&mut line);
    }
    let Some(line) = line else { return Ok(()) };
    if line.ended.is_some() {
        tables.live.delete(txn, &key)?;
    } else {
        tables.live.put(txn, &key, &[])?;
    }
    let value = write_line(line, definition);
    tables.runs.put(txn, &key, &value)?;
    Ok(())
}

pub(super) fn read_line(lmdb: &Lmdb, value: &[u8]) -> Result<Line> {
    rmp_serde::from_slice(value).map_err(|e| lmdb.corrupt(format!("a line of its runs: {e}")))
}

fn write_line(line: Summary, definition: [u8; 32]) -> Vec<u8> {
    rmp_serde::to_vec_named(&Line::new(line, definition)).expect("plain fields have a form")
}

/// Reads pieces of a file, mostly in order, through a buffer.
struct Window<'a> {
    file: &'a SegmentFile,
    from: u64,
    bytes: Vec<u8>,
}

/// Bytes that are read at once.
const WINDOW: u64 = 1 << 20;

impl<'a> Window<'a> {
    fn new(file: &'a SegmentFile) -> Self {
        Self { file, from: 0, bytes: Vec::new() }
    }

    fn get(&mut self, piece: Piece) -> Result<&[u8]> {
        let end = piece.at + u64::from(piece.len);
        if piece.at < self.from || end > self.from + self.bytes.len() as u64 {
            let len = WINDOW.max(u64::from(piece.len)).min(self.file.capacity - piece.at);
            self.bytes.resize(len as usize, 0);
            self.from = piece.at;
            if let Err(e) = files::read_exact_at(&self.file.file, &mut self.bytes, piece.at) {
                self.bytes.clear();
                return Err(error::io("read", &self.file.path, &e));
            }
        }
        let from = (piece.at - self.from) as usize;
        Ok(&self.bytes[from..from + piece.len as usize])
    }
}
