//! Faults for tests: a disk that fills up, a process that dies at any step, a power cut.

use std::fs::File;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::files::{self, Op};

/// Sector size of the simulated disk: what reaches it whole or not at all.
const SECTOR: usize = 512;

/// What tests do to a store's disk.
#[derive(Default)]
pub(in crate::store) struct Faults {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Operations so far.
    count: u64,
    /// The process dies at this operation.
    crash_at: Option<u64>,
    /// Operations of this kind fail.
    failing: Option<(Op, io::ErrorKind)>,
    /// What unsynced writes wrote over.
    undo: Vec<Undo>,
}

struct Undo {
    file: File,
    id: u64,
    offset: u64,
    old: Vec<u8>,
}

impl Inner {
    fn refuse(&mut self, op: Op) -> io::Result<()> {
        let now = self.count;
        self.count += 1;
        if self.crash_at.is_some_and(|at| now >= at) {
            return Err(io::Error::other("the process is dead"));
        }
        match self.failing {
            Some((failing, kind)) if failing == op => Err(kind.into()),
            _ => Ok(()),
        }
    }
}

impl Faults {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the process die at operation `at`, counted from the beginning.
    pub(in crate::store) fn crash_at(&self, at: u64) {
        self.inner().crash_at = Some(at);
    }

    /// Lets the process die now.
    pub(in crate::store) fn crash(&self) {
        let mut inner = self.inner();
        inner.crash_at = Some(inner.count);
    }

    /// Operations so far.
    pub(in crate::store) fn count(&self) -> u64 {
        self.inner().count
    }

    fn fail(&self, op: Op, kind: io::ErrorKind) {
        self.inner().failing = Some((op, kind));
    }

    /// No byte can be written any more.
    pub(in crate::store) fn fill_disk(&self) {
        self.fail(Op::Write, io::ErrorKind::StorageFull);
    }

    /// LMDB cannot commit any more.
    pub(in crate::store) fn fail_commits(&self) {
        self.fail(Op::Commit, io::ErrorKind::StorageFull);
    }

    /// Syncs fail, and the system forgets what it should have written.
    pub(in crate::store) fn fail_syncs(&self) {
        self.fail(Op::Sync, io::ErrorKind::Other);
    }

    /// All is well again.
    pub(in crate::store) fn heal(&self) {
        self.inner().failing = None;
    }

    pub(super) fn check(&self, op: Op) -> io::Result<()> {
        self.inner().refuse(op)
    }

    /// Writes, unless it is to fail: then a part of the bytes is written all the same.
    pub(super) fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut inner = self.inner();
        let refusal = inner.refuse(Op::Write);
        if inner.crash_at.is_some_and(|at| inner.count > at + 1) {
            return refusal;
        }
        let bytes = if refusal.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        let mut old = vec![0; bytes.len()];
        if files::read_exact_at(file, &mut old, offset).is_ok() {
            let undo = Undo { file: file.try_clone()?, id: id(file), offset, old };
            inner.undo.push(undo);
        }
        files::write_all_at(file, bytes, offset)?;
        refusal
    }

    pub(super) fn synced(&self, file: &File) {
        let id = id(file);
        self.inner().undo.retain(|undo| undo.id != id);
    }

    /// Of what was not synced, a sector reached the disk where `dice` says so.
    pub(in crate::store) fn power_cut(&self, mut dice: impl FnMut() -> bool) {
        let mut inner = self.inner();
        for undo in inner.undo.drain(..).rev() {
            let mut at = 0;
            while at < undo.old.len() {
                let offset = undo.offset + at as u64;
                let rest = SECTOR - (offset % SECTOR as u64) as usize;
                let end = undo.old.len().min(at + rest);
                if !dice() {
                    files::write_all_at(&undo.file, &undo.old[at..end], offset).expect("undo");
                }
                at = end;
            }
        }
    }
}

#[cfg(unix)]
fn id(file: &File) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&file.metadata().expect("an open file"))
}

#[cfg(not(unix))]
fn id(_file: &File) -> u64 {
    0
}
