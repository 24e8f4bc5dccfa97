//! Entries that wait for their vector: those committed without one, in the order of their ids.
//!
//! The truth is the store's (`Store::unvectored`). Here is what was committed lately, up to a bound; what is
//! beyond it, or lies there since before this process, is fetched when the rest is done: page by page, in
//! passes through the store, of which one begins only where something may have been missed. So what nobody
//! can make a vector of is offered once a pass. Nothing is kept while nobody makes vectors.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::check;
use crate::model::{Entry, EntryId, MemoryOp, Result};
use crate::store::Store;

/// Entries that wait in RAM, and the bytes of their contents; more stay in the store alone.
const ENTRIES_MAX: usize = 16_384;
const BYTES_MAX: usize = 32 << 20;
/// Entries that are fetched at once.
const PAGE: usize = 256;
/// Longest wait, so that adding it to the clock cannot overflow: 34 years.
const PATIENCE_MAX: Duration = Duration::from_secs(1 << 30);
/// Entries that are remembered as refused; those beyond are offered again with the next pass.
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
    /// Those beyond `ASIDE_MAX` that this pass has met.
    beyond: u64,
    /// The store may have more than what waits here, and a pass is due.
    spilled: bool,
    /// How far the pass has come; `None` between two.
    passed: Option<Arc<Entry>>,
    /// Entries that may lack a vector at once.
    max: u64,
    /// How many do, since somebody had to count.
    lacking: Option<u64>,
    /// Fewer may than that.
    is_stale: bool,
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

    fn holds(&self, id: EntryId) -> bool {
        self.waiting.contains_key(&id) || self.in_hand.contains(&id) || self.aside.contains_key(&id)
    }

    fn follow(&mut self, op: &MemoryOp) {
        self.is_stale |= !matches!(op, MemoryOp::Put(_));
        match op {
            MemoryOp::Put(memorized) => {
                let lacks = memorized.vector_of(self.generation).is_none();
                if lacks && memorized.entry.wants_vector() {
                    // Put once more it is counted twice.
                    self.is_stale |= self.holds(memorized.entry.id);
                    self.lacking = self.lacking.map(|count| count + 1);
                    self.push(&memorized.entry);
                } else {
                    self.is_stale = true;
                    self.drop_waiting(memorized.entry.id);
                }
            }
            MemoryOp::Vector { id, generation, .. } if *generation == self.generation => {
                self.lacking = self.lacking.map(|count| count.saturating_sub(1));
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

    /// The store has nothing that is not here.
    fn is_known(&self) -> bool {
        !self.spilled && self.passed.is_none() && self.fetching == 0
    }

    fn is_idle(&self) -> bool {
        self.is_known() && self.waiting.is_empty() && self.in_hand.is_empty()
    }

    fn refused(&self) -> u64 {
        self.aside.len() as u64 + self.beyond
    }

    /// Entries that lack a vector, as far as that is known without counting.
    fn lacking(&self) -> Option<u64> {
        let here = (self.waiting.len() + self.in_hand.len()) as u64 + self.refused();
        self.lacking.or_else(|| self.is_known().then_some(here))
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
            (state.beyond, state.lacking, state.passed) = (0, None, None);
            state.spilled = state.watched;
        }
    }

    /// From now on somebody makes vectors: what the store has without one waits, too. More than `max`
    /// entries shall not wait at once.
    pub(super) fn watch(&self, max: u64) {
        let mut state = self.state();
        (state.watched, state.spilled, state.max) = (true, true, max);
    }

    /// Refuses `more` entries without a vector where too many wait for theirs. Calls at the same moment may
    /// pass together.
    ///
    /// # Errors
    /// `memory.backlog`, `store.*`.
    pub(super) fn admit(&self, more: u64, store: &dyn Store) -> Result<()> {
        {
            let state = self.state();
            let known = state.lacking();
            if more == 0 || !state.watched || known.is_some_and(|count| count + more <= state.max) {
                return Ok(());
            }
            if let Some(count) = state.lacking.filter(|_| !state.is_stale) {
                return Err(check::backlog(count, state.max));
            }
        }
        let count = store.unvectored_count()?;
        let mut state = self.state();
        (state.lacking, state.is_stale) = (Some(count), false);
        if count + more <= state.max { Ok(()) } else { Err(check::backlog(count, state.max)) }
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
            while state.waiting.is_empty()
                && !state.spilled
                && state.passed.is_none()
                && !state.closed
            {
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
            if state.passed.is_none() {
                // Before the store is read: what is committed meanwhile is noted here, or said to be there.
                (state.spilled, state.beyond) = (false, 0);
            }
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
        let mut after = self.state().passed.clone();
        loop {
            let from = after.as_ref().map(|entry| (&*entry.session, entry.id));
            let found = store.unvectored(from, PAGE)?;
            let mut state = self.state();
            for entry in &found {
                if !state.in_hand.contains(&entry.id) && !state.aside.contains_key(&entry.id) {
                    state.push(entry);
                }
            }
            after = found.last().filter(|_| found.len() == PAGE && !state.closed).cloned();
            state.passed = after.clone();
            if after.is_none() || !state.waiting.is_empty() {
                // The pass is over, or there is enough for now.
                return Ok(());
            }
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

    /// The embedder refuses this text: it is not offered again in this pass, nor in later ones while there is room.
    pub(super) fn set_aside(&self, id: EntryId, session: Arc<str>) {
        let mut state = self.state();
        state.in_hand.remove(&id);
        if state.aside.len() < ASIDE_MAX {
            state.aside.insert(id, session);
        } else {
            state.beyond += 1;
        }
        self.news.notify_all();
    }

    /// How many texts the embedder refuses.
    pub(super) fn refused(&self) -> u64 {
        self.state().refused()
    }

    /// Waits until nothing waits and nothing is in hand. False where the time is over first, or some
    /// texts are refused.
    pub(super) fn settled(&self, timeout: Duration) -> bool {
        let busy = |state: &mut State| !state.is_idle() && !state.closed;
        let waited = self.news.wait_timeout_while(self.state(), timeout.min(PATIENCE_MAX), busy);
        let state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.is_idle() && !state.closed && state.refused() == 0
    }
}
