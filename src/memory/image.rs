//! A session's indexes as a file: written behind the line, read when the session is loaded.
//!
//! Magic and format, then frames: tag, length, CRC-32, bytes. The first holds the words, those after it
//! some rows of vectors each, the last nothing; without it the file was cut short. Of vectors in cells
//! the centres stand before the rows, and before each frame's rows in whose cells they lie. Beside every text and
//! row stands the stamp of what was indexed. So a file need not be of one moment: whoever reads it
//! compares stamps with the store, entry by entry, and indexes what differs again.

use std::io::{self, Read, Write};

use super::shelf::{HERE, Shelf};
use crate::index::Key;
use crate::index::text::TextIndex;
use crate::index::vector::VectorIndex;
use crate::model::EntryId;
use crate::store::Stamp;

const MAGIC: &[u8; 4] = b"gcix";
/// Raised when the layout changes; other files are built again.
const FORMAT: u32 = 2;
/// Rows of one frame: what is copied while the session is locked for reading.
pub(super) const ROWS: usize = 8_192;
/// Longest frame, in bytes: a damaged length must not ask for all memory.
const FRAME_MAX: u64 = 4 << 30;
/// Room for a frame that is set aside before it is read.
const ROOM_MAX: u64 = 64 << 20;

const WORDS: u8 = 1;
const VECTORS: u8 = 2;
const END: u8 = 3;
const CENTRES: u8 = 4;
const VECTORS_IN_CELLS: u8 = 5;
/// Number of a centre for a row that lies in no cell.
const LOOSE: u32 = u32::MAX;

/// Indexes that were kept, and what they are of.
pub(super) struct Image {
    pub(super) words: TextIndex,
    pub(super) vectors: Option<VectorIndex>,
    /// Stamps of the contents in `words`.
    pub(super) contents: Vec<(Key, Stamp)>,
    /// Stamps of the rows in `vectors`.
    pub(super) rows: Vec<(Key, Stamp)>,
}

/// Why a file does not give indexes.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    #[error("it is of another version (format {0})")]
    Version(u32),
    #[error("{0}")]
    Text(#[from] crate::index::text::SnapshotError),
}

/// Writes the beginning of a file.
pub(super) fn begin(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(MAGIC)?;
    out.write_all(&FORMAT.to_le_bytes())
}

/// Writes a frame: one of `words_of` or `rows_of`, or the end.
pub(super) fn frame(out: &mut dyn Write, frame: &Frame) -> io::Result<()> {
    out.write_all(&[frame.tag])?;
    out.write_all(&(frame.bytes.len() as u64).to_le_bytes())?;
    out.write_all(&crc32fast::hash(&frame.bytes).to_le_bytes())?;
    out.write_all(&frame.bytes)
}

/// A piece of a file.
pub(super) struct Frame {
    tag: u8,
    bytes: Vec<u8>,
}

impl Frame {
    /// Says that nothing follows.
    pub(super) fn end() -> Self {
        Self { tag: END, bytes: Vec::new() }
    }

    /// The words of a session.
    pub(super) fn words_of(shelf: &Shelf) -> Self {
        let keys = shelf.words.keys(HERE);
        let mut bytes = (keys.len() as u32).to_le_bytes().to_vec();
        for key in keys {
            let slot = shelf.slot(EntryId::from_u128(*key));
            bytes.extend(slot.map_or(0, |slot| slot.content).to_le_bytes());
        }
        bytes.extend(shelf.words.snapshot());
        Self { tag: WORDS, bytes }
    }

    /// The centres of a session's cells; `None` where it has none.
    pub(super) fn centres_of(shelf: &Shelf) -> Option<Self> {
        let index = shelf.vectors.as_ref()?;
        let mut bytes = (index.dimension() as u32).to_le_bytes().to_vec();
        bytes.extend(index.write_centres(HERE)?);
        Some(Self { tag: CENTRES, bytes })
    }

    /// The vectors of a session from row `from` on; `None` where there are no more.
    pub(super) fn rows_of(shelf: &Shelf, from: usize) -> Option<Self> {
        let index = shelf.vectors.as_ref()?;
        let keys: Vec<Key> = index.keys(HERE).skip(from).take(ROWS).collect();
        if keys.is_empty() {
            return None;
        }
        let mut bytes = Vec::new();
        let mark = index.mark_of_centres(HERE);
        if let Some(mark) = mark {
            bytes.extend(mark.to_le_bytes());
            bytes.extend((keys.len() as u32).to_le_bytes());
            for centre in index.centres_of(HERE, from, from + keys.len()) {
                bytes.extend(centre.map_or(LOOSE, |centre| centre as u32).to_le_bytes());
            }
        }
        bytes.extend((index.dimension() as u32).to_le_bytes());
        bytes.extend((keys.len() as u32).to_le_bytes());
        for key in &keys {
            let slot = shelf.slot(EntryId::from_u128(*key));
            bytes.extend(slot.map_or(0, |slot| slot.vector).to_le_bytes());
        }
        index.write_rows(HERE, from, from + keys.len(), &mut bytes);
        let tag = if mark.is_some() { VECTORS_IN_CELLS } else { VECTORS };
        Some(Self { tag, bytes })
    }
}

/// Reads a file. The words are taken in on a thread of their own while the rows are read.
pub(super) fn read(mut source: impl Read) -> Result<Image, Fault> {
    let mut head = [0; 8];
    source.read_exact(&mut head)?;
    let (magic, format) = head.split_at(4);
    if magic != MAGIC {
        return Err(Fault::Damaged("it is something else"));
    }
    let format = u32::from_le_bytes(format.try_into().expect("four of eight bytes"));
    if format != FORMAT {
        return Err(Fault::Version(format));
    }
    let mut first = Vec::new();
    if next_frame(&mut source, &mut first)? != WORDS {
        return Err(Fault::Damaged("its words are missing"));
    }
    std::thread::scope(|scope| {
        let words = scope.spawn(move || read_words(&first));
        let vectors = read_vectors(&mut source);
        // A panic in there is one of ours: it goes on here.
        let words = words.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let ((words, contents), (vectors, rows)) = (words?, vectors?);
        Ok(Image { words, vectors, contents, rows })
    })
}

/// Reads the next piece into `bytes`; answers its tag.
fn next_frame(source: &mut impl Read, bytes: &mut Vec<u8>) -> Result<u8, Fault> {
    let mut head = [0; 13];
    source.read_exact(&mut head).map_err(|_| Fault::Damaged("it is cut short"))?;
    let len = u64::from_le_bytes(head[1..9].try_into().expect("eight bytes"));
    let crc = u32::from_le_bytes(head[9..].try_into().expect("four bytes"));
    if len > FRAME_MAX {
        return Err(Fault::Damaged("a length in it is wrong"));
    }
    bytes.clear();
    // No more room at once than files have as a rule, whatever this one says.
    bytes.reserve(len.min(ROOM_MAX) as usize);
    source.take(len).read_to_end(bytes)?;
    if bytes.len() as u64 != len {
        return Err(Fault::Damaged("it is cut short"));
    }
    if crc32fast::hash(bytes) != crc {
        return Err(Fault::Damaged("a checksum in it is wrong"));
    }
    Ok(head[0])
}

type Stamped = Vec<(Key, Stamp)>;

/// Splits stamps from what follows them.
fn stamps(bytes: &[u8]) -> Option<(Vec<Stamp>, &[u8])> {
    let (count, rest) = bytes.split_first_chunk()?;
    let len = (u32::from_le_bytes(*count) as usize).checked_mul(8)?;
    let (stamps, rest) = rest.split_at_checked(len)?;
    let stamps =
        stamps.chunks_exact(8).map(|stamp| Some(u64::from_le_bytes(stamp.try_into().ok()?)));
    Some((stamps.collect::<Option<_>>()?, rest))
}

fn read_words(bytes: &[u8]) -> Result<(TextIndex, Stamped), Fault> {
    let (stamps, rest) = stamps(bytes).ok_or(Fault::Damaged("its stamps are wrong"))?;
    let words = TextIndex::restore(rest)?;
    let keys = words.keys(HERE);
    if keys.len() != stamps.len() || words.len() != keys.len() {
        return Err(Fault::Damaged("its stamps are wrong"));
    }
    let stamped = keys.iter().copied().zip(stamps).collect();
    Ok((words, stamped))
}

fn read_vectors(source: &mut impl Read) -> Result<(Option<VectorIndex>, Stamped), Fault> {
    let (mut vectors, mut rows) = (None::<VectorIndex>, Vec::new());
    let mut bytes = Vec::new();
    loop {
        let read = match next_frame(source, &mut bytes)? {
            VECTORS => read_rows(&bytes, &[], &mut vectors, &mut rows),
            CENTRES => read_centres(&bytes, &mut vectors),
            VECTORS_IN_CELLS => read_rows_in_cells(&bytes, &mut vectors, &mut rows),
            END => return Ok((vectors, rows)),
            _ => return Err(Fault::Damaged("it has a part of an unknown kind")),
        };
        read.ok_or(Fault::Damaged("a part of its vectors is wrong"))?;
    }
}

/// The index of a file's vectors, all of which have one dimension.
fn index_of(dimension: [u8; 4], vectors: &mut Option<VectorIndex>) -> Option<&mut VectorIndex> {
    let dimension = u32::from_le_bytes(dimension) as usize;
    let index = match vectors {
        Some(index) => index,
        none => none.insert(VectorIndex::new(dimension).ok()?),
    };
    (index.dimension() == dimension).then_some(index)
}

fn read_centres(bytes: &[u8], vectors: &mut Option<VectorIndex>) -> Option<()> {
    let (dimension, rest) = bytes.split_first_chunk()?;
    index_of(*dimension, vectors)?.read_centres(HERE, rest)
}

fn read_rows_in_cells(
    bytes: &[u8],
    vectors: &mut Option<VectorIndex>,
    rows: &mut Stamped,
) -> Option<()> {
    let (mark, rest) = bytes.split_first_chunk()?;
    let (count, rest) = rest.split_first_chunk()?;
    let len = (u32::from_le_bytes(*count) as usize).checked_mul(4)?;
    let (numbers, rest) = rest.split_at_checked(len)?;
    let numbers = numbers
        .chunks_exact(4)
        .map(|number| u32::from_le_bytes(number.try_into().expect("four bytes")));
    let mut about: Vec<_> =
        numbers.map(|number| (number != LOOSE).then_some(number as usize)).collect();
    let mark = Some(u32::from_le_bytes(*mark));
    if vectors.as_ref().and_then(|index| index.mark_of_centres(HERE)) != mark {
        // Written after the session was put in other cells: they are put in these again.
        about.clear();
    }
    read_rows(rest, &about, vectors, rows)
}

fn read_rows(
    bytes: &[u8],
    about: &[Option<usize>],
    vectors: &mut Option<VectorIndex>,
    rows: &mut Stamped,
) -> Option<()> {
    let (dimension, rest) = bytes.split_first_chunk()?;
    let (stamps, rest) = stamps(rest)?;
    let taken = index_of(*dimension, vectors)?.read_rows(HERE, rest, about)?;
    if taken.len() != stamps.len() {
        return None;
    }
    // One that moved while the file was written may stand in it twice: the first counts.
    let stamped = taken.into_iter().zip(stamps).filter(|((_, taken), _)| *taken);
    rows.extend(stamped.map(|((key, _), stamp)| (key, stamp)));
    Some(())
}
