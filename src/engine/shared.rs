//! What all handles of an engine share: the way to the owner, the store, the plans in use.

use std::collections::HashMap;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak, mpsc};
use std::thread;

use super::inbox::{Inbox, Message};
use super::incompatible::Incompatible;
use super::options::Closed;
use super::refusal;
use super::watch::Watch;
use crate::agent::Reports;
use crate::memory::{Memory, Shelves};
use crate::model::{BlobHash, Durability, Error, Record, Result, RunId, Stats, Submitted};
use crate::plan::{self, Plan};
use crate::run::{self, Run};
use crate::store::Store;

/// What all handles of an engine share.
pub(super) struct Shared {
    pub(super) inbox: Arc<Inbox>,
    pub(super) store: Arc<dyn Store>,
    pub(super) stats: Arc<Stats>,
    pub(super) memory: Arc<Memory>,
    pub(super) watch: Arc<Watch>,
    pub(super) incompatible: Arc<Incompatible>,
    pub(super) path: Option<PathBuf>,
    pub(super) durability: Durability,
    pub(super) recovered: usize,
    /// Plans by definition, so that runs of one workflow share theirs.
    pub(super) plans: Plans,
    pub(super) ids: Mutex<ulid::Generator>,
    pub(super) owner: Mutex<Option<thread::JoinHandle<()>>>,
    pub(super) closed: Ending,
}

/// What was left when the engine closed, once it has; several may wait for it.
#[derive(Default)]
pub(super) struct Ending {
    closed: Mutex<Option<Closed>>,
    known: Condvar,
}

impl Ending {
    /// Tells everybody; what was told first stands.
    pub(super) fn settle(&self, closed: Closed) -> Closed {
        let mut known = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let told = known.get_or_insert(closed).clone();
        self.known.notify_all();
        told
    }

    pub(super) fn wait(&self) -> Closed {
        let known = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.known.wait_while(known, |known| known.is_none());
        known.unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default()
    }
}

/// What the owner writes and all handles read.
#[derive(Clone, Default)]
pub(super) struct Views {
    pub(super) stats: Arc<Stats>,
    pub(super) watch: Arc<Watch>,
    pub(super) incompatible: Arc<Incompatible>,
    pub(super) plans: Plans,
    /// Sessions of memory that are loaded.
    pub(super) shelves: Arc<Shelves>,
}

/// Plans by definition. Weak: a plan lives as long as a run needs it.
#[derive(Clone, Default)]
pub(super) struct Plans(Arc<Mutex<HashMap<BlobHash, Weak<Plan>>>>);

impl Plans {
    /// The plan of a stored definition.
    pub(super) fn of(&self, submitted: &Submitted) -> Result<Arc<Plan>> {
        let mut plans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = plans.get(&submitted.definition).and_then(Weak::upgrade) {
            return Ok(plan);
        }
        let workflow = submitted.workflow.as_ref().ok_or_else(|| {
            Error::new(
                "store.corrupt",
                "a run's workflow definition is missing",
                "restore the store from a backup",
            )
        })?;
        let plan = Arc::new(plan::restore(Arc::clone(workflow))?);
        plans.retain(|_, plan| plan.strong_count() > 0);
        plans.insert(submitted.definition, Arc::downgrade(&plan));
        Ok(plan)
    }
}

impl Shared {
    /// True where these reports come to this engine.
    pub(super) fn takes(&self, reports: &Arc<dyn Reports>) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.inbox), Arc::as_ptr(reports))
    }

    pub(super) fn is_memory(&self) -> bool {
        self.path.is_none()
    }

    /// Loads a run from the store.
    pub(super) fn load(&self, id: RunId) -> Result<Arc<Run>> {
        let records =
            unless_closed(self.store.load(id))?.ok_or_else(|| refusal::unknown_run(id))?;
        replay(id, &records, &self.plans).map(Arc::new)
    }

    /// Loads a live run as it is on the durable side: without what waits for a sync.
    pub(super) fn load_visible(&self, id: RunId) -> Result<Run> {
        let visible = self.watch.visible();
        let mut records = unless_closed(self.store.load(id))?.unwrap_or_default();
        records.retain(|record| record.seq < visible);
        if records.is_empty() {
            return Err(refusal::unknown_run(id));
        }
        replay(id, &records, &self.plans)
    }
}

/// Rebuilds a run from its records.
///
/// # Errors
/// `store.corrupt` where they are damaged; `run.incompatible` where this version cannot make sense
/// of them.
pub(super) fn replay(id: RunId, records: &[Record], plans: &Plans) -> Result<Run> {
    let run = || run::replay(records, |submitted| plans.of(submitted));
    // A history that does not fit its plan may end in a panic. Nothing but the run is touched here.
    let replayed = panic::catch_unwind(AssertUnwindSafe(run));
    match replayed {
        Ok(Err(error)) if !error.code.starts_with("store.") => {
            Err(refusal::incompatible(id, &error.message))
        }
        Ok(replayed) => replayed,
        Err(_) => Err(refusal::incompatible(id, "its records do not fit its workflow")),
    }
}

/// The store closes with its engine: whoever asks later is told of the engine.
pub(super) fn unless_closed<T>(answer: Result<T>) -> Result<T> {
    answer.map_err(|error| if error.code == "store.closed" { refusal::closed() } else { error })
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The last handle is gone: nobody can wait for anything any more.
        let (reply, _) = mpsc::sync_channel(1);
        let _ = self.inbox.push(Message::Close { drain: 0, reply });
    }
}
