//! BM25: how well an entry answers a question, by the words they share.
//!
//! Source: S. Robertson and H. Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond",
//! 2009; `ln(1 + …)` keeps the weight of a frequent word above 0, as in Lucene.

/// How soon a repeated word stops counting.
const K1: f32 = 0.9;
/// How much a long entry has to answer for its length.
const B: f32 = 0.4;

/// Weight of a term that `having` of `entries` have.
pub fn idf(entries: u64, having: u64) -> f32 {
    let (entries, having) = (entries as f64, having as f64);
    (1.0 + (entries - having + 0.5) / (having + 0.5)).ln() as f32
}

/// What one term adds to an entry's score; `relative` is its length over the mean length.
#[inline]
pub fn score(weight: f32, frequency: u32, relative: f32) -> f32 {
    let frequency = frequency as f32;
    weight * frequency / (frequency + K1 * (1.0 - B + B * relative))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hand_computed_score() {
        // 2 of 10 entries have it; 3 times in an entry of half the mean length.
        let weight = idf(10, 2);
        assert!((f64::from(weight) - (1.0f64 + 8.5 / 2.5).ln()).abs() < 1e-6);
        let expected = weight * 3.0 / (3.0 + 0.9 * (0.6 + 0.4 * 0.5));
        assert!((score(weight, 3, 0.5) - expected).abs() < 1e-6);
    }

    #[test]
    fn even_a_word_that_all_have_counts_for_something() {
        assert!(idf(10, 10) > 0.0);
        assert!(score(idf(1, 1), 1, 1.0) > 0.0);
    }
}
