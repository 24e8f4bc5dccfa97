//! What is to be memorized: refused, or made operations, before anything is committed.

use std::sync::{Arc, PoisonError};

use super::check;
use super::service::Memory;
use crate::model::{Content, Entry, EntryId, Grade, Memorized, MemoryOp, Result, Vector};

/// Something to memorize.
#[derive(Clone, Debug)]
pub struct Draft {
    pub content: Content,
    /// A JSON object, as text.
    pub metadata: Option<String>,
    pub vector: Option<Vec<f32>>,
    pub task: Option<String>,
    pub pinned: bool,
}

impl Memory {
    fn new_id(&self) -> EntryId {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        // Only after 2^80 ids within one millisecond does the generator have to break its order.
        EntryId::from_u128(ids.generate().unwrap_or_else(|full| full.commit_overflow_random()).0)
    }

    /// Refuses what `draft` refuses whatever the model; for those who make vectors first, which costs.
    ///
    /// # Errors
    /// `memory.session`, `memory.empty`, `memory.too_large`, `memory.metadata`, `memory.vector`.
    pub fn check_drafts(session: &str, drafts: &[Draft]) -> Result<()> {
        check::session(session)?;
        for draft in drafts {
            check::content(&draft.content)?;
            check::metadata(draft.metadata.as_deref())?;
            if let Some(vector) = &draft.vector {
                check::vector(vector)?;
            }
        }
        Ok(())
    }

    /// Makes operations that memorize, and the ids that the entries will have. Nothing is memorized
    /// before they are committed.
    ///
    /// # Errors
    /// `memory.session`, `memory.empty`, `memory.too_large`, `memory.metadata`, `memory.vector`,
    /// `memory.dimension`, `memory.backlog`.
    pub fn draft(
        &self,
        session: &str,
        drafts: Vec<Draft>,
    ) -> Result<(Vec<EntryId>, Vec<MemoryOp>)> {
        self.draft_of(None, session, drafts)
    }

    /// As `draft`, with vectors of the model of a generation.
    ///
    /// # Errors
    /// As `draft`; `memory.model` where the store has another one by now.
    pub fn draft_of(
        &self,
        generation: Option<u32>,
        session: &str,
        drafts: Vec<Draft>,
    ) -> Result<(Vec<EntryId>, Vec<MemoryOp>)> {
        Self::check_drafts(session, &drafts)?;
        let (session, now): (Arc<str>, _) = (session.into(), self.now());
        let first = self.fsrs_unseen(&session)?.review(None, Grade::Good, 0.0);
        if let Some(vector) = drafts.iter().find_map(|draft| draft.vector.as_ref()) {
            self.settle_model(None, vector.len())?;
        }
        let model = self.vector_model();
        let current = model.as_ref().map_or(0, |model| model.generation);
        if generation.is_some_and(|made| made != current) {
            return Err(check::model_changed());
        }
        if let Some(model) = model {
            let mut vectors = drafts.iter().filter_map(|draft| draft.vector.as_ref());
            vectors.try_for_each(|vector| check::dimension(&model, vector.len()))?;
        }
        let (mut ids, mut ops) = (Vec::new(), Vec::new());
        for draft in drafts {
            let id = self.new_id();
            let entry = Entry {
                id,
                session: Arc::clone(&session),
                task: draft.task,
                content: draft.content,
                metadata: draft.metadata.filter(|text| text != "{}"),
                stability: first.stability,
                difficulty: first.difficulty,
                last_review: now,
                created: now,
                pinned: draft.pinned,
                away: None,
            };
            let vector = draft.vector.map(|parts| Vector::new(&parts));
            ids.push(id);
            let generation = if vector.is_some() { current } else { 0 };
            let entry = Arc::new(entry);
            ops.push(MemoryOp::Put(Memorized { entry, vector, generation }));
        }
        self.admit(ops.iter().filter_map(MemoryOp::put))?;
        Ok((ids, ops))
    }

    /// Memorizes; returns when all of it lasts and is found. More than 4,096 entries or 8 MiB take
    /// several commits, in order.
    ///
    /// # Errors
    /// As `draft`; `engine.closed`, `store.*`.
    pub fn memorize(&self, session: &str, drafts: Vec<Draft>) -> Result<Vec<EntryId>> {
        let (ids, ops) = self.draft(session, drafts)?;
        self.commit(ops)?;
        Ok(ids)
    }
}
