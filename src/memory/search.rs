//! Retrieving: scores of both legs, one order out of two.
//!
//! Session and filter are applied before anything is ranked, so ranks count what may be seen only.

use serde_json::{Map, Value};

use super::check;
use super::service::Memory;
use super::shelf::{Shelf, Shelved, days};
use crate::index::Filter;
pub use crate::index::fuse::Fusion;
pub use crate::index::search::Mode;
use crate::index::search::Options;
use crate::math::fsrs;
use crate::model::{Entry, Memorized, MemoryOp, Result, Timestamp};

/// What to look for.
#[derive(Clone, Debug, Default)]
pub struct Query {
    pub text: Option<String>,
    pub vector: Option<Vec<f32>>,
    pub top_k: usize,
    pub mode: Mode,
    pub fusion: Fusion,
    /// Only memories whose metadata has all of these.
    pub filter: Map<String, Value>,
    /// Only memories that are at least this strong.
    pub min_strength: Option<f64>,
}

/// A memory that was found.
#[derive(Clone, Debug)]
pub struct Hit {
    pub memorized: Memorized,
    pub score: f64,
    /// Place in the order of each leg, from 1 on; `None` beyond what the leg was asked for.
    pub vector_rank: Option<u32>,
    pub text_rank: Option<u32>,
    pub cosine: Option<f32>,
    pub bm25: Option<f32>,
    pub strength: f64,
}

impl Query {
    fn check(&self) -> Result<()> {
        check::top_k(self.top_k)?;
        if let Some(text) = &self.text {
            check::query(text)?;
        }
        if let Some(vector) = &self.vector {
            check::vector(vector)?;
        }
        if let Some(threshold) = self.min_strength {
            check::threshold(threshold)?;
        }
        let has = match self.mode {
            Mode::Hybrid => self.text.is_some() || self.vector.is_some(),
            Mode::Vector => self.vector.is_some(),
            Mode::Text => self.text.is_some(),
        };
        if has { Ok(()) } else { Err(check::empty_query()) }
    }

    fn shows(&self, shelved: &Shelved) -> bool {
        let metadata = shelved.metadata.as_ref();
        self.filter.iter().all(|(name, wanted)| {
            metadata.and_then(|metadata| metadata.get(name)).is_some_and(|found| found == wanted)
        })
    }

    fn run(&self, shelf: &Shelf, strength: impl Fn(&Entry) -> f64) -> Vec<Hit> {
        let allows = |key| {
            let shelved = shelf.at(key);
            self.shows(shelved)
                && self.min_strength.is_none_or(|least| strength(&shelved.memorized.entry) >= least)
        };
        let (vector, text) = (self.vector.as_deref(), self.text.as_deref());
        // By vector alone the order is the leg's: the fused score knows no difference below 0.
        let is_alone = text.is_none() || self.mode == Mode::Vector;
        let fusion = if is_alone { Fusion::Rrf } else { self.fusion };
        let (mode, filter) = (self.mode, Some(&allows as Filter<'_>));
        let options = Options { mode, fusion, filter, ..Options::default() };
        let mut fused = shelf.search(vector, text, self.top_k, options);
        if is_alone && self.fusion == Fusion::Score {
            for fused in &mut fused {
                let cosine = fused.found.cosine.unwrap_or(0.0).max(0.0);
                fused.score = options.weights.vector * f64::from(cosine);
            }
        }
        let hits = fused.into_iter().take(self.top_k).map(|fused| {
            let found = fused.found;
            let memorized = shelf.at(found.key).memorized.clone();
            Hit {
                strength: strength(&memorized.entry),
                memorized,
                score: fused.score,
                vector_rank: found.vector_rank,
                text_rank: found.text_rank,
                cosine: found.cosine,
                bm25: found.bm25,
            }
        });
        hits.collect()
    }
}

impl Memory {
    /// The memories of a session that fit best, best first.
    ///
    /// # Errors
    /// `memory.session`, `memory.query`, `memory.vector`, `memory.dimension`, `memory.limit`,
    /// `memory.threshold`, `store.*`, `engine.closed`.
    pub fn retrieve(&self, session: &str, query: &Query) -> Result<Vec<Hit>> {
        self.retrieve_with(session, query, &[])
    }

    /// As `retrieve`, with operations of the session laid over it that are not committed (yet).
    ///
    /// # Errors
    /// As `retrieve`.
    pub fn retrieve_with(
        &self,
        session: &str,
        query: &Query,
        ops: &[MemoryOp],
    ) -> Result<Vec<Hit>> {
        check::session(session)?;
        query.check()?;
        if let (Some(vector), Some(model)) = (&query.vector, self.vector_model()) {
            check::dimension(&model, vector.len())?;
        }
        let now = self.now();
        self.look_with(session, ops, |shelf| query.run(shelf, |entry| self.strength(entry, now)))
    }

    /// How well a memory is still there: FSRS-6's retrievability, 0 to 1.
    pub fn strength(&self, entry: &Entry, now: Timestamp) -> f64 {
        let memory = fsrs::Memory { stability: entry.stability, difficulty: entry.difficulty };
        self.fsrs.strength(&memory, days(entry, now))
    }
}
