//! Why something is not running: one answer, in the engine's own words.

use std::sync::Arc;

use super::handle::Engine;
use super::inbox::Message;
use crate::agent::Rung;
use crate::lane::Whereabouts;
use crate::model::{Millis, Result, RunId, RunState, Style, TaskState, Timestamp};

/// Why a run, or one task of it, is where it is.
#[derive(Clone, Debug)]
pub struct Explanation {
    pub run: RunId,
    pub state: RunState,
    pub at: Timestamp,
    /// Where a finished run has more to say than its state.
    pub reason: Option<String>,
    /// Where the run is being stopped: why, and since when.
    pub stopping: Option<(String, Timestamp)>,
    /// The engine is closing: nothing begins any more.
    pub closing: bool,
    /// Why the store takes nothing; nothing begins until it does.
    pub stalled: Option<String>,
    pub session: Option<SessionPlace>,
    /// The tasks that were asked for, or the open ones that do not merely wait for others.
    pub tasks: Vec<TaskPlace>,
    /// Open tasks beside those told.
    pub more: usize,
}

/// A run's place in its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPlace {
    pub key: Arc<str>,
    pub standing: Standing,
    /// Who has it; `None` where nobody has, as when messages are still collected.
    pub holder: Option<RunId>,
    /// Runs that go first, the holder included.
    pub ahead: usize,
}

/// How a run stands in its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Holds,
    Waits,
    /// It lets others go first until its retry is due.
    Parked,
}

/// Where one task is.
#[derive(Clone, Debug)]
pub struct TaskPlace {
    pub task: String,
    pub agent: String,
    pub lane: String,
    pub state: TaskState,
    /// Of a map that knows its items, how many there are, and how many have ended.
    pub children: Option<(u32, u32)>,
    pub why: Vec<Why>,
}

/// One reason, or one thing that is under way.
#[derive(Clone, Debug)]
pub enum Why {
    /// It has ended; what its failure said.
    Ended { error: Option<String> },
    /// It waits for these tasks, and so many more.
    Tasks { names: Vec<String>, more: usize },
    /// Its condition, its items or its rate key are being worked out.
    Resolving,
    /// Nobody has registered its agent.
    Agent,
    /// The engine has no such lane.
    Lane,
    /// It is in its lane.
    Queued {
        place: Whereabouts,
        running: u32,
        concurrency: u32,
        /// Permits that it could have now: of the lane, its threads and the whole engine.
        free: u32,
        /// So many of the lane's threads are stuck that it starts no more of them.
        held: bool,
    },
    /// Its last attempt failed; the next one comes then.
    Retry { due: Timestamp, error: Option<String> },
    /// Attempts of it run: how many, since when, and in what kind of worker.
    Running {
        calls: u32,
        attempt: u32,
        since: Timestamp,
        style: Style,
        /// How long an attempt may take.
        timeout_ms: Option<Millis>,
        /// Of the calls, those whose agent waits for a run of its own and has lent its permit.
        lent: u32,
        /// Of those, the ones whose wait is over: they go on when there is a permit.
        returning: u32,
        /// The runs that they wait for; of many, some.
        awaits: Vec<RunId>,
        /// They were told to stop, and have not.
        told: Option<Told>,
        /// Who runs, by name; of many, some.
        names: Vec<String>,
    },
    /// It is ready, and waits until its run has its session.
    Session,
    /// It is ready, and its way into the lane waits for the journal.
    Journal,
}

/// How calls were told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    pub rung: Rung,
    /// Since when.
    pub since: Timestamp,
    /// When they are given up.
    pub until: Timestamp,
}

impl Engine {
    /// Tells why a live run, or one task of it, is where it is. `None` where the run has ended.
    ///
    /// # Errors
    /// `run.unknown_task`, `engine.closed`.
    pub fn explain(&self, run: RunId, task: Option<&str>) -> Result<Option<Explanation>> {
        let task = task.map(str::to_owned);
        self.ask(|reply| Message::Explain { run, task, reply })?
    }
}
