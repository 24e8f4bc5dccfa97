//! Names of things: runs, tasks inside a run, spans of sibling tasks, batches of calls.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

/// A newtype over the 128 bits of a ULID, with its text and its bytes.
macro_rules! ulid_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(u128);

        impl $name {
            pub const fn from_u128(value: u128) -> Self {
                Self(value)
            }
            pub fn as_u128(self) -> u128 {
                self.0
            }
            /// Big-endian bytes, so that keys sort as ids do.
            pub fn to_bytes(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(u128::from_be_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&Ulid(self.0), f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ulid::DecodeError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Ulid::from_string(text).map(|ulid| Self(ulid.0))
            }
        }
    };
}

ulid_name! {
    /// Names one run. A ULID: sorts by time of submission, 26 characters as text.
    RunId
}

ulid_name! {
    /// Names one memory entry. A ULID: sorts by the time it was memorized.
    EntryId
}

/// Position of a task in its plan.
pub type NodeIx = u32;

/// One task of a run: a node, and which of its children where the node is a map.
///
/// A task that is not a map has the single child 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "(u32, u32)", into = "(u32, u32)")]
pub struct TaskRef {
    pub node: NodeIx,
    pub index: u32,
}

/// A run of sibling tasks: `len` children of `node` from `lo` on.
///
/// Spans are the unit of work of the whole line: a map of a million items is one span, not a
/// million records, wherever its children are still in the same state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "(u32, u32, u32)", into = "(u32, u32, u32)")]
pub struct Span {
    pub node: NodeIx,
    pub lo: u32,
    pub len: u32,
}

impl Span {
    pub fn new(node: NodeIx, lo: u32, len: u32) -> Self {
        Self { node, lo, len }
    }
    /// The span of a task that is not a map, or of one child.
    pub fn one(node: NodeIx, index: u32) -> Self {
        Self { node, lo: index, len: 1 }
    }
    /// One past the last child.
    pub fn hi(self) -> u32 {
        self.lo + self.len
    }
    pub fn tasks(self) -> impl Iterator<Item = TaskRef> {
        (self.lo..self.hi()).map(move |index| TaskRef { node: self.node, index })
    }
    /// Splits off the first `n` tasks; the rest is `None` when there is none.
    pub fn split_at(self, n: u32) -> (Self, Option<Self>) {
        let n = n.min(self.len);
        let head = Self { len: n, ..self };
        let rest = (n < self.len).then(|| Self { lo: self.lo + n, len: self.len - n, ..self });
        (head, rest)
    }
}

impl From<(u32, u32)> for TaskRef {
    fn from((node, index): (u32, u32)) -> Self {
        Self { node, index }
    }
}

impl From<TaskRef> for (u32, u32) {
    fn from(task: TaskRef) -> Self {
        (task.node, task.index)
    }
}

impl From<(u32, u32, u32)> for Span {
    fn from((node, lo, len): (u32, u32, u32)) -> Self {
        Self { node, lo, len }
    }
}

impl From<Span> for (u32, u32, u32) {
    fn from(span: Span) -> Self {
        (span.node, span.lo, span.len)
    }
}

impl From<TaskRef> for Span {
    fn from(task: TaskRef) -> Self {
        Self::one(task.node, task.index)
    }
}

/// Names one batch of calls handed to an executor, unique while the engine is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BatchId(pub u64);
