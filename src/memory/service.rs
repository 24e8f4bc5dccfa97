//! The memory of a store: what it is made of, committing, looking up.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, RwLock};

use super::backlog::Backlog;
use super::check;
use super::cold::{Cellar, Cold};
use super::shelves::Shelves;
use super::sight::Sight;
use super::sweep::Tally;
use crate::math::fsrs::Fsrs;
use crate::model::{EntryId, Memorized, MemoryOp, Result, Timestamp, VectorModel};
use crate::store::Store;

/// Operations that go into one commit, and their bytes; more make several.
const OPS_PER_COMMIT: usize = 4_096;
const BYTES_PER_COMMIT: usize = 8 << 20;

/// What makes operations last.
pub trait Journal: Send + Sync {
    /// Returns when the operations are as durable as the engine promises, and the loaded sessions
    /// have been told (`Shelves::committed`). All or nothing.
    ///
    /// # Errors
    /// `engine.closed`, `store.*`: none of them was committed.
    fn commit(&self, ops: Vec<MemoryOp>) -> Result<()>;
}

/// Counts and sizes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    pub entries: u64,
    pub sessions: u64,
    pub vector_model: Option<VectorModel>,
    /// Sessions whose index was read from its file since the store was opened.
    pub indexes_loaded: u64,
    /// Files that could not be used: damaged, of another version or session, or far behind.
    pub indexes_rebuilt: u64,
    /// Files that were written.
    pub indexes_written: u64,
    /// Times that the vectors of a large session were put in cells.
    pub indexes_grouped: u64,
}

type Clock = Box<dyn Fn() -> Timestamp + Send + Sync>;

/// The memory of a store. Shared by everybody who remembers there.
pub struct Memory {
    pub(super) store: Arc<dyn Store>,
    pub(super) journal: Arc<dyn Journal>,
    shelves: Arc<Shelves>,
    /// How memories are forgotten where their session does not say.
    pub(super) usual: RwLock<Arc<Fsrs>>,
    pub(super) tally: Tally,
    clock: Clock,
    pub(super) ids: Mutex<ulid::Generator>,
    pub(super) model: RwLock<Option<VectorModel>>,
    /// Where memories lie that are hardly asked for.
    pub(super) cold: Option<Cold>,
    /// Held while the model is settled, so that two first vectors cannot settle two.
    pub(super) settling: Mutex<()>,
}

impl Memory {
    /// The memory of a store that is open.
    ///
    /// # Errors
    /// `store.*`
    pub fn new(
        store: Arc<dyn Store>,
        journal: Arc<dyn Journal>,
        shelves: Arc<Shelves>,
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Result<Self> {
        shelves.keep_in(&store)?;
        let model = store.vector_model()?;
        shelves.backlog.renew(model.as_ref().map_or(0, |model| model.generation));
        Ok(Self {
            model: RwLock::new(model),
            store,
            journal,
            shelves,
            usual: RwLock::new(Arc::new(Fsrs::agent())),
            tally: Tally::default(),
            clock: Box::new(clock),
            ids: Mutex::default(),
            cold: None,
            settling: Mutex::default(),
        })
    }

    /// Refuses what is no session's key.
    ///
    /// # Errors
    /// `memory.session`
    pub fn check_session(session: &str) -> Result<()> {
        check::session(session)
    }

    /// Gives it a cold tier.
    #[must_use]
    pub fn with_cold(mut self, cellar: Option<Cellar>) -> Self {
        self.cold = cellar.map(Cold::new);
        if let Some(cold) = &self.cold {
            // The shelves are this memory's own, so nobody was there before.
            let _ = self.shelves.doomed.set(Arc::clone(&cold.doomed));
        }
        self
    }

    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    pub(super) fn backlog(&self) -> &Backlog {
        &self.shelves.backlog
    }

    /// What sweeps and repetitions came to since the memory was opened.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Commits operations; returns when they last and every index knows them.
    ///
    /// # Errors
    /// `engine.closed`, `store.*`.
    pub fn commit(&self, ops: Vec<MemoryOp>) -> Result<()> {
        let sessions: Vec<Arc<str>> =
            ops.first().and_then(MemoryOp::session).cloned().into_iter().collect();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for op in ops {
            bytes += weight(&op);
            batch.push(op);
            if batch.len() >= OPS_PER_COMMIT || bytes >= BYTES_PER_COMMIT {
                self.journal.commit(std::mem::take(&mut batch))?;
                bytes = 0;
            }
        }
        if !batch.is_empty() {
            self.journal.commit(batch)?;
        }
        // Where the session is loaded, its indexes are brought up to date by whoever wrote.
        for session in sessions {
            if let Some(open) = self.shelves.if_open(&session) {
                // Committed it is, whatever comes of the index: the next reader tries again.
                if let Err(error) = open.catch_up(&*self.store) {
                    tracing::warn!(target: "goclaw.memory", %session, "index not brought up to date: {error}");
                }
            }
        }
        Ok(())
    }

    /// Looks at a session, loading it first where nobody has.
    pub(super) fn look<R>(
        &self,
        session: &str,
        look: impl Fn(&Sight<'_>) -> Result<R>,
    ) -> Result<R> {
        self.look_with(session, &[], look)
    }

    /// Looks at a session as it would be with operations that are not committed.
    pub(super) fn look_with<R>(
        &self,
        session: &str,
        ops: &[MemoryOp],
        look: impl Fn(&Sight<'_>) -> Result<R>,
    ) -> Result<R> {
        let open = self.shelves.of(session);
        let was_open = open.is_loaded();
        let seen = check::unless_closed(open.read_with(&*self.store, ops, look))?;
        if !was_open {
            self.shelves.trim();
        }
        Ok(seen)
    }

    /// The latest `n` memories of a session, latest first.
    ///
    /// # Errors
    /// `memory.session`, `engine.closed`, `store.*`.
    pub fn recent(&self, session: &str, n: usize) -> Result<Vec<Memorized>> {
        self.recent_with(session, n, &[])
    }

    /// As `recent`, with operations of the session laid over it that are not committed (yet).
    ///
    /// # Errors
    /// As `recent`.
    pub fn recent_with(&self, session: &str, n: usize, ops: &[MemoryOp]) -> Result<Vec<Memorized>> {
        check::session(session)?;
        let latest = self.look_with(session, ops, |sight| {
            sight.read(sight.slots(None).rev().take(n).map(|(id, _)| id))
        });
        self.whole(session, latest?)
    }

    /// Up to `limit` memories of a session, oldest first, from behind `after` on.
    ///
    /// # Errors
    /// `memory.session`, `engine.closed`, `store.*`.
    pub fn list(
        &self,
        session: &str,
        after: Option<EntryId>,
        limit: usize,
    ) -> Result<Vec<Memorized>> {
        self.list_with(session, after, limit, &[])
    }

    /// As `list`, with operations of the session laid over it that are not committed (yet).
    ///
    /// # Errors
    /// As `list`.
    pub fn list_with(
        &self,
        session: &str,
        after: Option<EntryId>,
        limit: usize,
        ops: &[MemoryOp],
    ) -> Result<Vec<Memorized>> {
        check::session(session)?;
        let page = self.look_with(session, ops, |sight| {
            sight.read(sight.slots(after).take(limit).map(|(id, _)| id))
        });
        self.whole(session, page?)
    }

    /// A memory by its id; `None` where there is none, or `session` is given and not its own.
    ///
    /// # Errors
    /// `memory.session`, `memory.tier`, `engine.closed`, `store.*`.
    pub fn get(&self, id: EntryId, session: Option<&str>) -> Result<Option<Memorized>> {
        self.get_with(id, session, &[])
    }

    /// As `get`, with operations of the session laid over it that are not committed (yet).
    ///
    /// # Errors
    /// As `get`.
    pub fn get_with(
        &self,
        id: EntryId,
        session: Option<&str>,
        ops: &[MemoryOp],
    ) -> Result<Option<Memorized>> {
        let Some(found) = self.get_stub(id, session, ops)? else { return Ok(None) };
        let session = Arc::clone(&found.entry.session);
        Ok(self.whole(&session, vec![found])?.pop())
    }

    /// As `get`, without the content of what lies in a cold tier.
    pub(super) fn get_stub(
        &self,
        id: EntryId,
        session: Option<&str>,
        ops: &[MemoryOp],
    ) -> Result<Option<Memorized>> {
        let session = match session {
            Some(session) => {
                check::session(session)?;
                session.into()
            }
            None => match check::unless_closed(self.store.session_of(id))? {
                Some(session) => session,
                None => return Ok(None),
            },
        };
        self.look_with(&session, ops, |sight| sight.get(id))
    }

    /// How many memories a session has, or all sessions together.
    ///
    /// # Errors
    /// `memory.session`, `engine.closed`, `store.*`.
    pub fn count(&self, session: Option<&str>) -> Result<u64> {
        self.count_with(session, &[])
    }

    /// As `count`, with operations of the session laid over it that are not committed (yet).
    ///
    /// # Errors
    /// As `count`.
    pub fn count_with(&self, session: Option<&str>, ops: &[MemoryOp]) -> Result<u64> {
        match session {
            Some(session) => {
                check::session(session)?;
                self.look_with(session, ops, |sight| Ok(sight.len() as u64))
            }
            None => Ok(self.stats()?.entries),
        }
    }

    /// Up to `limit` sessions that remember something, by name, with their numbers of entries.
    ///
    /// # Errors
    /// `engine.closed`, `store.*`.
    pub fn sessions(&self, after: Option<&str>, limit: usize) -> Result<Vec<(Arc<str>, u64)>> {
        check::unless_closed(self.store.sessions(after, limit))
    }

    /// Counts over all sessions.
    ///
    /// # Errors
    /// `engine.closed`, `store.*`.
    pub fn stats(&self) -> Result<Stats> {
        let sessions = self.sessions(None, usize::MAX)?;
        let counts = &self.shelves.desk().counts;
        Ok(Stats {
            indexes_loaded: counts.loaded.load(Ordering::Relaxed),
            indexes_rebuilt: counts.rebuilt.load(Ordering::Relaxed),
            indexes_written: counts.written.load(Ordering::Relaxed),
            indexes_grouped: counts.grouped.load(Ordering::Relaxed),
            entries: sessions.iter().map(|(_, count)| count).sum(),
            sessions: sessions.len() as u64,
            vector_model: self.vector_model(),
        })
    }
}

/// Roughly the bytes that an operation takes in the journal.
fn weight(op: &MemoryOp) -> usize {
    match op {
        MemoryOp::Put(memorized) => {
            let entry = &memorized.entry;
            let vector = memorized.vector.as_ref().map_or(0, |vector| vector.bytes().len());
            256 + entry.content.len() + entry.metadata.as_ref().map_or(0, String::len) + vector
        }
        MemoryOp::Back { content, vector, .. } => 128 + content.len() + vector.bytes().len(),
        MemoryOp::Forget { ids, .. } | MemoryOp::Copy { ids, .. } | MemoryOp::Gone { ids, .. } => {
            64 + 20 * ids.len()
        }
        MemoryOp::Move { moved, .. } => 64 + 30 * moved.len(),
        MemoryOp::Vector { vector, .. } => 128 + vector.bytes().len(),
        _ => 128,
    }
}
