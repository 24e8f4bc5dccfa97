//! Vectors that follow their entries: who makes them, and of which model.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

pub use super::backlog::Work;
use super::check;
use super::service::Memory;
use crate::model::{EntryId, Memorized, MemoryOp, Result, Vector, VectorModel};

/// What is known of texts without a vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unvectored {
    /// How many have none.
    pub entries: u64,
    /// Of those, how many the embedder refuses.
    pub refused: u64,
}

impl Memory {
    /// Which model makes the vectors of this store; `None` before the first.
    pub fn vector_model(&self) -> Option<VectorModel> {
        self.model.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Settles which model makes the vectors, or refuses another one than before.
    ///
    /// # Errors
    /// `memory.model`, `memory.dimension`, `engine.closed`, `store.*`.
    pub fn settle_model(&self, name: Option<&str>, dimension: usize) -> Result<()> {
        let _settling = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.vector_model();
        if let Some(known) = &known {
            check_name(known, name)?;
            check::dimension(known, dimension)?;
            if known.name.is_some() || name.is_none() {
                return Ok(());
            }
        }
        self.put_model(VectorModel {
            name: name.map(Into::into),
            dimension: dimension as u32,
            generation: known.map_or(0, |known| known.generation),
        })
    }

    /// Commits a model; by somebody who holds `settling`.
    fn put_model(&self, model: VectorModel) -> Result<()> {
        self.journal.commit(vec![MemoryOp::Model(model.clone())])?;
        *self.model.write().unwrap_or_else(PoisonError::into_inner) = Some(model);
        Ok(())
    }

    /// Refuses an embedder that is not the one that the store was begun with.
    ///
    /// # Errors
    /// `memory.model`
    pub fn check_model(&self, name: &str) -> Result<()> {
        self.vector_model().map_or(Ok(()), |known| check_name(&known, Some(name)))
    }

    /// From now on the caller makes the vectors of what was memorized without one (`vector_work`); more than
    /// `max` texts shall not wait for theirs.
    pub fn watch_vectors(&self, max: u64) {
        self.backlog().watch(max);
    }

    /// Refuses so many more texts without a vector where too many wait for theirs.
    ///
    /// # Errors
    /// `memory.backlog`, `engine.closed`, `store.*`.
    pub(super) fn admit<'a>(&self, new: impl Iterator<Item = &'a Memorized>) -> Result<()> {
        let lack = new.filter(|it| it.vector.is_none() && it.entry.wants_vector());
        check::unless_closed(self.backlog().admit(lack.count() as u64, &*self.store))
    }

    /// Nobody makes vectors any more.
    pub fn close_vectors(&self) {
        self.backlog().close();
    }

    /// Counts the models that the store has had.
    pub fn generation(&self) -> u32 {
        self.vector_model().map_or(0, |model| model.generation)
    }

    /// Takes entries without a vector in hand, up to `limit` of them with up to `bytes_max` of content,
    /// waiting up to `patience` for the first. `None` once `close_vectors` was called. They come back by
    /// `put_vectors`, `return_work` or `refuse_work`.
    ///
    /// # Errors
    /// `engine.closed`, `store.*`.
    pub fn vector_work(
        &self,
        limit: usize,
        bytes_max: usize,
        patience: Duration,
    ) -> Result<Option<Work>> {
        check::unless_closed(self.backlog().take(limit, bytes_max, patience, &*self.store))
    }

    /// Gives entries that were taken in hand their vectors. Where the store has another model by now they
    /// wait for one of that.
    ///
    /// # Errors
    /// `memory.vector`, `memory.dimension`, `engine.closed`, `store.*`: then they wait again.
    pub fn put_vectors(
        &self,
        generation: u32,
        made: Vec<(EntryId, Arc<str>, Vec<f32>)>,
    ) -> Result<()> {
        let ids: Vec<EntryId> = made.iter().map(|(id, ..)| *id).collect();
        let put = self.vector_ops(generation, made).and_then(|ops| self.commit(ops));
        self.backlog().let_go(ids, put.is_ok() && self.generation() == generation);
        put
    }

    fn vector_ops(
        &self,
        generation: u32,
        made: Vec<(EntryId, Arc<str>, Vec<f32>)>,
    ) -> Result<Vec<MemoryOp>> {
        let model = self.vector_model().filter(|model| model.generation == generation);
        let op = |(id, session, parts): (EntryId, Arc<str>, Vec<f32>)| {
            check::vector(&parts)?;
            if let Some(model) = &model {
                check::dimension(model, parts.len())?;
            }
            Ok(MemoryOp::Vector { session, id, vector: Vector::new(&parts), generation })
        };
        made.into_iter().map(op).collect()
    }

    /// Puts entries back that were taken in hand and have no vector.
    pub fn return_work(&self, ids: &[EntryId]) {
        self.backlog().let_go(ids.iter().copied(), false);
    }

    /// Sets an entry aside whose text the embedder refuses. It is tried again when the store is opened.
    pub fn refuse_work(&self, id: EntryId, session: &str) {
        self.backlog().set_aside(id, session.into());
    }

    /// Waits until every text has its vector. False where the time is over first, some are refused, or
    /// nobody makes vectors.
    ///
    /// # Errors
    /// `engine.closed`, `store.*`.
    pub fn vectorized(&self, timeout: Duration) -> Result<bool> {
        if self.backlog().is_watched() {
            return Ok(self.backlog().settled(timeout));
        }
        Ok(self.unvectored()?.entries == 0)
    }

    /// Whether vectors are still to come from somebody.
    pub fn awaits_vectors(&self) -> bool {
        self.backlog().is_busy()
    }

    /// How many texts have no vector.
    ///
    /// # Errors
    /// `engine.closed`, `store.*`.
    pub fn unvectored(&self) -> Result<Unvectored> {
        let entries = check::unless_closed(self.store.unvectored_count())?;
        Ok(Unvectored { entries, refused: self.backlog().refused().min(entries) })
    }

    /// Refuses while memories lie in a cold tier: their vectors there are of the model in use.
    ///
    /// # Errors
    /// `memory.reembed`, `engine.closed`, `store.*`.
    pub fn check_whole(&self) -> Result<()> {
        // A copy may still be listed after its memory came back, or was forgotten: only stubs count.
        for session in check::unless_closed(self.store.copied())? {
            if self.look(&session, |sight| Ok(!sight.away().is_empty()))? {
                return Err(check::lies_cold(&session));
            }
        }
        Ok(())
    }

    /// Voids every vector of the store: from now on they are of another model, and every text waits for
    /// one. Answers the generation of that model.
    ///
    /// # Errors
    /// `engine.closed`, `store.*`.
    pub fn remodel(&self, name: &str, dimension: usize) -> Result<u32> {
        // Nothing may move to the tier between the look and the commit.
        let _staying = self.stay();
        self.check_whole()?;
        let _settling = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = self.generation() + 1;
        self.put_model(VectorModel {
            name: Some(name.into()),
            dimension: dimension as u32,
            generation,
        })?;
        Ok(generation)
    }
}

fn check_name(known: &VectorModel, given: Option<&str>) -> Result<()> {
    match (&known.name, given) {
        (Some(own), Some(given)) if own != given => Err(check::other_model(own, given)),
        _ => Ok(()),
    }
}
