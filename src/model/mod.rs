//! The nouns: ids, workflows, payloads, events, errors, counters.
//!
//! Everything above speaks in these. They know no clock, no I/O, no Python; a value of this module
//! can be built in a test by hand, compared, printed and serialised.

mod card;
pub mod envelope;
mod error;
mod event;
mod fact;
mod failure;
mod filter;
mod id;
mod memory;
mod payload;
mod recall;
mod session;
mod state;
mod stats;
mod time;
mod vector;
mod workflow;

pub use card::LaneCard;
pub use error::{Error, Problem, Result};
pub use event::{CancelCause, Event, Growth, Record, SkipReason, Submitted};
pub use fact::{Detail, Fact, FactKind, WHOLE};
pub use failure::{Failure, FailureKind};
pub use filter::MetadataFilter;
pub use id::{BatchId, EntryId, NodeIx, RunId, Span, TaskRef};
pub use memory::{
    Away, Content, Entry, Forgetting, Grade, Memorized, MemoryOp, NO_RUN, VectorModel,
};
pub use payload::{Blob, BlobHash, Opaque, Payload};
pub use recall::{MemoryAccess, MemoryPolicy, RECALLED_MAX, Retrieve, TaskMemory};
pub use session::{
    Admission, Collect, Conduct, Function, OnRetry, Overflow, WhenBusy, merge_timeout_ms,
};
pub use state::{RunState, TaskState};
pub use stats::Stats;
pub use time::{DAY_MS, Millis, Timestamp};
pub use vector::Vector;
pub use workflow::{
    AgentInfo, Delivery, Durability, Each, Expr, Isolation, LaneSpec, OnFailure, OnFull, Param,
    Priority, Rate, Retry, Step, Style, Task, Trigger, Workflow,
};
