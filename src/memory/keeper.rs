//! The thread that keeps indexes: writes a session's file after enough changes, soon after something
//! was forgotten, and at close. It also indexes ahead what was memorized in bulk and never asked for.
//!
//! Where a session has outgrown a scan, it puts its vectors in cells (`index::vector`), which may take half
//! a minute for a million; files that are due meanwhile are written in between.
//!
//! Nobody waits for it but who closes. What it does not get done costs time at the next opening and
//! nothing else: files are compared with the store when they are read.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::open::Open;
use super::shelf::HERE;
use super::shelves::Shelves;
use crate::index::vector::{Grouping, VectorIndex};
use crate::model::{Error, Result};
use crate::store::Store;

/// Sessions whose growth is counted at one time.
const GROWN_MAX: usize = 10_000;

/// While vectors are put in cells, so often is looked for what else is due.
const LOOK_EVERY: Duration = Duration::from_millis(50);

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
    /// When vectors are put in cells.
    pub(super) grouping: Grouping,
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
            grouping: Grouping::default(),
        }
    }
}

/// How files fared since the store was opened.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) loaded: AtomicU64,
    pub(super) rebuilt: AtomicU64,
    pub(super) written: AtomicU64,
    /// Times that the vectors of a session were put in cells.
    pub(super) grouped: AtomicU64,
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
    /// Sessions whose vectors are to be put in cells.
    outgrown: BTreeSet<Arc<str>>,
    closing: bool,
}

enum Job {
    Keep(Arc<str>, Due),
    Group(Arc<str>),
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

    /// The vectors of a session are too many to be read one and all.
    pub(super) fn outgrew(&self, session: &Arc<str>) {
        if self.work().outgrown.insert(Arc::clone(session)) {
            self.bell.notify_all();
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

    /// The next session to look after: files first; at close all of them at once, then `None`.
    fn next(&self) -> Option<Job> {
        let mut work = self.work();
        loop {
            let first = work.due.values().map(|due| due.at).min();
            match first.map(|at| at.saturating_duration_since(Instant::now())) {
                None if work.closing => return None,
                Some(wait) if work.closing || wait.is_zero() => {
                    return work.first_due().map(|(session, due)| Job::Keep(session, due));
                }
                wait => {
                    if let Some(session) = work.outgrown.pop_first() {
                        return Some(Job::Group(session));
                    }
                    work = match wait {
                        Some(wait) => {
                            let waited = self.bell.wait_timeout(work, wait);
                            waited.unwrap_or_else(PoisonError::into_inner).0
                        }
                        None => self.bell.wait(work).unwrap_or_else(PoisonError::into_inner),
                    };
                }
            }
        }
    }

    /// What is due at this moment; `Err` where the thread is to end soon.
    fn at_once(&self) -> Result<Option<(Arc<str>, Due)>, Closing> {
        let mut work = self.work();
        let is_due = |due: &Due| due.at <= Instant::now();
        match work.closing {
            true => Err(Closing),
            false if work.due.values().any(is_due) => Ok(work.first_due()),
            false => Ok(None),
        }
    }
}

struct Closing;

impl Work {
    /// Takes what is due first.
    fn first_due(&mut self) -> Option<(Arc<str>, Due)> {
        let (session, _) = self.due.iter().min_by_key(|(_, due)| due.at)?;
        let session = Arc::clone(session);
        let due = self.due.remove(&session)?;
        if !self.closing {
            self.grown.remove(&session);
        }
        Some((session, due))
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
    while let Some(job) = desk.next() {
        let (Some(shelves), Some(store)) = (shelves.upgrade(), store.upgrade()) else { return };
        let goes_on = match job {
            Job::Keep(session, due) => keep(desk, &shelves, &*store, &session, due),
            Job::Group(session) => group(desk, &shelves, &*store, &session),
        };
        if !goes_on {
            return;
        }
    }
}

/// Writes the file of a session. `false`: the store is closed.
fn keep(desk: &Desk, shelves: &Shelves, store: &dyn Store, session: &Arc<str>, due: Due) -> bool {
    let kept = if due.grown && shelves.if_loaded(session).is_none() {
        shelves.of(session).catch_up(store).and_then(|()| {
            shelves.trim();
            shelves.keep(session, store, due.lost)
        })
    } else {
        shelves.keep(session, store, due.lost)
    };
    let Err(error) = kept else { return true };
    if error.code == "store.closed" {
        return false;
    }
    tracing::warn!(target: "goclaw.memory", code = error.code, session = &**session, "index not kept: {error}");
    if !desk.work().closing {
        desk.put(session, Due { at: Instant::now() + desk.habits.again, ..due });
    }
    true
}

/// Puts the vectors of a session in cells, and has them kept so. `false`: the store is closed.
fn group(desk: &Desk, shelves: &Arc<Shelves>, store: &dyn Store, session: &Arc<str>) -> bool {
    // Not `if_loaded`: whoever found it outgrown may hold its lock at this moment.
    let Some(open) = shelves.if_open(session) else { return true };
    let (start, mut looked, mut goes_on) = (Instant::now(), Instant::now(), true);
    let is_done = put_in_cells(shelves, &open, &desk.habits.grouping, &mut || {
        if looked.elapsed() < LOOK_EVERY {
            return true;
        }
        looked = Instant::now();
        if Arc::strong_count(shelves) == 1 {
            // Nobody is left who would search.
            return false;
        }
        while let Ok(due) = desk.at_once() {
            let Some((session, due)) = due else { return true };
            goes_on = keep(desk, shelves, store, &session, due);
            if !goes_on {
                break;
            }
        }
        false
    });
    if !is_done {
        return goes_on;
    }
    Counts::count(&desk.counts.grouped);
    if let Some((cells, read)) = open.vectors(|index| index.cells_of(HERE)).flatten() {
        let seconds = start.elapsed().as_secs_f32();
        tracing::info!(target: "goclaw.memory", session = &**session, cells, read, seconds, "vectors put in cells");
    }
    let due = Due { at: Instant::now(), lost: false, grown: false };
    keep(desk, shelves, store, session, due)
}

/// Says whether something was done, and all of it. A search meanwhile reads every row. A session that was let
/// go of is not gone on with: who loads it again has other vectors in hand.
pub(super) fn put_in_cells(
    shelves: &Shelves,
    open: &Arc<Open>,
    grouping: &Grouping,
    go_on: &mut dyn FnMut() -> bool,
) -> bool {
    open.is_grouped.store(true, Ordering::Relaxed);
    let is_begun = take_steps(open, grouping, &mut || shelves.has(open) && go_on());
    open.is_grouped.store(false, Ordering::Relaxed);
    // Nothing may be left to do because the session was deleted.
    let is_done = |index: &VectorIndex| {
        index.cells_of(HERE).is_some() && !index.wants_grouping(HERE, grouping)
    };
    is_begun && open.vectors(is_done) == Some(true)
}

/// Takes steps until nothing is left to do or `go_on` says no; says whether there were any.
fn take_steps(open: &Open, grouping: &Grouping, go_on: &mut dyn FnMut() -> bool) -> bool {
    let mut is_begun = false;
    while let Some(step) = open.vectors(|index| index.step(HERE, grouping)).flatten() {
        let Some(done) = step.work(go_on).filter(|_| go_on()) else { break };
        open.arrange(|index| index.take(HERE, done));
        is_begun = true;
    }
    is_begun
}
