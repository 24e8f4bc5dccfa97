//! The entries of one session: packed one by one, and from a size on also listed by term.

use hashbrown::HashMap;

use super::forward;
use super::postings::{Doc, Posting, Postings};
use super::terms::TermId;
use crate::index::Key;

/// From this many entries on, lists by term pay; below, reading every entry takes microseconds.
const LISTED_FROM: usize = 256;

type Lists = HashMap<TermId, Postings>;

/// Entries have dense numbers: the last one takes the place of one that goes.
#[derive(Default)]
pub(super) struct Session {
    keys: Vec<Key>,
    /// Tokens of each entry.
    lengths: Vec<u32>,
    packed: Vec<Box<[u8]>>,
    tokens: u64,
    lists: Option<Lists>,
}

impl Session {
    /// A session of entries that were packed before; `having` of them have each term.
    pub fn restore(
        keys: Vec<Key>,
        lengths: Vec<u32>,
        packed: Vec<Box<[u8]>>,
        having: &[u32],
    ) -> Self {
        let tokens = lengths.iter().map(|&length| u64::from(length)).sum();
        let mut session = Self { keys, lengths, packed, tokens, lists: None };
        if session.len() >= LISTED_FROM {
            session.lists = Some(session.listed(having));
        }
        session
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Tokens of all entries together.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    pub fn key(&self, doc: Doc) -> Key {
        self.keys[doc as usize]
    }

    pub fn length(&self, doc: Doc) -> u32 {
        self.lengths[doc as usize]
    }

    /// Tokens of each entry.
    pub fn lengths(&self) -> &[u32] {
        &self.lengths
    }

    /// The terms of an entry, in rising order, with their frequencies.
    pub fn terms(&self, doc: Doc) -> impl Iterator<Item = (TermId, u32)> {
        forward::unpack(&self.packed[doc as usize])
    }

    pub fn packed(&self, doc: Doc) -> &[u8] {
        &self.packed[doc as usize]
    }

    /// Adds an entry and says its number.
    pub fn push(&mut self, key: Key, length: u32, packed: Box<[u8]>) -> Doc {
        let doc = self.keys.len() as Doc;
        self.keys.push(key);
        self.lengths.push(length);
        self.tokens += u64::from(length);
        if let Some(lists) = &mut self.lists {
            insert(lists, doc, &packed);
        }
        self.packed.push(packed);
        if self.lists.is_none() && self.keys.len() >= LISTED_FROM {
            self.lists = Some(self.listed(&self.having()));
        }
        doc
    }

    /// Takes an entry out: gives its packed terms back, and the key of the entry that has its number now.
    pub fn swap_remove(&mut self, doc: Doc) -> (Box<[u8]>, Option<Key>) {
        let last = self.keys.len() as Doc - 1;
        if let Some(lists) = &mut self.lists {
            remove(lists, doc, &self.packed[doc as usize]);
            if doc != last {
                remove(lists, last, &self.packed[last as usize]);
                insert(lists, doc, &self.packed[last as usize]);
            }
        }
        self.keys.swap_remove(doc as usize);
        self.tokens -= u64::from(self.lengths.swap_remove(doc as usize));
        let packed = self.packed.swap_remove(doc as usize);
        self.shrink();
        (packed, self.keys.get(doc as usize).copied())
    }

    /// Whether the session has lists by term. If not it is small: read its entries.
    pub fn is_listed(&self) -> bool {
        self.lists.is_some()
    }

    pub fn postings(&self, term: TermId) -> Option<&Postings> {
        self.lists.as_ref()?.get(&term)
    }

    fn shrink(&mut self) {
        if self.keys.len() < LISTED_FROM / 2 {
            self.lists = None;
        }
        if self.keys.len() * 4 < self.keys.capacity() {
            let room = self.keys.len() * 2;
            self.keys.shrink_to(room);
            self.lengths.shrink_to(room);
            self.packed.shrink_to(room);
        }
        if let Some(lists) = &mut self.lists
            && lists.len() * 8 < lists.capacity()
        {
            lists.shrink_to(lists.len() * 2);
        }
    }

    /// How many entries have each term.
    fn having(&self) -> Vec<u32> {
        let mut having: Vec<u32> = Vec::new();
        for (term, _) in self.packed.iter().flat_map(|packed| forward::unpack(packed)) {
            let term = term as usize;
            if term >= having.len() {
                having.resize(term + 1, 0);
            }
            having[term] += 1;
        }
        having
    }

    /// Lists by term, all at once, by counting: each posting is written where it will stay.
    fn listed(&self, having: &[u32]) -> Lists {
        let all = || self.packed.iter().map(|packed| forward::unpack(packed));
        let mut sum = 0;
        // The start for now; it moves to the end while the list is written.
        let start = |having: &u32| {
            let end = sum + *having as usize;
            std::mem::replace(&mut sum, end)
        };
        let mut ends: Vec<usize> = having.iter().map(start).collect();
        let mut flat = vec![Posting::new(0, 0); sum];
        for (doc, terms) in (0..).zip(all()) {
            for (term, frequency) in terms {
                flat[ends[term as usize]] = Posting::new(doc, frequency);
                ends[term as usize] += 1;
            }
        }
        let starts = std::iter::once(&0).chain(&ends);
        let spans = (0..).zip(starts.zip(&ends)).filter(|(_, (start, end))| start < end);
        spans
            .map(|(term, (&start, &end))| (term, Postings::from_sorted(&flat[start..end])))
            .collect()
    }
}

fn insert(lists: &mut Lists, doc: Doc, packed: &[u8]) {
    for (term, frequency) in forward::unpack(packed) {
        lists.entry(term).or_default().insert(Posting::new(doc, frequency));
    }
}

fn remove(lists: &mut Lists, doc: Doc, packed: &[u8]) {
    for (term, _) in forward::unpack(packed) {
        if let Some(postings) = lists.get_mut(&term) {
            postings.remove(doc);
            if postings.is_empty() {
                lists.remove(&term);
            }
        }
    }
}
