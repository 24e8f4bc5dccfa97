//! Retrieving: scores of both legs, one order out of two.
//!
//! Session and filter are applied before anything is ranked, so ranks count what may be seen only.

use std::cmp::Ordering;
use std::collections::HashMap;

use serde_json::{Map, Value};

use super::shelf::{Shelf, Slot, days};
use super::{check, service::Memory};
use crate::math::fsrs;
use crate::model::{Entry, Memorized, MemoryOp, Result, Timestamp};

/// Weights of the legs in every fusion: vector, text.
const WEIGHTS: (f64, f64) = (0.7, 0.3);
/// The constant of reciprocal rank fusion (Cormack, Clarke, Büttcher, 2009).
const RRF_K: f64 = 60.0;

/// Which legs a search goes by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Hybrid,
    Vector,
    Text,
}

/// How two orders become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fusion {
    /// `0.7·max(cosine, 0) + 0.3·bm25/bm25_max`.
    #[default]
    Score,
    /// `0.7/(60 + rank) + 0.3/(60 + rank)`, ranks from 1 on.
    Rrf,
}

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
    /// Place in the order of each leg, from 1 on, and the score there.
    pub vector: Option<(u32, f32)>,
    pub text: Option<(u32, f32)>,
    pub strength: f64,
}

/// Scores of one leg, best first.
struct Leg {
    ranks: HashMap<u32, (u32, f32)>,
    best: f32,
}

impl Leg {
    /// Ranks what may be seen; equal scores go by the slot, oldest first.
    fn new(mut scores: Vec<(u32, f32)>, allowed: impl Fn(u32) -> bool) -> Self {
        scores.retain(|(slot, score)| score.is_finite() && allowed(*slot));
        scores.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let best = scores.first().map_or(0.0, |(_, score)| *score);
        let ranked = scores.into_iter().zip(1..).map(|((slot, score), rank)| (slot, (rank, score)));
        Self { ranks: ranked.collect(), best }
    }
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

    fn shows(&self, slot: &Slot) -> bool {
        let metadata = slot.metadata.as_ref();
        self.filter.iter().all(|(name, wanted)| {
            metadata.and_then(|metadata| metadata.get(name)).is_some_and(|found| found == wanted)
        })
    }

    fn run(&self, shelf: &Shelf, strength: impl Fn(&Entry) -> f64) -> Vec<Hit> {
        let allowed = |slot: u32| {
            let slot = shelf.at(slot);
            self.shows(slot)
                && self.min_strength.is_none_or(|least| strength(&slot.memorized.entry) >= least)
        };
        let query = self.vector.as_ref().filter(|_| self.mode != Mode::Text);
        let vector = query.map(|parts| Leg::new(shelf.legs.by_vector(&unit(parts)), allowed));
        let query = self.text.as_ref().filter(|_| self.mode != Mode::Vector);
        let text = query.map(|text| Leg::new(shelf.legs.by_text(text), allowed));
        let mut scored: Vec<(u32, f64)> = match (&vector, &text) {
            (Some(one), None) | (None, Some(one)) => {
                one.ranks.iter().map(|(slot, (_, score))| (*slot, f64::from(*score))).collect()
            }
            (Some(vector), Some(text)) => {
                let others = text.ranks.keys().filter(|slot| !vector.ranks.contains_key(slot));
                let union = vector.ranks.keys().chain(others);
                union.map(|slot| (*slot, self.fuse(vector, text, *slot))).collect()
            }
            (None, None) => Vec::new(),
        };
        let best_first = |a: &(u32, f64), b: &(u32, f64)| -> Ordering {
            b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
        };
        if scored.len() > self.top_k {
            scored.select_nth_unstable_by(self.top_k, best_first);
            scored.truncate(self.top_k);
        }
        scored.sort_unstable_by(best_first);
        let rank = |leg: &Option<Leg>, slot| leg.as_ref().and_then(|l| l.ranks.get(&slot).copied());
        let hit = |(slot, score): (u32, f64)| {
            let memorized = shelf.at(slot).memorized.clone();
            let strength = strength(&memorized.entry);
            Hit { vector: rank(&vector, slot), text: rank(&text, slot), memorized, score, strength }
        };
        scored.into_iter().map(hit).collect()
    }

    fn fuse(&self, vector: &Leg, text: &Leg, slot: u32) -> f64 {
        let (by_vector, by_text) = (vector.ranks.get(&slot), text.ranks.get(&slot));
        match self.fusion {
            Fusion::Score => {
                let cosine = by_vector.map_or(0.0, |(_, score)| f64::from(score.max(0.0)));
                let bm25 = by_text.map_or(0.0, |(_, score)| f64::from(score / text.best));
                WEIGHTS.0 * cosine + WEIGHTS.1 * bm25
            }
            Fusion::Rrf => {
                let part = |weight: f64, rank: Option<&(u32, f32)>| {
                    rank.map_or(0.0, |(rank, _)| weight / (RRF_K + f64::from(*rank)))
                };
                part(WEIGHTS.0, by_vector) + part(WEIGHTS.1, by_text)
            }
        }
    }
}

/// Scales to length 1.
fn unit(parts: &[f32]) -> Vec<f32> {
    let norm = parts.iter().map(|part| f64::from(*part).powi(2)).sum::<f64>().sqrt();
    parts.iter().map(|part| (f64::from(*part) / norm) as f32).collect()
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
