//! What lasts: the journal, its checkpoints in LMDB, and a store in RAM for throw-away engines.
//!
//! A run *is* its records: state is never stored, it is the replay of them (`run::replay`). So a
//! checkpoint moves records from journal segments into LMDB, and loading a run reads them back.
//! Knows nothing of lanes, agents, Python.

mod disk;
mod facts;
mod memory;
mod ram;
mod ram_view;
mod summary;
#[cfg(test)]
mod tests;
mod view;

use std::path::Path;
use std::sync::Arc;

use crate::model::{
    Entry, EntryId, Fact, Forgetting, Record, Result, RunId, RunState, Timestamp, VectorModel,
};

pub use disk::DiskStore;
pub use memory::{Copies, Memories, apply, in_force};
pub use ram::RamStore;
pub use view::{IndexFile, IndexSource, Outline, Stamp, View, stamp_of_content, stamp_of_vector};

/// Which store this is, for those who keep something of it elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Drawn when the store was made; copies of it have the same.
    pub id: [u8; 16],
    /// Where it lies now.
    pub path: String,
}

/// One line of a listing of runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    pub run: RunId,
    pub workflow: String,
    pub state: RunState,
    pub tags: Vec<String>,
    pub session: Option<Arc<str>>,
    pub submitted: Timestamp,
    pub ended: Option<Timestamp>,
}

/// Which runs a listing shows, newest first.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub state: Option<RunState>,
    pub workflow: Option<String>,
    pub tag: Option<String>,
    pub session: Option<Arc<str>>,
    /// Only runs older than this one (the cursor of the page before).
    pub after: Option<RunId>,
    /// Longest listing; 0 lists nothing.
    pub limit: usize,
}

/// How a store on disk uses the disk. The defaults suit everybody; tests make things small.
#[derive(Clone, Debug)]
pub struct Options {
    /// Length of a journal segment in bytes.
    pub segment_bytes: u64,
    /// Address space that LMDB maps at first, in bytes; doubled when it is full.
    pub map_bytes: usize,
    /// Where the doubling ends.
    pub map_bytes_max: usize,
    /// A tail that nobody appends to is checkpointed after this long.
    pub idle: std::time::Duration,
    /// Sealed segments that may wait for their checkpoint before `append` waits too.
    pub sealed_segments_max: usize,
    /// False: nothing happens behind the line; only `close` and `purge` checkpoint. For tests.
    pub background: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            map_bytes: 64 << 30,
            map_bytes_max: 4 << 40,
            idle: std::time::Duration::from_secs(5),
            sealed_segments_max: 16,
            background: true,
        }
    }
}

/// Opens the store in directory `path`, made if it is not there; without a path, one in RAM.
///
/// # Errors
/// `store.locked`, `store.too_new`, `store.corrupt`, `store.full`, `store.io`.
pub fn open(path: Option<&Path>, options: &Options) -> Result<Arc<dyn Store>> {
    Ok(match path {
        Some(path) => Arc::new(DiskStore::open(path, options)?),
        None => Arc::new(RamStore::default()),
    })
}

/// Rewrites the store in `path`, which must not be open, so that what was deleted is gone from the disk.
/// Answers its bytes before and after.
///
/// # Errors
/// `store.missing`, `store.locked`, `store.too_new`, `store.corrupt`, `store.full`, `store.io`.
pub fn compact(path: &Path, options: &Options) -> Result<(u64, u64)> {
    DiskStore::compact(path, options)
}

/// Where records go and come from. Writing is the owner thread's; reading is anybody's.
pub trait Store: Send + Sync {
    /// First sequence number not yet used.
    fn next_seq(&self) -> u64;
    /// Which store it is; `None` for one in RAM, which nobody opens again.
    fn identity(&self) -> Result<Option<Identity>> {
        Ok(None)
    }
    /// Counts openings of this store; fences results of earlier ones.
    fn epoch(&self) -> u64;
    /// Bytes that appends have written since the store was opened.
    fn journal_bytes(&self) -> u64;
    /// Runs that had not ended when the store was opened, oldest first.
    fn unfinished(&self) -> Result<Vec<RunId>>;
    /// Writes records in order. Not durable before `sync`. All or nothing: after an error the same
    /// records may be appended again.
    fn append(&self, records: &[Record]) -> Result<()>;
    /// Makes everything appended so far durable. After an error it may be called again.
    fn sync(&self) -> Result<()>;
    /// Every record of a run, oldest first, workflows and blobs resolved. `None`: no such run, or
    /// (in RAM) the store keeps no payloads.
    fn load(&self, run: RunId) -> Result<Option<Vec<Record>>>;
    /// Up to `limit` facts of a run (or of all runs, in order) with `seq >= from`. A span that
    /// `from` falls into is cut: its first tasks are left out.
    fn facts(&self, run: Option<RunId>, from: u64, limit: usize) -> Result<Vec<Fact>>;
    /// Shows what a session remembers to `look`, which must ask the store nothing else meanwhile.
    fn view(&self, session: &str, look: &mut dyn FnMut(&dyn View) -> Result<()>) -> Result<()>;
    /// Everything that a session remembers, in order of the ids.
    fn memories(&self, session: &str) -> Result<Memories> {
        let mut found = Memories::new();
        self.view(session, &mut |view| {
            found = view::memories(view)?;
            Ok(())
        })?;
        Ok(found)
    }
    /// Whether indexes can be kept here: derived files that nothing is lost with.
    fn keeps_indexes(&self) -> bool {
        false
    }
    /// The kept index of a session. An error where there is one that is not this session's.
    fn read_index(&self, _session: &str) -> Result<Option<IndexSource>> {
        Ok(None)
    }
    /// Begins a session's index in place of the one before; `None` where none are kept.
    fn new_index(&self, _session: &str) -> Result<Option<Box<dyn IndexFile>>> {
        Ok(None)
    }
    /// Deletes a session's index, if there is one.
    fn drop_index(&self, _session: &str) -> Result<()> {
        Ok(())
    }
    /// The session that an entry belongs to.
    fn session_of(&self, id: EntryId) -> Result<Option<Arc<str>>>;
    /// Up to `limit` sessions that remember something, in the order of their bytes, with the number
    /// of their entries; those after `after`, if it is given.
    fn sessions(&self, after: Option<&str>, limit: usize) -> Result<Vec<(Arc<str>, u64)>>;
    /// What copies cold tiers may hold of a session's memories, of forgotten ones too.
    fn copies(&self, session: &str) -> Result<Copies>;
    /// The sessions that cold tiers may hold copies of.
    fn copied(&self) -> Result<Vec<Arc<str>>>;
    /// How a session's memories are forgotten; `None`: as usual.
    fn forgetting(&self, session: &str) -> Result<Option<Forgetting>>;
    /// The sessions whose memories are not forgotten as usual, in the order of their bytes.
    fn set_apart(&self) -> Result<Vec<Arc<str>>>;
    /// Up to `limit` entries that have a text and no vector of the model in use, in an order of sessions
    /// and ids of the store's own, from behind `after` on.
    fn unvectored(&self, after: Option<(&str, EntryId)>, limit: usize) -> Result<Vec<Arc<Entry>>>;
    /// How many entries have a text and no vector.
    fn unvectored_count(&self) -> Result<u64>;
    /// Which model makes the vectors; `None` before the first.
    fn vector_model(&self) -> Result<Option<VectorModel>>;
    /// A run's line as of sequence number `before`: what later records say is left out, unless a
    /// checkpoint has taken it (which it does with what is durable).
    fn summary(&self, run: RunId, before: u64) -> Result<Option<Summary>>;
    /// Lines of runs as of sequence number `before`, as in `summary`.
    fn list(&self, filter: &Filter, before: u64) -> Result<Vec<Summary>>;
    /// Forgets finished runs: all that ended before `before`, or the one named, whenever it ended.
    /// May be called from any thread; on disk it writes LMDB and takes its time.
    fn purge(&self, run: Option<RunId>, before: Timestamp) -> Result<u64>;
    /// Checkpoints what is worth it, gives the lock back. Further calls answer `store.closed`.
    fn close(&self) -> Result<()>;
}
