//! A session as it is seen: what is loaded of it, the store behind it, and what the asking task has
//! written and not committed.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::due::Due;
use super::shelf::{HERE, Shelf};
use super::slot::Slot;
use crate::index::Key;
use crate::index::fuse::Fused;
use crate::index::search::{self, Options};
use crate::index::vector::from_f16;
use crate::math::fsrs::Fsrs;
use crate::model::{EntryId, Error, Memorized, Result};
use crate::store::View;

/// Entries that operations touch which are not committed, as they would be; `None`: gone.
pub(super) type Own = HashMap<EntryId, Option<Memorized>>;

/// A look at a session. It lasts as long as the session is locked: take what is needed and go.
pub(super) struct Sight<'a> {
    shelf: &'a Shelf,
    view: &'a dyn View,
    own: &'a Own,
}

impl<'a> Sight<'a> {
    pub(super) fn new(shelf: &'a Shelf, view: &'a dyn View, own: &'a Own) -> Self {
        Self { shelf, view, own }
    }

    pub(super) fn len(&self) -> usize {
        self.shelf.len()
    }

    /// How the session's memories are forgotten; `None`: as usual.
    pub(super) fn fsrs(&self) -> Option<&'a Arc<Fsrs>> {
        self.shelf.fsrs()
    }

    /// Which memories can be forgotten, by stability and last review.
    pub(super) fn due(&self) -> &'a Due {
        self.shelf.due()
    }

    /// The memories before and after one, in time.
    pub(super) fn beside(&self, key: Key) -> [Option<Key>; 2] {
        self.shelf.beside(key)
    }

    /// The numbers of a memory's words, in rising order.
    pub(super) fn words_of(&self, key: Key) -> Vec<u32> {
        self.shelf.words.words_of(key)
    }

    /// How many of its memories lie in cold tiers, by tier.
    pub(super) fn away(&self) -> &'a BTreeMap<Arc<str>, usize> {
        &self.shelf.away
    }

    pub(super) fn slot(&self, id: EntryId) -> Option<&'a Slot> {
        self.shelf.slot(id)
    }

    /// The slot of a key that an index answered.
    pub(super) fn at(&self, key: Key) -> &'a Slot {
        self.slot(EntryId::from_u128(key)).expect("indexes hold what is shelved and no more")
    }

    /// All entries in order of their ids, from behind `after` on.
    pub(super) fn slots(
        &self,
        after: Option<EntryId>,
    ) -> impl DoubleEndedIterator<Item = (EntryId, &'a Slot)> {
        self.shelf.slots(after)
    }

    /// An entry of the session, read from the store. `None` also where it was forgotten just now.
    ///
    /// # Errors
    /// `store.*`
    pub(super) fn get(&self, id: EntryId) -> Result<Option<Memorized>> {
        match self.own.get(&id) {
            Some(own) => Ok(own.clone()),
            None if self.slot(id).is_none() => Ok(None),
            None => self.view.entry(id),
        }
    }

    /// Entries in the order of these ids.
    ///
    /// # Errors
    /// `store.*`
    pub(super) fn read(&self, ids: impl Iterator<Item = EntryId>) -> Result<Vec<Memorized>> {
        ids.filter_map(|id| self.get(id).transpose()).collect()
    }

    /// The best by vector and text, best first: at least `k`, if there are as many.
    ///
    /// # Errors
    /// `store.*`
    pub(super) fn search(
        &self,
        vector: Option<&[f32]>,
        text: Option<&str>,
        k: usize,
        options: Options<'_>,
    ) -> Result<Vec<Fused>> {
        let failure = RefCell::new(None);
        let truth = |key: Key, row: &mut [f32]| {
            self.row(EntryId::from_u128(key), row).unwrap_or_else(|error: Error| {
                failure.borrow_mut().get_or_insert(error);
                false
            })
        };
        // The vector was checked against the store's dimension, which the index shares.
        let near = match (&self.shelf.vectors, vector) {
            (Some(index), Some(vector)) => index.query(&[HERE], vector, &truth).ok(),
            _ => None,
        };
        let worded = text.map(|text| self.shelf.words.query(&[HERE], text));
        let found = search::search(near.as_ref(), worded.as_ref(), k, options);
        drop(near);
        failure.into_inner().map_or(Ok(found), Err)
    }

    /// The vector of a memory, of length 1.
    ///
    /// # Errors
    /// `store.*`
    pub(super) fn vector(&self, key: Key) -> Result<Option<Vec<f32>>> {
        let Some(index) = &self.shelf.vectors else { return Ok(None) };
        let mut row = vec![0.0; index.dimension()];
        Ok(self.row(EntryId::from_u128(key), &mut row)?.then_some(row))
    }

    /// Writes an entry's vector into `row`; `false` where there is none of this length.
    fn row(&self, id: EntryId, row: &mut [f32]) -> Result<bool> {
        if let Some(own) = self.own.get(&id) {
            let vector = own.as_ref().and_then(|own| own.vector.as_ref());
            return Ok(vector.is_some_and(|vector| from_f16(vector.bytes(), row)));
        }
        let mut fits = false;
        self.view.vector(id, &mut |bytes| fits = from_f16(bytes, row))?;
        Ok(fits)
    }
}
