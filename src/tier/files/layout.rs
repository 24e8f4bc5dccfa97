//! What every byte of a session's file means. Numbers are little endian.
//!
//! ```text
//! file:  frame…             the first one is the head
//! frame: length u32, length again with every bit turned, CRC-32 u32, body        one write, one sync
//! body:  kind u8: 0 head (the session's key) | 1 put (memory…) | 2 delete (id…)
//! memory: length u32, CRC-32 u32, blob
//! blob:  id 16, vector's length u32, halves, tags' number u16, tag 16 each, content's kind u8, content
//! ```

use crate::model::{Content, EntryId, Vector};
use crate::tier::cold::{Cold, Tag};

pub(super) const HEAD: u8 = 0;
pub(super) const PUT: u8 = 1;
pub(super) const DELETE: u8 = 2;
/// Bytes before a blob.
pub(super) const PREFIX: usize = 8;
/// Bytes before a frame's body.
pub(super) const FRONT: usize = 12;

/// A length and checksum before some bytes.
pub(super) fn prefixed(body: &[u8], out: &mut Vec<u8>) {
    out.extend((body.len() as u32).to_le_bytes());
    out.extend(crc32fast::hash(body).to_le_bytes());
    out.extend(body);
}

/// Length and checksum, of the first eight bytes.
pub(super) fn prefix(bytes: &[u8]) -> Option<(usize, u32)> {
    let mut reader = Reader(bytes);
    Some((reader.u32()? as usize, reader.u32()?))
}

pub(super) fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(payload);
    let len = 1 + payload.len() as u32;
    let mut out = Vec::with_capacity(FRONT + len as usize);
    out.extend(len.to_le_bytes());
    out.extend((!len).to_le_bytes());
    out.extend(hasher.finalize().to_le_bytes());
    out.push(kind);
    out.extend(payload);
    out
}

/// Length and checksum of a frame; `None` where the two lengths disagree.
pub(super) fn front(bytes: &[u8; FRONT]) -> Option<(usize, u32)> {
    let mut reader = Reader(bytes);
    let (len, turned, crc) = (reader.u32()?, reader.u32()?, reader.u32()?);
    (len == !turned).then_some((len as usize, crc))
}

pub(super) fn write_blob(cold: &Cold) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + cold.vector.bytes().len() + cold.content.len());
    out.extend(cold.id.to_bytes());
    out.extend((cold.vector.bytes().len() as u32).to_le_bytes());
    out.extend(cold.vector.bytes());
    // Metadata is bounded, and with it the number of its names.
    out.extend((cold.tags.len() as u16).to_le_bytes());
    cold.tags.iter().for_each(|tag| out.extend(tag.bytes()));
    let (kind, bytes) = match &cold.content {
        Content::Text(text) => (0, text.as_bytes()),
        Content::Json(text) => (1, text.as_bytes()),
        Content::Bytes(bytes) => (2, bytes.as_slice()),
    };
    out.push(kind);
    out.extend(bytes);
    out
}

/// A blob, taken apart and not copied.
pub(super) struct Blob<'a> {
    pub(super) id: EntryId,
    halves: &'a [u8],
    tags: &'a [u8],
    kind: u8,
    content: &'a [u8],
}

impl<'a> Blob<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let id = EntryId::from_u128(u128::from_be_bytes(reader.take(16)?.try_into().ok()?));
        let len = reader.u32()? as usize;
        let halves = reader.take(len)?;
        let count = u16::from_le_bytes(reader.take(2)?.try_into().ok()?);
        let tags = reader.take(16 * usize::from(count))?;
        let kind = reader.take(1)?[0];
        Some(Self { id, halves, tags, kind, content: reader.0 })
    }

    pub(super) fn vector(&self) -> Vector {
        Vector::from_bytes(self.halves)
    }

    pub(super) fn tags(&self) -> impl Iterator<Item = Tag> + '_ {
        let whole = self.tags.chunks_exact(16).filter_map(|tag| tag.try_into().ok());
        whole.map(Tag::from_bytes)
    }

    pub(super) fn cold(&self) -> Option<Cold> {
        let text = || String::from_utf8(self.content.to_vec()).ok();
        let content = match self.kind {
            0 => Content::Text(text()?),
            1 => Content::Json(text()?),
            2 => Content::Bytes(self.content.to_vec()),
            _ => return None,
        };
        Some(Cold { id: self.id, content, vector: self.vector(), tags: self.tags().collect() })
    }
}

/// Takes bytes from the front, if there are as many.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(front)
    }
    pub(super) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }
}
