//! How an engine is set up.

use std::path::PathBuf;
use std::thread::available_parallelism;

use crate::model::{Durability, LaneSpec, Millis};

/// How an engine is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory of the store; `None` keeps everything in memory.
    pub path: Option<PathBuf>,
    /// Lanes beside, or in place of, the built-in ones.
    pub lanes: Vec<LaneSpec>,
    /// Bound on everything that runs at once.
    pub global: Option<u32>,
    pub durability: Durability,
    /// Longest time that a `relaxed` event waits for its sync.
    pub relaxed_window: Millis,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            path: None,
            lanes: Vec::new(),
            global: None,
            durability: Durability::Strict,
            relaxed_window: 10,
        }
    }
}

/// What a submit does when its run id exists already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// Refuse with `run.conflict`.
    #[default]
    Error,
    /// Answer with the run that exists.
    Existing,
}

/// Lanes that every engine has: `default`, and one per resource class.
///
/// `default` and `io` let a thousand coroutines wait at once, and as many threads as are useful for
/// agents that mostly wait; `cpu` is as wide as the machine; `memory` half of that; `gpu` one at a time.
pub fn builtin_lanes() -> Vec<LaneSpec> {
    let cpus = available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
    let lane = |name: &str, concurrency, threads| LaneSpec {
        name: name.into(),
        concurrency,
        threads,
        capacity: 10_000,
        timeout_ms: None,
    };
    vec![
        lane("default", 1_024, Some(cpus.saturating_add(28).min(64))),
        lane("io", 1_024, Some(64)),
        lane("cpu", cpus, None),
        lane("memory", (cpus / 2).max(1), None),
        lane("gpu", 1, None),
    ]
}
