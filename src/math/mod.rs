//! Textbook algorithms, each citing its source. Pure: dice and clocks come in as numbers.

mod backoff;
pub mod fsrs;
mod gcra;
mod sketch;
mod table;

pub use backoff::backoff_ms;
pub use gcra::{Gcra, Tat};
pub use sketch::Sketch;
pub use table::Table;
