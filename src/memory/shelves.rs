//! The sessions that are loaded, and what was committed for them meanwhile.
//!
//! The owner of the journal leaves committed operations here, in order, and goes on; whoever looks at a
//! session next takes them up first. So a write is seen by every read that begins after it returned.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::backlog::Backlog;
use super::cold::Doomed;
use super::keeper::{Desk, Keeper};
use super::open::{Open, drop_if};
use crate::model::{MemoryOp, Result};
use crate::store::{Store, in_force};

/// Bytes that loaded sessions may take together, roughly.
const BYTES_MAX: usize = 512 << 20;

/// The loaded sessions.
#[derive(Default)]
pub struct Shelves {
    /// Told of what may have to be deleted from a cold tier, where there is one.
    pub(super) doomed: OnceLock<Arc<Doomed>>,
    open: Mutex<HashMap<Arc<str>, Arc<Open>>>,
    clock: AtomicU64,
    /// What waits for its vector.
    pub(super) backlog: Backlog,
    desk: Arc<Desk>,
    /// `None` where indexes are not kept.
    keeper: OnceLock<Keeper>,
}

impl Shelves {
    /// Shelves that keep indexes when a test wants them to.
    #[cfg(test)]
    pub(super) fn with(habits: super::keeper::Habits) -> Self {
        let mut shelves = Self::default();
        shelves.desk = Arc::new(Desk::new(habits));
        shelves
    }

    /// Ends the keeper as a crash would: what is not written stays so.
    #[cfg(test)]
    pub(super) fn abandon(&self) {
        self.desk.forget_all();
        self.keeper.get().into_iter().for_each(Keeper::close);
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Open>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves operations that were committed, in order, for whoever reads next. Never blocks for long:
    /// no index is touched.
    pub fn committed(&self, ops: &[MemoryOp]) {
        if let Some(doomed) = self.doomed.get() {
            doomed.note(ops);
        }
        let open = self.open();
        let is_kept = self.keeper.get().is_some();
        let mut grown: Option<(&Arc<str>, u64)> = None;
        let mut current = self.backlog.generation();
        for op in ops {
            if let MemoryOp::Model(model) = op
                && model.generation != current
            {
                // Every vector is void: what is loaded is loaded anew.
                current = model.generation;
                self.backlog.renew(current);
                open.values().for_each(|open| open.void());
            }
            self.backlog.follow(op);
            let Some(session) = op.session() else { continue };
            let open = open.get(session);
            if let (Some(open), Some(op)) = (open, in_force(op, current)) {
                open.push(&op);
            }
            match op {
                _ if !is_kept => {}
                MemoryOp::DeleteSession { .. } => self.desk.deleted(session),
                MemoryOp::Forget { .. } if open.is_none() => self.desk.forgotten(session),
                MemoryOp::Put(_) if open.is_none() => match &mut grown {
                    Some((last, count)) if *last == session => *count += 1,
                    _ => {
                        let before = grown.replace((session, 1));
                        before.into_iter().for_each(|(other, count)| self.desk.grew(other, count));
                    }
                },
                _ => {}
            }
        }
        grown.into_iter().for_each(|(session, count)| self.desk.grew(session, count));
    }

    /// Begins to keep indexes where the store does so.
    pub(super) fn keep_in(self: &Arc<Self>, store: &Arc<dyn Store>) -> Result<()> {
        if store.keeps_indexes() && self.keeper.get().is_none() {
            let keeper = Keeper::start(self, store)?;
            // Whoever came first has started one just like it.
            if let Err(second) = self.keeper.set(keeper) {
                second.close();
            }
        }
        Ok(())
    }

    /// Writes the indexes that are worth it and lets nothing be written any more: before the store
    /// closes.
    pub fn close(&self) {
        self.backlog.close();
        let Some(keeper) = self.keeper.get() else { return };
        let all: Vec<_> = self.open().values().cloned().collect();
        for open in all {
            let (changes, losses) = open.unkept();
            if losses > 0 || changes >= self.desk.habits.changes_at_close {
                self.desk.forgotten(&open.session);
            }
        }
        keeper.close();
    }

    pub(super) fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }

    pub(super) fn keep(&self, session: &Arc<str>, store: &dyn Store, lost: bool) -> Result<()> {
        match self.if_open(session) {
            Some(open) => open.keep(store, lost),
            None => drop_if(lost, store, session),
        }
    }

    /// The session, if it is loaded.
    pub(super) fn if_loaded(&self, session: &str) -> Option<Arc<Open>> {
        self.if_open(session).filter(|open| open.is_loaded())
    }

    /// The session, to be loaded by its first reader. From now on nothing committed passes it by.
    pub(super) fn of(&self, session: &str) -> Arc<Open> {
        let mut open = self.open();
        let used = self.clock.fetch_add(1, Ordering::Relaxed);
        let found = match open.get(session) {
            Some(found) => Arc::clone(found),
            None => {
                let made = Arc::new(Open::new(session, &self.desk));
                open.insert(Arc::clone(&made.session), Arc::clone(&made));
                made
            }
        };
        found.used.store(used, Ordering::Relaxed);
        found
    }

    /// The session, if somebody has loaded it.
    pub(super) fn if_open(&self, session: &str) -> Option<Arc<Open>> {
        self.open().get(session).cloned()
    }

    /// Whether this is what is loaded of its session, and nobody has let go of it.
    pub(super) fn has(&self, open: &Arc<Open>) -> bool {
        self.open().get(&open.session).is_some_and(|there| Arc::ptr_eq(there, open))
    }

    /// Lets go of the sessions that nobody has used for longest, while all take too much together.
    pub(super) fn trim(&self) {
        self.trim_to(BYTES_MAX);
    }

    pub(super) fn trim_to(&self, bytes_max: usize) {
        // Measured once: a session that is written to at this moment counts as nothing.
        let all: Vec<_> = self.open().values().cloned().collect();
        let mut all: Vec<_> = all.into_iter().map(|open| (open.bytes(), open)).collect();
        let mut bytes: usize = all.iter().map(|(own, _)| own).sum();
        if bytes <= bytes_max {
            return;
        }
        all.sort_by_key(|(_, open)| open.used.load(Ordering::Relaxed));
        // The one used last stays, however large, and one that is being put in cells: work that was done
        // for nothing would only be done again.
        let others = all[..all.len() - 1].iter();
        for (own, open) in others.filter(|(_, open)| !open.is_grouped.load(Ordering::Relaxed)) {
            if bytes <= bytes_max {
                break;
            }
            bytes -= own;
            self.open().remove(&open.session);
        }
    }
}

impl Drop for Shelves {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.close();
        }
    }
}
