//! What may change the order after fusion: neighbours in time, strength and age, variety.

use hashbrown::HashMap;

use super::Key;
use super::fuse::Fused;

/// Lets every result borrow from its neighbours in time, and sorts again.
///
/// `score' = (score + lambda · mean of both neighbours' scores) / (1 + lambda)`; a neighbour that is not
/// among the results, or not there, counts as 0. A conversation's answer often stands beside the line
/// that has the question's words; 0.3 was best on those. `neighbours` gives the keys before and after.
pub fn smooth(results: &mut [Fused], lambda: f64, neighbours: impl Fn(Key) -> [Option<Key>; 2]) {
    let scores: HashMap<Key, f64> =
        results.iter().map(|result| (result.key(), result.score)).collect();
    for result in results.iter_mut() {
        let near = neighbours(result.key()).into_iter().flatten();
        let sum: f64 = near.filter_map(|key| scores.get(&key)).sum();
        result.score = (result.score + lambda * sum / 2.0) / (1.0 + lambda);
    }
    sort(results);
}

/// Best first; equals stay as they stood, which by vector alone says more than their score of 0.
fn sort(results: &mut [Fused]) {
    results.sort_by(|a, b| b.score.total_cmp(&a.score));
}

/// What a memory's state adds to its score, in shares of it.
///
/// Recency and importance beside relevance are J. Park et al., "Generative Agents", UIST 2023, section 4.1, where
/// they are summed; here they multiply, so that what has nothing to do with the question stays at 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Boost {
    /// Weight of the strength.
    pub strength: f64,
    /// Weight of the age: it counts 1 now, and half after each half-life.
    pub recency: f64,
    /// In days.
    pub recency_half_life: f64,
}

/// A memory's state at the time of the question.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct State {
    /// 0 to 1.
    pub strength: f64,
    /// Below 0, as after a jump of the clock, counts as 0.
    pub age_days: f64,
}

impl Boost {
    /// `1 + strength · s + recency · 2^(-age / half-life)`, by which a score is multiplied.
    pub fn factor(&self, state: State) -> f64 {
        1.0 + self.strength * state.strength + self.recency * self.freshness(state.age_days)
    }

    /// `2^(-age / half-life)`: 1 now, half after each half-life.
    pub fn freshness(&self, age_days: f64) -> f64 {
        let half_lives = age_days.max(0.0) / self.recency_half_life;
        // No half-life and no age: 0 / 0 is as new as can be.
        if half_lives.is_nan() { 1.0 } else { (-half_lives).exp2() }
    }

    /// Multiplies every score by its factor, and sorts again.
    pub fn apply(&self, results: &mut [Fused], state: impl Fn(Key) -> State) {
        for result in results.iter_mut() {
            result.score *= self.factor(state(result.key()));
        }
        sort(results);
    }
}

/// Picks `k` of the results so that they differ: maximal marginal relevance.
///
/// The next is the one with the largest `(1 - diversity) · score / best score - diversity · s`, where `s`
/// is its largest similarity to one that was picked. With `diversity` 0 it is the plain order.
/// Source: J. Carbonell and J. Goldstein, "The Use of MMR", SIGIR 1998.
pub fn diversify(
    results: &[Fused],
    k: usize,
    diversity: f64,
    similarity: impl Fn(Key, Key) -> f64,
) -> Vec<Fused> {
    let best = results.first().map_or(1.0, |result| result.score).max(f64::MIN_POSITIVE);
    let mut left: Vec<(Fused, f64)> = results.iter().map(|&result| (result, 0.0)).collect();
    let mut picked: Vec<Fused> = Vec::new();
    while picked.len() < k && !left.is_empty() {
        let value = |&(result, similar): &(Fused, f64)| {
            (1.0 - diversity) * result.score / best - diversity * similar
        };
        let next = (0..left.len()).reduce(|at, other| {
            // The earlier one, unless the other is really better.
            if value(&left[other]) > value(&left[at]) { other } else { at }
        });
        let Some(next) = next else { break };
        let (result, _) = left.remove(next);
        for (other, similar) in &mut left {
            *similar = similar.max(similarity(result.key(), other.key()));
        }
        picked.push(result);
    }
    picked
}

/// How many words two entries share, of all that either has (Jaccard): 0 to 1. Both lists rise.
pub fn overlap(one: &[u32], other: &[u32]) -> f64 {
    let (mut at, mut both) = (0, 0);
    for word in one {
        at += other[at..].partition_point(|it| it < word);
        both += usize::from(other.get(at) == Some(word));
    }
    let either = one.len() + other.len() - both;
    if either == 0 { 0.0 } else { both as f64 / either as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::fuse::{Candidate, sort};
    use proptest::prelude::*;

    fn results(scores: &[f64]) -> Vec<Fused> {
        let found =
            |key| Candidate { key, cosine: None, bm25: None, vector_rank: None, text_rank: None };
        let mut results: Vec<_> =
            (0..).zip(scores).map(|(key, &score)| Fused { score, found: found(key) }).collect();
        sort(&mut results);
        results
    }

    fn keys(results: &[Fused]) -> Vec<Key> {
        results.iter().map(Fused::key).collect()
    }

    #[test]
    fn a_neighbour_of_two_good_ones_rises() {
        let mut found = results(&[0.8, 0.3, 0.8, 0.0, 0.35]);
        let beside = |key: Key| [key.checked_sub(1), Some(key + 1)];
        smooth(&mut found, 0.3, beside);
        assert_eq!(keys(&found), [2, 0, 1, 4, 3]);
        assert!((found[2].score - (0.3 + 0.3 * 0.8) / 1.3).abs() < 1e-12);
        let plain = found.clone();
        smooth(&mut found, 0.0, beside);
        assert_eq!(found, plain);
    }

    #[test]
    fn the_strong_and_the_new_rise() {
        let boost = Boost { strength: 0.5, recency: 0.2, recency_half_life: 30.0 };
        let factor = boost.factor(State { strength: 0.8, age_days: 30.0 });
        assert!((factor - (1.0 + 0.4 + 0.1)).abs() < 1e-12);
        let mut found = results(&[0.5, 0.49]);
        let state = |key| State { strength: if key == 1 { 1.0 } else { 0.1 }, age_days: -5.0 };
        boost.apply(&mut found, state);
        assert_eq!(keys(&found), [1, 0]);
        let none = Boost::default().factor(State { strength: 1.0, age_days: 0.0 });
        assert_eq!(none, 1.0);
    }

    #[test]
    fn a_twin_of_what_was_picked_waits() {
        let found = results(&[0.9, 0.89, 0.5]);
        let twins = |a: Key, b: Key| if a + b == 1 { 1.0 } else { 0.1 };
        assert_eq!(keys(&diversify(&found, 2, 0.5, twins)), [0, 2]);
        assert_eq!(keys(&diversify(&found, 3, 0.0, twins)), [0, 1, 2]);
        assert!(diversify(&[], 3, 0.5, twins).is_empty());
    }

    #[test]
    fn overlap_is_the_share_of_common_words() {
        assert_eq!(overlap(&[1, 3, 5], &[3, 4, 5, 9]), 2.0 / 5.0);
        assert_eq!(overlap(&[3, 4, 5, 9], &[1, 3, 5]), 2.0 / 5.0);
        assert_eq!((overlap(&[1], &[1]), overlap(&[1], &[]), overlap(&[], &[])), (1.0, 0.0, 0.0));
    }

    proptest! {
        #[test]
        fn picking_loses_and_repeats_nothing(
            scores in prop::collection::vec(0.0f64..1.0, 0..20), k in 0usize..25, diversity in 0.0f64..=1.0,
        ) {
            let found = results(&scores);
            let picked = diversify(&found, k, diversity, |a, b| ((a * 7 + b * 7) % 10) as f64 / 10.0);
            prop_assert_eq!(picked.len(), k.min(found.len()));
            let mut distinct = keys(&picked);
            distinct.sort_unstable();
            distinct.dedup();
            prop_assert_eq!(distinct.len(), picked.len());
        }
    }
}
