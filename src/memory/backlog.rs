//! Entries that wait for their vector: those committed without one, in the order of their ids.
//!
//! The truth is the store's (`Store::unvectored`). Here is what was committed lately, up to a bound; what is
//! beyond it, or lies there since before this process, is fetched when the rest is done. Nothing is kept
//! while nobody makes vectors.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::model::{Entry, EntryId, MemoryOp, Result};
use crate::store::Store;

/// Entries that wait in RAM, and the bytes of their contents; more stay in the store alone.
const ENTRIES_MAX: usize = 16_384;
const BYTES_MAX: usize = 32 << 20;
/// Entries that are fetched at once.
const PAGE: usize = 256;
/// Longest wait, so that adding it to the clock cannot overflow: 34 years.
const PATIENCE_MAX: Duration = Duration::from_secs(1 << 30);
/// Entries that may be set aside; beyond, they wait like all others.
const ASIDE_MAX: usize = 10_000;

/// Entries to make vectors for, and the generation that the vectors will be of.
pub struct Work {
    pub generation: u32,
    pub entries: Vec<Arc<Entry>>,
}

#[derive(Default)]
pub(super) struct Backlog {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Default)]
struct State {
    /// Somebody makes vectors.
    watched: bool,
    closed: bool,
    generation: u32,
    waiting: BTreeMap<EntryId, Arc<Entry>>,
    /// Of the contents in `waiting`.
    bytes: usize,
    /// Somebody makes their vectors.
    in_hand: HashSet<EntryId>,
    /// The embedder refuses their texts; with their sessions.
    aside: HashMap<EntryId, Arc<str>>,
    /// The store may have more than what waits here.
    spilled: bool,
    /// How many look there now.
    fetching: u32,
}

impl State {
    fn push(&mut self, entry: &Arc<Entry>) {
        let is_full = self.waiting.len() >= ENTRIES_MAX || self.bytes >= BYTES_MAX;
        if is_full {
            self.spilled = true;
        } else if self.waiting.insert(entry.id, Arc::clone(entry)).is_none() {
            self.bytes += entry.content.len();
        }
    }

    fn drop_waiting(&mut self, id: EntryId) {
        if let Some(entry) = self.waiting.remove(&id) {
            self.bytes -= entry.content.len();
        }
        self.aside.remove(&id);
    }

    fn follow(&mut self, op: &MemoryOp) {
        match op {
            MemoryOp::Put(memorized) => {
                let lacks = memorized.vector_of(self.generation).is_none();
                if lacks && memorized.entry.wants_vector() {
                    self.push(&memorized.entry);
                } else {
                    self.drop_waiting(memorized.entry.id);
                }
            }
            MemoryOp::Vector { id, generation, .. } if *generation == self.generation => {
                self.drop_waiting(*id);
            }
            MemoryOp::Forget { ids, .. } => ids.iter().for_each(|id| self.drop_waiting(*id)),
            MemoryOp::DeleteSession { session } => {
                self.waiting.retain(|_, entry| entry.session != *session);
                self.bytes = self.waiting.values().map(|entry| entry.content.len()).sum();
                self.aside.retain(|_, of| of != session);
            }
            // What has gone needs none where it is.
            MemoryOp::Move { moved, .. } => {
                moved.iter().for_each(|(id, _)| self.drop_waiting(*id));
            }
            MemoryOp::Model(_)
            | MemoryOp::Back { .. }
            | MemoryOp::Copy { .. }
            | MemoryOp::Gone { .. }
            | MemoryOp::Vector { .. }
            | MemoryOp::Review { .. }
            | MemoryOp::Forgetting { .. } => {}
        }
    }

    fn take(&mut self, limit: usize, bytes_max: usize) -> Work {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while entries.len() < limit.max(1)
            && let Some(next) = self.waiting.first_entry()
        {
            bytes += next.get().content.len();
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            let entry = next.remove();
            self.bytes -= entry.content.len();
            self.in_hand.insert(entry.id);
            entries.push(entry);
        }
        Work { generation: self.generation, entries }
    }

    fn is_idle(&self) -> bool {
        let is_known = !self.spilled && self.fetching == 0;
        is_known && self.waiting.is_empty() && self.in_hand.is_empty()
    }
}

impl Backlog {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of which generation the store's vectors are.
    pub(super) fn generation(&self) -> u32 {
        self.state().generation
    }

    /// Another generation of vectors is in use: what was refused may be accepted now.
    pub(super) fn renew(&self, generation: u32) {
        let mut state = self.state();
        if state.generation != generation {
            state.generation = generation;
            state.aside.clear();
            state.spilled = state.watched;
        }
    }

    /// From now on somebody makes vectors: what the store has without one waits, too.
    pub(super) fn watch(&self) {
        let mut state = self.state();
        (state.watched, state.spilled) = (true, true);
    }

    /// Nobody makes vectors any more; whoever waits for something here waits no longer.
    pub(super) fn close(&self) {
        let mut state = self.state();
        let generation = state.generation;
        *state = State { closed: true, generation, ..State::default() };
        self.news.notify_all();
    }

    /// Something waits or is in hand.
    pub(super) fn is_busy(&self) -> bool {
        let state = self.state();
        !state.is_idle() && !state.closed
    }

    pub(super) fn is_watched(&self) -> bool {
        self.state().watched
    }

    /// Follows an operation that was committed.
    pub(super) fn follow(&self, op: &MemoryOp) {
        let mut state = self.state();
        if state.watched {
            state.follow(op);
            self.news.notify_all();
        }
    }

    /// Takes entries in hand, waiting up to `patience` for the first. `None` once it is closed.
    ///
    /// # Errors
    /// `store.*`
    pub(super) fn take(
        &self,
        limit: usize,
        bytes_max: usize,
        patience: Duration,
        store: &dyn Store,
    ) -> Result<Option<Work>> {
        let deadline = Instant::now() + patience.min(PATIENCE_MAX);
        loop {
            let mut state = self.state();
            while state.waiting.is_empty() && !state.spilled && !state.closed {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(Some(state.take(0, 0)));
                }
                let woken = self.news.wait_timeout(state, left);
                state = woken.unwrap_or_else(PoisonError::into_inner).0;
            }
            if state.closed {
                return Ok(None);
            }
            if !state.waiting.is_empty() {
                return Ok(Some(state.take(limit, bytes_max)));
            }
            drop(state);
            self.fetch(store)?;
        }
    }

    /// Fetches what the store has beyond what waits here.
    fn fetch(&self, store: &dyn Store) -> Result<()> {
        {
            let mut state = self.state();
            // Before the store is read: what is committed meanwhile is noted here, or said to be there.
            state.spilled = false;
            state.fetching += 1;
        }
        let fetched = self.fetch_pages(store);
        let mut state = self.state();
        state.fetching = state.fetching.saturating_sub(1);
        state.spilled |= fetched.is_err() && state.watched;
        self.news.notify_all();
        fetched
    }

    fn fetch_pages(&self, store: &dyn Store) -> Result<()> {
        let mut after: Option<Arc<Entry>> = None;
        loop {
            let from = after.as_ref().map(|entry| (&*entry.session, entry.id));
            let found = store.unvectored(from, PAGE)?;
            let mut state = self.state();
            for entry in &found {
                if !state.in_hand.contains(&entry.id) && !state.aside.contains_key(&entry.id) {
                    state.push(entry);
                }
            }
            if found.len() < PAGE || state.closed {
                return Ok(());
            }
            if !state.waiting.is_empty() {
                // Enough for now.
                state.spilled = true;
                return Ok(());
            }
            after = found.last().cloned();
        }
    }

    /// These are in nobody's hand any more. Without `stored` they wait again.
    pub(super) fn let_go(&self, ids: impl IntoIterator<Item = EntryId>, stored: bool) {
        let mut state = self.state();
        for id in ids {
            state.in_hand.remove(&id);
        }
        state.spilled |= !stored && state.watched;
        self.news.notify_all();
    }

    /// The embedder refuses this text: it is not offered again.
    pub(super) fn set_aside(&self, id: EntryId, session: Arc<str>) {
        let mut state = self.state();
        state.in_hand.remove(&id);
        if state.aside.len() < ASIDE_MAX {
            state.aside.insert(id, session);
        } else {
            state.spilled = true;
        }
        self.news.notify_all();
    }

    /// How many texts the embedder refuses.
    pub(super) fn refused(&self) -> u64 {
        self.state().aside.len() as u64
    }

    /// Waits until nothing waits and nothing is in hand. False where the time is over first, or some
    /// texts are refused.
    pub(super) fn settled(&self, timeout: Duration) -> bool {
        let busy = |state: &mut State| !state.is_idle() && !state.closed;
        let waited = self.news.wait_timeout_while(self.state(), timeout.min(PATIENCE_MAX), busy);
        let state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.is_idle() && !state.closed && state.aside.is_empty()
    }
}
