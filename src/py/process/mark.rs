//! The call under way, noted in memory that outlives the worker.
//!
//! One `pwrite` per call (0.3 µs) into a file of RAM that both processes hold: nobody is woken, nothing
//! is mapped, and when the worker is dead the guilty call is still there to be read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::time::{ClockId, clock_gettime};

use crate::agent::Gauge;
use crate::model::{BatchId, Millis};

/// Batch, child, when it began, when it gave its latest sign of life, length of what it told then: eight
/// bytes each; behind them, what it told.
const LEN: usize = 40;
const BEAT_AT: usize = 24;
/// What a call tells with a heartbeat is bounded where it is told; more than this is not ours.
const DETAILS_MAX: usize = 64 << 10;

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

    /// What was noted last of that batch, word by word.
    fn read(&self, batch: BatchId) -> Option<[u64; LEN / 8]> {
        let mut bytes = [0; LEN];
        // Nothing was noted yet.
        self.0.read_exact_at(&mut bytes, 0).ok()?;
        let mut words = [0; LEN / 8];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = bytes.try_into().map_or(0, u64::from_le_bytes);
        }
        (words[0] == batch.0).then_some(words)
    }

    fn write<const N: usize>(&self, words: [u64; N], at: usize) {
        let mut bytes = [0; LEN];
        for (bytes, word) in bytes.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        // An agent that closed all files ends its worker by that; there is nobody to tell.
        let _ = self.0.write_all_at(&bytes[..N * 8], at as u64);
    }

    pub(super) fn last_begun(&self, batch: BatchId) -> Option<u32> {
        self.read(batch).map(|words| words[1] as u32)
    }
}

impl Gauge for Mark {
    fn begin(&self, batch: BatchId, index: u32) {
        self.write([batch.0, u64::from(index), now(), 0, 0], 0);
    }

    fn under_way(&self, batch: BatchId) -> Option<(u32, Millis)> {
        let words = self.read(batch)?;
        Some((words[1] as u32, now().saturating_sub(words[2])))
    }

    fn beat(&self, batch: BatchId, details: Option<&str>) {
        // A sign of a call that has ended says nothing about the one under way.
        let Some(words) = self.read(batch) else { return };
        let told = details.map_or(words[4], |details| details.len() as u64);
        if let Some(details) = details {
            let _ = self.0.write_all_at(details.as_bytes(), LEN as u64);
        }
        self.write([now(), told], BEAT_AT);
    }

    fn silent_for(&self, batch: BatchId) -> Option<Millis> {
        let words = self.read(batch)?;
        (words[3] > 0).then(|| now().saturating_sub(words[3]))
    }

    fn details(&self, batch: BatchId) -> Option<Arc<str>> {
        let len = usize::try_from(self.read(batch)?[4]).ok()?;
        let mut bytes = vec![0; len.min(DETAILS_MAX)];
        self.0.read_exact_at(&mut bytes, LEN as u64).ok()?;
        // Read while it was written it may be cut: it is for people.
        (len > 0).then(|| String::from_utf8_lossy(&bytes).into())
    }
}
