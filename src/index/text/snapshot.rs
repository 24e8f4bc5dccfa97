//! The text leg as bytes, so that a restart reads it instead of every text.
//!
//! Magic, CRC-32, then MessagePack: dictionary and packed entries. Lists by term are not in it; they
//! are made from the entries faster than they could be read. Whatever the bytes are, reading them gives
//! a sound index or an error. Which journal position they stand for is for the caller to keep.

use serde::{Deserialize, Serialize};

use super::postings::DOCS_MAX;
use super::session::Session;
use super::terms::{TermId, Terms};
use super::{TextIndex, forward, tokens};
use crate::index::Key;
use crate::index::parts::Place;

const MAGIC: &[u8; 4] = b"gctx";
/// Raised when the layout changes; older bytes are refused and the index is built again.
const FORMAT: u32 = 1;
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

#[derive(Serialize, Deserialize)]
struct Image {
    format: u32,
    words: u32,
    terms: Vec<(TermId, String)>,
    sessions: Vec<SessionImage>,
}

#[derive(Default, Serialize, Deserialize)]
struct SessionImage {
    name: String,
    /// 16 bytes each, big-endian.
    #[serde(with = "serde_bytes")]
    keys: Vec<u8>,
    lengths: Vec<u32>,
    /// Bytes of each entry in `packed`.
    sizes: Vec<u32>,
    #[serde(with = "serde_bytes")]
    packed: Vec<u8>,
}

impl TextIndex {
    /// The index as bytes for [`Self::restore`].
    pub fn snapshot(&self) -> Vec<u8> {
        let image = Image {
            format: FORMAT,
            words: tokens::VERSION,
            terms: self.terms.iter().map(|(id, text)| (id, text.to_owned())).collect(),
            sessions: self.parts.iter().map(|(name, session)| picture(name, session)).collect(),
        };
        let body = rmp_serde::to_vec(&image).expect("numbers, strings and bytes can be written");
        let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len());
        bytes.extend(MAGIC);
        bytes.extend(crc32fast::hash(&body).to_le_bytes());
        bytes.extend(body);
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
        let image: Image =
            rmp_serde::from_slice(body).map_err(|_| damaged("its layout is wrong"))?;
        let (format, words) = (image.format, image.words);
        if (format, words) != (FORMAT, tokens::VERSION) {
            return Err(SnapshotError::Version { format, words });
        }
        let terms = Terms::restore(image.terms).ok_or(damaged("its dictionary is wrong"))?;
        let mut index = Self { terms, ..Self::default() };
        for session in &image.sessions {
            index.restore_session(session).ok_or(damaged("a session in it is wrong"))?;
        }
        if index.terms.has_unused() {
            return Err(damaged("its dictionary is wrong"));
        }
        Ok(index)
    }

    fn restore_session(&mut self, image: &SessionImage) -> Option<()> {
        let entries = image.sizes.len();
        let sound = image.lengths.len() == entries
            && image.keys.len() == entries * KEY_BYTES
            && (1..=DOCS_MAX as usize).contains(&entries)
            && self.parts.find(&image.name).is_none();
        if !sound {
            return None;
        }
        let mut keys = Vec::with_capacity(entries);
        for key in image.keys.chunks_exact(KEY_BYTES) {
            keys.push(Key::from_be_bytes(key.try_into().ok()?));
        }
        let (mut packed, mut rest) = (Vec::with_capacity(entries), image.packed.as_slice());
        for &size in &image.sizes {
            let (own, after) = rest.split_at_checked(size as usize)?;
            self.terms_of(own)?;
            packed.push(own.into());
            rest = after;
        }
        if !rest.is_empty() {
            return None;
        }
        let part = self.parts.find_or_insert(&image.name, Session::default);
        for (row, &key) in (0..).zip(&keys) {
            if self.contains(key) {
                return None;
            }
            self.parts.set_place(key, Place { part, row });
        }
        *self.parts.get_mut(part) = Session::restore(keys, image.lengths.clone(), packed);
        Some(())
    }

    /// Acquires the terms of a packed entry, if they are in the dictionary and in order.
    fn terms_of(&mut self, packed: &[u8]) -> Option<()> {
        let mut before = None;
        for (term, _) in forward::unpack(packed) {
            if before.is_some_and(|before| before >= term) {
                return None;
            }
            self.terms.acquire(term)?;
            before = Some(term);
        }
        Some(())
    }
}

fn picture(name: &str, session: &Session) -> SessionImage {
    let mut image = SessionImage { name: name.to_owned(), ..SessionImage::default() };
    for doc in 0..session.len() as u32 {
        image.keys.extend(session.key(doc).to_be_bytes());
        image.lengths.push(session.length(doc));
        image.sizes.push(session.packed(doc).len() as u32);
        image.packed.extend(session.packed(doc));
    }
    image
}
