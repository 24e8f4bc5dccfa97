//! What became of worker processes, counted.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::Stats;

/// Written by the supervisor, read by anyone.
#[derive(Default)]
pub(in crate::py) struct Counts {
    pub(super) started: AtomicU64,
    pub(super) crashed: AtomicU64,
    pub(super) killed: AtomicU64,
    pub(super) recycled: AtomicU64,
    pub(super) live: AtomicU64,
}

impl Counts {
    /// Workers that live.
    pub(in crate::py) fn live(&self) -> u64 {
        self.live.load(Ordering::Relaxed)
    }

    pub(in crate::py) fn tell(&self, stats: &Stats) {
        let copy = |from: &AtomicU64, to: &AtomicU64| {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        };
        copy(&self.started, &stats.workers_started);
        copy(&self.crashed, &stats.workers_crashed);
        copy(&self.killed, &stats.workers_killed);
        copy(&self.recycled, &stats.workers_recycled);
        copy(&self.live, &stats.workers_live);
    }
}
