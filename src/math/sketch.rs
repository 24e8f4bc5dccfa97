//! Quantiles of a stream of numbers in a few kilobytes.
//!
//! Source: G. Tene, HdrHistogram: buckets whose width grows with the value, 16 to each power of two.

/// Bits of a value that a bucket tells apart below its leading one.
const FINE_BITS: u32 = 4;
const FINE: u64 = 1 << FINE_BITS;

/// Counts numbers in log-linear buckets: a quantile is at most 1/16 above the true value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sketch {
    /// Grows to the largest value's bucket; below 1,000 for any `u64`.
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Sketch {
    /// Counts a value `n` times.
    pub fn record(&mut self, value: u64, n: u64) {
        let at = bucket(value);
        if at >= self.counts.len() {
            self.counts.resize(at + 1, 0);
        }
        self.counts[at] += n;
        self.total += n;
        self.max = self.max.max(value);
    }

    /// A value that at least the share `q` (0 to 1) of all values does not exceed; 0 of nothing.
    pub fn quantile(&self, q: f64) -> u64 {
        let wanted = ((self.total as f64 * q).ceil() as u64).max(1);
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return highest(at).min(self.max);
            }
        }
        self.max
    }

    pub fn max(&self) -> u64 {
        self.max
    }
    pub fn total(&self) -> u64 {
        self.total
    }
}

fn bucket(value: u64) -> usize {
    if value < FINE {
        return value as usize;
    }
    let shift = 63 - value.leading_zeros() - FINE_BITS;
    ((u64::from(shift) << FINE_BITS) + (value >> shift)) as usize
}

/// The largest value of a bucket.
fn highest(at: usize) -> u64 {
    let at = at as u64;
    if at < 2 * FINE {
        return at;
    }
    let shift = (at >> FINE_BITS) - 1;
    let base = FINE + (at & (FINE - 1));
    (base << shift) | ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_and_everything_have_quantiles() {
        assert_eq!(Sketch::default().quantile(0.5), 0);
        let mut sketch = Sketch::default();
        sketch.record(u64::MAX, 1);
        assert_eq!((sketch.quantile(0.0), sketch.max()), (u64::MAX, u64::MAX));
        assert!(sketch.counts.len() < 1_000);
    }

    proptest! {
        #[test]
        fn a_quantile_is_at_most_a_sixteenth_too_high(
            mut values in proptest::collection::vec(0u64..5_000_000, 1..300), q in 0.0f64..=1.0,
        ) {
            let mut sketch = Sketch::default();
            values.iter().for_each(|&value| sketch.record(value, 1));
            values.sort_unstable();
            let at = ((values.len() as f64 * q).ceil() as usize).max(1) - 1;
            let (truth, told) = (values[at], sketch.quantile(q));
            prop_assert!(truth <= told && told <= truth + truth / 16, "{told} for {truth}");
        }

        #[test]
        fn every_value_lies_in_its_bucket(value: u64) {
            let at = bucket(value);
            prop_assert!(value <= highest(at));
            prop_assert!(at == 0 || value > highest(at - 1));
        }
    }
}
