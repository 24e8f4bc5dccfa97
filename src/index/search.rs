//! One search over both legs: asks each for its best, completes the scores, and fuses.

use serde::{Deserialize, Serialize};

use super::Filter;
use super::fuse::{Fused, Fusion, Weights, candidates, fuse};
use super::text::TextQuery;
use super::vector::VectorQuery;

/// Each leg gives so many candidates per result that is asked for, and at least [`DEPTH_MIN`].
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

/// The best candidates of both legs in their common order: at least `k`, if there are as many.
///
/// More than `k` come back so that the order can still be changed by neighbours, strength or variety
/// ([`super::adjust`]); the caller cuts. A leg that is `None` (no vector yet, its embedder down) leaves
/// the other one's order.
pub fn search(
    vector: Option<&VectorQuery<'_>>,
    text: Option<&TextQuery<'_>>,
    k: usize,
    options: Options<'_>,
) -> Vec<Fused> {
    let vector = vector.filter(|_| options.mode != Mode::Text);
    let text = text.filter(|_| options.mode != Mode::Vector);
    let depth = k.saturating_mul(DEPTH_PER_RESULT).max(DEPTH_MIN);
    let near = vector.map_or_else(Vec::new, |query| query.top(depth, options.filter));
    let worded = text.map_or_else(Vec::new, |query| query.top(depth, options.filter));
    let cosine = |key| vector.and_then(|query| query.score(key));
    let bm25 = |key| text.and_then(|query| query.score(key));
    fuse(options.fusion, options.weights, candidates(&near, &worded, cosine, bm25))
}
