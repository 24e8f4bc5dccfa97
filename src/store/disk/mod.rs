//! A store in a directory: `LOCK`, `journal/NNNNNNNN.seg`, `lmdb/`, `indexes/`.
//!
//! Appends go to the journal, one write and one `fdatasync` for a batch; a thread behind the line moves
//! full segments into LMDB and recycles their files. `layout` says what every byte means, `recover`
//! what opening does, `core` which lock comes first.

mod body;
mod checkpoint;
mod compact;
mod core;
mod error;
#[cfg(test)]
mod faults;
mod files;
mod indexes;
mod layout;
mod lmdb;
mod lock;
mod memory;
mod purge;
mod read;
mod recover;
mod scan;
mod segment;
mod stock;
mod worker;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, mpsc};
use std::thread::JoinHandle;

use self::core::Core;
use self::files::Files;
#[cfg(test)]
use self::lmdb::Lmdb;
#[cfg(test)]
pub(super) use self::{faults::Faults, layout::FORMAT};
use super::{Copies, Filter, Identity, IndexFile, IndexSource, Options, Store, Summary, View};
use crate::model::{
    Entry, EntryId, Error, Fact, Forgetting, Record, Result, RunId, Timestamp, VectorModel,
};

/// A store in a directory.
pub struct DiskStore {
    path: PathBuf,
    /// `None` once closed. Calls hold it for reading, `close` waits for them.
    core: RwLock<Option<Arc<Core>>>,
    worker: Mutex<Option<JoinHandle<()>>>,
    epoch: u64,
    unfinished: Vec<RunId>,
    next_seq: AtomicU64,
    bytes: AtomicU64,
}

impl DiskStore {
    /// Opens the store in `path`, or makes one there, and begins a new epoch.
    ///
    /// # Errors
    /// `store.locked`, `store.too_new`, `store.corrupt`, `store.full`, `store.io`.
    pub fn open(path: &Path, options: &Options) -> Result<Self> {
        Self::open_with(path, options, Files::default())
    }

    /// Opens a store whose disk does what a test tells it.
    #[cfg(test)]
    pub(super) fn open_faulty(
        path: &Path,
        options: &Options,
        faults: &Arc<faults::Faults>,
    ) -> Result<Self> {
        Self::open_with(path, options, Files { faults: Some(Arc::clone(faults)) })
    }

    fn open_with(path: &Path, options: &Options, files: Files) -> Result<Self> {
        let (waker, bell) = options.background.then(|| mpsc::sync_channel(1)).unzip();
        let opened = recover::open(path, options, files, waker)?;
        let core = Arc::new(opened.core);
        let next_seq = AtomicU64::new(core.writer().next_seq);
        let worker = match bell {
            Some(bell) => Some(start_worker(&core, bell, path)?),
            None => None,
        };
        Ok(Self {
            path: path.into(),
            core: RwLock::new(Some(core)),
            worker: Mutex::new(worker),
            epoch: opened.epoch,
            unfinished: opened.unfinished,
            next_seq,
            bytes: AtomicU64::new(0),
        })
    }

    /// Rewrites the store in `path` so that what was deleted is gone from the disk, and answers its bytes
    /// before and after. It must not be open.
    ///
    /// # Errors
    /// `store.missing`, `store.locked`, `store.too_new`, `store.corrupt`, `store.full`, `store.io`: the store is
    /// as it was.
    pub fn compact(path: &Path, options: &Options) -> Result<(u64, u64)> {
        Self::compact_with(path, options, Files::default())
    }

    fn compact_with(path: &Path, options: &Options, files: Files) -> Result<(u64, u64)> {
        if !path.join("lmdb").is_dir() {
            return Err(error::missing(path));
        }
        let before = compact::bytes(path)?;
        let options = Options { background: false, ..options.clone() };
        let store = Self::open_with(path, &options, files)?;
        store.shut(|core| compact::compact(core, path))?;
        Ok((before, compact::bytes(path)?))
    }

    #[cfg(test)]
    pub(super) fn compact_faulty(
        path: &Path,
        options: &Options,
        faults: &Arc<faults::Faults>,
    ) -> Result<(u64, u64)> {
        Self::compact_with(path, options, Files { faults: Some(Arc::clone(faults)) })
    }

    fn with<T>(&self, call: impl FnOnce(&Core) -> Result<T>) -> Result<T> {
        let core = self.core.read().unwrap_or_else(PoisonError::into_inner);
        call(core.as_ref().ok_or_else(|| error::closed(&self.path))?)
    }

    /// Seals and checkpoints everything appended so far.
    #[cfg(test)]
    pub(super) fn checkpoint(&self) -> Result<()> {
        self.with(|core| core.seal_active().and_then(|()| core.checkpoint()))
    }

    /// How many segment files the next opening of a store would read.
    #[cfg(test)]
    pub(super) fn to_be_read(path: &Path) -> Result<usize> {
        let lmdb = Lmdb::open(&path.join("lmdb"), &Options::default(), Files::default())?;
        let position = lmdb.meta(&lmdb.read()?.txn)?.map_or(0, |meta| meta.position);
        let names = std::fs::read_dir(path.join("journal")).expect("it has a journal");
        let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let numbers = names.filter_map(|name| layout::segment_number(&name));
        Ok(numbers.filter(|number| *number >= position).count())
    }

    /// Bytes that reads have mapped since the map was replaced, roughly.
    #[cfg(test)]
    pub(super) fn mapped(&self) -> u64 {
        self.with(|core| Ok(core.lmdb.mapped())).expect("an open store")
    }

    /// Pretends that another version wrote this store.
    #[cfg(test)]
    pub(super) fn set_format(&self, format: u32) -> Result<()> {
        self.with(|core| {
            core.lmdb.write(|txn, tables| {
                Ok(tables.meta.put(txn, layout::META_FORMAT, &format.to_le_bytes())?)
            })
        })
    }

    /// Leaves the entries as a build left them that knew no outlines.
    #[cfg(test)]
    pub(super) fn drop_outlines(&self) -> Result<()> {
        self.with(|core| {
            core.lmdb.write(|txn, tables| {
                tables.outlines.clear(txn)?;
                tables.meta.delete(txn, layout::META_OUTLINED)?;
                Ok(())
            })
        })
    }

    /// Joins the worker and lets go of everything; answers what `last` answers.
    fn shut(&self, last: impl FnOnce(&Core) -> Result<()>) -> Result<()> {
        let core = self.core.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut core) = core else { return Ok(()) };
        let worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take();
        core.stop();
        if let Some(worker) = worker
            && worker.join().is_err()
        {
            tracing::error!("the thread behind the journal of {} panicked", self.path.display());
        }
        let outcome = last(&core);
        // The worker is gone and calls hold no clone, so this is the last one and frees the lock.
        debug_assert!(Arc::get_mut(&mut core).is_some());
        outcome
    }
}

fn start_worker(core: &Arc<Core>, bell: mpsc::Receiver<()>, path: &Path) -> Result<JoinHandle<()>> {
    let (weak, idle) = (Arc::downgrade(core), core.options.idle);
    std::thread::Builder::new()
        .name("goclaw-store".into())
        .spawn(move || worker::work(&weak, &bell, idle))
        .map_err(|e| error::io("start the thread of", path, &e))
}

impl Drop for DiskStore {
    /// Without `close` the tail stays in the journal, as after a crash.
    fn drop(&mut self) {
        let _ = self.shut(|_| Ok(()));
    }
}

impl Store for DiskStore {
    fn next_seq(&self) -> u64 {
        self.next_seq.load(Ordering::Acquire)
    }

    fn identity(&self) -> Result<Option<Identity>> {
        let path = std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone());
        self.with(|core| Ok(Some(Identity { id: core.store, path: path.display().to_string() })))
    }

    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn journal_bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn unfinished(&self) -> Result<Vec<RunId>> {
        self.with(|_| Ok(self.unfinished.clone()))
    }

    fn append(&self, records: &[Record]) -> Result<()> {
        self.with(|core| {
            let mut writer = core.writer();
            let bytes = writer.append(core, records)?;
            self.next_seq.store(writer.next_seq, Ordering::Release);
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            if writer.needs_next_soon() {
                core.want(writer.number() + 1);
            }
            Ok(())
        })
    }

    fn sync(&self) -> Result<()> {
        self.with(|core| core.writer().sync(core))
    }

    fn load(&self, run: RunId) -> Result<Option<Vec<Record>>> {
        self.with(|core| core.load(run))
    }

    fn facts(&self, run: Option<RunId>, from: u64, limit: usize) -> Result<Vec<Fact>> {
        self.with(|core| core.facts(run, from, limit))
    }

    fn summary(&self, run: RunId, before: u64) -> Result<Option<Summary>> {
        self.with(|core| core.summary(run, before))
    }

    fn list(&self, filter: &Filter, before: u64) -> Result<Vec<Summary>> {
        self.with(|core| core.list(filter, before))
    }

    fn view(&self, session: &str, look: &mut dyn FnMut(&dyn View) -> Result<()>) -> Result<()> {
        self.with(|core| core.view_memory(session, look))
    }

    fn keeps_indexes(&self) -> bool {
        true
    }

    fn read_index(&self, session: &str) -> Result<Option<IndexSource>> {
        self.with(|core| core.read_index(session))
    }

    fn new_index(&self, session: &str) -> Result<Option<Box<dyn IndexFile>>> {
        self.with(|core| Ok(Some(Box::new(core.new_index(session)?) as Box<dyn IndexFile>)))
    }

    fn drop_index(&self, session: &str) -> Result<()> {
        self.with(|core| core.drop_index(session))
    }

    fn session_of(&self, id: EntryId) -> Result<Option<Arc<str>>> {
        self.with(|core| core.session_of(id))
    }

    fn sessions(&self, after: Option<&str>, limit: usize) -> Result<Vec<(Arc<str>, u64)>> {
        self.with(|core| core.sessions(after, limit))
    }

    fn copies(&self, session: &str) -> Result<Copies> {
        self.with(|core| core.copies(session))
    }

    fn copied(&self) -> Result<Vec<Arc<str>>> {
        self.with(Core::copied)
    }

    fn forgetting(&self, session: &str) -> Result<Option<Forgetting>> {
        self.with(|core| core.forgetting(session))
    }

    fn set_apart(&self) -> Result<Vec<Arc<str>>> {
        self.with(Core::set_apart)
    }

    fn unvectored(&self, after: Option<(&str, EntryId)>, limit: usize) -> Result<Vec<Arc<Entry>>> {
        self.with(|core| core.unvectored(after, limit))
    }

    fn unvectored_count(&self) -> Result<u64> {
        self.with(|core| core.unvectored_count())
    }

    fn vector_model(&self) -> Result<Option<VectorModel>> {
        self.with(Core::vector_model)
    }

    fn purge(&self, run: Option<RunId>, before: Timestamp) -> Result<u64> {
        self.with(|core| core.purge(run, before))
    }

    fn close(&self) -> Result<()> {
        self.shut(|core| {
            core.writer().sync(core)?;
            // Everything is durable in the journal; the next opening does what fails here.
            let moved = core.finish();
            if let Err(Error { code, message, .. }) = moved {
                tracing::warn!(code, "last checkpoint: {message}");
            }
            Ok(())
        })
    }
}
