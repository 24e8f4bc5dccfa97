//! The dictionary: terms as small numbers, for as long as some entry has them.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

/// Number of a term. Free again, and given to another, once no entry has the term.
pub type TermId = u32;

/// How far numbers of terms may be spread in a dictionary that is read back.
const NUMBERS_SPREAD_MAX: usize = 1 << 20;
const NUMBERS_PER_TERM_MAX: usize = 64;

#[derive(Default)]
pub struct Terms {
    hasher: DefaultHashBuilder,
    /// Numbers, found by the hash of their text.
    table: HashTable<TermId>,
    entries: Vec<Term>,
    free: Vec<TermId>,
}

#[derive(Default)]
struct Term {
    /// Empty while the number is free.
    text: Box<str>,
    /// Entries that have it, of all sessions.
    entries: u32,
}

impl Terms {
    pub fn find(&self, text: &str) -> Option<TermId> {
        let hash = self.hasher.hash_one(text);
        self.table.find(hash, |&id| &*self.entries[id as usize].text == text).copied()
    }

    /// The term's number, a new one if need be. It is to be acquired by the entry that has it at once.
    pub fn intern(&mut self, text: &str) -> TermId {
        self.find(text).unwrap_or_else(|| self.insert(text))
    }

    /// So many more entries have it; paid back one by one with [`Self::release`]. `None` if no term has
    /// this number.
    pub fn acquire(&mut self, id: TermId, entries: u32) -> Option<()> {
        let term = self.entries.get_mut(id as usize).filter(|term| !term.text.is_empty())?;
        term.entries += entries;
        Some(())
    }

    /// All numbers lie below.
    pub fn room(&self) -> usize {
        self.entries.len()
    }

    /// One entry less has it. The last one takes the term along.
    pub fn release(&mut self, id: TermId) {
        let Self { hasher, table, entries, free } = self;
        let term = &mut entries[id as usize];
        term.entries -= 1;
        if term.entries > 0 {
            return;
        }
        let text = std::mem::take(&mut term.text);
        if let Ok(found) = table.find_entry(hasher.hash_one(&*text), |&other| other == id) {
            found.remove();
        }
        free.push(id);
        self.shrink();
    }

    /// A dictionary in which these terms have these numbers, and no entry has any yet.
    ///
    /// `None` if a number or a text comes twice, or numbers are spread without measure.
    pub fn restore(terms: &[(TermId, &str)]) -> Option<Self> {
        let mut restored = Self::default();
        let Self { hasher, table, .. } = &mut restored;
        // Nothing is in it yet, so nothing is hashed.
        table.reserve(terms.len(), |id| hasher.hash_one(id));
        let room = terms.iter().map(|(id, _)| *id as usize + 1).max().unwrap_or(0);
        if room > NUMBERS_SPREAD_MAX.max(terms.len() * NUMBERS_PER_TERM_MAX) {
            return None;
        }
        restored.entries.resize_with(room, Term::default);
        for &(id, text) in terms {
            if text.is_empty() || restored.find(text).is_some() {
                return None;
            }
            let term = &mut restored.entries[id as usize];
            if !term.text.is_empty() {
                return None;
            }
            term.text = text.into();
            restored.link(id);
        }
        let taken = |id: &TermId| !restored.entries[*id as usize].text.is_empty();
        restored.free = (0..room as TermId).filter(|id| !taken(id)).collect();
        Some(restored)
    }

    /// Whether there is a term that no entry has.
    pub fn has_unused(&self) -> bool {
        self.entries.iter().any(|term| term.entries == 0 && !term.text.is_empty())
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Every term in use with its number.
    pub fn iter(&self) -> impl Iterator<Item = (TermId, &str)> {
        self.table.iter().map(|&id| (id, &*self.entries[id as usize].text))
    }

    fn insert(&mut self, text: &str) -> TermId {
        let id = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Term::default());
            TermId::try_from(self.entries.len() - 1).expect("memory ends before four billion terms")
        });
        self.entries[id as usize].text = text.into();
        self.link(id);
        id
    }

    /// Makes a term be found by its text.
    fn link(&mut self, id: TermId) {
        let Self { hasher, table, entries, .. } = self;
        let hash = |&id: &TermId| hasher.hash_one(&*entries[id as usize].text);
        table.insert_unique(hash(&id), id, hash);
    }

    /// Gives room back that is mostly empty; numbers in use stay what they are.
    fn shrink(&mut self) {
        if self.table.is_empty() {
            *self = Self::default();
        } else if self.table.len() * 8 < self.table.capacity() {
            let Self { hasher, table, entries, .. } = self;
            table.shrink_to(table.len() * 2, |&id| hasher.hash_one(&*entries[id as usize].text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acquire(terms: &mut Terms, text: &str) -> TermId {
        let id = terms.intern(text);
        terms.acquire(id, 1).expect("it was just interned");
        id
    }

    #[test]
    fn a_term_lives_as_long_as_an_entry_has_it() {
        let mut terms = Terms::default();
        let a = acquire(&mut terms, "alpha");
        assert_eq!(acquire(&mut terms, "alpha"), a);
        let b = acquire(&mut terms, "beta");
        assert_ne!(a, b);
        terms.release(a);
        assert_eq!(terms.find("alpha"), Some(a));
        terms.release(a);
        assert_eq!((terms.find("alpha"), terms.len()), (None, 1));
        assert_eq!(acquire(&mut terms, "gamma"), a, "a free number is used again");
        assert_eq!(terms.find("beta"), Some(b));
    }

    #[test]
    fn an_empty_dictionary_holds_no_room() {
        let mut terms = Terms::default();
        let ids: Vec<_> = (0..10_000).map(|n| acquire(&mut terms, &n.to_string())).collect();
        ids.into_iter().for_each(|id| terms.release(id));
        assert_eq!((terms.len(), terms.table.capacity(), terms.entries.capacity()), (0, 0, 0));
    }
}
