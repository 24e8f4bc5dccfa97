//! The writing end of the journal: batches of frames, syncs, the change to the next segment.
//!
//! Nothing is noted anywhere before its bytes are written, so an append that failed has not happened,
//! and its bytes mean nothing: the next append writes over them, and what remains does not continue it.

use std::collections::HashSet;
use std::mem;
use std::sync::Arc;

use super::core::Core;
use super::layout::{self, HEAD, Head, Kind, Place};
use super::segment::{Piece, Segment, SegmentFile, What};
use super::{body, error};
use crate::model::{BlobHash, Error, Event, NO_RUN, Record, Result, RunId};
use crate::store::summary::Patch;

/// Definitions that are known to be stored are remembered up to this many.
const KNOWN_MAX: usize = 65_536;

/// The writing end. There is one, under a lock.
pub(super) struct Writer {
    file: Arc<SegmentFile>,
    seed: u32,
    /// Where the next frame goes.
    pub offset: u64,
    /// How much of the segment is durable.
    synced: u64,
    /// CRC of the last frame's body.
    previous: u32,
    /// The seal is written; only the sync and the next segment are missing.
    sealed: bool,
    /// What lies between `synced` and `offset`: after a failed sync the system may have dropped it.
    unsynced: Vec<u8>,
    /// A sync failed, so `unsynced` must be written again before the next.
    suspect: bool,
    batch: Batch,
    pub next_seq: u64,
    last: Place,
    known: HashSet<BlobHash>,
}

/// Frames that are about to be written together.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    frames: Vec<Staged>,
    definitions: HashSet<BlobHash>,
    blobs: HashSet<(RunId, BlobHash)>,
}

struct Staged {
    what: What,
    /// Where the frame begins in the batch.
    from: usize,
    len: usize,
}

impl Batch {
    fn clear(&mut self) {
        self.bytes.clear();
        self.frames.clear();
        self.definitions.clear();
        self.blobs.clear();
    }

    /// Adds a frame whose body `fill` writes; its head is written when it is known where it goes.
    fn add(&mut self, what: What, fill: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
        let from = self.bytes.len();
        self.bytes.resize(from + HEAD, 0);
        fill(&mut self.bytes)?;
        let len = self.bytes.len() - from - HEAD;
        self.bytes.resize(from + layout::frame_len(len), 0);
        self.frames.push(Staged { what, from, len });
        Ok(())
    }

    /// Writes the heads for a batch that begins at `offset`; answers the last frame's CRC.
    fn place(&mut self, seed: u32, offset: u64, synced: u64, mut previous: u32) -> u32 {
        for frame in &self.frames {
            let (head, rest) = self.bytes[frame.from..].split_at_mut(HEAD);
            let body_crc = layout::body_crc(seed, &rest[..frame.len]);
            let kind = match frame.what {
                What::Record { .. } | What::Memory(_) => Kind::Record,
                What::Definition(_) => Kind::Definition,
                What::Blob(..) => Kind::Blob,
            };
            let (len, synced) = (frame.len as u32, synced as u32);
            let fields = Head { kind, len, synced, previous, body_crc };
            fields.write(head, seed, offset + frame.from as u64);
            previous = body_crc;
        }
        previous
    }
}

impl Writer {
    /// Writes to `file` from its beginning. `last` is the place of the last record before.
    pub(super) fn new(file: Arc<SegmentFile>, seed: u32, next_seq: u64, last: Place) -> Self {
        Self {
            file,
            seed,
            offset: 0,
            synced: 0,
            previous: seed,
            sealed: false,
            unsynced: Vec::new(),
            suspect: false,
            batch: Batch::default(),
            next_seq,
            last,
            known: HashSet::new(),
        }
    }

    pub(super) fn append(&mut self, core: &Core, records: &[Record]) -> Result<u64> {
        self.batch.clear();
        let (next_seq, last) = self.stage(core, records)?;
        if self.batch.frames.is_empty() {
            return Ok(0);
        }
        let len = self.batch.bytes.len() as u64;
        self.make_room(core, len)?;
        let previous = self.batch.place(self.seed, self.offset, self.synced, self.previous);
        core.files
            .write_at(&self.file.file, &self.batch.bytes, self.offset)
            .map_err(|e| error::io("write", &self.file.path, &e))?;
        self.unsynced.extend_from_slice(&self.batch.bytes);
        let base = self.offset;
        self.offset += len;
        self.previous = previous;
        (self.next_seq, self.last) = (next_seq, last);
        if self.known.len() + self.batch.definitions.len() > KNOWN_MAX {
            self.known.clear();
        }
        self.known.extend(self.batch.definitions.drain());
        let mut tail = core.tail_mut();
        for frame in self.batch.frames.drain(..) {
            let at = base + (frame.from + HEAD) as u64;
            tail.active.note(frame.what, Piece { at, len: frame.len as u32 });
        }
        Ok(len)
    }

    /// Encodes the records into the batch; answers what follows them.
    fn stage(&mut self, core: &Core, records: &[Record]) -> Result<(u64, Place)> {
        let (mut next_seq, mut last) = (self.next_seq, self.last);
        for record in records {
            if record.seq < next_seq {
                return Err(out_of_order(record, next_seq));
            }
            self.stage_definitions(core, record)?;
            let (written, blobs) = body::split(record);
            for (hash, bytes) in blobs {
                self.stage_blob(core, record.run, hash, &bytes)?;
            }
            let memory = record.memory();
            if record.run == NO_RUN {
                self.batch.add(What::Memory(memory), |out| body::write_record(&written, out))?;
                continue;
            }
            last = last.next(record.seq);
            next_seq = record.seq + record.weight();
            let patches = Patch::of(record, |submitted| match &submitted.workflow {
                Some(workflow) => Ok(workflow.name.clone()),
                None => Ok(core.workflow(&submitted.definition)?.name.clone()),
            })?;
            let what = What::Record { run: record.run, place: last, next_seq, patches, memory };
            self.batch.add(what, |out| body::write_record(&written, out))?;
        }
        Ok((next_seq, last))
    }

    fn stage_definitions(&mut self, core: &Core, record: &Record) -> Result<()> {
        for event in &record.events {
            let Event::Submitted(submitted) = event else { continue };
            let hash = submitted.definition;
            if self.batch.definitions.contains(&hash) || self.has_definition(core, hash)? {
                continue;
            }
            let Some(workflow) = &submitted.workflow else {
                return Err(undefined(record.run));
            };
            core.remember(hash, workflow);
            self.batch.definitions.insert(hash);
            self.batch.add(What::Definition(hash), |out| {
                out.extend_from_slice(&hash);
                body::write_workflow(workflow, out)
            })?;
        }
        Ok(())
    }

    fn has_definition(&mut self, core: &Core, hash: BlobHash) -> Result<bool> {
        if self.known.contains(&hash) {
            return Ok(true);
        }
        let stored = core.tail().has_definition(&hash) || core.lmdb_has_definition(&hash)?;
        if stored {
            self.known.insert(hash);
        }
        Ok(stored)
    }

    /// A purge has deleted a definition.
    pub(super) fn forget_definition(&mut self, hash: &BlobHash) {
        self.known.remove(hash);
    }

    fn stage_blob(&mut self, core: &Core, run: RunId, hash: BlobHash, bytes: &[u8]) -> Result<()> {
        if self.batch.blobs.contains(&(run, hash))
            || core.tail().has_blob(run, &hash)
            || core.lmdb_has_blob(run, &hash)?
        {
            return Ok(());
        }
        self.batch.blobs.insert((run, hash));
        self.batch.add(What::Blob(run, hash), |out| {
            out.extend_from_slice(&run.to_bytes());
            out.extend_from_slice(&hash);
            out.extend_from_slice(bytes);
            Ok(())
        })
    }

    /// Sees to it that the active segment takes `len` more bytes and a seal.
    fn make_room(&mut self, core: &Core, len: u64) -> Result<()> {
        let need = len + HEAD as u64;
        if need > u64::from(u32::MAX) {
            return Err(too_large(len));
        }
        if !self.sealed && self.offset + need <= self.file.capacity {
            return Ok(());
        }
        core.wait_for_checkpoints()?;
        self.rotate(core, Some(need))
    }

    /// Seals the active segment and goes on in the next, which holds `need` bytes at least (`None`:
    /// there is no hurry to write, a short one will do).
    ///
    /// # Errors
    /// `store.full`, `store.io`; nothing is lost and the call may be repeated.
    pub(super) fn rotate(&mut self, core: &Core, need: Option<u64>) -> Result<()> {
        if !self.sealed {
            self.seal(core)?;
        }
        self.sync(core)?;
        let number = self.file.number + 1;
        let file = Arc::new(core.stock().take(number, need)?);
        let next = Segment::new(Arc::clone(&file), self.next_seq);
        {
            let mut tail = core.tail_mut();
            let full = mem::replace(&mut tail.active, next);
            tail.sealed.push_back(Arc::new(full));
        }
        self.seed = layout::seed(&core.store, number);
        self.file = file;
        (self.offset, self.synced, self.previous) = (0, 0, self.seed);
        self.sealed = false;
        core.wake();
        Ok(())
    }

    fn seal(&mut self, core: &Core) -> Result<()> {
        let body_crc = layout::body_crc(self.seed, &[]);
        let (synced, previous) = (self.synced as u32, self.previous);
        let head = Head { kind: Kind::Seal, len: 0, synced, previous, body_crc };
        let mut bytes = [0; HEAD];
        head.write(&mut bytes, self.seed, self.offset);
        core.files
            .write_at(&self.file.file, &bytes, self.offset)
            .map_err(|e| error::io("write", &self.file.path, &e))?;
        self.unsynced.extend_from_slice(&bytes);
        self.offset += HEAD as u64;
        self.sealed = true;
        Ok(())
    }

    pub(super) fn sync(&mut self, core: &Core) -> Result<()> {
        if self.synced == self.offset {
            return Ok(());
        }
        let done = self.push_out(core);
        self.suspect = done.is_err();
        done.map_err(|e| error::io("sync", &self.file.path, &e))?;
        self.synced = self.offset;
        self.unsynced.clear();
        Ok(())
    }

    fn push_out(&self, core: &Core) -> std::io::Result<()> {
        if self.suspect {
            // The system may have marked pages clean that it failed to write; a second sync alone
            // would then succeed without them.
            core.files.write_at(&self.file.file, &self.unsynced, self.synced)?;
        }
        core.files.sync(&self.file.file)
    }

    /// True when the active segment is more than half full: time to have the next one ready.
    pub(super) fn needs_next_soon(&self) -> bool {
        self.offset * 2 > self.file.capacity
    }

    pub(super) fn number(&self) -> u64 {
        self.file.number
    }
}

fn out_of_order(record: &Record, next_seq: u64) -> Error {
    let (seq, run) = (record.seq, record.run);
    let message = format!("a record of run {run} is numbered {seq}, but {next_seq} is next");
    Error::new("store.unwritable", message, "this is a defect of the engine; please report it")
}

fn undefined(run: RunId) -> Error {
    let message = format!("run {run} is submitted with a definition that the store has never seen");
    Error::new("store.unwritable", message, "this is a defect of the engine; please report it")
}

fn too_large(len: u64) -> Error {
    let message = format!("{len} bytes are too many for one turn of the journal");
    Error::new("store.unwritable", message, "lower payload_max, or return less at a time")
}
