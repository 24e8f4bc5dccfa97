//! The cold tier of a memory: what moves there, what is found there, what must be deleted there.
//!
//! The store decides what there is. A memory that lies in the tier leaves a stub behind, with everything
//! but content and vector, so its id, its reviews and its forgetting work as ever; whatever the tier
//! holds beyond the stubs is not shown and is to be deleted. `MemoryOp::Copy` notes what a tier may hold
//! before it is put there, and only the tier's own word (`Gone`) strikes it off: so no crash loses a
//! memory or a deletion. No lock of a session is held while the tier is asked.

mod keeper;
mod losses;
mod moving;
mod owner;
mod reading;
mod search;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use self::moving::arrived;
pub use self::moving::{Moved, Policy};
pub use self::search::{Found, Tiers};
use super::service::Memory;
use crate::model::{Error, MemoryOp, Result};
use crate::tier::Tier;

/// A search that failed makes those of this long go without the tier.
const REST: Duration = Duration::from_secs(30);

/// A cold tier, and what moves there by itself.
#[derive(Clone, Debug)]
pub struct Cellar {
    pub tier: Arc<dyn Tier>,
    /// What moves; `None`: only what is asked for.
    pub policy: Option<Policy>,
    /// How often it is looked for.
    pub every: Duration,
}

/// The tier at work.
pub(super) struct Cold {
    pub(super) cellar: Cellar,
    /// Held while memories move or copies are deleted: one at a time.
    moving: Mutex<()>,
    pub(super) doomed: Arc<Doomed>,
    /// Set once the tier has said that it is this store's.
    is_own: OnceLock<()>,
    losses: losses::Losses,
    /// When searches may ask the tier again.
    rests: Mutex<Option<Instant>>,
    errors: AtomicU64,
    last_error: Mutex<Option<String>>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

/// The tier by numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColdStats {
    pub tier: String,
    /// Memories that lie there, and the bytes of their contents.
    pub entries: u64,
    pub bytes: u64,
    /// Copies that the tier has not confirmed to be deleted.
    pub pending: u64,
    /// Calls that failed since the memory was opened, and the last one's words.
    pub errors: u64,
    pub last_error: Option<String>,
}

impl Cold {
    pub(super) fn new(cellar: Cellar) -> Self {
        Self {
            cellar,
            moving: Mutex::new(()),
            doomed: Arc::default(),
            is_own: OnceLock::new(),
            losses: losses::Losses::default(),
            rests: Mutex::new(None),
            errors: AtomicU64::new(0),
            last_error: Mutex::new(None),
            keeper: Mutex::new(None),
        }
    }

    /// True once the engine closes: what moves stops between two steps.
    fn stops(&self) -> bool {
        self.doomed.state().stops
    }

    fn tier(&self) -> &dyn Tier {
        &*self.cellar.tier
    }

    fn moving(&self) -> MutexGuard<'_, ()> {
        self.moving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what the tier answers.
    fn heard<T>(&self, answer: Result<T>) -> Result<T> {
        if let Err(error) = &answer {
            self.errors.fetch_add(1, Ordering::Relaxed);
            let mut last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
            *last = Some(error.message.clone());
        }
        answer
    }

    fn rests(&self) -> MutexGuard<'_, Option<Instant>> {
        self.rests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Cold {
    fn drop(&mut self) {
        self.doomed.state().stops = true;
        self.doomed.news.notify_all();
    }
}

/// Sessions whose copies have to be looked at. The owner of the journal writes here, and goes on.
#[derive(Default)]
pub(super) struct Doomed {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Default)]
struct State {
    sessions: BTreeSet<Arc<str>>,
    stops: bool,
}

impl Memory {
    /// Memories of these sessions were put under ids that may be of stubs: what the tier holds of those is to
    /// be deleted. Only an import does so; other ids are new.
    pub(super) fn replaced(&self, sessions: impl IntoIterator<Item = Arc<str>>) {
        if let Some(cold) = &self.cold {
            cold.doomed.add(sessions);
        }
    }
}

impl Doomed {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, sessions: impl IntoIterator<Item = Arc<str>>) {
        self.state().sessions.extend(sessions);
        self.news.notify_all();
    }

    /// Notes the sessions of operations after which the tier may hold too much: a move, too, may end
    /// half-way, or meet a memory that was replaced.
    pub(super) fn note(&self, ops: &[MemoryOp]) {
        let sessions: Vec<_> = ops
            .iter()
            .filter_map(|op| match op {
                MemoryOp::Forget { session, .. }
                | MemoryOp::DeleteSession { session }
                | MemoryOp::Copy { session, .. }
                | MemoryOp::Back { session, .. } => Some(Arc::clone(session)),
                _ => None,
            })
            .collect();
        if !sessions.is_empty() {
            self.add(sessions);
        }
    }
}

/// Something lies where nobody here can reach.
fn elsewhere(what: &str, tier: &str) -> Error {
    Error::new(
        "memory.tier",
        format!("no way to {what} in tier `{tier}`: the store was opened without it"),
        "open the store with that tier (cold=…), under the name that it had",
    )
}

fn not_there(id: impl std::fmt::Display, tier: &str) -> Error {
    Error::new(
        "memory.tier",
        format!("memory `{id}` is not in tier `{tier}`, where it was moved to"),
        "restore the tier, or forget the memory",
    )
}
