//! The states of tasks and runs, with the names they have on every wire.

use serde::{Deserialize, Serialize};

macro_rules! wire_names {
    ($kind:ident { $($variant:ident => $name:literal),+ $(,)? }) => {
        impl $kind {
            /// Every state, in the order of the vocabulary.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// The name on every wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
            /// Reads a wire name.
            pub fn parse(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

/// State of one task.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[repr(u8)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Waits for its inputs, or for a place in its lane's queue.
    #[default]
    Pending,
    /// Has a place in its lane's queue.
    Scheduled,
    /// An attempt is under way.
    Running,
    /// Failed, and will be tried again when its backoff is over.
    Retrying,
    /// Waits for a timer, a gate or a child; holds no permit.
    Waiting,
    Completed,
    Failed,
    Cancelled,
    Skipped,
}

wire_names!(TaskState {
    Pending => "pending", Scheduled => "scheduled", Running => "running", Retrying => "retrying",
    Waiting => "waiting", Completed => "completed", Failed => "failed", Cancelled => "cancelled",
    Skipped => "skipped",
});

impl TaskState {
    /// True for the four states that no task ever leaves.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::Skipped)
    }
}

/// State of one run.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[repr(u8)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    #[default]
    Pending,
    Running,
    Waiting,
    Compensating,
    Completed,
    Failed,
    Cancelled,
    Compensated,
    Quarantined,
    Incompatible,
}

wire_names!(RunState {
    Pending => "pending", Running => "running", Waiting => "waiting",
    Compensating => "compensating", Completed => "completed", Failed => "failed",
    Cancelled => "cancelled", Compensated => "compensated", Quarantined => "quarantined",
    Incompatible => "incompatible",
});

impl RunState {
    /// True when the run will not move again by itself and every waiter is released.
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Completed
                | Self::Failed
                | Self::Cancelled
                | Self::Compensated
                | Self::Quarantined
        )
    }
}
