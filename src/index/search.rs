//! One search over both legs: asks each for its best, completes the scores, and fuses.

use serde::{Deserialize, Serialize};

use super::Filter;
use super::fuse::{Fused, Fusion, Weights, candidates, fuse, sort};
use super::text::TextQuery;
use super::vector::VectorQuery;

/// Each leg gives so many candidates per result that is asked for, and at least so many.
const DEPTH_PER_RESULT: usize = 4;
const DEPTH_MIN: usize = 100;

/// Which legs are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    #[default]
    Hybrid,
    /// Scores are those of [`Mode::Hybrid`] without a text leg.
    Vector,
    /// Scores are those of [`Mode::Hybrid`] without a vector leg.
    Text,
}

/// How to search.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    pub mode: Mode,
    pub fusion: Fusion,
    pub weights: Weights,
    /// Asked during the search, never after it: what it refuses takes nobody's place.
    pub filter: Option<Filter<'a>>,
}

/// Results of two legs that give `k` in their common order: more than `k`.
pub fn depth(k: usize) -> usize {
    k.saturating_mul(DEPTH_PER_RESULT).max(DEPTH_MIN)
}

/// The best candidates of both legs in their common order: at least `k`, if there are as many.
///
/// More than `k` come back so that the order can still be changed by neighbours, strength or variety
/// ([`super::adjust`]); the caller cuts. The vector leg alone with [`Fusion::Rrf`] gives `k` and no more: every
/// one is scored exactly, and none behind them could come before them. With [`Fusion::Score`] the first `k` are exact, and the cosines
/// of those behind them are the scan's, off by some thousandths: rows are read for the best only. A leg
/// that is `None` (no vector yet, its embedder down) leaves the other one's order.
pub fn search(
    vector: Option<&VectorQuery<'_>>,
    text: Option<&TextQuery<'_>>,
    k: usize,
    options: Options<'_>,
) -> Vec<Fused> {
    let Options { mode, fusion, weights, filter } = options;
    let vector = vector.filter(|_| mode != Mode::Text);
    let text = text.filter(|_| mode != Mode::Vector);
    let depth = depth(k);
    let worded = text.map_or_else(Vec::new, |query| query.top(depth, filter));
    let bm25 = |key| text.and_then(|query| query.score(key));
    match (vector, fusion) {
        (None, _) => fuse(fusion, weights, candidates(&[], &worded, |_| None, bm25)),
        (Some(query), Fusion::Rrf) => {
            let is_alone = text.is_none() && weights.vector > 0.0;
            let near = query.top(if is_alone { k } else { depth }, filter);
            fuse(fusion, weights, candidates(&near, &worded, |key| query.score(key), bm25))
        }
        (Some(query), Fusion::Score) => {
            let (near, margin) = query.coarse_top(depth, k, filter);
            let found = candidates(&near, &worded, |key| query.coarse_score(key), bm25);
            let fused = fuse(fusion, weights, found);
            refine(fused, k, query, weights, f64::from(margin))
        }
    }
}

/// Puts exact cosines in place of the scan's, best first, until no other can reach the best `k`.
fn refine(
    mut fused: Vec<Fused>,
    k: usize,
    query: &VectorQuery<'_>,
    weights: Weights,
    margin: f64,
) -> Vec<Fused> {
    let mut exact = Vec::new();
    for result in &mut fused {
        let bar = if exact.len() < k { f64::NEG_INFINITY } else { exact[k - 1] };
        if k == 0 || result.score + weights.vector.abs() * margin < bar {
            break;
        }
        let coarse = result.found.cosine;
        result.found.cosine = query.score(result.key()).or(coarse);
        let counted = |cosine: Option<f32>| f64::from(cosine.unwrap_or(0.0).max(0.0));
        result.score += weights.vector * (counted(result.found.cosine) - counted(coarse));
        let at = exact.partition_point(|better| *better >= result.score);
        exact.insert(at, result.score);
        exact.truncate(k);
    }
    sort(&mut fused);
    fused
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Key;
    use crate::index::text::TextIndex;
    use crate::index::vector::VectorIndex;
    use proptest::prelude::*;

    const WORDS: [&str; 6] = ["agent", "memory", "flow", "lane", "saga", "gate"];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// The model scores every entry of the session with exact cosines.
        #[test]
        fn the_best_are_those_that_scoring_everything_puts_first(
            entries in prop::collection::vec((prop::array::uniform8(-1f32..1.0), 0usize..36), 1..150),
            asked in prop::array::uniform8(-1f32..1.0), question in 0usize..36, k in 1usize..30,
        ) {
            let words = |n: usize| format!("{} {}", WORDS[n % 6], WORDS[n / 6]);
            let (mut texts, mut near) = (TextIndex::default(), VectorIndex::new(8)?);
            for (key, (row, n)) in (0..).zip(&entries) {
                texts.add("s", key, &words(*n))?;
                near.add("s", key, row)?;
            }
            let truth = |key: Key, row: &mut [f32]| {
                row.copy_from_slice(&entries[key as usize].0);
                true
            };
            let by_text = texts.query(&["s"], &words(question));
            let by_vector = near.query(&["s"], &asked, &truth)?;
            for fusion in [Fusion::Score, Fusion::Rrf] {
                let options = Options { fusion, ..Options::default() };
                let found = search(Some(&by_vector), Some(&by_text), k, options);
                let (all_near, all_worded) = (by_vector.top(150, None), by_text.top(150, None));
                let depth = (k * DEPTH_PER_RESULT).max(DEPTH_MIN);
                let cut = |hits: &[super::super::Hit]| hits[..depth.min(hits.len())].to_vec();
                let joined = candidates(
                    &cut(&all_near), &cut(&all_worded), |key| by_vector.score(key), |key| by_text.score(key),
                );
                let expected = fuse(fusion, Weights::default(), joined);
                prop_assert!(found.len() >= k.min(entries.len()));
                for (found, expected) in found.iter().zip(&expected).take(k) {
                    prop_assert!((found.score - expected.score).abs() < 1e-6, "{found:?} {expected:?}");
                }
            }
        }
    }

    #[test]
    fn the_vector_leg_alone_gives_its_best_in_its_own_order_and_reads_few_rows() {
        let row = |key: Key| -> Vec<f32> {
            (0..64).map(|at| ((key as f32 + 1.0) * (at as f32 + 0.7) * 12.9).sin()).collect()
        };
        let mut near = VectorIndex::new(64).expect("a dimension");
        (0..2_000).for_each(|key| near.add("s", key, &row(key)).expect("a row"));
        let read = std::cell::Cell::new(0);
        let truth = |key: Key, out: &mut [f32]| {
            read.set(read.get() + 1);
            out.copy_from_slice(&row(key));
            true
        };
        let query = near.query(&["s"], &row(7_000), &truth).expect("it fits");
        let options = Options { fusion: Fusion::Rrf, ..Options::default() };
        for k in [1, 10, 99] {
            let all = query.top(depth(k), None);
            read.set(0);
            let found = search(Some(&query), None, k, options);
            assert!(read.get() < DEPTH_MIN || k == 99, "{} rows are read", read.get());
            let keys: Vec<Key> = found.iter().map(Fused::key).collect();
            let expected: Vec<Key> = all.iter().take(k).map(|hit| hit.key).collect();
            assert_eq!(keys, expected);
            for (at, (fused, hit)) in found.iter().zip(&all).enumerate() {
                assert_eq!(fused.found.cosine, Some(hit.score));
                assert_eq!(fused.found.vector_rank, Some(at as u32 + 1));
            }
        }
    }

    #[test]
    fn a_leg_that_is_not_there_leaves_the_other() -> Result<(), Box<dyn std::error::Error>> {
        let (mut texts, mut near) = (TextIndex::default(), VectorIndex::new(2)?);
        texts.add("s", 1, "agents remember")?;
        near.add("s", 2, &[1.0, 0.0])?;
        let none = |_: Key, _: &mut [f32]| false;
        let (text, vector) =
            (texts.query(&["s"], "agent"), near.query(&["s"], &[1.0, 0.1], &none)?);
        let keys = |vector: Option<&VectorQuery<'_>>, text: Option<&TextQuery<'_>>, mode| {
            let options = Options { mode, ..Options::default() };
            search(vector, text, 5, options).iter().map(Fused::key).collect::<Vec<_>>()
        };
        assert_eq!(keys(None, Some(&text), Mode::Hybrid), [1]);
        assert_eq!(keys(Some(&vector), None, Mode::Hybrid), [2]);
        assert_eq!(keys(Some(&vector), Some(&text), Mode::Hybrid), [2, 1]);
        assert_eq!(keys(Some(&vector), Some(&text), Mode::Vector), [2]);
        assert_eq!(keys(Some(&vector), Some(&text), Mode::Text), [1]);
        assert!(keys(None, None, Mode::Hybrid).is_empty());
        Ok(())
    }
}
