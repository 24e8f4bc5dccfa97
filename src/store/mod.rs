//! What lasts: the journal, its checkpoints in LMDB, and a store in RAM for throw-away engines.
//!
//! A run *is* its records: state is never stored, it is the replay of them (`run::replay`). So a
//! checkpoint moves records from journal segments into LMDB, and loading a run reads them back.
//! Knows nothing of lanes, agents, Python.

use crate::model::{BlobHash, Fact, Record, Result, RunId, RunState, Timestamp, Workflow};

/// One line of a listing of runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    pub run: RunId,
    pub workflow: String,
    pub state: RunState,
    pub tags: Vec<String>,
    pub submitted: Timestamp,
    pub ended: Option<Timestamp>,
}

/// Which runs a listing shows, newest first.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub state: Option<RunState>,
    pub workflow: Option<String>,
    pub tag: Option<String>,
    /// Only runs older than this one (the cursor of the page before).
    pub after: Option<RunId>,
    pub limit: usize,
}

/// Where records go and come from. Writing is the owner thread's; reading is anybody's.
pub trait Store: Send + Sync {
    /// First sequence number not yet used.
    fn next_seq(&self) -> u64;
    /// Counts openings of this store; fences results of earlier ones.
    fn epoch(&self) -> u64;
    /// Runs that had not ended when the store was opened, oldest first.
    fn unfinished(&self) -> Result<Vec<RunId>>;
    /// Writes records in order. Not durable before `sync`. All or nothing: after an error the same
    /// records may be appended again.
    fn append(&self, records: &[Record]) -> Result<()>;
    /// Makes everything appended so far durable.
    fn sync(&self) -> Result<()>;
    /// Every record of a run, oldest first, workflows and blobs resolved. `None`: no such run, or
    /// (in RAM) the store keeps no payloads.
    fn load(&self, run: RunId) -> Result<Option<Vec<Record>>>;
    /// Up to `limit` facts of a run (or of all runs, in order) with `seq >= from`.
    fn facts(&self, run: Option<RunId>, from: u64, limit: usize) -> Result<Vec<Fact>>;
    fn summary(&self, run: RunId) -> Result<Option<Summary>>;
    fn list(&self, filter: &Filter) -> Result<Vec<Summary>>;
    /// Forgets finished runs: all that ended before `before`, or the one named.
    fn purge(&self, run: Option<RunId>, before: Timestamp) -> Result<u64>;
    /// Checkpoints what is worth it, gives the lock back. Further calls answer `store.closed`.
    fn close(&self) -> Result<()>;
}

/// stub until the store lands
pub fn open(_path: Option<&std::path::Path>) -> Result<std::sync::Arc<dyn Store>> {
    todo!()
}
