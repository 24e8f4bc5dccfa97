//! A look at a session of the store in RAM. Every question takes the lock for itself: whoever searches
//! for long must not hold the writer up.

use std::ops::Bound;

use super::ram::RamStore;
use super::view::{Outline, View};
use crate::model::{EntryId, Memorized, Result};

/// Entries that are taken out under one lock.
const PAGE: usize = 256;

pub(super) struct RamView<'a> {
    pub store: &'a RamStore,
    pub session: &'a str,
}

impl View for RamView<'_> {
    fn entry(&self, id: EntryId) -> Result<Option<Memorized>> {
        self.store.with_memories(self.session, |memories| memories.get(&id).cloned())
    }

    fn vector(&self, id: EntryId, show: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let vector = self.store.with_memories(self.session, |memories| {
            memories.get(&id).and_then(|memorized| memorized.vector.clone())
        })?;
        if let Some(vector) = &vector {
            show(vector.bytes());
        }
        Ok(vector.is_some())
    }

    fn entries(&self, each: &mut dyn FnMut(Memorized)) -> Result<()> {
        let mut from = Bound::Unbounded;
        loop {
            let page: Vec<Memorized> = self.store.with_memories(self.session, |memories| {
                let range = memories.range((from, Bound::Unbounded));
                range.take(PAGE).map(|(_, memorized)| memorized.clone()).collect()
            })?;
            let Some(last) = page.last() else { return Ok(()) };
            from = Bound::Excluded(last.entry.id);
            page.into_iter().for_each(&mut *each);
        }
    }

    fn outlines(&self, each: &mut dyn FnMut(Outline<'_>)) -> Result<()> {
        self.entries(&mut |it| each(Outline::of(&it.entry, it.vector.as_ref())))
    }
}
