//! One session that is loaded: read, brought up to date, kept.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use super::image::{self, Frame};
use super::keeper::{Counts, Desk};
use super::shelf::{HERE, Shelf, Slots};
use super::sight::{Own, Sight};
use crate::index::vector::VectorIndex;
use crate::model::{EntryId, Error, Memorized, MemoryOp, Result};
use crate::store::{IndexSource, Memories, Store, View};

/// Operations that may wait for a session's next reader; beyond, it is loaded anew.
const PENDING_MAX: usize = 16_384;

/// A session that is loaded, or about to be.
pub(super) struct Open {
    pub(super) session: Arc<str>,
    /// `None` until it is loaded, and again when it must be loaded anew.
    state: RwLock<Option<Shelf>>,
    pending: Mutex<Vec<MemoryOp>>,
    /// There is something in `pending`, or it ran over.
    news: AtomicBool,
    /// All vectors are void: it is loaded anew.
    is_void: AtomicBool,
    /// When it was last used, by the shelves' own count.
    pub(super) used: AtomicU64,
    /// Its vectors are being put in cells: it is not let go of.
    pub(super) is_grouped: AtomicBool,
    desk: Arc<Desk>,
}

impl Open {
    pub(super) fn new(session: &str, desk: &Arc<Desk>) -> Self {
        Self {
            desk: Arc::clone(desk),
            session: session.into(),
            state: RwLock::new(None),
            pending: Mutex::default(),
            news: AtomicBool::new(false),
            is_void: AtomicBool::new(false),
            used: AtomicU64::new(0),
            is_grouped: AtomicBool::new(false),
        }
    }

    fn pending(&self) -> MutexGuard<'_, Vec<MemoryOp>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, op: &MemoryOp) {
        let mut pending = self.pending();
        if pending.len() <= PENDING_MAX {
            pending.push(op.clone());
        }
        self.news.store(true, Ordering::Release);
    }

    /// Has it loaded anew by whoever reads next.
    pub(super) fn void(&self) {
        self.is_void.store(true, Ordering::Release);
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
        let is_void = self.is_void.swap(false, Ordering::AcqRel);
        match &mut *state {
            Some(shelf) if pending.len() <= PENDING_MAX && !is_void => {
                pending.iter().for_each(|op| shelf.apply(op));
                if let Err(error) = look_again(store, &self.session, &pending, shelf) {
                    *state = None;
                    return Err(error);
                }
            }
            _ => {
                *state = None;
                let forgetting = store.forgetting(&self.session)?;
                let mut shelf = load(store, &self.session, &self.desk.counts)?;
                shelf.forget_like(forgetting.as_ref());
                *state = Some(shelf);
            }
        }
        if let Some(shelf) = state.as_ref().filter(|_| store.keeps_indexes()) {
            let (changes, losses) = shelf.unkept.get();
            self.desk.changed(&self.session, shelf.len(), changes, losses);
            let grouping = &self.desk.habits.grouping;
            if shelf.vectors.as_ref().is_some_and(|index| index.wants_grouping(HERE, grouping)) {
                self.desk.outgrew(&self.session);
            }
        }
        Ok(())
    }

    /// Loads the session, or takes up what was committed since, unless that is done.
    pub(super) fn catch_up(&self, store: &dyn Store) -> Result<()> {
        let is_fresh = self.is_loaded() && !self.news.load(Ordering::Acquire);
        if is_fresh { Ok(()) } else { self.refresh(store) }
    }

    /// Changes and losses that the session's file lacks.
    pub(super) fn unkept(&self) -> (u64, u64) {
        let (changes, losses) = self.state().as_ref().map_or((0, 0), |shelf| shelf.unkept.get());
        (changes + self.pending().len() as u64, losses)
    }

    fn state(&self) -> RwLockReadGuard<'_, Option<Shelf>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the session as it is now.
    pub(super) fn read<R>(
        &self,
        store: &dyn Store,
        look: impl Fn(&Sight<'_>) -> Result<R>,
    ) -> Result<R> {
        let own = Own::new();
        let mut is_fresh = !self.news.load(Ordering::Acquire);
        loop {
            let state = self.state();
            // Under a steady stream of writes the session would never be fresh: what was committed
            // before we came is in it after one turn, and that is what was promised.
            if is_fresh && let Some(shelf) = &*state {
                return seen(store, &self.session, |view| look(&Sight::new(shelf, view, &own)));
            }
            drop(state);
            self.refresh(store)?;
            is_fresh = true;
        }
    }

    /// Looks at the session as it would be with operations that are not committed (yet): those of a
    /// task that asks. Nobody else sees them.
    pub(super) fn read_with<R>(
        &self,
        store: &dyn Store,
        ops: &[MemoryOp],
        look: impl Fn(&Sight<'_>) -> Result<R>,
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
        seen(store, &self.session, |view| {
            let mut before = Vec::new();
            for id in touched(ops) {
                let is_here = shelf.slot(id).is_some();
                before.push((id, if is_here { view.entry(id)? } else { None }));
            }
            let own = after(&before, ops);
            let unkept = shelf.unkept.get();
            ops.iter().for_each(|op| shelf.apply(op));
            let answer = look(&Sight::new(shelf, view, &own));
            for (id, old) in before {
                shelf.remove(id);
                old.iter().for_each(|old| shelf.put(old));
            }
            shelf.unkept.set(unkept);
            answer
        })
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.state.try_read().is_ok_and(|state| state.is_some())
    }

    pub(super) fn bytes(&self) -> usize {
        let state = self.state.try_read();
        state.map_or(0, |state| state.as_ref().map_or(0, Shelf::bytes))
    }

    /// Looks at the vectors as they are loaded; `None` where there are none.
    pub(super) fn vectors<R>(&self, look: impl FnOnce(&VectorIndex) -> R) -> Option<R> {
        self.state().as_ref()?.vectors.as_ref().map(look)
    }

    /// Changes how the vectors lie, and nothing that is true of them.
    pub(super) fn arrange(&self, change: impl FnOnce(&mut VectorIndex)) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let vectors = state.as_mut().and_then(|shelf| shelf.vectors.as_mut());
        if let Some(vectors) = vectors {
            change(vectors);
        }
    }

    /// Writes the session's index, if it is worth one; deletes it where it is not. `lost`: something
    /// in the file may not be remembered any more. Looks at the session in short turns.
    pub(super) fn keep(&self, store: &dyn Store, lost: bool) -> Result<()> {
        if self.state().is_some() {
            self.catch_up(store)?;
        }
        let (unkept, len) = {
            let state = self.state();
            let Some(shelf) = &*state else { return drop_if(lost, store, &self.session) };
            let unkept = shelf.unkept.get();
            shelf.unkept.set((0, 0));
            (unkept, shelf.len())
        };
        if len < self.desk.habits.entries_min {
            return store.drop_index(&self.session);
        }
        let written = self.write(store);
        if written.is_err()
            && let Some(shelf) = &*self.state()
        {
            let since = shelf.unkept.get();
            shelf.unkept.set((since.0 + unkept.0, since.1 + unkept.1));
        }
        written
    }

    fn write(&self, store: &dyn Store) -> Result<()> {
        let Some(mut file) = store.new_index(&self.session)? else { return Ok(()) };
        let done = (|| -> std::io::Result<()> {
            image::begin(&mut *file)?;
            let state = self.state();
            let first = state.as_ref().map(|it| (Frame::words_of(it), Frame::centres_of(it)));
            drop(state);
            let (words, centres) = first.ok_or_else(interrupted)?;
            image::frame(&mut *file, &words)?;
            centres.map_or(Ok(()), |centres| image::frame(&mut *file, &centres))?;
            let mut from = 0;
            loop {
                // What moves meanwhile is told from its stamps when the file is read.
                let state = self.state();
                let rows = Frame::rows_of(state.as_ref().ok_or_else(interrupted)?, from);
                drop(state);
                let Some(rows) = rows else { break };
                image::frame(&mut *file, &rows)?;
                from += image::ROWS;
            }
            image::frame(&mut *file, &Frame::end())
        })();
        done.map_err(|error| {
            let message = format!("cannot keep the index of a session: {error}");
            Error::new("store.io", message, "nothing is lost; it is tried again")
        })?;
        file.keep()?;
        Counts::count(&self.desk.counts.written);
        Ok(())
    }
}

pub(super) fn drop_if(lost: bool, store: &dyn Store, session: &str) -> Result<()> {
    if lost { store.drop_index(session) } else { Ok(()) }
}

fn interrupted() -> std::io::Error {
    std::io::Error::other("the session is being loaded anew")
}

/// Opens a view for `look`.
fn seen<R>(
    store: &dyn Store,
    session: &str,
    mut look: impl FnMut(&dyn View) -> Result<R>,
) -> Result<R> {
    let mut answer = None;
    store.view(session, &mut |view| {
        answer = Some(look(view)?);
        Ok(())
    })?;
    Ok(answer.expect("a store that shows a view has called"))
}

/// Loads a session: from its kept index where there is a sound one, or else from everything.
fn load(store: &dyn Store, session: &str, counts: &Counts) -> Result<Shelf> {
    let mut source = match store.read_index(session) {
        Ok(None) => return seen(store, session, Shelf::build),
        Ok(Some(source)) => Ok(Some(source)),
        Err(error) if error.code == "store.closed" => return Err(error),
        Err(error) => Err(error.message),
    };
    let restored = match &mut source {
        Ok(source) => seen(store, session, |view| match source.take() {
            Some(source) => restore(source, view),
            None => Ok(Err("it was looked at twice".to_owned())),
        })?,
        Err(why) => Err(std::mem::take(why)),
    };
    let why = match restored {
        Ok((shelf, behind)) => {
            tracing::debug!(target: "goclaw.memory", session, behind, "index read");
            Counts::count(&counts.loaded);
            return Ok(shelf);
        }
        Err(why) => why,
    };
    tracing::warn!(target: "goclaw.memory", session, "a kept index is built again: {why}");
    Counts::count(&counts.rebuilt);
    let shelf = seen(store, session, Shelf::build)?;
    // Whatever is in the file must leave it.
    shelf.unkept.set((shelf.len() as u64, 1));
    Ok(shelf)
}

/// Reads a kept index, and at the same time what is remembered; answers how many entries it lacked, too.
/// The inner error says why the index cannot be used.
fn restore(
    source: IndexSource,
    view: &dyn View,
) -> Result<std::result::Result<(Shelf, u64), String>> {
    let (image, slots) = std::thread::scope(|scope| {
        let image = scope.spawn(|| image::read(source));
        let slots = Slots::of(view);
        // A panic in there is one of ours: it goes on here.
        (image.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), slots)
    });
    Ok(match image {
        Ok(image) => Shelf::restore(image, slots?, view)?.ok_or("it is far behind".to_owned()),
        Err(fault) => Err(fault.to_string()),
    })
}

/// Reads again what moved to a cold tier or back: only the store knows whether it did.
fn look_again(store: &dyn Store, session: &str, ops: &[MemoryOp], shelf: &mut Shelf) -> Result<()> {
    let mut ids = BTreeSet::new();
    for op in ops {
        match op {
            MemoryOp::Move { moved, .. } => ids.extend(moved.iter().map(|(id, _)| *id)),
            MemoryOp::Back { id, .. } => drop(ids.insert(*id)),
            _ => {}
        }
    }
    if ids.is_empty() {
        return Ok(());
    }
    seen(store, session, |view| {
        for id in &ids {
            match view.entry(*id)? {
                Some(memorized) => shelf.put(&memorized),
                None => shelf.remove(*id),
            }
        }
        Ok(())
    })
}

/// What operations make of entries.
fn after(before: &[(EntryId, Option<Memorized>)], ops: &[MemoryOp]) -> Own {
    let there = before.iter().filter_map(|(id, old)| Some((*id, old.clone()?)));
    let mut entries: Memories = there.collect();
    ops.iter().for_each(|op| crate::store::apply(&mut entries, op));
    before.iter().map(|(id, _)| (*id, entries.remove(id))).collect()
}

/// The entries that operations change.
fn touched(ops: &[MemoryOp]) -> impl Iterator<Item = EntryId> {
    let ids = ops.iter().flat_map(|op| match op {
        MemoryOp::Put(memorized) => vec![memorized.entry.id],
        MemoryOp::Vector { id, .. } | MemoryOp::Review { id, .. } => vec![*id],
        MemoryOp::Forget { ids, .. } => ids.clone(),
        // No task moves memories.
        MemoryOp::Move { .. }
        | MemoryOp::Back { .. }
        | MemoryOp::Copy { .. }
        | MemoryOp::Gone { .. }
        | MemoryOp::DeleteSession { .. }
        | MemoryOp::Model(_)
        | MemoryOp::Forgetting { .. } => Vec::new(),
    });
    ids.collect::<BTreeSet<_>>().into_iter()
}
