//! Who may run now: bounded queues, order, rates, permits.
//!
//! One admission mechanism for every task: ready → (a place in the lane's queue, or what the lane does
//! when it is full) → queued → (its turn, tokens of its key, permits: the lane's, its threads', the
//! engine's) → granted. The order in a queue: priorities that age (`door`), flows that take turns
//! (`band`), runs in the order of their submits, inside a run the longest remaining path first.
//! Lanes know nothing of stores and agents; the engine journals what they decide.

mod band;
mod check;
mod door;
mod entry;
mod guest;
mod limit;
mod named;
mod permit;
mod session;
mod set;
mod view;

pub use entry::{AGING_MS, Entry, Front};
pub use named::{Admission, Lane};
pub use permit::{Loan, Permit};
pub use session::{Group, Next, SESSION_WAITING_MAX, SessionView, Sessions, Waiting};
pub use set::Lanes;
pub use view::{Counts, LaneView, Waits, Whereabouts};

#[cfg(test)]
mod tests;
