//! Which memories are weaker than a threshold, without looking at the strong ones.
//!
//! A strength depends on the stability and on the time since the last review, and falls with the quotient of
//! the two. The order in which memories fall below a threshold differs from threshold to threshold: of two
//! lines `review + stability · c`, either may be lower, depending on `c`. So no single order by due time is
//! right. Memories are kept in bands of nearly equal stability instead, in each by last review. Within a
//! band the oldest review comes first, whatever the threshold, the parameters and the clock; a band is left at the
//! first review that even the lowest stability of the band would survive. Pinned memories are not here.

use std::collections::{BTreeMap, BTreeSet};

use super::slot::Recalled;
use crate::math::fsrs::{Fsrs, Memory};
use crate::model::{EntryId, Timestamp};

/// Bands per doubling of the stability: those in vain looked at are those of the last 4 % of their time.
const BANDS_PER_DOUBLING: f64 = 16.0;
/// Stabilities lie between 2^-10 and 2^30 days.
const LOG2_MIN: f64 = -10.0;
const LOG2_MAX: f64 = 30.0;
/// Powers are right to some parts in 10^16; this is far beyond that and far below what matters.
const ROUNDING: f64 = 1e-9;

/// The memories of a session that can be forgotten, by stability and last review.
#[derive(Debug, Default)]
pub(super) struct Due {
    bands: BTreeMap<u16, BTreeSet<(Timestamp, EntryId)>>,
}

impl Due {
    pub(super) fn of<'a, R: Recalled + 'a>(
        entries: impl Iterator<Item = (EntryId, &'a R)>,
    ) -> Self {
        let mut due = Self::default();
        entries.for_each(|(id, entry)| due.put(id, entry));
        due
    }

    pub(super) fn put(&mut self, id: EntryId, entry: &impl Recalled) {
        if !entry.pinned() {
            let band = self.bands.entry(band(entry.fsrs().stability)).or_default();
            band.insert((entry.last_review(), id));
        }
    }

    /// Takes an entry out; it must be as it was put in.
    pub(super) fn remove(&mut self, id: EntryId, entry: &impl Recalled) {
        let number = band(entry.fsrs().stability);
        let Some(band) = self.bands.get_mut(&number) else { return };
        band.remove(&(entry.last_review(), id));
        if band.is_empty() {
            self.bands.remove(&number);
        }
    }

    /// Memories that may be weaker than `threshold`: all that are, and some that nearly are.
    pub(super) fn below<'a>(
        &'a self,
        threshold: f64,
        fsrs: &'a Fsrs,
        now: Timestamp,
    ) -> impl Iterator<Item = EntryId> + 'a {
        self.bands.iter().flat_map(move |(number, band)| {
            let weakest = Memory { stability: lowest(*number), difficulty: 5.0 };
            let may_be = move |(review, _): &&(Timestamp, EntryId)| {
                fsrs.strength(&weakest, now.days_since(*review)) < threshold + ROUNDING
            };
            band.iter().take_while(may_be).map(|(_, id)| *id)
        })
    }
}

fn band(stability: f64) -> u16 {
    let log2 = if stability > 0.0 { stability.log2() } else { LOG2_MIN };
    ((log2.clamp(LOG2_MIN, LOG2_MAX) - LOG2_MIN) * BANDS_PER_DOUBLING) as u16
}

/// No stability in a band is lower.
fn lowest(band: u16) -> f64 {
    match band {
        // What is below the lowest band is in it, too.
        0 => 0.0,
        _ => (f64::from(band) / BANDS_PER_DOUBLING + LOG2_MIN).exp2() * (1.0 - ROUNDING),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{Content, Entry};

    use crate::model::DAY_MS as DAY;

    fn entry(id: u128, stability: f64, review: u64, pinned: bool) -> Entry {
        Entry {
            id: EntryId::from_u128(id),
            session: Arc::from("s"),
            task: None,
            content: Content::Text("x".into()),
            metadata: None,
            stability,
            difficulty: 5.0,
            last_review: Timestamp(review),
            created: Timestamp(0),
            pinned,
            away: None,
        }
    }

    fn strength(fsrs: &Fsrs, entry: &Entry, now: Timestamp) -> f64 {
        let memory = Memory { stability: entry.stability, difficulty: entry.difficulty };
        fsrs.strength(&memory, now.days_since(entry.last_review))
    }

    proptest! {
        /// Against looking at every memory, with any threshold, exponent, scale and clock.
        #[test]
        fn what_is_weak_is_found_and_little_else(
            made in prop::collection::vec((-12f64..32.0, 0u64..400, any::<bool>()), 0..200),
            taken in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
            asked in prop::collection::vec((0f64..1.1, 0u64..4_000, 0.1f64..0.8, 0.01f64..100.0), 1..8),
        ) {
            let mut entries: Vec<Entry> = (0..).zip(&made).map(|(id, (log2, day, pinned))| {
                entry(id, log2.exp2(), day * DAY, *pinned && id % 8 == 0)
            }).collect();
            let mut due = Due::of(entries.iter().map(|entry| (entry.id, entry)));
            for index in &taken {
                if !entries.is_empty() {
                    let gone = entries.swap_remove(index.index(entries.len()));
                    due.remove(gone.id, &gone);
                }
            }
            for (threshold, day, decay, scale) in asked {
                let mut w = *Fsrs::agent().parameters();
                w[20] = decay;
                let (fsrs, now) = (Fsrs::new(w, scale).expect("within bounds"), Timestamp(day * DAY));
                let found: BTreeSet<EntryId> = due.below(threshold, &fsrs, now).collect();
                for entry in &entries {
                    let is_weak = !entry.pinned && strength(&fsrs, entry, now) < threshold;
                    prop_assert!(!is_weak || found.contains(&entry.id), "{entry:?}");
                    if found.contains(&entry.id) && entry.stability > 0.001 {
                        let mut sooner = entry.clone();
                        sooner.stability = (entry.stability / 1.05).max(0.001);
                        prop_assert!(strength(&fsrs, &sooner, now) < threshold + 1e-6, "{entry:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn no_single_order_is_right_for_every_threshold() {
        // The first was reviewed sooner and holds longer.
        let (steady, brief) = (entry(1, 10.0, 0, false), entry(2, 1.0, 5 * DAY, false));
        let fsrs = Fsrs::agent();
        let crossing = |entry: &Entry, threshold| {
            let memory = Memory { stability: entry.stability, difficulty: 5.0 };
            entry.last_review.0 as f64 / DAY as f64 + fsrs.days_until(&memory, threshold)
        };
        assert!(crossing(&steady, 0.99) < crossing(&brief, 0.99));
        assert!(crossing(&steady, 0.3) > crossing(&brief, 0.3));
    }

    #[test]
    fn memories_that_are_strong_are_not_looked_at() {
        let made = (0..100_000).map(|id| entry(id, 2.3065, id as u64 * DAY / 1_000, false));
        let entries: Vec<Entry> = made.collect();
        let due = Due::of(entries.iter().map(|entry| (entry.id, entry)));
        let (fsrs, now) = (Fsrs::agent(), Timestamp(109 * DAY));
        let weak = entries.iter().filter(|entry| strength(&fsrs, entry, now) < 0.3).count();
        let looked_at = due.below(0.3, &fsrs, now).count();
        assert!(weak > 9_000 && looked_at < weak + 5_000, "{weak} {looked_at}");
        assert_eq!(due.below(0.3, &fsrs, Timestamp(DAY)).count(), 0);
        assert_eq!(due.below(0.3, &fsrs, Timestamp(u64::MAX)).count(), 100_000);
        assert_eq!(due.below(0.3, &fsrs, Timestamp(0)).count(), 0, "a clock that went back");
    }
}
