//! Searching over both: the session here, exactly, and the nearest of the tier, in one order.
//!
//! A memory of the tier is scored as one here that no word of the query fits: by its cosine, and what the query
//! adds for strength and age. Ranks count within its own tier. Filters and strength are those of the stub,
//! so the tier is asked for more until there are enough; neighbours in time and variety are of the
//! memories here alone.

use std::collections::HashSet;
use std::time::Instant;

use super::reading::without;
use super::{Cold, REST, elsewhere};
use crate::index::adjust::State;
use crate::memory::check;
use crate::memory::query::{Fusion, Hit, Mode, Parts, Query};
use crate::memory::review::strength;
use crate::memory::service::Memory;
use crate::memory::sight::Sight;
use crate::model::{EntryId, Error, MemoryOp, Result};
use crate::tier;

/// The most that a tier is asked for.
const ASKED_MAX: usize = 10_000;

/// Where to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tiers {
    #[default]
    All,
    /// Only what is here.
    Hot,
    /// Only what lies in the tier.
    Cold,
}

/// What was found, and why it may not be all.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub hits: Vec<Hit>,
    /// The tier failed, or lacks what was moved there: these are the hits without that.
    pub warning: Option<Error>,
}

impl Memory {
    /// As `retrieve_with`, here and in the tier.
    ///
    /// # Errors
    /// As `retrieve_with`; `memory.tier` where only the tier was asked.
    pub fn retrieve_over(
        &self,
        session: &str,
        query: &Query,
        tiers: Tiers,
        ops: &[MemoryOp],
    ) -> Result<Found> {
        let hits = match tiers {
            Tiers::Cold => Vec::new(),
            _ => self.retrieve_here(session, query, ops)?,
        };
        if tiers == Tiers::Hot {
            return Ok(Found { hits, warning: None });
        }
        if tiers == Tiers::Cold {
            check::session(session)?;
            query.check()?;
            if self.cold.is_none() {
                return Err(without());
            }
            if query.vector.is_none() || query.mode == Mode::Text {
                return Err(Error::new(
                    "memory.query",
                    "a cold tier is searched by vector, and there is none",
                    "pass vector=, or open the memory with an embedder",
                ));
            }
        }
        match self.cold_hits(session, query, tiers, ops) {
            Ok((cold, missing)) => match missing {
                Some(error) if tiers == Tiers::Cold && cold.is_empty() => Err(error),
                warning => Ok(Found { hits: merged(hits, cold, query.top_k), warning }),
            },
            Err(error) if tiers == Tiers::All && error.code == "memory.tier" => {
                Ok(Found { hits, warning: Some(error) })
            }
            Err(error) => Err(error),
        }
    }

    /// The hits of the tier; and what lies elsewhere or is lost, if anything does.
    fn cold_hits(
        &self,
        session: &str,
        query: &Query,
        tiers: Tiers,
        ops: &[MemoryOp],
    ) -> Result<(Vec<Hit>, Option<Error>)> {
        let Some(vector) = query.vector.as_deref().filter(|_| query.mode != Mode::Text) else {
            return Ok((Vec::new(), None));
        };
        let away = self.look_with(session, ops, |sight| Ok(sight.away().clone()))?;
        let own = self.cold.as_ref().map(|cold| cold.tier().name());
        let other = away.iter().find(|(tier, _)| Some(&***tier) != own);
        let other = other.map(|(tier, count)| elsewhere(&format!("{count} memories"), tier));
        let has_own = own.is_some_and(|own| away.contains_key(own));
        let Some(cold) = self.cold.as_ref().filter(|_| has_own) else {
            return Ok((Vec::new(), other));
        };
        if tiers == Tiers::All
            && let Some(until) = *cold.rests()
            && Instant::now() < until
        {
            let what = "it failed a moment ago and is not asked";
            return Err(tier::failed(cold.tier().name(), what));
        }
        let found = self.nearest(cold, session, query, vector, ops);
        let is_down = found.as_ref().is_err_and(|error| error.code == "memory.tier");
        *cold.rests() = is_down.then(|| Instant::now() + REST);
        let mut hits = found?;
        let stubs = hits.iter().map(|hit| hit.memorized.clone()).collect();
        let (whole, lost) = self.whole_or_lost(session, stubs)?;
        let lost = self.lost(cold, session, lost.len() as u64)?;
        hits.retain(|hit| whole.iter().any(|it| it.entry.id == hit.memorized.entry.id));
        for (hit, whole) in hits.iter_mut().zip(whole) {
            hit.memorized = whole;
        }
        Ok((hits, other.or(lost)))
    }

    /// The nearest that may be seen: more is asked for until there are enough or no more.
    fn nearest(
        &self,
        cold: &Cold,
        session: &str,
        query: &Query,
        vector: &[f32],
        ops: &[MemoryOp],
    ) -> Result<Vec<Hit>> {
        let musts = query.filter.musts();
        let tags: Vec<_> = musts.iter().map(|(name, value)| tier::tag(name, value)).collect();
        let mut asked = query.top_k.min(ASKED_MAX);
        loop {
            let found = cold.heard(cold.tier().search(session, vector, &tags, asked))?;
            let hits =
                self.look_with(session, ops, |sight| self.seen(sight, cold, query, &found))?;
            if hits.len() >= query.top_k || found.len() < asked || asked == ASKED_MAX {
                return Ok(hits);
            }
            asked = (4 * asked).min(ASKED_MAX);
        }
    }

    fn seen(
        &self,
        sight: &Sight<'_>,
        cold: &Cold,
        query: &Query,
        found: &[tier::Found],
    ) -> Result<Vec<Hit>> {
        let (fsrs, now) = (self.fsrs_of(sight), self.now());
        let without: HashSet<EntryId> = query.without.iter().copied().collect();
        let seen = found.iter().filter_map(|found| {
            let slot = sight.slot(found.id)?;
            let strength = strength(&fsrs, slot, now);
            let shows = slot.away.as_deref() == Some(cold.tier().name())
                && !without.contains(&found.id)
                && query.min_strength.is_none_or(|least| strength >= least)
                && (query.filter.is_empty() || query.filter.shows(slot.metadata().as_ref()));
            shows.then_some((found, strength))
        });
        let mut stubs = Vec::new();
        for (found, strength) in seen.take(query.top_k) {
            if let Some(memorized) = sight.get(found.id)? {
                stubs.push((found.cosine, strength, memorized));
            }
        }
        let hit = |(place, (cosine, strength, memorized)): (usize, (f32, f64, _))| {
            let memorized: crate::model::Memorized = memorized;
            let rank = place as u32 + 1;
            let weight = if query.weights.vector == 0.0 { 1.0 } else { query.weights.vector };
            let base = match query.fusion {
                Fusion::Score => weight * f64::from(cosine.max(0.0)),
                Fusion::Rrf => query.weights.vector_share(Some(rank)),
            };
            let age_days = now.days_since(memorized.entry.created);
            let boost = query.boost;
            let parts = Parts {
                vector: base,
                strength: base * boost.strength * strength,
                recency: base * boost.recency * boost.freshness(age_days),
                place: rank,
                ..Parts::default()
            };
            let score = base * boost.factor(State { strength, age_days });
            Hit {
                memorized,
                score,
                vector_rank: Some(rank),
                text_rank: None,
                cosine: Some(cosine),
                bm25: None,
                strength,
                parts,
            }
        };
        Ok(stubs.into_iter().enumerate().map(hit).collect())
    }
}

/// Both by score; what is here stands before what is not where scores are equal.
fn merged(mut hits: Vec<Hit>, cold: Vec<Hit>, top_k: usize) -> Vec<Hit> {
    if cold.is_empty() {
        return hits;
    }
    hits.extend(cold);
    hits.sort_by(|a, b| b.score.total_cmp(&a.score));
    hits.truncate(top_k);
    hits
}
