//! Errors of a store on disk: a code, the path to blame, the cure.

use std::io;
use std::path::Path;

use crate::model::Error;

const CURE_FULL: &str =
    "free space on the disk (or raise the quota); the store goes on by itself when there is some";
const CURE_CORRUPT: &str = "restore the directory from a backup, or move it away and start with a \
     new one; nothing in it was changed by this refusal";

/// An error of the operating system while `doing` something with `path`.
pub(super) fn io(doing: &str, path: &Path, error: &io::Error) -> Error {
    let message = format!("cannot {doing} {}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::new("store.full", message, CURE_FULL)
        }
        _ => Error::new(
            "store.io",
            message,
            "check that the path is a local, writable directory and that its disk is healthy",
        ),
    }
}

/// An error of LMDB while `doing` something with `path`.
pub(super) fn lmdb(doing: &str, path: &Path, error: &heed::Error) -> Error {
    use heed::MdbError as Mdb;
    let message = format!("cannot {doing} {}: {error}", path.display());
    match error {
        heed::Error::Io(error) => io(doing, path, error),
        heed::Error::Mdb(Mdb::MapFull) => Error::new("store.full", message, CURE_FULL),
        heed::Error::Mdb(
            Mdb::Corrupted | Mdb::PageNotFound | Mdb::Invalid | Mdb::VersionMismatch,
        ) => Error::new("store.corrupt", message, CURE_CORRUPT),
        _ => Error::new("store.io", message, "close the engine and open it again"),
    }
}

/// Damage at `offset` of a journal file.
pub(super) fn corrupt_at(path: &Path, offset: u64, what: &str) -> Error {
    let message = format!("{} is damaged at offset {offset}: {what}", path.display());
    Error::new("store.corrupt", message, CURE_CORRUPT)
}

/// Damage somewhere in `path`.
pub(super) fn corrupt(path: &Path, what: impl std::fmt::Display) -> Error {
    let message = format!("{} is damaged: {what}", path.display());
    Error::new("store.corrupt", message, CURE_CORRUPT)
}

pub(super) fn missing(path: &Path) -> Error {
    let message = format!("there is no store in {}", path.display());
    Error::new("store.missing", message, "name the directory that an engine was given as its path")
}

pub(super) fn closed(path: &Path) -> Error {
    let message = format!("the store {} is closed", path.display());
    Error::new("store.closed", message, "open a new engine on the same path")
}

pub(super) fn too_new(path: &Path, found: u32, known: u32) -> Error {
    let message = format!("{} has format {found}, this goclaw reads up to {known}", path.display());
    Error::new("store.too_new", message, "upgrade goclaw, or open another path")
}
