//! The text leg as bytes, so that a restart reads it instead of every text.
//!
//! Magic, CRC-32, then numbers (little endian) and bytes: dictionary and packed entries. Lists by term
//! are not in it; they are made from the entries faster than they could be read. Whatever the bytes are,
//! reading them gives a sound index or an error. Which texts they stand for is for the caller to keep.

use super::postings::DOCS_MAX;
use super::session::Session;
use super::terms::{TermId, Terms};
use super::{TextIndex, forward, tokens};
use crate::index::Key;
use crate::index::bytes::Bytes;
use crate::index::parts::Place;

const MAGIC: &[u8; 4] = b"gctx";
/// Raised when the layout changes; other bytes are refused and the index is built again.
const FORMAT: u32 = 2;
const HEAD_BYTES: usize = MAGIC.len() + 4;
const KEY_BYTES: usize = 16;

/// Why bytes do not give an index. It is then built from the texts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    #[error("text snapshot is damaged: {0}")]
    Damaged(&'static str),
    #[error("text snapshot was written by another version (format {format}, words {words})")]
    Version { format: u32, words: u32 },
}

impl TextIndex {
    /// The index as bytes for [`Self::restore`].
    pub fn snapshot(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([0; 4]);
        put(&mut bytes, FORMAT);
        put(&mut bytes, tokens::VERSION);
        put(&mut bytes, self.terms.len() as u32);
        for (id, text) in self.terms.iter() {
            put(&mut bytes, id);
            put(&mut bytes, text.len() as u32);
            bytes.extend(text.as_bytes());
        }
        put(&mut bytes, self.parts.iter().count() as u32);
        self.parts.iter().for_each(|(name, session)| picture(name, session, &mut bytes));
        let crc = crc32fast::hash(&bytes[HEAD_BYTES..]);
        bytes[MAGIC.len()..HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads what [`Self::snapshot`] wrote.
    ///
    /// # Errors
    /// [`SnapshotError`] if the bytes are damaged, or from a version that cut words differently.
    pub fn restore(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let damaged = SnapshotError::Damaged;
        let (head, body) = bytes.split_at_checked(HEAD_BYTES).ok_or(damaged("it is cut short"))?;
        let (magic, sum) = head.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(damaged("it is something else"));
        }
        if sum != crc32fast::hash(body).to_le_bytes() {
            return Err(damaged("its checksum is wrong"));
        }
        let mut body = Bytes(body);
        let version = (body.u32(), body.u32());
        let (Some(format), Some(words)) = version else { return Err(damaged("it is cut short")) };
        if (format, words) != (FORMAT, tokens::VERSION) {
            return Err(SnapshotError::Version { format, words });
        }
        let terms = read_terms(&mut body).ok_or(damaged("its dictionary is wrong"))?;
        let mut index = Self { terms, ..Self::default() };
        let sessions = body.u32().ok_or(damaged("it is cut short"))?;
        for _ in 0..sessions {
            index.restore_session(&mut body).ok_or(damaged("a session in it is wrong"))?;
        }
        if index.terms.has_unused() || !body.is_empty() {
            return Err(damaged("its dictionary is wrong"));
        }
        Ok(index)
    }

    fn restore_session(&mut self, bytes: &mut Bytes<'_>) -> Option<()> {
        let name = bytes.text()?;
        let entries = bytes.u32()?;
        if !(1..=DOCS_MAX).contains(&entries) || self.parts.find(name).is_some() {
            return None;
        }
        let entries = entries as usize;
        let keys = bytes.take(entries.checked_mul(KEY_BYTES)?)?.chunks_exact(KEY_BYTES);
        let keys: Option<Vec<_>> =
            keys.map(|key| Some(Key::from_be_bytes(key.try_into().ok()?))).collect();
        let (keys, lengths, sizes) = (keys?, bytes.u32s(entries)?, bytes.u32s(entries)?);
        let mut packed = Vec::with_capacity(entries);
        let mut having = vec![0; self.terms.room()];
        for size in sizes {
            let own = bytes.take(size as usize)?;
            count(own, &mut having)?;
            packed.push(own.into());
        }
        for (term, &entries) in (0..).zip(&having).filter(|(_, entries)| **entries > 0) {
            self.terms.acquire(term, entries)?;
        }
        let part = self.parts.find_or_insert(name, Session::default);
        self.parts.reserve(entries);
        for (row, &key) in (0..).zip(&keys) {
            if self.contains(key) {
                return None;
            }
            self.parts.set_place(key, Place { part, row });
        }
        *self.parts.get_mut(part) = Session::restore(keys, lengths, packed, &having);
        Some(())
    }
}

fn put(bytes: &mut Vec<u8>, number: u32) {
    bytes.extend(number.to_le_bytes());
}

fn read_terms(bytes: &mut Bytes<'_>) -> Option<Terms> {
    let count = bytes.u32()?;
    // No more room is set aside than the bytes can fill.
    let mut terms = Vec::with_capacity(bytes.0.len().min(count as usize));
    for _ in 0..count {
        terms.push((bytes.u32()?, bytes.text()?));
    }
    Terms::restore(&terms)
}

/// Counts the terms of a packed entry, if they have room in the dictionary and are in order.
fn count(packed: &[u8], having: &mut [u32]) -> Option<()> {
    let mut before: Option<TermId> = None;
    for (term, _) in forward::unpack(packed) {
        if before.is_some_and(|before| before >= term) {
            return None;
        }
        *having.get_mut(term as usize)? += 1;
        before = Some(term);
    }
    Some(())
}

fn picture(name: &str, session: &Session, bytes: &mut Vec<u8>) {
    put(bytes, name.len() as u32);
    bytes.extend(name.as_bytes());
    let docs = 0..session.len() as u32;
    put(bytes, docs.end);
    docs.clone().for_each(|doc| bytes.extend(session.key(doc).to_be_bytes()));
    docs.clone().for_each(|doc| put(bytes, session.length(doc)));
    docs.clone().for_each(|doc| put(bytes, session.packed(doc).len() as u32));
    docs.for_each(|doc| bytes.extend(session.packed(doc)));
}
