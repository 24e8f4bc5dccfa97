//! The call under way, noted in memory that outlives the worker.
//!
//! One `pwrite` per call (0.3 µs) into a file of RAM that both processes hold: nobody is woken, nothing
//! is mapped, and when the worker is dead the guilty call is still there to be read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::time::{ClockId, clock_gettime};

use crate::agent::Gauge;
use crate::model::{BatchId, Millis};

/// Batch, child, and when it began, eight bytes each.
const LEN: usize = 24;

pub(super) struct Mark(File);

/// Milliseconds of a clock that all processes of the machine share.
fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000 + now.tv_nsec as u64 / 1_000_000
}

impl Mark {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(File::from(memfd_create(c"goclaw-mark", MemfdFlags::CLOEXEC)?)))
    }
    pub(super) fn received(file: File) -> Self {
        Self(file)
    }
    pub(super) fn file(&self) -> &File {
        &self.0
    }

    /// The call that was begun last in that batch, and when.
    fn read(&self, batch: BatchId) -> Option<(u32, u64)> {
        let mut bytes = [0; LEN];
        // Nothing was noted yet.
        self.0.read_exact_at(&mut bytes, 0).ok()?;
        let word =
            |at: usize| bytes[at..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
        (word(0) == batch.0).then_some((word(8) as u32, word(16)))
    }

    pub(super) fn last_begun(&self, batch: BatchId) -> Option<u32> {
        self.read(batch).map(|(child, _)| child)
    }
}

impl Gauge for Mark {
    fn begin(&self, batch: BatchId, index: u32) {
        let mut bytes = [0; LEN];
        for (at, word) in [batch.0, u64::from(index), now()].into_iter().enumerate() {
            bytes[at * 8..at * 8 + 8].copy_from_slice(&word.to_le_bytes());
        }
        // An agent that closed all files ends its worker by that; there is nobody to tell.
        let _ = self.0.write_all_at(&bytes, 0);
    }

    fn under_way(&self, batch: BatchId) -> Option<(u32, Millis)> {
        let (child, began) = self.read(batch)?;
        Some((child, now().saturating_sub(began)))
    }
}
