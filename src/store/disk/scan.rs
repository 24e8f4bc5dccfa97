//! Reading a segment that an earlier opening wrote: what counts, and whether what follows is a torn
//! tail or damage.

use super::layout::{self, ALIGN, HEAD, Head, Kind};
use super::segment::Piece;

/// The sound beginning of a segment.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub frames: Vec<(Kind, Piece)>,
    /// Where the sound frames end.
    pub end: u64,
    /// The last frame is a seal: the segment was full, and durable to here.
    pub sealed: bool,
}

/// A sound frame: its head, and where its body lies.
fn frame_at(bytes: &[u8], seed: u32, offset: usize) -> Option<(Head, Piece)> {
    let head = Head::read(bytes.get(offset..)?, seed, offset as u64)?;
    let from = offset + HEAD;
    let body = bytes.get(from..from + head.len as usize)?;
    let sound = layout::body_crc(seed, body) == head.body_crc;
    sound.then_some((head, Piece { at: from as u64, len: head.len }))
}

/// Follows the frames from the beginning of a segment.
pub(super) fn scan(bytes: &[u8], seed: u32) -> Scan {
    let mut scan = Scan::default();
    let mut previous = seed;
    while let Some((head, piece)) = frame_at(bytes, seed, scan.end as usize) {
        if head.previous != previous {
            break;
        }
        previous = head.body_crc;
        scan.end += layout::frame_len(head.len as usize) as u64;
        if head.kind == Kind::Seal {
            scan.sealed = true;
            break;
        }
        scan.frames.push((head.kind, piece));
    }
    scan
}

/// True where a frame at or after `from` says that the segment was durable beyond `from`: then what
/// lies at `from` was promised, and is damaged.
pub(super) fn promised_beyond(bytes: &[u8], seed: u32, from: u64) -> bool {
    written(bytes, from as usize)
        .filter_map(|offset| frame_at(bytes, seed, offset))
        .any(|(head, _)| u64::from(head.synced) > from)
}

/// True where there is any sound frame: the segment has been written to.
pub(super) fn is_written(bytes: &[u8], seed: u32) -> bool {
    written(bytes, 0).any(|offset| frame_at(bytes, seed, offset).is_some())
}

/// Offsets from `from` on where a frame could be: those that do not hold zeros.
fn written(bytes: &[u8], from: usize) -> impl Iterator<Item = usize> {
    let words = bytes.get(from..).unwrap_or_default().chunks_exact(ALIGN);
    words.enumerate().filter(|(_, word)| *word != [0; ALIGN]).map(move |(at, _)| from + at * ALIGN)
}
