//! The best `k` of many scored entries, in an order that is the same every time.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::{Filter, Key};

/// One entry that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    pub key: Key,
    /// BM25 or cosine, as the leg says.
    pub score: f32,
}

/// By score; of equals, the newer one is better.
impl Ord for Hit {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(self.key.cmp(&other.key))
    }
}

impl PartialOrd for Hit {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Eq for Hit {}

/// Keeps the best `k` of the hits that are offered.
pub struct Top<'a> {
    k: usize,
    filter: Option<Filter<'a>>,
    /// The worst on top.
    heap: BinaryHeap<Reverse<Hit>>,
}

/// More room than this is not set aside before there are hits to fill it.
const ROOM_MAX: usize = 4_096;

impl<'a> Top<'a> {
    pub fn new(k: usize, filter: Option<Filter<'a>>) -> Self {
        Self { k, filter, heap: BinaryHeap::with_capacity(k.min(ROOM_MAX)) }
    }

    /// A score below this cannot enter.
    pub fn bar(&self) -> f32 {
        match self.heap.peek() {
            _ if self.k == 0 => f32::INFINITY,
            Some(Reverse(worst)) if self.heap.len() == self.k => worst.score,
            _ => f32::NEG_INFINITY,
        }
    }

    pub fn len(&self) -> usize {
        self.heap.len()
    }

    pub fn offer(&mut self, hit: Hit) {
        let full = self.heap.len() >= self.k;
        if full && self.heap.peek().is_none_or(|Reverse(worst)| hit <= *worst) {
            return;
        }
        if self.filter.is_some_and(|allows| !allows(hit.key)) {
            return;
        }
        if full {
            self.heap.pop();
        }
        self.heap.push(Reverse(hit));
    }

    /// Offers what has these scores and at least `least`; `key` names it. Most scores are no good, and
    /// whole runs of them are passed over at once.
    pub fn offer_all(&mut self, scores: &[f32], least: f32, key: impl Fn(usize) -> Key) {
        const RUN: usize = 32;
        let (runs, rest) = scores.as_chunks::<RUN>();
        for (run, from) in runs.iter().zip((0..).step_by(RUN)) {
            let bar = self.bar().max(least);
            // Counting, not looking for the first: so many scores are compared at once.
            if run.iter().map(|&score| u32::from(score >= bar)).sum::<u32>() > 0 {
                self.offer_each(run, least, |at| key(from + at));
            }
        }
        self.offer_each(rest, least, |at| key(runs.len() * RUN + at));
    }

    fn offer_each(&mut self, scores: &[f32], least: f32, key: impl Fn(usize) -> Key) {
        for (at, &score) in scores.iter().enumerate() {
            if score >= self.bar().max(least) {
                self.offer(Hit { key: key(at), score });
            }
        }
    }

    /// Best first.
    pub fn into_sorted(self) -> Vec<Hit> {
        self.heap.into_sorted_vec().into_iter().map(|Reverse(hit)| hit).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_best_are_those_a_full_sort_puts_first(
            scores in prop::collection::vec(0u8..20, 0..200), k in 0usize..30, odd: bool,
        ) {
            let hits: Vec<_> = scores
                .iter()
                .enumerate()
                .map(|(key, &score)| Hit { key: key as Key, score: f32::from(score) })
                .collect();
            let allows = |key: Key| !odd || key % 2 == 1;
            let mut top = Top::new(k, Some(&allows));
            hits.iter().for_each(|&hit| top.offer(hit));
            let scores: Vec<f32> = hits.iter().map(|hit| hit.score).collect();
            let all_at_once = |least: f32| {
                let mut top = Top::new(k, Some(&allows));
                top.offer_all(&scores, least, |at| hits[at].key);
                top.into_sorted()
            };
            let (all, good) = (all_at_once(f32::NEG_INFINITY), all_at_once(10.0));
            let mut expected: Vec<_> = hits.into_iter().filter(|hit| allows(hit.key)).collect();
            expected.sort_by(|a, b| b.cmp(a));
            expected.truncate(k);
            prop_assert_eq!(&all, &expected);
            prop_assert_eq!(top.into_sorted(), &expected[..]);
            expected.retain(|hit| hit.score >= 10.0);
            prop_assert_eq!(good, expected);
        }
    }
}
