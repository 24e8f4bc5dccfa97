//! The sessions that are loaded, and what was committed for them meanwhile.
//!
//! The owner of the journal leaves committed operations here, in order, and goes on; whoever looks at a
//! session next takes them up first. So a write is seen by every read that begins after it returned.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use super::shelf::Shelf;
use crate::model::{EntryId, MemoryOp, Result};
use crate::store::Store;

/// Bytes that loaded sessions may take together, roughly.
const BYTES_MAX: usize = 512 << 20;
/// Operations that may wait for a session's next reader; beyond, it is loaded anew.
const PENDING_MAX: usize = 16_384;

/// The loaded sessions.
#[derive(Default)]
pub struct Shelves {
    open: Mutex<HashMap<Arc<str>, Arc<Open>>>,
    clock: AtomicU64,
}

/// A session that is loaded, or about to be.
pub(super) struct Open {
    session: Arc<str>,
    /// `None` until it is loaded, and again when it must be loaded anew.
    state: RwLock<Option<Shelf>>,
    pending: Mutex<Vec<MemoryOp>>,
    /// There is something in `pending`, or it ran over.
    news: AtomicBool,
    /// When it was last used, by the shelves' own count.
    used: AtomicU64,
}

impl Open {
    fn new(session: &str) -> Self {
        Self {
            session: session.into(),
            state: RwLock::new(None),
            pending: Mutex::default(),
            news: AtomicBool::new(false),
            used: AtomicU64::new(0),
        }
    }

    fn pending(&self) -> MutexGuard<'_, Vec<MemoryOp>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, op: &MemoryOp) {
        let mut pending = self.pending();
        if pending.len() <= PENDING_MAX {
            pending.push(op.clone());
        }
        self.news.store(true, Ordering::Release);
    }

    /// Loads the session, or takes up what was committed since.
    fn refresh(&self, store: &dyn Store) -> Result<()> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        // Taken under the lock for writing: operations are applied in the order of their commits.
        // From here on news count again; what comes while the store is read is applied a second time,
        // which changes nothing (see `model::memory`).
        self.news.store(false, Ordering::Release);
        let pending = std::mem::take(&mut *self.pending());
        match &mut *state {
            Some(shelf) if pending.len() <= PENDING_MAX => {
                pending.iter().for_each(|op| shelf.apply(op));
            }
            _ => {
                *state = None;
                let forgetting = store.forgetting(&self.session)?;
                *state = Some(Shelf::new(store.memories(&self.session)?, forgetting));
            }
        }
        Ok(())
    }

    /// Looks at the session as it is now.
    pub(super) fn read<R>(&self, store: &dyn Store, look: impl Fn(&Shelf) -> R) -> Result<R> {
        loop {
            let is_fresh = |state: &RwLockReadGuard<'_, Option<Shelf>>| {
                state.is_some() && !self.news.load(Ordering::Acquire)
            };
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            if is_fresh(&state)
                && let Some(shelf) = &*state
            {
                return Ok(look(shelf));
            }
            drop(state);
            self.refresh(store)?;
            // Under a steady stream of writes the session would never be fresh: what was committed
            // before we came is in it now, and that is what was promised.
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(shelf) = &*state {
                return Ok(look(shelf));
            }
        }
    }

    /// Looks at the session as it would be with operations that are not committed (yet): those of a
    /// task that asks. Nobody else sees them.
    pub(super) fn read_with<R>(
        &self,
        store: &dyn Store,
        ops: &[MemoryOp],
        look: impl Fn(&Shelf) -> R,
    ) -> Result<R> {
        if ops.is_empty() {
            return self.read(store, look);
        }
        self.refresh(store)?;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let Some(shelf) = &mut *state else {
            drop(state);
            return self.read(store, look);
        };
        let before: Vec<_> = touched(ops).map(|id| (id, shelf.get(id).cloned())).collect();
        ops.iter().for_each(|op| shelf.apply(op));
        let seen = look(shelf);
        for (id, old) in before {
            shelf.remove(id);
            old.into_iter().for_each(|old| shelf.put(old));
        }
        Ok(seen)
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.state.try_read().is_ok_and(|state| state.is_some())
    }

    fn bytes(&self) -> usize {
        let state = self.state.try_read();
        state.map_or(0, |state| state.as_ref().map_or(0, |shelf| shelf.bytes))
    }
}

/// The entries that operations change.
fn touched(ops: &[MemoryOp]) -> impl Iterator<Item = EntryId> {
    let ids = ops.iter().flat_map(|op| match op {
        MemoryOp::Put(memorized) => vec![memorized.entry.id],
        MemoryOp::Vector { id, .. } | MemoryOp::Review { id, .. } => vec![*id],
        MemoryOp::Forget { ids, .. } => ids.clone(),
        MemoryOp::DeleteSession { .. } | MemoryOp::Model(_) | MemoryOp::Forgetting { .. } => {
            Vec::new()
        }
    });
    ids.collect::<BTreeSet<_>>().into_iter()
}

impl Shelves {
    fn open(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Open>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves operations that were committed, in order, for whoever reads next. Never blocks for long:
    /// no index is touched.
    pub fn committed(&self, ops: &[MemoryOp]) {
        let open = self.open();
        for op in ops {
            if let Some(session) = op.session()
                && let Some(open) = open.get(session)
            {
                open.push(op);
            }
        }
    }

    /// The session, to be loaded by its first reader. From now on nothing committed passes it by.
    pub(super) fn of(&self, session: &str) -> Arc<Open> {
        let mut open = self.open();
        let used = self.clock.fetch_add(1, Ordering::Relaxed);
        let found = match open.get(session) {
            Some(found) => Arc::clone(found),
            None => {
                let made = Arc::new(Open::new(session));
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

    /// Lets go of the sessions that nobody has used for longest, while all take too much together.
    pub(super) fn trim(&self) {
        let mut all: Vec<_> = self.open().values().cloned().collect();
        let mut bytes: usize = all.iter().map(|open| open.bytes()).sum();
        if bytes <= BYTES_MAX {
            return;
        }
        all.sort_by_key(|open| open.used.load(Ordering::Relaxed));
        // The one used last stays, however large.
        for open in &all[..all.len() - 1] {
            if bytes <= BYTES_MAX {
                break;
            }
            bytes -= open.bytes();
            self.open().remove(&open.session);
        }
    }
}
