//! Compacting: what counts is copied into a fresh file, so that what was deleted is gone from the disk.
//!
//! LMDB leaves deleted bytes in free pages and between records, a journal segment in its file until it is
//! used again. The copy takes the place of the old file by one rename; before it the store is the old one,
//! after it the new one. The journal is deleted last: by then LMDB holds all of it, as its position says.

use std::fs;
use std::path::Path;

use super::core::Core;
use super::lmdb::Lmdb;
use super::{error, indexes, layout};
use crate::model::Result;

/// The file of an LMDB environment.
const DATA: &str = "data.mdb";

/// Copies what counts, and deletes the rest. Nothing may be appended after.
pub(super) fn compact(core: &Core, dir: &Path) -> Result<()> {
    core.finish()?;
    let (state, fresh) = (dir.join("lmdb"), dir.join("lmdb.new"));
    // One that was broken off.
    remove_dir(&fresh)?;
    fs::create_dir(&fresh).map_err(|e| error::io("make", &fresh, &e))?;
    let copy = Lmdb::open(&fresh, &core.options, core.files.clone())?;
    core.lmdb.copy_into(&copy)?;
    copy.close();
    let files = &core.files;
    let (new, old) = (fresh.join(DATA), state.join(DATA));
    files.rename(&new, &old).map_err(|e| error::io("replace", &old, &e))?;
    files.sync_dir(&state).map_err(|e| error::io("sync", &state, &e))?;
    remove_dir(&fresh)?;
    // Kept indexes have the words of what was forgotten until they are written again; they are derived.
    for path in indexes::files(core)? {
        files.remove(&path).map_err(|e| error::io("delete", &path, &e))?;
    }
    delete_journal(core, &dir.join("journal"))
}

/// Deletes every segment, written over with zeros first: some file systems keep what is unlinked.
fn delete_journal(core: &Core, journal: &Path) -> Result<()> {
    let (files, fail) = (&core.files, |e: std::io::Error| error::io("read", journal, &e));
    for entry in fs::read_dir(journal).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if layout::segment_number(name).is_none() {
            continue;
        }
        let erased = || {
            let file = files.open(&path)?;
            files.zero(&file, 0, file.metadata()?.len())?;
            files.sync(&file)?;
            files.remove(&path)
        };
        erased().map_err(|e| error::io("delete", &path, &e))?;
    }
    files.sync_dir(journal).map_err(|e| error::io("sync", journal, &e))
}

fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(error::io("delete", path, &e)),
        _ => Ok(()),
    }
}

/// Bytes of all files of a store.
pub(super) fn bytes(dir: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(dir).map_err(|e| error::io("read", dir, &e))? {
        let path = entry.map_err(|e| error::io("read", dir, &e))?.path();
        let meta = fs::metadata(&path).map_err(|e| error::io("read", &path, &e))?;
        sum += if meta.is_dir() { bytes(&path)? } else { meta.len() };
    }
    Ok(sum)
}
