//! A cold tier in a directory: one append-only file a session.
//!
//! For a disk that is large and slow, or a network share. Nothing is resident but where each memory
//! of the sessions used last lies; a search reads the session's file from front to back. One process at
//! a time. See `log` for what a crash leaves.

mod layout;
mod log;

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use self::log::Log;
use super::cold::{Cold, Found, Tag, Tier, failed, session_key};
use crate::model::{EntryId, Result};

/// Sessions whose files stay open.
const OPEN_MAX: usize = 64;

/// `None`: not open, or there is no file.
type Slot = Arc<Mutex<Option<Log>>>;

/// A directory of cold memories.
pub struct Files {
    root: PathBuf,
    name: String,
    slots: Mutex<HashMap<String, Slot>>,
    /// Held while the tier is in use; `None`: it is closed.
    lock: RwLock<Option<File>>,
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files").field("root", &self.root).field("name", &self.name).finish()
    }
}

impl Files {
    /// Opens the tier in directory `root`, made if it is not there.
    ///
    /// # Errors
    /// `memory.tier` where the directory cannot be used, or another process uses it.
    pub fn open(root: &Path, name: &str) -> Result<Self> {
        let fail = |what: &str, error: &dyn std::fmt::Display| {
            failed(name, format!("{what} `{}`: {error}", root.display()))
        };
        fs::create_dir_all(root).map_err(|e| fail("cannot make", &e))?;
        let lock = File::options().create(true).truncate(false).write(true).open(root.join("lock"));
        let lock = lock.map_err(|e| fail("cannot write to", &e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(fail("cannot use", &"another engine uses it"));
            }
            Err(TryLockError::Error(error)) => return Err(fail("cannot lock", &error)),
        }
        let (root, name) = (root.to_owned(), name.to_owned());
        Ok(Self { root, name, slots: Mutex::default(), lock: RwLock::new(Some(lock)) })
    }

    /// Keeps the tier from closing while it is held.
    fn in_use(&self) -> Result<RwLockReadGuard<'_, Option<File>>> {
        let lock = self.lock.read().unwrap_or_else(PoisonError::into_inner);
        if lock.is_some() { Ok(lock) } else { Err(failed(&self.name, "it is closed")) }
    }

    fn path(&self, session: &str) -> PathBuf {
        self.root.join(format!("{}.cold", session_key(session)))
    }

    fn slot(&self, session: &str) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(session) {
            return Arc::clone(slot);
        }
        if slots.len() >= OPEN_MAX {
            // Whoever holds a slot may be writing: two logs of one file must never be open.
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(slots.entry(session.to_owned()).or_default())
    }

    /// Works on a session's log; `None` where it has none and none shall be made.
    fn with<R>(
        &self,
        session: &str,
        make: bool,
        work: impl FnOnce(&mut Log) -> std::io::Result<R>,
    ) -> Result<Option<R>> {
        let _used = self.in_use()?;
        let slot = self.slot(session);
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let done = (|| {
            if slot.is_none() {
                *slot = Log::open(&self.path(session), session, make)?;
            }
            let Some(log) = &mut *slot else { return Ok(None) };
            work(log).map(Some)
        })();
        // After an error nobody knows how far the file got: the next call reads it again.
        if done.is_err() {
            *slot = None;
        }
        done.map_err(|e| failed(&self.name, format!("session `{session}`: {e}")))
    }
}

impl Tier for Files {
    fn name(&self) -> &str {
        &self.name
    }
    fn is_near(&self) -> bool {
        true
    }
    fn put(&self, session: &str, batch: &[Cold]) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        self.with(session, true, |log| log.put(batch)).map(drop)
    }
    fn fetch(&self, session: &str, ids: &[EntryId]) -> Result<Vec<Cold>> {
        let found = self.with(session, false, |log| log.fetch(ids))?;
        Ok(found.unwrap_or_default())
    }
    fn search(
        &self,
        session: &str,
        vector: &[f32],
        tags: &[Tag],
        top_k: usize,
    ) -> Result<Vec<Found>> {
        let found = self.with(session, false, |log| log.search(vector, tags, top_k))?;
        Ok(found.unwrap_or_default())
    }
    fn delete(&self, session: &str, ids: &[EntryId]) -> Result<()> {
        self.with(session, false, |log| log.delete(ids)).map(drop)
    }
    fn delete_session(&self, session: &str) -> Result<()> {
        let _used = self.in_use()?;
        let slot = self.slot(session);
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = None;
        log::remove(&self.path(session))
            .map_err(|e| failed(&self.name, format!("session `{session}`: {e}")))
    }
    fn count(&self, session: &str) -> Result<u64> {
        Ok(self.with(session, false, |log| Ok(log.len()))?.unwrap_or(0))
    }
    fn health(&self) -> Result<()> {
        let _used = self.in_use()?;
        let probe = File::options().write(true).open(self.root.join("lock"));
        probe.map(drop).map_err(|e| failed(&self.name, format!("`{}`: {e}", self.root.display())))
    }
    fn close(&self) {
        // Waits for the calls under way; the logs go before the lock that keeps others away.
        let mut lock = self.lock.write().unwrap_or_else(PoisonError::into_inner);
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).clear();
        *lock = None;
    }
}
