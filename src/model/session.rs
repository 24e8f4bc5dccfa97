//! Sessions: what a run does where another one of its session is under way.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Millis, Opaque};

/// What a submit does while its session is busy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenBusy {
    /// Waits for its turn.
    #[default]
    Followup,
    /// Is refused with `session.busy`.
    Reject,
    /// Cancels the session's other runs and goes on when they have ended.
    Interrupt,
    /// Waits for its turn, and is put before the run under way: where an agent reads it, it is done.
    Steer,
    /// Waits for its turn and is merged with its neighbours.
    Collect(Arc<Collect>),
}

impl WhenBusy {
    /// The name on every wire.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Followup => "followup",
            Self::Reject => "reject",
            Self::Interrupt => "interrupt",
            Self::Steer => "steer",
            Self::Collect(_) => "collect",
        }
    }
}

/// How messages to a busy session become one follow-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Collect {
    /// The pause after the last message, milliseconds.
    pub debounce_ms: Millis,
    /// Messages that one follow-up takes whole.
    pub cap: u32,
    pub overflow: Overflow,
    /// `list[input] -> input`; `None`: the executor's own way.
    #[serde(default)]
    pub merge: Option<Function>,
    /// `list[input] -> input`, for what does not fit under the cap.
    #[serde(default)]
    pub summarize: Option<Function>,
    /// How long merging may take, milliseconds: then its runs fail and the session goes on.
    #[serde(default = "merge_timeout_ms")]
    pub timeout_ms: Millis,
}

/// How long merging may take where nobody says otherwise.
pub fn merge_timeout_ms() -> Millis {
    30_000
}

/// What happens to messages above the cap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// The oldest is dropped: its run ends cancelled, with `session.dropped`.
    Old,
    /// The newest is refused with `session.full`.
    New,
    /// The oldest are summarized into one.
    #[default]
    Summarize,
}

/// A function of the host language: where to import it from, and itself where it is at hand.
#[derive(Clone, Serialize, Deserialize)]
pub struct Function {
    pub path: String,
    #[serde(skip)]
    pub live: Option<Arc<dyn Opaque>>,
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

impl PartialEq for Function {
    /// By its path: what was loaded from a store has nothing else.
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

/// What a run does with its session while all its open tasks wait for their retry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnRetry {
    /// Keeps it.
    #[default]
    Hold,
    /// Lets the next run start.
    Park,
}

/// How a submit was met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Admission {
    /// Nothing of its session was before it, or it has no session.
    #[default]
    Started,
    /// It waits for its turn.
    Queued,
    /// It waits for its turn, and was put before the run under way.
    Steered,
    /// It waits to be merged with its neighbours.
    Collected,
    /// It waits for the runs that it cancelled.
    Interrupting,
}

impl Admission {
    /// The name on every wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Queued => "queued",
            Self::Steered => "steered",
            Self::Collected => "collected",
            Self::Interrupting => "interrupting",
        }
    }
}

/// How a run behaves among the others of its session, and how it was met.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Conduct {
    pub when_busy: WhenBusy,
    pub on_retry: OnRetry,
    pub admission: Admission,
}

impl Conduct {
    pub(super) fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}
