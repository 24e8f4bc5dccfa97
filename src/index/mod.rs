//! Derived search indexes: what an entry says ([`text`]), what it means ([`vector`]), both ([`search`]).
//!
//! An index holds nothing that could not be computed again from the store, and does not know the
//! store: keys, texts and rows come in as arguments. Entries are kept apart by session from the ground
//! up: a search names its sessions, reads nothing of any other, and its statistics are those of these
//! sessions alone. What is added is found by the next search, what is deleted is gone with its space.
//!
//! `docs/design/015-search-indexes.md` says why the indexes are our own.

pub mod adjust;
mod bytes;
pub mod fuse;
mod parts;
pub mod search;
pub mod text;
mod top;
pub mod vector;

pub use top::Hit;

/// Names an entry: its ULID as a number. Newer entries have larger keys.
pub type Key = u128;

/// Decides during a search whether an entry may be found.
///
/// It is asked only about entries that would otherwise be among the results.
pub type Filter<'a> = &'a dyn Fn(Key) -> bool;
