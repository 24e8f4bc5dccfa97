//! The text leg: an exact inverted index in memory, scored by BM25 with live statistics.
//!
//! Each session has lists of its own. A search reads those of its sessions and no others, and the
//! statistics are what they would be if nothing else existed: an entry of one session can neither be
//! found nor be felt in another. Adding and deleting change lists and statistics at once.
//!
//! ```
//! use goclaw::index::text::TextIndex;
//! let mut index = TextIndex::default();
//! index.add("support", 1, "the customer prefers e-mail")?;
//! let found = index.query(&["support"], "What do customers prefer?").top(10, None);
//! assert_eq!(found[0].key, 1);
//! # Ok::<(), goclaw::index::text::TextError>(())
//! ```

mod bm25;
mod forward;
mod postings;
mod query;
mod session;
mod snapshot;
mod stop;
mod terms;
#[cfg(test)]
mod tests;
mod tokens;

pub use query::TextQuery;
pub use snapshot::SnapshotError;

use postings::DOCS_MAX;
use session::Session;
use terms::{TermId, Terms};
use tokens::{Kind, Stems};

use super::Key;
use super::parts::{Parts, Place};

/// Stop words are kept as terms of their own kind: questions of nothing else can ask for them, and
/// they touch no statistics of content words.
const STOP_PREFIX: char = '\u{1}';

/// Why a text was not taken in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    #[error("session `{session}` has {DOCS_MAX} entries with text and can hold no more")]
    SessionFull { session: String },
}

/// Every entry with text, by session.
#[derive(Default)]
pub struct TextIndex {
    terms: Terms,
    parts: Parts<Session>,
    stems: Stems,
}

impl TextIndex {
    /// Adds an entry, or gives it another text or session. A text without words is kept, and never found.
    ///
    /// # Errors
    /// [`TextError::SessionFull`] beyond 16,777,216 entries in one session; nothing has changed then.
    pub fn add(&mut self, session: &str, key: Key, text: &str) -> Result<(), TextError> {
        let full = |part| self.parts.get(part).len() >= DOCS_MAX as usize;
        if self.parts.find(session).is_some_and(full) {
            return Err(TextError::SessionFull { session: session.to_owned() });
        }
        self.delete(key);
        let (terms, length) = self.count(text);
        let part = self.parts.find_or_insert(session, Session::default);
        let row = self.parts.get_mut(part).push(key, length, forward::pack(&terms));
        self.parts.set_place(key, Place { part, row });
        Ok(())
    }

    /// Takes an entry out: its words, its share of the statistics, its space. Says whether it was there.
    pub fn delete(&mut self, key: Key) -> bool {
        let Some(place) = self.parts.take_place(key) else { return false };
        let session = self.parts.get_mut(place.part);
        let (packed, moved) = session.swap_remove(place.row);
        if session.is_empty() {
            self.parts.remove(place.part);
        }
        if let Some(moved) = moved {
            self.parts.set_place(moved, place);
        }
        forward::unpack(&packed).for_each(|(term, _)| self.terms.release(term));
        true
    }

    /// Takes every entry of a session out, and says how many there were.
    pub fn delete_session(&mut self, session: &str) -> usize {
        let Some(session) = self.parts.find(session).and_then(|part| self.parts.remove(part))
        else {
            return 0;
        };
        // No word of a session that was deleted as a whole stays behind.
        self.stems.clear();
        for row in 0..session.len() as u32 {
            self.parts.take_place(session.key(row));
            session.terms(row).for_each(|(term, _)| self.terms.release(term));
        }
        session.len()
    }

    /// Prepares a search for `text` in these sessions, and in no others.
    pub fn query(&self, sessions: &[&str], text: &str) -> TextQuery<'_> {
        TextQuery::new(self, sessions, text)
    }

    /// The numbers of an entry's words, in rising order; those of stop words too. Empty where it has none.
    pub fn words_of(&self, key: Key) -> Vec<TermId> {
        let Some(place) = self.parts.place(key) else { return Vec::new() };
        self.parts.get(place.part).terms(place.row).map(|(term, _)| term).collect()
    }

    /// Entries of all sessions.
    pub fn len(&self) -> usize {
        self.parts.entries()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Distinct words of all entries, stop words included.
    pub fn vocabulary(&self) -> usize {
        self.terms.len()
    }

    pub fn contains(&self, key: Key) -> bool {
        self.parts.place(key).is_some()
    }

    /// Keys of a session's entries, in the order in which a snapshot has them.
    pub fn keys(&self, session: &str) -> &[Key] {
        self.parts.find(session).map_or(&[], |part| self.parts.get(part).keys())
    }

    /// Words of all entries together, roughly; stop words do not count.
    pub fn tokens(&self) -> u64 {
        self.parts.iter().map(|(_, session)| session.tokens()).sum()
    }

    /// The terms of a text with their frequencies, in rising order, each acquired once; and its length.
    ///
    /// Stop words do not count towards the length, unless there is nothing else.
    fn count(&mut self, text: &str) -> (Vec<(TermId, u32)>, u32) {
        let (mut ids, mut stops) = (Vec::new(), 0u32);
        let mut stop_term = String::from(STOP_PREFIX);
        let Self { terms: known, stems, .. } = self;
        tokens::tokenize(text, stems, |token, kind| {
            ids.push(match kind {
                Kind::Content => known.intern(token),
                Kind::Stop => {
                    stops += 1;
                    stop_term.truncate(STOP_PREFIX.len_utf8());
                    stop_term.push_str(token);
                    known.intern(&stop_term)
                }
            });
        });
        let content = u32::try_from(ids.len()).unwrap_or(u32::MAX) - stops;
        ids.sort_unstable();
        let same = ids.chunk_by(|a, b| a == b);
        let terms: Vec<_> = same.map(|ids| (ids[0], ids.len() as u32)).collect();
        for (term, _) in &terms {
            self.terms.acquire(*term, 1).expect("it was just interned");
        }
        (terms, if content > 0 { content } else { stops })
    }
}
