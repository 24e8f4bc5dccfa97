//! Retrieving: scores of both legs, one order out of two, and what may change it afterwards.
//!
//! Session and filter are applied before anything is ranked, so ranks count what may be seen only. After
//! fusion, in this order: neighbours in time (`smoothing`), strength and age (`boost`), variety
//! (`diversity`). Every step leaves its part of the score in the hit.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use super::check;
use super::cold::Tiers;
use super::query::{Fusion, Hit, Mode, Parts, Query, Weights};
use super::review::strength;
use super::service::Memory;
use super::sight::Sight;
use super::slot::Slot;
use crate::index::adjust::{State, diversify, overlap, smooth};
use crate::index::fuse::{Candidate, Fused};
use crate::index::search::{Options, depth};
use crate::index::{Filter, Key};
use crate::model::{EntryId, MemoryOp, Result, Timestamp};

/// So many results per hit have exact scores where the order is changed afterwards, and at least so many.
const POOL_PER_HIT: usize = 4;
const POOL_MIN: usize = 40;

/// A search under way: the query, the session, and how strong its memories are now.
struct Search<'a, S> {
    query: &'a Query,
    sight: &'a Sight<'a>,
    strength: S,
    now: Timestamp,
}

impl<S: Fn(&Slot) -> f64> Search<'_, S> {
    fn run(&self) -> Result<Vec<Hit>> {
        let query = self.query;
        let pool = match query.adjusts() {
            true => (query.top_k * POOL_PER_HIT).max(POOL_MIN),
            false => query.top_k,
        };
        let weights = self.weights();
        let mut found = self.fused(pool, weights)?;
        let fused = scores(&found);
        if query.smoothing > 0.0 {
            smooth(&mut found, query.smoothing, |key| self.sight.beside(key));
        }
        let smoothed = scores(&found);
        if query.boost.strength != 0.0 || query.boost.recency != 0.0 {
            query.boost.apply(&mut found, |key| self.state(key));
        }
        let places: HashMap<Key, u32> = found.iter().map(Fused::key).zip(1..).collect();
        if query.diversity > 0.0 {
            found = self.diverse(&found)?;
        }
        let parts = |fused_score: f64, smoothed: f64, found: &Candidate| {
            let vector = self.vector_part(weights, found);
            let state = self.state(found.key);
            let boost = query.boost;
            Parts {
                vector,
                text: fused_score - vector,
                smoothing: smoothed - fused_score,
                strength: smoothed * boost.strength * state.strength,
                recency: smoothed * boost.recency * boost.freshness(state.age_days),
                place: places[&found.key],
            }
        };
        let hit = |Fused { score, found }: Fused| {
            // Forgotten a moment ago, and the index has not heard of it: it is no hit any more.
            let Some(memorized) = self.sight.get(EntryId::from_u128(found.key))? else {
                return Ok(None);
            };
            Ok(Some(Hit {
                strength: (self.strength)(self.sight.at(found.key)),
                memorized,
                score,
                vector_rank: found.vector_rank,
                text_rank: found.text_rank,
                cosine: found.cosine,
                bm25: found.bm25,
                parts: parts(fused[&found.key], smoothed[&found.key], &found),
            }))
        };
        found.into_iter().take(query.top_k).map(hit).filter_map(Result::transpose).collect()
    }

    /// The best of both legs in their common order.
    fn fused(&self, pool: usize, weights: Weights) -> Result<Vec<Fused>> {
        let query = self.query;
        let without: HashSet<EntryId> = query.without.iter().copied().collect();
        // Metadata that many entries have is parsed and asked once a search.
        let answers: RefCell<HashMap<_, bool>> = RefCell::default();
        let shows = |slot: &Slot| {
            let ask = || query.filter.shows(slot.metadata().as_ref());
            *answers.borrow_mut().entry(slot.metadata_place()).or_insert_with(ask)
        };
        let allows = |key| {
            let slot = self.sight.at(key);
            // What costs least is asked first.
            (without.is_empty() || !without.contains(&EntryId::from_u128(key)))
                && query.min_strength.is_none_or(|least| (self.strength)(slot) >= least)
                && (query.filter.is_empty() || shows(slot))
        };
        // By vector alone the order is the leg's: the fused score knows no difference below 0.
        let fusion = if self.is_by_vector_alone() { Fusion::Rrf } else { query.fusion };
        let asks = !without.is_empty() || query.min_strength.is_some() || !query.filter.is_empty();
        let (mode, filter) = (query.mode, asks.then_some(&allows as Filter<'_>));
        let options = Options { mode, fusion, weights, filter };
        let (vector, text) = (query.vector.as_deref(), query.text.as_deref());
        // One leg alone gives as many as it is asked for. What changes the order may bring some up from as
        // deep as two legs would give them.
        let changes_alone = self.is_by_vector_alone() && query.adjusts();
        let pool = if changes_alone { depth(pool) } else { pool };
        let mut found = self.sight.search(vector, text, pool, options)?;
        if self.is_by_vector_alone() && query.fusion == Fusion::Score {
            for fused in &mut found {
                fused.score = self.vector_part(weights, &fused.found);
            }
        }
        Ok(found)
    }

    fn is_by_vector_alone(&self) -> bool {
        self.query.text.is_none() || self.query.mode == Mode::Vector
    }

    /// A leg that is asked alone orders by itself, whatever it would have counted for.
    fn weights(&self) -> Weights {
        let mut weights = self.query.weights;
        let is_by_words_alone = self.query.vector.is_none() || self.query.mode == Mode::Text;
        if self.is_by_vector_alone() && weights.vector == 0.0 {
            weights.vector = 1.0;
        } else if is_by_words_alone && weights.text == 0.0 {
            weights.text = 1.0;
        }
        weights
    }

    fn vector_part(&self, weights: Weights, found: &Candidate) -> f64 {
        match self.query.fusion {
            Fusion::Score => weights.vector * f64::from(found.cosine.unwrap_or(0.0).max(0.0)),
            Fusion::Rrf => weights.vector_share(found.vector_rank),
        }
    }

    fn state(&self, key: Key) -> State {
        let slot = self.sight.at(key);
        let age_days = self.now.days_since(slot.created);
        State { strength: (self.strength)(slot), age_days }
    }

    /// Two memories are as alike as their vectors are, or where one has none, as their words.
    fn diverse(&self, found: &[Fused]) -> Result<Vec<Fused>> {
        let (mut rows, mut words) = (HashMap::new(), HashMap::new());
        for key in found.iter().map(Fused::key) {
            rows.extend(self.sight.vector(key)?.map(|row| (key, row)));
        }
        if rows.len() < found.len() {
            words.extend(found.iter().map(|it| (it.key(), self.sight.words_of(it.key()))));
        }
        let alike = |one: Key, other: Key| match (rows.get(&one), rows.get(&other)) {
            (Some(one), Some(other)) => {
                let dot: f32 = one.iter().zip(other).map(|(a, b)| a * b).sum();
                f64::from(dot).clamp(0.0, 1.0)
            }
            _ => overlap(&words[&one], &words[&other]),
        };
        Ok(diversify(found, self.query.top_k, self.query.diversity, alike))
    }
}

fn scores(found: &[Fused]) -> HashMap<Key, f64> {
    found.iter().map(|fused| (fused.key(), fused.score)).collect()
}

impl Memory {
    /// The memories of a session that fit best, best first.
    ///
    /// # Errors
    /// `memory.session`, `memory.query`, `memory.vector`, `memory.dimension`, `memory.limit`,
    /// `memory.threshold`, `memory.weights`, `memory.option`, `store.*`, `engine.closed`.
    pub fn retrieve(&self, session: &str, query: &Query) -> Result<Vec<Hit>> {
        self.retrieve_with(session, query, &[])
    }

    /// As `retrieve`, with operations of the session laid over it that are not committed (yet). Where a cold
    /// tier fails, these are the hits without it.
    ///
    /// # Errors
    /// As `retrieve`.
    pub fn retrieve_with(
        &self,
        session: &str,
        query: &Query,
        ops: &[MemoryOp],
    ) -> Result<Vec<Hit>> {
        let found = self.retrieve_over(session, query, Tiers::All, ops)?;
        if let Some(warning) = found.warning {
            tracing::warn!(target: "goclaw.memory", "searched without all of the cold tier: {warning}");
        }
        Ok(found.hits)
    }

    /// As `retrieve_with`, without what lies in a cold tier.
    pub(super) fn retrieve_here(
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
        self.look_with(session, ops, |sight| {
            let fsrs = self.fsrs_of(sight);
            let strength = |slot: &Slot| strength(&fsrs, slot, now);
            Search { query, sight, strength, now }.run()
        })
    }
}
