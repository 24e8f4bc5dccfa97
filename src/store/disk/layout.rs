//! Every byte that a store writes, format 1: frames of the journal, keys and values of LMDB.
//!
//! **Segment** `journal/NNNNNNNN.seg`: frames one after the other, each at a multiple of 8. A frame is
//! a head of 24 bytes (little endian) and a body:
//!
//! | 0 | 4 | 8 | 12 | 16 | 20 | 24 |
//! |---|---|---|---|---|---|---|
//! | kind | length of body | synced | previous | CRC of body | CRC of head | body |
//!
//! Both CRCs start from a seed made of the store's id and the segment's number, and the head's covers
//! the frame's offset. Numbers are never used twice, so a frame that a recycled file still holds from
//! its earlier life, or one copied to another place, is not a frame. `previous` is the CRC of the body
//! before: what a failed append left behind never continues what was written over its beginning.
//! `synced` says how much of the segment was durable when the frame was written: that tells a torn
//! tail (pages of an unsynced batch reach the disk in any order) from damage to what was promised.
//!
//! **Bodies**: record = MessagePack (named) of `Record`; definition = hash, then MessagePack of
//! `Workflow`; blob = run, hash, then the payload's envelope; seal = nothing, ends a full segment.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{BlobHash, EntryId, RunId, RunState, Timestamp};
use crate::store::Summary;
use crate::store::view::Outline;

/// The format that this build writes, and the newest that it reads.
pub(in crate::store) const FORMAT: u32 = 1;

/// Bytes of a frame's head.
pub(super) const HEAD: usize = 24;
/// Frames start at multiples of this.
pub(super) const ALIGN: usize = 8;
/// Longer payloads are written out of line, in bytes.
pub(super) const INLINE_MAX: usize = 32 * 1024;

/// Identity of a store, drawn when it is made.
pub(super) type StoreId = [u8; 16];

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Record = 1,
    Definition = 2,
    Blob = 3,
    Seal = 4,
}

/// Head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub kind: Kind,
    pub len: u32,
    pub synced: u32,
    pub previous: u32,
    pub body_crc: u32,
}

/// Where the checksums of a segment start.
pub(super) fn seed(store: &StoreId, segment: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(store);
    hasher.update(&segment.to_le_bytes());
    hasher.finalize()
}

pub(super) fn body_crc(seed: u32, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(body);
    hasher.finalize()
}

fn head_crc(seed: u32, offset: u64, head: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(&offset.to_le_bytes());
    hasher.update(&head[..20]);
    hasher.finalize()
}

impl Head {
    pub(super) fn write(&self, out: &mut [u8], seed: u32, offset: u64) {
        out[0..4].copy_from_slice(&(self.kind as u32).to_le_bytes());
        out[4..8].copy_from_slice(&self.len.to_le_bytes());
        out[8..12].copy_from_slice(&self.synced.to_le_bytes());
        out[12..16].copy_from_slice(&self.previous.to_le_bytes());
        out[16..20].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = head_crc(seed, offset, out);
        out[20..24].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads the head at `offset`, where `bytes` begin; `None` where there is no sound one.
    pub(super) fn read(bytes: &[u8], seed: u32, offset: u64) -> Option<Self> {
        let word = |at: usize| {
            let word = bytes.get(at..at + 4)?;
            Some(u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
        };
        let kind = match word(0)? {
            1 => Kind::Record,
            2 => Kind::Definition,
            3 => Kind::Blob,
            4 => Kind::Seal,
            _ => return None,
        };
        if head_crc(seed, offset, bytes.get(..20)?) != word(20)? {
            return None;
        }
        let (len, synced, previous, body_crc) = (word(4)?, word(8)?, word(12)?, word(16)?);
        Some(Self { kind, len, synced, previous, body_crc })
    }
}

/// Bytes that a frame with a body of `len` takes.
pub(super) fn frame_len(len: usize) -> usize {
    (HEAD + len).next_multiple_of(ALIGN)
}

/// Splits the body of a definition.
pub(super) fn definition_body(body: &[u8]) -> Option<(BlobHash, &[u8])> {
    let (hash, rest) = body.split_first_chunk()?;
    Some((*hash, rest))
}

/// Splits the body of a blob.
pub(super) fn blob_body(body: &[u8]) -> Option<(RunId, BlobHash, &[u8])> {
    let (run, rest) = body.split_first_chunk()?;
    let (hash, rest) = rest.split_first_chunk()?;
    Some((RunId::from_bytes(*run), *hash, rest))
}

/// Name of a segment's file.
pub(super) fn segment_name(number: u64) -> String {
    format!("{number:08}.seg")
}

/// The number in a segment's file name.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    name.strip_suffix(".seg")?.parse().ok()
}

// ---- LMDB. Numbers in keys are big endian, so that keys sort as numbers do.

/// `meta`: name → little-endian number, or the store's id.
pub(super) const META: &str = "meta";
/// `log`: place → body of a record.
pub(super) const LOG: &str = "log";
/// `index`: run, place → nothing.
pub(super) const INDEX: &str = "index";
/// `runs`: run → [`Line`], MessagePack.
pub(super) const RUNS: &str = "runs";
/// `live`: run → nothing, while it has not ended.
pub(super) const LIVE: &str = "live";
/// `definitions`: hash → body of its frame.
pub(super) const DEFINITIONS: &str = "definitions";
/// `uses`: hash → number of runs of the definition, little endian.
pub(super) const USES: &str = "uses";
/// `blobs`: run, hash → body of its frame.
pub(super) const BLOBS: &str = "blobs";

// What agents remember. These tables are made where an older store lacks them. Records of the log hold
// no memory: a checkpoint moves it here.

/// `memories`: length of the session (2 bytes), session, entry → `Entry`, MessagePack (named).
pub(super) const MEMORIES: &str = "memories";
/// `vectors`: the same key → parts as binary16, little endian. Up to 1,015 parts leave room for two
/// records on a page.
pub(super) const VECTORS: &str = "vectors";
/// `outlines`: the same key → [`Outline`]: flags (1 byte: 1 pinned, 2 metadata, 4 away), then eight bytes
/// each, little endian, for stability, difficulty, last review, created, stamps of content and vector; where it is
/// away the cold tier's name with its length before it (2 bytes); then the metadata. What a session needs of an entry to be loaded; always there beside the entry.
pub(super) const OUTLINES: &str = "outlines";
/// `owners`: entry → session.
pub(super) const OWNERS: &str = "owners";
/// `sessions`: session → number of its entries, little endian.
pub(super) const SESSIONS: &str = "sessions";
/// `copies`: the key of `memories` → name of the cold tier that may hold a copy, whether the memory is
/// still there or not.
pub(super) const COPIES: &str = "copies";

/// `lacking`: the key of an entry that has a text and no vector → nothing.
pub(super) const LACKING: &str = "lacking";

pub(super) const META_FORMAT: &[u8] = b"format";
pub(super) const META_STORE: &[u8] = b"store";
pub(super) const META_EPOCH: &[u8] = b"epoch";
/// First segment that is not in LMDB.
pub(super) const META_POSITION: &[u8] = b"position";
pub(super) const META_NEXT_SEQ: &[u8] = b"next_seq";
/// `VectorModel`, MessagePack (named); not there before the first vector.
pub(super) const META_VECTOR_MODEL: &[u8] = b"vector_model";

/// There since every entry has an outline.
pub(super) const META_OUTLINED: &[u8] = b"outlined";

/// What the keys of settings of sessions begin with.
pub(super) const FORGETTING: &[u8] = b"forgetting/";

/// How memories are forgotten, in `meta`, by session.
pub(super) fn forgetting_key(session: &str) -> Vec<u8> {
    [FORGETTING, session.as_bytes()].concat()
}

/// Where a record stands in the order of all: its first sequence number, and a count of the records
/// before it that have the same one (records that tell users nothing take no number).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub seq: u64,
    pub tie: u32,
}

impl Place {
    /// Place of a record numbered `seq` that follows this one.
    pub(super) fn next(self, seq: u64) -> Self {
        Self { seq, tie: if seq == self.seq { self.tie + 1 } else { 0 } }
    }

    pub(super) fn key(self) -> [u8; 12] {
        let mut key = [0; 12];
        key[..8].copy_from_slice(&self.seq.to_be_bytes());
        key[8..].copy_from_slice(&self.tie.to_be_bytes());
        key
    }

    pub(super) fn read(key: &[u8]) -> Option<Self> {
        let (seq, tie) = key.split_first_chunk()?;
        let tie = tie.try_into().ok()?;
        Some(Self { seq: u64::from_be_bytes(*seq), tie: u32::from_be_bytes(tie) })
    }
}

/// Key of `index`.
pub(super) fn index_key(run: RunId, place: Place) -> [u8; 28] {
    let mut key = [0; 28];
    key[..16].copy_from_slice(&run.to_bytes());
    key[16..].copy_from_slice(&place.key());
    key
}

/// Key of `blobs`.
pub(super) fn blob_key(run: RunId, hash: &BlobHash) -> [u8; 48] {
    let mut key = [0; 48];
    key[..16].copy_from_slice(&run.to_bytes());
    key[16..].copy_from_slice(hash);
    key
}

/// What the keys of a session in `memories` and `vectors` begin with. The length comes first, so that
/// no session's keys begin with another's.
pub(super) fn session_prefix(session: &str) -> Vec<u8> {
    let len = u16::try_from(session.len()).expect("sessions have at most 400 bytes");
    let mut key = Vec::with_capacity(2 + session.len() + 16);
    key.extend_from_slice(&len.to_be_bytes());
    key.extend_from_slice(session.as_bytes());
    key
}

/// Key of `memories` and `vectors`.
pub(super) fn memory_key(session: &str, id: EntryId) -> Vec<u8> {
    let mut key = session_prefix(session);
    key.extend_from_slice(&id.to_bytes());
    key
}

/// The session in a key of `memories`.
pub(super) fn memory_session(key: &[u8]) -> Option<&str> {
    let (len, rest) = key.split_first_chunk()?;
    let session = rest.get(..usize::from(u16::from_be_bytes(*len)))?;
    std::str::from_utf8(session).ok()
}

/// The entry in a key of `memories`.
pub(super) fn memory_id(key: &[u8]) -> Option<EntryId> {
    let (_, id) = key.split_last_chunk()?;
    Some(EntryId::from_bytes(*id))
}

const PINNED: u8 = 1;
const HAS_METADATA: u8 = 2;
const IS_AWAY: u8 = 4;
/// Numbers of eight bytes in an outline.
const OUTLINE_NUMBERS: usize = 6;

/// Value of `outlines`.
pub(super) fn write_outline(outline: &Outline<'_>) -> Vec<u8> {
    let metadata = outline.metadata.unwrap_or_default();
    let mut value = Vec::with_capacity(1 + 8 * OUTLINE_NUMBERS + metadata.len());
    let has_metadata = outline.metadata.map_or(0, |_| HAS_METADATA);
    let is_away = outline.away.map_or(0, |_| IS_AWAY);
    value.push(if outline.pinned { PINNED } else { 0 } | has_metadata | is_away);
    for number in [
        outline.stability.to_bits(),
        outline.difficulty.to_bits(),
        outline.last_review.0,
        outline.created.0,
        outline.content,
        outline.vector,
    ] {
        value.extend_from_slice(&number.to_le_bytes());
    }
    if let Some(tier) = outline.away {
        let len = u16::try_from(tier.len()).expect("names of tiers are short");
        value.extend_from_slice(&len.to_le_bytes());
        value.extend_from_slice(tier.as_bytes());
    }
    value.extend_from_slice(metadata.as_bytes());
    value
}

/// Reads what `write_outline` wrote; `None` where it did not.
pub(super) fn read_outline(id: EntryId, value: &[u8]) -> Option<Outline<'_>> {
    let (flags, rest) = value.split_first()?;
    let (numbers, metadata) = rest.split_at_checked(8 * OUTLINE_NUMBERS)?;
    let mut numbers = numbers.chunks_exact(8).filter_map(|number| number.try_into().ok());
    let mut next = || numbers.next().map(u64::from_le_bytes);
    let has_metadata = flags & HAS_METADATA != 0;
    let (away, metadata) = if flags & IS_AWAY == 0 {
        (None, metadata)
    } else {
        let (len, rest) = metadata.split_first_chunk()?;
        let (tier, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
        (Some(std::str::from_utf8(tier).ok()?), rest)
    };
    Some(Outline {
        id,
        stability: f64::from_bits(next()?),
        difficulty: f64::from_bits(next()?),
        last_review: Timestamp(next()?),
        created: Timestamp(next()?),
        pinned: flags & PINNED != 0,
        metadata: if has_metadata { Some(std::str::from_utf8(metadata).ok()?) } else { None },
        content: next()?,
        vector: next()?,
        away,
    })
}

/// Value of `runs`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line {
    pub workflow: String,
    pub state: RunState,
    pub tags: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Arc<str>>,
    pub submitted: Timestamp,
    pub ended: Option<Timestamp>,
    #[serde(with = "serde_bytes")]
    pub definition: BlobHash,
}

impl Line {
    pub(super) fn new(summary: Summary, definition: BlobHash) -> Self {
        let Summary { run: _, workflow, state, tags, session, submitted, ended } = summary;
        Self { workflow, state, tags, session, submitted, ended, definition }
    }

    pub(super) fn summary(self, run: RunId) -> Summary {
        let Self { workflow, state, tags, session, submitted, ended, definition: _ } = self;
        Summary { run, workflow, state, tags, session, submitted, ended }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_valid_only_where_it_was_written() {
        let seed = seed(&[7; 16], 3);
        let head = Head { kind: Kind::Record, len: 300, synced: 64, previous: 5, body_crc: 9 };
        let mut bytes = [0; HEAD];
        head.write(&mut bytes, seed, 128);
        assert_eq!(Head::read(&bytes, seed, 128), Some(head));
        assert_eq!(Head::read(&bytes, seed, 136), None, "another offset");
        assert_eq!(Head::read(&bytes, super::seed(&[7; 16], 4), 128), None, "another segment");
        assert_eq!(Head::read(&bytes, super::seed(&[8; 16], 3), 128), None, "another store");
        for bit in 0..HEAD * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Head::read(&bytes, seed, 128), None, "bit {bit} flipped");
        }
    }

    #[test]
    fn no_session_is_a_beginning_of_another() {
        let names = ["a", "a:b", "a\0", "", "ab", "\0a"];
        let key = |name| memory_key(name, EntryId::from_u128(u128::from(b'b') << 120));
        for one in names {
            for other in names.into_iter().filter(|other| *other != one) {
                assert!(!key(one).starts_with(&session_prefix(other)), "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn places_sort_by_number_then_by_tie() {
        let first = Place { seq: 255, tie: 0 };
        let second = first.next(255);
        let third = second.next(256);
        assert!(first.key() < second.key() && second.key() < third.key());
        assert_eq!(Place::read(&second.key()), Some(Place { seq: 255, tie: 1 }));
        assert_eq!(third.tie, 0);
    }
}
