//! Who may run now: bounded queues, priorities, permits.
//!
//! One admission mechanism for every task: ready → (room in the lane's queue) → queued → (permits:
//! the lane's, its threads', the engine's) → granted. Lanes know nothing of stores and agents; the
//! engine journals what they decide.

mod permit;
mod queue;
mod session;
mod set;

pub use permit::Permit;
pub use queue::Entry;
pub use session::{Group, Next, SESSION_WAITING_MAX, SessionView, Sessions, Waiting};
pub use set::{Lane, LaneView, Lanes};

#[cfg(test)]
mod tests;
