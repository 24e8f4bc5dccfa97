//! The engine: one owner thread that decides, journals, applies and acts, and the handles users hold.
//!
//! ```text
//! handle → inbox → owner: decide · append · sync · act → lane → executor → inbox → …
//! ```
//! The owner is the only thread that touches runs, lanes and timers, so none of them has a lock.
//! It never waits for an agent and never knows Python; whoever wants something sends a message.

mod cell;
mod clock;
mod explain;
mod guests;
mod handle;
mod health;
mod inbox;
mod incompatible;
mod lanes;
mod machine;
mod options;
mod owner;
mod sessions;
mod shared;
mod sweeper;
mod ticket;
mod waits;
mod watch;

#[cfg(test)]
mod tests;

pub use explain::{Explanation, SessionPlace, Standing, TaskPlace, Told, Why};
pub use guests::{Entrance, Pass};
pub use handle::Engine;
pub use health::{Beat, Held, Pulse, StuckCall, StuckMerge};
pub use lanes::Draining;
pub use options::{
    CANCEL_GRACE_MS, Closed, OnConflict, Options, STUCK_THREADS_MAX, Submit, all_lanes,
    builtin_lanes,
};
pub use sessions::{SessionInfo, SessionSetup};
pub use ticket::{Handle, Ticket};
pub use waits::{Awaited, Waiter};

/// Reasons that several places give in the same words.
mod refusal {
    use crate::model::{Error, RunId};

    pub(super) fn closed() -> Error {
        Error::new(
            "engine.closed",
            "the engine is closed",
            "open a new engine; an engine with a path goes on where this one stopped",
        )
    }

    pub(super) fn incompatible(run: RunId, why: &str) -> Error {
        Error::new(
            "run.incompatible",
            format!("run `{run}` cannot be taken up by this version of goclaw: {why}"),
            "open the store with the version that wrote it, or give the run up: cancel it, or purge it by its id",
        )
    }

    pub(super) fn unknown_task(run: RunId, task: &str) -> Error {
        Error::new(
            "run.unknown_task",
            format!("run `{run}` has no task `{task}`"),
            "run.tasks names them; a child of a map is `id[3]`",
        )
    }

    pub(super) fn unknown_run(run: RunId) -> Error {
        Error::new(
            "run.unknown",
            format!("there is no run `{run}` in this engine"),
            "look the id up with engine.list(); an engine in memory keeps the last 1000 finished runs, a store all until they are purged",
        )
    }
}
