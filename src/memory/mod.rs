//! What agents remember: memorize, retrieve, forget, over the store and the indexes of a session.
//!
//! The unit is the session. Whoever asks for one has it loaded from the store, with indexes of its own
//! (`shelf`), so that no search can see another session and an engine opens without reading memories.
//! Writes go through a [`Journal`] and come back, once they last, as operations on the loaded sessions
//! (`shelves`); the owner of the journal never works on an index. Knows no engine and no Python.

mod backlog;
mod check;
mod cold;
mod drafts;
mod due;
mod forget;
mod image;
#[cfg(test)]
mod isolation;
mod keeper;
#[cfg(test)]
mod kept_tests;
mod markdown;
mod notes;
mod open;
mod query;
mod review;
mod search;
mod service;
mod shelf;
mod shelves;
mod sight;
mod slot;
mod sweep;
#[cfg(test)]
mod tests;
mod transfer;
mod twins;
mod vectors;
mod workspace;

pub use cold::{Cellar, ColdStats, Found, Moved, Policy, Tiers};
pub use drafts::Draft;
pub use forget::{Forget, Forgotten};
pub use notes::{Import, Imported};
pub use query::{Boost, Fusion, Hit, Mode, Parts, Query, Weights};
pub use review::{Fading, strength};
pub use service::{Journal, Memory, Stats};
pub use shelves::Shelves;
pub use slot::Recalled;
pub use sweep::{Sweep, Swept, Tally};
pub use twins::{Duplicates, Twins};
pub use vectors::{Unvectored, Work};
