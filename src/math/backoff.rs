//! Exponential backoff with full jitter.

use crate::model::{Millis, Retry};

/// Pause before the try that follows the `failures`-th failure (1, 2, …), in milliseconds.
///
/// The bound is `initial · factor^(failures-1)`, at most `max`; with jitter the pause is drawn evenly
/// from `0..=bound` by `dice`, 64 random bits. Source: M. Brooker, "Exponential Backoff And Jitter",
/// AWS Architecture Blog, 2015 ("full jitter").
pub fn backoff_ms(retry: &Retry, failures: u16, dice: u64) -> Millis {
    let exponent = i32::from(failures.max(1) - 1);
    let bound = (retry.initial_ms as f64 * retry.factor.powi(exponent)).min(retry.max_ms as f64);
    let share = if retry.jitter { dice as f64 / u64::MAX as f64 } else { 1.0 };
    (bound * share).round() as Millis
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn without_jitter_the_pause_doubles_up_to_its_bound() {
        let retry = Retry { jitter: false, max_ms: 3_000, ..Retry::default() };
        let pauses: Vec<_> = (1..=5).map(|n| backoff_ms(&retry, n, 0)).collect();
        assert_eq!(pauses, [500, 1_000, 2_000, 3_000, 3_000]);
    }

    proptest! {
        #[test]
        fn no_dice_and_no_count_leaves_the_bound(failures in 0u16.., dice: u64, factor in 1.0f64..10.0) {
            let retry = Retry { factor, ..Retry::default() };
            prop_assert!(backoff_ms(&retry, failures, dice) <= retry.max_ms);
        }
    }

    #[test]
    fn the_dice_span_the_whole_interval() {
        let retry = Retry::default();
        assert_eq!(backoff_ms(&retry, 1, 0), 0);
        assert_eq!(backoff_ms(&retry, 1, u64::MAX), 500);
    }
}
