//! How an engine is, as its owner sees it, and how the calls of a run are.

use std::sync::Arc;

use crate::model::{Error, Millis, RunId, Style, TaskRef, Timestamp};

/// How an engine is.
#[derive(Clone, Debug, Default)]
pub struct Pulse {
    /// Why the store takes nothing now.
    pub store: Option<Error>,
    /// Calls that were given up and have not come back, oldest first.
    pub stuck: Vec<StuckCall>,
    /// Mergings of sessions that were given up and have not come back, oldest first.
    pub merges: Vec<StuckMerge>,
    /// Lanes that start no threads until some of their stuck ones come back.
    pub held: Vec<Held>,
    /// Lanes that somebody has paused.
    pub paused: Vec<String>,
    /// Agents that runs wait for because nobody has registered them.
    pub missing_agents: Vec<String>,
    /// Runs that wait for an agent or a lane that is not there.
    pub incompatible: usize,
    pub runs: usize,
    pub closing: bool,
}

/// A call that was given up and has not come back.
#[derive(Clone, Debug)]
pub struct StuckCall {
    pub run: RunId,
    /// Its name: `id`, or `id[index]` in a map.
    pub task: String,
    pub agent: Arc<str>,
    pub lane: String,
    pub style: Style,
    /// When it was given up.
    pub since: Timestamp,
}

/// A merging of a session's messages that has not come back in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StuckMerge {
    pub session: Arc<str>,
    /// Paths of the functions.
    pub function: String,
    /// When it began.
    pub since: Timestamp,
}

/// A lane with too many stuck threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub lane: String,
    pub stuck: u32,
}

/// The latest sign of life of a call under way.
#[derive(Clone, Debug)]
pub struct Beat {
    pub task: TaskRef,
    /// How long ago it came.
    pub ago: Millis,
    pub details: Option<Arc<str>>,
}
