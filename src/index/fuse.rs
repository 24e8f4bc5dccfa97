//! One order out of two: what the vector leg and the text leg found, weighed together.
//!
//! Pure arithmetic over scores and ranks; every result keeps what it was made from, so that an answer
//! can be explained.

use serde::{Deserialize, Serialize};

use super::{Hit, Key};

/// Ranks of RRF are counted from this number on.
const RRF_K: f64 = 60.0;

/// How two legs become one score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fusion {
    /// `vector · max(cosine, 0) + text · bm25 / best bm25`, with both scores known for every candidate.
    #[default]
    Score,
    /// Weighted reciprocal ranks, `vector / (60 + rank) + text / (60 + rank)`; a leg that did not find
    /// an entry adds nothing. Source: G. Cormack et al., "Reciprocal Rank Fusion outperforms Condorcet
    /// and individual Rank Learning Methods", SIGIR 2009.
    Rrf,
}

/// What each leg counts for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Weights {
    pub vector: f64,
    pub text: f64,
}

impl Weights {
    /// What a place in the vector leg counts with [`Fusion::Rrf`].
    pub fn vector_share(&self, rank: Option<u32>) -> f64 {
        share(self.vector, rank)
    }
}

fn share(weight: f64, rank: Option<u32>) -> f64 {
    rank.map_or(0.0, |rank| weight / (RRF_K + f64::from(rank)))
}

impl Default for Weights {
    fn default() -> Self {
        Self { vector: 0.7, text: 0.3 }
    }
}

/// An entry that a leg found, and what both legs know of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    pub key: Key,
    /// `None` where the entry has no vector, or the question.
    pub cosine: Option<f32>,
    /// `None` where the entry has no text, or the question.
    pub bm25: Option<f32>,
    /// Position among what the leg found, from 1 on.
    pub vector_rank: Option<u32>,
    pub text_rank: Option<u32>,
}

/// A result, and why it stands where it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fused {
    pub score: f64,
    /// What the legs said. The score may have been smoothed and boosted since.
    pub found: Candidate,
}

impl Fused {
    pub fn key(&self) -> Key {
        self.found.key
    }
}

/// Joins what two legs found, in no order. `cosine` and `bm25` give the score of an entry that only the
/// other leg found.
pub fn candidates(
    vector: &[Hit],
    text: &[Hit],
    cosine: impl Fn(Key) -> Option<f32>,
    bm25: impl Fn(Key) -> Option<f32>,
) -> Vec<Candidate> {
    let blank =
        |key| Candidate { key, cosine: None, bm25: None, vector_rank: None, text_rank: None };
    let mut found: hashbrown::HashMap<Key, Candidate> = hashbrown::HashMap::new();
    for (rank, hit) in (1..).zip(vector) {
        let candidate = found.entry(hit.key).or_insert_with(|| blank(hit.key));
        (candidate.cosine, candidate.vector_rank) = (Some(hit.score), Some(rank));
    }
    for (rank, hit) in (1..).zip(text) {
        let candidate = found.entry(hit.key).or_insert_with(|| blank(hit.key));
        (candidate.bm25, candidate.text_rank) = (Some(hit.score), Some(rank));
    }
    let complete = |candidate: Candidate| Candidate {
        cosine: candidate.cosine.or_else(|| cosine(candidate.key)),
        bm25: candidate.bm25.or_else(|| bm25(candidate.key)),
        ..candidate
    };
    found.into_values().map(complete).collect()
}

/// Gives every candidate its score, best first.
pub fn fuse(fusion: Fusion, weights: Weights, candidates: Vec<Candidate>) -> Vec<Fused> {
    let best_bm25 = candidates.iter().filter_map(|found| found.bm25).fold(0f32, f32::max);
    let by_score = |found: &Candidate| {
        let cosine = f64::from(found.cosine.unwrap_or(0.0).max(0.0));
        let bm25 = match found.bm25 {
            Some(bm25) if best_bm25 > 0.0 => f64::from(bm25) / f64::from(best_bm25),
            _ => 0.0,
        };
        weights.vector * cosine + weights.text * bm25
    };
    let by_rank = |found: &Candidate| {
        share(weights.vector, found.vector_rank) + share(weights.text, found.text_rank)
    };
    let score = |found: &Candidate| match fusion {
        Fusion::Score => by_score(found),
        Fusion::Rrf => by_rank(found),
    };
    let mut fused: Vec<_> =
        candidates.into_iter().map(|found| Fused { score: score(&found), found }).collect();
    sort(&mut fused);
    fused
}

/// Best first; of equals, the newer one.
pub fn sort(fused: &mut [Fused]) {
    fused.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(b.key().cmp(&a.key())));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hits(scores: &[(Key, f32)]) -> Vec<Hit> {
        scores.iter().map(|&(key, score)| Hit { key, score }).collect()
    }

    fn scores(fused: &[Fused]) -> Vec<(Key, f64)> {
        fused.iter().map(|result| (result.key(), result.score)).collect()
    }

    #[test]
    fn both_scores_count_for_an_entry_that_one_leg_found() {
        let (vector, text) = (hits(&[(1, 0.9), (2, 0.5)]), hits(&[(3, 8.0), (2, 4.0)]));
        let joined = candidates(&vector, &text, |_| Some(-0.2), |_| Some(2.0));
        let fused = fuse(Fusion::Score, Weights::default(), joined);
        let near = |x: f64, y: f64| (x - y).abs() < 1e-7;
        assert_eq!(fused.iter().map(Fused::key).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(near(fused[0].score, 0.7 * 0.9 + 0.3 * 2.0 / 8.0));
        assert!(near(fused[1].score, 0.7 * 0.5 + 0.3 * 4.0 / 8.0));
        assert!(near(fused[2].score, 0.3), "a cosine below 0 counts as 0");
        assert_eq!((fused[2].found.vector_rank, fused[2].found.text_rank), (None, Some(1)));
    }

    #[test]
    fn reciprocal_ranks_are_exact() {
        let (vector, text) = (hits(&[(1, 0.9), (2, 0.5)]), hits(&[(3, 8.0), (2, 4.0)]));
        let joined = candidates(&vector, &text, |_| Some(0.1), |_| Some(2.0));
        let fused = fuse(Fusion::Rrf, Weights::default(), joined);
        let expected = [(2, 0.7 / 62.0 + 0.3 / 62.0), (1, 0.7 / 61.0), (3, 0.3 / 61.0)];
        assert_eq!(scores(&fused), expected);
    }

    #[test]
    fn one_leg_alone_keeps_its_order() {
        for fusion in [Fusion::Score, Fusion::Rrf] {
            let text = hits(&[(3, 8.0), (2, 4.0), (1, 3.0)]);
            let alone = candidates(&[], &text, |_| None, |_| None);
            let fused = fuse(fusion, Weights::default(), alone);
            assert_eq!(fused.iter().map(Fused::key).collect::<Vec<_>>(), [3, 2, 1]);
            let vector = hits(&[(3, 0.8), (2, 0.4), (1, 0.3)]);
            let alone = candidates(&vector, &[], |_| None, |_| None);
            let fused = fuse(fusion, Weights::default(), alone);
            assert_eq!(fused.iter().map(Fused::key).collect::<Vec<_>>(), [3, 2, 1]);
        }
        assert!(fuse(Fusion::Score, Weights::default(), Vec::new()).is_empty());
    }

    proptest! {
        #[test]
        fn a_result_that_is_better_in_both_legs_is_better(
            found in prop::collection::vec((0f32..1.0, 0f32..30.0), 1..30),
        ) {
            let found: Vec<_> = (0..).zip(&found).map(|(key, &(cosine, bm25))| Candidate {
                key, cosine: Some(cosine), bm25: Some(bm25), vector_rank: None, text_rank: None,
            }).collect();
            let fused = fuse(Fusion::Score, Weights::default(), found);
            for (at, better) in fused.iter().enumerate() {
                prop_assert!((0.0..=1.0).contains(&better.score));
                for worse in &fused[at + 1..] {
                    let (b, w) = (better.found, worse.found);
                    prop_assert!(b.cosine >= w.cosine || b.bm25 >= w.bm25);
                }
            }
        }
    }
}
