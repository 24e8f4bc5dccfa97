//! The thread that keeps indexes: writes a session's file after enough changes, soon after something
//! was forgotten, and at close. It also indexes ahead what was memorized in bulk and never asked for.
//!
//! Nobody waits for it but who closes. What it does not get done costs time at the next opening and
//! nothing else: files are compared with the store when they are read.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::shelves::Shelves;
use crate::model::{Error, Result};
use crate::store::Store;

/// Sessions whose growth is counted at one time.
const GROWN_MAX: usize = 10_000;

/// When indexes are written.
#[derive(Clone, Debug)]
pub(super) struct Habits {
    /// Smaller sessions are indexed again faster than a file is worth.
    pub(super) entries_min: usize,
    /// Changes that make a file worth writing: so many, and so large a part of the session.
    pub(super) changes_min: u64,
    pub(super) changes_share: u64,
    /// Changes that make it worth writing at close.
    pub(super) changes_at_close: u64,
    /// What was forgotten is out of the file after this long.
    pub(super) forget_within: Duration,
    /// A session that grows and is not loaded is indexed when it has not grown for this long.
    pub(super) settle: Duration,
    /// After a failure.
    pub(super) again: Duration,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            entries_min: 2_000,
            changes_min: 2_000,
            changes_share: 8,
            changes_at_close: 256,
            forget_within: Duration::from_secs(30),
            settle: Duration::from_secs(2),
            again: Duration::from_secs(60),
        }
    }
}

/// How files fared since the store was opened.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) loaded: AtomicU64,
    pub(super) rebuilt: AtomicU64,
    pub(super) written: AtomicU64,
}

impl Counts {
    pub(super) fn count(number: &AtomicU64) {
        number.fetch_add(1, Ordering::Relaxed);
    }
}

/// What is to be done with a session, and when.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: Instant,
    /// Something in the file is not remembered any more.
    lost: bool,
    /// The session grew without being loaded.
    grown: bool,
}

#[derive(Default)]
struct Work {
    due: HashMap<Arc<str>, Due>,
    /// Entries that sessions grew by which are not loaded.
    grown: HashMap<Arc<str>, u64>,
    closing: bool,
}

/// Hands work to the thread.
#[derive(Default)]
pub(super) struct Desk {
    work: Mutex<Work>,
    bell: Condvar,
    pub(super) habits: Habits,
    pub(super) counts: Counts,
}

impl Desk {
    #[cfg(test)]
    pub(super) fn new(habits: Habits) -> Self {
        Self { habits, ..Self::default() }
    }

    #[cfg(test)]
    pub(super) fn forget_all(&self) {
        self.work().due.clear();
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, session: &Arc<str>, due: Due) {
        let mut work = self.work();
        match work.due.get_mut(session) {
            Some(known) => {
                // Growth puts itself off; what is lost does not.
                known.at = if due.grown && !known.lost { due.at } else { known.at.min(due.at) };
                known.lost |= due.lost;
                known.grown |= due.grown;
            }
            None => drop(work.due.insert(Arc::clone(session), due)),
        }
        self.bell.notify_all();
    }

    /// A loaded session of `len` entries has so many changes, and losses, that its file lacks.
    pub(super) fn changed(&self, session: &Arc<str>, len: usize, changes: u64, losses: u64) {
        let habits = &self.habits;
        let worth = habits.changes_min.max(len as u64 / habits.changes_share);
        if losses > 0 {
            let at = Instant::now() + habits.forget_within;
            self.put(session, Due { at, lost: true, grown: false });
        }
        if changes >= worth && len >= habits.entries_min {
            self.put(session, Due { at: Instant::now(), lost: false, grown: false });
        }
    }

    /// A session was deleted.
    pub(super) fn deleted(&self, session: &Arc<str>) {
        self.work().grown.remove(session);
        self.put(session, Due { at: Instant::now(), lost: true, grown: false });
    }

    /// Something of a session was forgotten that is not loaded.
    pub(super) fn forgotten(&self, session: &Arc<str>) {
        let at = Instant::now() + self.habits.forget_within;
        self.put(session, Due { at, lost: true, grown: false });
    }

    /// A session that is not loaded got so many more entries.
    pub(super) fn grew(&self, session: &Arc<str>, entries: u64) {
        let grown = {
            let mut work = self.work();
            if work.grown.len() >= GROWN_MAX {
                // So many small ones: they are indexed when somebody asks.
                work.grown.clear();
            }
            let grown = work.grown.entry(Arc::clone(session)).or_default();
            *grown += entries;
            *grown
        };
        if grown as usize >= self.habits.entries_min {
            let at = Instant::now() + self.habits.settle;
            self.put(session, Due { at, lost: false, grown: true });
        }
    }

    /// The next session to look after; at close all of them at once, then `None`.
    fn next(&self) -> Option<(Arc<str>, Due)> {
        let mut work = self.work();
        loop {
            let first = work.due.iter().min_by_key(|(_, due)| due.at);
            let first = first.map(|(session, due)| (Arc::clone(session), *due));
            let wait =
                first.as_ref().map(|(_, due)| due.at.saturating_duration_since(Instant::now()));
            match (first, wait) {
                (Some((session, due)), _) if work.closing => {
                    work.due.remove(&session);
                    return Some((session, due));
                }
                (Some((session, due)), Some(Duration::ZERO)) => {
                    work.due.remove(&session);
                    work.grown.remove(&session);
                    return Some((session, due));
                }
                (None, _) if work.closing => return None,
                (_, Some(wait)) => {
                    let waited = self.bell.wait_timeout(work, wait);
                    work = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                (_, None) => {
                    work = self.bell.wait(work).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

/// The thread, as long as it is wanted.
pub(super) struct Keeper {
    desk: Arc<Desk>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Keeper {
    pub(super) fn start(shelves: &Arc<Shelves>, store: &Arc<dyn Store>) -> Result<Self> {
        let desk = Arc::clone(shelves.desk());
        let (own, shelves, store) =
            (Arc::clone(&desk), Arc::downgrade(shelves), Arc::downgrade(store));
        let thread = thread::Builder::new()
            .name("goclaw-keeper".into())
            .spawn(move || work(&own, &shelves, &store))
            .map_err(|error| {
                let message = format!("no thread for the indexes of memory: {error}");
                Error::new("engine.thread", message, "raise the limit on threads (ulimit -u)")
            })?;
        Ok(Self { desk, thread: Mutex::new(Some(thread)) })
    }

    /// Has everything written that is worth it, and ends the thread.
    pub(super) fn close(&self) {
        self.desk.work().closing = true;
        self.desk.bell.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The thread itself may be the last to let go of the sessions.
        if let Some(thread) = thread.filter(|it| it.thread().id() != thread::current().id())
            && thread.join().is_err()
        {
            tracing::error!(target: "goclaw.memory", "the thread that keeps indexes panicked");
        }
    }
}

fn work(desk: &Desk, shelves: &Weak<Shelves>, store: &Weak<dyn Store>) {
    while let Some((session, due)) = desk.next() {
        let (Some(shelves), Some(store)) = (shelves.upgrade(), store.upgrade()) else { return };
        let kept = if due.grown && shelves.if_loaded(&session).is_none() {
            shelves.of(&session).catch_up(&*store).and_then(|()| {
                shelves.trim();
                shelves.keep(&session, &*store, due.lost)
            })
        } else {
            shelves.keep(&session, &*store, due.lost)
        };
        let Err(error) = kept else { continue };
        if error.code == "store.closed" {
            return;
        }
        tracing::warn!(target: "goclaw.memory", code = error.code, session = &*session, "index not kept: {error}");
        if !desk.work().closing {
            desk.put(&session, Due { at: Instant::now() + desk.habits.again, ..due });
        }
    }
}
