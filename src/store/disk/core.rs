//! What the parts of an open store share, and the order of its locks.
//!
//! Locks are taken from left to right only: `writer` or `moving`, then `stock`, then `tail`. `moving`
//! is never held while `writer` is waited for, and the background thread never waits for `writer` at
//! all: the owner may hold it and wait for a checkpoint.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError,
    mpsc,
};

use super::body;
use super::checkpoint;
use super::files::Files;
use super::layout::{self, StoreId};
use super::lmdb::{Lmdb, Snapshot};
use super::lock::Lock;
use super::segment::{Piece, SegmentFile, Tail};
use super::stock::Stock;
use super::worker::Progress;
use super::writer::Writer;
use crate::model::{BlobHash, Result, RunId, Workflow};
use crate::store::Options;

/// Workflows that are kept decoded, so that runs of the same definition share one.
const WORKFLOWS_MAX: usize = 128;

/// An open store.
pub(super) struct Core {
    pub store: StoreId,
    pub options: Options,
    pub files: Files,
    /// The directory of kept indexes.
    pub indexes: PathBuf,
    pub lmdb: Lmdb,
    pub writer: Mutex<Writer>,
    /// Held by whoever moves segments into LMDB or deletes from it.
    pub moving: Mutex<()>,
    pub stock: Mutex<Stock>,
    pub tail: RwLock<Tail>,
    pub workflows: Mutex<HashMap<BlobHash, Arc<Workflow>>>,
    pub progress: Progress,
    /// The segment that the background thread should have ready; 0 for none.
    pub wanted: AtomicU64,
    /// Rings the background thread; `None` when there is none (any more).
    pub waker: Mutex<Option<mpsc::SyncSender<()>>>,
    /// Last, so that it is given back when everything else is closed.
    pub _lock: Lock,
}

impl Core {
    pub(super) fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer, unless somebody has it.
    pub(super) fn try_writer(&self) -> Option<MutexGuard<'_, Writer>> {
        match self.writer.try_lock() {
            Ok(writer) => Some(writer),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Has segment `number` made behind the line.
    pub(super) fn want(&self, number: u64) {
        if self.wanted.swap(number, Ordering::Relaxed) != number {
            self.wake();
        }
    }

    pub(super) fn stock(&self) -> MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tail(&self) -> RwLockReadGuard<'_, Tail> {
        self.tail.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tail_mut(&self) -> RwLockWriteGuard<'_, Tail> {
        self.tail.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the background thread that there is something to do.
    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker() {
            // A full channel means that it has been told already.
            let _ = waker.try_send(());
        }
    }

    fn waker(&self) -> MutexGuard<'_, Option<mpsc::SyncSender<()>>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the background thread end.
    pub(super) fn stop(&self) {
        self.waker().take();
    }

    /// Moves every sealed segment into LMDB.
    ///
    /// # Errors
    /// `store.full`, `store.io`: what was not moved stays in the journal, and readable.
    pub(super) fn checkpoint(&self) -> Result<()> {
        let _moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = self.move_sealed();
        self.progress.note(outcome.as_ref().err().cloned());
        outcome
    }

    fn move_sealed(&self) -> Result<()> {
        loop {
            let Some(segment) = self.tail().sealed.front().cloned() else { return Ok(()) };
            checkpoint::move_segment(&self.lmdb, &segment, segment.file.number + 1)?;
            // Not before the commit: readers look here first and into LMDB afterwards.
            self.tail_mut().sealed.pop_front();
            let file = Arc::clone(&segment.file);
            drop(segment);
            self.stock().retire(file)?;
            self.progress.note(None);
        }
    }

    /// Seals what was appended so far, so that a checkpoint can move it.
    pub(super) fn seal_active(&self) -> Result<()> {
        let mut writer = self.writer();
        if writer.offset == 0 { Ok(()) } else { writer.rotate(self, None) }
    }

    /// Moves everything, the active segment too. Files that stand ready lie before the position then, so
    /// that the next opening need not read them to know that they are empty. Only for the end: nothing
    /// may be appended after.
    pub(super) fn finish(&self) -> Result<()> {
        self.checkpoint()?;
        let _moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        let unused = self.stock().unused();
        checkpoint::move_segment(&self.lmdb, &self.tail().active, unused)
    }

    /// Puts a workflow among those that are kept decoded.
    pub(super) fn remember(&self, hash: BlobHash, workflow: &Arc<Workflow>) {
        let mut workflows = self.workflows.lock().unwrap_or_else(PoisonError::into_inner);
        if workflows.len() >= WORKFLOWS_MAX {
            workflows.clear();
        }
        workflows.insert(hash, Arc::clone(workflow));
    }

    /// The workflow of a definition.
    ///
    /// # Errors
    /// `store.corrupt` where there is none.
    pub(super) fn workflow(&self, hash: &BlobHash) -> Result<Arc<Workflow>> {
        let in_tail = self.tail().definition(hash);
        self.workflow_in(hash, in_tail, &self.lmdb.read()?)
    }

    /// The workflow of a definition, which lies where the tail had it, or else in the view of LMDB.
    pub(super) fn workflow_in(
        &self,
        hash: &BlobHash,
        in_tail: Option<(Arc<SegmentFile>, Piece)>,
        snapshot: &Snapshot<'_>,
    ) -> Result<Arc<Workflow>> {
        let known =
            self.workflows.lock().unwrap_or_else(PoisonError::into_inner).get(hash).cloned();
        if let Some(workflow) = known {
            return Ok(workflow);
        }
        let body = match in_tail {
            Some((file, piece)) => file.read(piece)?,
            None => {
                let found = self.lmdb.tables.definitions.get(&snapshot.txn, hash);
                found.map_err(self.lmdb.fail("read"))?.unwrap_or_default().to_vec()
            }
        };
        let body = layout::definition_body(&body);
        let (_, bytes) = body.ok_or_else(|| self.lmdb.corrupt("a definition is missing"))?;
        let workflow = body::read_workflow(bytes)
            .map_err(|e| self.lmdb.corrupt(format!("a definition cannot be read: {e}")))?;
        let workflow = Arc::new(workflow);
        self.remember(*hash, &workflow);
        Ok(workflow)
    }

    pub(super) fn lmdb_has_definition(&self, hash: &BlobHash) -> Result<bool> {
        let snapshot = self.lmdb.read()?;
        let found = self.lmdb.tables.definitions.get(&snapshot.txn, hash);
        Ok(found.map_err(self.lmdb.fail("read"))?.is_some())
    }

    pub(super) fn lmdb_has_blob(&self, run: RunId, hash: &BlobHash) -> Result<bool> {
        let snapshot = self.lmdb.read()?;
        let found = self.lmdb.tables.blobs.get(&snapshot.txn, &layout::blob_key(run, hash));
        Ok(found.map_err(self.lmdb.fail("read"))?.is_some())
    }

    /// Holds the owner back while too many sealed segments wait for their checkpoint.
    ///
    /// # Errors
    /// Why checkpoints do not get on: `store.full`, `store.io`.
    pub(super) fn wait_for_checkpoints(&self) -> Result<()> {
        if self.waker().is_none() {
            return Ok(());
        }
        self.progress.wait_while(|| {
            self.wake();
            self.tail().sealed.len() >= self.options.sealed_segments_max
        })
    }
}
