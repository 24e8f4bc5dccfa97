//! Textbook algorithms, each citing its source. Pure: dice and clocks come in as numbers.

mod backoff;
pub mod fsrs;

pub use backoff::backoff_ms;
