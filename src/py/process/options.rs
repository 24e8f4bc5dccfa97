//! What users may say about worker processes.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// How worker processes are kept.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::py) struct ProcessOptions {
    /// Workers that live at once; by default by the number of CPUs.
    #[serde(default = "workers_by_cpus", deserialize_with = "workers")]
    pub(super) max_workers: usize,
    /// Batches' calls after which a worker is replaced.
    pub(super) max_tasks: Option<u64>,
    /// Resident bytes above which a worker is replaced once its batch is done.
    pub(super) max_rss: Option<u64>,
    idle_ms: u64,
    grace_ms: u64,
}

/// Asked once: the answer takes a look into several files.
fn workers_by_cpus() -> usize {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (2 * cpus).max(4)
}

fn workers<'de, D: Deserializer<'de>>(told: D) -> Result<usize, D::Error> {
    Ok(Option::deserialize(told)?.unwrap_or_else(workers_by_cpus))
}

impl ProcessOptions {
    /// How long a worker rests before it retires.
    pub(super) fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms)
    }
    /// How long an agent that was told to stop gets before its process is killed.
    pub(super) fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_ms)
    }
}

impl Default for ProcessOptions {
    fn default() -> Self {
        Self {
            max_workers: workers_by_cpus(),
            max_tasks: None,
            max_rss: None,
            idle_ms: 60_000,
            grace_ms: 2_000,
        }
    }
}
