//! Opening: what the journal holds beyond LMDB is checked and moved there, then writing begins in a
//! segment with a number that was never used.
//!
//! Every step may be the last before a crash: the next opening finds the position that LMDB names and
//! does the rest. A torn tail is cut by never looking at it again.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, RwLock, mpsc};

use super::checkpoint::move_segment;
use super::core::Core;
use super::files::Files;
use super::layout::{self, Kind, Place, StoreId};
use super::lmdb::{Lmdb, Meta};
use super::lock::Lock;
use super::scan;
use super::segment::{Piece, Segment, SegmentFile, Tail, What};
use super::stock::Stock;
use super::worker::Progress;
use super::writer::Writer;
use super::{body, error, indexes, memory};
use crate::model::{BlobHash, NO_RUN, Record, Result, RunId};
use crate::store::Options;
use crate::store::ram::FIRST_SEQ;
use crate::store::summary::Patch;

/// What opening found, beside the store itself.
pub(super) struct Opened {
    pub core: Core,
    pub epoch: u64,
    pub unfinished: Vec<RunId>,
}

/// Opens the store in `dir`, or makes one there.
pub(super) fn open(
    dir: &Path,
    options: &Options,
    files: Files,
    waker: Option<mpsc::SyncSender<()>>,
) -> Result<Opened> {
    let (journal, state, indexes) = (dir.join("journal"), dir.join("lmdb"), indexes::dir(dir));
    for path in [dir, &journal, &state, &indexes] {
        fs::create_dir_all(path).map_err(|e| error::io("make", path, &e))?;
    }
    let lock = Lock::take(dir)?;
    for path in dir.parent().into_iter().filter(|it| !it.as_os_str().is_empty()).chain([dir]) {
        files.sync_dir(path).map_err(|e| error::io("sync", path, &e))?;
    }
    let lmdb = Lmdb::open(&state, options, files.clone())?;
    let found = lmdb.meta(&lmdb.read()?.txn)?;
    let mut meta = found.unwrap_or_else(|| Meta {
        store: fresh_id(dir),
        epoch: 0,
        position: 0,
        next_seq: FIRST_SEQ,
    });
    if found.is_none() {
        lmdb.write(|txn, tables| Ok(tables.put_meta(txn, &meta)?))?;
    }
    memory::outline_what_has_none(&lmdb)?;
    let (segments, last_number) = segment_files(&journal, &files)?;
    let mut stock = Stock::new(journal.clone(), files.clone(), options.segment_bytes);
    let mut recovery = Recovery { lmdb: &lmdb, store: meta.store, last: last_place(&lmdb)? };
    let next_seq = recovery.replay(&journal, &segments, meta.position, meta.next_seq)?;
    let last = recovery.last;

    meta.epoch += 1;
    meta.next_seq = next_seq;
    meta.position = meta.position.max(last_number.map_or(0, |last| last + 1));
    lmdb.write(|txn, tables| Ok(tables.put_meta(txn, &meta)?))?;
    for file in segments.into_values() {
        stock.retire(Arc::new(file))?;
    }
    let file = Arc::new(stock.take(meta.position, None)?);
    let seed = layout::seed(&meta.store, meta.position);
    let unfinished = unfinished(&lmdb)?;
    let active = Segment::new(Arc::clone(&file), next_seq);
    let core = Core {
        store: meta.store,
        options: options.clone(),
        files,
        indexes,
        lmdb,
        writer: Mutex::new(Writer::new(file, seed, next_seq, last)),
        moving: Mutex::new(()),
        stock: Mutex::new(stock),
        tail: RwLock::new(Tail { sealed: Default::default(), active }),
        workflows: Mutex::new(HashMap::new()),
        progress: Progress::default(),
        wanted: AtomicU64::new(0),
        waker: Mutex::new(waker),
        _lock: lock,
    };
    indexes::sweep(&core)?;
    Ok(Opened { core, epoch: meta.epoch, unfinished })
}

/// The files of the journal by number, and the highest number. Half-made ones are deleted.
fn segment_files(
    journal: &Path,
    files: &Files,
) -> Result<(BTreeMap<u64, SegmentFile>, Option<u64>)> {
    let fail = |e: std::io::Error| error::io("read", journal, &e);
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(journal).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.ends_with(".tmp") {
            files.remove(&path).map_err(|e| error::io("delete", &path, &e))?;
        } else if let Some(number) = layout::segment_number(name) {
            let file = files.open(&path).map_err(|e| error::io("open", &path, &e))?;
            let capacity = file.metadata().map_err(|e| error::io("open", &path, &e))?.len();
            found.insert(number, SegmentFile { number, path, file, capacity });
        }
    }
    let last = found.keys().next_back().copied();
    Ok((found, last))
}

struct Recovery<'a> {
    lmdb: &'a Lmdb,
    store: StoreId,
    /// Place of the last record so far.
    last: Place,
}

impl Recovery<'_> {
    /// Moves the journal's tail into LMDB; answers the sequence number after it.
    fn replay(
        &mut self,
        journal: &Path,
        files: &BTreeMap<u64, SegmentFile>,
        position: u64,
        mut next_seq: u64,
    ) -> Result<u64> {
        let mut number = position;
        while let Some(file) = files.get(&number) {
            let bytes = read_whole(file)?;
            let seed = layout::seed(&self.store, number);
            let scan = scan::scan(&bytes, seed);
            let damaged = !scan.sealed && scan::promised_beyond(&bytes, seed, scan.end);
            if damaged {
                let what = "a frame that was durable is not there any more";
                return Err(error::corrupt_at(&file.path, scan.end, what));
            }
            if !scan.sealed {
                // Nothing is written to a segment before the one before it is sealed and durable.
                self.refuse_later(files, number, &file.path, scan.end)?;
            }
            let segment = self.index(file, &bytes, &scan.frames, next_seq)?;
            next_seq = segment.next_seq;
            number += 1;
            move_segment(self.lmdb, &segment, number)?;
            if !scan.sealed {
                return Ok(next_seq);
            }
        }
        let missing = journal.join(layout::segment_name(number));
        self.refuse_later(files, number, &missing, 0)?;
        Ok(next_seq)
    }

    /// Refuses a journal in which a segment after `number` was written to.
    fn refuse_later(
        &self,
        files: &BTreeMap<u64, SegmentFile>,
        number: u64,
        guilty: &Path,
        offset: u64,
    ) -> Result<()> {
        for (later, file) in files.range(number + 1..) {
            let bytes = read_whole(file)?;
            if scan::is_written(&bytes, layout::seed(&self.store, *later)) {
                let what =
                    format!("segment {later} follows it, but it does not end as a whole one");
                return Err(error::corrupt_at(guilty, offset, &what));
            }
        }
        Ok(())
    }

    fn index(
        &mut self,
        file: &SegmentFile,
        bytes: &[u8],
        frames: &[(Kind, Piece)],
        next_seq: u64,
    ) -> Result<Segment> {
        let mut segment = Segment::new(Arc::new(same_file(file)?), next_seq);
        // Definitions and blobs come before the record that needs them; without it they are nothing.
        let mut waiting = Vec::new();
        for (kind, piece) in frames {
            let at = piece.at as usize;
            let body = &bytes[at..at + piece.len as usize];
            let bad = |what: &str| error::corrupt_at(&file.path, piece.at, what);
            match kind {
                Kind::Definition => {
                    let (hash, _) =
                        layout::definition_body(body).ok_or_else(|| bad("definition"))?;
                    waiting.push((What::Definition(hash), *piece));
                }
                Kind::Blob => {
                    let (run, hash, _) = layout::blob_body(body).ok_or_else(|| bad("blob"))?;
                    waiting.push((What::Blob(run, hash), *piece));
                }
                Kind::Record => {
                    let record = body::read_record(body).map_err(|e| bad(&format!("{e}")))?;
                    if record.seq < segment.next_seq {
                        return Err(bad("a record is out of order"));
                    }
                    waiting.drain(..).for_each(|(what, piece)| segment.note(what, piece));
                    let what = self.record(&record, &segment, bytes)?;
                    segment.note(what, *piece);
                }
                Kind::Seal => {}
            }
        }
        Ok(segment)
    }

    fn record(&mut self, record: &Record, segment: &Segment, bytes: &[u8]) -> Result<What> {
        let memory = record.memory();
        if record.run == NO_RUN {
            return Ok(What::Memory(memory));
        }
        self.last = self.last.next(record.seq);
        let patches = Patch::of(record, |submitted| {
            let hash = &submitted.definition;
            let in_segment = segment.definitions.get(hash).map(|piece| {
                let at = piece.at as usize;
                bytes[at..at + piece.len as usize].to_vec()
            });
            self.workflow_name(hash, in_segment)
        })?;
        let next_seq = record.seq + record.weight();
        Ok(What::Record { run: record.run, place: self.last, next_seq, patches, memory })
    }

    fn workflow_name(&self, hash: &BlobHash, in_segment: Option<Vec<u8>>) -> Result<String> {
        let body = match in_segment {
            Some(body) => Some(body),
            None => {
                let snapshot = self.lmdb.read()?;
                let found = self.lmdb.tables.definitions.get(&snapshot.txn, hash);
                found.map_err(self.lmdb.fail("read"))?.map(<[u8]>::to_vec)
            }
        };
        let workflow = body.as_deref().and_then(layout::definition_body);
        let (_, workflow) = workflow.ok_or_else(|| self.lmdb.corrupt("a definition is missing"))?;
        let workflow = body::read_workflow(workflow)
            .map_err(|e| self.lmdb.corrupt(format!("a definition cannot be read: {e}")))?;
        Ok(workflow.name)
    }
}

fn read_whole(file: &SegmentFile) -> Result<Vec<u8>> {
    let len = u32::try_from(file.capacity)
        .map_err(|_| error::corrupt(&file.path, "a segment is never this long"))?;
    file.read(Piece { at: 0, len })
}

fn same_file(file: &SegmentFile) -> Result<SegmentFile> {
    let handle = file.file.try_clone().map_err(|e| error::io("open", &file.path, &e))?;
    let (number, path, capacity) = (file.number, file.path.clone(), file.capacity);
    Ok(SegmentFile { number, path, file: handle, capacity })
}

/// Place of the last record in LMDB.
fn last_place(lmdb: &Lmdb) -> Result<Place> {
    let snapshot = lmdb.read()?;
    let last = lmdb.tables.log.last(&snapshot.txn).map_err(lmdb.fail("read"))?;
    let Some((key, _)) = last else { return Ok(Place { seq: 0, tie: 0 }) };
    Place::read(key).ok_or_else(|| lmdb.corrupt("a key of its log"))
}

fn unfinished(lmdb: &Lmdb) -> Result<Vec<RunId>> {
    let snapshot = lmdb.read()?;
    let fail = lmdb.fail("read");
    let mut runs = Vec::new();
    for entry in lmdb.tables.live.iter(&snapshot.txn).map_err(&fail)? {
        let (key, _) = entry.map_err(&fail)?;
        let key = key.try_into().map_err(|_| lmdb.corrupt("a key of its live runs"))?;
        runs.push(RunId::from_bytes(key));
    }
    Ok(runs)
}

/// A new store's identity: unlike that of any other, no secret.
fn fresh_id(dir: &Path) -> StoreId {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let mut hasher = blake3::Hasher::new();
    hasher.update(dir.as_os_str().as_encoded_bytes());
    hasher.update(&now.unwrap_or_default().as_nanos().to_le_bytes());
    hasher.update(&std::process::id().to_le_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    id
}
