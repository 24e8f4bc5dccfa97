//! Segments of the journal that LMDB does not hold yet, with an index of what is in them.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use super::layout::Place;
use super::memory::MemoryTail;
use super::{error, files};
use crate::model::{BlobHash, MemoryOp, Result, RunId};
use crate::store::summary::{Change, Patch};

/// A file of the journal.
#[derive(Debug)]
pub(super) struct SegmentFile {
    pub number: u64,
    pub path: PathBuf,
    pub file: File,
    /// Length of the file in bytes.
    pub capacity: u64,
}

/// Some bytes of a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub at: u64,
    pub len: u32,
}

impl SegmentFile {
    /// Reads a piece that was written before.
    pub(super) fn read(&self, piece: Piece) -> Result<Vec<u8>> {
        let mut bytes = vec![0; piece.len as usize];
        files::read_exact_at(&self.file, &mut bytes, piece.at)
            .map_err(|e| error::io("read", &self.path, &e))?;
        Ok(bytes)
    }
}

/// One record of a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub place: Place,
    pub body: Piece,
    /// Some of it was memorized and does not belong into the log.
    pub memory: bool,
}

/// What a segment holds of one run.
#[derive(Clone, Debug, Default)]
pub(super) struct RunTail {
    /// Positions in `Segment::entries`.
    pub entries: Vec<u32>,
    pub patches: Vec<Patch>,
    pub blobs: Vec<(BlobHash, Piece)>,
}

/// A frame of a segment, as the index sees it.
#[derive(Debug)]
pub(super) enum What {
    Record {
        run: RunId,
        place: Place,
        next_seq: u64,
        patches: Vec<Patch>,
        memory: Vec<MemoryOp>,
    },
    /// A record that belongs to no run.
    Memory(Vec<MemoryOp>),
    Definition(BlobHash),
    Blob(RunId, BlobHash),
}

/// A segment and the index of what is in it.
#[derive(Debug)]
pub(super) struct Segment {
    pub file: Arc<SegmentFile>,
    /// In order of their places.
    pub entries: Vec<Entry>,
    pub runs: HashMap<RunId, RunTail>,
    pub definitions: HashMap<BlobHash, Piece>,
    pub memory: Arc<MemoryTail>,
    /// First sequence number after the segment.
    pub next_seq: u64,
}

impl Segment {
    pub(super) fn new(file: Arc<SegmentFile>, next_seq: u64) -> Self {
        Self {
            file,
            entries: Vec::new(),
            runs: HashMap::new(),
            definitions: HashMap::new(),
            memory: Arc::default(),
            next_seq,
        }
    }

    /// Notes a frame whose body lies at `body`.
    pub(super) fn note(&mut self, what: What, body: Piece) {
        match what {
            What::Record { run, place, next_seq, patches, memory } => {
                let position = self.entries.len() as u32;
                self.entries.push(Entry { place, body, memory: !memory.is_empty() });
                self.memory.note(memory);
                let tail = self.runs.entry(run).or_default();
                tail.entries.push(position);
                tail.patches.extend(patches);
                self.next_seq = next_seq;
            }
            What::Memory(memory) => self.memory.note(memory),
            What::Definition(hash) => {
                self.definitions.insert(hash, body);
            }
            What::Blob(run, hash) => {
                self.runs.entry(run).or_default().blobs.push((hash, body));
            }
        }
    }
}

/// The journal's tail: sealed segments that wait for their checkpoint, and the one being written.
#[derive(Debug)]
pub(super) struct Tail {
    pub sealed: VecDeque<Arc<Segment>>,
    pub active: Segment,
}

impl Tail {
    /// Every segment, oldest first.
    pub(super) fn segments(&self) -> impl DoubleEndedIterator<Item = &Segment> {
        self.sealed.iter().map(Arc::as_ref).chain([&self.active])
    }

    /// Where the tail has a definition.
    pub(super) fn definition(&self, hash: &BlobHash) -> Option<(Arc<SegmentFile>, Piece)> {
        self.segments().find_map(|segment| {
            let piece = segment.definitions.get(hash)?;
            Some((Arc::clone(&segment.file), *piece))
        })
    }

    pub(super) fn has_definition(&self, hash: &BlobHash) -> bool {
        self.segments().any(|segment| segment.definitions.contains_key(hash))
    }

    pub(super) fn has_blob(&self, run: RunId, hash: &BlobHash) -> bool {
        self.segments()
            .filter_map(|segment| segment.runs.get(&run))
            .any(|tail| tail.blobs.iter().any(|(other, _)| other == hash))
    }

    /// True where a submission in the tail runs the definition.
    pub(super) fn uses_definition(&self, hash: &BlobHash) -> bool {
        self.segments().flat_map(|segment| segment.runs.values()).any(|tail| {
            tail.patches.iter().any(
                |patch| matches!(&patch.change, Change::Submitted { definition, .. } if definition == hash),
            )
        })
    }
}
