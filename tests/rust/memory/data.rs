//! Finds the reference data, and reads what it is made of: JSON, gzipped JSON Lines, arrays in an npz.

use std::path::{Path, PathBuf};

/// Where the file is, or `None` after saying that the test is skipped.
///
/// The data lies beside the project, not in it; `GOCLAW_SHARED_DATA` names another folder.
pub fn find(name: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let folders = [std::env::var_os("GOCLAW_SHARED_DATA").map(PathBuf::from), Some(beside)];
    let found = folders.into_iter().flatten().map(|folder| folder.join(name)).find(|p| p.exists());
    if found.is_none() {
        eprintln!("SKIPPED: {name} is not in ../shared/data, nor where GOCLAW_SHARED_DATA points");
    }
    found
}
