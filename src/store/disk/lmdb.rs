//! The LMDB side of a store: opening, tables, transactions, growth of the map.
//!
//! Default sync flags, never `NOSYNC`: a commit that returned is on disk.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions, PutFlags, RoTxn, RwTxn, WithoutTls};

use super::files::{Files, Op};
use super::layout::{self, StoreId};
use super::{error, layout as at};
use crate::model::{Error, Result};
use crate::store::Options;

pub(super) type Table = Database<'static, Bytes, Bytes>;

/// Reader slots in LMDB's lock file: the most reads at one time.
const READERS_MAX: u32 = 1024;
const TABLES: u32 = 15;
/// Bytes that one transaction of a copy writes, roughly.
const COPY_BYTES: usize = 8 << 20;
/// Bytes of the file that may stay mapped by what has been read. Few, as letting go takes time by the page.
const MAPPED_MAX: u64 = if cfg!(test) { 64 << 10 } else { 32 << 20 };
/// Bytes that a page of the file has at least.
const PAGE: u64 = 4 << 10;

/// The tables; `layout` says what is in them.
pub(super) struct Tables {
    pub meta: Table,
    pub log: Table,
    pub index: Table,
    pub runs: Table,
    pub live: Table,
    pub definitions: Table,
    pub uses: Table,
    pub blobs: Table,
    pub memories: Table,
    pub vectors: Table,
    pub outlines: Table,
    pub owners: Table,
    pub sessions: Table,
    pub copies: Table,
    pub lacking: Table,
}

/// An open LMDB environment.
pub(super) struct Lmdb {
    env: Env<WithoutTls>,
    pub path: PathBuf,
    pub tables: Tables,
    /// Held for reading during every transaction, for writing while the map is replaced.
    gate: RwLock<()>,
    map_bytes_max: usize,
    /// Bytes of the file that reads have mapped since the map was replaced, roughly.
    mapped: AtomicU64,
    files: Files,
}

/// A consistent view for reading.
pub(super) struct Snapshot<'a> {
    pub txn: RoTxn<'a, WithoutTls>,
    _gate: RwLockReadGuard<'a, ()>,
}

/// What `meta` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Meta {
    pub store: StoreId,
    pub epoch: u64,
    pub position: u64,
    pub next_seq: u64,
}

impl Lmdb {
    /// Opens the environment in directory `path`, or makes one there.
    ///
    /// # Errors
    /// `store.too_new` (nothing is changed then), `store.corrupt`, `store.full`, `store.io`.
    pub(super) fn open(path: &Path, options: &Options, files: Files) -> Result<Self> {
        let fail = |e: heed::Error| error::lmdb("open", path, &e);
        let mut how = EnvOpenOptions::new().read_txn_without_tls();
        how.map_size(options.map_bytes).max_readers(READERS_MAX).max_dbs(TABLES);
        // SAFETY: LMDB maps the file, so nobody else may change it in place. The caller holds the
        // directory's `LOCK`, whose registry keeps this process from opening it twice; no flags are
        // set that weaken LMDB's own locking. A user who edits the file by hand, or forks and goes on
        // using it in the child, breaks the contract of any store.
        let env = unsafe { how.open(path) }.map_err(fail)?;
        env.clear_stale_readers().map_err(fail)?;
        check_format(&env, path)?;
        let txn = env.write_txn().map_err(fail)?;
        let tables = env
            .create_databases_and_commit(txn, |make, txn| {
                let mut table = |name| make.create_database::<Bytes, Bytes>(txn, Some(name));
                let first =
                    (table(at::META)?, table(at::LOG)?, table(at::INDEX)?, table(at::RUNS)?);
                let second = (
                    table(at::LIVE)?,
                    table(at::DEFINITIONS)?,
                    table(at::USES)?,
                    table(at::BLOBS)?,
                );
                let third = (
                    table(at::MEMORIES)?,
                    table(at::VECTORS)?,
                    table(at::OWNERS)?,
                    table(at::SESSIONS)?,
                    table(at::COPIES)?,
                    table(at::LACKING)?,
                );
                let fourth = table(at::OUTLINES)?;
                Ok(CommitOrAbort::<_, ()>::Commit((first, second, third, fourth)))
            })
            .map_err(fail)?
            .unwrap_commit();
        let (first, second, third, outlines) = tables;
        let (meta, log, index, runs) = first;
        let (live, definitions, uses, blobs) = second;
        let (memories, vectors, owners, sessions, copies, lacking) = third;
        let tables = Tables {
            meta,
            log,
            index,
            runs,
            live,
            definitions,
            uses,
            blobs,
            memories,
            vectors,
            outlines,
            owners,
            sessions,
            copies,
            lacking,
        };
        let map_bytes_max = options.map_bytes_max;
        let (gate, mapped) = (RwLock::new(()), AtomicU64::new(0));
        Ok(Self { env, path: path.into(), tables, gate, map_bytes_max, mapped, files })
    }

    /// Copies every table into an environment that has nothing yet.
    pub(super) fn copy_into(&self, fresh: &Self) -> Result<()> {
        let snapshot = self.read()?;
        let fail = self.fail("copy");
        for (from, to) in self.tables.all().into_iter().zip(fresh.tables.all()) {
            let mut entries = from.iter(&snapshot.txn).map_err(&fail)?;
            loop {
                let (mut batch, mut bytes) = (Vec::new(), 0);
                while bytes < COPY_BYTES
                    && let Some(entry) = entries.next()
                {
                    let (key, value) = entry.map_err(&fail)?;
                    bytes += key.len() + value.len();
                    batch.push((key.to_vec(), value.to_vec()));
                }
                if batch.is_empty() {
                    break;
                }
                fresh.write(|txn, _| {
                    for (key, value) in &batch {
                        to.put_with_flags(txn, PutFlags::APPEND, key, value)?;
                    }
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    /// Closes the environment now, not when its last handle goes.
    pub(super) fn close(self) {
        self.env.prepare_for_closing().wait();
    }

    pub(super) fn fail(&self, doing: &str) -> impl Fn(heed::Error) -> Error {
        let (doing, path) = (doing.to_owned(), self.path.clone());
        move |e| error::lmdb(&doing, &path, &e)
    }

    /// Why something did not happen.
    pub(super) fn told(&self, doing: &str, error: WriteError) -> Error {
        match error {
            WriteError::Store(error) => error,
            WriteError::Lmdb(error) => self.fail(doing)(error),
        }
    }

    /// Damage found in a table.
    pub(super) fn corrupt(&self, what: impl std::fmt::Display) -> Error {
        error::corrupt(&self.path, what)
    }

    /// A view of what is committed now. A thread holds one at a time.
    pub(super) fn read(&self) -> Result<Snapshot<'_>> {
        let gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let txn = self.env.read_txn().map_err(self.fail("read"))?;
        Ok(Snapshot { txn, _gate: gate })
    }

    /// Runs `change` in a transaction and commits it; runs it again in a bigger map where this one
    /// is full. Either all of it happens or nothing.
    pub(super) fn write<T>(
        &self,
        mut change: impl FnMut(&mut RwTxn<'_>, &Tables) -> Result<T, WriteError>,
    ) -> Result<T> {
        loop {
            let outcome = {
                let _gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
                self.attempt(&mut change)
            };
            match outcome {
                Ok(value) => return Ok(value),
                Err(WriteError::Store(e)) => return Err(e),
                Err(WriteError::Lmdb(heed::Error::Mdb(heed::MdbError::MapFull))) => self.grow()?,
                Err(WriteError::Lmdb(e)) => return Err(error::lmdb("write", &self.path, &e)),
            }
        }
    }

    fn attempt<T>(
        &self,
        change: &mut impl FnMut(&mut RwTxn<'_>, &Tables) -> Result<T, WriteError>,
    ) -> Result<T, WriteError> {
        let mut txn = self.env.write_txn()?;
        let value = change(&mut txn, &self.tables)?;
        self.files.gate(Op::Commit).map_err(heed::Error::Io)?;
        txn.commit()?;
        self.files.gate(Op::Committed).map_err(heed::Error::Io)?;
        Ok(value)
    }

    fn grow(&self) -> Result<()> {
        let gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let size = self.env.info().map_size;
        let bigger = size.saturating_mul(2).min(self.map_bytes_max);
        if bigger <= size {
            return Err(error::lmdb("grow", &self.path, &heed::MdbError::MapFull.into()));
        }
        self.replace_map(&gate, bigger)
    }

    fn replace_map(&self, _gate: &RwLockWriteGuard<'_, ()>, size: usize) -> Result<()> {
        self.mapped.store(0, Ordering::Relaxed);
        // SAFETY: no transaction may be open while the map is replaced. Every transaction of this
        // environment is opened under `gate` held for reading and closed before it is released, and
        // the caller holds it for writing.
        unsafe { self.env.resize(size) }.map_err(self.fail("map"))
    }

    #[cfg(test)]
    pub(super) fn mapped(&self) -> u64 {
        self.mapped.load(Ordering::Relaxed)
    }

    /// Notes that a read which is over has mapped so many bytes, roughly. When it comes to a lot the map is
    /// replaced by one of the same size, so that a process that looks here and there does not seem to hold
    /// the whole file: what it had mapped stays in the system's cache. Not while others read or write.
    pub(super) fn has_mapped(&self, bytes: u64) -> Result<()> {
        let mapped = self.mapped.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if mapped <= MAPPED_MAX {
            return Ok(());
        }
        // LMDB reads its own state from the map: nobody else may be replacing it meanwhile.
        let Ok(gate) = self.gate.try_write() else { return Ok(()) };
        let info = self.env.info();
        if (info.last_page_number as u64 + 1) * PAGE <= MAPPED_MAX {
            // A small file is not worth it; it is looked at again after as much more.
            self.mapped.store(0, Ordering::Relaxed);
            return Ok(());
        }
        self.replace_map(&gate, info.map_size)
    }

    /// Reads `meta`; `None` in a store that is being made.
    pub(super) fn meta(&self, txn: &RoTxn<'_>) -> Result<Option<Meta>> {
        let get = |key| self.tables.meta.get(txn, key).map_err(self.fail("read"));
        let number = |key| -> Result<u64> {
            let value = get(key)?.and_then(|value| value.try_into().ok());
            let value = value.ok_or_else(|| self.corrupt("its meta table is incomplete"))?;
            Ok(u64::from_le_bytes(value))
        };
        let Some(store) = get(at::META_STORE)? else { return Ok(None) };
        Ok(Some(Meta {
            store: store.try_into().map_err(|_| self.corrupt("its id is not 16 bytes long"))?,
            epoch: number(at::META_EPOCH)?,
            position: number(at::META_POSITION)?,
            next_seq: number(at::META_NEXT_SEQ)?,
        }))
    }
}

impl Tables {
    /// Every table, in the same order in every environment.
    fn all(&self) -> [&Table; TABLES as usize] {
        // No `..`: a table that is forgotten here would be lost by a copy.
        let Self {
            meta,
            log,
            index,
            runs,
            live,
            definitions,
            uses,
            blobs,
            memories,
            vectors,
            outlines,
            owners,
            sessions,
            copies,
            lacking,
        } = self;
        let runs_and_more = [meta, log, index, runs, live, definitions, uses, blobs];
        let remembered = [memories, vectors, outlines, owners, sessions, copies, lacking];
        let mut all = runs_and_more.into_iter().chain(remembered);
        std::array::from_fn(|_| all.next().expect("as many as there are"))
    }

    /// Writes `meta`.
    pub(super) fn put_meta(&self, txn: &mut RwTxn<'_>, meta: &Meta) -> Result<(), heed::Error> {
        self.meta.put(txn, at::META_FORMAT, &layout::FORMAT.to_le_bytes())?;
        self.meta.put(txn, at::META_STORE, &meta.store)?;
        self.meta.put(txn, at::META_EPOCH, &meta.epoch.to_le_bytes())?;
        self.put_position(txn, meta.position, meta.next_seq)
    }

    /// Says that every segment before `position` is in here.
    pub(super) fn put_position(
        &self,
        txn: &mut RwTxn<'_>,
        position: u64,
        next_seq: u64,
    ) -> Result<(), heed::Error> {
        self.meta.put(txn, at::META_POSITION, &position.to_le_bytes())?;
        self.meta.put(txn, at::META_NEXT_SEQ, &next_seq.to_le_bytes())
    }

    /// Counts a use of a definition more (or less); answers how many there are now.
    pub(super) fn count_use(
        &self,
        txn: &mut RwTxn<'_>,
        hash: &[u8],
        change: i64,
    ) -> Result<u64, heed::Error> {
        let uses = self.uses.get(txn, hash)?.and_then(|value| value.try_into().ok());
        let uses = uses.map_or(0, u64::from_le_bytes).saturating_add_signed(change);
        self.uses.put(txn, hash, &uses.to_le_bytes())?;
        Ok(uses)
    }
}

/// Refuses formats that this build does not know, before anything is written.
fn check_format(env: &Env<WithoutTls>, path: &Path) -> Result<()> {
    let fail = |e: heed::Error| error::lmdb("open", path, &e);
    let txn = env.read_txn().map_err(fail)?;
    let format = env
        .open_databases_and_commit(txn, |open, txn| {
            let meta = open.open_database::<Bytes, Bytes>(txn, Some(at::META))?;
            let format = match meta {
                Some(meta) => meta.get(txn, at::META_FORMAT)?.map(<[u8]>::to_vec),
                None => None,
            };
            Ok(CommitOrAbort::<(), _>::Abort(format))
        })
        .map_err(fail)?
        .unwrap_abort();
    let Some(format) = format else { return Ok(()) };
    let number = format.try_into().map(u32::from_le_bytes);
    match number {
        Ok(layout::FORMAT) => Ok(()),
        Ok(newer) if newer > layout::FORMAT => Err(error::too_new(path, newer, layout::FORMAT)),
        _ => Err(error::corrupt(path, "its format is not a known number")),
    }
}

/// Why a transaction did not happen.
#[derive(Debug)]
pub(super) enum WriteError {
    Lmdb(heed::Error),
    Store(Error),
}

impl From<heed::Error> for WriteError {
    fn from(error: heed::Error) -> Self {
        Self::Lmdb(error)
    }
}

impl From<Error> for WriteError {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}
