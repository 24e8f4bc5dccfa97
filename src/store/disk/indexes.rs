//! Kept indexes: `indexes/<hash of the session>.idx`, derived files that nothing is lost with.
//!
//! A file begins with magic, the store's id, length and name of the session, and a CRC-32 of all that;
//! what follows is its writer's business. It is written under a temporary name, synced and renamed, so
//! there is a whole one or the one before. Opening deletes what belongs to no session any more.

use std::fs::{self, File};
use std::io::{self, BufReader, Read as _, Write};
use std::path::{Path, PathBuf};

use super::core::Core;
use super::error;
use super::files::Files;
use super::layout::StoreId;
use crate::model::Result;
use crate::store::view::{IndexFile, IndexSource};

const MAGIC: &[u8; 4] = b"gcif";
/// Bytes before the session's name.
const HEAD: usize = MAGIC.len() + size_of::<StoreId>() + 2;
/// Written and read at once, in bytes.
const BUFFER: usize = 1 << 18;

/// The directory of the kept indexes.
pub(super) fn dir(store: &Path) -> PathBuf {
    store.join("indexes")
}

/// Name of a session's file, without its ending: sessions may have names that files may not.
fn stem(session: &str) -> String {
    let hash = blake3::hash(session.as_bytes()).to_hex();
    hash.as_str()[..32].to_owned()
}

fn head(store: &StoreId, session: &str) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD + session.len() + 4);
    head.extend_from_slice(MAGIC);
    head.extend_from_slice(store);
    let len = u16::try_from(session.len()).expect("sessions have at most 400 bytes");
    head.extend_from_slice(&len.to_le_bytes());
    head.extend_from_slice(session.as_bytes());
    let crc = crc32fast::hash(&head);
    head.extend_from_slice(&crc.to_le_bytes());
    head
}

/// The session that a file says it is of, if it is one of this store.
fn session_in(path: &Path, store: &StoreId) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let mut start = [0; HEAD];
    file.read_exact(&mut start).ok()?;
    let len = u16::from_le_bytes([start[HEAD - 2], start[HEAD - 1]]);
    let mut name = vec![0; usize::from(len)];
    file.read_exact(&mut name).ok()?;
    let mut crc = [0; 4];
    file.read_exact(&mut crc).ok()?;
    let name = String::from_utf8(name).ok()?;
    head(store, &name).ends_with(&crc).then_some(name)
}

/// Deletes half-made files, and those whose session remembers nothing any more.
pub(super) fn sweep(core: &Core) -> Result<()> {
    let fail = |e: io::Error| error::io("read", &core.indexes, &e);
    for entry in fs::read_dir(&core.indexes).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let is_whole = path.extension().is_some_and(|ending| ending == "idx");
        // One that is damaged is left to whoever reads it, who will say so.
        let is_over = match session_in(&path, &core.store).filter(|_| is_whole) {
            Some(session) => {
                let snapshot = core.lmdb.read()?;
                let found = core.lmdb.tables.sessions.get(&snapshot.txn, session.as_bytes());
                found.map_err(core.lmdb.fail("read"))?.is_none()
            }
            None => !is_whole,
        };
        if is_over {
            core.files.remove(&path).map_err(|e| error::io("delete", &path, &e))?;
        }
    }
    Ok(())
}

/// Every kept index.
pub(super) fn files(core: &Core) -> Result<Vec<PathBuf>> {
    let fail = |e: io::Error| error::io("read", &core.indexes, &e);
    let found = fs::read_dir(&core.indexes).map_err(fail)?;
    found.map(|entry| Ok(entry.map_err(fail)?.path())).collect()
}

impl Core {
    fn index_path(&self, session: &str) -> PathBuf {
        self.indexes.join(stem(session)).with_extension("idx")
    }

    pub(super) fn read_index(&self, session: &str) -> Result<Option<IndexSource>> {
        let path = self.index_path(session);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(error::io("open", &path, &e)),
        };
        let mut file = BufReader::with_capacity(BUFFER, file);
        let wanted = head(&self.store, session);
        let mut found = vec![0; wanted.len()];
        if file.read_exact(&mut found).is_err() || found != wanted {
            return Err(error::corrupt(&path, "it is no index of this session"));
        }
        Ok(Some(Box::new(file)))
    }

    pub(super) fn new_index(&self, session: &str) -> Result<NewIndex> {
        let path = self.index_path(session);
        let half = path.with_extension("tmp");
        let fail = |e: io::Error| error::io("keep the index", &path, &e);
        let file = self.files.create(&half).map_err(fail)?;
        let files = self.files.clone();
        let bytes = head(&self.store, session);
        Ok(NewIndex { files, file, path, half, at: 0, bytes, kept: false })
    }

    pub(super) fn drop_index(&self, session: &str) -> Result<()> {
        let path = self.index_path(session);
        let gone = self.files.remove(&path).and_then(|()| self.files.sync_dir(&self.indexes));
        match gone {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(error::io("delete", &path, &e)),
            _ => Ok(()),
        }
    }
}

/// A file that is written from front to back, and takes its place at the end. It needs no lock of the
/// store: who writes it may have to wait for others who read the store.
pub(super) struct NewIndex {
    files: Files,
    file: File,
    path: PathBuf,
    half: PathBuf,
    at: u64,
    bytes: Vec<u8>,
    kept: bool,
}

impl Write for NewIndex {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() >= BUFFER {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.files.write_at(&self.file, &self.bytes, self.at)?;
        self.at += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }
}

impl IndexFile for NewIndex {
    fn keep(mut self: Box<Self>) -> Result<()> {
        let mut kept = || -> io::Result<()> {
            self.flush()?;
            self.files.sync_all(&self.file)?;
            self.files.rename(&self.half, &self.path)?;
            self.kept = true;
            self.files.sync_dir(self.path.parent().unwrap_or(Path::new(".")))
        };
        kept().map_err(|e| error::io("keep the index", &self.path, &e))
    }
}

impl Drop for NewIndex {
    /// A half-made file would keep space that others need more.
    fn drop(&mut self) {
        if !self.kept {
            let _ = self.files.remove(&self.half);
        }
    }
}
