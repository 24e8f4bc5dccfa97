//! Looking at what one session remembers, piece by piece.
//!
//! A session that is loaded holds what searching needs; contents and exact vectors are read here for
//! the few that are looked at. A view shows at least what was appended before it was opened.

use super::memory::Memories;
use crate::model::{Content, Entry, EntryId, Memorized, Result, Timestamp, Vector};

/// Tells whether what was indexed is what is remembered: 64 bits of a hash. 0 where there is nothing to
/// index.
pub type Stamp = u64;

/// Stamp of the words of a content; bytes have none.
pub fn stamp_of_content(content: &Content) -> Stamp {
    match content {
        Content::Text(text) => stamp(b't', text.as_bytes()),
        Content::Json(text) => stamp(b'j', text.as_bytes()),
        Content::Bytes(_) => 0,
    }
}

/// Stamp of a vector.
pub fn stamp_of_vector(vector: Option<&Vector>) -> Stamp {
    vector.map_or(0, |vector| stamp(b'v', vector.bytes()))
}

fn stamp(kind: u8, bytes: &[u8]) -> Stamp {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(bytes);
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first).max(1)
}

/// An entry without its content and vector: what its session keeps in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Outline<'a> {
    pub id: EntryId,
    pub stability: f64,
    pub difficulty: f64,
    pub last_review: Timestamp,
    pub created: Timestamp,
    pub pinned: bool,
    /// A JSON object, as text.
    pub metadata: Option<&'a str>,
    pub content: Stamp,
    pub vector: Stamp,
    /// The cold tier where content and vector lie.
    pub away: Option<&'a str>,
}

impl<'a> Outline<'a> {
    pub fn of(entry: &'a Entry, vector: Option<&Vector>) -> Self {
        Self {
            id: entry.id,
            stability: entry.stability,
            difficulty: entry.difficulty,
            last_review: entry.last_review,
            created: entry.created,
            pinned: entry.pinned,
            metadata: entry.metadata.as_deref(),
            content: match entry.away {
                Some(_) => 0,
                None => stamp_of_content(&entry.content),
            },
            vector: stamp_of_vector(vector),
            away: entry.away.as_ref().map(|away| &*away.tier),
        }
    }
}

/// What one session remembers. Nothing else may be asked of the store while a view is open.
pub trait View {
    /// An entry with its vector.
    fn entry(&self, id: EntryId) -> Result<Option<Memorized>>;
    /// Shows the bytes of an entry's vector; `false` where there is none.
    fn vector(&self, id: EntryId, show: &mut dyn FnMut(&[u8])) -> Result<bool>;
    /// Every entry, in order of the ids.
    fn entries(&self, each: &mut dyn FnMut(Memorized)) -> Result<()>;
    /// Every entry without its content, in order of the ids.
    fn outlines(&self, each: &mut dyn FnMut(Outline<'_>)) -> Result<()>;
}

/// Everything that a view shows.
pub(super) fn memories(view: &dyn View) -> Result<Memories> {
    let mut found = Vec::new();
    view.entries(&mut |memorized| found.push((memorized.entry.id, memorized)))?;
    Ok(found.into_iter().collect())
}

/// Where a session's index is read from.
pub type IndexSource = Box<dyn std::io::Read + Send>;

/// An index that is being written. Dropped before it is kept, it leaves the one before as it is.
pub trait IndexFile: std::io::Write {
    /// Puts it in the place of the one before: all of it or nothing.
    ///
    /// # Errors
    /// `store.full`, `store.io`
    fn keep(self: Box<Self>) -> Result<()>;
}
