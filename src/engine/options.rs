//! What engines and runs are made of, and what is left of them.

use std::path::PathBuf;
use std::sync::Arc;

use super::machine::Machine;
use crate::lane::Lanes;
use crate::memory::Cellar;
use crate::model::{
    Durability, Error, LaneSpec, MemoryAccess, Millis, OnRetry, Payload, Priority, Result, RunId,
    WhenBusy,
};
use crate::plan::Plan;

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
    /// What a submit does where its session is busy, unless it or the session says so itself.
    pub when_busy: WhenBusy,
    /// How long attempts of a cancelled run get to end by themselves before they are given up.
    pub cancel_grace: Millis,
    /// Threads that may be stuck before their lane starts no more of them.
    pub stuck_threads_max: u32,
    /// Where memories lie that are hardly asked for.
    pub cold: Option<Cellar>,
}

/// Five seconds: enough for an agent to put its things away.
pub const CANCEL_GRACE_MS: Millis = 5_000;

/// A stuck thread costs its stack and what its agent holds; this many are a sign of something broken.
pub const STUCK_THREADS_MAX: u32 = 32;

impl Default for Options {
    fn default() -> Self {
        Self {
            path: None,
            lanes: Vec::new(),
            global: None,
            durability: Durability::Strict,
            relaxed_window: 10,
            when_busy: WhenBusy::Followup,
            cancel_grace: CANCEL_GRACE_MS,
            stuck_threads_max: STUCK_THREADS_MAX,
            cold: None,
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

/// Memory that one task of the `memory` lane is reckoned to need, in bytes.
const MEMORY_PER_TASK: u64 = 2 << 30;

/// The lane of calls that make vectors.
pub const EMBED_LANE: &str = "embed";
/// As many as a model on this machine or a small account elsewhere bears.
const EMBED_CALLS: u32 = 4;

/// Lanes that every engine has: `default`, and one per resource class, as large as the machine is for
/// this process (containers' limits count).
///
/// `default` and `io` let a thousand coroutines wait at once, and as many threads as are useful for
/// agents that mostly wait; `cpu` is as wide as there are CPUs; `memory` has one place per 2 GiB, at
/// most one per CPU (half the CPUs where the system does not tell its memory); `gpu` one per GPU; `embed`
/// bounds the calls that make vectors for the memory.
pub fn builtin_lanes() -> Vec<LaneSpec> {
    sized(Machine::read())
}

fn sized(machine: Machine) -> Vec<LaneSpec> {
    let cpus = machine.cpus;
    let lane = |name: &str, concurrency: u32, threads| LaneSpec {
        name: name.into(),
        concurrency: concurrency.max(1),
        threads,
        ..LaneSpec::default()
    };
    let memory = machine.memory.map_or(cpus / 2, |bytes| {
        u32::try_from(bytes / MEMORY_PER_TASK).unwrap_or(u32::MAX).min(cpus)
    });
    vec![
        lane("default", 1_024, Some(cpus.saturating_add(28).min(64))),
        lane("io", 1_024, Some(64)),
        lane("cpu", cpus, None),
        lane("memory", memory, None),
        lane("gpu", machine.gpus, None),
        lane(EMBED_LANE, EMBED_CALLS, None),
    ]
}

/// What a new run is made of.
#[derive(Clone, Debug)]
pub struct Submit {
    /// `None`: the engine makes one.
    pub id: Option<RunId>,
    pub plan: Arc<Plan>,
    pub input: Payload,
    pub priority: Priority,
    pub tags: Vec<String>,
    /// Runs of one session go one at a time.
    pub session: Option<Arc<str>>,
    /// Sessions beside its own whose memory it may use.
    pub memory: MemoryAccess,
    /// What to do where the session is busy; `None`: as the session, or the engine, is set up.
    pub when_busy: Option<WhenBusy>,
    pub on_retry: OnRetry,
    /// Turns that the session gets where others get one; `None`: as the session is set up, or 1.
    pub weight: Option<u32>,
    /// `None`: as the engine.
    pub durability: Option<Durability>,
    /// 32 hexadecimal digits; `None`: derived from the run id.
    pub trace_id: Option<String>,
    pub on_conflict: OnConflict,
    /// Wait for a place in a full lane, instead of being refused at once.
    pub block: bool,
}

/// What was left when an engine closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// Threads that did not come back from their agent.
    pub stuck_threads: usize,
    /// Attempts that were interrupted; they cost no retry.
    pub interrupted: u64,
    /// Runs that had not ended. With a path they go on when it is opened again.
    pub unfinished: usize,
}

/// The declared lanes, and the built-in ones that none of them takes the place of.
pub fn all_lanes(declared: &[LaneSpec]) -> Vec<LaneSpec> {
    let free = |spec: &LaneSpec| declared.iter().all(|other| other.name != spec.name);
    declared.iter().cloned().chain(builtin_lanes().into_iter().filter(free)).collect()
}

/// The built-in lanes, with the declared ones in their place or beside them.
pub(super) fn lanes(options: &Options) -> Result<Lanes> {
    let specs = &options.lanes;
    for (at, spec) in specs.iter().enumerate() {
        let bad = |why: &str| {
            Err(Error::new(
                "lane.invalid",
                format!("lane `{}` {why}", spec.name),
                "give each lane a name of its own, and a concurrency and capacity of at least 1",
            ))
        };
        if spec.concurrency == 0 || spec.capacity == 0 || spec.name.is_empty() {
            return bad("has no name, no concurrency or no capacity");
        }
        if specs[..at].iter().any(|other| other.name == spec.name) {
            return bad("is declared twice");
        }
    }
    Lanes::new(all_lanes(specs), options.global)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn concurrency(machine: Machine, name: &str) -> Option<u32> {
        sized(machine).into_iter().find(|lane| lane.name == name).map(|lane| lane.concurrency)
    }

    #[test]
    fn lanes_are_as_wide_as_what_they_stand_for() {
        let machine = Machine { cpus: 8, memory: Some(9 << 30), gpus: 2 };
        let of = |name| concurrency(machine, name);
        assert_eq!((of("cpu"), of("memory"), of("gpu")), (Some(8), Some(4), Some(2)));
        let large = Machine { memory: Some(1 << 40), ..machine };
        assert_eq!(concurrency(large, "memory"), Some(8));
        let unknown = Machine { memory: None, ..machine };
        assert_eq!(concurrency(unknown, "memory"), Some(4));
    }

    #[test]
    fn every_lane_lets_something_through_on_the_smallest_machine() {
        let small = Machine { cpus: 1, memory: Some(1 << 20), gpus: 0 };
        assert!(sized(small).iter().all(|lane| lane.concurrency >= 1));
    }
}
