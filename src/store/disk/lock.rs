//! One owner per directory: a locked file that says who, and a registry inside the process.
//!
//! LMDB must not be opened twice by one process, whatever the file system thinks of locks.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::error;
use crate::model::{Error, Result};

static OPEN: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Who holds a store, as its `LOCK` file says (JSON).
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    pid: u32,
    host: String,
    /// RFC 3339, UTC.
    since: String,
    version: String,
}

/// The right to use a directory; given back when dropped.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    /// Takes the lock of an existing directory.
    ///
    /// # Errors
    /// `store.locked`, `store.full`, `store.io`.
    pub(super) fn take(dir: &Path) -> Result<Self> {
        let path = dir.canonicalize().map_err(|e| error::io("find", dir, &e))?;
        let name = path.join("LOCK");
        let fail = |e: &std::io::Error| error::io("lock", &name, e);
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&name)
            .map_err(|e| fail(&e))?;
        if open.contains(&path) {
            return Err(locked(&path, &mut file));
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(locked(&path, &mut file)),
            Err(TryLockError::Error(e)) => return Err(fail(&e)),
        }
        let holder = Holder {
            pid: std::process::id(),
            host: host(),
            since: rfc3339(SystemTime::now()),
            version: env!("CARGO_PKG_VERSION").into(),
        };
        let text = serde_json::to_vec(&holder).expect("plain fields have a JSON form");
        file.set_len(0).and_then(|()| file.write_all(&text)).map_err(|e| fail(&e))?;
        open.insert(path.clone());
        Ok(Self { path, file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        // Closing the file alone gives nothing back while a forked child has it open, too.
        if let Err(error) = self.file.unlock() {
            tracing::warn!(target: "goclaw.store", %error, "unlocking {}", self.path.display());
        }
        open.remove(&self.path);
    }
}

fn locked(path: &Path, file: &mut File) -> Error {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    let holder = read.ok().and_then(|_| serde_json::from_str::<Holder>(&text).ok());
    let who = match holder {
        Some(it) if it.pid == std::process::id() && it.host == host() => {
            format!("this process (pid {}) since {}", it.pid, it.since)
        }
        Some(it) => {
            format!("process {} on {} (goclaw {}) since {}", it.pid, it.host, it.version, it.since)
        }
        None => "another process".into(),
    };
    let message = format!("the store {} is in use by {who}", path.display());
    Error::new("store.locked", message, "close the other engine, or open another path")
}

fn host() -> String {
    let named = ["HOSTNAME", "COMPUTERNAME"].iter().find_map(|name| std::env::var(name).ok());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or(named);
    host.map_or_else(|| "unknown host".into(), |host| host.trim().to_owned())
}

/// Writes a time as `2026-11-22T13:06:45Z` (days to date after Hinnant, "chrono-compatible
/// low-level date algorithms", `civil_from_days`).
fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_written_as_dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_827_696, "2000-02-29T12:34:56Z"),
            (1_795_352_805, "2026-11-22T13:06:45Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_second_taker_is_told_who_and_since_when() {
        let dir = tempfile::tempdir().expect("a directory");
        let lock = Lock::take(dir.path()).expect("the first takes it");
        let refusal = Lock::take(dir.path()).expect_err("the second does not");
        assert_eq!(refusal.code, "store.locked");
        assert!(refusal.message.contains(&format!("(pid {}) since 20", std::process::id())));
        drop(lock);
        Lock::take(dir.path()).expect("it was given back");
    }
}
